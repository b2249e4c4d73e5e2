//! OpenAI's dialect: `/v1/models`, `/v1/chat/completions`, `/v1/completions`.

use super::State;
use super::aliases::{self, On};
use super::constraint;
use super::conversation;
use super::dialect::{Choice, Dialect};
use super::error::ApiError;
use super::fields::{Fields, show};
use super::http::{Reply, Request, Response};
use super::json::ok;
use super::prompts::{self, Echo};
use super::sampling;
use super::sink::{Sink, answered};
use super::stream::{Delivery, answer, check_prompts};
use crate::chat::{
    Answer as Message, AnswerPart, AnswerSyntax, Conversation, Prompt, TemplateError,
};
use crate::constraint::{Constraint, Guide};
use crate::engine::{Engine, Finish, Generation, Outcome, Timings, TokenChoice};
use crate::tokenizer::Tokenizer;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Fields that both completion endpoints know, besides those for sampling and conversations.
const KNOWN: &[&str] = &[
    "prompt",
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n_predict",
    "min_tokens",
    "id_slot",
    "n_ctx",
    "stop",
    "logprobs",
    "top_logprobs",
    "n",
    "best_of",
    "echo",
    "return_progress",
    "render",
    "ignore_eos",
];
/// Fields that clients send but that have no effect here.
const IGNORED: &[&str] = &[
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prediction",
    "verbosity",
    "cache_prompt",
    "timings_per_token",
    "n_keep",
];
/// Whether a value asks for anything.
type Asks = fn(&Value) -> bool;

/// Fields that ask for something impossible here, if the function says so; ignoring them would silently give a wrong
/// answer.
const IMPOSSIBLE: &[(&str, Asks, &str)] = &[
    ("suffix", |v| v != "", "fill-in-the-middle is not supported"),
    ("audio", |_| true, "the model generates text only"),
    (
        "modalities",
        |v| v.as_array().is_none_or(|all| all.iter().any(|m| m != "text")),
        "the model generates text only",
    ),
    // An empty object asks for a search with default settings.
    ("web_search_options", |_| true, "web search is not supported"),
    ("moderation", |_| true, "moderation is not supported"),
];
/// Largest `n` and `best_of`: other requests wait meanwhile.
const CHOICES_MAX: i64 = 8;
/// Bytes of memory for a token of a prompt that the answer repeats.
const ECHO_BYTES: usize = 128;
/// Most stop strings.
const STOPS_MAX: usize = 16;
/// Largest `top_logprobs`.
const TOP_LOGPROBS_MAX: i64 = 20;

/// `GET /v1/models`.
pub fn models(state: &State, engine: &Engine) -> Response {
    ok(&json!({ "object": "list", "data": [described(state, engine)] }))
}

/// `GET /v1/models/ID`; `id` is still percent-encoded.
pub fn model(state: &State, engine: &Engine, id: &str) -> Result<Response, ApiError> {
    let id = percent_decode_str(id).decode_utf8_lossy();
    if state.model_names(engine).iter().any(|name| *name == id) {
        return Ok(ok(&described(state, engine)));
    }
    let message =
        format!("The model `{id}` does not exist; this server has `{}`", state.model_name(engine));
    Err(ApiError::new(404, "invalid_request_error", message)
        .with_param("model")
        .with("code", "model_not_found"))
}

fn described(state: &State, engine: &Engine) -> Value {
    let info = &engine.info;
    json!({
        "id": state.model_name(engine),
        "aliases": state.model_names(engine),
        "object": "model",
        "created": state.started,
        "owned_by": "tealight",
        "meta": {
            "n_vocab": info.vocab,
            "n_ctx_train": info.context_train,
            "n_embd": info.embedding,
            "n_params": info.parameters,
            "size": info.weight_bytes,
        },
    })
}

