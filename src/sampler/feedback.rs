//! Final stages that adapt to what was chosen: Mirostat (Basu et al. 2020), versions 1 and 2, and `adaptive_p`.

use super::candidates::Candidates;
use super::settings::Sampling;

/// State that adapts over one text.
#[derive(Clone)]
pub(super) enum Feedback {
    /// Cuts where the surprise, estimated from how quickly the top probabilities fall off, reaches `mu`.
    MirostatOne(Mirostat),
    /// Drops tokens with a surprise above `mu`.
    MirostatTwo(Mirostat),
    /// Prefers tokens whose probability is near a target.
    Adaptive(Adaptive),
}

#[derive(Clone)]
pub(super) struct Mirostat {
    tau: f32,
    eta: f32,
    mu: f32,
}

#[derive(Clone)]
pub(super) struct Adaptive {
    target: f32,
    decay: f32,
    /// Decayed sum of the probabilities of chosen tokens, and the sum of the weights.
    sum: f32,
    weights: f32,
    /// The original probabilities, in the order of the candidates.
    before: Vec<f32>,
}

/// Number of top tokens that Mirostat 1 estimates from.
const ESTIMATED_FROM: usize = 100;
/// Shape of the curve that `adaptive_p` puts around its target.
const WIDTH: f32 = 0.3;
const PEAK: f32 = 5.0;
const SHARPNESS: f32 = 10.0;

impl Feedback {
    /// `None` if the settings ask for none.
    pub(super) fn new(s: &Sampling) -> Option<Self> {
        let mirostat =
            Mirostat { tau: s.mirostat_tau, eta: s.mirostat_eta, mu: 2.0 * s.mirostat_tau };
        match s.mirostat {
            1 => return Some(Self::MirostatOne(mirostat)),
            2 => return Some(Self::MirostatTwo(mirostat)),
            _ => {}
        }
        let wanted = s.adaptive_target >= 0.0 && s.samplers.contains(&super::Stage::AdaptiveP);
        wanted.then(|| {
            let (target, decay) = (s.adaptive_target, s.adaptive_decay.clamp(0.0, 0.99));
            let weights = 1.0 / (1.0 - decay);
            Self::Adaptive(Adaptive {
                target,
                decay,
                sum: target * weights,
                weights,
                before: Vec::new(),
            })
        })
    }

    /// Removes tokens, or changes their logits. `vocab`: size of the vocabulary.
    pub(super) fn narrow(&mut self, candidates: &mut Candidates, vocab: usize) {
        match self {
            Self::MirostatOne(m) => {
                // Zipf's exponent, by least squares over the drops between neighbours.
                let (mut products, mut squares) = (0.0, 0.0);
                for (rank, pair) in (1_u16..).zip(candidates.head(ESTIMATED_FROM).windows(2)) {
                    let t = libm::logf((f32::from(rank) + 1.0) / f32::from(rank));
                    products += t * (pair[0].logit - pair[1].logit);
                    squares += t * t;
                }
                let s = products / squares;
                let epsilon = s - 1.0;
                let base = epsilon * libm::exp2f(m.mu) / (1.0 - libm::powf(vocab as f32, -epsilon));
                let k = libm::powf(base, 1.0 / s);
                // NaN, from a single token, becomes 0.
                candidates.keep_likeliest((k as usize).max(1));
            }
            Self::MirostatTwo(m) => {
                let least = candidates.log_total() - f64::from(m.mu) * std::f64::consts::LN_2;
                let best = candidates.best();
                candidates.list.retain(|c| f64::from(c.logit) >= least);
                if candidates.list.is_empty() {
                    candidates.list.extend(best);
                }
            }
            Self::Adaptive(a) => {
                let log_total = candidates.log_total();
                let target = a.target.clamp(0.0, 1.0);
                let target = (2.0 * target - a.sum / a.weights).clamp(0.0, 1.0);
                a.before.clear();
                for candidate in &mut candidates.list {
                    let p = libm::exp(f64::from(candidate.logit) - log_total) as f32;
                    a.before.push(p);
                    let distance = ((p - target) / WIDTH).abs();
                    candidate.logit = PEAK - SHARPNESS * distance * distance / (1.0 + distance);
                }
                candidates.sorted = false;
            }
        }
    }

    /// Learns that `id` was chosen among the candidates that `narrow` left.
    pub(super) fn accept(&mut self, candidates: &Candidates, id: u32) {
        let Some(at) = candidates.list.iter().position(|c| c.id == id) else { return };
        match self {
            Self::MirostatOne(m) | Self::MirostatTwo(m) => {
                let log_p = f64::from(candidates.list[at].logit) - candidates.log_total();
                let surprise = (-log_p / std::f64::consts::LN_2) as f32;
                m.mu -= m.eta * (surprise - m.tau);
            }
            Self::Adaptive(a) => {
                a.sum = a.before[at] + a.decay * a.sum;
                a.weights = 1.0 + a.decay * a.weights;
            }
        }
    }
}
