//! What a type's bytes become.

#![expect(unsafe_code, reason = "functions whose pointers reach as far as is said beside them")]

use std::arch::x86_64::{__m512, __m512i};

/// Columns of one vector of levels.
pub const STEP: usize = 64;

/// How a type's bytes become vectors.
pub trait Decode {
    /// Bytes of a block of 32 columns, or of a super-block.
    const BYTES: usize;
    /// Columns of such a block.
    const COLUMNS: usize;
    /// Columns that share a scale: 16 or 32.
    const SUB: usize;

    /// The levels of columns `64 · step ..` of the group at `b`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; at `b` lie blocks that hold the columns.
    unsafe fn levels(b: *const u8, step: usize) -> __m512i;

    /// `SUB` 32: eight scales and eight minima (and nothing). `SUB` 16: sixteen scales, sixteen minima.
    /// Zeros for blocks that lie beyond `len` bytes.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; `len` bytes of blocks lie at `b`.
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512);
}
