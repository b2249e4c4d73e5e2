//! Memory layout of keys and values in the cache, for each element type.
//!
//! Keys are (kv_heads, capacity / 16, units, 16) and values (kv_heads, capacity, units). A unit is an
//! element, or a byte of a `q8_0` block. `q8_0` blocks are llama.cpp's: an f16 scale, then 32 elements of a
//! head as signed bytes. The blocks of sixteen keys are interleaved: sixteen scales, then sixteen bytes for
//! each of the 32 elements. A head's last block is padded with zeros.

use super::KEYS;
use crate::kernels::float::ToF32;
use crate::kernels::prefetch::Soon;
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Elements in a `q8_0` block.
const BLOCK: usize = 32;
/// Bytes in a `q8_0` block.
const BYTES: usize = 2 + BLOCK;

/// Evaluates a generic expression with the typed slice inside a [`Cached`].
macro_rules! by_element {
    ($cached:expr, |$x:ident| $body:expr) => {
        match $cached {
            $crate::kernels::attention::Cached::F16($x) => $body,
            $crate::kernels::attention::Cached::Bf16($x) => $body,
            $crate::kernels::attention::Cached::F32($x) => $body,
            $crate::kernels::attention::Cached::Q8_0($x) => $body,
        }
    };
}
pub(in crate::kernels) use by_element;

/// The element type of cached keys, or of cached values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the element types")]
pub enum CacheType {
    F16,
    Bf16,
    F32,
    Q8_0,
}

impl CacheType {
    /// All cache types with their names.
    const NAMES: [(Self, &'static str); 4] =
        [(Self::F16, "f16"), (Self::Bf16, "bf16"), (Self::F32, "f32"), (Self::Q8_0, "q8_0")];

    /// Storage units that a head of `dim` elements takes.
    #[must_use]
    pub fn units(self, dim: usize) -> usize {
        if self == Self::Q8_0 { <u8 as Element>::units(dim) } else { dim }
    }

    /// Bytes that a head of `dim` elements takes.
    #[must_use]
    pub fn bytes(self, dim: usize) -> usize {
        let unit = match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::Q8_0 => 1,
        };
        self.units(dim) * unit
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::NAMES.iter().find(|(this, _)| this == self);
        f.write_str(found.map_or("", |(_, name)| name))
    }
}

impl FromStr for CacheType {
    /// What was expected.
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(this, _)| *this).ok_or("f16, bf16, f32 or q8_0")
    }
}

/// Cached keys or values, in storage units.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the variants are the element types")]
pub enum Cached<'a> {
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    F32(&'a [f32]),
    Q8_0(&'a [u8]),
}

impl Cached<'_> {
    /// The element type.
    #[must_use]
    pub fn cache_type(&self) -> CacheType {
        match self {
            Self::F16(_) => CacheType::F16,
            Self::Bf16(_) => CacheType::Bf16,
            Self::F32(_) => CacheType::F32,
            Self::Q8_0(_) => CacheType::Q8_0,
        }
    }

    /// Prefetch of `positions` of one head of `dim` elements. For keys, whole groups of sixteen positions.
    pub(super) fn soon(self, positions: &Range<usize>, dim: usize) -> Soon {
        fn part<T: Element>(all: &[T], positions: &Range<usize>, dim: usize) -> Soon {
            let units = T::units(dim);
            Soon::of(all.get(positions.start * units..positions.end * units).unwrap_or_default())
        }
        by_element!(self, |x| part(x, positions, dim))
    }

    /// The part of head `index` out of `heads`.
    pub(super) fn head(self, heads: usize, index: usize) -> Self {
        fn part<T>(all: &[T], heads: usize, index: usize) -> &[T] {
            let size = all.len() / heads;
            &all[index * size..(index + 1) * size]
        }
        match self {
            Self::F16(x) => Self::F16(part(x, heads, index)),
            Self::Bf16(x) => Self::Bf16(part(x, heads, index)),
            Self::F32(x) => Self::F32(part(x, heads, index)),
            Self::Q8_0(x) => Self::Q8_0(part(x, heads, index)),
        }
    }
}

/// A storage unit: an element, or a byte of a `q8_0` block. Offsets are within one head and are computed from
/// a position and an element `d` of the head; `block` is the first position of a group of sixteen keys.
pub trait Element: Copy + Default + Send + Sync {
    /// Whether [`Element::GROUP`] elements of a head share a scale.
    const SCALED: bool;
    /// Elements of a head that share a scale; `usize::MAX` if there are no scales.
    const GROUP: usize;

