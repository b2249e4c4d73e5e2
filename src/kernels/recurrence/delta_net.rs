//! The gated delta net (Yang et al., 2024): a state that forgets, and corrects what it holds at a key.

use super::super::Compute;
use super::super::disjoint::Disjoint;
use super::super::float;
use super::super::isa::by_floats;
use super::advance::advance;
use super::state::{Feed, Shape, Stretch, Vectors, state_len};
use super::{sigmoid, softplus};

/// Shape and weights of a gated delta net.
#[derive(Debug, Clone)]
pub struct DeltaNet {
    /// Heads, each with values of its own.
    pub heads: usize,
    /// Keys and queries, which divide the heads.
    pub key_heads: usize,
    /// Which heads share a key.
    pub order: KeyOrder,
    /// Elements of a key, a query.
    pub key_dim: usize,
    /// Elements of a value.
    pub value_dim: usize,
    /// Added to what decays are made of, one for each head.
    pub bias: Vec<f32>,
    /// How fast each head forgets; negative.
    pub rates: Vec<f32>,
    /// ε of the norm of keys and queries.
    pub eps: f32,
}

/// Which heads share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// Neighbouring ones: head h has key h / (heads / keys).
    Neighbours,
    /// Those that are as many heads apart as there are keys: head h has key h mod keys.
    Alternating,
}

/// What a row brings to a delta net, beside queries, keys and values.
#[derive(Clone, Copy)]
pub struct Gates<'a> {
    /// (rows, heads); g = exp(rate · softplus(alpha + bias)).
    pub alpha: &'a [f32],
    /// (rows, heads); β = sigmoid(beta).
    pub beta: &'a [f32],
}

impl DeltaNet {
    /// Elements of a row of queries, keys and values.
    #[must_use]
    pub fn width(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.heads * self.value_dim
    }

    /// Elements of the state.
    #[must_use]
    pub fn state_len(&self) -> usize {
        state_len(self.heads, self.key_dim, self.value_dim)
    }

    /// The key of a head.
    #[must_use]
    pub fn key_of(&self, head: usize) -> usize {
        match self.order {
            KeyOrder::Neighbours => head / (self.heads / self.key_heads),
            KeyOrder::Alternating => head % self.key_heads,
        }
    }
}

impl Compute {
    /// Mixes rows of queries, keys and values, (rows, [`DeltaNet::width`]), with their pasts: (rows, heads · value_dim).
    #[must_use]
    pub fn delta_net(
        &self,
        net: &DeltaNet,
        x: &[f32],
        gates: Gates<'_>,
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let (width, heads, dim) = (net.width(), net.heads, net.key_dim);
        let rows = x.len() / width;
        let keys = 2 * net.key_heads * dim;
        // Queries and keys of length 1; queries are divided by √dim as well.
        let root = (dim as f32).sqrt();
        let [query, key] = [vec![1.0 / (root * root); dim], vec![1.0 / root; dim]];
        let eps = net.eps / dim as f32;
        let mut normed = vec![0.0; rows * keys];
        let (mut decays, mut rates) = (vec![0.0; rows * heads], vec![0.0; rows * heads]);
        let shared = [&mut normed, &mut decays, &mut rates].map(|all| Disjoint::new(all));
        self.for_ranges(rows, 2 * keys + 64 * heads, &|range| {
            for row in range {
                let [normed, decays, rates] = &shared;
                // SAFETY: each row belongs to one part.
                let (normed, decays, rates) = unsafe {
                    (
                        normed.slice(row * keys..(row + 1) * keys),
                        decays.slice(row * heads..(row + 1) * heads),
                        rates.slice(row * heads..(row + 1) * heads),
                    )
                };
                let from = x[row * width..][..keys].chunks_exact(dim);
                for (i, (x, out)) in from.zip(normed.chunks_exact_mut(dim)).enumerate() {
                    let weight = if i < net.key_heads { &query } else { &key };
                    by_floats!(
                        self.isa,
                        scalar: float::rms_norm(x, weight, eps, out),
                        rms_norm(x, weight, eps, out)
                    );
                }
                for head in 0..heads {
                    let alpha = gates.alpha[row * heads + head] + net.bias[head];
                    decays[head] = float::exp(net.rates[head] * softplus(alpha));
                    rates[head] = sigmoid(gates.beta[row * heads + head]);
                }
            }
        });
        let normed = |first| Vectors { rows: &normed, stride: keys, first, apart: dim, dim };
        let feed = Feed {
            shape: Shape { heads, key_dim: dim, value_dim: net.value_dim },
            queries: normed(0),
            keys: normed(net.key_heads * dim),
            values: Vectors {
                rows: x,
                stride: width,
                first: keys,
                apart: net.value_dim,
                dim: net.value_dim,
            },
            key_of: (0..heads).map(|head| net.key_of(head)).collect(),
            decays: &decays,
            rates: &rates,
            corrects: true,
            skips: None,
        };
        advance(self, &feed, stretches)
    }
}
