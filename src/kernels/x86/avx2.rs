//! Products of levels with 256-bit vectors, written once and compiled for two instruction sets.
//!
//! The body differs only in how four products of unsigned and signed bytes are added to a 32-bit lane:
//! three instructions of AVX2, or one of AVX-VNNI.

#![expect(unsafe_code, reason = "vector loads from slices whose lengths are checked beside them")]

macro_rules! kernels {
    ($module:ident, $features:literal, wide levels: $wide:literal, |$acc:ident, $u:ident, $s:ident| $dot:expr) => {
        pub mod $module {
            use crate::kernels::activations::{BLOCK, Row};
            use crate::kernels::blocks::{GROUP, Group, group_bytes, is_wide, sub_of, unpack};
            use crate::kernels::panel::{PANEL_ROWS, Panel, Place};
            use std::arch::x86_64::*;
            use tealight_bundle::gguf::DType;

            /// Whether levels above 127 may be multiplied as they are; else they are made signed.
            const TAKES_WIDE: bool = $wide;
            /// Rows whose sums are in one vector.
            const LANES: usize = 8;

            /// Dot products of consecutive stored rows with one row of activations, added up in the order
            /// of [`multiply`], so that a token gets the same result alone and in a prompt.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn rows(dtype: DType, w: &[u8], x: Row<'_>, out: &mut [f32]) {
                let size = w.len() / out.len().max(1);
                for (w, out) in w.chunks((LANES * size).max(1)).zip(out.chunks_mut(LANES)) {
                    let signed = is_wide(dtype) && !TAKES_WIDE;
                    let sums = match (sub_of(dtype), signed) {
                        (32, false) => eight_rows::<32, false>(dtype, w, size, x),
                        (32, true) => eight_rows::<32, true>(dtype, w, size, x),
                        (_, false) => eight_rows::<16, false>(dtype, w, size, x),
                        (_, true) => eight_rows::<16, true>(dtype, w, size, x),
                    };
                    let mut all = [0.0; LANES];
                    // SAFETY: 8 floats, by the type; the store needs no alignment.
                    unsafe { _mm256_storeu_ps(all.as_mut_ptr(), sums) };
                    out.copy_from_slice(&all[..out.len()]);
                }
            }

            /// Up to eight rows, one in each lane.
            #[target_feature(enable = $features)]
            fn eight_rows<const SUB: usize, const SIGNED: bool>(
                dtype: DType,
                w: &[u8],
                row_bytes: usize,
                x: Row<'_>,
            ) -> __m256 {
                let last = w.len() / row_bytes - 1;
                let size = group_bytes(dtype);
                let mut groups = [Group::ZERO; LANES];
                let mut sums = _mm256_setzero_ps();
                for (index, at) in (0..row_bytes).step_by(size).enumerate() {
                    let len = size.min(row_bytes - at);
                    for (i, group) in groups.iter_mut().enumerate() {
                        // A tile that is not full repeats its last row; those results go nowhere.
                        unpack(dtype, &w[i.min(last) * row_bytes + at..][..len], group);
                    }
                    let quants: &[i8; GROUP] =
                        x.quants[GROUP * index..].first_chunk().expect("whole groups");
                    for block in 0..len / dtype.block_bytes() * dtype.block_elements() / BLOCK {
                        let x_block = GROUP / BLOCK * index + block;
                        let quants = load_i8(quants[BLOCK * block..].first_chunk().expect("eight"));
                        let mut products = [_mm256_setzero_si256(); LANES];
                        for i in 0..LANES {
                            let levels = groups[i].levels[BLOCK * block..].first_chunk();
                            let levels = load(levels.expect("eight blocks"));
                            products[i] = product::<SIGNED>(products[i], levels, quants);
                        }
                        let parts = sum_halves(products); // (halves, rows)
                        for half in 0..BLOCK / SUB {
                            let (mut scales, mut minima) = ([0.0; LANES], [0.0; LANES]);
                            for i in 0..LANES {
                                scales[i] = groups[i].scales[2 * block + half];
                                minima[i] = groups[i].mins[2 * block + half];
                            }
                            let (integers, sum) = if SUB == 32 {
                                (_mm256_add_epi32(parts[0], parts[1]), x.sums32[x_block])
                            } else {
                                (parts[half], x.sums16[2 * x_block + half])
                            };
                            let (scales, minima) = (load_f32(&scales), load_f32(&minima));
                            let term = term::<SIGNED>(integers, scales, minima, sum);
                            let scale = _mm256_set1_ps(x.scales[x_block]);
                            sums = _mm256_fmadd_ps(term, scale, sums);
                        }
                    }
                }
                sums
            }

            /// Sums of each half (sixteen columns) of eight vectors: two vectors with a row in each lane.
            #[target_feature(enable = $features)]
            #[inline]
            fn sum_halves(rows: [__m256i; LANES]) -> [__m256i; 2] {
                let mut fours = [_mm256_setzero_si256(); 2];
                for i in 0..2 {
                    let [a, b] = [rows[4 * i], rows[4 * i + 1]];
                    let [c, d] = [rows[4 * i + 2], rows[4 * i + 3]];
                    let ab =
                        _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                    let cd =
                        _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                    let (low, high) =
                        (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
                    fours[i] = _mm256_add_epi32(low, high);
                }
                [
                    _mm256_permute2x128_si256::<0x20>(fours[0], fours[1]),
                    _mm256_permute2x128_si256::<0x31>(fours[0], fours[1]),
                ]
            }

            /// Unpacks some columns of the rows of a panel.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn unpack_panel<'a>(
                dtype: DType,
                row: &dyn Fn(usize) -> &'a [u8],
                panel: &mut Panel,
            ) {
                panel.unpack(dtype, row);
            }

            /// Adds the products of a panel's `columns` with `T` rows of activations, from their column
            /// `at` on: `out[t][row]`.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply<const T: usize, const SUB: usize>(
                dtype: DType,
                panel: &Panel,
                columns: usize,
                x: [Row<'_>; T],
                at: usize,
                out: [&mut [f32; PANEL_ROWS]; T],
            ) {
                for t in 0..T {
                    assert!(
                        x[t].quants.len() >= at + columns
                            && x[t].sums16.len() >= (at + columns) / 16
                    );
                    assert!(x[t].scales.len() >= (at + columns) / BLOCK);
                    assert!(x[t].sums32.len() >= (at + columns) / BLOCK);
                }
                let signed = is_wide(dtype) && !TAKES_WIDE;
                for eight in 0..PANEL_ROWS / 8 {
                    let mut sums = [_mm256_setzero_ps(); T];
                    for t in 0..T {
                        sums[t] = load_f32(out[t][8 * eight..].first_chunk().expect("of 32"));
                    }
                    let sums = if signed {
                        multiply_eight::<T, SUB, true>(panel, 8 * eight, columns, x, at, sums)
                    } else {
                        multiply_eight::<T, SUB, false>(panel, 8 * eight, columns, x, at, sums)
                    };
                    for t in 0..T {
                        let out: &mut [f32; 8] =
                            out[t][8 * eight..].first_chunk_mut().expect("of 32");
                        // SAFETY: 8 floats, by the type; the store needs no alignment.
                        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums[t]) };
                    }
                }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn multiply_eight<const T: usize, const SUB: usize, const SIGNED: bool>(
                panel: &Panel,
                row: usize,
                columns: usize,
                x: [Row<'_>; T],
                at: usize,
                mut sums: [__m256; T],
            ) -> [__m256; T] {
                let (sixteen, part) = (row / 16 * 16, row % 16);
                for sub in 0..columns / SUB {
                    let mut integers = [_mm256_setzero_si256(); T];
                    for four in 0..SUB / 4 {
                        let column = sub * SUB + four * 4;
                        let levels = &panel.levels(column / 4, sixteen)[4 * part..];
                        let levels = load(levels.first_chunk().expect("of 64"));
                        for t in 0..T {
                            // SAFETY: within the row, by the caller's assertion.
                            let four = unsafe {
                                x[t].quants.as_ptr().add(at + column).cast::<i32>().read_unaligned()
                            };
                            integers[t] =
                                product::<SIGNED>(integers[t], levels, _mm256_set1_epi32(four));
                        }
                    }
                    let place = Place { sub, row: sixteen };
                    let scales =
                        load_f32(panel.scales(place)[part..].first_chunk().expect("of 16"));
                    let minima =
                        load_f32(panel.minima(place)[part..].first_chunk().expect("of 16"));
                    for t in 0..T {
                        let sum = if SUB == 32 {
                            x[t].sums32[at / 32 + sub]
                        } else {
                            x[t].sums16[at / 16 + sub]
                        };
                        let term = term::<SIGNED>(integers[t], scales, minima, sum);
                        let scale = _mm256_set1_ps(x[t].scales[at / BLOCK + sub * SUB / BLOCK]);
                        sums[t] = _mm256_fmadd_ps(term, scale, sums[t]);
                    }
                }
                sums
            }

            /// See [`crate::kernels::Limits`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply_registers(rounds: usize) -> usize {
                let x = std::hint::black_box(_mm256_set1_epi8(1));
                let mut sums = [_mm256_setzero_si256(); 12];
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = dot4(*sum, x, x);
                    }
                }
                std::hint::black_box(sums);
                rounds * sums.len() * 32
            }

            /// scale · integer + minimum · sum of activations; `SIGNED` levels have no minima.
            #[target_feature(enable = $features)]
            #[inline]
            fn term<const SIGNED: bool>(
                integers: __m256i,
                scales: __m256,
                minima: __m256,
                sum: f32,
            ) -> __m256 {
                let integers = _mm256_cvtepi32_ps(integers);
                if SIGNED {
                    return _mm256_mul_ps(integers, scales);
                }
                let minima = _mm256_mul_ps(minima, _mm256_set1_ps(sum));
                _mm256_fmadd_ps(integers, scales, minima)
            }

            /// Adds four products of levels and signed bytes to each lane. `SIGNED`: levels reach above
            /// 127; they are taken 128 lower, which is what their minima say, so those are left out.
            #[target_feature(enable = $features)]
            #[inline]
            fn product<const SIGNED: bool>(acc: __m256i, levels: __m256i, x: __m256i) -> __m256i {
                if SIGNED {
                    let levels = _mm256_xor_si256(levels, _mm256_set1_epi8(-128));
                    // Signs go to the activations, which reach -127 only: those of levels would overflow.
                    dot4(acc, _mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
                } else {
                    dot4(acc, levels, x)
                }
            }

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
            fn load_i8(quants: &[i8; 32]) -> __m256i {
                // SAFETY: 32 bytes, by the type; the load needs no alignment.
                unsafe { _mm256_loadu_si256(quants.as_ptr().cast()) }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn load_f32(x: &[f32; 8]) -> __m256 {
                // SAFETY: 8 floats, by the type; the load needs no alignment.
                unsafe { _mm256_loadu_ps(x.as_ptr()) }
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", wide levels: false, |acc, u, s| {
    // Pairs of products fit 16 bits: magnitudes are at most 128 × 127, twice.
    let pairs = _mm256_maddubs_epi16(u, s);
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
});
kernels!(avxvnni, "avx2,fma,f16c,avxvnni", wide levels: true, |acc, u, s| {
    _mm256_dpbusd_avx_epi32(acc, u, s)
});
