//! The scheduler on a model that hashes what it reads.

use super::decoder::{Decoder, Vocabulary};
use super::error::EngineError;
use super::forward::Forward;
use super::job::{Command, Job, Task};
use super::mailbox::{EVENTS_MAX, Received, Receiver, Wake, mailbox};
use super::mock::{self, Mock, Says};
use super::queue::{Limits, Queue};
use super::request::{Event, Finish, Generation, Outcome, TokenChoice};
use super::saved::{self, Origin};
use super::scheduler::Scheduler;
use crate::kernels::{Compute, Isa};
use crate::model::{PagePool, Pooling};
use crate::sampler::{Breakers, Sampler, Sampling};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

struct Bytes;

impl Vocabulary for Bytes {
    fn piece(&self, id: u32, _: bool, out: &mut Vec<u8>) {
        out.push(u8::try_from(id).unwrap());
    }

    fn is_end(&self, id: u32) -> bool {
        id == 0
    }

    fn is_control(&self, id: u32) -> bool {
        id == u32::from(mock::ASK)
    }
}

/// A scheduler on a mock.
struct Engine {
    mock: Arc<Mock>,
    shared: Arc<Queue>,
    pool: Arc<PagePool>,
    context: usize,
    thread: Option<JoinHandle<()>>,
}

const LIMITS: Limits = Limits {
    parallel: 8,
    queue: 500,
    batch: 16,
    context: 400,
    cached_pages: 40,
    cached_states: 40,
};

impl Engine {
    fn new(text: Option<&str>, limits: Limits) -> Self {
        Self::with(text, false, limits, usize::MAX, Duration::ZERO)
    }

    fn with(
        text: Option<&str>,
        fixed: bool,
        limits: Limits,
        pages: usize,
        delay: Duration,
    ) -> Self {
        let mock =
            Arc::new(Mock { fixed, delay, ..Mock::new(text.map_or(Says::Hashes, Says::text)) });
        let pool = mock::pool(pages);
        let shared = Queue::new(limits.queue);
        let scheduler = Scheduler::new(
            Arc::clone(&shared),
            Arc::clone(&mock) as Arc<dyn Forward>,
            Arc::new(Compute::new(Isa::SCALAR, 2)),
            Arc::clone(&pool),
            limits,
        );
        let thread = Some(thread::spawn(move || scheduler.run()));
        Self { mock, shared, pool, context: limits.context, thread }
    }

    fn submit(&self, request: &Generation) -> std::result::Result<Receiver, EngineError> {
        let sampler = Sampler::new(request.sampling.clone(), Breakers::default());
        let decoder = Decoder::new(request.clone(), sampler, Arc::new(Bytes), self.context);
        self.send(Task::Generate(Box::new(decoder)))
    }

    fn send(&self, task: Task) -> std::result::Result<Receiver, EngineError> {
        let (sender, receiver) = mailbox(Arc::clone(&self.shared) as Arc<dyn Wake>);
        self.shared.submit(Job { task, sender })?;
        Ok(receiver)
    }

    fn generate(&self, request: &Generation) -> (String, Outcome) {
        let (text, outcome) = read(self.submit(request).unwrap());
        (text, outcome.unwrap())
    }

    fn computed(&self) -> usize {
        self.mock.computed.load(Ordering::SeqCst)
    }

    /// Waits until something is so.
    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.close();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(ended.is_some_and(|e| e.is_ok()), "the scheduler's thread panicked");
            assert_eq!(self.pool.used(), 0, "pages are left");
        }
    }
}

fn events(mut receiver: Receiver) -> (Vec<Event>, std::result::Result<Outcome, EngineError>) {
    let mut all = Vec::new();
    loop {
        match receiver.next(Duration::from_secs(20)) {
            Received::Event((event, _)) => all.push(event),
            Received::End(outcome) => return (all, outcome),
            Received::Nothing => panic!("nothing for 20 s after {all:?}"),
        }
    }
}

fn read(receiver: Receiver) -> (String, std::result::Result<Outcome, EngineError>) {
    let (all, outcome) = events(receiver);
    let text = all.into_iter().filter_map(|event| match event {
        Event::Text { text, .. } => Some(text),
        _ => None,
    });
    (text.collect(), outcome)
}

