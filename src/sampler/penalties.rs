//! Penalties on tokens that occurred before: each changes a few logits, depending on the text so far.

use super::candidates::Candidates;
use super::settings::Sampling;
use hashbrown::HashMap;

/// A penalty on the logits of some tokens.
pub(super) trait Penalty {
    /// The penalized tokens.
    fn tokens(&self) -> impl Iterator<Item = u32>;
    /// A token's logit with the penalty.
    fn adjusted(&self, id: u32, logit: f32) -> f32;

    /// Changes the logits of a whole vocabulary.
    fn on_logits(&self, logits: &mut [f32]) {
        for id in self.tokens() {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = self.adjusted(id, *logit);
            }
        }
    }

    /// Changes the logits of the remaining candidates.
    fn on_candidates(&self, candidates: &mut Candidates) {
        candidates.list.iter_mut().for_each(|c| c.logit = self.adjusted(c.id, c.logit));
        candidates.sorted = false;
    }
}

/// The repetition, presence and frequency penalties.
#[derive(Clone)]
pub(super) struct Repetition {
    repeat: f32,
    presence: f32,
    frequency: f32,
    last_n: usize,
    /// Number of occurrences of each token in the window.
    counts: HashMap<u32, u32>,
    /// Number of tokens of the text counted so far.
    counted: usize,
}

impl Repetition {
    /// `None` if the settings ask for none.
    pub(super) fn new(s: &Sampling) -> Option<Self> {
        let last_n = s.repeat_last_n.unwrap_or(usize::MAX);
        #[expect(clippy::float_cmp, reason = "exactly 1 and 0 are off")]
        let off =
            s.repeat_penalty == 1.0 && s.presence_penalty == 0.0 && s.frequency_penalty == 0.0;
        (!off && last_n > 0).then(|| Self {
            repeat: s.repeat_penalty,
            presence: s.presence_penalty,
            frequency: s.frequency_penalty,
            last_n,
            counts: HashMap::new(),
            counted: 0,
        })
    }

    /// Updates the counts for the text so far, which only grows.
    pub(super) fn see(&mut self, past: &[u32]) {
        // Skip tokens that left the window before they were counted.
        let start = self.counted.max(past.len().saturating_sub(self.last_n));
        for &id in past.iter().skip(start) {
            *self.counts.entry(id).or_default() += 1;
        }
        let left = |len: usize| len.saturating_sub(self.last_n);
        for id in past.iter().take(left(past.len()).min(self.counted)).skip(left(self.counted)) {
            if let Some(count) = self.counts.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(id);
                }
            }
        }
        self.counted = past.len();
    }
}

impl Penalty for Repetition {
    fn tokens(&self) -> impl Iterator<Item = u32> {
        self.counts.keys().copied()
    }

    fn adjusted(&self, id: u32, logit: f32) -> f32 {
        let Some(&count) = self.counts.get(&id) else { return logit };
        // Dividing a negative logit would make the token likelier.
        let logit = if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat };
        logit - (count as f32 * self.frequency + self.presence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_the_sliding_window() {
        let text: Vec<u32> = (0..200).map(|i| i * i % 7).collect();
        for last_n in [1, 5, 64, 500] {
            for step in [1, 3, 80] {
                let s = Sampling {
                    repeat_penalty: 2.0,
                    repeat_last_n: Some(last_n),
                    ..Sampling::default()
                };
                let mut penalty = Repetition::new(&s).unwrap();
                for end in (0..=text.len()).step_by(step) {
                    penalty.see(&text[..end]);
                    let mut expected = HashMap::new();
                    for &id in &text[end.saturating_sub(last_n)..end] {
                        *expected.entry(id).or_default() += 1;
                    }
                    assert_eq!(penalty.counts, expected, "{end} of {last_n} by {step}");
                }
            }
        }
    }
}
