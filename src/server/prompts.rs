//! The prompts of a text completion: one or several, each a text, token ids, or a mix of both.

use super::HEAVY_TIME;
use super::budget::Share;
use super::error::ApiError;
use super::lists::{List, Part};
use super::sink::Sink;
use crate::engine::Engine;
use crate::text::Places;
use crate::tokenizer::Tokenizer;
use std::time::Instant;

/// Bytes of memory for tokenizing a byte of text, in the worst case: a single word.
const TOKENIZING_BYTES: usize = 56;
/// Most prompts in one request, as with embeddings.
const PROMPTS_MAX: usize = 2048;

/// One prompt.
pub struct Prompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The text, if the prompt was given as a single string.
    text: Option<String>,
}

/// Reads the field `prompt`.
pub fn read(
    given: Option<Part>,
    engine: &Engine,
    share: &Share,
    sink: &Sink<'_>,
) -> Result<Vec<Prompt>, ApiError> {
    let vocab = engine.tokenizer.len();
    let expected = format!(
        "a string, an array of token ids below {vocab} and strings, or an array of at most {PROMPTS_MAX} such prompts"
    );
    let wrong = |found: &str| ApiError::parameter("prompt", found, &expected);
    let encode = |text: &str, first| {
        fits(text, engine)?;
        tokens(text, first, true, engine, share, sink)
    };
    let mixed = |List(parts)| {
        let mut ids = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part::Text(text) => ids.extend(encode(&text, index == 0)?),
                Part::Ids(more) => {
                    if let Some(unknown) = more.iter().find(|id| **id as usize >= vocab) {
                        return Err(wrong(&unknown.to_string()));
                    }
                    ids.extend(more);
                }
                other => return Err(wrong(&other.to_string())),
            }
        }
        Ok(Prompt { ids, text: None })
    };
    let one = |part| match part {
        Part::Text(text) => Ok(Prompt { ids: encode(&text, true)?, text: Some(text) }),
        Part::List(list) => mixed(list),
        other => Err(wrong(&other.to_string())),
    };
    match given {
        None => Err(wrong("nothing")),
        // An array that contains ids is a single prompt; otherwise each element is one.
        Some(Part::List(List(all))) if !List::has_ids(&all) => {
            if !(1..=PROMPTS_MAX).contains(&all.len()) {
                return Err(wrong(&format!("an array of {} prompts", all.len())));
            }
            all.into_iter().map(one).collect()
        }
        Some(single) => Ok(vec![one(single)?]),
    }
}

/// The ids of a text, as long as the client is there. The memory for it is taken of the request's share.
pub fn tokens(
    text: &str,
    add_special: bool,
    parse_special: bool,
    engine: &Engine,
    share: &Share,
    sink: &Sink<'_>,
) -> Result<Vec<u32>, ApiError> {
    let _room = share.lend(text.len().saturating_mul(TOKENIZING_BYTES))?;
    let end = Instant::now() + HEAVY_TIME;
    let go_on = || sink.is_wanted() && Instant::now() < end;
    let ids = engine.tokenizer.encode_while(text, add_special, parse_special, &go_on);
    let ids = ids.ok_or_else(|| {
        let seconds = HEAVY_TIME.as_secs();
        ApiError::overloaded(format!("the text was not tokenized within {seconds} s"))
    })?;
    share.take(ids.len() * size_of::<u32>())?;
    Ok(ids)
}

/// Refuses a text that has too many tokens however it is tokenized: tokenizing megabytes takes seconds.
pub fn fits(text: &str, engine: &Engine) -> Result<(), ApiError> {
    let least = text.len() / engine.tokenizer.longest();
    let context = engine.info.context;
    if least < context {
        return Ok(());
    }
    let message = format!(
        "the prompt has at least {least} tokens, but the context has room for {context} including the answer\nhint: shorten the conversation, or start with a larger --ctx-size"
    );
    Err(ApiError::new(400, "exceed_context_size_error", message)
        .with("n_prompt_tokens", least)
        .with("n_ctx", context))
}

/// A prompt that the answer repeats.
pub struct Echo {
    /// Its text.
    pub text: String,
    /// Offset of each token in the text, in characters.
    pub places: Vec<usize>,
    /// Length of the text in characters.
    pub chars: usize,
}

