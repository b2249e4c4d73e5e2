//! The settings of a bundle: page, name, system prompt, arguments, template, licences.
//!
//! Input: options and the files that they name. Output: a [`Change`] that can be applied to the settings of a bundle.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::args::{ARGS_BYTES_MAX, Args};
use tealight_bundle::tail::Role;
use tealight_bundle::tail::layout::{
    ARGS_NAME, CHAT_TEMPLATE_NAME, ENTRIES_MAX, LICENSE_FOLDER, PROMPT_CACHE_NAME, SMALL_BYTES_MAX,
    SMALL_TOTAL_BYTES_MAX, SYSTEM_PROMPT_NAME, WEB_FOLDER,
};
use tealight_bundle::tail::write::{Settings, Small};

use super::cli;
use super::weights::utf8_name;

/// The chat page of the repository this program was built from: (path within the page, content).
const PAGE: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

const NAME_BYTES_MAX: usize = 256;
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Changes to settings.
#[derive(Debug, Default)]
pub struct Change {
    /// `Some(None)` removes it.
    #[expect(clippy::option_option, reason = "kept, removed, replaced")]
    name: Option<Option<String>>,
    /// New entries for each of these roles; an empty list removes the old ones.
    replaced: Vec<(Role, Vec<Small>)>,
}

impl Change {
    /// The change that the options ask for; reads every file they name.
    pub fn of(options: &cli::Settings) -> Result<Change> {
        let mut change = Change::default();
        if let Some(name) = &options.name {
            check_name(name)?;
            change.name = Some(Some(name.clone()));
        }
        if let Some(folder) = &options.web {
            change.replace(Role::Web, read_page(folder)?);
        }
        if let Some(prompt) = &options.system_prompt {
            change.replace(Role::SystemPrompt, vec![system_prompt(prompt)?]);
        }
        if let Some(path) = &options.args {
            let data = read_limited(path, "the arguments", ARGS_BYTES_MAX as u64)?;
            Args::parse(&data).with_context(|| path.display().to_string())?;
            change.replace(Role::Args, vec![small(ARGS_NAME, Role::Args, data)]);
        }
        if let Some(path) = &options.chat_template {
            let data = read_text(path, "the chat template")?;
            change.replace(
                Role::ChatTemplate,
                vec![small(CHAT_TEMPLATE_NAME, Role::ChatTemplate, data)],
            );
        }
        if !options.license.is_empty() {
            let license = |path: &std::path::PathBuf| {
                let name = format!("{LICENSE_FOLDER}{}", utf8_name(path)?);
                Ok(small(&name, Role::License, read_limited(path, "the licence", TEXT_BYTES_MAX)?))
            };
            change.replace(
                Role::License,
                options.license.iter().map(license).collect::<Result<_>>()?,
            );
        }
        Ok(change)
    }

    /// Removes all entries of that role.
    pub fn remove(&mut self, role: Role) {
        self.replace(role, Vec::new());
    }

    /// Removes the name.
    pub fn remove_name(&mut self) {
        self.name = Some(None);
    }

    /// A prompt cache, and nothing else.
    pub fn of_prompt_cache(data: Vec<u8>) -> Change {
        let mut change = Change::default();
        let cache = small(PROMPT_CACHE_NAME, Role::PromptCache, data);
        change.replace(Role::PromptCache, vec![cache]);
        change
    }

    /// Whether a prompt cache that was made before is of no use after it.
    pub fn outdates_prompt_cache(&self) -> bool {
        let read = [Role::SystemPrompt, Role::Args, Role::ChatTemplate];
        self.replaced.iter().any(|(role, _)| read.contains(role))
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.replaced.is_empty()
    }

    /// Applies the change.
    pub fn apply(self, settings: &mut Settings) {
        if let Some(name) = self.name {
            settings.name = name;
        }
        for (role, entries) in self.replaced {
            settings.small.retain(|entry| entry.role != role);
            settings.small.extend(entries);
        }
    }

