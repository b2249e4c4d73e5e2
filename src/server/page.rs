//! The files of the chat page: built in, from the bundle, or from a folder.

use super::http::Response;
use crate::settings::{Config, Control, Setting, built_in, controls};
use crate::source::Program;
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use tealight_bundle::tail::Role;

/// The built-in page.
const BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));
/// Most files and bytes in a page folder.
const FILES_MAX: usize = 1000;
const BYTES_MAX: u64 = 64 << 20;

/// Files by path.
pub struct Page(HashMap<String, Cow<'static, [u8]>>);

impl Page {
    /// The page in `folder` if one is named, else the bundle's, else the built-in one.
    ///
    /// # Errors
    /// When the folder cannot be read, is too large, or holds no `index.html`.
    pub fn new(folder: Option<&Path>, program: Option<&Program>) -> io::Result<Self> {
        let mut files = if let Some(folder) = folder {
            let files = from_folder(folder)?;
            if !files.contains_key("index.html") {
                let missing = format!("{}: no index.html in it", folder.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, missing));
            }
            files
        } else {
            let bundled = program.map(from_bundle).filter(|files| files.contains_key("index.html"));
            let built_in =
                || BUILT_IN.iter().map(|(n, b)| ((*n).to_owned(), Cow::Borrowed(*b))).collect();
            bundled.unwrap_or_else(built_in)
        };
        files.entry(CONTROLS.to_owned()).or_insert_with(|| controls_script().into_bytes().into());
        Ok(Self(files))
    }

    /// Whether there is a file at a path below the page's root.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<(&String, &Cow<'static, [u8]>)> {
        let name = match path.trim_start_matches('/') {
            "" => "index.html",
            name => name,
        };
        // All file names are UTF-8.
        self.0.get_key_value(&*percent_decode_str(name).decode_utf8().ok()?)
    }

    /// That file.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Response> {
        let (name, bytes) = self.find(path)?;
        let mut response = Response::new(200, content_type(name), bytes.to_vec());
        response.headers.push(("Cache-Control", "no-cache".to_owned()));
        Some(response)
    }
}

/// The page's one generated script: its controls, from the table of settings.
const CONTROLS: &str = "controls.js";

fn controls_script() -> String {
    let field = |(setting, control): (&Setting, Control)| {
        let Control { min, max, step, main } = control;
        let value: f64 = built_in(Config::built_in(), setting).parse().unwrap_or(min);
        json!({ "key": setting.field, "min": min, "max": max, "step": step, "main": main, "value": value })
    };
    let all: Vec<_> = controls().map(field).collect();
    format!(
        "// Made from the program's table of settings.\nexport const FIELDS = {};\n",
        json!(all)
    )
}

fn from_bundle(program: &Program) -> HashMap<String, Cow<'static, [u8]>> {
    let entries = program.tail.iter().flat_map(|tail| tail.with_role(Role::Web));
    let file = |entry: &tealight_bundle::tail::Entry| {
        let name = entry.name.strip_prefix("web/")?.to_owned();
        let bytes = program.file.bytes().get(entry.range.clone())?;
        Some((name, Cow::Owned(bytes.to_vec())))
    };
    entries.filter_map(file).collect()
}

fn from_folder(folder: &Path) -> io::Result<HashMap<String, Cow<'static, [u8]>>> {
    let mut files = HashMap::new();
    let mut total = 0_u64;
    tealight_bundle::page::visit(folder, &mut |name, path| {
        let metadata = std::fs::symlink_metadata(path)?;
        // Skip links, which could lead anywhere, and devices and pipes, which never end.
        if !metadata.is_file() {
            return Ok(());
        }
        total = total.saturating_add(metadata.len());
        if files.len() >= FILES_MAX || total > BYTES_MAX {
            return Err(io::Error::other(format!("{}: too large for a page", folder.display())));
        }
        files.insert(name.to_owned(), Cow::Owned(std::fs::read(path)?));
        Ok(())
    })?;
    Ok(files)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
