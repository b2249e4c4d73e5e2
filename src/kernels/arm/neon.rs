//! Kernels for every 64-bit ARM processor.

#![expect(
    unsafe_code,
    reason = "vector loads of arrays whose length the type says; one conversion"
)]

use crate::kernels::vectors;

vectors::decode!("neon");
vectors::tiles!("neon", quads: 2);
vectors::levels!("neon");
vectors::floats!("neon");
vectors::lanes!("neon", rows: [4 3 2 1], columns: 2);

pub use attention::{mix, scores};
pub use floats::{
    add_weighted, channels, dot_bf16, dot_f16, dot_f32, exp_sum, gate_up, quantize, rms_norm,
    silu_all,
};
pub use levels::{multiply, rows, unpack_panel};
pub use recurrence::{advance, advance_keyed};
pub use tiles::multiply_registers;

/// Vector operations of this instruction set.
pub mod operations {
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// Sixteen bytes.
    pub type Bytes = uint8x16_t;
    /// Four integers.
    pub type Integers = int32x4_t;
    /// Two numbers in each of four lanes.
    pub type Pairs = [int32x4_t; 2];
    /// Eight integers of 16 bits.
    pub type Words = int16x8_t;
    /// Four floats.
    pub type Floats = float32x4_t;

    crate::kernels::vectors::operations! { "neon"
        fn load(from: &[u8; 16]) -> Bytes {
            // SAFETY: 16 bytes, by the type; the load needs no alignment.
            unsafe { vld1q_u8(from.as_ptr()) }
        }

        fn load_signed(from: &[i8; 16]) -> Bytes {
            // SAFETY: 16 bytes, by the type; the load needs no alignment.
            unsafe { vld1q_u8(from.as_ptr().cast()) }
        }

        fn store_bytes(to: &mut [u8; 16], x: Bytes) {
            // SAFETY: 16 bytes, by the type; the store needs no alignment.
            unsafe { vst1q_u8(to.as_mut_ptr(), x) }
        }

        fn store_signed(to: &mut [i8; 16], x: Bytes) {
            // SAFETY: 16 bytes, by the type; the store needs no alignment.
            unsafe { vst1q_u8(to.as_mut_ptr().cast(), x) }
        }

        fn splat_bytes(x: u8) -> Bytes {
            vdupq_n_u8(x)
        }

        fn and(a: Bytes, b: Bytes) -> Bytes {
            vandq_u8(a, b)
        }

        fn or(a: Bytes, b: Bytes) -> Bytes {
            vorrq_u8(a, b)
        }

        /// `x >> by & mask`, byte by byte.
        fn bits(x: Bytes, by: usize, mask: u8) -> Bytes {
            vandq_u8(vshlq_u8(x, vdupq_n_s8(-(by as i8))), vdupq_n_u8(mask))
        }

        /// Shifts each byte left; no set bit may leave its byte.
        fn shift_left<const BY: i32>(x: Bytes) -> Bytes {
            vshlq_n_u8::<BY>(x)
        }

        fn look_up(table: &[u8; 16], index: Bytes) -> Bytes {
            shuffle(load(table), index)
        }

        /// The bytes at these places; zero where that is 128.
        fn shuffle(x: Bytes, index: Bytes) -> Bytes {
            vqtbl1q_u8(x, index)
        }

        /// Expands each bit to a byte, lowest first: 255 or 0.
        fn spread(bits: u16) -> Bytes {
            let [low, high] = bits.to_le_bytes();
            let bytes = vcombine_u8(vdup_n_u8(low), vdup_n_u8(high));
            vtstq_u8(bytes, vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201)))
        }

        /// Transposes 4 × 4 words of 32 bits.
        fn transpose_words(rows: [Bytes; 4]) -> [Bytes; 4] {
            let [a, b, c, d] = rows.map(|row| vreinterpretq_u32_u8(row));
            let (ab, cd) = (vtrn1q_u32(a, b), vtrn1q_u32(c, d));
            let (odd_ab, odd_cd) = (vtrn2q_u32(a, b), vtrn2q_u32(c, d));
            let [ab, cd, odd_ab, odd_cd] =
                [ab, cd, odd_ab, odd_cd].map(|x| vreinterpretq_u64_u32(x));
            [
                vtrn1q_u64(ab, cd),
                vtrn1q_u64(odd_ab, odd_cd),
                vtrn2q_u64(ab, cd),
                vtrn2q_u64(odd_ab, odd_cd),
            ]
            .map(|x| vreinterpretq_u8_u64(x))
        }

        /// Adds four products of levels and signed bytes to each lane; levels fit in an `i8`.
        fn dot(sum: Integers, levels: Bytes, x: Bytes, _signed: bool) -> Integers {
            let (levels, x) = (vreinterpretq_s8_u8(levels), vreinterpretq_s8_u8(x));
            let low = vmull_s8(vget_low_s8(levels), vget_low_s8(x));
            let high = vmull_high_s8(levels, x);
            // Pairs of products fit in 16 bits: magnitudes are at most 2 · 128 · 127.
            vpadalq_s16(sum, vpaddq_s16(low, high))
        }

        /// As [`dot`], with the four bytes of lane `LANE` of `x` in every lane.
        fn dot_lane<const LANE: i32>(sum: Integers, levels: Bytes, x: Bytes, signed: bool) -> Integers {
            let x = vdupq_laneq_u32::<LANE>(vreinterpretq_u32_u8(x));
            dot(sum, levels, vreinterpretq_u8_u32(x), signed)
        }

        fn no_integers() -> Integers {
            vdupq_n_s32(0)
        }

        /// `sum + x · by`.
        fn multiply_add(sum: Integers, x: Integers, by: i32) -> Integers {
            vmlaq_n_s32(sum, x, by)
        }

        /// `sum + x · by`, where lane `LANE` of `by` counts.
        fn multiply_add_lane<const LANE: i32>(sum: Integers, x: Integers, by: Integers) -> Integers {
            vmlaq_laneq_s32::<LANE>(sum, x, by)
        }

        fn splat_integers(x: i32) -> Integers {
            vdupq_n_s32(x)
        }

        fn load_words(from: &[i16; 8]) -> Words {
            // SAFETY: sixteen bytes, by the type; the load needs no alignment.
            unsafe { vld1q_s16(from.as_ptr()) }
        }

        fn times_words(a: Words, b: Words) -> Words {
            vmulq_s16(a, b)
        }

        /// Sixteen unsigned bytes, in 16 bits each.
        fn widen_bytes(x: Bytes) -> [Words; 2] {
            [
                vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x))),
                vreinterpretq_s16_u16(vmovl_high_u8(x)),
            ]
        }

        /// Signed bytes 0, 2, 4 and so on, then the others.
        fn even_and_odd(x: Bytes) -> [Words; 2] {
            let x = vreinterpretq_s16_u8(x);
            [vshrq_n_s16::<8>(vshlq_n_s16::<8>(x)), vshrq_n_s16::<8>(x)]
        }

        /// As it is, so that the compiler does not make every lane's number anew where it is used.
        fn kept(x: Integers) -> Integers {
            let mut x = x;
            // SAFETY: emits no instruction.
            unsafe { asm!("/* {x:v} */", x = inout(vreg) x, options(nomem, nostack, preserves_flags)) };
            x
        }

        fn widen(x: Words) -> [Integers; 2] {
            [vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x)]
        }

        /// Adds the products of eight pairs of numbers, in four parts.
        fn add_words(sum: Integers, a: Words, b: Words) -> Integers {
            vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b)
        }

        /// Scales that are there twice, for [`add_scaled`].
        fn load_scales(scales: &[[i16; 2]; 4]) -> Integers {
            // SAFETY: sixteen bytes, by the type.
            let scales = vreinterpretq_s32_s16(unsafe { vld1q_s16(scales.as_ptr().cast()) });
            vshrq_n_s32::<16>(scales)
        }

        /// `sum + x · scale · by`.
        fn add_scaled(sum: Integers, x: Integers, scales: Integers, by: i16) -> Integers {
            vmlaq_s32(sum, x, vmulq_n_s32(scales, i32::from(by)))
        }

        /// Two numbers of each lane, for [`add_pairs`].
        fn load_pairs(pairs: &[[i16; 2]; 4]) -> Pairs {
            // SAFETY: sixteen bytes, by the type.
            let pairs = vreinterpretq_s32_s16(unsafe { vld1q_s16(pairs.as_ptr().cast()) });
            [vshrq_n_s32::<16>(vshlq_n_s32::<16>(pairs)), vshrq_n_s32::<16>(pairs)]
        }

        /// Adds their products with two numbers.
        fn add_pairs(sum: Integers, pairs: Pairs, by: [i16; 2]) -> Integers {
            let sum = vmlaq_n_s32(sum, pairs[0], i32::from(by[0]));
            vmlaq_n_s32(sum, pairs[1], i32::from(by[1]))
        }

        fn minus(a: Integers, b: Integers) -> Integers {
            vsubq_s32(a, b)
        }

        /// The sum of each vector, one per lane.
        fn sum_each(x: [Integers; 4]) -> Integers {
            vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3]))
        }

        fn to_floats(x: Integers) -> Floats {
            vcvtq_f32_s32(x)
        }

        /// Sixteen signed bytes as floats.
        fn signed(x: Bytes) -> [Floats; 4] {
            let x = vreinterpretq_s8_u8(x);
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
            .map(|x| vcvtq_f32_s32(x))
        }

        /// Four f16 as floats.
        fn halves(x: [u16; 4]) -> Floats {
            // SAFETY: four halves, by the type.
            to_wide(unsafe { vld1_u16(x.as_ptr()) })
        }

        /// As [`halves`], of numbers from four places.
        fn gathered_halves(x: [u16; 4]) -> Floats {
            let [a, b, c, d] = x;
            let all = u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48;
            to_wide(vcreate_u16(all))
        }

        fn to_wide(halves: uint16x4_t) -> Floats {
            let floats: Floats;
            // SAFETY: one baseline ARMv8 instruction, on registers only, whose intrinsic needs a newer compiler than the
            // rest.
            unsafe {
                asm!(
                    "fcvtl {floats:v}.4s, {halves:v}.4h",
                    floats = lateout(vreg) floats,
                    halves = in(vreg) halves,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            floats
        }

        /// Four bf16 as floats.
        fn upper_halves(x: [u16; 4]) -> Floats {
            // SAFETY: four halves, by the type.
            let halves = unsafe { vld1_u16(x.as_ptr()) };
            vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))
        }

        fn zero() -> Floats {
            vdupq_n_f32(0.0)
        }

        fn splat(x: f32) -> Floats {
            vdupq_n_f32(x)
        }

        fn load_floats(from: &[f32; 4]) -> Floats {
            // SAFETY: four floats, by the type; the load needs no alignment.
            unsafe { vld1q_f32(from.as_ptr()) }
        }

        fn store(to: &mut [f32; 4], x: Floats) {
            // SAFETY: four floats, by the type; the store needs no alignment.
            unsafe { vst1q_f32(to.as_mut_ptr(), x) }
        }

        fn plus(a: Floats, b: Floats) -> Floats {
            vaddq_f32(a, b)
        }

        fn times(a: Floats, b: Floats) -> Floats {
            vmulq_f32(a, b)
        }

        fn add_product(sum: Floats, a: Floats, b: Floats) -> Floats {
            vfmaq_f32(sum, a, b)
        }

        /// Rounds sixteen floats to signed bytes, as the activations' `quantize` does.
        fn rounded(x: [Floats; 4]) -> Bytes {
            // Adding 1.5 × 2²³ leaves the integer in the low bits of the sum.
            let [a, b, c, d] =
                x.map(|x| vreinterpretq_u16_f32(vaddq_f32(x, vdupq_n_f32(12_582_912.0))));
            let (low, high) = (vuzp1q_u16(a, b), vuzp1q_u16(c, d));
            vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high))
        }

        /// The sum of sixteen signed bytes.
        fn sum_signed(x: Bytes) -> i32 {
            i32::from(vaddlvq_s8(vreinterpretq_s8_u8(x)))
        }
    }
}
