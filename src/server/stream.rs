//! Runs a generation for a request and sends what comes of it, as it comes.
//!
//! Knows turns, disconnects and server-sent events; the dialect gives it the JSON of each piece.

use super::error::ApiError;
use super::http::Reply;
use super::native::ok;
use super::reading::Reading;
use crate::chat::{Answer, Part, Plan};
use crate::engine::{
    Engine, Event, Finish, Generation, Outcome, QueueError, SessionError, Timings, TokenChoice,
    Turn, generate,
};
use crate::render::Streamer;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

/// How often the socket is looked at for a client that has gone.
const LOOK: Duration = Duration::from_millis(20);
/// How long an answer may wait, in all, for a client to take what was sent.
const BLOCKED_MAX: Duration = Duration::from_secs(20);
/// How often the block that is being written is drawn again.
const DRAW: Duration = Duration::from_millis(60);

/// How one dialect writes its answers. A request may ask for several; `choice` counts them from 0.
pub trait Dialect {
    /// A chunk that begins a choice, if there is one.
    fn first(&self, choice: usize) -> Option<Value>;
    /// What may be in an answer.
    fn plan(&self) -> &Plan;
    /// An id for a call to which the model gave none.
    fn call_id(&self) -> String;
    /// A chunk with a piece of an answer, the number of calls so far, and its tokens.
    fn part(&self, choice: usize, part: &Part, calls: usize, tokens: &[TokenChoice]) -> Value;
    /// An empty chunk, to which progress or HTML is added.
    fn empty(&self, choice: usize) -> Value;
    /// The chunk that ends a choice with so many calls.
    fn last(&self, choice: usize, calls: usize, outcome: &Outcome) -> Value;
    /// A chunk that ends the stream, if there is one, with the counts of all choices.
    fn end(&self, timings: &Timings) -> Option<Value>;
    /// The whole answer at once.
    fn whole(&self, choices: &[Choice], timings: &Timings) -> Value;
}

/// One finished answer.
pub struct Choice {
    /// What it says.
    pub answer: Answer,
    /// Its tokens.
    pub tokens: Vec<TokenChoice>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// How many answers, one after the other.
    pub choices: usize,
    /// Piece by piece.
    pub stream: bool,
    /// With progress while the prompt is computed.
    pub progress: bool,
    /// With HTML of the blocks that changed.
    pub html: bool,
}

/// Generates and answers. Everything that is wrong with the request is said before the first byte.
///
/// # Errors
/// What is to be answered instead.
pub fn answer(
    engine: &Engine,
    request: &Generation,
    delivery: Delivery,
    dialect: &dyn Dialect,
    reply: &mut Reply<'_>,
) -> Result<Option<super::http::Response>, ApiError> {
    let context = engine.info.context;
    if request.prompt.len() >= context {
        return Err(session_error(&SessionError::ContextFull {
            prompt: request.prompt.len(),
            context,
        }));
    }
    if request.prompt.is_empty() {
        return Err(session_error(&SessionError::Empty));
    }
    let sink = Sink::new(reply);
    let Some(_turn) = turn(engine, &sink)? else { return Ok(None) };
    if delivery.stream {
        streamed(engine, request, delivery, dialect, &sink);
        return Ok(None);
    }
    let mut choices = Vec::new();
    for choice in 0..delivery.choices {
        let reading = Reading::new(dialect);
        let (mut answer, mut tokens) = (Answer::default(), Vec::new());
        let outcome = generate(
            &mut engine.session(),
            &engine.tokenizer,
            &request.choice(choice),
            &|| sink.is_wanted() && !reading.is_over(),
            &mut |event| {
                if let Event::Text { text, tokens: chosen } = event {
                    reading.push(&text).into_iter().for_each(|part| answer.add(part));
                    tokens.extend(chosen);
                }
            },
        )
        .map_err(|e| session_error(&e))?;
        let outcome = reading.outcome(outcome);
        if outcome.finish == Finish::Cancelled {
            return Ok(None);
        }
        reading.finish().into_iter().for_each(|part| answer.add(part));
        choices.push(Choice { answer, tokens, outcome });
    }
    let timings = choices.iter().map(|choice| choice.outcome.timings).reduce(Timings::and);
    Ok(Some(ok(&dialect.whole(&choices, &timings.unwrap_or_default()))))
}

/// Waits for a turn; `None`: the client has gone meanwhile.
///
/// # Errors
/// When too many wait already.
pub fn turn<'e>(engine: &'e Engine, sink: &Sink<'_, '_>) -> Result<Option<Turn<'e>>, ApiError> {
    match engine.queue.enter(&|| sink.is_wanted()) {
        Ok(turn) => Ok(Some(turn)),
        Err(QueueError::Cancelled) => Ok(None),
        Err(full @ QueueError::Full(_)) => {
            Err(ApiError::new(503, "overloaded_error", full.to_string()).retry_after(2))
        }
    }
}

/// Sends events until the generations end or the client goes.
fn streamed(
    engine: &Engine,
    request: &Generation,
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_, '_>,
) {
    sink.begin();
    let mut all: Option<Timings> = None;
    for choice in 0..delivery.choices {
        match stream_choice(engine, request, choice, delivery, dialect, sink) {
            Ok(Outcome { finish: Finish::Cancelled, .. }) => return,
            Ok(outcome) => {
                all = Some(all.map_or(outcome.timings, |t| t.and(outcome.timings)));
            }
            Err(error) => {
                sink.event(&session_error(&error).json());
                return sink.end();
            }
        }
    }
    if let Some(end) = dialect.end(&all.unwrap_or_default()) {
        sink.event(&end);
    }
    sink.end();
}

