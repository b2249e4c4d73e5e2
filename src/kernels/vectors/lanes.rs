//! The inner loops of attention and of recurrences, and their operations: sixteen floats are four 128-bit vectors.

/// Defines the modules `attention` and `recurrence` of an instruction set from its `operations`; `rows` lists the numbers
/// of query rows processed together, `columns` says how many times sixteen columns of a state are: as many as its
/// registers hold.
macro_rules! lanes {
    ($features:literal, rows: $rows:tt, columns: $columns:literal) => {
        /// The two inner loops of attention.
        mod attention {
            crate::kernels::attention::lanes!($features, super::lanes, at_once: 1, rows: $rows);
        }

        /// The inner loop of recurrences.
        mod recurrence {
            crate::kernels::recurrence::lanes!($features, super::lanes, at_once: $columns);
        }

        /// Operations on sixteen floats.
        mod lanes {
            use super::operations as four;
            use super::operations::Floats;

            /// Sixteen floats.
            pub type Lanes = [Floats; 4];

            crate::kernels::vectors::operations! { $features
                fn zero() -> Lanes {
                    [four::zero(); 4]
                }

                fn splat(x: f32) -> Lanes {
                    [four::splat(x); 4]
                }

                fn product(a: Lanes, b: Lanes) -> Lanes {
                    let mut out = a;
                    for i in 0..4 {
                        out[i] = four::times(a[i], b[i]);
                    }
                    out
                }

                fn add_product(sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
                    let mut out = sum;
                    for i in 0..4 {
                        out[i] = four::add_product(sum[i], a[i], b[i]);
                    }
                    out
                }

                fn load(from: &[f32; 16]) -> Lanes {
                    let mut out = zero();
                    for (out, from) in out.iter_mut().zip(from.as_chunks().0) {
                        *out = four::load_floats(from);
                    }
                    out
                }

                fn store(to: &mut [f32; 16], x: Lanes) {
                    for (to, x) in to.as_chunks_mut().0.iter_mut().zip(x) {
                        four::store(to, x);
                    }
                }

                fn from_f16(from: &[u16; 16]) -> Lanes {
                    let mut out = zero();
                    for (out, from) in out.iter_mut().zip(from.as_chunks().0) {
                        *out = four::halves(*from);
                    }
                    out
                }

                fn from_bf16(from: &[u16; 16]) -> Lanes {
                    let mut out = zero();
                    for (out, from) in out.iter_mut().zip(from.as_chunks().0) {
                        *out = four::upper_halves(*from);
                    }
                    out
                }

                fn from_i8(from: &[i8; 16]) -> Lanes {
                    four::signed(four::load_signed(from))
                }
            }
        }
    };
}

pub(in crate::kernels) use lanes;
