//! The trait that decodes a type's bytes.

#![expect(unsafe_code, reason = "functions whose pointers reach as far as is said beside them")]

use std::arch::x86_64::{__m512, __m512i};

/// Columns in one vector of levels.
pub const STEP: usize = 64;

/// Decodes a type's bytes into vectors.
pub trait Decode {
    /// Bytes of a block of 32 columns, or of a super-block.
    const BYTES: usize;
    /// Columns of that block.
    const COLUMNS: usize;
    /// Columns that share a scale: 16 or 32.
    const SUB: usize;

    /// The levels of columns `64 · step ..` of the group at `b`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; `b` points to blocks that contain the columns.
    unsafe fn levels(b: *const u8, step: usize) -> __m512i;

    /// With `SUB` 32: eight scales and eight mins in one vector, the other unused. With `SUB` 16: sixteen scales,
    /// sixteen mins. Zeros for blocks beyond `len` bytes.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; `b` points to `len` bytes of blocks.
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512);
}
