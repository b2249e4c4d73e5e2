//! Chooses the next token from logits.
//!
//! Enters: logits and the tokens so far. Leaves: one token id. Knows nothing of text. The order of the
//! steps is llama.cpp's: bias, penalties, top-k, top-p, min-p, temperature, then one random number.

use std::collections::HashMap;

/// What a request may set; the defaults are llama.cpp's.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 chooses the likeliest token always.
    pub temperature: f32,
    /// Only the k likeliest; 0: all.
    pub top_k: usize,
    /// Only the likeliest that together reach this probability; 1: all.
    pub top_p: f32,
    /// Only those at least this fraction as likely as the likeliest; 0: all.
    pub min_p: f32,
    /// Divides the logits of recent tokens (multiplies negative ones); 1: off.
    pub repeat_penalty: f32,
    /// How many recent tokens the penalties see; `None`: all.
    pub repeat_last_n: Option<usize>,
    /// Subtracted once from the logit of every recent token.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token for each time it occurred.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text; `None`: a new one each time.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: Some(64),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// The state of one generation.
pub struct Sampler {
    settings: Sampling,
    random: SplitMix,
}

impl Sampler {
    /// A sampler at the start of a generation.
    #[must_use]
    pub fn new(settings: Sampling) -> Self {
        let seed = settings.seed.unwrap_or_else(fresh_seed);
        Self { settings, random: SplitMix(seed) }
    }

    /// The next token after `past`. Logits that are not numbers count as impossible.
    pub fn sample(&mut self, logits: &[f32], past: &[u32]) -> u32 {
        let s = &self.settings;
        let adjusted;
        let logits = if s.is_plain() {
            logits
        } else {
            adjusted = adjust(s, logits, past);
            &adjusted
        };
        if s.temperature <= 0.0 {
            return greedy(logits);
        }
        let mut kept = top_k(logits, s.top_k);
        keep_top_p(&mut kept, s.top_p);
        keep_min_p(&mut kept, s.min_p);
        let max = kept.first().map_or(0.0, |c| c.logit);
        let weights: Vec<f64> =
            kept.iter().map(|c| f64::from((c.logit - max) / s.temperature).exp()).collect();
        let mut left = self.random.next_unit() * weights.iter().sum::<f64>();
        for (candidate, weight) in kept.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return candidate.id;
            }
        }
        kept.last().map_or(0, |c| c.id)
    }
}

/// The likeliest token; the first of equals.
#[must_use]
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0_u32..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0
}

/// Natural logarithms of probabilities: that of `id`, and the `n` likeliest tokens with theirs.
#[must_use]
pub fn log_probabilities(logits: &[f32], id: u32, n: usize) -> (f32, Vec<(u32, f32)>) {
    let finite = |x: &f32| if x.is_nan() { f32::NEG_INFINITY } else { *x };
    let max = logits.iter().map(finite).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(finite(x) - max).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "reported as f32")]
    let log_sum = max + sum.ln() as f32;
    let own = logits.get(id as usize).map_or(f32::NEG_INFINITY, |x| finite(x) - log_sum);
    let top = if n == 0 { Vec::new() } else { top_k(logits, n) };
    (own, top.into_iter().map(|c| (c.id, c.logit - log_sum)).collect())
}

