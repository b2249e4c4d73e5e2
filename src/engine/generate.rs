//! One generation: prompt in, text out piece by piece, until something ends it.

use super::session::{Progress, Session, SessionError};
use crate::constraint::{Guide, Step};
use crate::sampler::{Breakers, Sampler, Sampling, log_probabilities};
use crate::text::{Places, TextStream};
use crate::tokenizer::Tokenizer;
use std::time::{Duration, Instant};

/// A request to generate text.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    /// The whole prompt.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Maximum number of tokens; `None`: until the model ends or the context is full.
    pub max_tokens: Option<usize>,
    /// Maximum tokens of the prompt and its answer together; ignored if the prompt alone reaches it.
    pub context: Option<usize>,
    /// Stop strings: they end the answer and are not part of it.
    pub stops: Vec<String>,
    /// Number of tokens before the answer may end or is searched for `stops`.
    pub min_tokens: usize,
    /// If set, log probabilities are reported: that of each token and of this many most likely ones.
    pub logprobs: Option<usize>,
    /// Whether to report those of the prompt's tokens as well.
    pub score_prompt: bool,
    /// Whether end tokens are never chosen.
    pub ignore_end: bool,
    /// Control tokens whose text is part of the answer.
    pub visible: Vec<u32>,
    /// The constraint on the answer.
    pub guide: Option<Guide>,
}

impl Generation {
    /// The request for answer number `index` of several, counted from 0. A given seed becomes seed + index: as the seed
    /// of a single answer, it would give the same text. Only the first answer scores the prompt.
    #[must_use]
    pub fn choice(&self, index: usize) -> Self {
        let mut choice = self.clone();
        let seed = |seed: u64| seed.wrapping_add(index as u64);
        choice.sampling.seed = self.sampling.seed.map(seed);
        choice.score_prompt &= index == 0;
        choice
    }
}

/// An event of a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Prefill progress.
    Prompt(Progress),
    /// The whole prompt is computed: its tokens, with log probabilities if requested.
    Scored(Vec<TokenChoice>),
    /// Text that may be shown.
    Text {
        /// The text; it may be empty while tokens form no whole character.
        text: String,
        /// The tokens that begin in it, with log probabilities if requested.
        tokens: Vec<TokenChoice>,
    },
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenChoice {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability, if requested.
    pub logprob: Option<f32>,
    /// The most likely tokens in its place, if requested.
    pub top: Vec<(u32, f32)>,
    /// Offset of its text in the answer, in characters; 0 for prompt tokens.
    pub at: usize,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model or a stop string ended it.
    Stop,
    /// The token limit is reached, or the context is full.
    Length,
    /// The client cancelled.
    Cancelled,
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Why it ended.
    pub finish: Finish,
    /// Whether a stop string ended it.
    pub stopped_by_text: bool,
    /// Counts and times.
    pub timings: Timings,
}

/// Counts and times of a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, reused because already computed.
    pub reused_tokens: usize,
    /// Tokens generated, the end token included.
    pub generated_tokens: usize,
    /// Time for the prompt.
    pub prompt_time: Duration,
    /// Time for the generated tokens.
    pub generation_time: Duration,
}