/// Sends the events of one choice.
fn stream_choice(
    engine: &Engine,
    request: &Generation,
    choice: usize,
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_, '_>,
) -> Result<Outcome, SessionError> {
    if let Some(first) = dialect.first(choice) {
        sink.event(&first);
    }
    let start = Instant::now();
    let reading = Reading::new(dialect);
    let mut page = delivery.html.then(|| Drawing::new(choice));
    // Tokens whose text is held back go with the piece that it becomes part of.
    let mut waiting = Vec::new();
    let outcome = generate(
        &mut engine.session(),
        &engine.tokenizer,
        &request.choice(choice),
        &|| sink.is_wanted() && !reading.is_over(),
        &mut |event| match event {
            Event::Prompt(p) => {
                if delivery.progress {
                    let mut chunk = dialect.empty(choice);
                    chunk["prompt_progress"] = json!({
                        "total": p.total, "cache": p.reused, "processed": p.processed,
                        "time_ms": start.elapsed().as_millis() as u64,
                    });
                    sink.event(&chunk);
                }
            }
            Event::Text { text, tokens } => {
                waiting.extend(tokens);
                for part in reading.push(&text) {
                    sink.event(&dialect.part(choice, &part, reading.calls(), &waiting));
                    waiting.clear();
                    page.iter_mut().for_each(|page| page.push(&part));
                }
                if let Some(page) = &mut page
                    && page.last.elapsed() >= DRAW
                {
                    page.draw(dialect, sink);
                }
            }
        },
    );
    let mut rest = reading.finish();
    if rest.is_empty() && waiting.iter().any(|t| t.logprob.is_some()) {
        rest.push(Part::Content(String::new()));
    }
    for part in rest {
        sink.event(&dialect.part(choice, &part, reading.calls(), &waiting));
        waiting.clear();
        page.iter_mut().for_each(|page| page.push(&part));
    }
    if let Some(page) = &mut page {
        page.draw(dialect, sink);
    }
    let outcome = reading.outcome(outcome?);
    if outcome.finish != Finish::Cancelled {
        sink.event(&dialect.last(choice, reading.calls(), &outcome));
    }
    Ok(outcome)
}

/// The answer and the thoughts before it as HTML, drawn now and then.
struct Drawing {
    choice: usize,
    content: Streamer,
    thoughts: Streamer,
    last: Instant,
}

impl Drawing {
    fn new(choice: usize) -> Self {
        let (content, thoughts) = (Streamer::new(), Streamer::new());
        Self { choice, content, thoughts, last: Instant::now() }
    }

    fn push(&mut self, part: &Part) {
        match part {
            Part::Content(text) => self.content.push(text),
            Part::Reasoning(text) => self.thoughts.push(text),
            Part::Call { .. } | Part::Arguments(_) => {}
        }
    }

    fn draw(&mut self, dialect: &dyn Dialect, sink: &Sink<'_, '_>) {
        for (streamer, thoughts) in [(&mut self.thoughts, true), (&mut self.content, false)] {
            for (block, html) in streamer.update() {
                let mut chunk = dialect.empty(self.choice);
                chunk["html"] = json!({ "block": block, "html": html });
                if thoughts {
                    chunk["html"]["of"] = json!("reasoning_content");
                }
                sink.event(&chunk);
            }
        }
        self.last = Instant::now();
    }
}

/// The client's end: where events go, and whether it is still there.
pub struct Sink<'r, 'c> {
    reply: RefCell<&'r mut Reply<'c>>,
    gone: Cell<bool>,
    looked: Cell<Instant>,
    blocked: Cell<Duration>,
}

impl<'r, 'c> Sink<'r, 'c> {
    /// A client that is there.
    pub fn new(reply: &'r mut Reply<'c>) -> Self {
        Self {
            reply: RefCell::new(reply),
            gone: Cell::new(false),
            looked: Cell::new(Instant::now()),
            blocked: Cell::default(),
        }
    }

    /// Whether it still is.
    pub fn is_wanted(&self) -> bool {
        if self.looked.get().elapsed() >= LOOK {
            self.looked.set(Instant::now());
            self.gone.set(self.gone.get() || self.reply.borrow_mut().is_closed());
        }
        !self.gone.get()
    }

    fn begin(&self) {
        self.write(|reply| reply.stream("text/event-stream"));
    }

    fn event(&self, value: &Value) {
        self.write(|reply| reply.part(format!("data: {value}\n\n").as_bytes()));
    }

    fn end(&self) {
        self.write(|reply| reply.part(b"data: [DONE]\n\n"));
        self.write(Reply::end);
    }

    fn write(&self, write: impl FnOnce(&mut Reply<'c>) -> io::Result<()>) {
        if self.gone.get() {
            return;
        }
        let start = Instant::now();
        let failed = write(*self.reply.borrow_mut()).is_err();
        // A client that reads slowly holds the model from all others: its patience is counted.
        self.blocked.set(self.blocked.get() + start.elapsed());
        self.gone.set(failed || self.blocked.get() > BLOCKED_MAX);
    }
}

/// A session's error in the API's words.
fn session_error(error: &SessionError) -> ApiError {
    match error {
        SessionError::ContextFull { prompt, context } => {
            ApiError::new(400, "exceed_context_size_error", error.to_string())
                .with("n_prompt_tokens", *prompt)
                .with("n_ctx", *context)
        }
        SessionError::Empty | SessionError::Constraint(_) => ApiError::bad(error.to_string()),
        SessionError::Cancelled | SessionError::Compute(_) => {
            ApiError::new(500, "server_error", error.to_string())
        }
    }
}
