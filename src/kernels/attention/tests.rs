//! Attention against a plain softmax in f64, and against itself in other company.

use super::{
    BLOCK, CacheType, Cached, CachedMut, Element, Fresh, Heads, Past, Window, append, attend,
};
use crate::kernels::{Compute, Isa};
use half::{bf16, f16};

/// Repeats with a prime period, so that no two rows are alike.
fn inputs(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| (((i + seed) * 37 % 251) as f32 - 125.0) / 90.0).collect()
}

/// The pages of one sequence, in storage of one type.
enum Stored {
    F16(Vec<[Vec<f16>; 2]>),
    Bf16(Vec<[Vec<bf16>; 2]>),
    F32(Vec<[Vec<f32>; 2]>),
    Q8_0(Vec<[Vec<u8>; 2]>),
}

fn pages<T: Element>(h: &Heads, n: usize) -> Vec<[Vec<T>; 2]> {
    let page = |dim: usize| vec![T::default(); h.kv_heads * BLOCK * T::units(dim)];
    (0..n).map(|_| [page(h.key_dim), page(h.value_dim)]).collect()
}

impl Stored {
    /// `len` positions of random keys and values, written in two pieces.
    fn new(of: CacheType, h: &Heads, len: usize, seed: usize) -> Self {
        let n = len.div_ceil(BLOCK);
        let mut stored = match of {
            CacheType::F16 => Self::F16(pages(h, n)),
            CacheType::Bf16 => Self::Bf16(pages(h, n)),
            CacheType::F32 => Self::F32(pages(h, n)),
            CacheType::Q8_0 => Self::Q8_0(pages(h, n)),
        };
        let k = inputs(len * h.kv_heads * h.key_dim, seed);
        let v = inputs(len * h.kv_heads * h.value_dim, seed + 5);
        let first = len / 3;
        for (at, rows) in [(0, first), (first, len - first)] {
            let row = |all: &[f32], dim: usize| {
                let size = h.kv_heads * dim;
                all[at * size..(at + rows) * size].to_vec()
            };
            let fresh = Fresh { at, rows, pages: stored.all_mut() };
            append(h.kv_heads, &row(&k, h.key_dim), &row(&v, h.value_dim), &mut [fresh]);
        }
        stored
    }

    fn all_mut(&mut self) -> Vec<[CachedMut<'_>; 2]> {
        match self {
            Self::F16(p) => p.iter_mut().map(|p| p.each_mut().map(|p| CachedMut::F16(p))).collect(),
            Self::Bf16(p) => {
                p.iter_mut().map(|p| p.each_mut().map(|p| CachedMut::Bf16(p))).collect()
            }
            Self::F32(p) => p.iter_mut().map(|p| p.each_mut().map(|p| CachedMut::F32(p))).collect(),
            Self::Q8_0(p) => {
                p.iter_mut().map(|p| p.each_mut().map(|p| CachedMut::Q8_0(p))).collect()
            }
        }
    }

    fn past(&self, len: usize, rows: usize, causal: bool) -> Past<'_> {
        let mut pages: Vec<[Cached<'_>; 2]> = match self {
            Self::F16(p) => p.iter().map(|p| p.each_ref().map(|p| Cached::F16(p))).collect(),
            Self::Bf16(p) => p.iter().map(|p| p.each_ref().map(|p| Cached::Bf16(p))).collect(),
            Self::F32(p) => p.iter().map(|p| p.each_ref().map(|p| Cached::F32(p))).collect(),
            Self::Q8_0(p) => p.iter().map(|p| p.each_ref().map(|p| Cached::Q8_0(p))).collect(),
        };
        pages.truncate((len + rows).div_ceil(BLOCK));
        Past { len, rows, causal, pages }
    }
}

const TYPES: [CacheType; 4] = [CacheType::F32, CacheType::F16, CacheType::Bf16, CacheType::Q8_0];

/// Head sizes that aren't whole q8_0 blocks, and value sizes that aren't whole vectors.
const HEADS: Heads = Heads {
    heads: 4,
    kv_heads: 2,
    key_dim: 72,
    value_dim: 84, // five vectors of sixteen, and four elements
    window: Window::All,
    scale: 0.2,
    softcap: None,
    alibi: None,
};

