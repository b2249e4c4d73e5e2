//! What the scheduler needs of a model; tests put a simpler one in its place.

use crate::backend::Result;
use crate::model::{Batch, Model, Output, PagePool, Pooling, Sequence};
use std::ops::Range;
use std::sync::Arc;

/// A model, as the scheduler sees it.
pub trait Forward: Send + Sync {
    /// Number of tokens in the vocabulary.
    fn n_vocab(&self) -> usize;
    /// Elements of a hidden row.
    fn d_model(&self) -> usize;
    /// Whether positions see only those before them.
    fn is_causal(&self) -> bool;
    /// See [`Model::sequence`].
    fn sequence(&self, pool: &Arc<PagePool>, context: usize) -> Sequence;
    /// See [`Model::forward`].
    ///
    /// # Errors
    /// As there.
    fn forward(&self, batch: &mut Batch<'_>, go_on: &dyn Fn() -> bool) -> Result<Option<Output>>;
    /// See [`Model::logits`].
    ///
    /// # Errors
    /// As there.
    fn logits(&self, output: &Output, rows: Range<usize>, logits: &mut Vec<f32>) -> Result<()>;
    /// See [`Model::hidden`].
    ///
    /// # Errors
    /// As there.
    fn hidden(&self, output: &Output, rows: Range<usize>, hidden: &mut Vec<f32>) -> Result<()>;
    /// How rows are pooled before what [`Model::project`] makes of them.
    fn pools(&self, pooling: Pooling) -> Pooling {
        pooling
    }
    /// See [`Model::project`].
    ///
    /// # Errors
    /// As there.
    fn project(&self, pooled: Vec<f32>, _pooling: Pooling) -> Result<Vec<f32>> {
        Ok(pooled)
    }
}

impl Forward for Model {
    fn n_vocab(&self) -> usize {
        self.spec().n_vocab
    }

    fn d_model(&self) -> usize {
        self.spec().d_model
    }

    fn is_causal(&self) -> bool {
        self.spec().causal
    }

    fn sequence(&self, pool: &Arc<PagePool>, context: usize) -> Sequence {
        self.sequence(pool, context)
    }

    fn forward(&self, batch: &mut Batch<'_>, go_on: &dyn Fn() -> bool) -> Result<Option<Output>> {
        self.forward(batch, go_on)
    }

    fn logits(&self, output: &Output, rows: Range<usize>, logits: &mut Vec<f32>) -> Result<()> {
        self.logits(output, rows, logits)
    }

    fn hidden(&self, output: &Output, rows: Range<usize>, hidden: &mut Vec<f32>) -> Result<()> {
        self.hidden(output, rows, hidden)
    }

    fn pools(&self, pooling: Pooling) -> Pooling {
        if pooling == Pooling::Rank { self.spec().ranked } else { pooling }
    }

    fn project(&self, pooled: Vec<f32>, pooling: Pooling) -> Result<Vec<f32>> {
        self.project(pooled, pooling)
    }
}