fn request(prompt: &str) -> Generation {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let prompt = prompt.bytes().map(u32::from).collect();
    Generation { prompt, sampling, ..Generation::default() }
}

#[test]
fn it_ends_at_the_end_token_a_stop_string_and_the_limit() {
    let engine = Engine::new(Some("Hello, wörld!"), LIMITS);
    let (text, outcome) = engine.generate(&request("He"));
    assert_eq!((text.as_str(), outcome.finish), ("llo, wörld!", Finish::Stop));
    assert!(!outcome.stopped_by_text);
    let stop = Generation { stops: vec![", w".into()], ..request("He") };
    let (text, outcome) = engine.generate(&stop);
    assert_eq!((text.as_str(), outcome.finish), ("llo", Finish::Stop));
    assert!(outcome.stopped_by_text);
    let limit = Generation { max_tokens: Some(4), ..request("He") };
    let (text, outcome) = engine.generate(&limit);
    assert_eq!((text.as_str(), outcome.finish), ("llo,", Finish::Length));
    assert_eq!(outcome.timings.generated_tokens, 4);
    let none = Generation { max_tokens: Some(0), ..request("He") };
    assert_eq!(engine.generate(&none).1.finish, Finish::Length);
}

#[test]
fn tokens_come_with_the_text_they_begin_and_its_offset() {
    let tokens = |engine: &Engine, request: &Generation| {
        let (all, _) = events(engine.submit(request).unwrap());
        let text = |event| match event {
            Event::Text { text, tokens } => {
                Some((text, tokens.iter().map(|t| (t.at, t.id)).collect::<Vec<_>>()))
            }
            _ => None,
        };
        all.into_iter().filter_map(text).collect::<Vec<_>>()
    };
    let engine = Engine::new(Some("?wörld"), LIMITS);
    let all = tokens(&engine, &request("?"));
    let given: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(given, ["w", "", "ö", "r", "l", "d"]);
    let places: Vec<usize> = all.iter().flat_map(|(_, t)| t).map(|(at, _)| *at).collect();
    assert_eq!(places, [0, 1, 1, 2, 3, 4]);
    assert!(all[1].1.is_empty() && all[2].1.len() == 2, "{all:?}");
    // The tokens of a stop string are held back and never emitted; those of a false start are.
    let engine = Engine::new(Some("?a stoa stop"), LIMITS);
    let stop = Generation { stops: vec!["stop".into()], ..request("?") };
    let all = tokens(&engine, &stop);
    let ids = all.iter().flat_map(|(_, t)| t).map(|(_, id)| u8::try_from(*id).unwrap());
    assert_eq!(String::from_utf8(ids.collect()).unwrap(), "a stoa ");
}

#[test]
fn an_answer_has_at_least_min_tokens() {
    let engine = Engine::new(Some("?ab"), LIMITS);
    let most = Generation { max_tokens: Some(9), ..request("?") };
    assert_eq!(engine.generate(&most).0, "ab");
    let more = Generation { min_tokens: 5, ..most.clone() };
    let (text, outcome) = engine.generate(&more);
    assert_eq!((text.len(), outcome.timings.generated_tokens), (5, 6));
    let stops = Generation { min_tokens: 2, stops: vec!["a".into(), "b".into()], ..most };
    assert_eq!(engine.generate(&stops).0, "a");
    let stops = Generation { min_tokens: 3, ..stops };
    assert!(engine.generate(&stops).0.starts_with("ab"));
}

#[test]
fn contexts_end_answers() {
    let engine = Engine::new(Some("abcdefghijklmnop"), Limits { context: 12, ..LIMITS });
    let small = Generation { context: Some(8), ..request("abc") };
    assert_eq!(engine.generate(&small).0, "defgh");
    let too_small = Generation { context: Some(3), max_tokens: Some(4), ..request("abc") };
    assert_eq!(engine.generate(&too_small).0, "defg");
    let (text, outcome) = engine.generate(&request("abc"));
    assert_eq!((text.as_str(), outcome.finish), ("defghijkl", Finish::Length));
}

