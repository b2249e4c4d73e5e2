//! Turns conversations into prompts, and the text of answers into their parts.
//!
//! Input: a [`Conversation`] and the model's templates. Output: the prompt in the form that the model was trained on,
//! with an [`AnswerSyntax`] for its answer; then, from the answer's text, its [`AnswerPart`]s: reasoning, content and
//! tool calls. Knows nothing of tokens.

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
mod rewrites;
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

/// What a model should answer.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The messages so far.
    pub messages: Vec<Message>,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must call one.
    pub choice: ToolChoice,
    /// Whether it may call several in one answer.
    pub parallel: bool,
    /// Documents to answer from; `null` for none.
    pub documents: Value,
    /// Further template variables.
    pub variables: Map<String, Value>,
    /// Where the prompt ends.
    pub ending: Ending,
    /// What to do with reasoning.
    pub reasoning: ReasoningFormat,
    /// Whether to suppress reasoning.
    pub no_thoughts: bool,
}

/// Where a prompt ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// At the start of an answer.
    #[default]
    Answer,
    /// After the last message.
    Nothing,
    /// Inside the last message, which the model continues.
    Continue,
}

/// A prompt and the syntax of its answer.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// What the answer may contain.
    pub plan: AnswerSyntax,
    /// Enforces a tool call, where one is required.
    pub must: Option<Constraint>,
    /// How tool calls are written, where one may be made and can be told from an answer in JSON.
    pub may: Option<CallSpec>,
}

/// A model's chat templates.
pub struct Chat {
    main: Known,
    /// Separate templates for conversations with tools and with documents, if the model has them.
    tool_use: Option<Known>,
    rag: Option<Known>,
}

/// A template and what is known about it.
struct Known {
    template: ChatTemplate,
    /// Probed on first use: most conversations have only user and assistant messages.
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
    /// Compiles these sources, to be rendered by `workers`; `bos` and `eos` are token texts. A broken template for
    /// tools or documents is ignored.
    ///
    /// # Errors
    /// When the main template is too long or does not compile.
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

    /// Like [`Chat::with`], but renders in this process without limits: for tests.
    ///
    /// # Errors
    /// When the main template is too long or does not compile.
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

    /// Whether the main template marks reasoning.
    #[must_use]
    pub fn thinks(&self) -> bool {
        self.main.tags.is_some()
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, fails, or does not terminate; when a required call can't be enforced.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, TemplateError> {
        self.prompt_while(conversation, &|| true)
    }

    /// The prompt for a conversation; gives up once `wanted` returns false.
    ///
    /// # Errors
    /// As [`Chat::prompt`]; also when `wanted` returns false.
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