    /// Units in a head of `dim` elements.
    fn units(dim: usize) -> usize;
    /// Offset of element `d` of the sixteen keys of a block.
    fn key_at(block: usize, dim: usize, d: usize) -> usize;
    /// Offset of the scales that apply to element `d` of the sixteen keys of a block.
    fn key_scales_at(block: usize, dim: usize, d: usize) -> usize;
    /// Offset of element `d` of a position's value; the rest of its group follows.
    fn value_at(position: usize, dim: usize, d: usize) -> usize;
    /// The scale of element `d` of a position's value.
    fn value_scale(v: &[Self], position: usize, dim: usize, d: usize) -> f32;
    /// Element `d` of a key, before scaling.
    fn key_level(k: &[Self], position: usize, dim: usize, d: usize) -> f32;
    /// The scale of element `d` of a key.
    fn key_scale(k: &[Self], position: usize, dim: usize, d: usize) -> f32;
    /// Element `d` of a key.
    #[inline]
    fn key(k: &[Self], position: usize, dim: usize, d: usize) -> f32 {
        Self::key_level(k, position, dim, d) * Self::key_scale(k, position, dim, d)
    }
    /// Element `d` of a value.
    fn value(v: &[Self], position: usize, dim: usize, d: usize) -> f32;
    /// Stores the key of a position.
    fn put_key(k: &mut [Self], position: usize, new: &[f32]);
    /// Stores the value of a position.
    fn put_value(v: &mut [Self], position: usize, new: &[f32]);
}

macro_rules! floats {
    ($($float:ty, $convert:expr;)*) => {
        $(impl Element for $float {
            const SCALED: bool = false;
            const GROUP: usize = usize::MAX;

            #[inline]
            fn units(dim: usize) -> usize {
                dim
            }

            #[inline]
            fn key_at(block: usize, dim: usize, d: usize) -> usize {
                block * dim + d * KEYS
            }

            #[inline]
            fn key_scales_at(block: usize, dim: usize, d: usize) -> usize {
                Self::key_at(block, dim, d)
            }

            #[inline]
            fn value_at(position: usize, dim: usize, d: usize) -> usize {
                position * dim + d
            }

            #[inline]
            fn value_scale(_: &[Self], _: usize, _: usize, _: usize) -> f32 {
                1.0
            }

            #[inline]
            fn key_level(k: &[Self], position: usize, dim: usize, d: usize) -> f32 {
                let block = position / KEYS * KEYS;
                k[Self::key_at(block, dim, d) + position - block].to_f32()
            }

            #[inline]
            fn key_scale(_: &[Self], _: usize, _: usize, _: usize) -> f32 {
                1.0
            }

            #[inline]
            fn value(v: &[Self], position: usize, dim: usize, d: usize) -> f32 {
                v[Self::value_at(position, dim, d)].to_f32()
            }

            fn put_key(k: &mut [Self], position: usize, new: &[f32]) {
                let mut converted = [Self::default(); 64];
                let block = &mut k[position / KEYS * KEYS * new.len()..][..KEYS * new.len()];
                let mut places = block.iter_mut().skip(position % KEYS).step_by(KEYS);
                for new in new.chunks(converted.len()) {
                    let converted = &mut converted[..new.len()];
                    $convert(converted, new);
                    places.by_ref().zip(converted).for_each(|(place, key)| *place = *key);
                }
            }

            fn put_value(v: &mut [Self], position: usize, new: &[f32]) {
                $convert(&mut v[position * new.len()..][..new.len()], new);
            }
        })*
    };
}

floats! {
    f16, |to: &mut [f16], from: &[f32]| to.convert_from_f32_slice(from);
    bf16, |to: &mut [bf16], from: &[f32]| to.convert_from_f32_slice(from);
    f32, |to: &mut [f32], from: &[f32]| to.copy_from_slice(from);
}

impl Element for u8 {
    const SCALED: bool = true;
    const GROUP: usize = BLOCK;

    #[inline]
    fn units(dim: usize) -> usize {
        dim.div_ceil(BLOCK) * BYTES
    }

    #[inline]
    fn key_at(block: usize, dim: usize, d: usize) -> usize {
        Self::key_scales_at(block, dim, d) + 2 * KEYS + d % BLOCK * KEYS
    }

    #[inline]
    fn key_scales_at(block: usize, dim: usize, d: usize) -> usize {
        block * Self::units(dim) + d / BLOCK * BYTES * KEYS
    }

    #[inline]
    fn value_at(position: usize, dim: usize, d: usize) -> usize {
        position * Self::units(dim) + d / BLOCK * BYTES + 2 + d % BLOCK
    }

    #[inline]
    fn value_scale(v: &[u8], position: usize, dim: usize, d: usize) -> f32 {
        half_at(v, Self::value_at(position, dim, d / BLOCK * BLOCK) - 2)
    }

    #[inline]
    fn key_level(k: &[u8], position: usize, dim: usize, d: usize) -> f32 {
        let block = position / KEYS * KEYS;
        f32::from(k[Self::key_at(block, dim, d) + position - block].cast_signed())
    }

