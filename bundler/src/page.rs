//! Lists the files of a page's folder. The build script, the bundler and the server all read such folders: the first
//! includes this file, which therefore needs nothing but `std`.

use std::path::Path;
use std::{fs, io};

/// Cap on folders within folders.
const DEPTH_MAX: usize = 16;

/// Calls `visit` with the name and path of whatever is in a page's folder and its subfolders, in the order of their
/// names: `css/page.css`. Leaves out names that begin with a dot. Links count as files, so that none leads out of the
/// folder or back into it.
///
/// # Errors
/// When a folder can't be read or is nested too deeply, when a name isn't UTF-8, or when `visit` fails.
pub fn visit<E: From<io::Error>>(
    folder: &Path,
    visit: &mut impl FnMut(&str, &Path) -> Result<(), E>,
) -> Result<(), E> {
    visit_within(folder, "", 0, visit)
}

fn visit_within<E: From<io::Error>>(
    folder: &Path,
    prefix: &str,
    depth: usize,
    visit: &mut impl FnMut(&str, &Path) -> Result<(), E>,
) -> Result<(), E> {
    let invalid = |why: &str, path: &Path| io::Error::other(format!("{}: {why}", path.display()));
    if depth > DEPTH_MAX {
        let why = format!("nested more than {DEPTH_MAX} folders deep");
        return Err(invalid(&why, folder).into());
    }
    let cannot = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(cannot)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            invalid("the file name is not UTF-8\nhint: rename the file", &entry.path())
        })?;
        if name.starts_with('.') {
            continue;
        }
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        if entry.file_type()?.is_dir() {
            visit_within(&path, &format!("{name}/"), depth + 1, visit)?;
        } else {
            visit(&name, &path)?;
        }
    }
    Ok(())
}
