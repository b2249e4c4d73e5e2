//! What an answer must look like: a JSON schema, a regular expression or a grammar, as tokens that may come
//! next.
//!
//! Enters: a [`Constraint`], compiled once a request; then each token that was chosen. Leaves: what may come
//! next ([`Step`]): a token that must, a set of those that may, or the end. Knows nothing of logits.
//!
//! Derivatives and an Earley parser over the bytes of the tokens do the work (`llguidance`): no state is
//! computed before it is reached, so that a schema costs nothing in advance.

mod call;
mod gbnf;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod trial;
mod vocabulary;

pub use call::{CallForm, CallSpec};
pub use trial::TIME_MAX;
pub(crate) use trial::work as work_on_constraint;

use crate::system::on_stack;
use crate::tokenizer::Tokenizer;
use crate::worker::{Patience, WorkerError, Workers};
use llguidance::api::{GrammarInit, ParserLimits};
use llguidance::toktrie::{InferenceCapabilities, SimpleVob, TokEnv, TokTrie};
use llguidance::{Matcher, ParserFactory};
use schema::SchemaFault;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Constraint {
    /// JSON that a schema describes. It is a text, because its numbers keep all their digits.
    JsonSchema(String),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A grammar in llama.cpp's form.
    Gbnf(String),
    /// A grammar in the library's own form.
    Lark(String),
    /// Calls of functions, or else JSON that a schema describes.
    Calls(Box<CallSpec>),
}

impl Constraint {
    /// What kind it is, in words.
    fn what(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => JSON_SCHEMA,
            Self::Calls(_) => TOOLS,
            Self::Regex(_) => "regular expression",
            Self::Gbnf(_) | Self::Lark(_) => "grammar",
        }
    }

    /// Bytes of its source.
    fn bytes(&self) -> usize {
        match self {
            Self::Calls(calls) => {
                let read = calls.form.is_some();
                let schemas = calls.functions.iter().filter(|_| read).map(|(_, schema)| schema);
                schemas.chain(&calls.answer).map(String::len).sum()
            }
            Self::JsonSchema(text) | Self::Regex(text) | Self::Gbnf(text) | Self::Lark(text) => {
                text.len()
            }
        }
    }

    /// A grammar in GBNF, or in Lark after a line `%llguidance`, as the reference takes it.
    #[must_use]
    pub fn grammar(text: &str) -> Self {
        let text = text.to_owned();
        if text.trim_start().starts_with("%llguidance") {
            Self::Lark(text)
        } else {
            Self::Gbnf(text)
        }
    }
}

/// Why there is no such answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It cannot be compiled.
    #[error("{what}: {problem}")]
    Invalid {
        /// What kind of constraint.
        what: &'static str,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// It is larger than any that makes sense.
    #[error("{what}: found {bytes} bytes, expected at most {SOURCE_BYTES_MAX}")]
    Long {
        /// What kind of constraint.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// It cannot be followed any further.
    #[error(
        "the answer's constraint cannot be followed: {0}\nhint: simplify the schema or grammar"
    )]
    Stuck(String),
    /// It meets a bound while it is tried.
    #[error("{what}: {error}\nhint: simplify it")]
    Bound {
        /// What kind of constraint.
        what: &'static str,
        /// The bound.
        error: WorkerError,
    },
    /// It was not even tried: the computer has too much to do, or nobody waits any more.
    #[error("the constraint could not be compiled: {0}")]
    Untried(String),
    /// The model cannot be constrained.
    #[error("this model's vocabulary is too large for constraints")]
    Vocabulary,
}

/// What a constraint is called whose source is a schema, and one whose source is the schemas of functions.
const JSON_SCHEMA: &str = "JSON schema";
pub(crate) const TOOLS: &str = "tools";

/// Longest schema, expression or grammar.
const SOURCE_BYTES_MAX: usize = 128 << 10;
/// Stack for compiling: sources are taken apart recursively.
const STACK_BYTES: usize = 64 << 20;
/// Longest explanation that is passed on.
const MESSAGE_CHARS_MAX: usize = 500;

/// What one request may cost: some ten milliseconds and megabytes to compile, milliseconds for each token.
fn limits() -> ParserLimits {
    ParserLimits { max_lexer_states: 20_000, verbose_errors: false, ..ParserLimits::default() }
}

/// Compiles constraints for one model.
pub struct Compiler {
    tokenizer: Arc<Tokenizer>,
    workers: Arc<Workers>,
    /// What a constraint is tried with.
    vocabulary: OnceLock<trial::Vocabulary>,
    /// Built when first needed: it takes a fraction of a second and some megabytes.
    factory: OnceLock<Option<ParserFactory>>,
    /// One compiles at a time, whoever asks.
    turn: Mutex<()>,
}

