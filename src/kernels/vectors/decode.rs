//! Decodes the common types into vectors of levels and factors.

/// Defines the module `decode` of an instruction set from its `operations`.
macro_rules! decode {
    ($features:literal) => {
        /// Decodes the bytes of each common type into vectors.
        #[allow(non_camel_case_types, reason = "types are named as the field writes them")]
        pub mod decode {
            use super::operations::*;
            use crate::kernels::activations::BLOCK;
            use crate::kernels::blocks::{E2M1_LEVELS, EIGHTH, Factors, Group, IQ4_LEVELS};
            use crate::kernels::blocks::{half_power_of_two, iq4_xs_factors, k4_factors};
            use crate::kernels::blocks::{q2_k_factors, q3_k_factors, q6_k_factors};

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

            /// A pair of bits, wherever it is in a nibble whose other bits are 0.
            const PAIR: [u8; 16] = [0, 1, 2, 3, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];

            /// Decodes a type's bytes into vectors.
            pub trait Decode {
                /// Columns that share a scale: 16 or 32.
                const SUB: usize;
                /// Whether levels are signed, without an offset; unsigned levels are at most 127.
                const SIGNED: bool;

                /// The levels of columns `32 · block ..` of the group at `b`.
                ///
                /// # Safety
                /// The processor has the instruction set of this module; `b` points to blocks that contain the columns.
                unsafe fn levels(b: *const u8, block: usize) -> [Bytes; 2];

                /// Scales and mins of a block of each of four rows: of types of blocks.
                ///
                /// # Safety
                /// As for `levels`, for all rows.
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn of_block(_: [*const u8; LANES], _block: usize) -> [Floats; 2] {
                    [zero(); 2]
                }

                /// What scales the super-block at `b`: of types of super-blocks.
                ///
                /// # Safety
                /// As for `levels`.
                #[inline]
                unsafe fn factors(_: *const u8, _: &mut Factors) {}

                /// The scales of a super-block, by halves of its blocks.
                ///
                /// # Safety
                /// As for `levels`.
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn scales(b: *const u8) -> [Words; 2] {
                    let mut factors = Factors::ZERO;
                    // SAFETY: guaranteed by the caller.
                    unsafe { Self::factors(b, &mut factors) };
                    [load_words(&factors.scales[0]), load_words(&factors.scales[1])]
                }

                /// The mins of a super-block, by halves of its blocks.
                ///
                /// # Safety
                /// As for `levels`.
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn mins(b: *const u8) -> [Words; 2] {
                    let mut factors = Factors::ZERO;
                    // SAFETY: guaranteed by the caller.
                    unsafe { Self::factors(b, &mut factors) };
                    [load_words(&factors.mins[0]), load_words(&factors.mins[1])]
                }

                /// The units of the scales and of the mins of a super-block of each of four rows.
                ///
                /// # Safety
                /// As for `levels`, for all rows.
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn units(rows: [*const u8; LANES]) -> [Floats; 2] {
                    let (mut d, mut dmin) = ([0.0; LANES], [0.0; LANES]);
                    for i in 0..LANES {
                        let mut factors = Factors::ZERO;
                        // SAFETY: guaranteed by the caller.
                        unsafe { Self::factors(rows[i], &mut factors) };
                        (d[i], dmin[i]) = (factors.d, factors.dmin);
                    }
                    [load_floats(&d), load_floats(&dmin)]
                }
            }

            /// Decodes an already unpacked [`Group`].
            pub struct Unpacked<const COLUMNS_OF_SUB: usize>;

            #[expect(clippy::cast_ptr_alignment, reason = "the pointers were made of groups")]
            impl<const COLUMNS_OF_SUB: usize> Decode for Unpacked<COLUMNS_OF_SUB> {
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
                unsafe fn of_block(rows: [*const u8; LANES], block: usize) -> [Floats; 2] {
                    let (mut scales, mut minima) = ([0.0; LANES], [0.0; LANES]);
                    for i in 0..LANES {
                        // SAFETY: the pointers are those of groups.
                        let group = unsafe { &*rows[i].cast::<Group>() };
                        (scales[i], minima[i]) = group.factors.blocks[block];
                    }
                    [load_floats(&scales), load_floats(&minima)]
                }

                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn factors(b: *const u8, to: &mut Factors) {
                    // SAFETY: the pointer is that of a group.
                    to.clone_from(unsafe { &(*b.cast::<Group>()).factors });
                }

                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn scales(b: *const u8) -> [Words; 2] {
                    // SAFETY: the pointer is that of a group.
                    let [first, second] = unsafe { &(*b.cast::<Group>()).factors.scales };
                    [load_words(first), load_words(second)]
                }

                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn mins(b: *const u8) -> [Words; 2] {
                    // SAFETY: the pointer is that of a group.
                    let [first, second] = unsafe { &(*b.cast::<Group>()).factors.mins };
                    [load_words(first), load_words(second)]
                }

                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn units(rows: [*const u8; LANES]) -> [Floats; 2] {
                    let (mut d, mut dmin) = ([0.0; LANES], [0.0; LANES]);
                    for i in 0..LANES {
                        // SAFETY: the pointers are those of groups.
                        let factors = unsafe { &(*rows[i].cast::<Group>()).factors };
                        (d[i], dmin[i]) = (factors.d, factors.dmin);
                    }
                    [load_floats(&d), load_floats(&dmin)]
                }
            }

            $crate::kernels::vectors::types! { $features
                Q4_0: scales of 32, signed: false;
                levels(b, block) { nibbles(b.add(18 * block + 2)) }
                -> blocks(rows, block) { one_half(rows, 18 * block) }

                Q4_1: scales of 32, signed: false;
                levels(b, block) { nibbles(b.add(20 * block + 4)) }
                -> blocks(rows, block) { two_halves(rows, 20 * block) }

                Q5_0: scales of 32, signed: false;
                levels(b, block) {
                    with_fifth_bits(nibbles(b.add(22 * block + 6)), b.add(22 * block + 2))
                }
                -> blocks(rows, block) { one_half(rows, 22 * block) }

                Q5_1: scales of 32, signed: false;
                levels(b, block) {
                    with_fifth_bits(nibbles(b.add(24 * block + 8)), b.add(24 * block + 4))
                }
                -> blocks(rows, block) { two_halves(rows, 24 * block) }

                Q8_0: scales of 32, signed: true;
                levels(b, block) { two(b.add(34 * block + 2)) }
                -> blocks(rows, block) { one_half(rows, 34 * block) }

                IQ4_NL: scales of 32, signed: true;
                levels(b, block) {
                    looked_up(&IQ4_SIGNED, nibbles(b.add(18 * block + 2)))
                }
                -> blocks(rows, block) { one_half(rows, 18 * block) }

                MXFP4: scales of 32, signed: false;
                levels(b, block) {
                    looked_up(&E2M1_LEVELS, nibbles(b.add(17 * block + 1)))
                }
                -> blocks(rows, block) {
                    let mut scales = [0.0; LANES];
                    for i in 0..LANES {
                        scales[i] = half_power_of_two(*rows[i].add(17 * block));
                    }
                    [load_floats(&scales), zero()]
                }

                Q1_0: scales of 32, signed: false;
                levels(b, block) {
                    with_fifth_bits([splat_bytes(0); 2], b.add(18 * (block / 4) + 2 + 4 * (block % 4)))
                }
                -> blocks(rows, block) {
                    let [scales, mins] = one_half(rows, 18 * (block / 4));
                    [times(scales, splat(EIGHTH)), mins]
                }

                Q2_0: scales of 32, signed: false;
                levels(b, block) {
                    let from = b.add(18 * (block / 2) + 2 + 8 * (block % 2));
                    let mut both = [0; 16];
                    both[..8].copy_from_slice(bytes::<8>(from));
                    // Each byte four times, and of each another pair of bits.
                    let pairs = |first: u8| {
                        let index = std::array::from_fn(|i| first + (i / 4) as u8);
                        let mask = std::array::from_fn(|i| 3 << (2 * (i % 4)));
                        let own = and(shuffle(load(&both), load(&index)), load(&mask));
                        let (low, high) = (and(own, splat_bytes(15)), bits(own, 4, 15));
                        or(look_up(&PAIR, low), look_up(&PAIR, high))
                    };
                    [pairs(0), pairs(4)]
                }
                -> blocks(rows, block) { one_half(rows, 18 * (block / 2)) }

                Q2_K: scales of 16, signed: false;
                levels(b, block) {
                    let [first, second] = two(b.add(16 + 32 * (block / 4)));
                    [bits(first, 2 * (block % 4), 3), bits(second, 2 * (block % 4), 3)]
                }
                -> factors(b, to) { q2_k_factors(bytes(b), to); }
                -> scales { even_and_odd(bits(sixteen(b), 0, 15)) }
                mins { even_and_odd(bits(sixteen(b), 4, 15)) }
                units(rows) { two_halves(rows, 80) }

                Q3_K: scales of 16, signed: false;
                levels(b, block) {
                    let (low, high) = (two(b.add(32 + 32 * (block / 4))), two(b));
                    let level = |low, high| {
                        or(bits(low, 2 * (block % 4), 3), shift_left::<2>(bits(high, block, 1)))
                    };
                    [level(low[0], high[0]), level(low[1], high[1])]
                }
                -> factors(b, to) { q3_k_factors(bytes(b), to); }

                Q4_K: scales of 32, signed: false;
                levels(b, block) {
                    let [first, second] = two(b.add(16 + 32 * (block / 2)));
                    [bits(first, 4 * (block % 2), 15), bits(second, 4 * (block % 2), 15)]
                }
                -> factors(b, to) { k4_factors(bytes::<16>(b), to); }
                -> scales { [widen_bytes(six_bits(b))[0]; 2] }
                mins { [widen_bytes(six_bits(b))[1]; 2] }
                units(rows) { two_halves(rows, 0) }

                Q5_K: scales of 32, signed: false;
                levels(b, block) {
                    let (low, high) = (two(b.add(48 + 32 * (block / 2))), two(b.add(16)));
                    let level = |low, high| {
                        or(bits(low, 4 * (block % 2), 15), shift_left::<4>(bits(high, block, 1)))
                    };
                    [level(low[0], high[0]), level(low[1], high[1])]
                }
                -> factors(b, to) { k4_factors(bytes::<16>(b), to); }
                -> scales { [widen_bytes(six_bits(b))[0]; 2] }
                mins { [widen_bytes(six_bits(b))[1]; 2] }
                units(rows) { two_halves(rows, 0) }

                Q6_K: scales of 16, signed: false;
                levels(b, block) {
                    let (half, part) = (block / 4, block % 4);
                    let low = two(b.add(64 * half + 32 * (part % 2)));
                    let high = two(b.add(128 + 32 * half));
                    let level = |low, high| {
                        or(bits(low, 4 * (part / 2), 15), shift_left::<4>(bits(high, 2 * part, 3)))
                    };
                    [level(low[0], high[0]), level(low[1], high[1])]
                }
                -> factors(b, to) { q6_k_factors(bytes(b), to); }
                -> scales { even_and_odd(sixteen(b.add(192))) }
                units(rows) { one_half(rows, 208) }

                IQ4_XS: scales of 32, signed: true;
                levels(b, block) {
                    looked_up(&IQ4_SIGNED, nibbles(b.add(8 + 16 * block)))
                }
                -> factors(b, to) { iq4_xs_factors(bytes::<8>(b), to); }
            }

            /// Eight scales, then eight mins, of a super-block of `Q4_K` or `Q5_K`.
            ///
            /// # Safety
            /// 16 bytes can be read.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn six_bits(b: *const u8) -> Bytes {
                // d, dmin, then twelve bytes s: scales 0 to 3 and mins 0 to 3 are the low six bits of s0 to s7; the
                // others join four bits of s8 to s11 with the upper two bits of s0 to s7.
                const NO: u8 = 0x80;
                const LOW: [u8; 16] = [4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, NO, NO, NO, NO];
                const MASK: [u8; 16] = [63, 63, 63, 63, 15, 15, 15, 15, 63, 63, 63, 63, 0, 0, 0, 0];
                const LAST: [u8; 16] =
                    [NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 12, 13, 14, 15];
                const HIGH: [u8; 16] = [NO, NO, NO, NO, 4, 5, 6, 7, NO, NO, NO, NO, 8, 9, 10, 11];
                // SAFETY: guaranteed by the caller.
                let head = unsafe { sixteen(b) };
                let low = and(shuffle(head, load(&LOW)), load(&MASK));
                let last = shuffle(bits(head, 4, 15), load(&LAST));
                or(or(low, last), shuffle(bits(head, 2, 0x30), load(&HIGH)))
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn looked_up(table: &[u8; 16], [first, second]: [Bytes; 2]) -> [Bytes; 2] {
                [look_up(table, first), look_up(table, second)]
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

            /// An f16 of each row, as floats, and zeros.
            ///
            /// # Safety
            /// Two bytes can be read there.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn one_half(rows: [*const u8; LANES], at: usize) -> [Floats; 2] {
                // SAFETY: guaranteed by the caller.
                [unsafe { halves_at(rows, at) }, zero()]
            }

            /// Two f16 of each row, as floats.
            ///
            /// # Safety
            /// Four bytes can be read there.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn two_halves(rows: [*const u8; LANES], at: usize) -> [Floats; 2] {
                // SAFETY: guaranteed by the caller.
                unsafe { [halves_at(rows, at), halves_at(rows, at + 2)] }
            }

            /// # Safety
            /// Two bytes can be read there.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn halves_at(rows: [*const u8; LANES], at: usize) -> Floats {
                let mut halves = [0; LANES];
                for i in 0..LANES {
                    // SAFETY: guaranteed by the caller.
                    let half = unsafe { *bytes::<2>(rows[i].wrapping_add(at)) };
                    halves[i] = u16::from_le_bytes(half);
                }
                gathered_halves(halves)
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
        scales of $sub:literal, signed: $signed:literal;
        levels($b:ident, $block:ident) $levels:block
        $(-> blocks($rows:ident, $number:ident) $of_block:block)?
        $(-> factors($row:ident, $to:ident) $factors:block
            $(-> scales $scales:block $(mins $mins:block)? units($four:ident) $units:block)?)?)*) => {
        $(#[doc = concat!("`", stringify!($name), "`.")]
        pub struct $name;

        impl Decode for $name {
            const SUB: usize = $sub;
            const SIGNED: bool = $signed;

            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn levels($b: *const u8, $block: usize) -> [Bytes; 2] {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $levels }
            }

            $(#[target_feature(enable = $features)]
            #[inline]
            unsafe fn of_block($rows: [*const u8; LANES], $number: usize) -> [Floats; 2] {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $of_block }
            })?

            $(#[target_feature(enable = $features)]
            #[inline]
            unsafe fn factors($row: *const u8, $to: &mut Factors) {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $factors }
            }

            $(#[target_feature(enable = $features)]
            #[inline]
            unsafe fn scales($row: *const u8) -> [Words; 2] {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $scales }
            }

            $(#[target_feature(enable = $features)]
            #[inline]
            unsafe fn mins($row: *const u8) -> [Words; 2] {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $mins }
            })?

            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn units($four: [*const u8; LANES]) -> [Floats; 2] {
                // SAFETY: offsets are within the blocks that the trait guarantees.
                unsafe { $units }
            })?)?
        })*
    };
}

pub(in crate::kernels) use {decode, types};
