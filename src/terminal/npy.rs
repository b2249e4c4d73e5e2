//! Rows of float32 in NumPy's format 1.0, written as they come.
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use anyhow::Context as _;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";
/// The data begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// A matrix being written.
pub struct Npy {
    out: BufWriter<File>,
}

impl Npy {
    /// Begins a matrix of shape (`rows`, `columns`) at `path`. An existing file is overwritten only if it is empty or
    /// of the same format.
    ///
    /// # Errors
    /// When it cannot be written, or another kind of file is there.
    pub fn create(path: &Path, rows: usize, columns: usize) -> anyhow::Result<Self> {
        let named = || format!("--logits-out {}", path.display());
        refuse_other_files(path).with_context(named)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).with_context(named)?);
        out.write_all(&header(rows, columns)).with_context(named)?;
        Ok(Self { out })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row(&mut self, values: &[f32]) -> io::Result<()> {
        values.iter().try_for_each(|value| self.out.write_all(&value.to_le_bytes()))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Refuses to overwrite other files: a mistyped name must not destroy a model.
fn refuse_other_files(path: &Path) -> anyhow::Result<()> {
    let Ok(meta) = std::fs::metadata(path) else { return Ok(()) };
    if !meta.is_file() || meta.len() == 0 {
        return Ok(());
    }
    let mut begin = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    anyhow::ensure!(
        begin == MAGIC,
        "found an existing file that is not a .npy file\nhint: choose another name, or remove the file"
    );
    Ok(())
}

fn header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let fixed = MAGIC.len() + 2 + 2;
    let padding = ALIGNMENT - (fixed + text.len() + 1) % ALIGNMENT;
    text.extend(std::iter::repeat_n(' ', padding % ALIGNMENT));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    // The text has about a hundred bytes.
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_aligned_and_follows_a_line_break() {
        for (rows, columns) in [(0, 0), (1, 49152), (4000, 262_144), (123_456_789, 7)] {
            let header = header(rows, columns);
            assert_eq!(header.len() % ALIGNMENT, 0);
            assert_eq!(header.last(), Some(&b'\n'));
            let len = usize::from(u16::from_le_bytes([header[8], header[9]]));
            assert_eq!(len + 10, header.len());
        }
    }

    #[test]
    fn a_file_of_another_kind_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, b"GGUF....").unwrap();
        assert!(Npy::create(&path, 1, 1).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"GGUF....");
        let path = folder.path().join("out.npy");
        for value in [1.0, 2.0] {
            let mut npy = Npy::create(&path, 1, 1).unwrap();
            npy.row(&[value]).unwrap();
            npy.finish().unwrap();
            assert!(std::fs::read(&path).unwrap().ends_with(&value.to_le_bytes()));
        }
    }
}
