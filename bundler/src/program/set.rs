//! Changes everything behind the weights, in place. A crash at any moment leaves the old bundle or the new one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tealight_bundle::macho::signature;
use tealight_bundle::mapped::wait_for;
use tealight_bundle::tail::rewrite::{RewriteError, passing_place, rewrite};
use tealight_bundle::tail::write::{Settings, Small, TailPart, TailPlan};
use tealight_bundle::tail::{self, Role};
use tealight_bundle::{Mapped, Tail};

use super::executable::{ExecutableFormat, PE_BYTES_MAX};
use super::output::{self, Output};
use super::progress::Progress;
use super::prompt_cache;
use super::runtime::Runtime;
use super::settings::Change;
use super::source::Source;
use super::write::Layout;
use super::{answer, cli, human, note, read_tail};

/// `tealight-bundle set`.
pub fn run(args: &cli::Set) -> Result<()> {
    let mut change = change(args)?;
    if !args.prompt_cache {
        return rewritten(&args.bundle, change, true);
    }
    // It is computed with everything else in place.
    if !change.is_empty() {
        change.remove(Role::PromptCache);
        rewritten(&args.bundle, change, false)?;
    }
    let cache = prompt_cache::computed(&args.bundle, args.runtime.as_deref())?;
    rewritten(&args.bundle, Change::of_prompt_cache(cache), true)
}

/// Applies a change; answers on stdout where it is the last one.
fn rewritten(bundle: &Path, change: Change, last: bool) -> Result<()> {
    let shown = bundle.display();
    let answer = |text: &str| if last { answer(text) } else { Ok(()) };
    // Opened first, so that the error names a pipe or a folder as such.
    drop(Mapped::open(bundle)?);
    let mut file = OpenOptions::new().read(true).write(true).open(bundle).map_err(|error| {
        match error.kind() {
            io::ErrorKind::ExecutableFileBusy => {
                anyhow!("{shown} is running\nhint: stop it, then try again")
            }
            _ => anyhow!("cannot open {shown} for writing: {error}"),
        }
    })?;
    if !wait_for(|| file.try_lock()) {
        bail!("{shown}: another program is reading or changing it\nhint: wait for it to finish");
    }

    let mapped = Mapped::of(&file, bundle)?;
    let old = read_tail(&mapped)?;
    let (plan, fixed) = TailPlan::of(&old)?;
    let mut settings = settings_of(&mapped, &old);
    if change.outdates_prompt_cache() && drop_prompt_cache(&mut settings) {
        note(format_args!(
            "{shown}: its prompt cache was made for the old settings and is removed\nhint: --prompt-cache makes a new one"
        ));
    }
    change.apply(&mut settings);
    let (start, valid) = (old.tail_start(), old.small_part());
    let new = plan.tail(&fixed, &settings, start)?;
    let new_bytes = start + new.len() as u64;
    // Leftovers of an interrupted run count as a change.
    let end = if old.in_segment() { valid.end } else { mapped.bytes().len() as u64 };
    if mapped.bytes().get(usize::try_from(start)?..usize::try_from(end)?) == Some(&new) {
        note(format_args!("{shown}: nothing to change"));
        return answer(&format!("{shown}\n"));
    }
    if old.in_segment() {
        return remake(bundle, file, mapped, &old, &settings, last);
    }
    let is_universal = old.with_role(Role::Runtime).next().is_some();
    ensure!(
        ExecutableFormat::of(mapped.bytes()) != Some(ExecutableFormat::Pe)
            || new_bytes <= PE_BYTES_MAX
            || is_universal,
        "{shown} would be {}, and Windows does not start an .exe above 4 GiB; nothing was changed\n\
         hint: make a new bundle with --pair instead",
        human(new_bytes)
    );
    let place = passing_place(start, new.len() as u64, valid.end)
        .context("the file would be larger than 2^64 bytes")?;
    let passing = plan.tail(&fixed, &settings, place)?;
    // Windows does not shorten a file that is mapped.
    drop(mapped);

    match rewrite(&mut file, start, valid.end, &passing, &new) {
        Ok(()) => {}
        Err(error @ RewriteError::Untidy(_)) => note(format_args!("note: {shown}: {error}")),
        Err(error) => return Err(anyhow!("{shown}: {error}")),
    }
    let mapped = Mapped::of(&file, bundle)?;
    let found =
        tail::read(mapped.bytes()).with_context(|| format!("{shown} cannot be read back"))?;
    ensure!(found.is_some(), "{shown} cannot be read back");
    note(format_args!("changed {shown}"));
    answer(&format!("{shown}\n"))
}

