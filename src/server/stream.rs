//! Runs the generations of a request and sends their output as it arrives.
//!
//! Knows turns, disconnects and server-sent events; the dialect provides the JSON of each piece.

use super::dialect::{Choice, Dialect};
use super::error::ApiError;
use super::http::Response;
use super::json::ok;
use super::reading::Reading;
use super::sink::Sink;
use crate::chat::{Answer, AnswerPart};
use crate::engine::{
    Engine, Event, Finish, Generation, Outcome, QueueError, SessionError, Timings, TokenChoice,
    Turn, generate,
};
use crate::render::Streamer;
use serde_json::json;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longest silence of a stream. The SSE standard advises a comment every 15 seconds or so, because proxies and clients
/// take a silent connection for dead.
const QUIET_MAX: Duration = Duration::from_secs(10);
/// How often the block being written is rendered again.
const DRAW: Duration = Duration::from_millis(60);

/// How an answer is sent.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Answers per prompt, generated one after the other.
    pub choices: usize,
    /// Answers generated per prompt, of which the likeliest are kept.
    pub candidates: usize,
    /// Whether to stream.
    pub stream: bool,
    /// Whether to report progress during prefill.
    pub progress: bool,
    /// Whether to send the HTML of changed blocks.
    pub html: bool,
}

impl Delivery {
    /// Longest silence, if it is limited.
    pub fn quiet_max(self) -> Option<Duration> {
        self.stream.then_some(QUIET_MAX)
    }
}

/// Generates the answers to each of `prompts`; everything else is as in `request`.
///
/// # Errors
/// The error to answer with.
pub fn answer(
    engine: &Engine,
    request: &Generation,
    prompts: &[Vec<u32>],
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_, '_>,
) -> Result<Option<Response>, ApiError> {
    let context = engine.info.context;
    for (index, prompt) in prompts.iter().enumerate() {
        let error = match prompt.len() {
            0 => SessionError::Empty,
            prompt if prompt >= context => SessionError::ContextFull { prompt, context },
            _ => continue,
        };
        let error = session_error(&error);
        let several = prompts.len() > 1;
        return Err(if several { error.with_param(&format!("prompt[{index}]")) } else { error });
    }
    let Some(_turn) = turn(engine, sink)? else { return Ok(None) };
    if delivery.stream {
        streamed(engine, request, prompts, delivery, dialect, sink);
        return Ok(None);
    }
    let mut choices = Vec::new();
    let mut all: Option<Timings> = None;
    for prompt in prompts {
        let request = Generation { prompt: prompt.clone(), ..request.clone() };
        let Some((of_prompt, timings)) = whole(engine, &request, delivery, dialect, sink)? else {
            return Ok(None);
        };
        choices.extend(of_prompt);
        all = Some(all.map_or(timings, |all| all.plus(timings)));
    }
    Ok(Some(ok(&dialect.whole(&choices, &all.unwrap_or_default()))))
}

/// The likeliest answers to one prompt, and the timings of all candidates; `None` if the client has gone.
fn whole(
    engine: &Engine,
    request: &Generation,
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_, '_>,
) -> Result<Option<(Vec<Choice>, Timings)>, ApiError> {
    let mut choices: Vec<Choice> = Vec::new();
    let mut scored: Rc<[TokenChoice]> = Rc::new([]);
    for candidate in 0..delivery.candidates {
        let reading = Reading::new(dialect);
        let (mut answer, mut tokens) = (Answer::default(), Vec::new());
        let outcome = generate(
            &mut engine.session(),
            &engine.tokenizer,
            &request.choice(candidate),
            &|| sink.is_wanted() && !reading.is_over(),
            &mut |event| match event {
                Event::Prompt(_) => {}
                Event::Scored(tokens) => scored = tokens.into(),
                Event::Text { text, tokens: chosen } => {
                    reading.push(&text).into_iter().for_each(|part| answer.add(part));
                    tokens.extend(chosen);
                }
            },
        )
        .map_err(|e| session_error(&e))?;
        let rest = reading.finish(outcome.finish == Finish::Length);
        let outcome = reading.outcome(outcome);
        if outcome.finish == Finish::Cancelled {
            return Ok(None);
        }
        rest.into_iter().for_each(|part| answer.add(part));
        if reading.has_open_call() {
            // Never deliver half a call.
            answer.calls.pop();
        }
        choices.push(Choice { answer, tokens, outcome, scored: Rc::clone(&scored) });
    }
    let timings = choices.iter().map(|choice| choice.outcome.timings).reduce(Timings::and);
    keep_likeliest(&mut choices, delivery.choices);
    Ok(Some((choices, timings.unwrap_or_default())))
}

/// Keeps the `n` answers with the highest mean log probability per token, the highest first.
fn keep_likeliest(choices: &mut Vec<Choice>, n: usize) {
    if choices.len() <= n {
        return;
    }
    let mean = |choice: &Choice| {
        let all = choice.tokens.iter().map(|t| f64::from(t.logprob.unwrap_or(f32::NEG_INFINITY)));
        let count = choice.tokens.len();
        if count > 0 { all.sum::<f64>() / count as f64 } else { f64::NEG_INFINITY }
    };
    choices.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    choices.truncate(n);
}