impl Compiler {
    /// A compiler for the tokens of a model, which has constraints tried by `workers` first.
    #[must_use]
    pub fn with(tokenizer: Arc<Tokenizer>, workers: Arc<Workers>) -> Self {
        let (vocabulary, factory) = (OnceLock::new(), OnceLock::new());
        Self { tokenizer, workers, vocabulary, factory, turn: Mutex::default() }
    }

    /// A compiler that tries nothing first: for tests.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self::with(tokenizer, Arc::new(Workers::here(|_, _| Vec::new())))
    }

    /// The tokens that are constrained.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Compiles a constraint.
    ///
    /// # Errors
    /// When it makes no sense, describes nothing, is too large, or takes too long.
    pub fn compile(&self, constraint: &Constraint) -> Result<Guide, ConstraintError> {
        self.compile_within(constraint, &Patience::new(trial::TIME_MAX, &|| true))
    }

    /// Compiles a constraint, if that is over in time.
    ///
    /// # Errors
    /// When it makes no sense, describes nothing, is too large, or takes too long.
    pub fn compile_within(
        &self,
        constraint: &Constraint,
        patience: &Patience<'_>,
    ) -> Result<Guide, ConstraintError> {
        let (what, bytes) = (constraint.what(), constraint.bytes());
        if bytes > SOURCE_BYTES_MAX {
            return Err(ConstraintError::Long { what, bytes });
        }
        let vocabulary = self.vocabulary.get_or_init(|| trial::Vocabulary::of(&self.tokenizer));
        trial::run(&self.workers, vocabulary, constraint, patience)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || factory(&vocabulary::token_env(&self.tokenizer)?);
        let factory = self.factory.get_or_init(build).as_ref();
        let factory = factory.ok_or(ConstraintError::Vocabulary)?;
        let guide = on_stack(STACK_BYTES, || -> Result<Guide, SchemaFault> {
            let mut problem = String::new();
            for grammar in source::grammars(constraint, &*self.tokenizer)? {
                match guide(factory, grammar) {
                    Ok(guide) => return Ok(guide),
                    Err(error) => problem = error,
                }
            }
            Err(problem.into())
        });
        let guide = guide.map_err(|e| {
            ConstraintError::Untried(WorkerError::Thread(e.to_string()).to_string())
        })?;
        let guide = guide.unwrap_or_else(|| Err("an internal error".to_owned().into()));
        let mut guide = guide.map_err(|fault| {
            let of_answer = fault.of_answer
                && matches!(constraint, Constraint::Calls(calls) if calls.answer.is_some());
            let what = if of_answer { JSON_SCHEMA } else { what };
            ConstraintError::Invalid { what, problem: fault.text }
        })?;
        if let Constraint::Calls(calls) = constraint {
            guide.opened_by(&calls.markers);
        }
        Ok(guide)
    }
}

/// A guide that can be followed at least to its first token.
fn guide(factory: &ParserFactory, grammar: GrammarInit) -> Result<Guide, String> {
    let matcher = Matcher::new(factory.create_parser_from_init_default(grammar));
    if let Some(error) = matcher.get_error() {
        return Err(readable(&error));
    }
    let guide = Guide { matcher, forced: VecDeque::new(), mask: None, waiting: None, open: None };
    match guide.clone().step() {
        Ok(_) => Ok(guide),
        Err(ConstraintError::Stuck(problem)) => Err(problem),
        Err(other) => Err(other.to_string()),
    }
}

fn factory(env: &TokEnv) -> Option<ParserFactory> {
    let capabilities =
        InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
    let mut factory = ParserFactory::new(env, capabilities, &[]).ok()?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Some(factory)
}

/// The library's explanation without what only its authors can use.
fn readable(error: &str) -> String {
    if error.starts_with("panic:") || error.contains("fuel exhausted") {
        return "it is too large".to_owned();
    }
    if error.starts_with("NoExtensionBias") {
        return "there is no text that would satisfy it".to_owned();
    }
    let notes = ["\n<backtrace>", "\n<non-verbose/>", "\n<state>"];
    let end = notes.iter().filter_map(|note| error.find(note)).min();
    let error = error[..end.unwrap_or(error.len())].trim();
    let mut short: String = error.chars().take(MESSAGE_CHARS_MAX).collect();
    if short.len() < error.len() {
        short.push('…');
    }
    short
}

/// What may come next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'g> {
    /// Nothing: the answer is complete.
    End,
    /// This token; it counts as chosen.
    Forced(u32),
    /// One of these: a bit for each token, the lowest first.
    Among(&'g [u32]),
}

/// A constraint at some place in an answer.
#[derive(Clone)]
pub struct Guide {
    matcher: Matcher,
    /// Tokens that must come next, and that the matcher has seen.
    forced: VecDeque<u32>,
    mask: Option<SimpleVob>,
    /// What has to come before the constraint begins.
    waiting: Option<Waiting>,
    /// What ends it.
    open: Option<Open>,
}

