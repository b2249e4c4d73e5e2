//! Which rows are multiplied together.

/// Rows of a matrix at four distant places: memory answers several sooner than one, and each goes on where
/// the last part of a thread ended, so that what is fetched ahead is never in vain.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    /// All rows of the matrix.
    pub w: &'a [u8],
    /// Bytes of a row.
    pub row_bytes: usize,
    /// The first row of each run. Rows behind the last of the matrix stand for that one.
    pub first: [usize; 4],
}

impl<'a> Runs<'a> {
    /// The rows of one run of so many.
    pub fn run(&self, index: usize, rows: usize) -> &'a [u8] {
        if rows == 0 {
            return &[];
        }
        &self.w[self.first[index] * self.row_bytes..][..rows * self.row_bytes]
    }
}
