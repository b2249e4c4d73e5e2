//! Decodes the common types into vectors of levels and factors.

/// Defines the module `decode` of an instruction set from its `operations`.
macro_rules! decode {
    ($features:literal) => {
        /// Decodes the bytes of each common type into vectors.
        #[allow(non_camel_case_types, reason = "types are named as the field writes them")]
        pub mod decode {
            use super::operations::*;
            use crate::kernels::activations::BLOCK;
            use crate::kernels::blocks::{E2M1_LEVELS, GROUP, Group, IQ4_LEVELS, SUB};
            use crate::kernels::blocks::{half_at, half_power_of_two, k3_scales, k4_scales};

            /// Rows processed together, one per lane of their sums.
            pub const LANES: usize = 4;
            /// [`IQ4_LEVELS`] as signed bytes, without their offset.
            const IQ4_SIGNED: [u8; 16] = {
                let mut signed = IQ4_LEVELS;
                let mut i = 0;
                while i < 16 {
                    signed[i] ^= 0x80;
                    i += 1;
                }
                signed
            };

            /// Scales and mins of a group of four rows, (sub-blocks, rows).
            pub struct Factors {
                pub scales: [Floats; GROUP / SUB],
                pub minima: [Floats; GROUP / SUB],
            }

            /// Decodes a type's bytes into vectors.
            pub trait Decode {
                /// Bytes of a block of 32 columns, or of a super-block.
                const BYTES: usize;
                /// Columns of that block.
                const COLUMNS: usize;
                /// Columns that share a scale: 16 or 32.
                const SUB: usize;
                /// Whether levels are signed and have no mins; unsigned levels are at most 127.
                const SIGNED: bool;

                /// The levels of columns `32 · block ..` of the group at `b`.
                ///
                /// # Safety
                /// The processor has the instruction set of this module; `b` points to blocks that contain the columns.
                unsafe fn levels(b: *const u8, block: usize) -> [Bytes; 2];

                /// Scales and mins of the first `blocks` × 32 columns of the groups at `b`.
                ///
                /// # Safety
                /// As for `levels`.
                unsafe fn factors(b: [*const u8; LANES], blocks: usize, to: &mut Factors);
            }

            impl Factors {
                /// All zero.
                #[target_feature(enable = $features)]
                #[inline]
                pub fn zero() -> Self {
                    Self { scales: [zero(); GROUP / SUB], minima: [zero(); GROUP / SUB] }
                }
            }

            /// Decodes an already unpacked [`Group`].
            pub struct Unpacked<const COLUMNS_OF_SUB: usize>;

            #[expect(clippy::cast_ptr_alignment, reason = "the pointers were made of groups")]
            impl<const COLUMNS_OF_SUB: usize> Decode for Unpacked<COLUMNS_OF_SUB> {
                const BYTES: usize = size_of::<Group>();
                const COLUMNS: usize = GROUP;
                const SUB: usize = COLUMNS_OF_SUB;
                // Types whose levels exceed 127 have their own decoders.
                const SIGNED: bool = false;

                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn levels(b: *const u8, block: usize) -> [Bytes; 2] {
                    // SAFETY: the pointer is that of a group.
                    let group = unsafe { &*b.cast::<Group>() };
                    let levels = group.levels[BLOCK * block..][..BLOCK].as_chunks().0;
                    [load(&levels[0]), load(&levels[1])]
                }

                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn factors(b: [*const u8; LANES], blocks: usize, to: &mut Factors) {
                    // SAFETY: the pointers are those of groups.
                    let groups = b.map(|b| unsafe { &*b.cast::<Group>() });
                    for sub in 0..blocks * BLOCK / COLUMNS_OF_SUB {
                        let at = sub * COLUMNS_OF_SUB / SUB;
                        to.scales[sub] = load_floats(&groups.map(|group| group.scales[at]));
                        to.minima[sub] = load_floats(&groups.map(|group| group.mins[at]));
                    }
                }
            }

            $crate::kernels::vectors::types! { $features
                Q4_0: 18 bytes of 32 columns, scales of 32, signed: false;
                levels(b, block) { nibbles(b.add(18 * block + 2)) }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        let d = halves_at(b, 18 * block);
                        (to.scales[block], to.minima[block]) = (d, times(d, splat(-8.0)));
                    }
                }

                Q4_1: 20 bytes of 32 columns, scales of 32, signed: false;
                levels(b, block) { nibbles(b.add(20 * block + 4)) }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        to.scales[block] = halves_at(b, 20 * block);
                        to.minima[block] = halves_at(b, 20 * block + 2);
                    }
                }

                Q5_0: 22 bytes of 32 columns, scales of 32, signed: false;
                levels(b, block) {
                    with_fifth_bits(nibbles(b.add(22 * block + 6)), b.add(22 * block + 2))
                }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        let d = halves_at(b, 22 * block);
                        (to.scales[block], to.minima[block]) = (d, times(d, splat(-16.0)));
                    }
                }

                Q5_1: 24 bytes of 32 columns, scales of 32, signed: false;
                levels(b, block) {
                    with_fifth_bits(nibbles(b.add(24 * block + 8)), b.add(24 * block + 4))
                }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        to.scales[block] = halves_at(b, 24 * block);
                        to.minima[block] = halves_at(b, 24 * block + 2);
                    }
                }

                Q8_0: 34 bytes of 32 columns, scales of 32, signed: true;
                levels(b, block) { two(b.add(34 * block + 2)) }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        to.scales[block] = halves_at(b, 34 * block);
                    }
                }

                IQ4_NL: 18 bytes of 32 columns, scales of 32, signed: true;
                levels(b, block) {
                    nibbles(b.add(18 * block + 2)).map(|index| look_up(&IQ4_SIGNED, index))
                }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        to.scales[block] = halves_at(b, 18 * block);
                    }
                }

                MXFP4: 17 bytes of 32 columns, scales of 32, signed: false;
                levels(b, block) {
                    nibbles(b.add(17 * block + 1)).map(|index| look_up(&E2M1_LEVELS, index))
                }
                factors(b, blocks, to) {
                    for block in 0..blocks {
                        let d = b.map(|b| half_power_of_two(*b.add(17 * block)));
                        let d = load_floats(&d);
                        (to.scales[block], to.minima[block]) = (d, times(d, splat(-12.0)));
                    }
                }

                Q2_K: 84 bytes of 256 columns, scales of 16, signed: false;
                levels(b, block) {
                    let packed = two(b.add(16 + 32 * (block / 4)));
                    packed.map(|packed| bits(packed, 2 * (block % 4), 3))
                }
                factors(b, _blocks, to) {
                    let (mut scales, mut minima) = ([[zero(); 4]; LANES], [[zero(); 4]; LANES]);
                    for i in 0..LANES {
                        let packed = sixteen(b[i]);
                        let ds = bytes::<4>(b[i].add(80));
                        let (d, dmin) = (splat(half_at(ds, 0)), splat(-half_at(ds, 2)));
                        scales[i] = unsigned(bits(packed, 0, 15)).map(|scale| times(scale, d));
                        minima[i] = unsigned(bits(packed, 4, 15)).map(|min| times(min, dmin));
                    }
                    (to.scales, to.minima) = (by_sub(scales), by_sub(minima));
                }

                Q3_K: 110 bytes of 256 columns, scales of 16, signed: false;
                levels(b, block) {
                    let (low, high) = (two(b.add(32 + 32 * (block / 4))), two(b));
                    let level = |low, high| {
                        or(bits(low, 2 * (block % 4), 3), shift_left::<2>(bits(high, block, 1)))
                    };
                    [level(low[0], high[0]), level(low[1], high[1])]
                }
                factors(b, _blocks, to) {
                    let mut scales = [[zero(); 4]; LANES];
                    for i in 0..LANES {
                        let packed = unsigned(words(k3_scales(bytes::<12>(b[i].add(96)))));
                        let d = splat(half_at(bytes::<2>(b[i].add(108)), 0));
                        scales[i] = packed.map(|scale| times(plus(scale, splat(-32.0)), d));
                    }
                    to.scales = by_sub(scales);
                    to.minima = to.scales.map(|scale| times(scale, splat(-4.0)));
                }

                Q4_K: 144 bytes of 256 columns, scales of 32, signed: false;
                levels(b, block) {
                    two(b.add(16 + 32 * (block / 2))).map(|packed| bits(packed, 4 * (block % 2), 15))
                }
                factors(b, _blocks, to) { k4_factors(b, to) }

                Q5_K: 176 bytes of 256 columns, scales of 32, signed: false;
                levels(b, block) {
                    let (low, high) = (two(b.add(48 + 32 * (block / 2))), two(b.add(16)));
                    let level = |low, high| {
                        or(bits(low, 4 * (block % 2), 15), shift_left::<4>(bits(high, block, 1)))
                    };
                    [level(low[0], high[0]), level(low[1], high[1])]
                }
                factors(b, _blocks, to) { k4_factors(b, to) }

                Q6_K: 210 bytes of 256 columns, scales of 16, signed: false;
                levels(b, block) {
                    let (half, part) = (block / 4, block % 4);
                    let low = two(b.add(64 * half + 32 * (part % 2)));
                    let high = two(b.add(128 + 32 * half));
                    let level = |low, high| {
                        or(bits(low, 4 * (part / 2), 15), shift_left::<4>(bits(high, 2 * part, 3)))
                    };
                    [level(low[0], high[0]), level(low[1], high[1])]
                }
                factors(b, _blocks, to) {
                    let mut scales = [[zero(); 4]; LANES];
                    for i in 0..LANES {
                        let d = splat(half_at(bytes::<2>(b[i].add(208)), 0));
                        scales[i] = signed(sixteen(b[i].add(192))).map(|scale| times(scale, d));
                    }
                    to.scales = by_sub(scales);
                    to.minima = to.scales.map(|scale| times(scale, splat(-32.0)));
                }

                IQ4_XS: 136 bytes of 256 columns, scales of 32, signed: true;
                levels(b, block) {
                    nibbles(b.add(8 + 16 * block)).map(|index| look_up(&IQ4_SIGNED, index))
                }
                factors(b, _blocks, to) {
                    let heads = b.map(|b| bytes::<8>(b));
                    let d = load_floats(&heads.map(|head| half_at(head, 0)));
                    for block in 0..GROUP / BLOCK {
                        let scale = heads.map(|head| {
                            let low = head[4 + block / 2] >> (4 * (block % 2)) & 15;
                            let high = head[2 + block / 4] >> (2 * (block % 4)) & 3;
                            f32::from(low | high << 4) - 32.0
                        });
                        to.scales[block] = times(load_floats(&scale), d);
                    }
                }
            }

            /// Eight scales and eight mins of four rows of `Q4_K` or `Q5_K`.
            ///
            /// # Safety
            /// 16 bytes can be read from each pointer.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn k4_factors(b: [*const u8; LANES], to: &mut Factors) {
                let mut factors = [[zero(); 4]; LANES];
                for i in 0..LANES {
                    // SAFETY: guaranteed by the caller.
                    let head = unsafe { bytes::<16>(b[i]) };
                    let packed = unsigned(words(k4_scales(&head[4..])));
                    let (d, dmin) = (splat(half_at(head, 0)), splat(-half_at(head, 2)));
                    factors[i] = [
                        times(packed[0], d),
                        times(packed[1], d),
                        times(packed[2], dmin),
                        times(packed[3], dmin),
                    ];
                }
                let factors = by_sub(factors);
                to.scales[..8].copy_from_slice(&factors[..8]);
                to.minima[..8].copy_from_slice(&factors[8..]);
            }

            /// Transposes sixteen factors of each of four rows to (sub-blocks, rows).
            #[target_feature(enable = $features)]
            #[inline]
            fn by_sub(rows: [[Floats; 4]; LANES]) -> [Floats; 16] {
                let mut by_sub = [zero(); 16];
                for i in 0..4 {
                    let four = transpose_floats([rows[0][i], rows[1][i], rows[2][i], rows[3][i]]);
                    by_sub[4 * i..4 * i + 4].copy_from_slice(&four);
                }
                by_sub
            }

            /// The low nibbles of 16 bytes, then the high ones.
            ///
            /// # Safety
            /// 16 bytes can be read.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn nibbles(b: *const u8) -> [Bytes; 2] {
                // SAFETY: guaranteed by the caller.
                let packed = unsafe { sixteen(b) };
                [bits(packed, 0, 15), bits(packed, 4, 15)]
            }

            /// Adds 16 to the levels whose fifth bit is set.
            ///
            /// # Safety
            /// Four bytes can be read.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn with_fifth_bits(levels: [Bytes; 2], b: *const u8) -> [Bytes; 2] {
                // SAFETY: guaranteed by the caller.
                let bits = unsafe { bytes::<4>(b) };
                let level = |level, bits| or(level, and(spread(bits), splat_bytes(16)));
                [
                    level(levels[0], u16::from_le_bytes([bits[0], bits[1]])),
                    level(levels[1], u16::from_le_bytes([bits[2], bits[3]])),
                ]
            }

            /// An f16 of each row, as floats.
            ///
            /// # Safety
            /// Two bytes can be read at offset `at` from each pointer.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn halves_at(b: [*const u8; LANES], at: usize) -> Floats {
                // SAFETY: guaranteed by the caller.
                halves(b.map(|b| u16::from_le_bytes(*unsafe { bytes::<2>(b.add(at)) })))
            }

            /// # Safety
            /// 32 bytes can be read.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn two(b: *const u8) -> [Bytes; 2] {
                // SAFETY: guaranteed by the caller.
                unsafe { [sixteen(b), sixteen(b.add(16))] }
            }

            /// # Safety
            /// 16 bytes can be read.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn sixteen(b: *const u8) -> Bytes {
                // SAFETY: guaranteed by the caller.
                load(unsafe { bytes::<16>(b) })
            }

            /// # Safety
            /// `N` bytes can be read for as long as the result lives.
            #[inline]
            unsafe fn bytes<'a, const N: usize>(b: *const u8) -> &'a [u8; N] {
                // SAFETY: guaranteed by the caller.
                unsafe { &*b.cast() }
            }
        }
    };
}

/// Defines decoders, each by its name, its constants and the trait's two functions.
macro_rules! types {
    ($features:literal $($name:ident:
        $bytes:literal bytes of $columns:literal columns, scales of $sub:literal, signed: $signed:literal;
        levels($b:ident, $block:ident) $levels:block
        factors($rows:ident, $blocks:ident, $to:ident) $factors:block)*) => {
        $(#[doc = concat!("`", stringify!($name), "`.")]
        pub struct $name;

        impl Decode for $name {
            const BYTES: usize = $bytes;
            const COLUMNS: usize = $columns;
            const SUB: usize = $sub;
            const SIGNED: bool = $signed;

            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn levels($b: *const u8, $block: usize) -> [Bytes; 2] {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $levels }
            }

            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn factors($rows: [*const u8; LANES], $blocks: usize, $to: &mut Factors) {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $factors }
            }
        })*
    };
}

pub(in crate::kernels) use {decode, types};
