//! Conversations as text, and text as answers.
//!
//! Enters: a [`Conversation`], and the templates of a model. Leaves: the prompt as the model was trained to
//! see it, with an [`AnswerSyntax`] of what its answer may hold; then, of the answer's text, its [`AnswerPart`]s: thoughts,
//! content and calls of functions. Knows nothing of tokens.

mod abilities;
mod adapt;
mod answer;
pub mod builtin;
mod error;
mod held;
mod jinja;
mod json;
mod message;
mod reader;
mod reasoning;
mod template;
mod tools;

pub use abilities::{Abilities, Arguments, Calls as CallAbilities, Systems};
pub use answer::{Answer, AnswerPart, AnswerSyntax, CallSyntax};
pub use error::TemplateError;
pub(crate) use jinja::work as work_on_template;
pub use message::{Content, FunctionCall, Message, ToolCall};
pub use reader::Reader;
pub use reasoning::{ReasoningFormat, Tags};
pub use template::{ChatTemplate, Inputs, Renderer, TIME_MAX};
pub use tools::{Format, Tool, ToolChoice, tool_calls, tool_grammar};

use crate::constraint::{CallSpec, Constraint};
use crate::worker::{Patience, Workers};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a model is to answer.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// What was said so far.
    pub messages: Vec<Message>,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Whether it has to call one.
    pub choice: ToolChoice,
    /// Whether it may call several in one answer.
    pub parallel: bool,
    /// Texts to answer from; `null` for none.
    pub documents: Value,
    /// Whatever else the template knows.
    pub variables: Map<String, Value>,
    /// Where the prompt ends.
    pub ending: Ending,
    /// What becomes of thoughts.
    pub reasoning: ReasoningFormat,
    /// Whether the model is kept from thinking.
    pub no_thoughts: bool,
}

/// Where a prompt ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// Where an answer begins.
    #[default]
    Answer,
    /// After the last message.
    Nothing,
    /// Within the last message, which is the beginning of the answer.
    Continue,
}

/// A prompt and what may answer it.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// What may be in the answer.
    pub plan: AnswerSyntax,
    /// What has to be in it, where a function has to be called.
    pub must: Option<Constraint>,
    /// What calls look like, where one may be made and can be told from an answer in JSON.
    pub may: Option<CallSpec>,
}

/// The templates of a model.
pub struct Chat {
    main: Known,
    /// For conversations with functions, and with documents, where a model has templates of their own.
    tool_use: Option<Known>,
    rag: Option<Known>,
}

/// A template and what is known of it.
struct Known {
    template: ChatTemplate,
    /// Tried when first needed: most conversations are only users and assistants.
    abilities: Abilities,
    format: &'static Format,
    tags: Option<&'static Tags>,
}

impl Known {
    fn new(
        workers: &Arc<Workers>,
        source: &str,
        bos: &str,
        eos: &str,
    ) -> Result<Self, TemplateError> {
        let template = ChatTemplate::with(workers, source, bos.to_owned(), eos.to_owned())?;
        let (format, tags) = (Format::of(source), Tags::of(source));
        Ok(Self { template, abilities: Abilities::default(), format, tags })
    }
}

impl Chat {
    /// The templates with these sources, for `workers` to render; begin and end token as text. A broken template for
    /// functions or documents is as good as none.
    ///
    /// # Errors
    /// When the main template is none.
    pub fn with(
        workers: &Arc<Workers>,
        main: &str,
        tool_use: Option<&str>,
        rag: Option<&str>,
        bos: &str,
        eos: &str,
    ) -> Result<Self, TemplateError> {
        let known = |source: &str| Known::new(workers, source, bos, eos);
        let other = |source: Option<&str>| known(source?).ok();
        Ok(Self { main: known(main)?, tool_use: other(tool_use), rag: other(rag) })
    }

    /// The same, rendered in this process without bounds: for tests.
    ///
    /// # Errors
    /// When the main template is none.
    pub fn new(
        main: &str,
        tool_use: Option<&str>,
        rag: Option<&str>,
        bos: &str,
        eos: &str,
    ) -> Result<Self, TemplateError> {
        let workers = Arc::new(Workers::here(|_, job| jinja::work(job)));
        Self::with(&workers, main, tool_use, rag, bos, eos)
    }

    /// The main template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        self.main.template.source()
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, fails, or does not come to an end; when a call is asked for that
    /// can't be enforced.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, TemplateError> {
        self.prompt_while(conversation, &|| true)
    }

    /// The prompt for a conversation, as long as `wanted` says that somebody waits for it.
    ///
    /// # Errors
    /// As [`Chat::prompt`], and when nobody waits any more.
    pub fn prompt_while(
        &self,
        conversation: &Conversation,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Prompt, TemplateError> {
        let known = match (&self.tool_use, &self.rag) {
            (Some(known), _) if !conversation.tools.is_empty() => known,
            (_, Some(known)) if !conversation.documents.is_null() => known,
            _ => &self.main,
        };
        adapt::prompt(known, conversation, &Patience::new(TIME_MAX, wanted))
    }
}