/// The definition, over the rounded keys and values.
fn plain(h: &Heads, sinks: Option<&[f32]>, q: &[f32], past: &Past<'_>) -> Vec<f64> {
    let (k, v) = past.read(h);
    let mut out = Vec::new();
    for (index, q) in q.chunks(h.key_dim).enumerate() {
        let (row, head) = (index / h.heads, index % h.heads);
        let end = match h.window {
            _ if past.causal => past.len + row + 1,
            Window::Around(n) => (past.len + row + n + 1).min(past.len + past.rows),
            _ => past.len + past.rows,
        };
        let start = match h.window {
            Window::All => 0,
            Window::Last(w) => end.saturating_sub(w),
            Window::Chunk(w) => (0..end).filter(|p| p % w == 0).max().unwrap(),
            Window::Around(n) => (past.len + row).saturating_sub(n),
        };
        let base = head / (h.heads / h.kv_heads) * past.total();
        let scores: Vec<f64> = (start..end)
            .map(|p| {
                let k = &k[(base + p) * h.key_dim..][..h.key_dim];
                let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                let score = dot * f64::from(h.scale);
                let score = match h.softcap {
                    Some(cap) => f64::from(cap) * (score / f64::from(cap)).tanh(),
                    None => score,
                };
                score - f64::from(h.slope(head)) * (past.len + row).abs_diff(p) as f64
            })
            .collect();
        let sink = sinks.map(|sinks| f64::from(sinks[head]));
        let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().copied().chain(sink).map(|s| (s - max).exp()).sum();
        for d in 0..h.value_dim {
            let value = |p: usize| f64::from(v[(base + p) * h.value_dim + d]);
            let terms = (start..end).zip(&scores).map(|(p, s)| (s - max).exp() / sum * value(p));
            out.push(terms.sum());
        }
    }
    out
}

/// More than one page of positions, enough of them to divide a head's work.
#[test]
fn it_agrees_with_a_plain_softmax_on_every_isa() {
    let sinks: &[f32] = &[0.5, 9.0, -9.0, 2.0];
    let q = inputs(3 * HEADS.heads * HEADS.key_dim, 1);
    for (window, softcap, alibi, sinks, causal) in [
        (Window::All, None, None, None, true),
        (Window::All, None, Some(8.0), None, true),
        (Window::Around(5), None, None, None, false),
        (Window::Last(7), None, None, Some(sinks), true),
        (Window::Chunk(16), Some(3.0), None, None, true),
        (Window::All, None, Some(2.0), None, false),
    ] {
        let h = Heads { window, softcap, alibi, ..HEADS };
        for of in TYPES {
            let stored = Stored::new(of, &h, 603, 2);
            let past = stored.past(600, 3, causal);
            assert!(past.fits(&h));
            let expected = plain(&h, sinks, &q, &past);
            let scalar = Compute::new(Isa::SCALAR, 1);
            let exact = attend(&scalar, h, sinks, &q, std::slice::from_ref(&past));
            for isa in Isa::available() {
                let got = attend(&Compute::new(isa, 2), h, sinks, &q, std::slice::from_ref(&past));
                assert!(!isa.is_exact() || got == exact, "{isa} {of} {window:?}: other bits");
                for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let off = (f64::from(*got) - expected).abs();
                    assert!(off < 1e-5, "{isa} {of} {window:?} {i}: {off}");
                }
            }
        }
    }
}

/// Sequences of other lengths beside it, more or fewer threads, its rows in one call or one at a time: a row's result
/// is the same to the bit.
#[test]
fn a_row_gets_the_same_result_in_any_company() {
    let h = Heads { heads: 6, key_dim: 32, value_dim: 40, scale: 0.3, ..HEADS };
    let (size, out) = (h.heads * h.key_dim, h.heads * h.value_dim);
    let shapes = [(700, 40), (0, 5), (63, 1), (64, 1), (200, 70), (5, 1)];
    for of in [CacheType::F32, CacheType::Q8_0] {
        let all: Vec<Stored> = shapes
            .iter()
            .enumerate()
            .map(|(i, (a, b))| Stored::new(of, &h, a + b, i * 7))
            .collect();
        let queries: Vec<Vec<f32>> =
            shapes.iter().enumerate().map(|(i, (_, n))| inputs(n * size, i * 11)).collect();
        for isa in Isa::available() {
            let run = |threads: usize, q: &[f32], pasts: &[Past<'_>]| {
                attend(&Compute::new(isa, threads), h, None, q, pasts)
            };
            let past = |i: usize| all[i].past(shapes[i].0, shapes[i].1, true);
            let alone: Vec<Vec<f32>> =
                (0..shapes.len()).map(|i| run(1, &queries[i], &[past(i)])).collect();
            for threads in [1, 2, 4] {
                let pasts: Vec<Past<'_>> = (0..shapes.len()).map(past).collect();
                assert_eq!(run(threads, &queries.concat(), &pasts), alone.concat(), "{isa} {of}");
            }
            for row in [0, 1, 17, 39] {
                let past = all[0].past(shapes[0].0 + row, 1, true);
                let one = run(2, &queries[0][row * size..(row + 1) * size], &[past]);
                assert_eq!(one, alone[0][row * out..(row + 1) * out], "{isa} {of} row {row}");
            }
        }
    }
}
