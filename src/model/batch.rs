//! What one forward pass computes: new positions of several sequences.

use super::sequence::{Read, Sequence};
use crate::backend::Tensor;
use std::ops::Range;

/// The new positions of several sequences.
#[derive(Default)]
pub struct Batch<'a> {
    /// One for each sequence, in any order.
    pub spans: Vec<Span<'a>>,
}

/// New positions of one sequence, after those it has read.
pub struct Span<'a> {
    /// The sequence; it needs room for them (see [`Sequence::reserve`]).
    pub sequence: &'a mut Sequence,
    /// What they read.
    pub inputs: Inputs<'a>,
    /// Their rotary positions; `None`: those after the positions read.
    pub positions: Option<&'a [usize]>,
    /// Whether each sees only itself and what is before it. Otherwise each sees all of the sequence.
    pub causal: bool,
    /// What is asked for.
    pub wanted: Wanted,
    /// After how many of the positions, in ascending order, states of fixed size are kept to go back to.
    pub stops: &'a [usize],
}

/// What positions read.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// Tokens.
    Tokens(&'a [u32]),
    /// Embeddings.
    Embeddings {
        /// (positions, d_model), row after row.
        rows: &'a [f32],
        /// A hash of each row: two equal ones stand for equal rows.
        hashes: &'a [u128],
    },
    /// For a model that guesses ([`super::Model::guesser`]): tokens, each with what the other model gave before it.
    Following {
        /// The tokens.
        tokens: &'a [u32],
        /// The output of the other model's final norm at the position before each, (positions, d_model), row after row.
        hidden: &'a [f32],
    },
}

/// Which positions' results are asked for: the head is a large part of a small model's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: the positions only extend the sequence.
    None,
    /// Only the last.
    Last,
    /// All.
    All,
}

impl<'a> Span<'a> {
    /// Tokens after what the sequence has read.
    #[must_use]
    pub fn tokens(
        sequence: &'a mut Sequence,
        tokens: &'a [u32],
        causal: bool,
        wanted: Wanted,
    ) -> Self {
        Self {
            sequence,
            inputs: Inputs::Tokens(tokens),
            positions: None,
            causal,
            wanted,
            stops: &[],
        }
    }

    /// Number of positions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// After how many of the positions states are wanted: the stops, and the end.
    pub fn ends(&self) -> impl Iterator<Item = usize> {
        let len = self.len();
        self.stops.iter().copied().filter(move |stop| (1..len).contains(stop)).chain([len])
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Indices, within the span, of the wanted positions.
    #[must_use]
    pub fn wanted(&self) -> Range<usize> {
        let len = self.len();
        match self.wanted {
            Wanted::None => len..len,
            Wanted::Last => len.saturating_sub(1)..len,
            Wanted::All => 0..len,
        }
    }
}

impl Inputs<'_> {
    /// Number of positions.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) | Self::Following { tokens, .. } => tokens.len(),
            Self::Embeddings { hashes, .. } => hashes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a sequence remembers of them.
    pub fn read(&self) -> impl Iterator<Item = Read> {
        (0..self.len()).map(|i| match self {
            Self::Tokens(tokens) | Self::Following { tokens, .. } => Read::Token(tokens[i]),
            Self::Embeddings { hashes, .. } => Read::Embedding(hashes[i]),
        })
    }
}

/// The result of a forward pass: the final norm's output at the wanted positions.
pub struct Output {
    /// (wanted positions of all spans, d_model).
    pub hidden: Tensor,
    /// The rows of each span.
    pub rows: Vec<Range<usize>>,
}