#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampling {
    fn is_plain(&self) -> bool {
        self.logit_bias.is_empty()
            && (self.repeat_penalty - 1.0).abs() < f32::EPSILON
            && self.presence_penalty == 0.0
            && self.frequency_penalty == 0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens")]
fn adjust(s: &Sampling, logits: &[f32], past: &[u32]) -> Vec<f32> {
    let mut logits = logits.to_vec();
    for &(id, bias) in &s.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    let window = s.repeat_last_n.unwrap_or(past.len()).min(past.len());
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for &id in &past[past.len() - window..] {
        *counts.entry(id).or_default() += 1;
    }
    for (id, count) in counts {
        let Some(logit) = logits.get_mut(id as usize) else { continue };
        *logit = if *logit > 0.0 { *logit / s.repeat_penalty } else { *logit * s.repeat_penalty };
        *logit -= s.presence_penalty + s.frequency_penalty * count as f32;
    }
    logits
}

/// The k likeliest (all if 0), likeliest first, equals by id.
fn top_k(logits: &[f32], k: usize) -> Vec<Candidate> {
    let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
    let mut all: Vec<Candidate> = (0_u32..)
        .zip(logits)
        .filter(|(_, l)| !l.is_nan())
        .map(|(id, &logit)| Candidate { id, logit })
        .collect();
    if k > 0 && k < all.len() {
        all.select_nth_unstable_by(k - 1, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

/// Keeps the shortest head of the sorted candidates that reaches probability `p`.
fn keep_top_p(kept: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 || kept.is_empty() {
        return;
    }
    let max = kept[0].logit;
    let weights: Vec<f64> = kept.iter().map(|c| f64::from(c.logit - max).exp()).collect();
    let wanted = f64::from(p) * weights.iter().sum::<f64>();
    let mut reached = 0.0;
    let mut count = 0;
    for weight in weights {
        reached += weight;
        count += 1;
        if reached >= wanted {
            break;
        }
    }
    kept.truncate(count);
}

/// Keeps those at least `p` times as likely as the first.
fn keep_min_p(kept: &mut Vec<Candidate>, p: f32) {
    let Some(first) = kept.first().copied() else { return };
    if p > 0.0 {
        let least = first.logit + p.min(1.0).ln();
        kept.retain(|c| c.logit >= least);
    }
}

/// Sebastiano Vigna's `SplitMix64`: tiny, and the same on every machine for ever, which "same seed, same
/// text" needs.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A seed from the process's own source of randomness (that of hash tables: no dependency, no file).
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::time::Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(settings: Sampling, logits: &[f32], past: &[u32]) -> Vec<u32> {
        let mut sampler = Sampler::new(settings);
        (0..2000).map(|_| sampler.sample(logits, past)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_one_others() {
        let logits: Vec<f32> = (0..50_u8).map(|i| f32::from(i % 7)).collect();
        let with =
            |seed| sample(Sampling { seed: Some(seed), ..Sampling::default() }, &logits, &[]);
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [2.0_f32.ln(), 1.0_f32.ln(), 1.0_f32.ln()];
        let all = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            seed: Some(3),
            ..Sampling::default()
        };
        let firsts = sample(all, &logits, &[]).iter().filter(|&&id| id == 0).count();
        assert!((900..1100).contains(&firsts), "{firsts} of 2000, expected about 1000");
    }

    #[test]
    fn each_limit_cuts_where_it_says() {
        let logits = [3.0, 2.0, 1.0, 0.0];
        let base = Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: Some(1),
            ..Sampling::default()
        };
        let largest = |s: Sampling| sample(s, &logits, &[]).into_iter().max();
        assert_eq!(largest(base.clone()), Some(3));
        assert_eq!(largest(Sampling { top_k: 2, ..base.clone() }), Some(1));
        // Probabilities are 0.64, 0.24, 0.09, 0.03.
        assert_eq!(largest(Sampling { top_p: 0.8, ..base.clone() }), Some(1));
        assert_eq!(largest(Sampling { min_p: 0.1, ..base.clone() }), Some(2));
        assert_eq!(largest(Sampling { temperature: 0.0, ..base }), Some(0));
    }

    #[test]
    fn penalties_and_bias_move_logits() {
        let logits = [1.0, 0.9, -1.0];
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let first = |s: Sampling, past: &[u32]| Sampler::new(s).sample(&logits, past);
        assert_eq!(first(Sampling { repeat_penalty: 1.5, ..greedy.clone() }, &[0]), 1);
        assert_eq!(first(Sampling { presence_penalty: 0.2, ..greedy.clone() }, &[0]), 1);
        assert_eq!(first(Sampling { frequency_penalty: 0.06, ..greedy.clone() }, &[0, 0]), 1);
        assert_eq!(first(Sampling { logit_bias: vec![(2, 5.0)], ..greedy.clone() }, &[]), 2);
        let short = Sampling { repeat_penalty: 1.5, repeat_last_n: Some(1), ..greedy };
        assert_eq!(first(short, &[0, 2]), 0);
    }

    #[test]
    fn logits_that_are_no_numbers_choose_something_that_exists() {
        for logits in
            [vec![f32::NAN; 3], vec![f32::NAN, f32::INFINITY, 1.0], vec![f32::NEG_INFINITY; 3]]
        {
            for id in sample(Sampling::default(), &logits, &[]) {
                assert!(id < 3);
            }
        }
    }
}
