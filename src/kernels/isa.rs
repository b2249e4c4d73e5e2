//! Instruction set of the kernels: chosen once at start, then passed as a value.
//!
//! One executable has to run on a 2012 laptop and use the dot-product instructions of a new server,
//! so it is built for the baseline of its target and chooses here at run time.

use super::activations::BLOCK;
use super::blocks::form;
use std::fmt;
use std::str::FromStr;
use tealight_bundle::gguf::DType;

/// An instruction set that this processor has. Only [`Isa::detect`] and [`Isa::available`] create one,
/// so any value other than `Scalar` proves that its instructions may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Level);

/// The levels, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Sse,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    DotProd,
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

impl Isa {
    /// The portable code that defines what every other kernel computes.
    pub const SCALAR: Self = Self(Level::Scalar);

    /// The best instruction set of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Self::SCALAR)
    }

    /// Every instruction set of this processor that has kernels, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut, reason = "no other processor adds any")
        )]
        let mut found = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            let sse = is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
            if sse {
                found.push(Self(Level::Sse));
            }
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2 {
                found.push(Self(Level::Avx2));
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                found.push(Self(Level::AvxVnni));
            }
            let avx512 = avx2
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq");
            if avx512 {
                found.push(Self(Level::Avx512));
            }
            if avx512 && is_x86_feature_detected!("avx512vnni") {
                found.push(Self(Level::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected;
            found.push(Self(Level::Neon));
            let dotprod = is_aarch64_feature_detected!("dotprod");
            if dotprod {
                found.push(Self(Level::DotProd));
            }
            if dotprod && is_aarch64_feature_detected!("i8mm") {
                found.push(Self(Level::I8mm));
            }
        }
        found
    }

    pub(super) fn level(self) -> Level {
        self.0
    }

    /// Name of the arithmetic: instruction sets with the same one give the same results to the bit. All but SSE, which
    /// has no fused multiply-add, have that of the scalar kernels.
    #[must_use]
    pub fn arithmetic(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Sse => "unfused",
            _ => "fused",
        }
    }

    /// Whether results are those of the scalar kernels to the bit.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.arithmetic() == Self::SCALAR.arithmetic()
    }

    /// Maximum rows of activations that are multiplied with a panel at a time: as many as fit in registers.
    pub(super) fn widest_tile(self) -> usize {
        match self.0 {
            Level::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Level::Sse | Level::Avx2 | Level::AvxVnni => 5,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Vnni => 6,
            #[cfg(target_arch = "aarch64")]
            Level::Neon | Level::DotProd | Level::I8mm => 4,
        }
    }

    /// Rows of activations from which unpacking panels pays off; fewer are multiplied with the stored rows, up to four
    /// at a time. Measured with four models on Zen 5, with AVX2 and AVX-512: with four rows, panels are 0.6 to 0.96 times
    /// as fast, with five about equally, with eight 1.2 to 1.5 times. Super-blocks on Zen 3 (1.5B): 0.6 times with five
    /// rows, 0.9 with eight. On ARM and with SSE by the number of instructions for `Q4_K`, `Q6_K`, `Q4_0` and `Q8_0`.
    pub(super) fn panels_from(self, dtype: DType) -> usize {
        match (self.0, form(dtype)) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2 | Level::AvxVnni, super::blocks::Form::Super) => 8,
            #[cfg(target_arch = "x86_64")]
            (Level::Sse | Level::Avx2 | Level::AvxVnni | Level::Avx512 | Level::Avx512Vnni, _) => 5,
            #[cfg(target_arch = "aarch64")]
            (Level::Neon | Level::DotProd, _) => 8,
            #[cfg(target_arch = "aarch64")]
            (Level::I8mm, _) => 6,
            (Level::Scalar, _) => 3,
        }
    }

    /// Rows of activations that are multiplied with stored rows at a time. With AVX2, these two types read two rows of
    /// weights side by side, and have no registers for four tokens: two and two are 1.1 times as fast (1.5B, Zen 5).
    pub(super) fn rows_in_place(self, dtype: DType) -> usize {
        match (self.0, dtype) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2 | Level::AvxVnni, DType::Q4_K | DType::Q5_K) => 2,
            _ => 4,
        }
    }

    /// Contiguous columns of an activation row in a tile: four for kernels that hold one row of weights per
    /// lane, eight for products of matrices of bytes, a block for those that load whole vectors of a row.
    pub(super) fn columns_together(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni | Level::Avx512 | Level::Avx512Vnni => 4,
            #[cfg(target_arch = "aarch64")]
            Level::I8mm => 8,
            _ => BLOCK,
        }
    }

    /// The name that `--isa` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Sse => "sse",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::DotProd => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Level::I8mm => "i8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::available();
        all.iter().find(|isa| isa.name() == name).copied().ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|isa| isa.name()).collect();
            format!(
                "this processor does not support `{name}`, expected one of: {}",
                names.join(", ")
            )
        })
    }
}

/// Calls a function that every instruction set's module has under the same name, or evaluates the scalar expression.
macro_rules! by_isa {
    ($isa:expr, scalar: $scalar:expr, $($call:tt)+) => {
        match $isa.level() {
            $crate::kernels::isa::Level::Scalar => $scalar,
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Sse => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::sse::$($call)+ }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Avx2 => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::avx2::avx2::$($call)+ }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::AvxVnni => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::avx2::avxvnni::$($call)+ }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Avx512 => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::avx512::plain::$($call)+ }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Avx512Vnni => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::avx512::vnni::$($call)+ }
            }
            #[cfg(target_arch = "aarch64")]
            $crate::kernels::isa::Level::Neon => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::arm::neon::$($call)+ }
            }
            #[cfg(target_arch = "aarch64")]
            $crate::kernels::isa::Level::DotProd => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::arm::dotprod::$($call)+ }
            }
            #[cfg(target_arch = "aarch64")]
            $crate::kernels::isa::Level::I8mm => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::arm::i8mm::$($call)+ }
            }
        }
    };
}

/// Like [`by_isa`], for float kernels, which don't depend on byte dot-product instructions.
macro_rules! by_floats {
    ($isa:expr, scalar: $scalar:expr, $($call:tt)+) => {
        match $isa.level() {
            $crate::kernels::isa::Level::Scalar => $scalar,
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Sse => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::sse::$($call)+ }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Avx2 | $crate::kernels::isa::Level::AvxVnni => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::float::$($call)+ }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Level::Avx512 | $crate::kernels::isa::Level::Avx512Vnni => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::x86::avx512::floats::$($call)+ }
            }
            #[cfg(target_arch = "aarch64")]
            $crate::kernels::isa::Level::Neon
            | $crate::kernels::isa::Level::DotProd
            | $crate::kernels::isa::Level::I8mm => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { $crate::kernels::arm::neon::$($call)+ }
            }
        }
    };
}

pub(super) use {by_floats, by_isa};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_listed_slowest_first_and_found_by_their_names() {
        let all = Isa::available();
        assert_eq!(all[0], Isa::SCALAR);
        assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
        assert_eq!(all.last(), Some(&Isa::detect()));
        for isa in &all {
            assert_eq!(isa.name().parse(), Ok(*isa));
        }
        let error = "sparc".parse::<Isa>().unwrap_err();
        assert!(error.contains("`sparc`") && error.contains("scalar"), "{error}");
        // Every processor of these architectures that runs the tests has a faster level than scalar.
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert!(all.len() > 1, "{all:?}");
        }
    }
}