/// `POST /v1/chat/completions`.
pub fn chat(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply,
) -> Result<Option<Response>, ApiError> {
    let mut fields = Fields::parse(&request.body, &request.share)?;
    aliases::apply(&mut fields, On::Chat)?;
    let first_form = fields.called("tools").ends_with("functions");
    let (mut conversation, budget) = conversation::read(state, &mut fields)?;
    // A message in the legacy `functions` form holds one call.
    conversation.parallel &= !first_form;
    let wants_logprobs = fields.bool("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=TOP_LOGPROBS_MAX)?;
    if top.is_some_and(|n| n > 0) && !wants_logprobs {
        let name = fields.called("top_logprobs");
        return Err(ApiError::parameter(name, "a number", "`logprobs`: true as well"));
    }
    let logprobs = wants_logprobs.then(|| usize::try_from(top.unwrap_or(0)).unwrap_or(0));
    let common = Common::read(state, engine, fields, logprobs, On::Chat, reply)?;
    answered(reply, common.delivery.quiet_max(), |sink| {
        let prompt = rendered(engine, &conversation, sink)?;
        prompts::fits(&prompt.text, engine)?;
        let ids = prompts::tokens(&prompt.text, true, true, engine, &request.share, sink)?;
        let (ids, visible) = (engine.begun_once(ids), engine.visible(&prompt.plan));
        let mut generation = Generation { visible, ..common.generation.clone() };
        generation.thoughts = budget
            .tokens
            .and_then(|tokens| engine.thought_limit(&prompt.plan, tokens, &budget.message));
        if let Some(must) = &prompt.must {
            // A grammar or regex governs the whole answer, a schema only one that is not a tool call.
            if common.asked.as_ref().is_some_and(|(_, c)| !matches!(c, Constraint::JsonSchema(_))) {
                let message =
                    "`tool_choice`: a call cannot be required together with a grammar or regex";
                return Err(ApiError::bad(message).with_param("tool_choice"));
            }
            generation.guide = Some(constraint::guide(engine, "tools", must, sink)?);
        } else if let (Some((name, Constraint::JsonSchema(schema))), false) =
            (&common.asked, conversation.tools.is_empty())
        {
            let either = constraint::with_calls(name, schema, prompt.may)?;
            generation.guide = Some(constraint::guide(engine, name, &either, sink)?);
        } else {
            // A grammar or regex governs everything the model writes, calls included.
            generation.guide = common.guide(engine, sink)?;
        }
        // The constraint applies to the answer, not to the reasoning before it.
        generation.guide = generation.guide.map(|guide| guide.after(prompt.plan.thoughts_end()));
        let mut dialect = Answer::new(state, engine, &common, AnswerKind::Chat(prompt.plan));
        dialect.first_form = first_form;
        answer(engine, &request.share, &generation, &[ids], common.delivery, &dialect, sink)
    })
}

/// `POST /apply-template`: the prompt that a chat completion with the same body would use.
pub fn apply_template(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&request.body, &request.share)?;
    aliases::apply(&mut fields, On::Chat)?;
    let (conversation, _) = conversation::read(state, &mut fields)?;
    fields.ignore(&["logprobs", "top_logprobs"]);
    let common = Common::read(state, engine, fields, None, On::Chat, reply)?;
    let sink = Sink::new(reply);
    let _permit = state.heavy(&|| sink.is_wanted())?;
    common.guide(engine, &sink)?;
    let prompt = rendered(engine, &conversation, &sink)?;
    Ok(ok(&json!({ "prompt": prompt.text })))
}

/// Renders a conversation to the model's prompt.
fn rendered(
    engine: &Engine,
    conversation: &Conversation,
    sink: &Sink<'_>,
) -> Result<Prompt, ApiError> {
    engine.chat.prompt_while(conversation, &|| sink.is_wanted()).map_err(|error| match error {
        TemplateError::Untried(_) => ApiError::overloaded(error.to_string()),
        TemplateError::Unforced => ApiError::bad(error.to_string()).with_param("tool_choice"),
        _ => ApiError::bad(error.to_string()).with_param("messages"),
    })
}

