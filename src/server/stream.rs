//! Runs the generations of a request and sends their output as it arrives.
//!
//! Knows disconnects and server-sent events; the dialect provides the JSON of each piece. All answers of a request are
//! computed together.

use super::budget::Share;
use super::dialect::{Choice, Dialect};
use super::error::ApiError;
use super::http::Response;
use super::json::ok;
use super::reading::Reading;
use super::sink::Sink;
use crate::chat::{Answer, AnswerPart};
use crate::engine::{
    Engine, EngineError, Event, Finish, Generating, Generation, Outcome, Received, Timings,
    TokenChoice,
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
/// How long to wait for an event before the client is looked at again.
const LOOK: Duration = Duration::from_millis(20);
/// The same while other answers may have one.
const LOOK_AMONG: Duration = Duration::from_millis(2);

/// How an answer is sent.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Answers per prompt.
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
    share: &Share,
    request: &Generation,
    prompts: &[Vec<u32>],
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_>,
) -> Result<Option<Response>, ApiError> {
    check_prompts(engine, prompts.iter().map(Vec::as_slice))?;
    let each = if delivery.stream { delivery.choices } else { delivery.candidates };
    let (count, most) = (prompts.len() * each, engine.requests_max());
    if count > most {
        return Err(ApiError::bad(format!(
            "found {count} answers in one request, expected at most {most}\nhint: ask for fewer at a time, or start with a larger --queue"
        )));
    }
    share.take(count.saturating_mul(request.bytes()))?;
    let mut answers = Vec::with_capacity(count);
    for prompt in prompts {
        share.take(each.saturating_mul(2 * size_of_val(prompt.as_slice())))?;
        for index in 0..each {
            let request = Generation { prompt: prompt.clone(), ..request.choice(index) };
            answers.push(engine.begin(request).map_err(|e| engine_error(&e))?);
        }
    }
    if delivery.stream {
        return streamed(request.score_prompt, answers, delivery, dialect, sink).map(|()| None);
    }
    whole(answers, delivery, dialect, sink)
}

/// Whether each of these prompts can be continued.
///
/// # Errors
/// The error of the first that can't; of several, it says which.
pub fn check_prompts<'p>(
    engine: &Engine,
    prompts: impl ExactSizeIterator<Item = &'p [u32]>,
) -> Result<(), ApiError> {
    let several = prompts.len() > 1;
    for (index, prompt) in prompts.enumerate() {
        engine.check_prompt(prompt).map_err(|error| {
            let error = engine_error(&error);
            if several { error.with_param(&format!("prompt[{index}]")) } else { error }
        })?;
    }
    Ok(())
}

/// What an answer brings.
enum Found {
    /// It waits, while so many others are served first.
    Waiting(usize),
    Event(Event),
    End(Outcome),
}

/// Passes on what several answers bring, as it comes, until all have ended. `handle` gets the index of an answer and
/// returns whether more of it is wanted. Returns whether the client stayed.
///
/// # Errors
/// When one of them fails.
fn each_event(
    answers: Vec<Generating>,
    sink: &Sink<'_>,
    handle: &mut dyn FnMut(usize, Found) -> bool,
) -> Result<bool, EngineError> {
    let mut open: Vec<(usize, Generating)> = answers.into_iter().enumerate().collect();
    let mut before = vec![None; open.len()];
    while !open.is_empty() {
        // Each in turn; the first is waited for.
        let mut wait = if open.len() > 1 { LOOK_AMONG } else { LOOK };
        let mut at = 0;
        while at < open.len() {
            if !sink.is_wanted() {
                return Ok(false);
            }
            let (index, answer) = &mut open[at];
            let more = match answer.next(std::mem::take(&mut wait)) {
                Received::Nothing => {
                    let now = answer.before();
                    let changed = std::mem::replace(&mut before[*index], now) != now;
                    if let (true, Some(count)) = (changed, now) {
                        handle(*index, Found::Waiting(count));
                    }
                    true
                }
                Received::Event(event) => handle(*index, Found::Event(event)),
                Received::End(outcome) => {
                    let (index, _) = open.remove(at);
                    handle(index, Found::End(outcome?));
                    continue;
                }
            };
            if more {
                at += 1;
            } else {
                let (index, answer) = open.remove(at);
                handle(index, Found::End(answer.cut()));
            }
        }
    }
    Ok(true)
}

