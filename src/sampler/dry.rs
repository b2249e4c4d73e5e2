//! DRY ("don't repeat yourself", by p-e-w): penalizes a token that would continue a repetition, the more the longer the
//! repetition is.
//!
//! Wherever the last tokens of the text occurred before, the token that came next there would continue the repetition.
//! Match lengths come from the Z-algorithm over the reversed text, in linear time. Matches end at breakers (a line
//! break, a quote).

use super::penalties::Penalty;
use super::settings::Sampling;
use hashbrown::HashMap;

/// Texts that break repetitions, as tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Breakers {
    /// Tokens that contain the beginning of a breaker, each with the token sequences that may complete it; an empty
    /// sequence if the token contains the whole breaker.
    tails: HashMap<u32, Vec<Vec<u32>>>,
}

/// Maximum number of tokens in the rest of a breaker.
const TAIL_MAX: usize = 20;

impl Breakers {
    /// Maximum number of breakers.
    pub const COUNT_MAX: usize = 64;
    /// Maximum length of a breaker, in bytes.
    pub const BYTES_MAX: usize = 40;

    /// Finds the tokens that contain one of the `texts` or its beginning. `piece` writes the bytes of a token, of which
    /// there are `tokens`; `encode` turns text into tokens.
    #[must_use]
    pub fn new(
        texts: &[String],
        tokens: usize,
        piece: impl Fn(u32, &mut Vec<u8>),
        encode: impl Fn(&str) -> Vec<u32>,
    ) -> Self {
        let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|t| !t.is_empty()).collect();
        let mut begins = [false; 256];
        texts.iter().for_each(|t| begins[usize::from(t.as_bytes()[0])] = true);
        // A breaker has few ends, shared by many tokens: encode each only once.
        let ends: Vec<Vec<Vec<u32>>> = texts
            .iter()
            .map(|text| {
                let tail = |at| {
                    let mut ids = text.get(at..).map_or_else(Vec::new, &encode);
                    ids.truncate(TAIL_MAX);
                    ids
                };
                (1..text.len()).map(tail).collect()
            })
            .collect();
        let mut tails: HashMap<u32, Vec<Vec<u32>>> = HashMap::new();
        let mut bytes = Vec::new();
        for id in 0..u32::try_from(tokens).unwrap_or(u32::MAX) {
            bytes.clear();
            piece(id, &mut bytes);
            if !bytes.iter().any(|&b| begins[usize::from(b)]) {
                continue;
            }
            for (text, ends) in texts.iter().zip(&ends) {
                let known = tails.entry(id).or_default();
                if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                    known.push(Vec::new());
                    continue;
                }
                for at in 0..bytes.len() {
                    let held = &bytes[at..];
                    if let Some(tail) = ends.get(held.len() - 1)
                        && text.as_bytes().starts_with(held)
                        && !tail.is_empty()
                        && !known.contains(tail)
                    {
                        known.push(tail.clone());
                    }
                }
            }
        }
        tails.retain(|_, tails| !tails.is_empty());
        Self { tails }
    }

    /// Whether a token is a whole breaker.
    fn is_whole(&self, id: u32) -> bool {
        self.tails.get(&id).is_some_and(|tails| tails.iter().any(Vec::is_empty))
    }

    /// Number of tokens after the longest breaker that begins at `text[at]`.
    fn after(&self, text: &[u32], at: usize) -> Option<usize> {
        let follows = |tail: &&Vec<u32>| text[at + 1..].starts_with(tail);
        let longest = self.tails.get(&text[at])?.iter().filter(follows).map(Vec::len).max()?;
        Some(text.len() - 1 - at - longest)
    }
}

/// The penalty's state.
#[derive(Clone)]
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed: usize,
    last_n: usize,
    breakers: Breakers,
    /// Length of the match that ends at each position, positions counted from the end of the text.
    matches: Vec<usize>,
    /// The longest repetition that each token would continue.
    repeats: HashMap<u32, usize>,
}

impl Dry {
    /// `None` if the settings ask for none.
    pub(super) fn new(s: &Sampling, breakers: Breakers) -> Option<Self> {
        let last_n = s.dry_penalty_last_n.unwrap_or(usize::MAX);
        let on = s.dry_multiplier != 0.0 && s.dry_base >= 1.0 && last_n > 0;
        on.then(|| Self {
            multiplier: s.dry_multiplier,
            base: s.dry_base,
            allowed: s.dry_allowed_length,
            last_n,
            breakers,
            matches: Vec::new(),
            repeats: HashMap::new(),
        })
    }

