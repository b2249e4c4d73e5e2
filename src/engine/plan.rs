//! What a step computes: the next token of every answer, and pieces of the prompts that wait. Also what is kept of
//! finished sequences, since both share the pages.

use super::forward::Forward;
use super::job::{Answer, Run, Timeline, Work, has_logits, is_decoding};
use super::pooling::Pooler;
use super::prefix::{Kept, PrefixCache};
use super::queue::Limits;
use super::saved::Saved;
use super::stops::stops;
use crate::model::{Checkpoint, NoRoom, PAGE, PagePool, Read, Wanted};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Time that a step may spend on prompts while answers are being generated: half of the longest gap that is promised
/// between two tokens, since estimates err.
const PROMPT_TIME: Duration = Duration::from_millis(120);
/// Time that it may spend on them otherwise: a newcomer waits for this long at most.
const PROMPT_TIME_ALONE: Duration = Duration::from_secs(4);
/// Time that it may spend on texts to embed, also if there is nothing else: they may be many, and a newcomer waits for
/// no longer than an answer being generated does.
const EMBEDDING_TIME: Duration = PROMPT_TIME;
/// Fewest rows of a prompt in a step: smaller pieces take hardly less time.
const PIECE_MIN: usize = 16;
/// Rows of texts to embed where nothing was measured yet.
const PIECE_FIRST: usize = 64;
/// Tokens that two prompts have in common, beyond what is kept anyway, where the second waits for the first.
const ALIKE_MIN: usize = 8;
/// Prompts whose last logits are kept, for another answer to the same prompt.
const LOGITS_KEPT: usize = 4;

/// Plans steps, and keeps what was read.
pub struct Planner {
    model: Arc<dyn Forward>,
    pool: Arc<PagePool>,
    limits: Limits,
    prefix: PrefixCache,
    /// The logits after some prompts, the latest last.
    after_prompts: VecDeque<(Vec<u32>, Vec<f32>)>,
    /// Requests whose prompts others wait for, because theirs begin alike.
    awaited: Vec<u64>,
    /// Steps with texts to embed so far.
    embedding_steps: usize,
    /// Seconds that a row of a prompt takes, and an answer's next token; 0 until measured.
    row_cost: f64,
    token_cost: f64,
}

impl Planner {
    /// A planner that has nothing kept.
    #[must_use]
    pub fn new(model: Arc<dyn Forward>, pool: Arc<PagePool>, limits: Limits) -> Self {
        Self {
            model,
            pool,
            limits,
            prefix: PrefixCache::new(Kept {
                pages: limits.cached_pages,
                states: limits.cached_states,
            }),
            after_prompts: VecDeque::new(),
            awaited: Vec::new(),
            embedding_steps: 0,
            row_cost: 0.0,
            token_cost: 0.0,
        }
    }

    /// A new sequence that has to read `tokens`.
    pub fn timeline(&self, tokens: Vec<u32>) -> Timeline {
        let sequence = self.model.sequence(&self.pool, self.limits.context);
        let (stops, passed) = (Vec::new(), Vec::new());
        Timeline { sequence, tokens, planned: 0, wanted: Wanted::None, stops, passed }
    }

    /// Sets where states of a prompt are kept, if its model has any: no more than are kept of all prompts.
    pub fn set_stops(&self, timeline: &mut Timeline, is_control: &dyn Fn(u32) -> bool) {
        if !timeline.sequence.can_rewind() {
            let mut all = stops(&timeline.tokens, is_control);
            timeline.stops = all.split_off(all.len().saturating_sub(self.limits.cached_states));
        }
    }

