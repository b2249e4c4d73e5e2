//! Kernels on floats: the gate, the softmax, quantizing and products of floats.

/// Defines the module `floats` of an instruction set from its `operations`.
macro_rules! floats {
    ($features:literal) => {
        /// Kernels on floats.
        mod floats {
            use super::operations::*;
            use crate::kernels::activations::{BLOCK, Round};
            use half::{bf16, f16};

            crate::kernels::float::compiled!($features, round: Rounded);

            /// Rounds sixteen floats at a time.
            pub struct Rounded;

            impl Round for Rounded {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn round(
                    x: &[f32; BLOCK],
                    inverse: f32,
                    quants: &mut [i8; BLOCK],
                ) -> [i16; 2] {
                    let (inverse, mut sums) = (splat(inverse), [0; 2]);
                    let halves = x.as_chunks::<4>().0.as_chunks::<4>().0;
                    for (half, fours) in halves.iter().enumerate() {
                        let mut scaled = [zero(); 4];
                        for (scaled, four) in scaled.iter_mut().zip(fours) {
                            *scaled = times(load_floats(four), inverse);
                        }
                        let rounded = rounded(scaled);
                        store_signed(&mut quants.as_chunks_mut().0[half], rounded);
                        sums[half] = sum_signed(rounded) as i16;
                    }
                    sums
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