#[test]
fn a_scored_prompt_is_computed_once_and_whole() {
    let engine = Engine::new(Some("abcdefghijklmnop"), LIMITS);
    let one = Generation { max_tokens: Some(1), logprobs: Some(1), ..request("abxdef") };
    engine.generate(&one);
    let before = engine.computed();
    let scored = Generation { score_prompt: true, ..one };
    let (all, outcome) = events(engine.submit(&scored).unwrap());
    assert_eq!(outcome.unwrap().timings.reused_tokens, 0);
    assert_eq!(engine.computed() - before, 6);
    let scores = all.into_iter().find_map(|event| match event {
        Event::Scored(tokens) => Some(tokens),
        _ => None,
    });
    let scores: Vec<TokenChoice> = scores.unwrap();
    assert_eq!(scores.len(), 6);
    assert!(scores[0].logprob.is_none() && scores[0].top.is_empty());
    let likely = |t: &TokenChoice| t.logprob.unwrap() > -0.1;
    assert_eq!(scores[1..].iter().map(likely).collect::<Vec<_>>(), [true, false, true, true, true]);
    assert_eq!(scores[2].top[0].0, u32::from(b'c'));
}

#[test]
fn turns_and_regenerated_answers_compute_only_what_is_new() {
    let engine = Engine::new(Some("user: hi bot: yo user: more bot: ok"), LIMITS);
    let cost = |request: &Generation| {
        let before = engine.computed();
        let (text, outcome) = engine.generate(request);
        (text, engine.computed() - before, outcome.timings.reused_tokens)
    };
    let first = Generation { max_tokens: Some(3), ..request("user: hi bot:") };
    // The last token chosen is not computed.
    assert_eq!(cost(&first), (" yo".to_owned(), 13 + 2, 0));
    let next = Generation { max_tokens: Some(1), ..request("user: hi bot: yo user: more") };
    assert_eq!(cost(&next), (" ".to_owned(), 12, 15));
    // Another answer to a prompt, edited turns, two conversations in turns.
    assert_eq!(cost(&first), (" yo".to_owned(), 2, 13));
    assert_eq!(cost(&next).1, 0);
    let other = Generation { max_tokens: Some(1), ..request("user: ho bot:") };
    assert_eq!(cost(&other).2, 7);
    assert_eq!((cost(&first).2, cost(&other).2, cost(&first).2), (13, 13, 13));
}

#[test]
fn what_was_read_is_saved_and_taken_back_with_states_that_cannot_be_cut() {
    for fixed in [false, true] {
        let new = || Engine::with(None, fixed, LIMITS, usize::MAX, Duration::ZERO);
        let (first, second) = (new(), new());
        let ask = Generation { max_tokens: Some(5), ..request(&"abc".repeat(50)) };
        let (text, _) = first.generate(&ask);
        let (reply, found) = mpsc::channel();
        first.until("it was kept", |first| first.shared.status().cached_pages > 0);
        first.shared.command(Command::Look { slot: 0, reply });
        let saved = found.recv().unwrap();
        assert_eq!((saved.tokens.len(), saved.states.len()), (154, usize::from(fixed)));
        let origin = Origin { weights: [1; 32], names: ["a", "b", "c"].map(str::to_owned) };
        let mut file = Vec::new();
        saved::write(&mut file, &origin, first.pool.page_bytes(), 0, &saved).unwrap();
        let blank = second.mock.sequence(&second.pool, 400).fixed().to_vec();
        let saved = saved::read(&file, &origin, 256, &blank, &second.pool).unwrap();
        let (reply, done) = mpsc::channel();
        second.shared.command(Command::Keep { slot: 0, saved, reply });
        assert_eq!(done.recv().unwrap(), 154);
        // The answer goes on as it would have: its text is part of the next prompt.
        let longer = format!("{}{}", "abc".repeat(50), text);
        let next = Generation { max_tokens: Some(5), ..request(&longer) };
        let (after, outcome) = second.generate(&next);
        assert_eq!((after, outcome.timings.reused_tokens), (first.generate(&next).0, 154));
    }
}

