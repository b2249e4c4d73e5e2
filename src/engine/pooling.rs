//! Pooling: from a hidden row for each position to the vector of a text.

use crate::model::Pooling;

/// Pools rows that arrive in order.
pub struct Pooler {
    pooling: Pooling,
    width: usize,
    count: usize,
    seen: usize,
    rows: Vec<Vec<f32>>,
    /// In f64: an f32 sum over thousands of rows would lose digits.
    sum: Vec<f64>,
}

impl Pooler {
    /// Pools `count` rows of `width` elements.
    #[must_use]
    pub fn new(pooling: Pooling, count: usize, width: usize) -> Self {
        Self { pooling, width, count, seen: 0, rows: Vec::new(), sum: vec![0.0; width] }
    }

    /// Adds rows.
    pub fn add(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.width) {
            let kept = match self.pooling {
                Pooling::None => true,
                Pooling::Mean => {
                    self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
                    false
                }
                Pooling::Cls | Pooling::Rank => self.seen == 0,
                Pooling::Last => self.seen + 1 == self.count,
            };
            if kept {
                self.rows.push(row.to_vec());
            }
            self.seen += 1;
        }
    }

    /// The vectors: one, or one for each row without pooling.
    #[must_use]
    pub fn finish(mut self) -> Vec<Vec<f32>> {
        if self.pooling == Pooling::Mean {
            let count = self.seen.max(1) as f64;
            self.rows.push(self.sum.iter().map(|sum| (sum / count) as f32).collect());
        }
        self.rows
    }
}

/// Scales a vector by llama.cpp's numbers for `--embd-normalize`: −1 leaves it as it is, 0 makes its largest element
/// 32,760, 1 makes its taxicab norm 1, 2 its Euclidean norm, and p above 2 its p-norm.
pub fn normalize(vector: &mut [f32], norm: i32) {
    let largest = vector.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
    let size = match norm {
        ..0 => 1.0,
        0 => largest / 32_760.0,
        _ if largest > 0.0 => {
            // Relative to the largest element, so that powers don't overflow.
            let p = f64::from(norm);
            let sum: f64 = vector.iter().map(|x| libm::pow(f64::from(x.abs()) / largest, p)).sum();
            largest * libm::pow(sum, 1.0 / p)
        }
        _ => 0.0,
    };
    let factor = if size > 0.0 { 1.0 / size } else { 0.0 };
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_does_not_depend_on_the_batches() {
        let rows: Vec<f32> = (0..15).map(|i| i as f32).collect();
        for (pooling, expected) in [
            (Pooling::Mean, vec![vec![6.0, 7.0, 8.0]]),
            (Pooling::Cls, vec![vec![0.0, 1.0, 2.0]]),
            (Pooling::Last, vec![vec![12.0, 13.0, 14.0]]),
            (Pooling::None, rows.chunks(3).map(<[f32]>::to_vec).collect()),
        ] {
            for batch in [1, 2, 5] {
                let mut pool = Pooler::new(pooling, 5, 3);
                rows.chunks(3 * batch).for_each(|part| pool.add(part));
                assert_eq!(pool.finish(), expected);
            }
        }
    }

    #[test]
    fn vectors_have_the_requested_length() {
        let scaled = |norm: i32, from: &[f32]| {
            let mut vector = from.to_vec();
            normalize(&mut vector, norm);
            vector
        };
        assert_eq!(scaled(-1, &[3.0, -4.0]), [3.0, -4.0]);
        assert_eq!(scaled(0, &[3.0, -4.0]), [24_570.0, -32_760.0]);
        assert_eq!(scaled(2, &[3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(scaled(1, &[1.0, -3.0]), [0.25, -0.75]);
        assert_eq!(scaled(2, &[0.0, 0.0]), [0.0, 0.0]);
        let large = scaled(40, &[1e30, -1e30]);
        assert!(large.iter().all(|x| x.is_finite() && x.abs() > 0.9));
    }
}
