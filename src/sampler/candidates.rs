//! The tokens that may still be drawn.
//!
//! Input: logits, and which tokens are allowed. Output: one token, drawn with a random number. In between, the stages
//! of the chain remove tokens. Nothing is sorted further than necessary: a vocab has up to 262,144 tokens. Impossible
//! tokens (logits of −∞ or NaN) are never included; the reference keeps them, and counts them where it uses the number
//! of candidates.

use std::cmp::Ordering;

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit, as changed by the stages so far.
    pub logit: f32,
}

/// The remaining tokens; the buffer is reused for each token of a text.
#[derive(Default)]
pub(super) struct Candidates {
    pub(super) list: Vec<Candidate>,
    /// Whether they are sorted, most likely first.
    pub(super) sorted: bool,
}

/// Number of candidates sorted first when the number needed is unknown; then eight times as many.
const HEAD: usize = 256;

impl Candidates {
    /// Collects all allowed tokens.
    pub(super) fn gather(&mut self, logits: &[f32], allowed: Option<&[u32]>) {
        self.list.clear();
        scan(logits, allowed, |id, logit| {
            self.list.push(Candidate { id, logit: logit.min(f32::MAX) });
            f32::NEG_INFINITY
        });
        self.sorted = false;
    }

    /// Collects the k most likely allowed tokens in one pass: the list has room for more than k, and when it is full,
    /// all below the k-th so far are dropped and no longer looked at.
    pub(super) fn gather_top(&mut self, logits: &[f32], allowed: Option<&[u32]>, k: usize) {
        let full = k.saturating_mul(2).max(1024);
        let mut least = f32::NEG_INFINITY;
        self.list.clear();
        scan(logits, allowed, |id, logit| {
            self.list.push(Candidate { id, logit: logit.min(f32::MAX) });
            if self.list.len() == full {
                self.list.select_nth_unstable_by(k - 1, likelier);
                self.list.truncate(k);
                // Ids ascend, so on ties the first are already here.
                least = self.list[k - 1].logit;
            }
            least
        });
        self.sorted = false;
        self.keep_likeliest(k);
    }

    /// Keeps the n most likely, sorted.
    pub(super) fn keep_likeliest(&mut self, n: usize) {
        if n < self.list.len() {
            if !self.sorted {
                self.list.select_nth_unstable_by(n, likelier);
            }
            self.list.truncate(n);
        }
        if !self.sorted {
            self.list.sort_unstable_by(likelier);
            self.sorted = true;
        }
    }

    /// The n most likely, sorted; the others stay behind them.
    pub(super) fn head(&mut self, n: usize) -> &[Candidate] {
        let n = n.min(self.list.len());
        if !self.sorted {
            if n < self.list.len() {
                self.list.select_nth_unstable_by(n, likelier);
            }
            self.list[..n].sort_unstable_by(likelier);
        }
        &self.list[..n]
    }

    /// Keeps the shortest head of the list in this order that is `enough`, given its summed weight and its length.
    /// `sorted`: the list is already in this order.
    pub(super) fn keep_head(
        &mut self,
        sorted: bool,
        order: impl Fn(&Candidate, &Candidate) -> Ordering,
        weight: impl Fn(&Candidate) -> f64,
        enough: impl Fn(f64, usize) -> bool,
    ) {
        let (mut sum, mut count, mut head) = (0.0, 0, if sorted { self.list.len() } else { 0 });
        while count < self.list.len() {
            if count == head {
                head = (head * 8).max(HEAD).min(self.list.len());
                let rest = &mut self.list[count..];
                if head - count < rest.len() {
                    rest.select_nth_unstable_by(head - count, &order);
                }
                rest[..head - count].sort_unstable_by(&order);
            }
            sum += weight(&self.list[count]);
            count += 1;
            if enough(sum, count) {
                break;
            }
        }
        self.list.truncate(count);
    }

    /// The most likely candidate; `None` when there is none.
    pub(super) fn best(&self) -> Option<Candidate> {
        if self.sorted {
            return self.list.first().copied();
        }
        self.list.iter().copied().min_by(likelier)
    }

    /// The largest logit.
    pub(super) fn max(&self) -> f32 {
        self.best().map_or(0.0, |c| c.logit)
    }

    /// Sum of the weights e^(logit − largest).
    pub(super) fn total(&self) -> f64 {
        let max = self.max();
        self.list.iter().map(|c| weight(c.logit, max)).sum()
    }

    /// Logarithm of the sum of e^logit: a token's log probability is its logit minus this.
    pub(super) fn log_total(&self) -> f64 {
        f64::from(self.max()) + libm::log(self.total())
    }

    /// Entropy in nats.
    pub(super) fn entropy(&self) -> f64 {
        let log_total = self.log_total();
        let part = |c: &Candidate| {
            let log_p = f64::from(c.logit) - log_total;
            libm::exp(log_p) * log_p
        };
        -self.list.iter().map(part).sum::<f64>()
    }