/// Sends the likeliest answers to each prompt when all are there; `None` if the client has gone.
fn whole(
    answers: Vec<Generating>,
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_>,
) -> Result<Option<Response>, ApiError> {
    struct Candidate<'d> {
        reading: Reading<'d>,
        answer: Answer,
        tokens: Vec<TokenChoice>,
        scored: Rc<[TokenChoice]>,
        outcome: Option<Outcome>,
    }
    let new = |_| Candidate {
        reading: Reading::new(dialect),
        answer: Answer::default(),
        tokens: Vec::new(),
        scored: Rc::new([]),
        outcome: None,
    };
    let mut all: Vec<Candidate<'_>> = answers.iter().map(new).collect();
    let stayed = each_event(answers, sink, &mut |index, found| {
        let candidate = &mut all[index];
        match found {
            Found::Waiting(_) | Found::Event(Event::Prompt(_) | Event::Embedded(_)) => {}
            Found::Event(Event::Scored(tokens)) => candidate.scored = tokens.into(),
            Found::Event(Event::Text { text, tokens }) => {
                let parts = candidate.reading.push(&text);
                parts.into_iter().for_each(|part| candidate.answer.add(part));
                candidate.tokens.extend(tokens);
            }
            Found::End(outcome) => {
                let rest = candidate.reading.finish(outcome.finish == Finish::Length);
                rest.into_iter().for_each(|part| candidate.answer.add(part));
                if candidate.reading.has_open_call() {
                    // Never deliver half a call.
                    candidate.answer.calls.pop();
                }
                candidate.outcome = Some(candidate.reading.outcome(outcome));
            }
        }
        !candidate.reading.is_over()
    });
    if !stayed.map_err(|e| engine_error(&e))? {
        return Ok(None);
    }
    let (mut choices, mut timings): (_, Option<Timings>) = (Vec::new(), None);
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let mut of_prompt: Vec<Choice> = Vec::new();
        for Candidate { answer, tokens, scored, outcome, .. } in
            all.by_ref().take(delivery.candidates)
        {
            let Some(outcome) = outcome.filter(|o| o.finish != Finish::Cancelled) else {
                return Ok(None);
            };
            // Only the first answer scored the prompt.
            let scored = of_prompt.first().map_or(scored, |first| Rc::clone(&first.scored));
            of_prompt.push(Choice { answer, tokens, scored, outcome });
        }
        let sum = of_prompt.iter().map(|choice| choice.outcome.timings).reduce(Timings::and);
        let sum = sum.unwrap_or_default();
        timings = Some(timings.map_or(sum, |all| all.plus(sum)));
        keep_likeliest(&mut of_prompt, delivery.choices);
        choices.extend(of_prompt);
    }
    Ok(Some(ok(&dialect.whole(&choices, &timings.unwrap_or_default()))))
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

/// Sends events until the generations end or the client goes.
///
/// # Errors
/// When one of them fails.
fn streamed(
    scored: bool,
    answers: Vec<Generating>,
    delivery: Delivery,
    dialect: &dyn Dialect,
    sink: &Sink<'_>,
) -> Result<(), ApiError> {
    let wanted = || sink.is_wanted();
    let new = |choice| Streamed::new(choice, delivery, dialect, scored, &wanted);
    let mut all: Vec<Streamed<'_>> = (0..answers.len()).map(new).collect();
    let stayed = each_event(answers, sink, &mut |index, found| {
        match found {
            // Only the first answer to a prompt scores it, and the others show what it found.
            Found::Event(Event::Scored(tokens)) => {
                let of_prompt = index..index + delivery.choices;
                all[of_prompt].iter_mut().for_each(|streamed| streamed.first(sink, &tokens));
            }
            Found::Waiting(count) => all[index].waits(sink, count),
            Found::Event(event) => all[index].event(sink, event),
            Found::End(outcome) => all[index].end(sink, outcome),
        }
        !all[index].reading.is_over()
    });
    match stayed {
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(error) => {
            all.iter_mut().for_each(|streamed| streamed.break_off(sink));
            return Err(engine_error(&error));
        }
    }
    let mut timings: Option<Timings> = None;
    for of_prompt in all.chunks(delivery.choices) {
        let of_prompt = of_prompt.iter().filter_map(|s| s.timings).reduce(Timings::and);
        let of_prompt = of_prompt.unwrap_or_default();
        timings = Some(timings.map_or(of_prompt, |all| all.plus(of_prompt)));
    }
    if let Some(end) = dialect.end(&timings.unwrap_or_default()) {
        sink.event(&end);
    }
    sink.end();
    Ok(())
}

/// One answer that is sent as it comes.
struct Streamed<'s> {
    choice: usize,
    delivery: Delivery,
    dialect: &'s dyn Dialect,
    reading: Reading<'s>,
    page: Option<Drawing<'s>>,
    /// Tokens whose text is held back: they are sent with the piece that will contain it.
    waiting: Vec<TokenChoice>,
    /// Whether the first event has to wait for the prompt's tokens.
    scored: bool,
    /// Whether it was sent. Nothing is sent before it, and it not before there is something to send: until then an
    /// error has a status of its own.
    begun: bool,
    held: Vec<Event>,
    start: Instant,
    timings: Option<Timings>,
}

