//! Kernels on floats: the gate, the softmax, quantization and products of floats.

/// Defines the module `floats` of an instruction set from its `operations`.
macro_rules! floats {
    ($features:literal) => {
        /// Kernels on floats.
        mod floats {
            use super::operations::*;
            use crate::kernels::activations::{BLOCK, RowMut};
            use half::{bf16, f16};

            crate::kernels::float::compiled!($features);

            /// Bit-identical to [`crate::kernels::activations::quantize`], which defines it.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn quantize(x: &[f32], row: &mut RowMut<'_>) {
                for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                    let mut fours = [zero(); BLOCK / 4];
                    for (four, x) in fours.iter_mut().zip(x.as_chunks().0) {
                        *four = load_floats(x);
                    }
                    let max = largest_magnitude(fours);
                    let scale = max / 127.0;
                    let inverse = splat(if max == 0.0 { 0.0 } else { 127.0 / max });
                    let out: &mut [i8; BLOCK] =
                        row.quants[BLOCK * block..].first_chunk_mut().expect("as long as x");
                    let mut sums = [0; 2];
                    for (i, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                        let scaled = |j: usize| times(fours[4 * i + j], inverse);
                        let quants = rounded([scaled(0), scaled(1), scaled(2), scaled(3)]);
                        store_signed(out, quants);
                        sums[i] = sum_signed(quants);
                    }
                    row.scales[block] = scale;
                    row.sums32[block] = (sums[0] + sums[1]) as f32;
                    row.sums16[2 * block] = sums[0] as f32;
                    row.sums16[2 * block + 1] = sums[1] as f32;
                }
            }

            /// Dot products of a stored row of f32 with `M` rows of activations.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn dot_f32<const M: usize>(w: &[u8], x: [&[f32]; M]) -> [f32; M] {
                let four = |w: &[[u8; 4]; 4]| load_floats(&w.map(f32::from_le_bytes));
                dot_chunks(w, x, four, f32::from_le_bytes)
            }

            /// Dot products of a stored row of f16 with `M` rows of activations.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn dot_f16<const M: usize>(w: &[u8], x: [&[f32]; M]) -> [f32; M] {
                let four = |w: &[[u8; 2]; 4]| halves(w.map(u16::from_le_bytes));
                dot_chunks(w, x, four, |w| f16::from_le_bytes(w).to_f32())
            }

            /// Dot products of a stored row of bf16 with `M` rows of activations.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn dot_bf16<const M: usize>(w: &[u8], x: [&[f32]; M]) -> [f32; M] {
                let four = |w: &[[u8; 2]; 4]| upper_halves(w.map(u16::from_le_bytes));
                dot_chunks(w, x, four, |w| bf16::from_le_bytes(w).to_f32())
            }

            /// Eight floats per step, then the rest one by one.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot_chunks<const M: usize, const SIZE: usize>(
                w: &[u8],
                x: [&[f32]; M],
                four: impl Fn(&[[u8; SIZE]; 4]) -> Floats,
                one: impl Fn([u8; SIZE]) -> f32,
            ) -> [f32; M] {
                let mut sums = [[zero(); 2]; M];
                let (chunks, rest) = w.as_chunks::<SIZE>().0.as_chunks::<8>();
                for (i, chunk) in chunks.iter().enumerate() {
                    let w = chunk.as_chunks().0;
                    let w = [four(&w[0]), four(&w[1])];
                    for m in 0..M {
                        let x = x[m][8 * i..][..8].as_chunks().0;
                        for half in 0..2 {
                            let x = load_floats(&x[half]);
                            sums[m][half] = add_product(sums[m][half], w[half], x);
                        }
                    }
                }
                let mut out = [0.0; M];
                for m in 0..M {
                    let mut lanes = [0.0; 4];
                    store(&mut lanes, plus(sums[m][0], sums[m][1]));
                    out[m] = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
                }
                for (i, &w) in rest.iter().enumerate() {
                    let w = one(w);
                    for m in 0..M {
                        out[m] += w * x[m][8 * chunks.len() + i];
                    }
                }
                out
            }
        }
    };
}

pub(in crate::kernels) use floats;
