//! The sampling settings that requests, flags and bundles can set: names, ranges and defaults are llama.cpp's.

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The stages of the chain, in order. Mirostat replaces them.
    pub samplers: Vec<Stage>,
    /// 0 always chooses the most likely token.
    pub temperature: f32,
    /// How far the temperature moves up and down with the entropy; 0: not at all.
    pub dynatemp_range: f32,
    /// Exponent on the normalized entropy, which the temperature follows.
    pub dynatemp_exponent: f32,
    /// Keep the k most likely tokens; 0: all.
    pub top_k: usize,
    /// Keep the most likely tokens that together reach this probability; 1: all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the most likely one; 0: all.
    pub min_p: f32,
    /// Keep logits within this many standard deviations of the largest; 0 or less: all.
    pub top_n_sigma: f32,
    /// Keep the most typical tokens that together exceed this probability; 1: all.
    pub typical_p: f32,
    /// Probability that XTC removes the most likely tokens.
    pub xtc_probability: f32,
    /// XTC removes tokens at least this likely, except the least likely of them; above 0.5: none.
    pub xtc_threshold: f32,
    /// Stages that filter by probability keep at least this many tokens.
    pub min_keep: usize,
    /// Divides the logits of recent tokens (multiplies negative ones); 1: off.
    pub repeat_penalty: f32,
    /// How many recent tokens the penalties see; `None`: all.
    pub repeat_last_n: Option<usize>,
    /// Subtracted once from the logit of every recent token.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token for each time it occurred.
    pub frequency_penalty: f32,
    /// Strength of DRY, the penalty on tokens that would continue a repetition; 0: off.
    pub dry_multiplier: f32,
    /// DRY grows by this factor with each token of the repetition.
    pub dry_base: f32,
    /// Shorter repetitions cost nothing.
    pub dry_allowed_length: usize,
    /// How many recent tokens DRY looks through; `None`: all.
    pub dry_penalty_last_n: Option<usize>,
    /// Texts that break repetitions.
    pub dry_sequence_breakers: Vec<String>,
    /// Version of Mirostat, which steers the surprise (negative log probability) of the text; 0: off.
    pub mirostat: u8,
    /// Mirostat's target surprise, in bits.
    pub mirostat_tau: f32,
    /// Mirostat's learning rate.
    pub mirostat_eta: f32,
    /// The probability that `adaptive_p` aims at; negative: off.
    pub adaptive_target: f32,
    /// How long `adaptive_p` remembers: 1 / (1 − decay) tokens.
    pub adaptive_decay: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text; `None`: a new one each time.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            samplers: Stage::DEFAULT.to_vec(),
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            top_n_sigma: -1.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            min_keep: 0,
            repeat_penalty: 1.0,
            repeat_last_n: Some(64),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: Some(64),
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(ToOwned::to_owned).to_vec(),
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            adaptive_target: -1.0,
            adaptive_decay: 0.9,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// One stage of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the settings above")]
pub enum Stage {
    Penalties,
    Dry,
    TopNSigma,
    TopK,
    TypicalP,
    TopP,
    MinP,
    Xtc,
    Temperature,
    AdaptiveP,
}

impl Stage {
    /// Maximum number of stages, repetitions included.
    pub const MAX: usize = 32;
    /// The default order. `adaptive_p` only runs if it is named.
    const DEFAULT: [Self; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypicalP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];
    /// Name, letter in a sequence like `edskypmxt`, and aliases.
    const NAMES: [(Self, &str, char, &[&str]); 10] = [
        (Self::Penalties, "penalties", 'e', &[]),
        (Self::Dry, "dry", 'd', &[]),
        (Self::TopNSigma, "top_n_sigma", 's', &["topnsigma"]),
        (Self::TopK, "top_k", 'k', &["topk"]),
        (Self::TypicalP, "typ_p", 'y', &["typp", "typ", "typical", "typical_p"]),
        (Self::TopP, "top_p", 'p', &["topp", "nucleus"]),
        (Self::MinP, "min_p", 'm', &["minp"]),
        (Self::Xtc, "xtc", 'x', &[]),
        (Self::Temperature, "temperature", 't', &["temp"]),
        (Self::AdaptiveP, "adaptive_p", 'a', &["adaptivep"]),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(stage, ..)| *stage == self).map_or("", |(_, name, ..)| name)
    }

    /// The stage with a name in any of its forms: `top_k`, `top-k`, `topk`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        let is = |(_, own, _, others): &&(Self, &str, char, &[&str])| {
            *own == name || others.contains(&name.as_str())
        };
        Self::NAMES.iter().find(is).map(|(stage, ..)| *stage)
    }

    /// The stages of a sequence of letters like `kpmt`.
    ///
    /// # Errors
    /// The first letter that names no stage.
    pub fn sequence(letters: &str) -> Result<Vec<Self>, char> {
        let stage = |c| Self::NAMES.iter().find(|(_, _, letter, _)| *letter == c).map(|n| n.0);
        letters.chars().map(|c| stage(c).ok_or(c)).collect()
    }

    /// All names, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::NAMES.map(|(_, name, ..)| name).join(", ")
    }

    /// All letters, for messages.
    #[must_use]
    pub fn letters() -> String {
        Self::NAMES.iter().map(|(_, _, letter, _)| letter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_many_names() {
        for name in ["top_k", "top-k", "topk", "TOP_K"] {
            assert_eq!(Stage::named(name), Some(Stage::TopK));
        }
        assert_eq!(Stage::named("nucleus"), Some(Stage::TopP));
        assert_eq!(Stage::named("typ-p"), Some(Stage::TypicalP));
        assert_eq!(Stage::named("infill"), None);
        assert_eq!(Stage::sequence("edskypmxt"), Ok(Stage::DEFAULT.to_vec()));
        assert_eq!(Stage::sequence("kq"), Err('q'));
    }
}