impl Timings {
    /// The combined counts and times of two answers to one prompt, which is counted once.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            prompt_time: self.prompt_time + next.prompt_time,
            generated_tokens: self.generated_tokens + next.generated_tokens,
            generation_time: self.generation_time + next.generation_time,
            ..self
        }
    }

    /// The combined counts and times of the answers to two prompts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            reused_tokens: self.reused_tokens + other.reused_tokens,
            ..self.and(other)
        }
    }

    /// Newly computed prompt tokens per second.
    #[must_use]
    pub fn prompt_per_second(&self) -> f64 {
        per_second(self.prompt_tokens - self.reused_tokens, self.prompt_time)
    }

    /// Generated tokens per second.
    #[must_use]
    pub fn generated_per_second(&self) -> f64 {
        per_second(self.generated_tokens, self.generation_time)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens")]
fn per_second(tokens: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

/// Generates, passing events to `emit`; polls `wanted` often and ends once it returns false.
///
/// # Errors
/// When the prompt does not fit, or computing fails. Cancellation is not an error.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    request: &Generation,
    wanted: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Outcome, SessionError> {
    let visible = |id: u32| request.visible.contains(&id);
    let mut pieces = |id: u32, out: &mut Vec<u8>| tokenizer.piece(id, visible(id), out);
    let is_end = |id| tokenizer.is_end(id);
    let sampler = sampler(tokenizer, request);
    run(session, sampler, &mut pieces, &is_end, request, wanted, emit)
}

/// Builds the sampler; settings given as text become tokens.
fn sampler(tokenizer: &Tokenizer, request: &Generation) -> Sampler {
    let mut sampling = request.sampling.clone();
    if request.ignore_end {
        sampling.logit_bias.extend(tokenizer.ends().iter().map(|&id| (id, f32::NEG_INFINITY)));
    }
    let breakers = if sampling.dry_multiplier == 0.0 {
        Breakers::default()
    } else {
        Breakers::new(
            &sampling.dry_sequence_breakers,
            tokenizer.len(),
            |id, out| tokenizer.piece(id, true, out),
            |text| tokenizer.encode(text, false, false),
        )
    };
    Sampler::new(sampling, breakers)
}

/// The generation loop, which sees a tokenizer only as two functions.
fn run(
    session: &mut Session,
    mut sampler: Sampler,
    piece: &mut dyn FnMut(u32, &mut Vec<u8>),
    is_end: &dyn Fn(u32) -> bool,
    request: &Generation,
    wanted: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Outcome, SessionError> {
    let early = request.min_tokens > 0;
    let mut stream = TextStream::new(if early { &[] } else { &request.stops[..] });
    let mut timings = Timings { prompt_tokens: request.prompt.len(), ..Timings::default() };
    let start = Instant::now();
    let prefilled = if request.score_prompt {
        scored(session, request, wanted, emit).map(|()| 0)
    } else {
        session.prefill(&request.prompt, wanted, &mut |p| emit(Event::Prompt(p)))
    };
    let ended = |finish, timings| Outcome { finish, stopped_by_text: false, timings };
    match prefilled {
        Ok(reused) => timings.reused_tokens = reused,
        Err(SessionError::Cancelled) => return Ok(ended(Finish::Cancelled, timings)),
        Err(error) => return Err(error),
    }
    timings.prompt_time = start.elapsed();

    let limit = request.context.filter(|limit| request.prompt.len() < *limit);
    let room = session.context().min(limit.unwrap_or(usize::MAX));
    let start = Instant::now();
    let mut guide = request.guide.clone();
    let mut bytes = Vec::new();
    let not_end = early.then(|| all_but(is_end, session.logits().len()));
    // Tokens whose text is not emitted yet, and the number of characters that are.
    let (mut waiting, mut given, mut places) = (Vec::new(), 0, Places::default());
    // Tokens chosen but not computed yet: forced tokens need no logits.
    let mut pending: Vec<u32> = Vec::new();
    let finish = loop {
        let step = guide.as_mut().map(Guide::step).transpose()?;
        if step == Some(Step::End) {
            break Finish::Stop;
        }
        if request.max_tokens.is_some_and(|max| timings.generated_tokens >= max) {
            break Finish::Length;
        }
        // The next token would have no position in the context.
        if session.tokens().len() + pending.len() >= room {
            break Finish::Length;
        }
        let forced = if let Some(Step::Forced(id)) = step { Some(id) } else { None };
        if !pending.is_empty() && (forced.is_none() || request.logprobs.is_some()) {
            match session.advance(&pending, wanted) {
                Ok(()) => pending.clear(),
                Err(SessionError::Cancelled) => break Finish::Cancelled,
                Err(error) => return Err(error),
            }
        }
        if !wanted() {
            break Finish::Cancelled;
        }
        let logits = session.logits();
        if !logits.iter().any(|l| l.is_finite()) {
            let message = "the model's logits are all NaN or infinite; its weights are damaged";
            return Err(SessionError::Compute(message.to_owned()));
        }
        let allowed = if let Some(Step::Among(allowed)) = step { Some(allowed) } else { None };
        let longer = not_end.as_deref().filter(|_| timings.generated_tokens < request.min_tokens);
        let longer = longer.and_then(|mask| within(mask, allowed));
        let allowed = longer.as_deref().or(allowed);
        let id = forced.unwrap_or_else(|| sampler.sample(logits, session.tokens(), allowed));
        timings.generated_tokens += 1;
        if early && timings.generated_tokens == request.min_tokens {
            stream.watch(&request.stops);
        }
        if is_end(id) {
            break Finish::Stop;
        }
        if let (Some(guide), None) = (&mut guide, forced) {
            guide.accept(id)?;
        }
        bytes.clear();
        piece(id, &mut bytes);
        let at = places.next(&bytes);
        waiting.push(TokenChoice { at, ..choose(logits, id, request.logprobs) });
        let text = stream.push(&bytes);
        given += text.chars().count();
        let shown = waiting.partition_point(|token| token.at < given);
        emit(Event::Text { text, tokens: waiting.drain(..shown).collect() });
        if stream.stopped() {
            break Finish::Stop;
        }
        pending.push(id);
    };
    timings.generation_time = start.elapsed();
    let stopped_by_text = stream.stopped();
    let text = stream.finish();
    if stopped_by_text {
        waiting.clear();
    }
    if !(text.is_empty() && waiting.is_empty()) {
        emit(Event::Text { text, tokens: waiting });
    }
    Ok(Outcome { finish, stopped_by_text, timings })
}

/// Computes the prompt and emits the log probabilities of its tokens; the first has none.
fn scored(
    session: &mut Session,
    request: &Generation,
    wanted: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<(), SessionError> {
    let first = |id: &u32| TokenChoice { id: *id, logprob: None, top: Vec::new(), at: 0 };
    let mut tokens: Vec<TokenChoice> = request.prompt.first().map(first).into_iter().collect();
    let mut each = |id, logits: &[f32]| tokens.push(choose(logits, id, request.logprobs));
    session.score(&request.prompt, wanted, &mut |p| emit(Event::Prompt(p)), &mut each)?;
    emit(Event::Scored(tokens));
    Ok(())
}

fn choose(logits: &[f32], id: u32, wanted: Option<usize>) -> TokenChoice {
    match wanted {
        None => TokenChoice { id, logprob: None, top: Vec::new(), at: 0 },
        Some(n) => {
            let (logprob, top) = log_probabilities(logits, id, n);
            TokenChoice { id, logprob: Some(logprob), top, at: 0 }
        }
    }
}

/// A mask with one bit for each of `len` tokens, lowest first, that excludes end tokens.
fn all_but(is_end: &dyn Fn(u32) -> bool, len: usize) -> Vec<u32> {
    let mut mask = vec![u32::MAX; len.div_ceil(32)];
    for id in (0..u32::try_from(len).unwrap_or(u32::MAX)).filter(|id| is_end(*id)) {
        mask[id as usize / 32] &= !(1 << (id % 32));
    }
    // Clear the bits beyond the last token.
    if let (Some(last), used @ 1..) = (mask.last_mut(), len % 32) {
        *last &= (1 << used) - 1;
    }
    mask
}

/// The intersection of two masks; `None` if it is empty.
fn within(mask: &[u32], allowed: Option<&[u32]>) -> Option<Vec<u32>> {
    let both: Vec<u32> = match allowed {
        None => mask.to_vec(),
        Some(allowed) => mask.iter().zip(allowed).map(|(a, b)| a & b).collect(),
    };
    both.iter().any(|word| *word != 0).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::super::session::Timeline;
    use super::*;
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A "model" over bytes that continues a fixed text, and counts what it computes.
    struct Parrot {
        text: Vec<u8>,
        len: usize,
        max: usize,
        computed: Arc<AtomicUsize>,
    }

    impl Timeline for Parrot {
        fn len(&self) -> usize {
            self.len
        }
        fn max(&self) -> usize {
            self.max
        }
        fn truncate(&mut self, len: usize) {
            self.len = self.len.min(len);
        }
        fn forward(
            &mut self,
            tokens: &[u32],
            logits: Option<&mut Vec<f32>>,
            wanted: &dyn Fn() -> bool,
        ) -> Result<(), SessionError> {
            if !wanted() {
                return Err(SessionError::Cancelled);
            }
            self.len += tokens.len();
            self.computed.fetch_add(tokens.len(), Ordering::Relaxed);
            if let Some(logits) = logits {
                *logits = vec![0.0; 256];
                logits[usize::from(self.text.get(self.len).copied().unwrap_or(0))] = 9.0;
            }
            Ok(())
        }
    }

    fn parrot(text: &str, max: usize) -> (Session, Arc<AtomicUsize>) {
        let computed = Arc::new(AtomicUsize::new(0));
        let text = text.as_bytes().to_vec();
        let timeline = Parrot { text, len: 0, max, computed: Arc::clone(&computed) };
        (Session::new(Box::new(timeline), 4), computed)
    }

    fn request(prompt: &str) -> Generation {
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let prompt = prompt.bytes().map(u32::from).collect();
        Generation { prompt, sampling, ..Generation::default() }
    }

    fn play(session: &mut Session, request: &Generation, turns: usize) -> (String, Outcome) {
        let mut text = String::new();
        let left = Cell::new(turns);
        let wanted = || {
            left.set(left.get().saturating_sub(1));
            left.get() > 0
        };
        let mut piece = |id: u32, out: &mut Vec<u8>| out.push(u8::try_from(id).unwrap());
        let sampler = Sampler::new(request.sampling.clone(), Breakers::default());
        let mut emit = |event| {
            if let Event::Text { text: piece, .. } = event {
                text.push_str(&piece);
            }
        };
        let is_end = |id| id == 0;
        let outcome = run(session, sampler, &mut piece, &is_end, request, &wanted, &mut emit);
        (text, outcome.unwrap())
    }

    #[test]
    fn it_ends_at_the_end_token_a_stop_string_and_the_limit() {
        let (mut session, _) = parrot("Hello, wörld!", 100);
        let (text, outcome) = play(&mut session, &request("He"), 999);
        assert_eq!((text.as_str(), outcome.finish), ("llo, wörld!", Finish::Stop));
        assert!(!outcome.stopped_by_text);
        let stop = Generation { stops: vec![", w".into()], ..request("He") };
        let (text, outcome) = play(&mut session, &stop, 999);
        assert_eq!((text.as_str(), outcome.finish), ("llo", Finish::Stop));
        assert!(outcome.stopped_by_text);
        let limit = Generation { max_tokens: Some(4), ..request("He") };
        let (text, outcome) = play(&mut session, &limit, 999);
        assert_eq!((text.as_str(), outcome.finish), ("llo,", Finish::Length));
        assert_eq!(outcome.timings.generated_tokens, 4);
    }

    /// The pieces of an answer's text, each with its tokens as (offset, id).
    fn tokens(session: &mut Session, request: &Generation) -> Vec<(String, Vec<(usize, u32)>)> {
        let mut all = Vec::new();
        let mut emit = |event| {
            if let Event::Text { text, tokens } = event {
                all.push((text, tokens.iter().map(|t| (t.at, t.id)).collect()));
            }
        };
        let mut piece = |id: u32, out: &mut Vec<u8>| out.push(u8::try_from(id).unwrap());
        let sampler = Sampler::new(request.sampling.clone(), Breakers::default());
        run(session, sampler, &mut piece, &|id| id == 0, request, &|| true, &mut emit).unwrap();
        all
    }

    #[test]
    fn tokens_come_with_the_text_they_begin_and_its_offset() {
        let (mut session, _) = parrot("?wörld", 100);
        let all = tokens(&mut session, &request("?"));
        let given: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(given, ["w", "", "ö", "r", "l", "d"]);
        let places: Vec<usize> = all.iter().flat_map(|(_, t)| t).map(|(at, _)| *at).collect();
        assert_eq!(places, [0, 1, 1, 2, 3, 4]);
        assert!(all[1].1.is_empty() && all[2].1.len() == 2, "{all:?}");
        // The tokens of a stop string are held back and never emitted; those of a false start are.
        let (mut session, _) = parrot("?a stoa stop", 100);
        let stop = Generation { stops: vec!["stop".into()], ..request("?") };
        let all = tokens(&mut session, &stop);
        let ids = all.iter().flat_map(|(_, t)| t).map(|(_, id)| u8::try_from(*id).unwrap());
        assert_eq!(String::from_utf8(ids.collect()).unwrap(), "a stoa ");
    }

    #[test]
    fn an_answer_has_at_least_min_tokens() {
        let (mut session, _) = parrot("?ab", 100);
        let most = Generation { max_tokens: Some(9), ..request("?") };
        let (text, _) = play(&mut session, &most, 999);
        assert_eq!(text, "ab");
        let more = Generation { min_tokens: 5, ..most.clone() };
        let (text, outcome) = play(&mut session, &more, 999);
        assert_eq!((text.len(), outcome.timings.generated_tokens), (5, 6));
        let stops = Generation { min_tokens: 2, stops: vec!["a".into(), "b".into()], ..most };
        assert_eq!(play(&mut session, &stops, 999).0, "a");
        let stops = Generation { min_tokens: 3, ..stops };
        assert!(play(&mut session, &stops, 999).0.starts_with("ab"));
    }

    #[test]
    fn a_requests_smaller_context_ends_its_answer() {
        let (mut session, _) = parrot("abcdefghijklmnop", 100);
        let small = Generation { context: Some(8), ..request("abc") };
        assert_eq!(play(&mut session, &small, 999).0, "defgh");
        let too_small = Generation { context: Some(3), max_tokens: Some(4), ..request("abc") };
        assert_eq!(play(&mut session, &too_small, 999).0, "defg");
    }

    #[test]
    fn a_scored_prompt_is_computed_once() {
        let (mut session, computed) = parrot("abcdefghijklmnop", 100);
        let one = Generation { max_tokens: Some(1), logprobs: Some(1), ..request("abxdef") };
        play(&mut session, &one, 999);
        let before = computed.load(Ordering::Relaxed);
        let mut scores = Vec::new();
        let mut emit = |event| {
            if let Event::Scored(tokens) = event {
                scores = tokens;
            }
        };
        let mut piece = |id: u32, out: &mut Vec<u8>| out.push(u8::try_from(id).unwrap());
        let scored = Generation { score_prompt: true, ..one };
        let sampler = Sampler::new(scored.sampling.clone(), Breakers::default());
        let outcome =
            run(&mut session, sampler, &mut piece, &|id| id == 0, &scored, &|| true, &mut emit);
        assert_eq!(outcome.unwrap().timings.reused_tokens, 0);
        assert_eq!(computed.load(Ordering::Relaxed) - before, 6);
        assert_eq!(scores.len(), 6);
        assert!(scores[0].logprob.is_none() && scores[0].top.is_empty());
        let likely = |t: &TokenChoice| t.logprob.unwrap() > -0.1;
        assert_eq!(
            scores[1..].iter().map(likely).collect::<Vec<_>>(),
            [true, false, true, true, true]
        );
        assert_eq!(scores[2].top[0].0, u32::from(b'c'));
        // Another answer to the same prompt reuses all of it and continues as the first did.
        let (text, outcome) = play(&mut session, &scored.choice(1), 999);
        assert_eq!((text.as_str(), outcome.timings.reused_tokens), ("g", 6));
    }

    #[test]
    fn a_full_context_ends_the_answer_and_refuses_a_longer_prompt() {
        let (mut session, _) = parrot("abcdefghijklmnop", 8);
        let (text, outcome) = play(&mut session, &request("abc"), 999);
        assert_eq!((text.as_str(), outcome.finish), ("defgh", Finish::Length));
        let error = session.prefill(&[1; 8], &|| true, &mut |_| {}).unwrap_err();
        assert!(matches!(error, SessionError::ContextFull { prompt: 8, context: 8 }));
        assert!(matches!(session.prefill(&[], &|| true, &mut |_| {}), Err(SessionError::Empty)));
    }

    #[test]
    fn the_next_turn_computes_only_what_is_new() {
        let (mut session, computed) = parrot("user: hi bot: yo user: more bot: ok", 100);
        play(&mut session, &Generation { max_tokens: Some(3), ..request("user: hi bot:") }, 999);
        let before = computed.load(Ordering::Relaxed);
        let (_, outcome) = play(
            &mut session,
            &Generation { max_tokens: Some(1), ..request("user: hi bot: yo user: more") },
            999,
        );
        // " y" is on the timeline; "o" was chosen last and not computed.
        assert_eq!(outcome.timings.reused_tokens, 15);
        assert_eq!(computed.load(Ordering::Relaxed) - before, 12);
    }

    #[test]
    fn another_answer_to_the_same_prompt_does_not_recompute_it() {
        let (mut session, computed) = parrot("user: hi bot: yo", 100);
        let two = Generation { max_tokens: Some(2), ..request("user: hi bot:") };
        let first = play(&mut session, &two, 999).0;
        let before = computed.load(Ordering::Relaxed);
        let (again, outcome) = play(&mut session, &two, 999);
        assert_eq!((again, outcome.timings.reused_tokens), (first, 13));
        assert_eq!(computed.load(Ordering::Relaxed) - before, 1);
        // Once the prompt is gone, its logits are too.
        play(&mut session, &request("user: ha"), 3);
        let (_, outcome) = play(&mut session, &two, 999);
        assert_eq!(outcome.timings.reused_tokens, 7);
    }

    #[test]
    fn cancelling_stops_in_the_prompt_and_in_the_answer() {
        let (mut session, computed) = parrot("abcdefghijklmnopqrstuvwxyz", 100);
        let (_, outcome) = play(&mut session, &request("abcdefghijklmnop"), 3);
        assert_eq!(outcome.finish, Finish::Cancelled);
        assert_eq!(computed.load(Ordering::Relaxed), 8);
        let (text, outcome) = play(&mut session, &request("abc"), 5);
        assert_eq!(outcome.finish, Finish::Cancelled);
        assert!(text.len() < 5, "{text}");
    }
}