impl<'s> Streamed<'s> {
    fn new(
        choice: usize,
        delivery: Delivery,
        dialect: &'s dyn Dialect,
        scored: bool,
        wanted: &'s dyn Fn() -> bool,
    ) -> Self {
        Self {
            choice,
            delivery,
            dialect,
            reading: Reading::new(dialect),
            page: delivery.html.then(|| Drawing::new(choice, wanted)),
            waiting: Vec::new(),
            scored,
            begun: false,
            held: Vec::new(),
            start: Instant::now(),
            timings: None,
        }
    }

    fn first(&mut self, sink: &Sink<'_>, scored: &[TokenChoice]) {
        self.begun = true;
        if let Some(first) = self.dialect.first(self.choice, scored) {
            sink.event(&first);
        }
        for event in std::mem::take(&mut self.held) {
            self.event(sink, event);
        }
    }

    /// Says how many others are served first.
    fn waits(&self, sink: &Sink<'_>, count: usize) {
        if self.delivery.progress {
            let mut chunk = self.dialect.empty(self.choice);
            chunk["queue"] = json!({ "before": count });
            sink.event(&chunk);
        }
    }

    fn event(&mut self, sink: &Sink<'_>, event: Event) {
        if !self.begun && !self.scored {
            self.first(sink, &[]);
        }
        match event {
            Event::Prompt(p) if self.delivery.progress => {
                let mut chunk = self.dialect.empty(self.choice);
                chunk["prompt_progress"] = json!({
                    "total": p.total, "cache": p.reused, "processed": p.processed,
                    "time_ms": self.start.elapsed().as_millis() as u64,
                });
                sink.event(&chunk);
            }
            Event::Prompt(_) | Event::Scored(_) | Event::Embedded(_) => {}
            Event::Text { .. } if !self.begun => self.held.push(event),
            Event::Text { text, tokens } => {
                self.waiting.extend(tokens);
                let parts = self.reading.push(&text);
                self.parts(sink, parts);
                if let Some(page) = &mut self.page
                    && page.last.elapsed() >= DRAW
                {
                    page.draw(self.dialect, sink);
                }
            }
        }
    }

    fn parts(&mut self, sink: &Sink<'_>, parts: Vec<AnswerPart>) {
        for part in parts {
            let calls = self.reading.calls();
            sink.event(&self.dialect.part(self.choice, &part, calls, &self.waiting));
            self.waiting.clear();
            self.page.iter_mut().for_each(|page| page.push(&part));
        }
    }

    /// Sends what was held back.
    fn rest(&mut self, sink: &Sink<'_>, cut: bool) {
        if !self.begun {
            self.first(sink, &[]);
        }
        let mut rest = self.reading.finish(cut);
        if rest.is_empty() && self.waiting.iter().any(|t| t.logprob.is_some()) {
            rest.push(AnswerPart::Content(String::new()));
        }
        self.parts(sink, rest);
        if let Some(page) = &mut self.page {
            page.draw(self.dialect, sink);
        }
    }

    fn end(&mut self, sink: &Sink<'_>, outcome: Outcome) {
        self.rest(sink, outcome.finish == Finish::Length);
        let outcome = self.reading.outcome(outcome);
        self.timings = Some(outcome.timings);
        if outcome.finish != Finish::Cancelled {
            sink.event(&self.dialect.last(self.choice, self.reading.calls(), &outcome));
        }
    }

    /// Sends what was held back of an answer that was not finished.
    fn break_off(&mut self, sink: &Sink<'_>) {
        if self.begun && self.timings.is_none() {
            self.rest(sink, false);
        }
    }
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

    fn draw(&mut self, dialect: &dyn Dialect, sink: &Sink<'_>) {
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

/// Converts an engine's error to the API's form.
pub fn engine_error(error: &EngineError) -> ApiError {
    let message = error.to_string();
    match error {
        EngineError::ContextFull { prompt, context } => {
            ApiError::new(400, "exceed_context_size_error", message)
                .with("n_prompt_tokens", *prompt)
                .with("n_ctx", *context)
        }
        EngineError::TooLong { tokens, context } => {
            ApiError::new(400, "exceed_context_size_error", message)
                .with("n_prompt_tokens", *tokens)
                .with("n_ctx", *context)
        }
        EngineError::NothingToEmbed => ApiError::bad(message).with_param("input"),
        EngineError::Empty | EngineError::Token { .. } | EngineError::Constraint(_) => {
            ApiError::bad(message)
        }
        EngineError::Busy(_) | EngineError::NoRoom(_) => ApiError::overloaded(message),
        EngineError::NotFinite | EngineError::Compute(_) => {
            ApiError::new(500, "server_error", message)
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
