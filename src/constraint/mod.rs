//! Constrained decoding: which tokens may come next under a JSON schema, a regex or a grammar.
//!
//! Input: a [`Constraint`], compiled once per request, then each chosen token. Output: what may come next ([`Step`]):
//! one forced token, a set of allowed ones, or the end. Knows nothing of logits.
//!
//! `llguidance` does the work, with regex derivatives and an Earley parser over the bytes of the tokens. States are
//! computed only when they are reached, so a schema costs nothing up front.

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

use crate::semaphore::Semaphore;
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
use std::sync::{Arc, OnceLock};

/// The required form of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Constraint {
    /// JSON that matches a schema, kept as source text because its numbers keep all their digits.
    JsonSchema(String),
    /// Text that a regex matches as a whole.
    Regex(String),
    /// A grammar in llama.cpp's GBNF.
    Gbnf(String),
    /// A grammar in llguidance's own syntax.
    Lark(String),
    /// Function calls, or else JSON that matches a schema.
    Calls(Box<CallSpec>),
}

impl Constraint {
    /// The kind of constraint, for error messages.
    fn what(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => JSON_SCHEMA,
            Self::Calls(_) => TOOLS,
            Self::Regex(_) => "regular expression",
            Self::Gbnf(_) | Self::Lark(_) => "grammar",
        }
    }

    /// Size of its source in bytes.
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

    /// A grammar in GBNF or, after a line `%llguidance`, in Lark, as in llama.cpp.
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

