//! Kernels on 128-bit vectors, written once and compiled for several instruction sets: SSE, and NEON with and without
//! its byte products.
//!
//! Input: a module `operations` that defines an instruction set's `Bytes`, `Integers` and `Floats` and functions on
//! them (`x86/sse.rs` and `arm/neon.rs` have one each). Output: the functions that [`super::isa`] chooses from. These
//! are macros because target features are enabled per function.

mod decode;
mod floats;
mod lanes;
mod levels;
mod tiles;

pub(super) use {
    decode::decode, decode::types, floats::floats, lanes::lanes, levels::levels, tiles::tiles,
};

/// Adds the target feature to small functions.
macro_rules! operations {
    ($features:literal $($(#[$about:meta])* fn $name:ident $(<const $constant:ident: $of:ty>)?
        ($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $($(#[$about])*
        #[target_feature(enable = $features)]
        #[inline]
        pub fn $name $(<const $constant: $of>)? ($($argument: $type),*) $(-> $result)? $body)*
    };
}

/// Evaluates an expression with the decoder of a type under the given name, or the fallback.
macro_rules! for_type {
    ($dtype:expr, $decode:ident => $found:expr, $fallback:expr) => {
        $crate::kernels::vectors::for_type!(@ $dtype, $decode, $found, $fallback,
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q1_0 Q2_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS)
    };
    (@ $dtype:expr, $decode:ident, $found:expr, $fallback:expr, $($name:ident)*) => {
        match $dtype {
            $(DType::$name => {
                type $decode = $name;
                $found
            })*
            _ => $fallback,
        }
    };
}

/// Evaluates a block once for each of four lanes, whose number is a constant in it.
macro_rules! each_lane {
    ($lane:ident, $body:block) => {
        $crate::kernels::vectors::each_lane!(@ $lane, $body, 0 1 2 3);
    };
    (@ $lane:ident, $body:block, $($number:literal)*) => {$({
        const $lane: i32 = $number;
        $body
    })*};
}

pub(super) use {each_lane, for_type, operations};