/// Waits for a turn; `None` if the client has gone.
///
/// # Errors
/// When too many requests are waiting.
pub fn turn<'e>(engine: &'e Engine, sink: &Sink<'_, '_>) -> Result<Option<Turn<'e>>, ApiError> {
    match engine.queue.enter(&|| sink.is_wanted()) {
        Ok(turn) => Ok(Some(turn)),
        Err(QueueError::Cancelled) => Ok(None),
        Err(full @ QueueError::Full(_)) => Err(ApiError::overloaded(full.to_string())),
    }
}

/// Sends events until the generations end or the client goes.
fn streamed(
    engine: &Engine,
    request: &Generation,
    prompts: &[Vec<u32>],
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_, '_>,
) {
    sink.begin();
    let mut all: Option<Timings> = None;
    for (number, prompt) in prompts.iter().enumerate() {
        let request = Generation { prompt: prompt.clone(), ..request.clone() };
        let mut of_prompt: Option<Timings> = None;
        let mut scored = Vec::new();
        for index in 0..delivery.choices {
            let choice = number * delivery.choices + index;
            let request = request.choice(index);
            match stream_choice(engine, &request, choice, &mut scored, delivery, dialect, sink) {
                Ok(Outcome { finish: Finish::Cancelled, .. }) => return,
                Ok(Outcome { timings, .. }) => {
                    of_prompt = Some(of_prompt.map_or(timings, |t| t.and(timings)));
                }
                Err(error) => {
                    sink.event(&session_error(&error).json());
                    return sink.end();
                }
            }
        }
        let of_prompt = of_prompt.unwrap_or_default();
        all = Some(all.map_or(of_prompt, |all| all.plus(of_prompt)));
    }
    if let Some(end) = dialect.end(&all.unwrap_or_default()) {
        sink.event(&end);
    }
    sink.end();
}

/// Sends the events of one choice. `scored` holds the prompt's tokens, filled in by its first choice if wanted.
fn stream_choice(
    engine: &Engine,
    request: &Generation,
    choice: usize,
    scored: &mut Vec<TokenChoice>,
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_, '_>,
) -> Result<Outcome, SessionError> {
    let first = |scored: &[TokenChoice]| {
        if let Some(first) = dialect.first(choice, scored) {
            sink.event(&first);
        }
    };
    if !request.score_prompt {
        first(scored);
    }
    let start = Instant::now();
    let reading = Reading::new(dialect);
    let wanted = || sink.is_wanted();
    let mut page = delivery.html.then(|| Drawing::new(choice, &wanted));
    // Tokens whose text is held back are sent with the piece that will contain it.
    let mut waiting = Vec::new();
    let outcome = generate(
        &mut engine.session(),
        &engine.tokenizer,
        request,
        &|| sink.is_wanted() && !reading.is_over(),
        &mut |event| match event {
            Event::Scored(tokens) => {
                *scored = tokens;
                first(scored);
            }
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
    let cut = outcome.as_ref().is_ok_and(|outcome| outcome.finish == Finish::Length);
    let mut rest = reading.finish(cut);
    if rest.is_empty() && waiting.iter().any(|t| t.logprob.is_some()) {
        rest.push(AnswerPart::Content(String::new()));
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

/// The answer and its reasoning as HTML, rendered now and then.
struct Drawing<'w> {
    choice: usize,
    content: Streamer<'w>,
    thoughts: Streamer<'w>,
    last: Instant,
}

impl<'w> Drawing<'w> {
    fn new(choice: usize, wanted: &'w dyn Fn() -> bool) -> Self {
        let (content, thoughts) = (Streamer::for_client(wanted), Streamer::for_client(wanted));
        Self { choice, content, thoughts, last: Instant::now() }
    }

    fn push(&mut self, part: &AnswerPart) {
        match part {
            AnswerPart::Content(text) => self.content.push(text),
            AnswerPart::Reasoning(text) => self.thoughts.push(text),
            AnswerPart::Call { .. } | AnswerPart::Arguments(_) => {}
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

/// Converts a session's error to the API's form.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_rank_by_mean_log_probability() {
        let choice = |name: &str, logprobs: &[f32]| {
            let token = |p: &f32| TokenChoice { id: 0, logprob: Some(*p), top: Vec::new(), at: 0 };
            let outcome = Outcome {
                finish: Finish::Stop,
                stopped_by_text: false,
                timings: Timings::default(),
            };
            let answer = Answer { content: name.to_owned(), ..Answer::default() };
            let tokens = logprobs.iter().map(token).collect();
            Choice { answer, tokens, outcome, scored: Rc::new([]) }
        };
        let all = || {
            vec![
                choice("none", &[]),
                choice("short", &[-3.0]),
                choice("long", &[-1.0, -2.0, -1.0, -2.0]),
                choice("impossible", &[-0.1, f32::NEG_INFINITY]),
            ]
        };
        let kept = |n| {
            let mut choices = all();
            keep_likeliest(&mut choices, n);
            choices.into_iter().map(|c| c.answer.content).collect::<Vec<_>>()
        };
        assert_eq!(kept(1), ["long"]);
        assert_eq!(kept(2), ["long", "short"]);
        assert_eq!(kept(4).len(), 4);
    }
}
