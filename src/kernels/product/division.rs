//! Divides the products of decode among threads, and remembers the order of the products.
//!
//! Input: the matrices of a product. Output: their rows in parts, grouped by thread. Divisions are cached: the next
//! token runs the same products in the same order, so a waiting thread already knows what it will read first in the
//! next product.

use super::TASK_BYTES_MIN;
use crate::kernels::prefetch::{Ahead, Soon};
use crate::kernels::{Compute, Matrix, Pool};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows multiplied together, across all four runs.
const TILE_ROWS: usize = 16;
/// The smallest parts of a thread's share are 1/8 of it (within the two bounds below), for idle threads to steal.
const PARTS_A_SHARE: usize = 8;
/// Lower bound on the stored bytes of such a part.
const PART_BYTES_MIN: usize = 8 * 1024;
/// Upper bound: some ten microseconds of work, so that threads of unequal speed finish a large matrix together.
const PART_BYTES_MAX: usize = 128 * 1024;
/// Maximum bytes that a waiting thread prefetches from the start of each run: four of these have to stay in its L2
/// cache until they are read.
const AHEAD_BYTES_MAX: usize = 96 * 1024;
/// Maximum number of cached divisions, each about a KiB per thread. A model with many experts has more; when the
/// cache is full, it is cleared.
const KEPT_MAX: usize = 512;

/// Row ranges at four distant places in one of the matrices.
pub struct Places {
    pub matrix: usize,
    pub rows: [Range<usize>; 4],
}

impl Places {
    fn goes_on_at(&self, matrix: usize, rows: &[Range<usize>; 4]) -> bool {
        self.matrix == matrix && self.rows.iter().zip(rows).all(|(a, b)| a.end == b.start)
    }
}

/// The rows of some matrices, divided into parts for decode. A thread's rows are contiguous and split into four runs;
/// each part takes the next rows of all four.
pub struct Division {
    matrices: Vec<Extent>,
    pub parts: Vec<Places>,
    /// Index of each thread's first part, and the end of the last thread's parts.
    starts: Vec<usize>,
}

/// A matrix's location in memory and its number of rows.
#[derive(PartialEq, Eq)]
struct Extent {
    address: usize,
    bytes: usize,
    rows: usize,
}

/// Cache of the divisions of a model's products.
#[derive(Default)]
pub struct Divisions(Mutex<Known>);

#[derive(Default)]
struct Known {
    steps: Vec<Step>,
    /// Index of a step, by the address of its first matrix.
    by_address: HashMap<usize, usize>,
    last: Option<usize>,
}

struct Step {
    division: Arc<Division>,
    /// Its id in the pool, for [`Pool::foresee`].
    learned: usize,
    /// The step that followed this one last time.
    next: Option<usize>,
}

impl Compute {
    /// The division for the product of these matrices, which runs next. Announces to the threads the product expected
    /// after it.
    pub(super) fn division(&self, weights: &[&Matrix]) -> Arc<Division> {
        let mut known = self.divisions.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (division, next) = known.follow(weights, &self.pool);
        if let Some(next) = next {
            self.pool.foresee(next);
        }
        division
    }
}

impl Known {
    /// The division of these matrices, and the pool's id of the product expected after it.
    fn follow(&mut self, weights: &[&Matrix], pool: &Pool) -> (Arc<Division>, Option<usize>) {
        let expected = self.last.and_then(|last| self.steps[last].next);
        let index = match expected {
            Some(index) if self.steps[index].division.is_of(weights) => index,
            _ => self.find(weights, pool),
        };
        // `find` may have cleared the cache.
        if let Some(last) = self.last.and_then(|last| self.steps.get_mut(last)) {
            last.next = Some(index);
        }
        self.last = Some(index);
        let Step { division, next, .. } = &self.steps[index];
        (Arc::clone(division), next.map(|next| self.steps[next].learned))
    }

