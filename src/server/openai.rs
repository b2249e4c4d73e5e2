//! OpenAI's dialect: `/v1/models`, `/v1/chat/completions`, `/v1/completions`.

use super::State;
use super::constraint;
use super::conversation;
use super::error::ApiError;
use super::fields::{Fields, show};
use super::http::{Reply, Request, Response};
use super::native::{ok, token_id};
use super::sampling;
use super::stream::{Choice, Delivery, Dialect, answer};
use crate::chat::{Answer as Message, Conversation, Part, Plan, Prompt, TemplateError};
use crate::constraint::Constraint;
use crate::engine::{Engine, Finish, Generation, Outcome, Timings, TokenChoice};
use crate::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Fields that both completion endpoints know, beside those of sampling and of conversations.
const KNOWN: &[&str] = &[
    "prompt",
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n_predict",
    "stop",
    "logprobs",
    "top_logprobs",
    "n",
    "best_of",
    "echo",
    "return_progress",
    "render",
    "ignore_eos",
    "user",
    "metadata",
];
/// Fields that clients send and that change nothing here.
const IGNORED: &[&str] = &[
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "cache_prompt",
    "id_slot",
    "timings_per_token",
    "n_keep",
];
/// Fields that ask for what is not there yet; ignoring them would give a wrong answer in silence.
const UNSUPPORTED: &[&str] = &[
    "functions",
    "function_call",
    "suffix",
    "audio",
    "modalities",
    "prediction",
    "web_search_options",
];
/// Answers to one request at most: the others wait meanwhile.
const CHOICES_MAX: i64 = 8;
/// Stop strings at most.
const STOPS_MAX: usize = 16;
/// Likeliest tokens at most.
const TOP_LOGPROBS_MAX: i64 = 20;

/// `GET /v1/models`.
pub fn models(state: &State, engine: &Engine) -> Response {
    let info = &engine.info;
    ok(&json!({
        "object": "list",
        "data": [{
            "id": state.model_name(engine),
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
        }],
    }))
}

/// `POST /v1/chat/completions`.
pub fn chat(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply<'_>,
) -> Result<Option<Response>, ApiError> {
    let mut fields = Fields::parse(&request.body)?;
    let conversation = conversation::read(state, &mut fields)?;
    let wants_logprobs = fields.bool("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=TOP_LOGPROBS_MAX)?;
    if top.is_some_and(|n| n > 0) && !wants_logprobs {
        return Err(ApiError::parameter("top_logprobs", "a number", "`logprobs`: true with it"));
    }
    let logprobs = wants_logprobs.then(|| usize::try_from(top.unwrap_or(0)).unwrap_or(0));
    let common = Common::read(state, engine, fields, logprobs)?;
    let prompt = rendered(engine, &conversation)?;
    fits(&prompt.text, engine)?;
    let (ids, visible) = (engine.chat_ids(&prompt.text), engine.visible(&prompt.plan));
    let mut generation = Generation { prompt: ids, visible, ..common.generation.clone() };
    if let Some(must) = &prompt.must {
        // What is no JSON says what the whole answer is; a schema, what it is if it is no call.
        if common.asked.as_ref().is_some_and(|(_, c)| !matches!(c, Constraint::JsonSchema(_))) {
            let message = "`tool_choice`: the answer has a form already, and can't be a call";
            return Err(ApiError::bad(message).with_param("tool_choice"));
        }
        generation.guide = Some(constraint::guide(engine, "tools", must)?);
    } else if let (Some(asked), false) = (&common.asked, conversation.tools.is_empty()) {
        let either = constraint::with_calls(asked, prompt.may)?;
        generation.guide = Some(constraint::guide(engine, "tools", &either)?);
    }
    // The form is that of the answer, not of the thoughts before it.
    generation.guide = generation.guide.map(|guide| guide.after(prompt.plan.thoughts_end()));
    let dialect = Answer::new(state, engine, &common, Kind::Chat(prompt.plan));
    answer(engine, &generation, common.delivery, &dialect, reply)
}

/// `POST /apply-template`: the prompt that a chat completion of the same body would begin with.
pub fn apply_template(
    state: &State,
    engine: &Engine,
    request: &Request,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&request.body)?;
    let conversation = conversation::read(state, &mut fields)?;
    fields.ignore(&["logprobs", "top_logprobs"]);
    Common::read(state, engine, fields, None)?;
    let prompt = rendered(engine, &conversation)?;
    Ok(ok(&json!({ "prompt": prompt.text })))
}

/// A conversation as the model sees it.
fn rendered(engine: &Engine, conversation: &Conversation) -> Result<Prompt, ApiError> {
    engine.chat.prompt(conversation).map_err(|e| {
        let field = if matches!(e, TemplateError::Unforced) { "tool_choice" } else { "messages" };
        ApiError::bad(e.to_string()).with_param(field)
    })
}

