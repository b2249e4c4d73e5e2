//! Collects the chat page in `web/` into a table of files, for `include!`. Both packages use this script: the runtime
//! serves the page, the bundler puts a copy of it into bundles. Without that folder the table is empty.
//! For Windows it also gives the programs their version, icon and manifest. For macOS it asks the linker for spare room
//! after the load commands, because a bundle adds one (`bundler/src/macho/`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

#[path = "bundler/src/page.rs"]
mod page;

fn main() -> io::Result<()> {
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "macos") {
        println!("cargo:rustc-link-arg-bins=-Wl,-headerpad,0x1000");
    }
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    // The script is in the runtime's package. A path that does not exist would make Cargo rerun it every time.
    let script = [package.join("build.rs"), package.join("../build.rs")];
    if let Some(script) = script.iter().find(|script| script.is_file()) {
        println!("cargo:rerun-if-changed={}", script.display());
        println!(
            "cargo:rerun-if-changed={}",
            script.with_file_name("bundler/src/page.rs").display()
        );
    }
    let web = [package.join("web"), package.join("../web")];
    let web = web.iter().find(|folder| folder.is_dir());
    let mut files = Vec::new();
    if let Some(web) = web {
        println!("cargo:rerun-if-changed={}", web.display());
        page::visit(web, &mut |name, path| {
            files.push((name.to_owned(), path.to_owned()));
            io::Result::Ok(())
        })?;
    }
    let mut table = String::from("&[\n");
    for (name, path) in files {
        let path = path.canonicalize()?;
        let row = writeln!(table, "    ({name:?}, include_bytes!({:?})),", path.to_string_lossy());
        row.map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(out.join("page.rs"), table)?;
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "windows") {
        resources(&package, &out)?;
    }
    Ok(())
}

/// Windows manifest: paths above 260 characters, UTF-8 as the code page, no request for elevation.
const MANIFEST: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
  <trustInfo xmlns="urn:schemas-microsoft-com:asm.v3"><security><requestedPrivileges>
    <requestedExecutionLevel level="asInvoker" uiAccess="false"/>
  </requestedPrivileges></security></trustInfo>
  <compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1"><application>
    <supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/>
  </application></compatibility>
  <application xmlns="urn:schemas-microsoft-com:asm.v3"><windowsSettings>
    <longPathAware xmlns="http://schemas.microsoft.com/SMI/2016/WindowsSettings">true</longPathAware>
    <activeCodePage xmlns="http://schemas.microsoft.com/SMI/2019/WindowsSettings">UTF-8</activeCodePage>
  </windowsSettings></application>
</assembly>
"#;

/// Compiles the Windows resources (version, icon, manifest) with the target's resource compiler and links them into the
/// programs. They work without, so a missing compiler is only a warning.
fn resources(package: &Path, out: &Path) -> io::Result<()> {
    let icon = [package.join("src/tealight.ico"), package.join("../src/tealight.ico")];
    let icon = icon.iter().find(|file| file.is_file());
    let variable = |name| env::var(name).map_err(io::Error::other);
    let (name, version) = (variable("CARGO_PKG_NAME")?, variable("CARGO_PKG_VERSION")?);
    let about = match name.as_str() {
        "tealight" => "tealight: a language model in one file",
        _ => "tealight-bundle: puts a language model into one file",
    };
    // Four numbers, without a suffix (`-beta.1`).
    let mut numbers: Vec<&str> =
        version.split(['-', '+']).next().unwrap_or("").split('.').collect();
    numbers.resize(4, "0");
    let numbers = numbers.join(",");
    let mut script = String::from("#pragma code_page(65001)\n1 24 \"tealight.manifest\"\n");
    if let Some(icon) = icon {
        println!("cargo:rerun-if-changed={}", icon.display());
        fs::copy(icon, out.join("tealight.ico"))?;
        script.push_str("1 ICON \"tealight.ico\"\n");
    }
    script.push_str(&format!(
        r#"1 VERSIONINFO
FILEVERSION {numbers}
PRODUCTVERSION {numbers}
FILEOS 0x40004
FILETYPE 1
BEGIN
  BLOCK "StringFileInfo" BEGIN BLOCK "040904B0" BEGIN
    VALUE "FileDescription", "{about}"
    VALUE "FileVersion", "{version}"
    VALUE "InternalName", "{name}"
    VALUE "LegalCopyright", "Apache-2.0"
    VALUE "OriginalFilename", "{name}.exe"
    VALUE "ProductName", "tealight"
    VALUE "ProductVersion", "{version}"
  END END
  BLOCK "VarFileInfo" BEGIN VALUE "Translation", 0x409, 1200 END
END
"#
    ));
    fs::write(out.join("tealight.manifest"), MANIFEST)?;
    fs::write(out.join("tealight.rc"), script)?;
    // Run in the files' folder with plain names: older tools break on spaces in a path.
    // windres knows x86-64 only; LLVM's linker reads what the other compilers make.
    let is = |variable, value: &str| env::var(variable).is_ok_and(|found| found == value);
    let gnu = is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_ARCH", "x86_64");
    let (object, tools, arguments): (_, _, &[&str]) = if gnu {
        let arguments = &["-i", "tealight.rc", "-O", "coff", "-o", "tealight.res.o"];
        ("tealight.res.o", ["x86_64-w64-mingw32-windres", "windres"], arguments)
    } else {
        ("tealight.res", ["rc", "llvm-rc"], &["/fo", "tealight.res", "tealight.rc"])
    };
    let mut said = String::new();
    for program in tools {
        match Command::new(program).args(arguments).current_dir(out).output() {
            Ok(done) if done.status.success() => {
                println!("cargo:rustc-link-arg-bins={}", out.join(object).display());
                return Ok(());
            }
            Ok(done) => {
                write!(said, "; {program}: {}", String::from_utf8_lossy(&done.stderr).trim())
            }
            Err(error) => write!(said, "; {program}: {error}"),
        }
        .map_err(io::Error::other)?;
    }
    let said = said.replace('\n', " ");
    println!("cargo:warning=no icon and no version information in {name}.exe{said}");
    Ok(())
}
