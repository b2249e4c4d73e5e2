//! The rows that are multiplied together.

/// Runs of rows at four distant places in a matrix: memory serves several streams faster than one. Each run
/// continues where the thread's previous part ended, so no prefetch is wasted.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    /// All rows of the matrix.
    pub w: &'a [u8],
    /// Bytes of a row.
    pub row_bytes: usize,
    /// The first row of each run, clamped to the matrix's last row.
    pub first: [usize; 4],
}

impl<'a> Runs<'a> {
    /// The bytes of the first `rows` rows of one run.
    pub fn run(&self, index: usize, rows: usize) -> &'a [u8] {
        if rows == 0 {
            return &[];
        }
        &self.w[self.first[index] * self.row_bytes..][..rows * self.row_bytes]
    }
}
