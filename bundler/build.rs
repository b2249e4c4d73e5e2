//! Collects the chat page in `../web`, to be compiled into `tealight-bundle`. Without that folder (as when this crate is
//! built alone) the page is empty, and bundles fall back on the page inside their runtime.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let web =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../web");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../web");
    let mut files = Vec::new();
    if web.is_dir() {
        collect(&web, "", &mut files)?;
    }
    files.sort();
    let mut code = String::from("&[\n");
    for (name, path) in files {
        let path = path.canonicalize()?;
        writeln!(
            code,
            "    ({name:?}, include_bytes!({:?})),",
            path.to_string_lossy()
        )
        .expect("strings take all");
    }
    code.push_str("]\n");
    fs::write(
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("page.rs"),
        code,
    )
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| io::Error::other(format!("{}", name.display())))?;
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