/// `POST /v1/completions`.
pub fn completion(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply,
) -> Result<Option<Response>, ApiError> {
    let mut fields = Fields::parse(&request.body, &request.share)?;
    aliases::apply(&mut fields, On::Text)?;
    let given = fields.take_list("prompt");
    let echo = fields.bool("echo")?.unwrap_or(false);
    let logprobs = match fields.take("logprobs") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(0),
        Some(v) => match v.as_u64().filter(|&n| n <= TOP_LOGPROBS_MAX as u64) {
            Some(n) => Some(n as usize),
            None => {
                return Err(fields.wrong("logprobs", &v, "a whole number from 0 to 20"));
            }
        },
    };
    let common = Common::read(state, engine, fields, logprobs, On::Text, reply)?;
    answered(reply, common.delivery.quiet_max(), |sink| {
        let prompts = prompts::read(given, engine, &request.share, sink)?;
        let mut dialect = Answer::new(state, engine, &common, AnswerKind::Completion);
        if echo {
            // Before memory is spent on echoes.
            check_prompts(engine, prompts.iter().map(|prompt| prompt.ids.as_slice()))?;
            let tokens: usize = prompts.iter().map(|prompt| prompt.ids.len()).sum();
            request.share.take(tokens * ECHO_BYTES)?;
            let echo = |prompt| Echo::new(prompt, &engine.tokenizer);
            dialect.echoes = prompts.iter().map(echo).collect();
        }
        let guide = common.guide(engine, sink)?;
        let mut generation = Generation { guide, ..common.generation };
        generation.score_prompt = echo && generation.logprobs.is_some();
        if common.delivery.candidates > common.delivery.choices {
            // Candidates are ranked by log probability.
            generation.logprobs = generation.logprobs.or(Some(0));
        }
        let ids: Vec<Vec<u32>> = prompts.into_iter().map(|prompt| prompt.ids).collect();
        answer(engine, &request.share, &generation, &ids, common.delivery, &dialect, sink)
    })
}

/// Settings that both endpoints share.
struct Common {
    generation: Generation,
    delivery: Delivery,
    include_usage: bool,
    /// The field that constrains the answer, and its constraint.
    asked: Option<(String, Constraint)>,
}

impl Common {
    /// Reads the rest of the fields, and reports those that are unknown.
    fn read(
        state: &State,
        engine: &Engine,
        mut f: Fields,
        logprobs: Option<usize>,
        on: On,
        reply: &mut Reply,
    ) -> Result<Self, ApiError> {
        f.ignore(IGNORED);
        for (name, asks, why) in IMPOSSIBLE {
            if let Some(value) = f.take(name).filter(asks) {
                let message = format!("`{}`: found {}, but {why}", f.called(name), show(&value));
                return Err(ApiError::bad(message).with_param(f.called(name)));
            }
        }
        let choices = f.integer("n", 1..=CHOICES_MAX)?.unwrap_or(1);
        let candidates = f.integer("best_of", 1..=CHOICES_MAX)?.unwrap_or(choices);
        let html = match f.string("render")?.as_deref() {
            None | Some("") => false,
            Some("html") => true,
            Some(other) => {
                return Err(ApiError::parameter("render", &format!("\"{other}\""), "\"html\""));
            }
        };
        let stream = f.bool("stream")?.unwrap_or(false);
        if candidates < choices || candidates > choices && (stream || on != On::Text) {
            let expected = if candidates < choices {
                "at least the value of `n`"
            } else {
                "the value of `n`: a larger `best_of` needs text completions that are not streamed"
            };
            return Err(ApiError::parameter("best_of", &candidates.to_string(), expected));
        }
        let include_usage = match f.take("stream_options") {
            None => false,
            Some(Value::Object(options)) => match options.get("include_usage") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(wanted)) => *wanted,
                Some(other) => {
                    return Err(ApiError::parameter(
                        "include_usage",
                        &show(other),
                        "true or false",
                    ));
                }
            },
            Some(other) => {
                return Err(ApiError::parameter("stream_options", &show(&other), "an object"));
            }
        };
        let progress = f.bool("return_progress")?.unwrap_or(false);
        let (choices, candidates) = (choices as usize, candidates as usize);
        let delivery = Delivery { choices, candidates, stream, progress, html };
        let max_tokens = max_tokens(&mut f)?.unwrap_or(state.config.predict);
        let stops = f.strings("stop", STOPS_MAX)?.unwrap_or_else(|| state.config.stops.clone());
        let ignore_end = f.bool("ignore_eos")?.unwrap_or(state.config.ignore_end);
        let count = |n: Option<i64>| n.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        // −1: any.
        let slot = f.integer("id_slot", -1..=1 << 20)?;
        let min_tokens = count(f.integer("min_tokens", 0..=1 << 31)?).unwrap_or(0);
        let context = count(f.integer("n_ctx", 0..=1 << 31)?);
        let vocab = engine.tokenizer.len();
        let encode = |text: &str| engine.tokenizer.encode(text, false, false);
        let sampling = sampling::read(&mut f, &state.config.sampling, vocab, &encode)?;
        let asked = constraint::read(&mut f)?.constraint(state.config.constraint.as_ref());
        let asked = asked.map(|(name, constraint)| (f.called(name).to_owned(), constraint));
        let known = KNOWN.iter().chain(conversation::KNOWN).chain(constraint::KNOWN).copied();
        let known = sampling::known().chain(known).chain(aliases::known(on));
        let ignored = f.finish(&known.collect::<Vec<_>>(), state.config.strict)?;
        ignored.tell(state.config.quiet, reply);
        let generation = Generation {
            sampling,
            max_tokens,
            context,
            stops,
            min_tokens,
            slot: slot.and_then(|n| usize::try_from(n).ok()),
            logprobs,
            ignore_end,
            ..Generation::default()
        };
        Ok(Self { generation, delivery, include_usage, asked })
    }

    /// Compiles the constraint on the answer.
    fn guide(&self, engine: &Engine, sink: &Sink<'_>) -> Result<Option<Guide>, ApiError> {
        let asked = self.asked.as_ref();
        asked.map(|(name, asked)| constraint::guide(engine, name, asked, sink)).transpose()
    }
}

