//! Lightning attention (Qin et al., 2024): linear attention whose heads forget at fixed rates.

use super::super::Compute;
use super::advance::advance;
use super::state::{Feed, Shape, Stretch, Vectors};

/// Shape and decays of lightning attention.
#[derive(Debug, Clone)]
pub struct Lightning {
    /// Elements of a query, a key and a value.
    pub dim: usize,
    /// What each head keeps of its state from one position to the next.
    pub decays: Vec<f32>,
}

impl Lightning {
    /// Elements of a row: query, key and value of each head.
    #[must_use]
    pub fn width(&self) -> usize {
        3 * self.decays.len() * self.dim
    }

    /// Shape of the state.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape { heads: self.decays.len(), key_dim: self.dim, value_dim: self.dim }
    }
}

impl Compute {
    /// Mixes rows, (rows, [`Lightning::width`]), with their pasts: (rows, heads · dim).
    #[must_use]
    pub fn lightning(
        &self,
        lightning: &Lightning,
        x: &[f32],
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let (width, dim) = (lightning.width(), lightning.dim);
        let rows = x.len() / width;
        let decays = lightning.decays.repeat(rows);
        let vectors = |first| Vectors { rows: x, stride: width, first, apart: 3 * dim, dim };
        let feed = Feed {
            shape: lightning.shape(),
            keys: vectors(dim),
            queries: vectors(0),
            values: vectors(2 * dim),
            key_of: (0..lightning.decays.len()).collect(),
            rates: &vec![1.0; decays.len()],
            decays: &decays,
            corrects: false,
            skips: None,
        };
        advance(self, &feed, stretches)
    }
}
