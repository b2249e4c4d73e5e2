//! Shows what is in a bundle.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;
use tealight_bundle::manifest::Sha256Sum;
use tealight_bundle::{Mapped, Tail};

use super::{answer, cli, human, leftover_note, open_bundle};

/// `tealight-bundle list`.
pub fn run(args: &cli::List) -> Result<()> {
    let (mapped, tail) = open_bundle(&args.bundle)?;
    leftover_note(&args.bundle, &tail);
    if args.json {
        return answer(&format!("{:#}\n", as_json(&mapped, &tail)));
    }
    answer(&as_text(&mapped, &tail)?)
}

fn as_json(mapped: &Mapped, tail: &Tail) -> serde_json::Value {
    let manifest = tail.manifest();
    let own = tail.entries().iter().map(|entry| {
        json!({
            "name": entry.name,
            "role": entry.role,
            "bytes": entry.bytes(),
            "offset": entry.range.start,
            "sha256": Sha256Sum(entry.sha256),
            "external": false,
        })
    });
    let external = manifest.entries.iter().filter(|entry| entry.external).map(|entry| {
        json!({
            "name": entry.name,
            "role": entry.role,
            "bytes": entry.bytes,
            "sha256": entry.sha256,
            "external": true,
        })
    });
    json!({
        "format": manifest.format,
        "name": manifest.name,
        "created_by": manifest.created_by,
        "bytes": mapped.bytes().len(),
        "leftover_bytes": tail.leftover_bytes(),
        "runtime": manifest.runtime,
        "entries": own.chain(external).collect::<Vec<_>>(),
    })
}

fn as_text(mapped: &Mapped, tail: &Tail) -> Result<String> {
    let manifest = tail.manifest();
    let mut out = String::new();
    let name = manifest.name.as_deref().map(|name| format!("“{name}”, ")).unwrap_or_default();
    let size = human(mapped.bytes().len() as u64);
    writeln!(out, "{}: {name}{size}, by {}", mapped.path().display(), manifest.created_by)?;
    writeln!(out, "{:>14}  {:<13}  {:<12}  name", "bytes", "role", "sha256")?;
    let mut line = |bytes: u64, role: &dyn std::fmt::Display, sha256: Sha256Sum, name: &str| {
        let sha256 = sha256.to_string();
        writeln!(out, "{bytes:>14}  {role:<13}  {}  {name}", sha256.get(..12).unwrap_or(&sha256))
    };
    line(manifest.runtime.bytes, &"runtime", manifest.runtime.sha256, "(the executable)")?;
    for entry in tail.entries() {
        line(entry.bytes(), &entry.role, Sha256Sum(entry.sha256), &entry.name)?;
    }
    for entry in manifest.entries.iter().filter(|entry| entry.external) {
        line(entry.bytes, &entry.role, entry.sha256, &format!("{} (beside the file)", entry.name))?;
    }
    Ok(out)
}