    /// Decides how many tokens each sequence reads in this step, and makes room for them. Returns their number, and
    /// whether some answer can go on without any, since its prompt was known with the logits after it.
    pub fn plan(&mut self, runs: &mut [Run]) -> (usize, bool) {
        let decoding = runs.iter().any(|run| run.is_active() && is_decoding(run));
        let alone = if decoding { PROMPT_TIME } else { PROMPT_TIME_ALONE };
        let mut rows = self.prompt_rows(alone, decoding);
        let (mut total, mut ready) = (0, false);
        self.awaited.clear();
        for index in 0..runs.len() {
            let (before, rest) = runs.split_at_mut(index);
            let [run, ..] = rest else { break };
            run.blocked = false;
            run.timelines().for_each(|timeline| timeline.planned = 0);
            if !run.is_active() {
                continue;
            }
            if is_decoding(run) {
                total += self.plan_tokens(run, usize::MAX, Wanted::Last);
            } else if matches!(run.work, Work::Embedding(_)) {
                // Theirs is what the others leave.
            } else if rows > 0 && !self.waits_for_another(before, run) {
                let planned = self.plan_prompt(run, rows);
                rows = rows.saturating_sub(planned);
                total += planned;
                ready |= has_logits(run);
            }
        }
        total += self.plan_embeddings(runs, rows, decoding);
        if total == 0 && !ready {
            self.unblock(runs);
        }
        (total, ready)
    }

    /// Whether an earlier request is just computing a prompt that begins like this one's, so that computing it here
    /// too would be work done twice.
    fn waits_for_another(&mut self, before: &[Run], run: &Run) -> bool {
        let Work::Answer(answer) = &run.work else { return false };
        if !answer.timeline.sequence.is_empty() || answer.decoder.request().score_prompt {
            return false;
        }
        let tokens = &answer.timeline.tokens;
        let known = self.prefix.find(&read(tokens), !answer.timeline.sequence.can_rewind()).len;
        let alike = before.iter().find(|run| match &run.work {
            Work::Answer(other) if run.is_active() && !run.blocked && !other.decoding => {
                let common = other.timeline.tokens.iter().zip(tokens).take_while(|(a, b)| a == b);
                common.count() >= known + ALIKE_MIN && other.timeline.left() > 0
            }
            _ => false,
        });
        self.awaited.extend(alike.map(|run| run.number));
        alike.is_some()
    }

    /// Rows of prompts that take so much time, with the tokens of answers that are computed beside them.
    fn prompt_rows(&self, time: Duration, decoding: bool) -> usize {
        let tokens = if decoding { self.token_cost } else { 0.0 };
        let time = (time.as_secs_f64() - tokens).max(0.0);
        if self.row_cost <= 0.0 {
            return self.limits.batch;
        }
        let rows = (time / self.row_cost) as usize;
        rows.clamp(PIECE_MIN.min(self.limits.batch), self.limits.batch)
    }

    /// Takes over what is stored of a prompt, before its first token is computed.
    fn look_up(&mut self, answer: &mut Answer) {
        if !answer.timeline.sequence.is_empty() || answer.decoder.request().score_prompt {
            return;
        }
        let tokens = &answer.timeline.tokens;
        let known = self.after_prompts.iter().find(|(prompt, _)| prompt == tokens);
        // Without logits kept, the last token is computed again for them.
        let most = if known.is_some() { tokens.len() } else { tokens.len() - 1 };
        let read = read(&tokens[..most]);
        let fixed = !answer.timeline.sequence.can_rewind();
        let mut found = self.prefix.find(&read, fixed);
        if found.len == tokens.len() {
            answer.logits = known.map(|(_, logits)| logits.clone());
        }
        let pages = std::mem::take(&mut found.pages);
        answer.timeline.sequence.adopt(&read[..found.len], pages, found.states.as_ref());
        answer.timings.reused_tokens = found.len;
    }

