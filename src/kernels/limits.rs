//! What this machine can do at most, measured on the spot: the two numbers that speeds are compared with.
//!
//! Knows nothing of models: reads memory as generation does, multiplies levels as a prompt does.

use super::Compute;
use super::isa::by_isa;
use super::memory::prefer_large_pages;
use super::prefetch::fetch;
use std::hint::black_box;
use std::time::Instant;

/// Bytes that are read: more than any cache holds.
const READ_BYTES: usize = 256 << 20;
/// Chunks of 256 bytes that are fetched ahead.
const AHEAD: usize = 6;
/// How often each is measured; the best counts.
const ROUNDS: usize = 5;

/// Upper bounds of speed on some threads.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes read from memory each second.
    pub read_bytes: f64,
    /// Multiply-adds of eight-bit integers each second, operands in registers.
    pub multiply_adds: f64,
}

impl Compute {
    /// Measures for about half a second.
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
        // Four places at a time, as generation reads: one alone is answered later.
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

    /// Products of registers and nothing else, `rounds` times as many as hide their latency. Returns how many
    /// multiply-adds that was.
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
