//! Kernels on vectors of 128 bits, written once and compiled for several instruction sets: SSE, and NEON
//! with and without its products of bytes.
//!
//! Enters: a module `operations`, which says what an instruction set does with its `Bytes`, `Integers` and
//! `Floats` (`x86/sse.rs` and `arm/neon.rs` have one each). Leaves: the functions that [`super::isa`]
//! chooses from. They are macros, because instructions are enabled function by function.

mod attention;
mod decode;
mod floats;
mod levels;
mod tiles;

pub(super) use {
    attention::attention, decode::decode, decode::types, floats::floats, levels::levels,
    tiles::tiles,
};

/// Puts the instruction set on small functions.
macro_rules! operations {
    ($features:literal $($(#[$about:meta])* fn $name:ident $(<const $constant:ident: $of:ty>)?
        ($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $($(#[$about])*
        #[target_feature(enable = $features)]
        #[inline]
        pub fn $name $(<const $constant: $of>)? ($($argument: $type),*) $(-> $result)? $body)*
    };
}

/// Calls a generic function with the decoder of a type, or the fallback.
macro_rules! for_type {
    ($dtype:expr, $function:ident $arguments:tt, $fallback:expr) => {
        $crate::kernels::vectors::for_type!(@ $dtype, $function, $arguments, $fallback,
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS)
    };
    (@ $dtype:expr, $function:ident, $arguments:tt, $fallback:expr, $($name:ident)*) => {
        match $dtype {
            $(DType::$name => $function::<$name> $arguments,)*
            _ => $fallback,
        }
    };
}

pub(super) use {for_type, operations};