impl Echo {
    /// The text that was given, if the tokens match it; else the text of the tokens.
    pub fn new(prompt: &Prompt, tokenizer: &Tokenizer) -> Self {
        let pieces = prompt.ids.iter().map(|id| tokenizer.decode(&[*id], true)).collect();
        let begins = tokenizer.bos().is_some() && tokenizer.bos() == prompt.ids.first().copied();
        Self::of(pieces, prompt.text.as_deref(), begins)
    }

    /// `pieces` are the tokens' bytes; `begins` says that the first is BOS, which is not part of the text.
    fn of(pieces: Vec<Vec<u8>>, given: Option<&str>, begins: bool) -> Self {
        let pieces = given.and_then(|text| fitted(&pieces, text, begins)).unwrap_or(pieces);
        let mut places = Places::default();
        let places = pieces.iter().map(|piece| places.next(piece)).collect();
        let text = String::from_utf8_lossy(&pieces.concat()).into_owned();
        let chars = text.chars().count();
        Self { text, places, chars }
    }
}

/// The pieces as parts of the given text, without the tokenizer's additions: tokens at either end, and spaces.
fn fitted(pieces: &[Vec<u8>], given: &str, begins: bool) -> Option<Vec<Vec<u8>>> {
    let (mut rest, mut parts) = (given.as_bytes(), Vec::with_capacity(pieces.len()));
    for (index, piece) in pieces.iter().enumerate() {
        let bare = piece.strip_prefix(b" ").unwrap_or(piece);
        let part: &[u8] = if begins && index == 0 {
            b""
        } else if rest.starts_with(piece) {
            piece
        } else if rest.starts_with(bare) {
            bare
        } else if rest.is_empty() && index + 1 == pieces.len() {
            b""
        } else {
            return None;
        };
        rest = rest.get(part.len()..)?;
        parts.push(part.to_vec());
    }
    rest.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(pieces: &[&[u8]], given: Option<&str>, begins: bool) -> (String, Vec<usize>) {
        let echo = Echo::of(pieces.iter().map(|p| p.to_vec()).collect(), given, begins);
        assert_eq!(echo.chars, echo.text.chars().count());
        (echo.text, echo.places)
    }

    #[test]
    fn an_echo_is_the_text_that_was_given() {
        let is = |text: &str, places: &[usize]| (text.to_owned(), places.to_vec());
        assert_eq!(echo(&[b"Hi", b" you"], Some("Hi you"), false), is("Hi you", &[0, 2]));
        // With BOS, an added leading space, EOS.
        assert_eq!(echo(&[b"<s>", b"Hi", b" you"], Some("Hi you"), true), is("Hi you", &[0, 0, 2]));
        assert_eq!(echo(&[b"<s>", b" Hi", b"!"], Some("Hi!"), true), is("Hi!", &[0, 0, 2]));
        assert_eq!(echo(&[b" Hi", b"!"], Some(" Hi!"), false), is(" Hi!", &[0, 3]));
        assert_eq!(echo(&[b"Hi", b"</s>"], Some("Hi"), false), is("Hi", &[0, 2]));
        assert_eq!(echo(&[b" Hi", b"</s>"], Some("Hi"), false), is("Hi", &[0, 2]));
        assert_eq!(echo(&[b" a", b"<s>", b" b"], Some("a<s>b"), false), is("a<s>b", &[0, 1, 4]));
        // The text itself contains BOS.
        assert_eq!(echo(&[b"<s>", b"<s>", b"x"], Some("<s>x"), true), is("<s>x", &[0, 0, 3]));
        // A character split over several tokens.
        let emoji = "👩".as_bytes();
        let pieces: [&[u8]; 4] = [b"a", &emoji[..1], &emoji[1..], b"b"];
        assert_eq!(echo(&pieces, Some("a👩b"), false), is("a👩b", &[0, 1, 1, 2]));
    }

    #[test]
    fn tokens_that_do_not_match_the_text_are_echoed_as_they_are() {
        let (text, places) = echo(&[b"<s>", b"hi", b"\xff", b"x"], None, true);
        assert_eq!((text.as_str(), places), ("<s>hi\u{fffd}x", vec![0, 3, 5, 6]));
        let (text, places) = echo(&[b"hi", b" ho"], Some("HI  HO"), false);
        assert_eq!((text.as_str(), places), ("hi ho", vec![0, 2]));
        assert_eq!(echo(&[], Some(""), false), (String::new(), vec![]));
    }
}
