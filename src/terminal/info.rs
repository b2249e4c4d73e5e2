//! `tealight info`: what is in the file.

use crate::model::{ModelFile, Shard};
use crate::source::Program;
use crate::system::size;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Describes the program, its bundle and its model.
///
/// # Errors
/// When the weights are malformed.
pub fn info(program: &Program, shards: Option<Vec<Shard>>) -> anyhow::Result<String> {
    let mut out = String::new();
    let _ = writeln!(out, "program     tealight {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(
        out,
        "file        {} ({})",
        program.path.display(),
        size(program.file.bytes().len() as u64)
    );
    if let Some(tail) = &program.tail {
        let name = tail.manifest().name.as_deref().unwrap_or("(no name)");
        let _ = writeln!(out, "bundle      {name}, {} entries", tail.entries().len());
        for entry in tail.entries() {
            let _ =
                writeln!(out, "  {:<14} {:>10}  {}", entry.role, size(entry.bytes()), entry.name);
        }
        if tail.leftover_bytes() > 0 {
            let _ = writeln!(
                out,
                "  {} bytes are left over from an interrupted change; the bundle is intact",
                tail.leftover_bytes()
            );
        }
    }
    match shards {
        None => out.push_str("model       (none)\n"),
        Some(shards) => describe_model(&mut out, shards)?,
    }
    Ok(out)
}

fn describe_model(out: &mut String, shards: Vec<Shard>) -> anyhow::Result<()> {
    for shard in &shards {
        let _ = writeln!(out, "weights     {}", shard.name);
    }
    let file = ModelFile::open(shards)?;
    let parameters: u64 = file.tensors().map(|t| t.elements() as u64).sum();
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in file.tensors() {
        *types.entry(tensor.dtype.name()).or_default() += 1;
    }
    let types: Vec<String> =
        types.iter().map(|(name, count)| format!("{name} × {count}")).collect();
    let _ = writeln!(out, "parameters  {:.1} million", parameters as f64 / 1e6);
    let _ = writeln!(
        out,
        "weights     {} in {} tensors: {}",
        size(file.weight_bytes()),
        file.tensors().count(),
        types.join(", ")
    );
    match crate::model::spec(&file) {
        Ok(_) => out.push_str("supported   yes\n"),
        Err(error) => {
            let _ = writeln!(out, "supported   no: {error}");
        }
    }
    out.push_str("metadata\n");
    for (key, value) in file.metadata() {
        let _ = writeln!(out, "  {} = {}", key.escape_debug(), value.describe());
    }
    Ok(())
}