fn random(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

/// Random requests with prompts that share beginnings.
fn requests(count: usize, state: &mut u64) -> Vec<Generation> {
    let mut texts: Vec<String> = vec![String::new()];
    (0..count)
        .map(|_| {
            let of = texts[random(state, texts.len())].clone();
            let mut prompt = of[..random(state, of.len() + 1)].to_owned();
            let more = 1 + random(state, 120);
            prompt.extend((0..more).map(|_| char::from(b'a' + random(state, 3) as u8)));
            texts.push(prompt.clone());
            prompt.truncate(300);
            let temperature = [0.0, 1.0][random(state, 2)];
            let sampling = Sampling {
                temperature,
                seed: Some(random(state, 1000) as u64),
                repeat_penalty: 1.1,
                ..Sampling::default()
            };
            Generation {
                sampling,
                max_tokens: Some(1 + random(state, 40)),
                logprobs: [None, Some(2)][random(state, 2)],
                ..request(&prompt)
            }
        })
        .collect()
}

/// Everything but times and progress.
fn bits(receiver: Receiver) -> (Vec<Event>, Finish, usize) {
    let (mut all, outcome) = events(receiver);
    all.retain(|event| !matches!(event, Event::Prompt(_)));
    let outcome = outcome.unwrap();
    (all, outcome.finish, outcome.timings.generated_tokens)
}

#[test]
fn answers_are_the_same_alone_among_others_and_after_cache_hits() {
    for fixed in [false, true] {
        let mut state = 42 + u64::from(fixed);
        let all = requests(150, &mut state);
        let alone: Vec<_> = all
            .iter()
            .map(|request| {
                let engine = Engine::with(None, fixed, LIMITS, usize::MAX, Duration::ZERO);
                bits(engine.submit(request).unwrap())
            })
            .collect();
        // Few cached pages, so that they are forgotten too; pieces of all sizes.
        for (batch, cached_pages) in [(1, 40), (16, 10), (64, 1000)] {
            let limits = Limits { batch, cached_pages, ..LIMITS };
            let engine = Engine::with(None, fixed, limits, usize::MAX, Duration::ZERO);
            thread::scope(|scope| {
                for worker in 0..8 {
                    let (engine, all, alone) = (&engine, &all, &alone);
                    scope.spawn(move || {
                        let mut state = worker + 1;
                        for _ in 0..60 {
                            let index = random(&mut state, all.len());
                            let receiver = engine.submit(&all[index]).unwrap();
                            if random(&mut state, 9) == 0 {
                                drop(receiver);
                                continue;
                            }
                            assert_eq!(bits(receiver), alone[index], "request {index}");
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn whoever_does_not_read_pauses_only_itself() {
    let text = "x".repeat(390);
    let engine = Engine::new(Some(&text), LIMITS);
    let mut stalled = engine.submit(&request("x")).unwrap();
    assert!(matches!(stalled.next(Duration::from_secs(20)), Received::Event(_)));
    for _ in 0..5 {
        assert_eq!(engine.generate(&request("xx")).0.len(), 388);
    }
    engine.until("the mailbox is full", |engine| {
        engine.shared.status().slots.iter().any(|slot| slot.generated >= EVENTS_MAX)
    });
    let (rest, outcome) = read(stalled);
    assert_eq!((rest.len(), outcome.unwrap().finish), (389, Finish::Stop));
}

#[test]
fn a_cancelled_request_ends_at_once_and_frees_its_pages() {
    let limits = Limits { cached_pages: 0, ..LIMITS };
    let engine = Engine::with(Some(""), false, limits, usize::MAX, Duration::from_secs(3600));
    let receiver = engine.submit(&request(&"x".repeat(300))).unwrap();
    engine.until("it takes pages", |engine| engine.pool.used() > 0);
    let start = Instant::now();
    drop(receiver);
    engine.until("they are free", |engine| engine.pool.used() == 0);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn without_room_one_waits_or_ends_alone_and_the_others_go_on() {
    // Two sequences of 300 positions need ten pages; there are seven.
    let limits = Limits { cached_pages: 3, ..LIMITS };
    let engine = Engine::with(None, false, limits, 7, Duration::ZERO);
    let long = |letter: &str| request(&letter.repeat(300));
    let few = |letter: &str| Generation { max_tokens: Some(20), ..long(letter) };
    let expected = engine.generate(&few("a")).0;
    for _ in 0..5 {
        let all: Vec<_> = ["a", "b", "c"].map(|l| engine.submit(&few(l)).unwrap()).into();
        let ended: Vec<_> = all.into_iter().map(read).collect();
        assert_eq!(ended[0].0, expected, "the first is served");
        for (text, outcome) in &ended[1..] {
            match outcome {
                Ok(_) => assert!(!text.is_empty()),
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains("more bytes are needed"), "{said}");
                }
            }
        }
    }
    let too_long = Generation { max_tokens: None, ..request(&"d".repeat(10)) };
    let engine = Engine::with(Some(&"d".repeat(399)), false, limits, 2, Duration::ZERO);
    let (text, outcome) = read(engine.submit(&too_long).unwrap());
    assert!(matches!(outcome, Err(EngineError::NoRoom(_))), "{text} {outcome:?}");
    assert!(engine.generate(&Generation { max_tokens: Some(3), ..too_long }).0 == "ddd");
}

#[test]
fn the_queue_is_bounded_and_says_who_is_before() {
    let limits = Limits { parallel: 1, queue: 2, ..LIMITS };
    let engine = Engine::with(Some("abc"), false, limits, usize::MAX, Duration::from_millis(300));
    let first = engine.submit(&request("a")).unwrap();
    engine.until("it is computed", |engine| engine.shared.status().slots.len() == 1);
    let waiting: Vec<_> = (0..2).map(|_| engine.submit(&request("a")).unwrap()).collect();
    assert!(matches!(engine.submit(&request("a")), Err(EngineError::Busy(2))));
    engine.until("places", |_| (waiting[0].before(), waiting[1].before()) == (Some(0), Some(1)));
    for receiver in [first].into_iter().chain(waiting) {
        assert_eq!(read(receiver).0, "bc");
    }
}

#[test]
fn a_panic_ends_the_requests_being_computed_and_nothing_else() {
    let engine = Engine::new(Some("abc"), LIMITS);
    engine.mock.panics.store(true, Ordering::SeqCst);
    let (_, outcome) = read(engine.submit(&request("a")).unwrap());
    assert!(matches!(outcome, Err(EngineError::Compute(_))), "{outcome:?}");
    assert_eq!(engine.generate(&request("a")).0, "bc");
}

#[test]
fn embeddings_are_spans_like_any_other() {
    let engine = Engine::new(None, LIMITS);
    let inputs: Vec<Vec<u32>> = (1..40).map(|n| (0..n * 5).map(|i| i % 7).collect()).collect();
    let embed = |inputs: Vec<Vec<u32>>, pooling| {
        let (all, outcome) = events(engine.send(Task::Embed { inputs, pooling }).unwrap());
        assert_eq!(outcome.unwrap().finish, Finish::Stop);
        let rows = all.into_iter().map(|event| match event {
            Event::Embedded(rows) => rows,
            other => panic!("{other:?}"),
        });
        rows.collect::<Vec<_>>()
    };
    let alone = inputs.iter().map(|input| embed(vec![input.clone()], Pooling::Last).remove(0));
    let alone: Vec<_> = alone.collect();
    let answer = engine.submit(&request("an answer beside them")).unwrap();
    assert_eq!(embed(inputs.clone(), Pooling::Last), alone);
    assert!(read(answer).1.is_ok());
    let each = embed(inputs.clone(), Pooling::None);
    assert!(each.iter().zip(&inputs).all(|(rows, input)| rows.len() == input.len()));
    assert!(each.iter().zip(&alone).all(|(rows, one)| rows.last() == one.first()));
}

#[test]
fn many_texts_to_embed_delay_nobody_and_go_on_beside_others() {
    let engine = Engine::with(None, false, LIMITS, usize::MAX, Duration::from_millis(1));
    let many = Task::Embed { inputs: vec![vec![7; 50]; 400], pooling: Pooling::Mean };
    let many = engine.send(many).unwrap();
    engine.until("it is begun", |engine| engine.computed() > 100);
    let before = engine.computed();
    let few = Task::Embed { inputs: vec![vec![9; 20]; 3], pooling: Pooling::Mean };
    let few = engine.send(few).unwrap();
    let limit = Generation { max_tokens: Some(8), ignore_end: true, ..request("Hello there") };
    assert_eq!(engine.generate(&limit).1.timings.generated_tokens, 8);
    assert!(events(few).1.is_ok());
    let meanwhile = engine.computed() - before;
    assert!((100..4000).contains(&meanwhile), "{meanwhile} of 20000 rows");
    let (all, outcome) = events(many);
    assert!(outcome.is_ok() && all.len() == 400);
}