/// The token limit, if one is set; `Some(None)` is "no limit".
#[expect(clippy::option_option, reason = "not set, set to no limit, set to a limit")]
fn max_tokens(f: &mut Fields) -> Result<Option<Option<usize>>, ApiError> {
    let mut found = None;
    for name in ["max_completion_tokens", "max_tokens", "n_predict"] {
        if let Some(n) = f.integer(name, -1..=1 << 31)? {
            found = found.or(Some(usize::try_from(n).ok()));
        }
    }
    Ok(found)
}

/// Which of the two endpoints answers.
enum AnswerKind {
    /// With the syntax of the answer.
    Chat(AnswerSyntax),
    Completion,
}

/// Writes the answers of one request.
struct Answer<'e> {
    tokenizer: &'e Tokenizer,
    kind: AnswerKind,
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    /// Whether log probabilities are part of the answer.
    logprobs: bool,
    /// Answers per prompt.
    choices: usize,
    /// The prompts, if the answers repeat them.
    echoes: Vec<Echo>,
    /// Whether a call is written in OpenAI's legacy `function_call` form.
    first_form: bool,
}

impl<'e> Answer<'e> {
    fn new(state: &State, engine: &'e Engine, common: &Common, kind: AnswerKind) -> Self {
        let prefix = if matches!(kind, AnswerKind::Chat(_)) { "chatcmpl" } else { "cmpl" };
        Self {
            tokenizer: &engine.tokenizer,
            kind,
            id: unique_id(prefix),
            created: unix_time(),
            model: state.model_name(engine),
            include_usage: common.include_usage,
            logprobs: common.generation.logprobs.is_some(),
            choices: common.delivery.choices,
            echoes: Vec::new(),
            first_form: false,
        }
    }

    fn is_chat(&self) -> bool {
        matches!(self.kind, AnswerKind::Chat(_))
    }

