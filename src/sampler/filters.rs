//! The stages that remove tokens, and the temperature.

use super::candidates::{Candidate, Candidates, likelier, weight};
use super::settings::Sampling;

impl Candidates {
    /// Nucleus sampling: keeps the fewest top tokens that together reach probability `top_p`.
    pub(super) fn top_p(&mut self, s: &Sampling) {
        let (max, wanted) = (self.max(), f64::from(s.top_p) * self.total());
        let enough = |sum: f64, count: usize| sum >= wanted && count >= s.min_keep;
        self.keep_head(self.sorted, likelier, |c| weight(c.logit, max), enough);
        self.sorted = true;
    }

    /// Keeps tokens at least `min_p` times as likely as the most likely one.
    pub(super) fn min_p(&mut self, s: &Sampling) {
        let least = self.max() + libm::logf(s.min_p);
        let count = self.list.iter().filter(|c| c.logit >= least).count();
        if count < s.min_keep {
            return self.keep_likeliest(s.min_keep);
        }
        self.list.retain(|c| c.logit >= least);
    }

    /// Locally typical sampling (Meister et al. 2022): keeps the fewest tokens whose surprise is nearest to the entropy
    /// and that together exceed probability `typical_p`.
    pub(super) fn typical_p(&mut self, s: &Sampling) {
        let (log_total, entropy) = (self.log_total(), self.entropy());
        let surprise = |c: &Candidate| log_total - f64::from(c.logit);
        let oddity = |c: &Candidate| (surprise(c) - entropy).abs();
        let order = |a: &Candidate, b: &Candidate| {
            oddity(a).total_cmp(&oddity(b)).then_with(|| likelier(a, b))
        };
        let wanted = f64::from(s.typical_p);
        let enough = |sum: f64, count: usize| sum > wanted && count >= s.min_keep;
        self.keep_head(false, order, |c| libm::exp(-surprise(c)), enough);
        self.sorted = false;
    }

    /// Keeps tokens whose logits are within `top_n_sigma` standard deviations of the largest.
    pub(super) fn top_n_sigma(&mut self, s: &Sampling) {
        let count = self.list.len() as f64;
        let mean = self.list.iter().map(|c| f64::from(c.logit)).sum::<f64>() / count;
        let off = |c: &Candidate| f64::from(c.logit) - mean;
        let square = |c: &Candidate| off(c) * off(c);
        let deviation = (self.list.iter().map(square).sum::<f64>() / count).sqrt();
        let least = self.max() - s.top_n_sigma * deviation as f32;
        self.list.retain(|c| c.logit >= least);
    }

    /// "Exclude top choices": of the tokens at least `xtc_threshold` likely, only the least likely stays.
    pub(super) fn xtc(&mut self, s: &Sampling) {
        // In logits: p ≥ threshold where logit − log of the sum ≥ log of the threshold.
        let least = self.log_total() + libm::log(f64::from(s.xtc_threshold));
        let top = |c: &Candidate| f64::from(c.logit) >= least;
        let count = self.list.iter().filter(|c| top(c)).count();
        if count < 2 || self.list.len() - (count - 1) < s.min_keep {
            return;
        }
        if let Some(last) = self.list.iter().filter(|c| top(c)).copied().max_by(likelier) {
            self.list.retain(|c| !top(c) || c.id == last.id);
        }
    }

    /// Divides logits by the temperature, which may follow the entropy.
    pub(super) fn temperature(&mut self, s: &Sampling) {
        if s.dynatemp_range <= 0.0 {
            return self.divide(s.temperature);
        }
        if self.list.len() < 2 {
            return;
        }
        let low = (s.temperature - s.dynatemp_range).max(0.0);
        let high = s.temperature + s.dynatemp_range;
        let part = (self.entropy() / libm::log(self.list.len() as f64)).clamp(0.0, 1.0);
        self.divide(low + (high - low) * libm::pow(part, f64::from(s.dynatemp_exponent)) as f32);
    }

    fn divide(&mut self, temperature: f32) {
        // A temperature at which the largest logit overflows counts as 0.
        if temperature > 0.0 && (self.max() / temperature).is_finite() {
            self.list.iter_mut().for_each(|c| c.logit = (c.logit / temperature).max(f32::MIN));
        } else if let Some(best) = self.best() {
            self.list.retain(|c| c.id == best.id);
        }
    }
}
