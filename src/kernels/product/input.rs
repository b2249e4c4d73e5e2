//! Rows of activations, prepared for multiplication with matrices.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::TASKS_A_THREAD;
use crate::kernels::activations::{self, Activations, Part, Portable, Tiles};
use crate::kernels::blocks::{GROUP, QuantKind, kind};
use crate::kernels::isa::{Level, by_floats};
use crate::kernels::{Compute, Matrix};
use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};
use tealight_bundle::gguf::DType;

/// Rows of activations, prepared for the types of the matrices they are multiplied with.
pub struct Input<'a> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Whether these are so few rows that stored rows are multiplied in place.
    pub(super) few: bool,
    pub(super) floats: Cow<'a, [f32]>,
    pub(super) levels: Option<Levels>,
}

/// Eight-bit activations in the order in which kernels read them.
pub enum Levels {
    /// Row by row.
    Few(Activations),
    /// For panels.
    Many(Tiled),
}

/// Eight-bit activations for panels.
pub struct Tiled {
    /// What scales them; the quants are read from the tiles.
    pub(super) rows: Activations,
    pub(super) tiles: Tiles,
    /// The first row of each tile and, last, the number of rows.
    pub(super) starts: Vec<usize>,
}

impl Compute {
    /// Prepares `x`, whose rows have as many elements as the matrices have columns.
    ///
    /// # Panics
    /// When `x` is not whole rows of that many elements.
    #[must_use]
    pub fn input<'a>(&self, x: &'a [f32], weights: &[&Matrix]) -> Input<'a> {
        self.input_from(Cow::Borrowed(x), weights)
    }

    /// Like [`Compute::input`], for borrowed or owned rows.
    pub(super) fn input_from<'a>(&self, x: Cow<'a, [f32]>, weights: &[&Matrix]) -> Input<'a> {
        let columns = weights.first().map_or(1, |w| w.columns);
        assert!(x.len().is_multiple_of(columns), "{} elements in rows of {columns}", x.len());
        let quantized = weights.iter().find(|w| kind(w.dtype) == Some(QuantKind::Levels));
        let rows = x.len() / columns;
        let few = rows < self.isa.panels_from(quantized.map_or(DType::F32, |w| w.dtype));
        let levels = quantized.map(|_| self.levels(self.quantize(&x, columns), few));
        Input { rows, columns, few, floats: x, levels }
    }

    /// Input from activations that exist only in eight bits, for quantized matrices.
    pub(super) fn input_of(&self, levels: Activations, dtype: DType) -> Input<'static> {
        let (rows, columns) = (levels.rows, levels.columns);
        let few = rows < self.isa.panels_from(dtype);
        let levels = Some(self.levels(levels, few));
        Input { rows, columns, few, floats: Cow::default(), levels }
    }

    fn levels(&self, levels: Activations, few: bool) -> Levels {
        if few || self.isa.level() == Level::Scalar {
            return Levels::Few(levels);
        }
        let mut starts = vec![0];
        while let Some(&at) = starts.last()
            && at < levels.rows
        {
            let widest = self.isa.widest_tile();
            let tile = [6, 4, 2, 1].into_iter().find(|&t| t <= widest && t <= levels.rows - at);
            starts.push(at + tile.unwrap_or(1));
        }
        let mut tiles = Tiles::of(&levels, self.isa.columns_together());
        let parts: Vec<_> = tiles.parts_mut(&starts).into_iter().map(Mutex::new).collect();
        self.pool.run(parts.len(), &|part| {
            parts[part].lock().unwrap_or_else(PoisonError::into_inner).fill(&levels);
        });
        drop(parts);
        Levels::Many(Tiled { rows: levels, tiles, starts })
    }

    pub(in crate::kernels) fn quantize(&self, x: &[f32], columns: usize) -> Activations {
        let groups = columns.div_ceil(GROUP);
        let fill = |parts: &mut [MaybeUninit<Part>]| {
            let rows = parts.chunks_exact_mut(groups.max(1)).zip(x.chunks_exact(columns));
            if x.len() / columns < 2 * self.pool.threads() {
                rows.for_each(|(row, x)| self.quantize_row(x, row));
                return;
            }
            let mut rows: Vec<_> = rows.collect();
            let size = rows.len().div_ceil(self.pool.threads() * TASKS_A_THREAD);
            let shares: Vec<_> = rows.chunks_mut(size).map(Mutex::new).collect();
            self.pool.run(shares.len(), &|share| {
                let mut rows = shares[share].lock().unwrap_or_else(PoisonError::into_inner);
                rows.iter_mut().for_each(|(row, x)| self.quantize_row(x, row));
            });
        };
        // SAFETY: each row of groups has its columns, and `quantize_row` initializes all groups it is given.
        unsafe { Activations::filled(x.len() / columns, columns, fill) }
    }

    /// Quantizes some columns of a row, from the beginning of a group on. Initializes their groups.
    pub(super) fn quantize_row(&self, x: &[f32], row: &mut [MaybeUninit<Part>]) {
        // SAFETY: the portable one needs no instruction set in particular.
        let portable = |row| unsafe { activations::quantize::<Portable>(x, row) };
        by_floats!(self.isa, scalar: portable(row), quantize(x, row));
    }
}
