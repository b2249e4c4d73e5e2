//! Chooses the next token from logits.
//!
//! Input: logits, the tokens so far, and which tokens are allowed. Output: one token id. Knows nothing of text. The
//! stages, their order and their arithmetic are llama.cpp's: bias, then the chain (penalties, DRY, top-n-sigma, top-k,
//! typical, top-p, min-p, XTC, temperature, unless another order is asked for), then one random number. Tokens that are
//! not allowed are removed before the first stage.

mod candidates;
mod dry;
mod feedback;
mod filters;
mod penalties;
mod random;
mod settings;

pub use candidates::Candidate;
pub use dry::Breakers;
pub use settings::{Sampling, Stage};

use candidates::{Candidates, best, first};
use dry::Dry;
use feedback::Feedback;
use penalties::{Penalty as _, Repetition};
use random::SplitMix;

/// The state of one generation.
pub struct Sampler {
    settings: Sampling,
    /// The active stages.
    stages: Vec<Stage>,
    /// Number of leading stages, which change single logits and remove no token.
    leading: usize,
    /// Whether only the most likely token can be chosen.
    greedy: bool,
    repetition: Option<Repetition>,
    dry: Option<Dry>,
    feedback: Option<Feedback>,
    random: SplitMix,
    /// Logits with bias and penalties.
    adjusted: Vec<f32>,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler at the start of a generation. `breakers`: those of the settings, if DRY is on.
    #[must_use]
    pub fn new(settings: Sampling, breakers: Breakers) -> Self {
        let repetition = Repetition::new(&settings);
        let dry = Dry::new(&settings, breakers);
        let s = &settings;
        let acts = |stage: &Stage| match stage {
            Stage::Penalties => repetition.is_some(),
            Stage::Dry => dry.is_some(),
            Stage::TopNSigma => s.top_n_sigma > 0.0,
            Stage::TopK => s.top_k > 0,
            Stage::TypicalP => s.typical_p < 1.0,
            Stage::TopP => s.top_p < 1.0,
            Stage::MinP => s.min_p > 0.0,
            Stage::Xtc => s.xtc_probability > 0.0 && s.xtc_threshold <= 0.5,
            Stage::Temperature => true,
            Stage::AdaptiveP => false,
        };
        let mut stages: Vec<Stage> = s.samplers.iter().copied().filter(acts).collect();
        if s.mirostat > 0 {
            stages = vec![Stage::Temperature];
        }
        let adjusts = |stage: &Stage| matches!(stage, Stage::Penalties | Stage::Dry);
        let leading = stages.iter().take_while(|stage| adjusts(stage)).count();
        let feedback = Feedback::new(s);
        // These remove the most likely token last; temperature 0 removes all but it.
        let keeps_best = |stage: &Stage| {
            use Stage::{MinP, Temperature, TopK, TopNSigma, TopP};
            matches!(stage, TopNSigma | TopK | TopP | MinP | Temperature)
        };
        let cold = s.temperature <= 0.0 && (s.dynatemp_range <= 0.0 || s.mirostat > 0);
        let greedy = cold
            && stages.contains(&Stage::Temperature)
            && stages[leading..].iter().all(keeps_best)
            && (feedback.is_none() || s.mirostat > 0);
        let random = SplitMix::new(s.seed);
        Self {
            settings,
            stages,
            leading,
            greedy,
            repetition,
            dry,
            feedback,
            random,
            adjusted: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    /// Another sampler in the same state, between two tokens: both choose alike from here on. Keeping one is how a
    /// generation goes back.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            stages: self.stages.clone(),
            leading: self.leading,
            greedy: self.greedy,
            repetition: self.repetition.clone(),
            dry: self.dry.clone(),
            feedback: self.feedback.clone(),
            random: self.random.clone(),
            adjusted: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    /// Chooses the next token after `past`, which only grows from call to call. `allowed` has one bit per token, lowest
    /// id first; at least one is set. Logits that are NaN count as impossible.
    pub fn sample(&mut self, logits: &[f32], past: &[u32], allowed: Option<&[u32]>) -> u32 {
        if self.greedy {
            let adjusted = self.adjust(logits, past);
            let logits = if adjusted { &self.adjusted } else { logits };
            return best(logits, allowed).unwrap_or_else(|| possible(logits, allowed));
        }
        self.narrow(logits, past, allowed);
        let unit = self.random.next_unit();
        let id = self.candidates.draw(unit).unwrap_or(0);
        self.accept(id);
        id
    }

    /// The candidates left after every stage. Draw one by the softmax of their logits and pass it to
    /// [`Sampler::accept`]. [`Sampler::sample`] does all of this.
    pub fn narrow(
        &mut self,
        logits: &[f32],
        past: &[u32],
        allowed: Option<&[u32]>,
    ) -> &[Candidate] {
        let adjusted = self.adjust(logits, past);
        let adjusted = if adjusted { &self.adjusted } else { logits };
        let (s, c) = (&self.settings, &mut self.candidates);
        let mut stages = &self.stages[self.leading..];
        if let Some((Stage::TopK, rest)) = stages.split_first() {
            c.gather_top(adjusted, allowed, s.top_k);
            stages = rest;
        } else {
            c.gather(adjusted, allowed);
        }
        if c.list.is_empty() {
            c.list.push(Candidate { id: possible(logits, allowed), logit: 0.0 });
        }
        for stage in stages {
            match stage {
                Stage::Penalties => self.repetition.iter().for_each(|p| p.on_candidates(c)),
                Stage::Dry => self.dry.iter().for_each(|p| p.on_candidates(c)),
                Stage::TopNSigma => c.top_n_sigma(s),
                Stage::TopK => c.keep_likeliest(s.top_k),
                Stage::TypicalP => c.typical_p(s),
                Stage::TopP => c.top_p(s),
                Stage::MinP => c.min_p(s),
                Stage::Xtc => {
                    if self.random.next_unit() < f64::from(s.xtc_probability) {
                        c.xtc(s);
                    }
                }
                Stage::Temperature => c.temperature(s),
                Stage::AdaptiveP => {}
            }
        }
        if let Some(feedback) = &mut self.feedback {
            feedback.narrow(c, logits.len());
        }
        &c.list
    }

    /// Records which of the candidates was chosen.
    pub fn accept(&mut self, id: u32) {
        if let Some(feedback) = &mut self.feedback {
            feedback.accept(&self.candidates, id);
        }
    }

    /// Writes the logits with bias and leading penalties to `adjusted`; returns false if there are none.
    fn adjust(&mut self, logits: &[f32], past: &[u32]) -> bool {
        let used = |stage| self.stages.contains(&stage);
        if let Some(repetition) = &mut self.repetition
            && used(Stage::Penalties)
        {
            repetition.see(past);
        }
        if let Some(dry) = &mut self.dry
            && used(Stage::Dry)
        {
            dry.see(past);
        }
        if self.settings.logit_bias.is_empty() && self.leading == 0 {
            return false;
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for &(id, bias) in &self.settings.logit_bias {
            if let Some(logit) = self.adjusted.get_mut(id as usize) {
                *logit += bias;
            }
        }
        for stage in &self.stages[..self.leading] {
            match stage {
                Stage::Dry => self.dry.iter().for_each(|p| p.on_logits(&mut self.adjusted)),
                _ => self.repetition.iter().for_each(|p| p.on_logits(&mut self.adjusted)),
            }
        }
        true
    }
}

/// Fallback if bias leaves no token: the most likely allowed token, or the first one allowed.
fn possible(logits: &[f32], allowed: Option<&[u32]>) -> u32 {
    best(logits, allowed).unwrap_or_else(|| first(allowed))
}

/// The most likely token; the first one on ties.
#[must_use]
pub fn greedy(logits: &[f32]) -> u32 {
    best(logits, None).unwrap_or(0)
}

/// Natural logarithms of probabilities: that of `id`, and the `n` most likely tokens with theirs.
#[must_use]
pub fn log_probabilities(logits: &[f32], id: u32, n: usize) -> (f32, Vec<(u32, f32)>) {
    let finite = |x: &f32| if x.is_nan() { f32::NEG_INFINITY } else { *x };
    let max = logits.iter().map(finite).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| libm::exp(f64::from(finite(x) - max))).sum();
    let log_sum = max + libm::log(sum) as f32;
    let own = logits.get(id as usize).map_or(f32::NEG_INFINITY, |x| finite(x) - log_sum);
    let mut top = Candidates::default();
    if n > 0 {
        top.gather_top(logits, None, n);
    }
    (own, top.list.iter().map(|c| (c.id, c.logit - log_sum)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(settings: Sampling, logits: &[f32], past: &[u32]) -> Vec<u32> {
        let mut sampler = Sampler::new(settings, Breakers::default());
        (0..2000).map(|_| sampler.sample(logits, past, None)).collect()
    }

    #[test]
    fn the_seed_determines_the_tokens() {
        let logits: Vec<f32> = (0..50_u8).map(|i| f32::from(i % 7)).collect();
        let with =
            |seed| sample(Sampling { seed: Some(seed), ..Sampling::default() }, &logits, &[]);
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_fork_chooses_as_the_original_does_and_changes_nothing_of_it() {
        let base = Sampling { seed: Some(5), temperature: 1.5, ..Sampling::default() };
        let all = [
            Sampling {
                repeat_penalty: 1.3,
                frequency_penalty: 0.2,
                repeat_last_n: Some(8),
                ..base.clone()
            },
            Sampling { dry_multiplier: 0.8, dry_allowed_length: 1, ..base.clone() },
            Sampling { mirostat: 1, ..base.clone() },
            Sampling { mirostat: 2, ..base.clone() },
            Sampling { xtc_probability: 0.5, xtc_threshold: 0.05, ..base.clone() },
            Sampling {
                adaptive_target: 0.3,
                adaptive_decay: 0.9,
                samplers: vec![Stage::AdaptiveP],
                ..base
            },
        ];
        let logits =
            |at: usize| (0..40).map(|i| ((i * 7 + at * 3) % 11) as f32 * 0.4).collect::<Vec<_>>();
        for settings in all {
            let go_on = |sampler: &mut Sampler, past: &mut Vec<u32>| {
                for _ in 0..30 {
                    let id = sampler.sample(&logits(past.len()), past, None);
                    past.push(id);
                }
            };
            let mut sampler = Sampler::new(settings.clone(), Breakers::default());
            let mut past = Vec::new();
            go_on(&mut sampler, &mut past);
            let (kept, there) = (sampler.fork(), past.clone());
            go_on(&mut sampler, &mut past);
            for _ in 0..2 {
                let (mut again, mut its) = (kept.fork(), there.clone());
                go_on(&mut again, &mut its);
                assert_eq!(its, past, "{settings:?}");
            }
        }
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
    fn each_filter_cuts_at_its_limit() {
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
        assert_eq!(largest(Sampling { temperature: 0.0, ..base.clone() }), Some(0));
        assert_eq!(largest(Sampling { temperature: f32::MIN_POSITIVE, ..base }), Some(0));
    }

    #[test]
    fn penalties_and_bias_move_logits() {
        let logits = [1.0, 0.9, -1.0];
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let first = |s: Sampling, past: &[u32]| {
            Sampler::new(s, Breakers::default()).sample(&logits, past, None)
        };
        assert_eq!(first(Sampling { repeat_penalty: 1.5, ..greedy.clone() }, &[0]), 1);
        assert_eq!(first(Sampling { presence_penalty: 0.2, ..greedy.clone() }, &[0]), 1);
        assert_eq!(first(Sampling { frequency_penalty: 0.06, ..greedy.clone() }, &[0, 0]), 1);
        assert_eq!(first(Sampling { logit_bias: vec![(2, 5.0)], ..greedy.clone() }, &[]), 2);
        let short = Sampling { repeat_penalty: 1.5, repeat_last_n: Some(1), ..greedy };
        assert_eq!(first(short, &[0, 2]), 0);
    }

    #[test]
    fn nan_logits_still_choose_an_existing_token() {
        for logits in
            [vec![f32::NAN; 3], vec![f32::NAN, f32::INFINITY, 1.0], vec![f32::NEG_INFINITY; 3]]
        {
            for id in sample(Sampling::default(), &logits, &[]) {
                assert!(id < 3);
            }
        }
    }

    #[test]
    fn temperature_0_matches_the_full_chain() {
        let logits: Vec<f32> = (0..500_u16).map(|i| f32::from(i * 71 % 311) / 20.0).collect();
        let words = vec![0x8421_8421; 16];
        let cold = Sampling { temperature: 0.0, ..Sampling::default() };
        for settings in [
            cold.clone(),
            Sampling { top_k: 0, min_p: 0.0, top_p: 1.0, ..cold.clone() },
            Sampling { top_n_sigma: 1.0, repeat_penalty: 2.0, ..cold.clone() },
            Sampling { dry_multiplier: 3.0, dry_allowed_length: 0, ..cold.clone() },
            Sampling { logit_bias: vec![(7, 100.0)], ..cold.clone() },
            Sampling { mirostat: 2, ..cold.clone() },
        ] {
            for allowed in [None, Some(words.as_slice())] {
                let new = || Sampler::new(settings.clone(), Breakers::default());
                assert!(new().greedy, "{settings:?}");
                let left = new().narrow(&logits, &[310, 5, 310], allowed).to_vec();
                assert_eq!(left.len(), 1, "{settings:?}");
                assert_eq!(new().sample(&logits, &[310, 5, 310], allowed), left[0].id);
            }
        }
        for settings in [
            Sampling { typical_p: 0.5, ..cold.clone() },
            Sampling { xtc_probability: 1.0, ..cold.clone() },
            Sampling { dynatemp_range: 0.5, ..cold.clone() },
            Sampling { samplers: vec![Stage::TopK], ..cold },
        ] {
            assert!(!Sampler::new(settings, Breakers::default()).greedy);
        }
    }

    #[test]
    fn masked_tokens_are_never_chosen() {
        // Ids 3, 40 and 41; no settings may exclude all of them.
        let words = [8, 0x300];
        let logits: Vec<f32> = (0..64_u8).map(|i| 50.0 - f32::from(i)).collect();
        let all = |bias: f32| [3, 40, 41].map(|id| (id, bias)).to_vec();
        let hot = Sampling { temperature: 5.0, min_p: 0.0, top_p: 1.0, ..Sampling::default() };
        for settings in [
            hot.clone(),
            Sampling { logit_bias: all(f32::NEG_INFINITY), ..hot.clone() },
            Sampling { logit_bias: all(f32::NEG_INFINITY), temperature: 0.0, ..hot.clone() },
            Sampling { repeat_penalty: 100.0, frequency_penalty: 100.0, ..hot.clone() },
            Sampling { dry_multiplier: 100.0, dry_allowed_length: 0, ..hot.clone() },
            Sampling { xtc_probability: 1.0, xtc_threshold: 0.0, ..hot.clone() },
            Sampling { typical_p: 0.0, ..hot.clone() },
            Sampling { top_n_sigma: 0.01, ..hot.clone() },
            Sampling { mirostat: 1, mirostat_tau: 0.0, ..hot.clone() },
            Sampling { mirostat: 2, mirostat_tau: 0.0, ..hot.clone() },
            Sampling { samplers: vec![Stage::AdaptiveP], adaptive_target: 0.5, ..hot },
        ] {
            let mut sampler = Sampler::new(settings.clone(), Breakers::default());
            let mut past = vec![3, 3, 40];
            for logits in [&logits, &vec![f32::NAN; 64], &vec![f32::NEG_INFINITY; 64]] {
                for _ in 0..50 {
                    let id = sampler.sample(logits, &past, Some(&words));
                    assert!([3, 40, 41].contains(&id), "{id} by {settings:?}");
                    past.push(id);
                }
            }
        }
    }
}
