//! Kimi's delta attention (Kimi Team, 2025): a gated delta net each of whose key elements forgets at a rate of its own.

use super::super::Compute;
use super::super::disjoint::Disjoint;
use super::super::float;
use super::super::isa::by_floats;
use super::advance::advance_keyed;
use super::delta_net::Gates;
use super::state::{KeyedFeed, Shape, Stretch, Vectors};
use super::{sigmoid, softplus};

/// Shape and weights of Kimi's delta attention.
#[derive(Debug, Clone)]
pub struct Kda {
    /// Heads, each with a query, a key and a value.
    pub heads: usize,
    /// Elements of each of these.
    pub dim: usize,
    /// Added to what decays are made of, (heads, dim).
    pub bias: Vec<f32>,
    /// How fast each head forgets.
    pub rates: Vec<f32>,
    /// What decays are.
    pub forgetting: Forgetting,
    /// ε of the norm of keys and queries.
    pub eps: f32,
}

/// What decays are made of rates and alphas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Forgetting {
    /// g = exp(rate · softplus(alpha + bias)).
    Softplus,
    /// g = exp(least · sigmoid(rate · (alpha + bias))), with a negative `least`.
    Bounded {
        /// The logarithm of the least g.
        least: f32,
    },
}

impl Kda {
    /// Elements of a row of queries, keys and values.
    #[must_use]
    pub fn width(&self) -> usize {
        3 * self.heads * self.dim
    }

    /// Shape of the state.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape { heads: self.heads, key_dim: self.dim, value_dim: self.dim }
    }

    /// g of one element of a head's key.
    #[must_use]
    pub fn decay(&self, head: usize, alpha: f32) -> f32 {
        float::exp(match self.forgetting {
            Forgetting::Softplus => self.rates[head] * softplus(alpha),
            Forgetting::Bounded { least } => least * sigmoid(self.rates[head] * alpha),
        })
    }
}

impl Compute {
    /// Mixes rows of queries, keys and values, (rows, [`Kda::width`]), with their pasts: (rows, heads · dim). Alphas are
    /// (rows, heads · dim), betas (rows, heads).
    #[must_use]
    pub fn kda(
        &self,
        net: &Kda,
        x: &[f32],
        gates: Gates<'_>,
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let (width, heads, dim) = (net.width(), net.heads, net.dim);
        let (rows, inner) = (x.len() / width, heads * dim);
        // Queries and keys of length 1; queries are divided by √dim as well.
        let root = (dim as f32).sqrt();
        let [of_query, of_key] = [vec![1.0 / (root * root); dim], vec![1.0 / root; dim]];
        let eps = net.eps / dim as f32;
        let mut all: [Vec<f32>; 5] = std::array::from_fn(|_| vec![0.0; rows * inner]);
        let shared = all.each_mut().map(|all| Disjoint::new(all));
        self.for_ranges(rows, 16 * inner, &|range| {
            for row in range {
                // SAFETY: each row belongs to one part.
                let [queries, keys, decays, probes, backs] = shared
                    .each_ref()
                    .map(|all| unsafe { all.slice(row * inner..(row + 1) * inner) });
                let x = &x[row * width..][..2 * inner];
                for head in 0..heads {
                    let own = head * dim..(head + 1) * dim;
                    for (from, weight, to) in
                        [(0, &of_query, &mut *queries), (inner, &of_key, &mut *keys)]
                    {
                        let (x, out) = (&x[from + own.start..][..dim], &mut to[own.clone()]);
                        by_floats!(
                            self.isa,
                            scalar: float::rms_norm(x, weight, eps, out),
                            rms_norm(x, weight, eps, out)
                        );
                    }
                    let rate = sigmoid(gates.beta[row * heads + head]);
                    for i in own {
                        decays[i] = net.decay(head, gates.alpha[row * inner + i] + net.bias[i]);
                        probes[i] = keys[i] * decays[i];
                        keys[i] *= rate;
                        backs[i] = -keys[i];
                    }
                }
            }
        });
        let [queries, keys, decays, probes, backs] = &all;
        let vectors = |rows| Vectors::whole(rows, heads, dim);
        let feed = KeyedFeed {
            shape: net.shape(),
            keys: vectors(keys),
            queries: vectors(queries),
            values: Vectors { rows: x, stride: width, first: 2 * inner, apart: dim, dim },
            decays: vectors(decays),
            correction: Some([vectors(probes), vectors(backs)]),
            before: false,
            skips: None,
        };
        advance_keyed(self, &feed, stretches)
    }
}
