//! RWKV 6 (Peng et al., 2024) and 7 (Peng et al., 2025): states that forget at rates that depend on the input.

use super::super::disjoint::Disjoint;
use super::super::{Compute, float};
use super::advance::advance_keyed;
use super::sigmoid;
use super::state::{KeyedFeed, Shape, Stretch, Vectors};

/// ε of the length of what RWKV 7 takes back.
const LENGTH_MIN: f32 = 1e-12;
/// How much RWKV 7 forgets at most: e^(−e^(−1/2)) of a state is left.
const FASTEST: f32 = -0.606_531;

/// Shape and weights of RWKV 6.
#[derive(Debug, Clone)]
pub struct Rwkv6 {
    /// Heads, elements of a key and of a value.
    pub shape: Shape,
    /// How much of its own value a position sees, (heads, `key_dim`). Without it, positions see themselves as others do,
    /// keys are weakened by what is kept, and results are divided by √`key_dim`: gated linear attention.
    pub bonus: Option<Vec<f32>>,
}

/// What rows bring to RWKV 6: (rows, heads · dim) each.
#[derive(Clone, Copy)]
pub struct Rwkv6Rows<'a> {
    /// r, the queries.
    pub receptances: &'a [f32],
    /// k.
    pub keys: &'a [f32],
    /// v.
    pub values: &'a [f32],
    /// w; states are multiplied by e^(−e^w).
    pub decays: &'a [f32],
}

/// What rows bring to RWKV 7: (rows, heads · dim) each.
#[derive(Clone, Copy)]
pub struct Rwkv7Rows<'a> {
    /// r, the queries.
    pub receptances: &'a [f32],
    /// w; states are multiplied by e^(−0.606531 · sigmoid(w)).
    pub decays: &'a [f32],
    /// k.
    pub keys: &'a [f32],
    /// v.
    pub values: &'a [f32],
    /// The keys whose values are taken back, before they are made vectors of length 1.
    pub removed: &'a [f32],
    /// a, how much of them is taken back.
    pub rates: &'a [f32],
}

impl Compute {
    /// Mixes rows with their pasts: (rows, heads · dim).
    #[must_use]
    pub fn rwkv6(
        &self,
        rwkv: &Rwkv6,
        rows: Rwkv6Rows<'_>,
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let Shape { heads, key_dim: dim, .. } = rwkv.shape;
        let (inner, n) = (heads * dim, rows.keys.len() / (heads * dim));
        let (mut decays, mut keys) = (vec![0.0; n * inner], rows.keys.to_vec());
        let mut queries = rows.receptances.to_vec();
        let mut skips = vec![0.0; n * heads];
        let shared = [&mut decays, &mut keys, &mut queries].map(|all| Disjoint::new(all));
        let own = Disjoint::new(&mut skips);
        let root = (dim as f32).sqrt();
        self.for_ranges(n * heads, 24 * dim, &|range| {
            for head in range {
                let part = head * dim..(head + 1) * dim;
                // SAFETY: each head of a row belongs to one part.
                let [decays, keys, queries] =
                    shared.each_ref().map(|all| unsafe { all.slice(part.clone()) });
                for (g, w) in decays.iter_mut().zip(&rows.decays[part]) {
                    *g = float::exp(-float::exp(*w));
                }
                let Some(bonus) = &rwkv.bonus else {
                    keys.iter_mut().zip(&*decays).for_each(|(k, g)| *k -= *k * g);
                    queries.iter_mut().for_each(|q| *q /= root);
                    continue;
                };
                let bonus = &bonus[head % heads * dim..][..dim];
                let seen = keys.iter().zip(&*queries).zip(bonus);
                let skip = seen.fold(0.0_f32, |sum, ((k, q), u)| (k * q).mul_add(*u, sum));
                // SAFETY: as above.
                unsafe { own.set(head, skip) };
            }
        });
        let vectors = |rows| Vectors::whole(rows, heads, dim);
        let feed = KeyedFeed {
            shape: rwkv.shape,
            keys: vectors(&keys),
            queries: vectors(&queries),
            values: vectors(rows.values),
            decays: vectors(&decays),
            correction: None,
            before: rwkv.bonus.is_some(),
            skips: rwkv.bonus.as_ref().map(|_| &skips[..]),
        };
        advance_keyed(self, &feed, stretches)
    }

    /// The same for RWKV 7.
    #[must_use]
    pub fn rwkv7(
        &self,
        shape: Shape,
        rows: Rwkv7Rows<'_>,
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let Shape { heads, key_dim: dim, .. } = shape;
        let mut all: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0.0; rows.keys.len()]);
        let shared = all.each_mut().map(|all| Disjoint::new(all));
        self.for_ranges(rows.keys.len() / dim, 24 * dim, &|range| {
            for head in range {
                let part = head * dim..(head + 1) * dim;
                // SAFETY: each head of a row belongs to one part.
                let [decays, probes, backs] =
                    shared.each_ref().map(|all| unsafe { all.slice(part.clone()) });
                let removed = &rows.removed[part.clone()];
                let squares = removed.iter().fold(0.0_f32, |sum, x| x.mul_add(*x, sum));
                let length = squares.sqrt().max(LENGTH_MIN);
                for i in 0..dim {
                    let at = part.start + i;
                    decays[i] = float::exp(FASTEST * sigmoid(rows.decays[at]));
                    probes[i] = -(removed[i] / length);
                    backs[i] = -probes[i] * rows.rates[at];
                }
            }
        });
        let [decays, probes, backs] = &all;
        let vectors = |rows| Vectors::whole(rows, heads, dim);
        let feed = KeyedFeed {
            shape,
            keys: vectors(rows.keys),
            queries: vectors(rows.receptances),
            values: vectors(rows.values),
            decays: vectors(decays),
            correction: Some([vectors(probes), vectors(backs)]),
            before: false,
            skips: None,
        };
        advance_keyed(self, &feed, stretches)
    }
}
