//! The storage types of ggml: their numbers, names and block sizes.
//!
//! Knows how many bytes a shape takes; knows nothing of how a block is decoded.

use std::fmt;

macro_rules! dtypes {
    ($($name:ident = $id:literal, $elements:literal, $bytes:literal;)*) => {
        /// A ggml storage type.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(non_camel_case_types, reason = "these are the names the field uses")]
        #[expect(missing_docs, reason = "each name is its own documentation")]
        pub enum DType { $($name,)* }

        impl DType {
            /// All types, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The type with this ggml type number.
            #[must_use]
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// The ggml type number.
            #[must_use]
            pub fn id(self) -> u32 {
                match self { $(Self::$name => $id,)* }
            }

            /// Elements in one block.
            #[must_use]
            pub const fn block_elements(self) -> usize {
                match self { $(Self::$name => $elements,)* }
            }

            /// Bytes in one block.
            #[must_use]
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$name => $bytes,)* }
            }

            /// The usual name, such as `Q4_K`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

// Name = number, elements and bytes per block: from ggml's `ggml_type` enum and its block structs.
dtypes! {
    F32 = 0, 1, 4;
    F16 = 1, 1, 2;
    Q4_0 = 2, 32, 18;
    Q4_1 = 3, 32, 20;
    Q5_0 = 6, 32, 22;
    Q5_1 = 7, 32, 24;
    Q8_0 = 8, 32, 34;
    Q8_1 = 9, 32, 36;
    Q2_K = 10, 256, 84;
    Q3_K = 11, 256, 110;
    Q4_K = 12, 256, 144;
    Q5_K = 13, 256, 176;
    Q6_K = 14, 256, 210;
    Q8_K = 15, 256, 292;
    IQ2_XXS = 16, 256, 66;
    IQ2_XS = 17, 256, 74;
    IQ3_XXS = 18, 256, 98;
    IQ1_S = 19, 256, 50;
    IQ4_NL = 20, 32, 18;
    IQ3_S = 21, 256, 110;
    IQ2_S = 22, 256, 82;
    IQ4_XS = 23, 256, 136;
    I8 = 24, 1, 1;
    I16 = 25, 1, 2;
    I32 = 26, 1, 4;
    I64 = 27, 1, 8;
    F64 = 28, 1, 8;
    IQ1_M = 29, 256, 56;
    BF16 = 30, 1, 2;
    TQ1_0 = 34, 256, 54;
    TQ2_0 = 35, 256, 66;
    MXFP4 = 39, 32, 17;
    NVFP4 = 40, 64, 36;
    Q1_0 = 41, 128, 18;
    Q2_0 = 42, 64, 18;
}

impl DType {
    /// Size in bytes of a tensor with these dimensions (fastest-varying first), or `None` when a row is not a whole
    /// number of blocks or the size does not fit 63 bits.
    #[must_use]
    pub fn bytes_of(self, dims: &[usize]) -> Option<u64> {
        let row = *dims.first()?;
        if !row.is_multiple_of(self.block_elements()) {
            return None;
        }
        let elements = dims.iter().try_fold(1_u64, |n, &d| n.checked_mul(d as u64))?;
        let blocks = elements.checked_div(self.block_elements() as u64)?;
        let bytes = blocks.checked_mul(self.block_bytes() as u64)?;
        // The element count has to fit as well: kernels keep it in an isize.
        (i64::try_from(elements).is_ok() && i64::try_from(bytes).is_ok()).then_some(bytes)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