    fn envelope(&self, chunk: bool, choices: &Value) -> Value {
        let object = match (&self.kind, chunk) {
            (AnswerKind::Chat(_), true) => "chat.completion.chunk",
            (AnswerKind::Chat(_), false) => "chat.completion",
            (AnswerKind::Completion, _) => "text_completion",
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": concat!("tealight-", env!("CARGO_PKG_VERSION")), "choices": choices,
        })
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Value, finish: Value) -> Value {
        let mut choice = json!({ "index": index });
        let content = if self.is_chat() { "delta" } else { "text" };
        choice[content] = if self.first_form { in_first_form(delta) } else { delta };
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = finish;
        self.envelope(true, &json!([choice]))
    }

    fn delta(&self, part: &AnswerPart, calls: usize) -> Value {
        let index = calls.saturating_sub(1);
        match part {
            AnswerPart::Content(text) if !self.is_chat() => json!(text),
            AnswerPart::Content(text) => json!({ "content": text }),
            AnswerPart::Reasoning(text) => json!({ "reasoning_content": text }),
            AnswerPart::Call { id, name } => json!({ "tool_calls": [{
                "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" },
            }] }),
            AnswerPart::Arguments(text) => {
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
            }
        }
    }

    fn nothing(&self) -> Value {
        if self.is_chat() { json!({}) } else { json!("") }
    }

    fn whole_choice(&self, index: usize, choice: &Choice) -> Value {
        let answer = &choice.answer;
        let mut whole = json!({ "index": index });
        if self.is_chat() {
            whole["message"] = whole_message(answer);
            if self.first_form {
                whole["message"] = in_first_form(whole["message"].take());
            }
        } else {
            let echo = self.echo(index).map_or("", |echo| &echo.text);
            whole["text"] = json!(format!("{echo}{}", answer.content));
        }
        whole["logprobs"] = self.logprobs(index, &choice.scored, &choice.tokens);
        whole["finish_reason"] = self.reason(choice.outcome.finish, answer.calls.len());
        whole
    }

    /// The prompt of a choice, if the answer repeats it.
    fn echo(&self, choice: usize) -> Option<&Echo> {
        self.echoes.get(choice / self.choices)
    }

    fn reason(&self, finish: Finish, calls: usize) -> Value {
        match finish_reason(finish, calls) {
            "tool_calls" if self.first_form => json!("function_call"),
            reason => json!(reason),
        }
    }

    /// Log probabilities of the prompt's tokens, if they were scored, and of the answer's.
    fn logprobs(&self, choice: usize, scored: &[TokenChoice], tokens: &[TokenChoice]) -> Value {
        if !self.logprobs || scored.is_empty() && tokens.is_empty() {
            return Value::Null;
        }
        let text =
            |id: u32| String::from_utf8_lossy(&self.tokenizer.decode(&[id], true)).into_owned();
        let finite = |p: f32| if p.is_finite() { p } else { -9999.0 };
        if !self.is_chat() {
            // The likeliest tokens and the chosen one; of several with the same text, the likeliest.
            let top = |t: &TokenChoice| -> Option<Map<String, Value>> {
                let mut all = Map::new();
                for (id, p) in t.top.iter().copied().chain([(t.id, t.logprob?)]) {
                    all.entry(text(id)).or_insert(json!(finite(p)));
                }
                Some(all)
            };
            let echo = self.echo(choice);
            let before = echo.map_or(0, |echo| echo.chars);
            let places = echo.iter().flat_map(|echo| &echo.places).copied().take(scored.len());
            let places: Vec<usize> = places.chain(tokens.iter().map(|t| before + t.at)).collect();
            let tokens = || scored.iter().chain(tokens);
            return json!({
                "tokens": tokens().map(|t| text(t.id)).collect::<Vec<_>>(),
                "token_logprobs": tokens().map(|t| t.logprob.map(finite)).collect::<Vec<_>>(),
                "top_logprobs": tokens().map(top).collect::<Vec<_>>(),
                "text_offset": places,
            });
        }
        let entry = |id: u32, p: f32| json!({ "token": text(id), "logprob": finite(p), "bytes": self.tokenizer.decode(&[id], true) });
        let content: Vec<Value> = tokens
            .iter()
            .map(|t| {
                let mut one = entry(t.id, t.logprob.unwrap_or(f32::NEG_INFINITY));
                one["top_logprobs"] = t.top.iter().map(|&(id, p)| entry(id, p)).collect();
                one
            })
            .collect();
        json!({ "content": content, "refusal": null })
    }
}

impl Dialect for Answer<'_> {
    fn first(&self, choice: usize, scored: &[TokenChoice]) -> Option<Value> {
        let begin = match self.kind {
            AnswerKind::Chat(_) => json!({ "role": "assistant", "content": "" }),
            AnswerKind::Completion => json!(self.echo(choice)?.text),
        };
        Some(self.chunk(choice, begin, self.logprobs(choice, scored, &[]), Value::Null))
    }

    fn plan(&self) -> &AnswerSyntax {
        static TEXT: LazyLock<AnswerSyntax> = LazyLock::new(AnswerSyntax::default);
        match &self.kind {
            AnswerKind::Chat(plan) => plan,
            AnswerKind::Completion => &TEXT,
        }
    }

    fn call_id(&self) -> String {
        call_id()
    }

    fn part(
        &self,
        choice: usize,
        part: &AnswerPart,
        calls: usize,
        tokens: &[TokenChoice],
    ) -> Value {
        self.chunk(choice, self.delta(part, calls), self.logprobs(choice, &[], tokens), Value::Null)
    }

    fn empty(&self, choice: usize) -> Value {
        self.chunk(choice, self.nothing(), Value::Null, Value::Null)
    }

    fn last(&self, choice: usize, calls: usize, outcome: &Outcome) -> Value {
        let reason = self.reason(outcome.finish, calls);
        let mut last = self.chunk(choice, self.nothing(), Value::Null, reason);
        last["timings"] = timings(&outcome.timings);
        last
    }

    fn end(&self, all: &Timings) -> Option<Value> {
        self.include_usage.then(|| {
            let mut end = self.envelope(true, &json!([]));
            end["usage"] = usage(all);
            end["timings"] = timings(all);
            end
        })
    }

    fn whole(&self, choices: &[Choice], all: &Timings) -> Value {
        let choices: Vec<Value> = choices
            .iter()
            .enumerate()
            .map(|(index, choice)| self.whole_choice(index, choice))
            .collect();
        let mut answer = self.envelope(false, &json!(choices));
        answer["usage"] = usage(all);
        answer["timings"] = timings(all);
        answer
    }
}

