//! Measures the machine's upper limits: the two numbers that speeds are compared with.
//!
//! Knows nothing of models: reads memory as decode does, multiplies quants as prefill does.

use super::Compute;
use super::isa::by_isa;
use super::memory::prefer_large_pages;
use super::prefetch::fetch;
use std::hint::black_box;
use std::time::Instant;

/// Bytes to read: more than fits in any cache.
const READ_BYTES: usize = 256 << 20;
/// Prefetch distance, in chunks of 256 bytes.
const AHEAD: usize = 6;
/// Number of measurements; the best counts.
const ROUNDS: usize = 5;

/// Upper bounds on speed for the pool's threads.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes read from memory per second.
    pub read_bytes: f64,
    /// Multiply-adds of eight-bit integers per second, with operands in registers.
    pub multiply_adds: f64,
}

impl Compute {
    /// Measures the limits; takes about half a second.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let mut memory = vec![0_u64; READ_BYTES / 8];
        prefer_large_pages(&mut memory);
        memory.fill(1);
        let parts = 8 * self.pool.threads();
        let size = memory.len() / parts;
        let best = |work: &(dyn Fn(usize) + Sync)| {
            let time = || {
                let start = Instant::now();
                self.pool.run(parts, &|part| work(part));
                start.elapsed().as_secs_f64()
            };
            (0..ROUNDS).map(|_| time()).fold(f64::INFINITY, f64::min)
        };
        // Four streams at a time, as decode reads: a single one is slower.
        let seconds = best(&|part| {
            let mut lanes = [0_u64; 32];
            let part = memory[part * size..(part + 1) * size].as_chunks::<32>().0;
            let (streams, _) = part.split_at(part.len() / 4 * 4);
            for at in 0..streams.len() / 4 {
                for stream in streams.chunks_exact(streams.len() / 4) {
                    if let Some(ahead) = stream.get(at + AHEAD) {
                        fetch(ahead);
                    }
                    lanes.iter_mut().zip(&stream[at]).for_each(|(lane, x)| *lane ^= x);
                }
            }
            black_box(lanes);
        });
        let read_bytes = (parts * size * 8) as f64 / seconds;

        let rounds = 200_000;
        let seconds = best(&|_| {
            black_box(self.multiply_registers(black_box(rounds)));
        });
        let multiply_adds = (parts * self.multiply_registers(rounds)) as f64 / seconds;
        Limits { read_bytes, multiply_adds }
    }

    /// Multiplies registers only: `rounds` rounds, each with enough independent products to hide their latency.
    /// Returns the number of multiply-adds.
    #[expect(unsafe_code, reason = "calls into the instruction set that was detected")]
    fn multiply_registers(&self, rounds: usize) -> usize {
        let one_by_one = || {
            let mut sums = [0_i32; 8];
            for round in 0..rounds {
                let x = black_box(round as i32);
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_add(x.wrapping_mul(3)));
            }
            black_box(sums);
            rounds * sums.len()
        };
        by_isa!(self.isa, scalar: one_by_one(), multiply_registers(rounds))
    }
}