/// Until a text has come, anything may come but the end.
#[derive(Clone)]
struct Waiting {
    marker: Vec<u8>,
    /// The last bytes of the answer so far.
    seen: Vec<u8>,
    allowed: SimpleVob,
}

/// A text at the beginning after which anything may come.
#[derive(Clone)]
struct Open {
    markers: Vec<Vec<u8>>,
    /// The answer so far, as long as it may be one of them.
    seen: Vec<u8>,
    allowed: SimpleVob,
}

impl Open {
    fn is_over(&self) -> bool {
        self.markers.contains(&self.seen)
    }
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guide").field("forced", &self.forced).finish_non_exhaustive()
    }
}

impl Guide {
    /// The same after a text that comes first, if there is one, for models that think aloud until then. What the
    /// token with the text's end holds beyond it is not looked at.
    #[must_use]
    pub fn after(mut self, marker: Option<&str>) -> Self {
        if let (Some(marker), Ok(env)) = (marker, self.matcher.tok_env()) {
            let mut allowed = env.tok_trie().alloc_token_set();
            allowed.set_all(true);
            allowed.sub(&env.tok_trie().eos_token_set());
            let marker = marker.as_bytes().to_vec();
            self.waiting = Some(Waiting { marker, seen: Vec::new(), allowed });
        }
        self
    }

    /// Lets anything come after one of these texts, if the answer begins with it.
    fn opened_by(&mut self, markers: &[String]) {
        if let (false, Ok(env)) = (markers.is_empty(), self.matcher.tok_env()) {
            let mut allowed = env.tok_trie().alloc_token_set();
            allowed.set_all(true);
            let markers = markers.iter().map(|marker| marker.as_bytes().to_vec()).collect();
            self.open = Some(Open { markers, seen: Vec::new(), allowed });
        }
    }

    /// Takes note of a token for what it opens.
    fn note(&mut self, id: u32) {
        if let (Some(open), Ok(env)) = (&mut self.open, self.matcher.tok_env()) {
            open.seen.extend(plain(env.tok_trie().token(id)));
            // What is no beginning of a marker never becomes one.
            if !open.markers.iter().any(|marker| marker.starts_with(&open.seen)) {
                self.open = None;
            }
        }
    }

    /// What may come next. After [`Step::Among`], tell [`Guide::accept`] what was chosen.
    ///
    /// # Errors
    /// When that is too hard to find out, or nothing can come although the answer is not complete.
    pub fn step(&mut self) -> Result<Step<'_>, ConstraintError> {
        if self.waiting.is_some() || self.open.as_ref().is_some_and(Open::is_over) {
            let waiting = self.waiting.as_ref().map(|waiting| &waiting.allowed);
            let allowed = waiting.or(self.open.as_ref().map(|open| &open.allowed));
            return Ok(Step::Among(allowed.map_or(&[], SimpleVob::as_slice)));
        }
        if self.forced.is_empty() && !self.matcher.is_stopped() {
            self.forced.extend(self.matcher.consume_ff_tokens());
        }
        if let Some(id) = self.forced.pop_front() {
            self.note(id);
            return Ok(Step::Forced(id));
        }
        if self.matcher.is_stopped() {
            return if self.matcher.stop_reason().is_ok() {
                Ok(Step::End)
            } else {
                Err(self.stuck())
            };
        }
        match self.matcher.compute_mask() {
            Ok(mask) => Ok(Step::Among(self.mask.insert(mask).as_slice())),
            Err(_) => Err(self.stuck()),
        }
    }

    /// Takes note of a token that was chosen among those that might come.
    ///
    /// # Errors
    /// When it was none of these.
    pub fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        let Some(waiting) = &mut self.waiting else {
            if self.open.as_ref().is_some_and(Open::is_over) {
                return Ok(());
            }
            self.note(id);
            return self.matcher.consume_token(id).map_err(|_| self.stuck());
        };
        if let Ok(env) = self.matcher.tok_env() {
            waiting.seen.extend(plain(env.tok_trie().token(id)));
        }
        let length = waiting.marker.len().max(1);
        if waiting.seen.windows(length).any(|bytes| bytes == waiting.marker) {
            self.waiting = None;
        } else {
            let old = waiting.seen.len().saturating_sub(length);
            waiting.seen.drain(..old);
        }
        Ok(())
    }

    fn stuck(&self) -> ConstraintError {
        let error = self.matcher.get_error();
        ConstraintError::Stuck(error.map_or_else(|| "it ended early".to_owned(), |e| readable(&e)))
    }
}

/// A token's text without the mark that control tokens have.
fn plain(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]).unwrap_or(bytes)
}