/// Why a constraint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It cannot be compiled.
    #[error("{what}: {problem}")]
    Invalid {
        /// The kind of constraint.
        what: &'static str,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// Its source is too large.
    #[error("{what}: found {bytes} bytes, expected at most {SOURCE_BYTES_MAX}")]
    Long {
        /// The kind of constraint.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// It could not be followed to the end of the answer.
    #[error("the constraint on the answer failed: {0}\nhint: simplify the schema or grammar")]
    Stuck(String),
    /// It hit a limit while it was tried.
    #[error("{what}: {error}\nhint: simplify it")]
    Bound {
        /// The kind of constraint.
        what: &'static str,
        /// The limit.
        error: WorkerError,
    },
    /// It was not even tried: the computer is too busy, or the client is gone.
    #[error("the constraint could not be compiled: {0}")]
    Untried(String),
    /// The model cannot be constrained.
    #[error("this model's vocabulary is too large for constraints")]
    Vocabulary,
}

/// Names in errors for a constraint from a schema, and for one from the schemas of functions.
const JSON_SCHEMA: &str = "JSON schema";
pub(crate) const TOOLS: &str = "tools";

/// Longest schema, regex or grammar.
const SOURCE_BYTES_MAX: usize = 128 << 10;
/// Stack for compiling: sources are parsed recursively.
const STACK_BYTES: usize = 64 << 20;
/// Constraints compiled at the same time, in this process.
const PERMITS: usize = 4;
/// Longest llguidance error message that is passed on.
const MESSAGE_CHARS_MAX: usize = 500;

/// Limits for one request: about ten milliseconds and megabytes to compile, milliseconds per token.
fn limits() -> ParserLimits {
    ParserLimits { max_lexer_states: 20_000, verbose_errors: false, ..ParserLimits::default() }
}

/// Compiles constraints for one model.
pub struct Compiler {
    tokenizer: Arc<Tokenizer>,
    workers: Arc<Workers>,
    /// Vocabulary for trying constraints in a worker.
    vocabulary: OnceLock<trial::Vocabulary>,
    /// Built on first use: it takes a fraction of a second and some megabytes.
    factory: OnceLock<Option<ParserFactory>>,
    /// Those that compile at a time; what their trial took bounds how long they do.
    permits: Semaphore,
}

impl Compiler {
    /// A compiler for a model's tokens. Each constraint is tried by `workers` first.
    #[must_use]
    pub fn with(tokenizer: Arc<Tokenizer>, workers: Arc<Workers>) -> Self {
        let (vocabulary, factory) = (OnceLock::new(), OnceLock::new());
        Self { tokenizer, workers, vocabulary, factory, permits: Semaphore::new(PERMITS) }
    }

    /// A compiler without that trial, for tests.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self::with(tokenizer, Arc::new(Workers::here(|_, _| Vec::new())))
    }

    /// The tokenizer whose tokens are constrained.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Compiles a constraint.
    ///
    /// # Errors
    /// When it is invalid, allows no answer, is too large, or takes too long.
    pub fn compile(&self, constraint: &Constraint) -> Result<Guide, ConstraintError> {
        self.compile_within(constraint, &Patience::new(trial::TIME_MAX, &|| true))
    }

    /// Compiles a constraint within a caller's time limit.
    ///
    /// # Errors
    /// When it is invalid, allows no answer, is too large, or takes too long.
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
        let permit = self.permits.acquire(trial::TIME_MAX, &|| patience.is_wanted());
        let _permit = permit.map_err(|no| ConstraintError::Untried(no.to_string()))?;
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
        let guide = guide.unwrap_or_else(|| Err("internal error".to_owned().into()));
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

/// Makes a guide and checks that its first step can be computed.
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

/// llguidance's error message, without the parts that only its authors can use.
fn readable(error: &str) -> String {
    if error.starts_with("panic:") || error.contains("fuel exhausted") {
        return "it is too large".to_owned();
    }
    if error.starts_with("NoExtensionBias") {
        return "no text can satisfy it".to_owned();
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
    /// This token; it is already accepted.
    Forced(u32),
    /// One of these: a bit mask over token ids, lowest bit first.
    Among(&'g [u32]),
}

/// The state of a constraint at some point in an answer.
#[derive(Clone)]
pub struct Guide {
    matcher: Matcher,
    /// Forced tokens that the matcher has already consumed.
    forced: VecDeque<u32>,
    mask: Option<SimpleVob>,
    /// The marker after which the constraint begins.
    waiting: Option<Waiting>,
    /// Markers that lift the constraint.
    open: Option<Open>,
}

/// Until the marker has come, every token but the end is allowed.
#[derive(Clone)]
struct Waiting {
    marker: Vec<u8>,
    /// The last bytes of the answer so far.
    seen: Vec<u8>,
    allowed: SimpleVob,
}

/// Markers that, at the start of an answer, allow anything after them.
#[derive(Clone)]
struct Open {
    markers: Vec<Vec<u8>>,
    /// The answer so far, while it is a prefix of a marker.
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
    /// Applies the constraint only after `marker`, if there is one, for models whose reasoning comes first. Text after
    /// the marker in the same token is not checked.
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

    /// Allows anything after one of these markers, if the answer begins with it.
    fn opened_by(&mut self, markers: &[String]) {
        if let (false, Ok(env)) = (markers.is_empty(), self.matcher.tok_env()) {
            let mut allowed = env.tok_trie().alloc_token_set();
            allowed.set_all(true);
            let markers = markers.iter().map(|marker| marker.as_bytes().to_vec()).collect();
            self.open = Some(Open { markers, seen: Vec::new(), allowed });
        }
    }

    /// Tracks whether the answer is still a prefix of an opening marker.
    fn note(&mut self, id: u32) {
        if let (Some(open), Ok(env)) = (&mut self.open, self.matcher.tok_env()) {
            open.seen.extend(plain(env.tok_trie().token(id)));
            // A prefix mismatch is final.
            if !open.markers.iter().any(|marker| marker.starts_with(&open.seen)) {
                self.open = None;
            }
        }
    }

    /// What may come next. After [`Step::Among`], call [`Guide::accept`] with the chosen token.
    ///
    /// # Errors
    /// When that takes too much work to compute, or no token is allowed although the answer is incomplete.
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

    /// Records the token that was chosen from [`Step::Among`].
    ///
    /// # Errors
    /// When that token was not allowed.
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
        ConstraintError::Stuck(
            error.map_or_else(|| "the grammar ended early".to_owned(), |e| readable(&e)),
        )
    }
}

/// A token's text without the marker byte of control tokens.
fn plain(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]).unwrap_or(bytes)
}
