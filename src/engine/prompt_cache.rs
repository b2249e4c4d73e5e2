//! The prompt cache of a bundle: keys and values of the beginning that all its conversations have in common, computed
//! when the bundle was made.
//!
//! Input: a system prompt and what else the template is given. Output: the tokens that every conversation with them begins
//! with; a file with their keys and values; and that file, mapped, as something already read.

use super::Engine;
use super::keep::KeepError;
use super::request::Generation;
use super::saved;
use crate::chat::{Conversation, Message, TemplateError};
use crate::sampler::Sampling;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tealight_bundle::mapped::Mapped;

/// First words of two people, which have no token in common at their beginning.
const QUESTIONS: [&str; 2] = ["What is it?", "9 0"];

impl Engine {
    /// The tokens that all conversations begin with that have this system prompt. `like` says what else their template is
    /// given.
    ///
    /// # Errors
    /// When the template fails.
    pub fn common_beginning(
        &self,
        system: Option<&str>,
        like: &Conversation,
    ) -> Result<Vec<u32>, TemplateError> {
        let of = |question: &str| -> Result<Vec<u32>, TemplateError> {
            let system = system.map(|text| Message::new("system", text.to_owned()));
            let question = Message::new("user", question.to_owned());
            let messages = system.into_iter().chain([question]).collect();
            let prompt = self.chat.prompt(&Conversation { messages, ..like.clone() })?;
            Ok(self.chat_ids(&prompt.text))
        };
        let (mut first, second) = (of(QUESTIONS[0])?, of(QUESTIONS[1])?);
        let common = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
        first.truncate(common);
        Ok(first)
    }

    /// Computes the keys and values of `tokens` and writes them to a file that will lie within a bundle, `shift` bytes
    /// behind a multiple of 64. Returns the number of tokens and of bytes.
    ///
    /// # Errors
    /// When there are no tokens, computing fails, or the file can't be written.
    pub fn make_prompt_cache(
        &self,
        tokens: Vec<u32>,
        path: &Path,
        shift: usize,
    ) -> Result<(usize, u64), KeepError> {
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let only_read =
            Generation { prompt: tokens, sampling, max_tokens: Some(1), ..Generation::default() };
        self.generate(&only_read, &|| true, &mut |_| {}).map_err(KeepError::Computing)?;
        self.save_shifted(0, path, shift)
    }

    /// Takes over the prompt cache in a part of a mapped file. Returns its tokens.
    ///
    /// # Errors
    /// When it was made for something else.
    pub fn map_prompt_cache(
        &self,
        file: &Arc<Mapped>,
        range: Range<usize>,
    ) -> Result<Vec<u32>, KeepError> {
        let (vocab, blank) = (self.info.vocab, self.blank_states());
        let saved = saved::map(file, range, &self.origin(), vocab, &blank, self.pool());
        let saved = saved.map_err(|error| KeepError::Saved { path: NAME.to_owned(), error })?;
        let tokens = saved.tokens.clone();
        self.keep(0, saved).map(|_| tokens)
    }
}

/// What errors call it.
const NAME: &str = "the prompt cache";