    /// Plans texts to embed, where `left` rows are left: all requests have the same part of them, and get on a little
    /// whatever else there is.
    fn plan_embeddings(&mut self, runs: &mut [Run], left: usize, decoding: bool) -> usize {
        let is_embedding =
            |run: &&mut Run| run.is_active() && matches!(run.work, Work::Embedding(_));
        let count = runs.iter_mut().filter(is_embedding).count();
        let measured = self.row_cost > 0.0;
        let most = if measured { self.prompt_rows(EMBEDDING_TIME, decoding) } else { PIECE_FIRST };
        let rows = most.min(left);
        let each = (rows / count.max(1)).max(PIECE_MIN).min(self.limits.batch);
        let causal = self.model.is_causal();
        // Where whole texts are computed, one may be all there is room for: another request begins each step.
        self.embedding_steps += 1;
        let mut total = 0;
        let mut embeddings: Vec<&mut Run> = runs.iter_mut().filter(is_embedding).collect();
        embeddings.rotate_left(self.embedding_steps % count.max(1));
        for run in embeddings {
            if causal || total == 0 || total + each <= rows {
                total += self.plan_embedding(run, each);
            }
        }
        total
    }

    /// Plans up to `rows` tokens of a prompt.
    fn plan_prompt(&mut self, run: &mut Run, rows: usize) -> usize {
        let Work::Answer(answer) = &mut run.work else { return 0 };
        self.look_up(answer);
        if answer.logits.is_some() {
            return 0;
        }
        let scored = answer.decoder.request().score_prompt;
        self.plan_tokens(run, rows, if scored { Wanted::All } else { Wanted::Last })
    }

    /// Plans texts to embed: whole ones if attention looks both ways, and at least a piece of one.
    fn plan_embedding(&mut self, run: &mut Run, rows: usize) -> usize {
        let (causal, width) = (self.model.is_causal(), self.model.d_model());
        let mut total = 0;
        let mut at = 0;
        while total < rows {
            let Work::Embedding(embedding) = &mut run.work else { return total };
            if at == embedding.active.len() {
                let Some(tokens) = embedding.inputs.get_mut(embedding.next) else { break };
                let tokens = std::mem::take(tokens);
                let pooling = self.model.pools(embedding.pooling);
                let pool = Pooler::new(pooling, tokens.len(), width);
                embedding.next += 1;
                embedding.active.push((self.timeline(tokens), pool));
            }
            let timeline = &mut embedding.active[at].0;
            let (left, room) = (timeline.left(), rows - total);
            if !causal && total > 0 && left > room {
                break;
            }
            let count = if causal { left.min(room) } else { left };
            if reserve(timeline, count, &mut self.prefix).is_err() {
                run.blocked = total == 0;
                break;
            }
            timeline.plan(count, Wanted::All);
            total += count;
            at += 1;
        }
        total
    }

    /// Plans up to `rows` of the tokens that the only sequence of a request has to read.
    fn plan_tokens(&mut self, run: &mut Run, rows: usize, wanted: Wanted) -> usize {
        let Work::Answer(answer) = &mut run.work else { return 0 };
        let timeline = &mut answer.timeline;
        let count = timeline.left().min(rows).min(self.limits.batch);
        if reserve(timeline, count, &mut self.prefix).is_err() {
            run.blocked = true;
            return 0;
        }
        let last = count == timeline.left();
        timeline.plan(count, if last || wanted == Wanted::All { wanted } else { Wanted::None });
        count
    }

    /// Where all wait for pages of each other, ends the latest of those that ask.
    fn unblock(&self, runs: &mut [Run]) {
        if runs.iter().any(|run| run.stalled.is_some()) {
            return;
        }
        if let Some(run) = runs.iter_mut().rev().find(|run| run.blocked) {
            let missing = self.pool.shape().bytes();
            let limit = self.pool.limit() * missing;
            run.ended = Some(Err(NoRoom { missing, limit }.into()));
        }
    }

