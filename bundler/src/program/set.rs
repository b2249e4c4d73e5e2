//! Changes what lies behind the weights, in place. A crash at any moment leaves the old bundle or the new one.

use std::fs::{OpenOptions, TryLockError};
use std::io;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tealight_bundle::tail::rewrite::{RewriteError, passing_place, rewrite};
use tealight_bundle::tail::write::{Plan, Settings, Small};
use tealight_bundle::tail::{self, Role};
use tealight_bundle::{Mapped, Tail};

use super::runtime::{Kind, PE_BYTES_MAX};
use super::settings::Change;
use super::{answer, cli, human, note, read_tail};

/// `tealight-bundle set`.
pub fn run(args: &cli::Set) -> Result<()> {
    let change = change(args)?;
    let shown = args.bundle.display();
    // Looked at first, so that a pipe or a folder is named as such.
    drop(Mapped::open(&args.bundle)?);
    let mut file = OpenOptions::new().read(true).write(true).open(&args.bundle).map_err(
        |error| match error.kind() {
            io::ErrorKind::ExecutableFileBusy => {
                anyhow!("{shown} is running\nhint: stop it, then try again")
            }
            _ => anyhow!("cannot open {shown} for writing: {error}"),
        },
    )?;
    // Some file systems cannot lock; then two runs at once are the user's risk.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        bail!("{shown}: another program is changing it\nhint: wait for it to finish");
    }

    let mapped = Mapped::of(&file, &args.bundle)?;
    let old = read_tail(&mapped)?;
    let (plan, fixed) = Plan::of(&old)?;
    let mut settings = settings_of(&mapped, &old);
    change.apply(&mut settings);
    let (start, valid) = (old.tail_start(), old.small_part());
    let new = plan.tail(&fixed, &settings, start)?;
    let new_bytes = start + new.len() as u64;
    if mapped.bytes().get(usize::try_from(start)?..) == Some(&new) {
        note(format_args!("{shown}: nothing to change"));
        return answer(&format!("{shown}\n"));
    }
    let is_universal = old.with_role(Role::Runtime).next().is_some();
    ensure!(
        Kind::of(mapped.bytes()) != Some(Kind::Pe) || new_bytes <= PE_BYTES_MAX || is_universal,
        "{shown} would have {}, and Windows does not start an .exe above 4 GiB; nothing was changed\n\
         hint: make a pair instead, with --pair",
        human(new_bytes)
    );
    let place =
        passing_place(start, new.len() as u64, valid.end).context("the file would be too long")?;
    let passing = plan.tail(&fixed, &settings, place)?;
    // Windows does not shorten a file that is mapped.
    drop(mapped);

    match rewrite(&mut file, start, valid.end, &passing, &new) {
        Ok(()) => {}
        Err(error @ RewriteError::Untidy(_)) => note(format_args!("note: {shown}: {error}")),
        Err(error) => return Err(anyhow!("{shown}: {error}")),
    }
    let mapped = Mapped::of(&file, &args.bundle)?;
    let found =
        tail::read(mapped.bytes()).with_context(|| format!("{shown} does not read back"))?;
    ensure!(found.is_some(), "{shown} does not read back");
    note(format_args!("changed {shown}"));
    answer(&format!("{shown}\n"))
}

fn change(args: &cli::Set) -> Result<Change> {
    let mut change = Change::of(&args.settings)?;
    let removed = [
        (args.no_web, Role::Web),
        (args.no_system_prompt, Role::SystemPrompt),
        (args.no_args, Role::Args),
        (args.no_chat_template, Role::ChatTemplate),
        (args.no_license, Role::License),
    ];
    for (_, role) in removed.into_iter().filter(|(asked, _)| *asked) {
        change.remove(role);
    }
    if args.no_name {
        change.remove_name();
    }
    Ok(change)
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