    fn replace(&mut self, role: Role, entries: Vec<Small>) {
        self.replaced.push((role, entries));
    }
}

/// The default settings: this program's page.
pub fn defaults() -> Settings {
    let page = |(name, data): &(&str, &[u8])| {
        small(&format!("{WEB_FOLDER}{name}"), Role::Web, data.to_vec())
    };
    Settings { small: PAGE.iter().map(page).collect(), ..Settings::default() }
}

fn small(name: &str, role: Role, data: Vec<u8>) -> Small {
    Small { name: name.to_owned(), role, data }
}

fn check_name(name: &str) -> Result<()> {
    ensure!(!name.trim().is_empty(), "the name is empty\nhint: `set --no-name` removes a name");
    ensure!(
        name.len() <= NAME_BYTES_MAX,
        "the name has {} bytes, at most {NAME_BYTES_MAX} are allowed",
        name.len()
    );
    ensure!(!name.chars().any(char::is_control), "the name has a control character");
    Ok(())
}

fn system_prompt(typed: &str) -> Result<Small> {
    let data = match typed.strip_prefix('@') {
        Some(text) if text.starts_with('@') => text.as_bytes().to_vec(),
        Some(path) => read_text(Path::new(path), "the system prompt")?,
        None => typed.as_bytes().to_vec(),
    };
    ensure!(
        data.len() as u64 <= TEXT_BYTES_MAX,
        "the system prompt has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
        data.len()
    );
    ensure!(
        !data.trim_ascii().is_empty(),
        "the system prompt is empty\nhint: `set --no-system-prompt` removes one"
    );
    Ok(small(SYSTEM_PROMPT_NAME, Role::SystemPrompt, data))
}

fn read_text(path: &Path, what: &str) -> Result<Vec<u8>> {
    let data = read_limited(path, what, TEXT_BYTES_MAX)?;
    if let Err(error) = std::str::from_utf8(&data) {
        bail!(
            "{what} {}: not UTF-8 at byte {}\nhint: save it as UTF-8",
            path.display(),
            error.valid_up_to()
        );
    }
    ensure!(!data.is_empty(), "{what} {}: the file is empty", path.display());
    Ok(data)
}

fn read_limited(path: &Path, what: &str, most: u64) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {what} {}", path.display());
    let metadata = fs::metadata(path).with_context(cannot)?;
    ensure!(
        metadata.is_file(),
        "{what} {}: expected a file, found a folder or device",
        path.display()
    );
    let mut data = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut data))
        .with_context(cannot)?;
    ensure!(
        data.len() as u64 <= most,
        "{what} {}: longer than the {most} bytes allowed",
        path.display()
    );
    Ok(data)
}

/// All files in a folder and its subfolders, except names that begin with a dot.
fn read_page(folder: &Path) -> Result<Vec<Small>> {
    ensure!(folder.is_dir(), "the page {}: expected a folder", folder.display());
    let (mut files, mut bytes) = (Vec::new(), 0);
    tealight_bundle::page::visit(folder, &mut |name, path| -> Result<()> {
        let data = read_limited(path, "the page's file", SMALL_BYTES_MAX)?;
        bytes += data.len() as u64;
        ensure!(
            bytes <= SMALL_TOTAL_BYTES_MAX && (files.len() as u64) < ENTRIES_MAX,
            "the page has more than {SMALL_TOTAL_BYTES_MAX} bytes or {ENTRIES_MAX} files"
        );
        files.push(small(&format!("{WEB_FOLDER}{name}"), Role::Web, data));
        Ok(())
    })
    .context("cannot read the page's folder")?;
    ensure!(
        files.iter().any(|file| file.name == format!("{WEB_FOLDER}index.html")),
        "the page {}: no `index.html` in it\nhint: --web takes the folder that holds the page",
        folder.display()
    );
    Ok(files)
}
