//! What the products of stored rows with one token share at both widths: how rows are divided into spans, prefetched
//! and distributed over tiles.
//!
//! Macros, not generic functions: with those, generation on AVX2 measured three to six percent slower (0.5B, Zen 4).

/// Bytes of a cache line.
pub const LINE: usize = 64;
/// Prefetch distance in bytes: crosses into the next page early enough for its address to be translated.
pub const FAR: usize = 1536;
/// Prefetch distance in bytes from L2 into L1; L2 can wait for more lines. Small blocks have fewer columns per line:
/// prefetching them twice costs more than it saves, unless they certainly come from memory.
pub const NEAR: usize = 1024;
/// Bytes above which a matrix doesn't stay in cache until the next token.
pub const LARGE: usize = 64 << 20;

/// Prefetches what follows `$bytes` bytes at `$span`: in one step into L1, or into L2 first and from there into L1.
macro_rules! prefetch {
    ($span:expr, $bytes:expr, $two_steps:expr) => {
        for line in 0..$bytes.div_ceil($crate::kernels::x86::frame::LINE) {
            let line = $span.wrapping_add($crate::kernels::x86::frame::LINE * line);
            let far = line.wrapping_add($crate::kernels::x86::frame::FAR).cast();
            if $two_steps {
                let near = line.wrapping_add($crate::kernels::x86::frame::NEAR).cast();
                _mm_prefetch::<_MM_HINT_T1>(far);
                _mm_prefetch::<_MM_HINT_T0>(near);
            } else {
                _mm_prefetch::<_MM_HINT_T0>(far);
            }
        }
    };
}
pub(super) use prefetch;

/// Defines `Rows`, the stored rows of a matrix, and `tiles`, which multiplies all of them. The file has `Quad`, `Dot`,
/// `TERMS`, `prepare` and `tile`.
macro_rules! frame {
    (features: $features:tt, vectors: $quants:ty, $floats:ty, $zero:ident, quads: $quads:literal,
        span_bytes: $span_bytes:expr, small_span: $small:literal, span_bytes_max: $most:expr) => {
        /// Buffers that a thread keeps for its next call: allocating them takes as long as a few rows.
        #[derive(Default)]
        struct Scratch {
            /// Id of the prepared row of activations (see [`Row::id`]), and the type it was prepared for.
            of: Option<(u64, DType)>,
            /// See [`prepare`].
            prepared: Vec<$quants>,
            /// Terms of the sub-blocks, (units, quads).
            terms: Vec<$floats>,
        }

        thread_local! {
            static SCRATCH: Cell<Scratch> = Cell::default();
        }

        /// The stored rows of a matrix.
        struct Rows<'a, D> {
            w: &'a [u8],
            row_bytes: usize,
            /// Whole spans in a row.
            whole: usize,
            /// Whether to prefetch into L2 first, then into L1.
            two_steps: bool,
            /// Copies of the partial spans at the end of the matrix, padded with zeros.
            rest: [[u8; $most]; 4],
            decode: PhantomData<D>,
        }

        impl<'a, D: Quad> Rows<'a, D> {
            const SPAN_BYTES: usize = $span_bytes;

            fn of(runs: Runs<'a>) -> Self {
                let Runs { w, row_bytes, .. } = runs;
                let whole = row_bytes / Self::SPAN_BYTES;
                let two_steps = D::SPAN > $small || w.len() > $crate::kernels::x86::frame::LARGE;
                Self { w, row_bytes, whole, two_steps, rest: [[0; $most]; 4], decode: PhantomData }
            }

            fn columns(&self) -> usize {
                self.row_bytes * D::SPAN / Self::SPAN_BYTES
            }

            /// Whether reading the partial last span of a row as a whole one would overrun the matrix. Otherwise it
            /// reads into the next row, whose part is not summed.
            #[inline]
            fn overruns(&self, rows: [usize; 4]) -> bool {
                let last = rows.into_iter().max().unwrap_or(0);
                last * self.row_bytes + (self.whole + 1) * Self::SPAN_BYTES > self.w.len()
            }

            /// Padded copies of those spans.
            #[cold]
            fn last_span(&mut self, rows: [usize; 4]) -> [*const u8; 4] {
                for (rest, row) in self.rest.iter_mut().zip(rows) {
                    let row = &self.w[row * self.row_bytes..][..self.row_bytes];
                    let row = &row[self.whole * Self::SPAN_BYTES..];
                    rest[..row.len()].copy_from_slice(row);
                }
                self.rest.each_ref().map(|rest| rest.as_ptr())
            }
        }

        /// Multiplies all rows, one of each quad in each run at a time.
        #[target_feature(enable = $features)]
        #[inline]
        fn tiles<D: Quad, P: Dot>(
            dtype: DType,
            runs: Runs<'_>,
            x: Row<'_>,
            out: &mut [&mut [f32]; 4],
        ) {
            let mut stored = Rows::<D>::of(runs);
            let spans = stored.columns().div_ceil(D::SPAN);
            let Scratch { of, mut prepared, mut terms } = SCRATCH.take();
            let this = Some((x.id, dtype));
            if of != this {
                prepare::<D>(x, spans, &mut prepared);
            }
            let size = TERMS.min($quads * D::UNITS * spans);
            if terms.len() < size {
                terms.resize(size, $zero());
            }
            let last = (runs.w.len() / runs.row_bytes).saturating_sub(1);
            let count = out.iter().map(|out| out.len()).max().unwrap_or(0);
            for at in (0..count).step_by($quads) {
                // Shorter runs compute rows beyond their end; those results are dropped.
                let streams = runs.first.map(|first| (first + at).min(last));
                // SAFETY: the processor has these instructions.
                let sums = unsafe {
                    tile::<D, P>(&mut stored, streams, last, &prepared, x.scales, &mut terms)
                };
                for (out, sums) in out.iter_mut().zip(sums) {
                    for (out, sum) in out.iter_mut().skip(at).zip(sums) {
                        *out = sum;
                    }
                }
            }
            SCRATCH.set(Scratch { of: this, prepared, terms });
        }
    };
}
pub(super) use frame;