    #[inline]
    fn key_scale(k: &[u8], position: usize, dim: usize, d: usize) -> f32 {
        let block = position / KEYS * KEYS;
        half_at(k, Self::key_scales_at(block, dim, d) + 2 * (position - block))
    }

    #[inline]
    fn value(v: &[u8], position: usize, dim: usize, d: usize) -> f32 {
        let level = v[Self::value_at(position, dim, d)].cast_signed();
        f32::from(level) * Self::value_scale(v, position, dim, d)
    }

    fn put_key(k: &mut [u8], position: usize, new: &[f32]) {
        let lane = position % KEYS;
        let blocks = &mut k[(position - lane) * Self::units(new.len())..];
        for (block, new) in blocks.chunks_exact_mut(BYTES * KEYS).zip(new.chunks(BLOCK)) {
            let (scale, levels) = quantized(new);
            let (scales, places) = block.split_at_mut(2 * KEYS);
            scales[2 * lane..2 * lane + 2].copy_from_slice(&scale.to_le_bytes());
            let places = places.iter_mut().skip(lane).step_by(KEYS);
            places.zip(levels).for_each(|(place, level)| *place = level.cast_unsigned());
        }
    }

    fn put_value(v: &mut [u8], position: usize, new: &[f32]) {
        let blocks = &mut v[position * Self::units(new.len())..];
        for (block, new) in blocks.chunks_exact_mut(BYTES).zip(new.chunks(BLOCK)) {
            let (scale, levels) = quantized(new);
            block[..2].copy_from_slice(&scale.to_le_bytes());
            block[2..]
                .iter_mut()
                .zip(levels)
                .for_each(|(place, level)| *place = level.cast_unsigned());
        }
    }
}

/// Quantizes up to 32 elements to a `q8_0` block: the scale and the quants, padded with zeros. The largest
/// magnitude becomes 127.
fn quantized(x: &[f32]) -> (f16, [i8; BLOCK]) {
    // 1.5 × 2²³: adding it rounds to an integer and leaves that integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let max = x.iter().fold(0_f32, |max, x| max.max(x.abs()));
    let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
    let mut levels = [0; BLOCK];
    for (level, x) in levels.iter_mut().zip(x) {
        *level = (x * inverse + MAGIC).to_bits() as i8;
    }
    (f16::from_f32(max / 127.0), levels)
}

/// Reads a little-endian f16 at `at` as f32.
#[inline]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads smaller than a block, of exactly one block, and larger; positions in two groups of sixteen keys.
    #[test]
    fn stored_values_read_back_within_the_types_precision() {
        fn check<T: Element>(allowed: f32) {
            for dim in [1, 20, 32, 80] {
                let new =
                    |position: usize, d: usize| ((position * 37 + d * 11) % 61) as f32 / 3.0 - 9.0;
                let mut k = vec![T::default(); 32 * T::units(dim)];
                let mut v = k.clone();
                for position in 0..32 {
                    let row: Vec<f32> = (0..dim).map(|d| new(position, d)).collect();
                    T::put_key(&mut k, position, &row);
                    T::put_value(&mut v, position, &row);
                }
                for position in 0..32 {
                    for d in 0..dim {
                        let off = |found: f32| (found - new(position, d)).abs();
                        assert!(
                            off(T::key(&k, position, dim, d)) <= allowed,
                            "{dim} {position} {d}"
                        );
                        assert!(
                            off(T::value(&v, position, dim, d)) <= allowed,
                            "{dim} {position} {d}"
                        );
                    }
                }
            }
        }
        check::<f32>(0.0);
        check::<f16>(0.01);
        check::<bf16>(0.05);
        // Half a quantization step, plus the rounding of the scale.
        check::<u8>(11.4 / 127.0 * 0.51 + 11.4 / 2048.0);
    }

    #[test]
    fn q8_0_blocks_match_the_reference() {
        // 32 elements, largest magnitude 12.7: the scale is 0.1 in f16, then the levels.
        let mut x = [0.0; 32];
        (x[0], x[1], x[2], x[31]) = (12.7, -12.7, 0.24, 0.26);
        let mut v = [0; BYTES];
        u8::put_value(&mut v, 0, &x);
        assert_eq!(v[..5], [0x66, 0x2e, 127, 129, 2]);
        assert_eq!(v[33], 3);
    }

    #[test]
    fn names_are_read_and_written() {
        for name in ["f16", "bf16", "f32", "q8_0"] {
            assert_eq!(name.parse::<CacheType>().unwrap().to_string(), name);
        }
        assert_eq!("q4_0".parse::<CacheType>(), Err("f16, bf16, f32 or q8_0"));
        assert_eq!((CacheType::Q8_0.bytes(64), CacheType::F16.bytes(64)), (68, 128));
    }
}
