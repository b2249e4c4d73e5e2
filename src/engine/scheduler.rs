//! The scheduler: one thread that owns the sequences and decides what each forward pass computes.
//!
//! Requests enter by a queue and get events through mailboxes, so nothing here waits for a socket. Each step computes
//! the next token of every answer and a piece of the prompts that wait, sized so that answers keep flowing. What a
//! token becomes depends on its sequence alone, so none of this changes results. Knows nothing of HTTP.

use super::error::EngineError;
use super::forward::Forward;
use super::job::{
    Answer, Command, Embedding, Job, Run, Task, Timeline, Work, has_logits, is_decoding,
};
use super::mailbox::{End, Sender, Watch};
use super::plan::Planner;
use super::queue::{Limits, Queue, Slot};
use super::request::{Event, Finish, Outcome};
use crate::kernels::Compute;
use crate::model::{Batch, PagePool, Span};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a client may leave its mailbox full before its request ends.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Rows whose logits are held at a time: 16 MB for a vocabulary of 262,144 tokens.
const LOGITS_MAX: usize = 16;
/// How often stalled clients are looked at, when nothing else happens.
const LOOK: Duration = Duration::from_secs(1);

/// The scheduler's thread.
pub struct Scheduler {
    queue: Arc<Queue>,
    model: Arc<dyn Forward>,
    compute: Arc<Compute>,
    planner: Planner,
    parallel: usize,
    waiting: VecDeque<Job>,
    /// The requests being computed, in order of arrival.
    runs: Vec<Run>,
    arrived: u64,
    /// What the last answer of each slot has read.
    slots: Vec<Vec<u32>>,
}

impl Scheduler {
    /// A scheduler that takes its requests from `queue`.
    #[must_use]
    pub fn new(
        queue: Arc<Queue>,
        model: Arc<dyn Forward>,
        compute: Arc<Compute>,
        pool: Arc<PagePool>,
        limits: Limits,
    ) -> Self {
        Self {
            queue,
            planner: Planner::new(Arc::clone(&model), pool, limits),
            model,
            compute,
            parallel: limits.parallel,
            waiting: VecDeque::new(),
            runs: Vec::new(),
            arrived: 0,
            slots: vec![Vec::new(); limits.parallel],
        }
    }

