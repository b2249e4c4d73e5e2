//! x86-64 dot products of quantized weights with 256-bit vectors, written once and compiled for three instruction sets.
//!
//! The body differs only in how four products of unsigned and signed bytes are added to a 32-bit
//! lane: two AVX2 instructions, or one of AVX-VNNI or AVX-512 VNNI. Weights are decoded once per
//! block and used for up to four rows of activations, which is what makes a prompt cheaper than the
//! same number of single tokens.

#![expect(unsafe_code, reason = "vector loads from slices whose lengths are checked beside them")]

macro_rules! kernels {
    ($module:ident, $features:literal, |$acc:ident, $u:ident, $s:ident| $dot:expr) => {
        pub mod $module {
            use crate::kernels::activations::{Activations, GROUP, Row, SMALL, SUPER};
            use crate::kernels::blocks::{half_at, k4_scales, u32_at};
            use crate::kernels::scalar;
            use std::arch::x86_64::*;
            use tealight_bundle::gguf::DType;

            /// The dot products of one weight row with all rows of `x`: `put(row, value)`.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn row(
                dtype: DType,
                w: &[u8],
                x: &Activations,
                mut put: impl FnMut(usize, f32),
            ) {
                let mut at = 0;
                while at + 4 <= x.rows {
                    let rows = [x.row(at), x.row(at + 1), x.row(at + 2), x.row(at + 3)];
                    for (i, value) in dot::<4>(dtype, w, rows).into_iter().enumerate() {
                        put(at + i, value);
                    }
                    at += 4;
                }
                while at < x.rows {
                    put(at, dot::<1>(dtype, w, [x.row(at)])[0]);
                    at += 1;
                }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn dot<const M: usize>(dtype: DType, w: &[u8], x: [Row<'_>; M]) -> [f32; M] {
                match dtype {
                    DType::F32 => dot_f32(w, x),
                    DType::F16 => dot_f16(w, x),
                    DType::BF16 => dot_bf16(w, x),
                    DType::Q4_0 => dot_small(w, x, 18, |b| q4_0(b)),
                    DType::Q4_1 => dot_small_min(w, x, 20, |b| q4_1(b)),
                    DType::Q5_0 => dot_small(w, x, 22, |b| q5_0(b)),
                    DType::Q5_1 => dot_small_min(w, x, 24, |b| q5_1(b)),
                    DType::Q8_0 => dot_small(w, x, 34, |b| q8_0(b)),
                    DType::Q4_K => dot_k45::<M, false>(w, x),
                    DType::Q5_K => dot_k45::<M, true>(w, x),
                    DType::Q6_K => dot_q6k(w, x),
                    _ => x.map(|x| scalar::dot(dtype, w, x)),
                }
            }

            /// Adds four-byte products to 32-bit lanes; `u` unsigned (0 to 128), `s` signed.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot4($acc: __m256i, $u: __m256i, $s: __m256i) -> __m256i {
                $dot
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn load(bytes: &[u8; 32]) -> __m256i {
                // SAFETY: 32 bytes, by the type; the load needs no alignment.
                unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn load_i8(quants: &[i8], at: usize) -> __m256i {
                let quants: &[i8; 32] = quants[at..].first_chunk().expect("whole blocks");
                // SAFETY: 32 bytes, by the type; the load needs no alignment.
                unsafe { _mm256_loadu_si256(quants.as_ptr().cast()) }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn load_f32(x: &[f32; 8]) -> __m256 {
                // SAFETY: 8 floats, by the type; the load needs no alignment.
                unsafe { _mm256_loadu_ps(x.as_ptr()) }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn sum(v: __m256) -> f32 {
                let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn half_to_f32(block: &[u8], at: usize) -> f32 {
                let bits = i32::from(u16::from_le_bytes([block[at], block[at + 1]]));
                _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
            }

            /// 16 packed bytes as 32 levels of four bits: the low halves, then the high ones.
            #[target_feature(enable = $features)]
            #[inline]
            fn nibbles(qs: &[u8]) -> __m256i {
                let qs: &[u8; 16] = qs.first_chunk().expect("a block holds 16 bytes of nibbles");
                // SAFETY: 16 bytes, by the type; the load needs no alignment.
                let packed = unsafe { _mm_loadu_si128(qs.as_ptr().cast()) };
                let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
                _mm256_and_si256(both, _mm256_set1_epi8(15))
            }

            /// 32 bits as 32 bytes of 0 or 255.
            #[target_feature(enable = $features)]
            #[inline]
            fn spread_bits(bits: u32) -> __m256i {
                let word = _mm256_set1_epi32(bits as i32);
                let each = _mm256_setr_epi64x(
                    0,
                    0x0101_0101_0101_0101,
                    0x0202_0202_0202_0202,
                    0x0303_0303_0303_0303,
                );
                let byte = _mm256_shuffle_epi8(word, each);
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                _mm256_cmpeq_epi8(_mm256_and_si256(byte, bit), bit)
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn q4_0(block: &[u8]) -> __m256i {
                _mm256_sub_epi8(nibbles(&block[2..]), _mm256_set1_epi8(8))
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn q4_1(block: &[u8]) -> __m256i {
                nibbles(&block[4..])
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn q5_0(block: &[u8]) -> __m256i {
                // Without the fifth bit the value is the nibble minus 16: its upper bits are ones.
                let unset =
                    _mm256_andnot_si256(spread_bits(u32_at(block, 2)), _mm256_set1_epi8(-16));
                _mm256_or_si256(nibbles(&block[6..]), unset)
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn q5_1(block: &[u8]) -> __m256i {
                let set = _mm256_and_si256(spread_bits(u32_at(block, 4)), _mm256_set1_epi8(16));
                _mm256_or_si256(nibbles(&block[8..]), set)
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn q8_0(block: &[u8]) -> __m256i {
                load(block[2..].first_chunk().expect("a block holds 32 quants"))
            }

            /// Blocks of 32 signed levels and one scale.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot_small<const M: usize>(
                w: &[u8],
                x: [Row<'_>; M],
                block_bytes: usize,
                decode: impl Fn(&[u8]) -> __m256i,
            ) -> [f32; M] {
                let mut acc = [_mm256_setzero_ps(); M];
                for (i, block) in w.chunks_exact(block_bytes).enumerate() {
                    let q = decode(block);
                    let magnitude = _mm256_abs_epi8(q);
                    let d = half_to_f32(block, 0);
                    for m in 0..M {
                        let quants = load_i8(x[m].quants, i * SMALL);
                        let signed = _mm256_sign_epi8(quants, q);
                        let integer = dot4(_mm256_setzero_si256(), magnitude, signed);
                        let scale = _mm256_set1_ps(d * x[m].scales[i]);
                        acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), scale, acc[m]);
                    }
                }
                acc.map(|v| sum(v))
            }

            /// Blocks of 32 unsigned levels with a scale and a minimum.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot_small_min<const M: usize>(
                w: &[u8],
                x: [Row<'_>; M],
                block_bytes: usize,
                decode: impl Fn(&[u8]) -> __m256i,
            ) -> [f32; M] {
                let mut acc = [_mm256_setzero_ps(); M];
                let mut minimum = [0_f32; M];
                for (i, block) in w.chunks_exact(block_bytes).enumerate() {
                    let q = decode(block);
                    let (d, min) = (half_to_f32(block, 0), half_to_f32(block, 2));
                    for m in 0..M {
                        let quants = load_i8(x[m].quants, i * SMALL);
                        let integer = dot4(_mm256_setzero_si256(), q, quants);
                        let scale = _mm256_set1_ps(d * x[m].scales[i]);
                        acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), scale, acc[m]);
                        minimum[m] += min * x[m].offsets[i];
                    }
                }
                std::array::from_fn(|m| sum(acc[m]) + minimum[m])
            }

            /// `Q4_K`, and `Q5_K` with its 32 bytes of fifth bits.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot_k45<const M: usize, const FIFTH: bool>(w: &[u8], x: [Row<'_>; M]) -> [f32; M] {
                let mut acc = [_mm256_setzero_ps(); M];
                let mut minimum = [0_f32; M];
                let low = _mm256_set1_epi8(15);
                let bytes = if FIFTH { 176 } else { 144 };
                for (i, block) in w.chunks_exact(bytes).enumerate() {
                    let (scales, mins) = k4_scales(&block[4..16]);
                    let (d, dmin) = (half_to_f32(block, 0), half_to_f32(block, 2));
                    let mut integer = [_mm256_setzero_si256(); M];
                    let levels = if FIFTH { &block[48..] } else { &block[16..] };
                    let fifths = if FIFTH {
                        load(block[16..].first_chunk().expect("32 bytes of fifth bits"))
                    } else {
                        _mm256_setzero_si256()
                    };
                    for pair in 0..4 {
                        let packed =
                            load(levels[32 * pair..].first_chunk().expect("128 bytes of nibbles"));
                        let mut halves = [
                            _mm256_and_si256(packed, low),
                            _mm256_and_si256(_mm256_srli_epi16::<4>(packed), low),
                        ];
                        if FIFTH {
                            for (h, q) in halves.iter_mut().enumerate() {
                                let bit = _mm256_set1_epi8((1_u8 << (2 * pair + h)) as i8);
                                let set = _mm256_cmpeq_epi8(_mm256_and_si256(fifths, bit), bit);
                                *q = _mm256_or_si256(
                                    *q,
                                    _mm256_and_si256(set, _mm256_set1_epi8(16)),
                                );
                            }
                        }
                        for (h, q) in halves.into_iter().enumerate() {
                            let sub = 2 * pair + h;
                            let scale = _mm256_set1_epi32(i32::from(scales[sub]));
                            for m in 0..M {
                                let quants = load_i8(x[m].quants, i * SUPER + sub * 32);
                                let part = dot4(_mm256_setzero_si256(), q, quants);
                                integer[m] =
                                    _mm256_add_epi32(integer[m], _mm256_mullo_epi32(part, scale));
                            }
                        }
                    }
                    for m in 0..M {
                        let scale = x[m].scales[i];
                        let value = _mm256_cvtepi32_ps(integer[m]);
                        acc[m] = _mm256_fmadd_ps(value, _mm256_set1_ps(d * scale), acc[m]);
                        let sums = &x[m].sums[i * SUPER / GROUP..][..16];
                        let mut min = 0_i32;
                        for s in 0..8 {
                            min += i32::from(mins[s])
                                * (i32::from(sums[2 * s]) + i32::from(sums[2 * s + 1]));
                        }
                        minimum[m] -= dmin * scale * min as f32;
                    }
                }
                std::array::from_fn(|m| sum(acc[m]) + minimum[m])
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn dot_q6k<const M: usize>(w: &[u8], x: [Row<'_>; M]) -> [f32; M] {
                let mut acc = [_mm256_setzero_ps(); M];
                let mut offset = [0_f32; M];
                let (low4, low2) = (_mm256_set1_epi8(15), _mm256_set1_epi8(3));
                for (i, block) in w.chunks_exact(210).enumerate() {
                    let d = half_to_f32(block, 208);
                    let scales: [i32; 16] =
                        std::array::from_fn(|g| i32::from(block[192 + g] as i8));
                    let mut integer = [_mm256_setzero_si256(); M];
                    for half in 0..2 {
                        let ql: [__m256i; 2] = std::array::from_fn(|h| {
                            load(
                                block[64 * half + 32 * h..]
                                    .first_chunk()
                                    .expect("128 bytes of low bits"),
                            )
                        });
                        let qh = load(
                            block[128 + 32 * half..].first_chunk().expect("64 bytes of high bits"),
                        );
                        let high = [
                            qh,
                            _mm256_srli_epi16::<2>(qh),
                            _mm256_srli_epi16::<4>(qh),
                            _mm256_srli_epi16::<6>(qh),
                        ];
                        for part in 0..4 {
                            let nibble = if part < 2 {
                                ql[part]
                            } else {
                                _mm256_srli_epi16::<4>(ql[part - 2])
                            };
                            let q = _mm256_or_si256(
                                _mm256_and_si256(nibble, low4),
                                _mm256_slli_epi16::<4>(_mm256_and_si256(high[part], low2)),
                            );
                            let group = 8 * half + 2 * part;
                            let scale = _mm256_set_m128i(
                                _mm_set1_epi32(scales[group + 1]),
                                _mm_set1_epi32(scales[group]),
                            );
                            for m in 0..M {
                                let quants =
                                    load_i8(x[m].quants, i * SUPER + half * 128 + part * 32);
                                let products = dot4(_mm256_setzero_si256(), q, quants);
                                integer[m] = _mm256_add_epi32(
                                    integer[m],
                                    _mm256_mullo_epi32(products, scale),
                                );
                            }
                        }
                    }
                    for m in 0..M {
                        let scale = d * x[m].scales[i];
                        acc[m] = _mm256_fmadd_ps(
                            _mm256_cvtepi32_ps(integer[m]),
                            _mm256_set1_ps(scale),
                            acc[m],
                        );
                        // Levels are stored 32 too high.
                        let sums = &x[m].sums[i * SUPER / GROUP..][..16];
                        let total: i32 =
                            scales.iter().zip(sums).map(|(&s, &b)| s * i32::from(b)).sum();
                        offset[m] -= scale * (32 * total) as f32;
                    }
                }
                std::array::from_fn(|m| sum(acc[m]) + offset[m])
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn dot_f32<const M: usize>(w: &[u8], x: [Row<'_>; M]) -> [f32; M] {
                dot_chunks::<M, 4>(
                    w,
                    x,
                    |w| {
                        let w: &[u8; 32] = w.first_chunk().expect("8 floats");
                        _mm256_castsi256_ps(load(w))
                    },
                    |w| f32::from_le_bytes([w[0], w[1], w[2], w[3]]),
                )
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn dot_f16<const M: usize>(w: &[u8], x: [Row<'_>; M]) -> [f32; M] {
                dot_chunks::<M, 2>(
                    w,
                    x,
                    |w| {
                        let w: &[u8; 16] = w.first_chunk().expect("8 halves");
                        // SAFETY: 16 bytes, by the type; the load needs no alignment.
                        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(w.as_ptr().cast()) })
                    },
                    |w| half_at(w, 0),
                )
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn dot_bf16<const M: usize>(w: &[u8], x: [Row<'_>; M]) -> [f32; M] {
                dot_chunks::<M, 2>(
                    w,
                    x,
                    |w| {
                        let w: &[u8; 16] = w.first_chunk().expect("8 bfloats");
                        // SAFETY: 16 bytes, by the type; the load needs no alignment.
                        let halves = unsafe { _mm_loadu_si128(w.as_ptr().cast()) };
                        let bits = _mm256_cvtepu16_epi32(halves);
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
                    },
                    |w| half::bf16::from_le_bytes([w[0], w[1]]).to_f32(),
                )
            }

            /// Eight floats a step, the rest one by one.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot_chunks<const M: usize, const SIZE: usize>(
                w: &[u8],
                x: [Row<'_>; M],
                eight: impl Fn(&[u8]) -> __m256,
                one: impl Fn(&[u8]) -> f32,
            ) -> [f32; M] {
                let mut acc = [_mm256_setzero_ps(); M];
                let mut chunks = w.chunks_exact(8 * SIZE);
                let mut at = 0;
                for chunk in chunks.by_ref() {
                    let w = eight(chunk);
                    for m in 0..M {
                        let x = x[m].floats[at..].first_chunk().expect("as long as the weights");
                        acc[m] = _mm256_fmadd_ps(w, load_f32(x), acc[m]);
                    }
                    at += 8;
                }
                let mut out = acc.map(|v| sum(v));
                for w in chunks.remainder().chunks_exact(SIZE) {
                    let w = one(w);
                    for m in 0..M {
                        out[m] += w * x[m].floats[at];
                    }
                    at += 1;
                }
                out
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", |acc, u, s| {
    // Pairs of products fit 16 bits with saturation out of reach: 128 × 127 × 2 < 2¹⁵.
    let pairs = _mm256_maddubs_epi16(u, s);
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
});
kernels!(avxvnni, "avx2,fma,f16c,avxvnni", |acc, u, s| _mm256_dpbusd_avx_epi32(acc, u, s));
kernels!(avx512vnni, "avx2,fma,f16c,avx512vnni,avx512vl,avx512bw", |acc, u, s| {
    _mm256_dpbusd_epi32(acc, u, s)
});