    /// Draws a token: the one where the cumulative probability passes `unit`, a number in [0, 1).
    pub(super) fn draw(&self, unit: f64) -> Option<u32> {
        let max = self.max();
        let mut left = unit * self.total();
        for candidate in &self.list {
            left -= weight(candidate.logit, max);
            if left < 0.0 {
                return Some(candidate.id);
            }
        }
        self.list.last().map(|c| c.id)
    }
}

/// The most likely allowed token, the first one on ties; `None` if none is possible.
pub(super) fn best(logits: &[f32], allowed: Option<&[u32]>) -> Option<u32> {
    let mut best = None;
    scan(logits, allowed, |id, logit| {
        best = Some(id);
        logit
    });
    best
}

/// The first allowed token.
pub(super) fn first(allowed: Option<&[u32]>) -> u32 {
    let words = allowed.unwrap_or(&[1]);
    let word = words.iter().position(|&word| word != 0).unwrap_or(0);
    let bit = words.get(word).map_or(0, |word| word.trailing_zeros() % 32);
    u32::try_from(word).unwrap_or(0) * 32 + bit
}

/// Orders the likelier first, ties by id.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that sorting asks for")]
pub(super) fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// e^(logit − largest).
pub(super) fn weight(logit: f32, max: f32) -> f64 {
    f64::from(libm::expf(logit - max))
}

/// Whether any logit is above a bound.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches it is a few vector instructions"
)]
fn any_above(logits: &[f32], bound: f32) -> bool {
    logits.iter().fold(false, |any, &logit| any | (logit > bound))
}

/// Calls `see` for each allowed token whose logit is above a bound, ids ascending. The bound is what `see` last
/// returned, initially −∞, so that most of a vocab is skipped in chunks. `allowed` has one bit per id, lowest first.
fn scan(logits: &[f32], allowed: Option<&[u32]>, mut see: impl FnMut(u32, f32) -> f32) {
    let mut bound = f32::NEG_INFINITY;
    let Some(words) = allowed else {
        for (base, logits) in (0_u32..).step_by(64).zip(logits.chunks(64)) {
            if any_above(logits, bound) {
                for (id, &logit) in (base..).zip(logits) {
                    if logit > bound {
                        bound = see(id, logit);
                    }
                }
            }
        }
        return;
    };
    for ((base, &word), logits) in (0_u32..).step_by(32).zip(words).zip(logits.chunks(32)) {
        let mut bits = if word != 0 && any_above(logits, bound) { word } else { 0 };
        while bits != 0 {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            if let Some(&logit) = logits.get(bit as usize)
                && logit > bound
            {
                bound = see(base + bit, logit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits with many ties, in neither ascending nor descending order; the factor and the modulus are coprime.
    fn logits(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 613) as f32 / 50.0).collect()
    }

    fn sorted(logits: &[f32], allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut all: Vec<Candidate> =
            (0..).zip(logits).map(|(id, &logit)| Candidate { id, logit }).collect();
        all.retain(|c| allowed(c.id));
        all.sort_by(likelier);
        all.iter().map(|c| c.id).collect()
    }

    #[test]
    fn the_single_pass_top_k_matches_sorting() {
        // Sizes below, at and above the one at which the list is cut; ascending logits, where every token is a new
        // maximum.
        let ascending: Vec<f32> = (0..5000_u16).map(f32::from).collect();
        for logits in
            [logits(1), logits(1023), logits(1024), logits(1025), logits(20_000), ascending]
        {
            for k in [1, 40, 600, 30_000] {
                let mut candidates = Candidates::default();
                candidates.gather_top(&logits, None, k);
                let mut expected = sorted(&logits, |_| true);
                expected.truncate(k);
                assert_eq!(candidates.list.iter().map(|c| c.id).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn only_allowed_tokens_are_seen() {
        let logits = logits(100);
        // The last word has bits beyond the vocabulary; they are ignored.
        let words = [0x8000_0001, 0, 0xffff_ffff, 0xffff_ffff];
        let allowed = |id: u32| words[id as usize / 32] >> (id % 32) & 1 == 1;
        let expected = sorted(&logits, allowed);
        let mut candidates = Candidates::default();
        candidates.gather(&logits, Some(&words));
        candidates.keep_likeliest(usize::MAX);
        assert_eq!(candidates.list.iter().map(|c| c.id).collect::<Vec<_>>(), expected);
        assert_eq!(best(&logits, Some(&words)), Some(expected[0]));
        assert_eq!(first(Some(&words)), 0);
        assert_eq!(first(Some(&[0, 8])), 35);
    }

    #[test]
    fn the_head_is_as_short_as_after_sorting() {
        let logits = logits(9000);
        let expected = sorted(&logits, |_| true);
        for count in [1, 255, 256, 257, 2048, 2049, 9000, 9001] {
            let mut candidates = Candidates::default();
            candidates.gather(&logits, None);
            candidates.keep_head(false, likelier, |_| 1.0, |sum, _| sum >= count as f64);
            let ids: Vec<u32> = candidates.list.iter().map(|c| c.id).collect();
            assert_eq!(ids, expected[..count.min(9000)]);
        }
    }
}