/// The message of a non-streamed answer.
fn whole_message(message: &Message) -> Value {
    let mut whole = json!({ "role": "assistant", "content": message.content, "refusal": null });
    if !message.reasoning.is_empty() {
        whole["reasoning_content"] = json!(message.reasoning);
    }
    if !message.calls.is_empty() {
        let call = |(id, name, arguments): &(Option<String>, String, String)| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        whole["tool_calls"] = message.calls.iter().map(call).collect();
        if message.content.is_empty() {
            whole["content"] = Value::Null;
        }
    }
    whole
}

/// Converts the call of a message, or of a delta, to OpenAI's legacy `function_call` form.
fn in_first_form(mut message: Value) -> Value {
    if let Some(calls) = message.as_object_mut().and_then(|m| m.shift_remove("tool_calls")) {
        message["function_call"] = calls[0]["function"].clone();
    }
    message
}

fn finish_reason(finish: Finish, calls: usize) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::Cancelled if calls > 0 => "tool_calls",
        Finish::Stop | Finish::Cancelled => "stop",
    }
}

fn usage(t: &Timings) -> Value {
    json!({
        "prompt_tokens": t.prompt_tokens,
        "completion_tokens": t.generated_tokens,
        "total_tokens": t.prompt_tokens + t.generated_tokens,
        "prompt_tokens_details": { "cached_tokens": t.reused_tokens },
    })
}

fn timings(t: &Timings) -> Value {
    json!({
        "cache_n": t.reused_tokens,
        "prompt_n": t.prompt_tokens - t.reused_tokens,
        "prompt_ms": t.prompt_time.as_secs_f64() * 1000.0,
        "prompt_per_second": t.prompt_per_second(),
        "predicted_n": t.generated_tokens,
        "predicted_ms": t.generation_time.as_secs_f64() * 1000.0,
        "predicted_per_second": t.generated_per_second(),
    })
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// An identifier that is unique within this process.
fn unique_id(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    format!("{prefix}-{nanos:016x}{:04x}", COUNT.fetch_add(1, Ordering::Relaxed) & 0xffff)
}

/// An identifier for a call: nine letters and digits, because Mistral's templates accept nothing else.
fn call_id() -> String {
    const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut hasher = DefaultHasher::new();
    unique_id("call").hash(&mut hasher);
    let mut rest = hasher.finish();
    let letter = || {
        let letter = LETTERS[(rest % 62) as usize];
        rest /= 62;
        char::from(letter)
    };
    std::iter::repeat_with(letter).take(9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_call_is_not_a_list() {
        let delta = json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{" } }] });
        assert_eq!(in_first_form(delta), json!({ "function_call": { "arguments": "{" } }));
        assert_eq!(in_first_form(json!({ "content": "x" })), json!({ "content": "x" }));
    }

    #[test]
    fn only_values_that_ask_for_something_are_refused() {
        let asks = |name: &str, value: Value| {
            IMPOSSIBLE.iter().find(|(n, ..)| *n == name).is_some_and(|(_, asks, _)| asks(&value))
        };
        assert!(
            !asks("modalities", json!(["text"])) && asks("modalities", json!(["text", "audio"]))
        );
        assert!(!asks("suffix", json!("")) && asks("suffix", json!("x")));
        assert!(asks("web_search_options", json!({})) && asks("audio", json!({ "voice": "x" })));
    }
}