/// `POST /v1/completions`.
pub fn completion(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply<'_>,
) -> Result<Option<Response>, ApiError> {
    let mut fields = Fields::parse(&request.body)?;
    let prompt = prompt(&mut fields, engine)?;
    let echo = fields.bool("echo")?.unwrap_or(false);
    let logprobs = match fields.take("logprobs") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(0),
        Some(v) => match v.as_u64().filter(|&n| n <= TOP_LOGPROBS_MAX as u64) {
            Some(n) => Some(n as usize),
            None => {
                return Err(ApiError::parameter(
                    "logprobs",
                    &show(&v),
                    "a whole number from 0 to 20",
                ));
            }
        },
    };
    let common = Common::read(state, engine, fields, logprobs)?;
    let echoed = if echo { engine.tokenizer.decode(&prompt, false) } else { Vec::new() };
    let mut dialect = Answer::new(state, engine, &common, Kind::Completion);
    dialect.echo = String::from_utf8_lossy(&echoed).into_owned();
    let generation = Generation { prompt, ..common.generation };
    answer(engine, &generation, common.delivery, &dialect, reply)
}

/// What both endpoints share.
struct Common {
    generation: Generation,
    delivery: Delivery,
    include_usage: bool,
    /// What the answer must look like, and the field that says so.
    asked: Option<(&'static str, Constraint)>,
}

impl Common {
    /// Reads the rest of the fields, and refuses those that are left.
    fn read(
        state: &State,
        engine: &Engine,
        mut f: Fields,
        logprobs: Option<usize>,
    ) -> Result<Self, ApiError> {
        f.ignore(IGNORED);
        f.unsupported(UNSUPPORTED)?;
        let choices = f.integer("n", 1..=CHOICES_MAX)?.unwrap_or(1);
        if let Some(best_of) = f.integer("best_of", 1..=CHOICES_MAX)?
            && best_of != choices
        {
            let expected = "the value of `n`: all answers are sent";
            return Err(ApiError::parameter("best_of", &best_of.to_string(), expected));
        }
        let html = match f.string("render")?.as_deref() {
            None | Some("") => false,
            Some("html") => true,
            Some(other) => {
                return Err(ApiError::parameter("render", &format!("\"{other}\""), "\"html\""));
            }
        };
        let stream = f.bool("stream")?.unwrap_or(false);
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
        let delivery = Delivery { choices: choices as usize, stream, progress, html };
        let max_tokens = max_tokens(&mut f)?.unwrap_or(state.config.predict);
        let stops = f.strings("stop", STOPS_MAX)?.unwrap_or_else(|| state.config.stops.clone());
        let ignore_end = f.bool("ignore_eos")?.unwrap_or(state.config.ignore_end);
        let vocab = engine.tokenizer.len();
        let sampling = sampling::read(&mut f, &state.config.sampling, vocab)?;
        let constraint = constraint::read(&mut f)?;
        let known = KNOWN.iter().chain(conversation::KNOWN).chain(constraint::KNOWN).copied();
        f.finish(&sampling::known().chain(known).collect::<Vec<_>>())?;
        let asked = constraint.constraint(state.config.constraint.as_ref());
        let guide =
            asked.as_ref().map(|(name, c)| constraint::guide(engine, name, c)).transpose()?;
        let generation = Generation {
            prompt: Vec::new(),
            sampling,
            max_tokens,
            stops,
            logprobs,
            ignore_end,
            guide,
            visible: Vec::new(),
        };
        Ok(Self { generation, delivery, include_usage, asked })
    }
}

/// The limit of tokens if one is set: `Some(None)` is "no limit".
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

/// The prompt: a text, token ids, or an array with one of either.
fn prompt(f: &mut Fields, engine: &Engine) -> Result<Vec<u32>, ApiError> {
    let vocab = engine.tokenizer.len();
    let expected = format!("a string or an array of token ids below {vocab}");
    let found = f.typed("prompt", &expected, |v| {
        match v.as_str().or_else(|| v.as_array()?.first()?.as_str()).map(|text| fits(text, engine))
        {
            Some(Err(error)) => Some(Err(error)),
            _ => prompt_ids(v, &engine.tokenizer).map(Ok),
        }
    })?;
    let found = found.transpose()?;
    found.ok_or_else(|| ApiError::parameter("prompt", "nothing", &expected))
}

/// Refuses a text that has too many tokens whatever they are: making them of megabytes takes seconds.
fn fits(text: &str, engine: &Engine) -> Result<(), ApiError> {
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

fn prompt_ids(v: &Value, tokenizer: &Tokenizer) -> Option<Vec<u32>> {
    match v {
        Value::String(text) => Some(tokenizer.encode(text, true, true)),
        Value::Array(all) => match all.as_slice() {
            [Value::String(text)] => Some(tokenizer.encode(text, true, true)),
            [Value::Array(ids)] => ids.iter().map(|id| token_id(id, tokenizer.len())).collect(),
            ids => ids.iter().map(|id| token_id(id, tokenizer.len())).collect(),
        },
        _ => None,
    }
}

/// Which of the two endpoints answers.
enum Kind {
    /// With what may be in the answer.
    Chat(Plan),
    Completion,
}

/// Writes the answers of one request.
struct Answer<'e> {
    tokenizer: &'e Tokenizer,
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    echo: String,
}

impl<'e> Answer<'e> {
    fn new(state: &State, engine: &'e Engine, common: &Common, kind: Kind) -> Self {
        let prefix = if matches!(kind, Kind::Chat(_)) { "chatcmpl" } else { "cmpl" };
        Self {
            tokenizer: &engine.tokenizer,
            kind,
            id: unique_id(prefix),
            created: unix_time(),
            model: state.model_name(engine),
            include_usage: common.include_usage,
            echo: String::new(),
        }
    }

