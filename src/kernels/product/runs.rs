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

    /// Stream and index of a row of a tile whose first rows are those at `at`: rows are taken from each run in turn.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn place(row: usize, at: usize) -> (usize, usize) {
        (row % 4, at + row / 4)
    }

    /// The beginning of each row of such a tile, of none after `last`.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn pointers<const N: usize>(&self, at: usize, last: usize) -> [*const u8; N] {
        let mut pointers = [self.w.as_ptr(); N];
        for (row, pointer) in pointers.iter_mut().enumerate() {
            let (stream, row) = Self::place(row, at);
            let row = (self.first[stream] + row).min(last);
            *pointer = pointer.wrapping_add(row * self.row_bytes);
        }
        pointers
    }
}