    /// Serves requests until [`Queue::close`]. A panic ends the requests being computed and the commands that came with
    /// them, and nothing else.
    pub fn run(mut self) {
        let mut idle = false;
        loop {
            // With something to do, though not now: stalled clients are looked at.
            let look = (!self.runs.is_empty() || !self.waiting.is_empty()).then_some(LOOK);
            let Some(commands) = self.queue.take(&mut self.waiting, idle, look) else { return };
            let worked = catch_unwind(AssertUnwindSafe(|| {
                commands.into_iter().for_each(|command| self.obey(command));
                self.step()
            }));
            idle = worked.as_ref().is_ok_and(|worked| !worked);
            if worked.is_err() {
                self.fail_all("internal error");
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // Whoever asked may have gone.
        match command {
            Command::Look { slot, reply } => {
                let tokens = self.slots.get(slot).cloned().unwrap_or_default();
                let _ = reply.send(self.planner.look(&tokens));
            }
            Command::Keep { slot, saved, reply } => {
                let tokens = saved.tokens.clone();
                self.planner.keep(saved);
                let _ = reply.send(tokens.len());
                if let Some(slot) = self.slots.get_mut(slot) {
                    *slot = tokens;
                }
            }
            Command::Erase { slot, reply } => {
                let tokens = self.slots.get_mut(slot).map(std::mem::take).unwrap_or_default();
                self.planner.erase(&tokens);
                let _ = reply.send(tokens.len());
            }
        }
    }

    /// The slot for a request that asks for `wanted`: that one if it is free, else the first free one.
    fn free_slot(&self, wanted: Option<usize>) -> usize {
        let is_free = |slot: &usize| self.runs.iter().all(|run| run.slot != *slot);
        let wanted = wanted.filter(|slot| *slot < self.parallel && is_free(slot));
        wanted.or_else(|| (0..self.parallel).find(is_free)).unwrap_or(0)
    }

    /// One forward pass, and what comes before and after it. Returns whether there was anything to do.
    fn step(&mut self) -> bool {
        self.drop_finished();
        self.admit();
        let (planned, ready) = self.planner.plan(&mut self.runs);
        if planned > 0
            && let Err(error) = self.compute()
        {
            self.fail_planned(&error);
        }
        let worked = planned > 0 || ready;
        if worked {
            self.choose();
        }
        let dropped = self.drop_finished();
        self.publish();
        worked || dropped
    }

    /// Passes events on, and lets go of requests that have ended or whose client has gone. Returns whether there were
    /// any of these.
    fn drop_finished(&mut self) -> bool {
        self.waiting.retain(|job| !job.sender.is_cancelled());
        let mut left = Vec::new();
        for index in (0..self.runs.len()).rev() {
            let run = &mut self.runs[index];
            run.sender.send(&mut run.outbox);
            run.stalled = match run.stalled {
                _ if run.outbox.is_empty() => None,
                since => since.or_else(|| Some(Instant::now())),
            };
            let too_slow = run.stalled.is_some_and(|since| since.elapsed() > STALL_MAX);
            let ended = run.ended.is_some() && run.outbox.is_empty();
            if ended || too_slow || run.sender.is_cancelled() {
                let run = self.runs.remove(index);
                left.push(self.leave(run));
            }
        }
        if left.is_empty() {
            return false;
        }
        // Before anyone hears of the end: who has the whole answer finds the slot free.
        self.publish();
        left.into_iter().for_each(|(sender, end)| sender.end(end));
        true
    }

    /// Keeps what a request has read. Returns who asked, and how it ended.
    fn leave(&mut self, mut run: Run) -> (Sender, End) {
        let ended = run.ended.take();
        let cancelled = match run.work {
            Work::Answer(answer) => {
                self.planner.keep_all(&answer);
                if let Some(slot) = self.slots.get_mut(run.slot) {
                    let Timeline { tokens, sequence, .. } = &answer.timeline;
                    *slot = tokens[..sequence.len()].to_vec();
                }
                answer.outcome(Finish::Cancelled)
            }
            Work::Embedding(_) => Outcome::new(Finish::Cancelled),
        };
        (run.sender, ended.unwrap_or(Ok(cancelled)))
    }

    /// Gives waiting requests the free places, in order of arrival.
    fn admit(&mut self) {
        while self.runs.len() < self.parallel
            && let Some(Job { task, sender }) = self.waiting.pop_front()
        {
            sender.set_before(None);
            let slot = self.free_slot(match &task {
                Task::Generate(decoder) => decoder.request().slot,
                Task::Embed { .. } => None,
            });
            let work = match task {
                Task::Generate(decoder) => {
                    let mut timeline = self.planner.timeline(decoder.request().prompt.clone());
                    self.planner.set_stops(&mut timeline, &|id| decoder.is_control(id));
                    Work::Answer(Box::new(Answer::new(timeline, *decoder)))
                }
                Task::Embed { inputs, pooling } => {
                    Work::Embedding(Embedding { inputs, pooling, next: 0, active: Vec::new() })
                }
            };
            self.arrived += 1;
            self.runs.push(Run {
                number: self.arrived,
                slot,
                work,
                sender,
                outbox: VecDeque::new(),
                ended: None,
                stalled: None,
                blocked: false,
            });
        }
        self.queue.set_waiting(self.waiting.len());
        for (index, job) in self.waiting.iter().enumerate() {
            job.sender.set_before(Some(index));
        }
    }

    /// Runs the forward pass that was planned, and hands out its results.
    fn compute(&mut self) -> Result<(), EngineError> {
        let start = Instant::now();
        let causal = self.model.is_causal();
        let (mut batch, mut owners) = (Batch::default(), Vec::new());
        let mut watches = Vec::new();
        let (mut prompt_rows, mut tokens) = (0, 0);
        for (index, run) in self.runs.iter_mut().enumerate() {
            let (decoding, watch) = (is_decoding(run), run.sender.watch());
            for (number, timeline) in
                run.timelines().enumerate().filter(|(_, timeline)| timeline.planned > 0)
            {
                let Timeline { sequence, tokens: all, planned, wanted, passed, .. } = timeline;
                let range = sequence.len()..sequence.len() + *planned;
                if decoding {
                    tokens += *planned;
                } else {
                    prompt_rows += *planned;
                }
                owners.push((index, number));
                let span = Span::tokens(sequence, &all[range], causal, *wanted);
                batch.spans.push(Span { stops: passed, ..span });
            }
            if owners.last().is_some_and(|(owner, _)| *owner == index) {
                watches.push(watch);
            }
        }
        // A token is soon done, and what it has changed in place could not be taken back.
        let stops = prompt_rows > 0;
        let cancelled = || stops && watches.iter().all(Watch::is_cancelled);
        let wanted = || !self.queue.is_closed() && !cancelled();
        let lock = self.compute.lock.take();
        let output = self.model.forward(&mut batch, &wanted)?;
        let spans = batch.spans.len();
        drop(batch);
        let Some(output) = output else { return Ok(()) };
        let (mut values, mut rows_of_answers) = (Vec::new(), Vec::new());
        for ((index, number), rows) in owners.into_iter().zip(output.rows.clone()) {
            let run = &mut self.runs[index];
            match &mut run.work {
                Work::Answer(answer) => {
                    rows_of_answers.extend(rows.map(|row| (row, index)));
                    if !answer.decoding {
                        run.outbox.push_back((Event::Prompt(answer.progress()), 0));
                    }
                }
                Work::Embedding(embedding) => {
                    self.model.hidden(&output, rows, &mut values)?;
                    embedding.active[number].1.add(&values);
                }
            }
        }
        // The head once for the rows of all answers, which are neighbours for the most timeline.
        let neighbours = |(a, _): &(usize, usize), (b, _): &(usize, usize)| a + 1 == *b;
        for rows in rows_of_answers.chunk_by(neighbours).flat_map(|rows| rows.chunks(LOGITS_MAX)) {
            let (first, last) = (rows[0].0, rows[rows.len() - 1].0);
            self.model.logits(&output, first..last + 1, &mut values)?;
            for ((_, index), logits) in rows.iter().zip(values.chunks_exact(self.model.n_vocab())) {
                if let Work::Answer(answer) = &mut self.runs[*index].work {
                    answer.take_logits(logits);
                }
            }
        }
        drop(lock);
        let time = start.elapsed();
        self.planner.learn(time.as_secs_f64(), prompt_rows, tokens);
        let share = prompt_rows as f64 / (prompt_rows + tokens).max(1) as f64;
        self.queue.update(|status| {
            status.passes += 1;
            status.spans += spans as u64;
            status.prompt_tokens += prompt_rows as u64;
            status.prompt_time += time.mul_f64(share);
            status.generation_time += time.mul_f64(1.0 - share);
        });
        Ok(())
    }

    /// Chooses the next tokens of all answers, in parallel, and finishes what is done.
    fn choose(&mut self) {
        let before = self.generated();
        for run in &self.runs {
            if let Work::Answer(answer) = &run.work
                && let (false, Some(logits)) = (answer.decoding, &answer.logits)
            {
                self.planner.keep_logits(&answer.timeline.tokens, logits);
            }
        }
        let ready: Vec<Mutex<&mut Run>> =
            self.runs.iter_mut().filter(|run| has_logits(run)).map(Mutex::new).collect();
        let one = |index: usize| {
            let mut run = lock(&ready[index]);
            let Run { work: Work::Answer(answer), outbox, ended, .. } = &mut **run else {
                return;
            };
            match answer.go_on(outbox) {
                Ok(None) => {}
                Ok(Some(finish)) => *ended = Some(Ok(answer.outcome(finish))),
                Err(error) => *ended = Some(Err(error)),
            }
        };
        match ready.len() {
            0 => {}
            1 => one(0),
            several => self.compute.pool.run(several, &one),
        }
        drop(ready);
        for run in &mut self.runs {
            match &mut run.work {
                Work::Answer(answer) => self.planner.keep_pages(run.number, answer),
                Work::Embedding(embedding) => {
                    if let Some(ended) = finish_embedding(&*self.model, embedding, &mut run.outbox)
                    {
                        run.ended.get_or_insert(ended);
                    }
                }
            }
        }
        // Before anyone hears of it: who has a token finds the slot busy.
        self.publish();
        for run in &mut self.runs {
            run.sender.send(&mut run.outbox);
        }
        let generated = self.generated() - before;
        self.queue.update(|status| status.generated_tokens += generated);
    }

    /// Tokens that the answers being computed have by now.
    fn generated(&self) -> u64 {
        let of = |run: &Run| match &run.work {
            Work::Answer(answer) => answer.decoder.generated() as u64,
            Work::Embedding(_) => 0,
        };
        self.runs.iter().map(of).sum()
    }

    fn fail_planned(&mut self, error: &EngineError) {
        for run in &mut self.runs {
            if run.timelines().any(|timeline| timeline.planned > 0) {
                run.ended = Some(Err(EngineError::Compute(error.to_string())));
            }
        }
    }

    /// Ends all requests being computed, after a panic: what they have read may be inconsistent.
    fn fail_all(&mut self, message: &str) {
        let failed: Vec<Run> = self.runs.drain(..).collect();
        self.planner.forget();
        self.publish();
        for mut run in failed {
            run.sender.send(&mut run.outbox);
            run.sender.end(Err(EngineError::Compute(message.to_owned())));
        }
    }

    fn publish(&self) {
        let slots = self.runs.iter().map(|run| match &run.work {
            Work::Answer(answer) => Slot {
                id: run.slot,
                prompt: answer.timings.prompt_tokens,
                read: answer.timeline.sequence.len(),
                generated: answer.decoder.generated(),
                decoding: answer.decoding,
            },
            Work::Embedding(embedding) => Slot {
                id: run.slot,
                prompt: embedding.inputs.len(),
                read: embedding.next,
                generated: 0,
                decoding: false,
            },
        });
        self.queue.update(|status| {
            status.slots.clear();
            status.slots.extend(slots);
            status.waiting = self.waiting.len();
            (status.pages, status.cached_pages) = self.planner.pages();
        });
    }
}

/// Moves on from the texts that were read whole. Returns the end of the request when all are.
fn finish_embedding(
    model: &dyn Forward,
    embedding: &mut Embedding,
    outbox: &mut VecDeque<(Event, usize)>,
) -> Option<Result<Outcome, EngineError>> {
    while embedding.active.first().is_some_and(|(timeline, _)| timeline.left() == 0) {
        let (timeline, pool) = embedding.active.remove(0);
        let rows = pool.finish().into_iter().map(|row| model.project(row, embedding.pooling));
        let rows: Vec<Vec<f32>> = match rows.collect::<Result<_, _>>() {
            Ok(rows) => rows,
            Err(error) => return Some(Err(EngineError::Compute(error.to_string()))),
        };
        if !rows.iter().flatten().all(|x| x.is_finite()) {
            return Some(Err(EngineError::NotFinite));
        }
        drop(timeline);
        outbox.push_back((Event::Embedded(rows), 0));
    }
    let done = embedding.active.is_empty() && embedding.next == embedding.inputs.len();
    done.then_some(Ok(Outcome::new(Finish::Stop)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