    fn is_chat(&self) -> bool {
        matches!(self.kind, Kind::Chat(_))
    }

    fn envelope(&self, chunk: bool, choices: &Value) -> Value {
        let object = match (&self.kind, chunk) {
            (Kind::Chat(_), true) => "chat.completion.chunk",
            (Kind::Chat(_), false) => "chat.completion",
            (Kind::Completion, _) => "text_completion",
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        })
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Value, finish: Value) -> Value {
        let mut choice = json!({ "index": index });
        let content = if self.is_chat() { "delta" } else { "text" };
        choice[content] = delta;
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = finish;
        self.envelope(true, &json!([choice]))
    }

    fn delta(&self, part: &Part, calls: usize) -> Value {
        let index = calls.saturating_sub(1);
        match part {
            Part::Content(text) if !self.is_chat() => json!(text),
            Part::Content(text) => json!({ "content": text }),
            Part::Reasoning(text) => json!({ "reasoning_content": text }),
            Part::Call { id, name } => json!({ "tool_calls": [{
                "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" },
            }] }),
            Part::Arguments(text) => {
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
        } else {
            whole["text"] = json!(format!("{}{}", self.echo, answer.content));
        }
        whole["logprobs"] = self.logprobs(&choice.tokens);
        whole["finish_reason"] = json!(finish_reason(choice.outcome.finish, answer.calls.len()));
        whole
    }

    fn logprobs(&self, tokens: &[TokenChoice]) -> Value {
        if tokens.iter().all(|t| t.logprob.is_none()) {
            return Value::Null;
        }
        let text =
            |id: u32| String::from_utf8_lossy(&self.tokenizer.decode(&[id], true)).into_owned();
        let finite = |p: f32| if p.is_finite() { p } else { -9999.0 };
        if !self.is_chat() {
            let top = |t: &TokenChoice| -> Map<String, Value> {
                t.top.iter().map(|&(id, p)| (text(id), json!(finite(p)))).collect()
            };
            return json!({
                "tokens": tokens.iter().map(|t| text(t.id)).collect::<Vec<_>>(),
                "token_logprobs": tokens.iter().map(|t| t.logprob.map(finite)).collect::<Vec<_>>(),
                "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
                "text_offset": offsets(tokens.iter().map(|t| text(t.id))),
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
    fn first(&self, choice: usize) -> Option<Value> {
        let begin = match self.kind {
            Kind::Chat(_) => json!({ "role": "assistant", "content": "" }),
            Kind::Completion if self.echo.is_empty() => return None,
            Kind::Completion => json!(self.echo),
        };
        Some(self.chunk(choice, begin, Value::Null, Value::Null))
    }

    fn plan(&self) -> &Plan {
        static TEXT: LazyLock<Plan> = LazyLock::new(Plan::default);
        match &self.kind {
            Kind::Chat(plan) => plan,
            Kind::Completion => &TEXT,
        }
    }

    fn call_id(&self) -> String {
        call_id()
    }

    fn part(&self, choice: usize, part: &Part, calls: usize, tokens: &[TokenChoice]) -> Value {
        self.chunk(choice, self.delta(part, calls), self.logprobs(tokens), Value::Null)
    }

    fn empty(&self, choice: usize) -> Value {
        self.chunk(choice, self.nothing(), Value::Null, Value::Null)
    }

    fn last(&self, choice: usize, calls: usize, outcome: &Outcome) -> Value {
        let reason = json!(finish_reason(outcome.finish, calls));
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

/// Where each text begins, in characters from the first.
fn offsets(texts: impl Iterator<Item = String>) -> Vec<usize> {
    let mut next = 0;
    let offset = |t: String| {
        let start = next;
        next += t.chars().count();
        start
    };
    texts.map(offset).collect()
}

/// The message of an answer that is sent whole.
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

/// An identifier that no other answer of this process has.
fn unique_id(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    format!("{prefix}-{nanos:016x}{:04x}", COUNT.fetch_add(1, Ordering::Relaxed) & 0xffff)
}

/// An identifier for a call: nine letters and digits, because Mistral's templates take no others.
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