/// Rewrites a bundle for macOS as a new file that then replaces the old one: its tail is in the middle, and every page
/// is signed.
fn remake(
    path: &Path,
    file: File,
    mapped: Mapped,
    old: &Tail,
    settings: &Settings,
    last: bool,
) -> Result<()> {
    let shown = path.display();
    // A new signature must not make damage valid.
    let mut progress = Progress::new("verifying", mapped.bytes().len() as u64);
    signature::verify(mapped.bytes(), &mut |bytes| progress.add(bytes))
        .with_context(|| shown.to_string())?;
    drop(progress);
    let old_bytes = mapped.bytes().len() as u64;
    // Windows does not replace a file that is open.
    drop((mapped, file));
    let (_, fixed) = TailPlan::of(old)?;
    let weights: Vec<_> = old
        .entries()
        .iter()
        .skip(1)
        .filter(|entry| (entry.range.end as u64) <= old.weights_end())
        .collect();
    let parts = weights.iter().map(|entry| TailPart {
        name: entry.name.clone(),
        role: entry.role,
        bytes: entry.bytes(),
    });
    let sources: Vec<_> = weights
        .iter()
        .map(|entry| Source::part_of(path, entry.range.start as u64..entry.range.end as u64))
        .collect();
    let runtime = Runtime::of_bundle(path, ExecutableFormat::MachO, old);
    let layout = Layout::new(&runtime, parts.collect())?;
    if let Some(reason) = layout.too_long(&runtime, settings)? {
        bail!(
            "{shown}: {reason}; nothing was changed\nhint: make a new bundle with --pair instead"
        );
    }

    // A link stays a link.
    let target = path.canonicalize().with_context(|| format!("cannot find {shown}"))?;
    let mut output = Output::create(&target, true, true)?;
    let permissions = permissions_of(path)?;
    let mut progress = Progress::new("changing", 2 * old_bytes);
    let written = layout.write(&mut output, &runtime, &sources, settings, &mut progress)?;
    drop(progress);
    ensure!(
        written == fixed,
        "{shown}: its weights do not match its manifest; nothing was changed\n\
         hint: `tealight-bundle verify` shows the difference"
    );
    output
        .file
        .set_permissions(permissions)
        .with_context(|| format!("cannot set the permissions of {shown}"))?;
    output::commit(&[&output])?;
    note(format_args!("changed {shown} and re-signed it (ad hoc)"));
    if last { answer(&format!("{shown}\n")) } else { Ok(()) }
}

fn permissions_of(path: &Path) -> Result<Permissions> {
    let metadata = fs::metadata(path)
        .with_context(|| format!("cannot read the metadata of {}", path.display()))?;
    Ok(metadata.permissions())
}

fn change(args: &cli::Set) -> Result<Change> {
    let mut change = Change::of(&args.settings)?;
    let removed = [
        (args.no_web, Role::Web),
        (args.no_system_prompt, Role::SystemPrompt),
        (args.no_args, Role::Args),
        (args.no_chat_template, Role::ChatTemplate),
        (args.no_license, Role::License),
        (args.no_prompt_cache, Role::PromptCache),
    ];
    for (_, role) in removed.into_iter().filter(|(asked, _)| *asked) {
        change.remove(role);
    }
    if args.no_name {
        change.remove_name();
    }
    Ok(change)
}

/// Removes the prompt cache, if there is one.
fn drop_prompt_cache(settings: &mut Settings) -> bool {
    let before = settings.small.len();
    settings.small.retain(|entry| entry.role != Role::PromptCache);
    settings.small.len() < before
}

/// The settings that a bundle has now.
fn settings_of(mapped: &Mapped, tail: &Tail) -> Settings {
    let small = tail.entries().iter().filter(|entry| {
        entry.role != Role::Manifest && entry.range.start as u64 >= tail.small_part().start
    });
    Settings {
        name: tail.manifest().name.clone(),
        small: small
            .map(|entry| Small {
                name: entry.name.clone(),
                role: entry.role,
                data: mapped.bytes().get(entry.range.clone()).unwrap_or_default().to_vec(),
            })
            .collect(),
        external: tail.manifest().entries.iter().filter(|entry| entry.external).cloned().collect(),
    }
}
