//! Collects the chat page in `web/` into a table of files, for `include!`. Both packages use this one script: the
//! runtime serves the page, the bundler puts a copy of it into bundles. Without that folder the table is empty.
//!
//! For macOS it asks the linker for room behind the load commands: a bundle needs one more (`bundler/src/macho/`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "macos") {
        println!("cargo:rustc-link-arg-bins=-Wl,-headerpad,0x1000");
    }
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let web = [package.join("web"), package.join("../web")];
    let web = web.iter().find(|folder| folder.is_dir());
    let mut files = Vec::new();
    if let Some(web) = web {
        println!("cargo:rerun-if-changed={}", web.display());
        collect(web, "", &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (name, path) in files {
        let path = path.canonicalize()?;
        let row = writeln!(table, "    ({name:?}, include_bytes!({:?})),", path.to_string_lossy());
        row.map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(out.join("page.rs"), table)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let unusable = |name: std::ffi::OsString| io::Error::other(name.display().to_string());
        let name = entry.file_name().into_string().map_err(unusable)?;
        if name.starts_with('.') {
            continue;
        }
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}