    /// Learns from a pass that took `seconds` for this many rows of prompts and tokens of answers.
    pub fn learn(&mut self, seconds: f64, prompt_rows: usize, tokens: usize) {
        let mix = |old: f64, new: f64| if old > 0.0 { 0.7 * old + 0.3 * new } else { new };
        if prompt_rows == 0 {
            self.token_cost = mix(self.token_cost, seconds);
        } else if prompt_rows >= PIECE_MIN {
            let of_tokens = if tokens > 0 { self.token_cost } else { 0.0 };
            self.row_cost = mix(self.row_cost, (seconds - of_tokens).max(0.0) / prompt_rows as f64);
        }
    }

    /// Keeps the logits after a prompt.
    pub fn keep_logits(&mut self, prompt: &[u32], logits: &[f32]) {
        self.after_prompts.retain(|(known, _)| known != prompt);
        self.after_prompts.push_back((prompt.to_vec(), logits.to_vec()));
        if self.after_prompts.len() > LOGITS_KEPT {
            self.after_prompts.pop_front();
        }
    }

    /// Keeps the pages that an answer's sequence filled in this step, and its states at a stop.
    pub fn keep_pages(&mut self, number: u64, answer: &mut Answer) {
        let Timeline { sequence, planned, stops, .. } = &mut answer.timeline;
        if *planned > 0 && stops.contains(&sequence.len()) {
            sequence.checkpoint();
        }
        let (sequence, planned) = (&answer.timeline.sequence, answer.timeline.planned);
        let before = sequence.len().saturating_sub(planned);
        // The last page is stored for those that wait; this one writes to a copy then.
        let awaited = answer.timeline.left() == 0 || answer.decoding;
        let awaited = awaited && self.awaited.contains(&number);
        if awaited || sequence.len() / PAGE > before / PAGE {
            self.prefix.store(sequence, awaited);
            // Those of whole pages are kept with these now.
            let whole = sequence.len() / PAGE * PAGE;
            answer.timeline.sequence.forget_checkpoints(whole);
        }
    }

    /// Keeps all that an answer has read, when it ends.
    pub fn keep_all(&mut self, answer: &Answer) {
        self.prefix.store(&answer.timeline.sequence, true);
    }

    /// What is kept of the beginning of `tokens`.
    pub fn look(&mut self, tokens: &[u32]) -> Saved {
        let fixed = !self.timeline(Vec::new()).sequence.can_rewind();
        let found = self.prefix.find(&read(tokens), fixed);
        let (states, windows) =
            found.states.map(|states| (states.fixed, states.windows)).unwrap_or_default();
        Saved { tokens: tokens[..found.len].to_vec(), pages: found.pages, windows, states }
    }

    /// Keeps what was read elsewhere.
    pub fn keep(&mut self, saved: Saved) {
        let mut sequence = self.timeline(Vec::new()).sequence;
        let (len, windows) = (saved.tokens.len(), saved.windows);
        let states = Checkpoint { len, fixed: saved.states, windows };
        let states = (!sequence.can_rewind()).then_some(&states);
        sequence.adopt(&read(&saved.tokens), saved.pages, states);
        self.prefix.store(&sequence, true);
    }

    /// Forgets the pages that only `tokens` need.
    pub fn erase(&mut self, tokens: &[u32]) {
        self.prefix.erase(&read(tokens));
        self.after_prompts.clear();
    }

    /// Forgets everything that was kept.
    pub fn forget(&mut self) {
        self.prefix.clear();
        self.after_prompts.clear();
    }

    /// Pages in use, and how many of these are kept for prompts to come.
    #[must_use]
    pub fn pages(&self) -> (usize, usize) {
        (self.pool.used(), self.prefix.pages())
    }
}

/// Makes room for a timeline's next positions; kept pages go first.
fn reserve(timeline: &mut Timeline, count: usize, prefix: &mut PrefixCache) -> Result<(), NoRoom> {
    loop {
        match timeline.sequence.reserve(count) {
            Err(error) if !prefix.forget() => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

/// What positions read that read these tokens.
fn read(tokens: &[u32]) -> Vec<Read> {
    tokens.iter().copied().map(Read::Token).collect()
}