    fn find(&mut self, weights: &[&Matrix], pool: &Pool) -> usize {
        let address = weights.first().map_or(0, |w| Extent::of(w).address);
        if let Some(&index) = self.by_address.get(&address)
            && self.steps[index].division.is_of(weights)
        {
            return index;
        }
        if self.steps.len() >= KEPT_MAX {
            *self = Self::default();
            pool.forget();
        }
        let division = Arc::new(Division::new(weights, pool.threads()));
        let learned = pool.learn(division.ahead(weights));
        self.steps.push(Step { division, learned, next: None });
        self.by_address.insert(address, self.steps.len() - 1);
        self.steps.len() - 1
    }
}

impl Division {
    fn new(weights: &[&Matrix], threads: usize) -> Self {
        let total: usize = weights.iter().map(|w| w.range.len()).sum();
        let busy = threads.min(total / TASK_BYTES_MIN).max(1);
        let part_bytes = (total / busy / PARTS_A_SHARE).clamp(PART_BYTES_MIN, PART_BYTES_MAX);
        let mut parts = Vec::with_capacity(2 * threads * PARTS_A_SHARE);
        let mut starts = vec![0];
        for thread in 0..threads {
            let mut before = 0;
            for (matrix, w) in weights.iter().enumerate() {
                // The first row of a thread's share in this matrix, rounded down to whole tiles.
                let cut = |thread: usize| {
                    let bytes = (total * thread.min(busy) / busy).saturating_sub(before);
                    let end = thread >= busy || bytes >= w.range.len();
                    if end { w.rows } else { bytes / row_bytes(w) / TILE_ROWS * TILE_ROWS }
                };
                let least = (part_bytes / row_bytes(w) / TILE_ROWS).max(1) * (TILE_ROWS / 4);
                add_parts(&mut parts, matrix, cut(thread)..cut(thread + 1), least);
                before += w.range.len();
            }
            starts.push(parts.len());
        }
        Self { matrices: weights.iter().map(|w| Extent::of(w)).collect(), parts, starts }
    }

    fn is_of(&self, weights: &[&Matrix]) -> bool {
        self.matrices.len() == weights.len()
            && self.matrices.iter().zip(weights).all(|(extent, w)| *extent == Extent::of(w))
    }

    /// What each thread reads first, for prefetching.
    fn ahead(&self, weights: &[&Matrix]) -> Vec<Ahead> {
        self.starts.windows(2).map(|own| ahead(weights, &self.parts[own[0]..own[1]])).collect()
    }

    /// The parts of a thread.
    pub fn share(&self, thread: usize) -> Range<usize> {
        self.starts[thread]..self.starts[thread + 1]
    }
}

impl Extent {
    fn of(w: &Matrix) -> Self {
        Self { address: w.bytes().as_ptr().addr(), bytes: w.range.len(), rows: w.rows }
    }
}

fn row_bytes(w: &Matrix) -> usize {
    (w.range.len() / w.rows).max(1)
}

/// Splits rows of a matrix into four runs, and those into parts with at least `least` rows of each run.
fn add_parts(parts: &mut Vec<Places>, matrix: usize, rows: Range<usize>, least: usize) {
    let run = rows.len() / TILE_ROWS * (TILE_ROWS / 4);
    let mut at = 0;
    while at < run {
        // Half of the remaining rows, so that the last parts, which other threads may steal, are small.
        let half = ((run - at) / 2).next_multiple_of(TILE_ROWS / 4);
        let end = (at + half.max(least)).min(run);
        let part = |i: usize| rows.start + i * run + at..rows.start + i * run + end;
        parts.push(Places { matrix, rows: [part(0), part(1), part(2), part(3)] });
        at = end;
    }
    let rest = rows.start + 4 * run;
    if rest < rows.end {
        let quarter = |i: usize| (rest + i * TILE_ROWS / 4).min(rows.end);
        parts.push(Places { matrix, rows: [0, 1, 2, 3].map(|i| quarter(i)..quarter(i + 1)) });
    }
}