    /// Looks for repetitions at the end of the text so far.
    pub(super) fn see(&mut self, past: &[u32]) {
        self.repeats.clear();
        let text = &past[past.len().saturating_sub(self.last_n)..];
        if text.len() <= self.allowed {
            return;
        }
        let longest = (0..text.len()).rev().find_map(|at| self.breakers.after(text, at));
        let longest = longest.unwrap_or(text.len());
        if longest < self.allowed {
            return;
        }
        suffix_matches(text, &mut self.matches);
        for (back, &length) in self.matches.iter().enumerate().skip(1) {
            let length = length.min(longest);
            if length >= self.allowed {
                let next = text[text.len() - back];
                let known = self.repeats.entry(next).or_default();
                *known = length.max(*known);
            }
        }
    }
}

impl Penalty for Dry {
    fn tokens(&self) -> impl Iterator<Item = u32> {
        self.repeats.keys().copied()
    }

    fn adjusted(&self, id: u32, logit: f32) -> f32 {
        let Some(&length) = self.repeats.get(&id) else { return logit };
        if self.breakers.is_whole(id) {
            return logit;
        }
        let excess = (length - self.allowed) as f32;
        // A larger exponent would make the penalty infinite.
        let most = (libm::logf(f32::MAX) / libm::logf(self.base)).floor();
        logit - self.multiplier * libm::powf(self.base, excess.min(most))
    }
}

/// For each `k`, how many of the text's last tokens match those that end `k` places before its end (the Z-algorithm on
/// the reversed text).
fn suffix_matches(text: &[u32], matches: &mut Vec<usize>) {
    let count = text.len();
    let at = |i: usize| text[count - 1 - i];
    matches.clear();
    matches.resize(count, 0);
    // The match that reaches furthest: it covers left..right.
    let (mut left, mut right) = (0, 0);
    for k in 1..count {
        let mut length = if k < right { matches[k - left].min(right - k) } else { 0 };
        while k + length < count && at(length) == at(k + length) {
            length += 1;
        }
        matches[k] = length;
        if k + length > right {
            (left, right) = (k, k + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_equal_brute_force() {
        let text: Vec<u32> = (0..300_u32).map(|i| (i * i / 7) % 3).chain([1; 40]).collect();
        let mut matches = Vec::new();
        suffix_matches(&text, &mut matches);
        for k in 1..text.len() {
            let (end, other) = (text.iter().rev(), text[..text.len() - k].iter().rev());
            let expected = end.zip(other).take_while(|(a, b)| a == b).count();
            assert_eq!(matches[k], expected, "{k} before the end");
        }
    }

    /// Tokens 0 to 255 are bytes; 256 holds the end of a word and the first character of the breaker.
    fn breakers(texts: &[&str]) -> Breakers {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let piece = |id: u32, out: &mut Vec<u8>| match u8::try_from(id) {
            Ok(byte) => out.push(byte),
            Err(_) => out.extend(b"ok<"),
        };
        Breakers::new(&texts, 257, piece, |text| text.bytes().map(u32::from).collect())
    }

    #[test]
    fn a_breaker_may_span_several_tokens() {
        let breakers = breakers(&["<b>", "\n"]);
        let rest: Vec<u32> = b"b>".iter().map(|&b| b.into()).collect();
        assert_eq!(breakers.tails[&u32::from(b'<')], std::slice::from_ref(&rest));
        assert_eq!(breakers.tails[&256], [rest]);
        assert!(breakers.is_whole(u32::from(b'\n')));
        assert_eq!(breakers.tails.len(), 3);
        let text: Vec<u32> = b"a<b>xy".iter().map(|&b| b.into()).collect();
        assert_eq!(breakers.after(&text, 1), Some(2));
        assert_eq!(breakers.after(&text[..3], 1), None);
    }

    #[test]
    fn a_breaker_is_never_split_inside_a_character() {
        let breakers = breakers(&["é!"]);
        assert_eq!(breakers.tails.len(), 0, "{breakers:?}");
    }

    #[test]
    fn the_token_that_would_continue_a_repetition_is_penalized() {
        let s = Sampling { dry_multiplier: 1.0, dry_base: 2.0, ..Sampling::default() };
        let see = |text: &[u8]| {
            let mut dry = Dry::new(&s, breakers(&["\n"])).unwrap();
            dry.see(&text.iter().map(|&b| b.into()).collect::<Vec<u32>>());
            dry
        };
        let dry = see(b"one two, one tw");
        assert_eq!(dry.repeats[&u32::from(b'o')], 6);
        assert!((dry.adjusted(u32::from(b'o'), 1.0) - (1.0 - 16.0)).abs() < 1e-6);
        // The text since the break is too short to be a repetition.
        assert!(see(b"one two, one\nt").repeats.is_empty());
        // A breaker itself is never penalized.
        let dry = see(b"abc\nabc");
        assert!((dry.adjusted(u32::from(b'\n'), 1.0) - 1.0).abs() < 1e-6);
        let endless = see(&[b'a'; 4000]);
        assert!(endless.adjusted(u32::from(b'a'), 0.0) < -1e18);
    }
}