/// What is read first of these parts, in order. Parts that continue the same runs are merged into one piece.
fn ahead(weights: &[&Matrix], parts: &[Places]) -> Ahead {
    let mut runs: Vec<Places> = Vec::new();
    for Places { matrix, rows } in parts {
        match runs.last_mut() {
            Some(last) if last.goes_on_at(*matrix, rows) => {
                last.rows.iter_mut().zip(rows).for_each(|(run, rows)| run.end = rows.end);
            }
            _ => runs.push(Places { matrix: *matrix, rows: rows.clone() }),
        }
    }
    let mut left = AHEAD_BYTES_MAX;
    let mut pieces = Vec::new();
    for Places { matrix, rows } in runs {
        let read = rows.map(|rows| weights[matrix].rows_bytes(rows));
        pieces.push(read.map(|bytes| Soon::of(&bytes[..bytes.len().min(left)])));
        left = left.saturating_sub(read[0].len());
    }
    Ahead::new(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tealight_bundle::gguf::DType;
    use tealight_bundle::mapped::Mapped;

    /// Q8_0 matrices of these shapes, stored back to back in a file.
    fn matrices(shapes: &[(usize, usize)]) -> Vec<Matrix> {
        let sizes = shapes.iter().map(|(rows, columns)| rows * columns / 32 * 34);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0; sizes.clone().sum()]).unwrap();
        let mapped = Arc::new(Mapped::open(file.path()).unwrap());
        let mut at = 0;
        let make = |(size, &(rows, columns))| {
            let range = at..at + size;
            at += size;
            Matrix::new(Arc::clone(&mapped), range, DType::Q8_0, rows, columns).unwrap()
        };
        sizes.zip(shapes).map(make).collect()
    }

    #[test]
    fn every_row_is_in_one_part_for_any_shapes_and_number_of_threads() {
        let all = matrices(&[(1000, 640), (256, 640), (7, 640), (1, 640), (4096, 640)]);
        for threads in 1..6 {
            for end in 1..=all.len() {
                let weights: Vec<_> = all[..end].iter().collect();
                let division = Division::new(&weights, threads);
                let mut counts: Vec<_> = weights.iter().map(|w| vec![0; w.rows]).collect();
                let shares = (0..threads).flat_map(|thread| division.share(thread));
                for Places { matrix, rows } in shares.map(|part| &division.parts[part]) {
                    for row in rows.iter().flat_map(Range::clone) {
                        counts[*matrix][row] += 1;
                    }
                }
                assert!(counts.iter().flatten().all(|&count| count == 1), "{threads} threads");
            }
        }
    }

    #[test]
    fn the_product_that_followed_is_predicted_again() {
        let all = matrices(&[(64, 32), (64, 32), (64, 32)]);
        // The last starts with the same matrix as the second but is a different product.
        let sets: [&[&Matrix]; 4] = [&[&all[0]], &[&all[1], &all[2]], &[&all[2]], &[&all[1]]];
        let (mut known, pool) = (Known::default(), Pool::new(2));
        for set in sets {
            assert!(known.follow(set, &pool).1.is_none());
        }
        let mut expected = None;
        for set in sets.iter().chain(&sets) {
            let (division, next) = known.follow(set, &pool);
            assert!(division.is_of(set));
            assert!(
                expected
                    .is_none_or(|expected| expected == known.steps[known.last.unwrap()].learned)
            );
            expected = next;
        }
        assert_eq!(known.steps.len(), sets.len());
    }

    #[test]
    fn more_products_than_are_kept_are_still_divided() {
        let all = matrices(&[(KEPT_MAX + 9, 32)]);
        let (mut known, pool) = (Known::default(), Pool::new(2));
        for row in (0..all[0].rows).chain(0..all[0].rows) {
            let one = all[0].part(row..row + 1);
            assert!(known.follow(&[&one], &pool).0.is_of(&[&one]));
        }
        assert!(known.steps.len() <= KEPT_MAX);
    }
}
