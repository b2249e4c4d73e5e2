//! A sequence: what was read, and what each layer keeps of it.
//!
//! Attention keeps keys and values in pages, which sequences with equal beginnings share; where its windows slide, only
//! those that they reach, if these pages are apart. Other mixers keep a state of fixed size (`Fixed`). Neither can be cut:
//! going back means restoring a checkpoint. Knows nothing of text, sockets or other sequences.

use super::pages::{NoRoom, PAGE, Page, PagePool};
use crate::kernels::{CachedMut, Fresh, Past};
use std::sync::Arc;

/// One input at one position. Two sequences with equal inputs have equal states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Read {
    /// A token id.
    Token(u32),
    /// An embedding that is no token's: a hash of its elements.
    Embedding(u128),
}

/// A state of fixed size: that of a recurrent mixer. A copy shares its elements until one of both changes.
pub type Fixed = Arc<Vec<f32>>;

/// What layers have after a number of positions that can't be cut.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Positions read.
    pub len: usize,
    /// One for each layer that has a state of fixed size, in order.
    pub fixed: Vec<Fixed>,
    /// The pages that sliding windows reach, if these are apart; the last may hold more positions.
    pub windows: Vec<Arc<Page>>,
}

/// What was read so far, and what the layers keep of it.
pub struct Sequence {
    pool: Arc<PagePool>,
    context: usize,
    read: Vec<Read>,
    /// At least one for each [`PAGE`] positions read.
    pages: Vec<Arc<Page>>,
    /// The same of layers with sliding windows, if they are apart; `None` where no window reaches any more.
    windows: Vec<Option<Arc<Page>>>,
    fixed: Vec<Fixed>,
    /// Places within the positions being computed that are remembered.
    marked: Vec<usize>,
    /// States after so many of the positions being computed, which count when all layers are done.
    staged: Vec<Checkpoint>,
    /// Whether states above were taken to be changed in place.
    taken: bool,
    /// Buffers of states that nobody has any more.
    spare: Vec<Vec<f32>>,
    /// The states before anything was read.
    blank: Vec<Fixed>,
    /// Earlier states to go back to, in order of their positions.
    checkpoints: Vec<Checkpoint>,
}

impl Sequence {
    /// An empty sequence of at most `context` positions. `blank` are the initial states of the layers that keep one of
    /// fixed size.
    #[must_use]
    pub fn new(pool: Arc<PagePool>, context: usize, blank: Vec<Fixed>) -> Self {
        Self {
            pool,
            context,
            read: Vec::new(),
            pages: Vec::new(),
            windows: Vec::new(),
            fixed: blank.clone(),
            marked: Vec::new(),
            staged: Vec::new(),
            taken: false,
            spare: Vec::new(),
            blank,
            checkpoints: Vec::new(),
        }
    }

    /// Positions read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read.len()
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Maximum number of positions.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// What was read.
    #[must_use]
    pub fn read(&self) -> &[Read] {
        &self.read
    }

    /// The pages of what was read.
    #[must_use]
    pub fn pages(&self) -> &[Arc<Page>] {
        &self.pages[..self.read.len().div_ceil(PAGE)]
    }

    /// The states of fixed size after the last position; empty for a model without any.
    #[must_use]
    pub fn fixed(&self) -> &[Fixed] {
        &self.fixed
    }

    /// Whether it can go back to any position.
    #[must_use]
    pub fn can_rewind(&self) -> bool {
        self.fixed.is_empty() && self.pool.windows().is_none()
    }

    /// What can't be cut, after all that was read.
    #[must_use]
    pub fn here(&self) -> Checkpoint {
        let (len, fixed) = (self.len(), self.fixed.clone());
        Checkpoint { len, fixed, windows: self.windows_at(len) }
    }

    /// The pages of windows that are needed to go on after `len` positions.
    fn windows_at(&self, len: usize) -> Vec<Arc<Page>> {
        let reached = self.windows.get(self.pool.reached(len)).unwrap_or_default();
        reached.iter().flatten().cloned().collect()
    }

    /// Another sequence with the same past. They share their pages until one of them writes.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            context: self.context,
            read: self.read.clone(),
            pages: self.pages().to_vec(),
            windows: self.windows.iter().take(self.pages().len()).cloned().collect(),
            fixed: self.fixed.clone(),
            marked: Vec::new(),
            staged: Vec::new(),
            taken: false,
            spare: Vec::new(),
            blank: self.blank.clone(),
            checkpoints: self.checkpoints.clone(),
        }
    }

    /// Replaces what was read by `read`, whose keys and values are in `pages` (the last may hold more positions) and
    /// whose states of fixed size, if the model has any, are in `states`. This is how a past found in a cache is taken
    /// over.
    ///
    /// # Panics
    /// When there are fewer pages than `read` needs, or the states are of another position.
    pub fn adopt(&mut self, read: &[Read], pages: Vec<Arc<Page>>, states: Option<&Checkpoint>) {
        assert!(pages.len() * PAGE >= read.len(), "{} pages for {}", pages.len(), read.len());
        self.read = read.to_vec();
        self.pages = pages;
        self.checkpoints.clear();
        if let Some(states) = states {
            assert_eq!(states.len, read.len(), "the states of another position");
        }
        self.take_over(states);
    }

    /// Takes the states and windows of a checkpoint, or those before anything was read.
    fn take_over(&mut self, states: Option<&Checkpoint>) {
        let Some(states) = states else {
            self.fixed = self.blank.clone();
            self.windows.clear();
            return;
        };
        self.fixed.clone_from(&states.fixed);
        self.windows = vec![None; self.pool.reached(states.len).start];
        self.windows.extend(states.windows.iter().cloned().map(Some));
    }

    /// Remembers the states here, so that [`Sequence::rewind`] can come back. Free for a model without states of fixed
    /// size.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let here = self.here();
        if !self.can_rewind() {
            self.keep(here.clone());
        }
        here
    }

    fn keep(&mut self, states: Checkpoint) {
        if self.checkpoints.last().is_none_or(|last| last.len < states.len) {
            self.checkpoints.push(states);
        }
    }

    /// Earlier states to go back to, in order of their positions.
    #[must_use]
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// Goes back to `to` positions, or as near before it as the states allow, and returns how many are left.
    pub fn rewind(&mut self, to: usize) -> usize {
        if to >= self.len() {
            return self.len();
        }
        let reached = self.windows.get(self.pool.reached(to)).unwrap_or_default();
        if self.fixed.is_empty() && reached.iter().all(Option::is_some) {
            self.checkpoints.retain(|checkpoint| checkpoint.len <= to);
            self.cut(to);
            return to;
        }
        self.restore(to)
    }

    /// Goes back to the last states kept at up to `to` positions, and returns how many are left.
    fn restore(&mut self, to: usize) -> usize {
        self.checkpoints.retain(|checkpoint| checkpoint.len <= to);
        let last = self.checkpoints.last().cloned();
        let reached = last.as_ref().map_or(0, |last| last.len);
        self.take_over(last.as_ref());
        self.cut(reached);
        reached
    }

    fn cut(&mut self, to: usize) {
        self.read.truncate(to);
        self.pages.truncate(to.div_ceil(PAGE));
        self.windows.truncate(to.div_ceil(PAGE));
    }

    /// Forgets the states kept at up to `to` positions: someone else has them.
    pub fn forget_checkpoints(&mut self, to: usize) {
        self.checkpoints.retain(|checkpoint| checkpoint.len > to);
    }

    /// Makes room for `n` more positions, all or nothing. A page that others share is copied if it will be written.
    ///
    /// # Errors
    /// When the pool has too few pages; nothing has changed then.
    pub fn reserve(&mut self, n: usize) -> Result<(), NoRoom> {
        let len = self.len();
        let (count, next) = (self.pages.len(), self.pages.get_mut(len / PAGE));
        let grown = Growth::plan(&self.pool, next, count, (len, n))?;
        let of_windows = match self.pool.windows() {
            Some((pool, _)) => {
                let (count, next) = (self.windows.len(), self.windows.get_mut(len / PAGE));
                Some(Growth::plan(pool, next.and_then(Option::as_mut), count, (len, n))?)
            }
            None => None,
        };
        // Reserved pages are never shared: `fork` and the cache take only those of what was read.
        if let Some(copy) = grown.copy {
            self.pages[len / PAGE] = copy;
        }
        self.pages.extend(grown.more);
        if let Some(grown) = of_windows {
            if let Some(copy) = grown.copy {
                self.windows[len / PAGE] = Some(copy);
            }
            self.windows.extend(grown.more.into_iter().map(Some));
        }
        Ok(())
    }

    /// Whether [`Sequence::reserve`] made room for `n` more positions.
    #[must_use]
    pub fn has_room(&mut self, n: usize) -> bool {
        let first = self.len() / PAGE;
        let end = (self.len() + n).div_ceil(PAGE);
        let is_there = |page: &mut Option<Arc<Page>>| page.as_mut().is_some_and(is_own);
        let windows = self.pool.windows().is_none()
            || end <= self.windows.len() && self.windows.iter_mut().skip(first).all(is_there);
        windows && end <= self.pages.len() && self.pages.iter_mut().skip(first).all(is_own)
    }

    /// Where a layer's keys and values of `rows` new positions go; `None` if the layer has none of its own or there is
    /// no room.
    pub fn fresh(&mut self, layer: usize, rows: usize) -> Option<Fresh<'_>> {
        let (first, at) = (self.len() / PAGE, self.len() % PAGE);
        let end = (self.len() + rows).div_ceil(PAGE);
        let pages = if self.pool.shape().holds(layer) {
            let pages = self.pages.get_mut(first..end)?.iter_mut();
            pages.map(|page| Arc::get_mut(page)?.layer_mut(layer)).collect::<Option<Vec<_>>>()
        } else {
            let pages = self.windows.get_mut(first..end)?.iter_mut();
            let own = |page| own_layer(page, layer);
            pages.map(own).collect::<Option<Vec<_>>>()
        };
        Some(Fresh { at, rows, pages: pages? })
    }

    /// A layer's keys and values of all positions, `rows` new ones included; `None` if the layer has none of its own.
    #[must_use]
    pub fn past(&self, layer: usize, rows: usize, causal: bool) -> Option<Past<'_>> {
        let end = (self.len() + rows).div_ceil(PAGE);
        let pages = match self.pool.windows() {
            Some((pool, _)) if !self.pool.shape().holds(layer) => {
                // What no window reaches is not read.
                let pages = self.windows.get(..end)?.iter();
                pages.map(|page| Page::layer_of(page.as_ref(), pool, layer)).collect()
            }
            _ => self.pages.get(..end)?.iter().map(|page| page.layer(layer)).collect(),
        };
        let pages: Option<Vec<_>> = pages;
        Some(Past { len: self.len(), rows, causal, pages: pages? })
    }

    /// A buffer for a state of `len` elements, with whatever is in it.
    pub fn spare(&mut self, len: usize) -> Vec<f32> {
        let fitting = self.spare.iter().position(|buffer| buffer.len() == len);
        fitting.map_or_else(|| vec![0.0; len], |index| self.spare.swap_remove(index))
    }

    /// Sets a layer's state of fixed size after `rows` of the positions being computed; it counts after
    /// [`Sequence::advance`]. Layers come in order, with the same numbers of rows.
    pub fn stage(&mut self, rows: usize, state: Vec<f32>) {
        let place = self.staged.iter().position(|staged| staged.len == rows);
        let place = place.unwrap_or_else(|| {
            self.staged.push(Checkpoint { len: rows, fixed: Vec::new(), windows: Vec::new() });
            self.staged.len() - 1
        });
        self.staged[place].fixed.push(Fixed::new(state));
    }

    /// Takes a layer's state of fixed size, to be changed in place and staged. It is copied if others have it too.
    pub fn take_state(&mut self, slot: usize) -> Vec<f32> {
        self.taken = true;
        let state = std::mem::take(&mut self.fixed[slot]);
        Fixed::try_unwrap(state).unwrap_or_else(|shared| {
            let mut copy = self.spare(shared.len());
            copy.copy_from_slice(&shared);
            copy
        })
    }

    /// Remembers places within the positions being computed, counted from where they begin, so that
    /// [`Sequence::rewind`] can come back to them; [`Sequence::advance`] takes this up. Mixers with states of fixed size
    /// stage theirs at the same places.
    pub fn mark(&mut self, places: &[usize]) {
        self.marked.clear();
        self.marked.extend_from_slice(places);
    }

    /// Gives a pass up. If states were changed in place, goes back to earlier ones.
    pub fn unstage(&mut self) {
        self.staged.clear();
        self.marked.clear();
        if std::mem::take(&mut self.taken) {
            self.restore(self.len());
        }
    }

    /// Counts positions whose keys, values and states all layers have computed.
    pub fn advance(&mut self, inputs: impl IntoIterator<Item = Read>) {
        let before = self.len();
        self.taken = false;
        self.read.extend(inputs);
        let marked = std::mem::take(&mut self.marked);
        if self.fixed.is_empty() && !self.can_rewind() {
            let within = |rows: &usize| before + rows < self.len();
            for len in
                marked.into_iter().filter(within).map(|rows| before + rows).collect::<Vec<_>>()
            {
                self.keep(Checkpoint { len, fixed: Vec::new(), windows: self.windows_at(len) });
            }
        }
        for mut staged in std::mem::take(&mut self.staged) {
            staged.len += before;
            if staged.len < self.len() {
                staged.windows = self.windows_at(staged.len);
                self.keep(staged);
            } else {
                let old = std::mem::replace(&mut self.fixed, staged.fixed);
                let buffers = old.into_iter().filter_map(Fixed::into_inner);
                // What was taken to be changed in place left nothing behind.
                self.spare.extend(buffers.filter(|buffer| !buffer.is_empty()));
            }
        }
        let reached = self.pool.reached(self.len()).start;
        let beyond = self.windows.iter_mut().take(reached).rev();
        beyond.take_while(|page| page.is_some()).for_each(|page| *page = None);
    }
}

/// Pages that are needed for more positions.
struct Growth {
    /// A copy of the page in which the next position lies, if others have that one.
    copy: Option<Arc<Page>>,
    more: Vec<Arc<Page>>,
}

impl Growth {
    /// Takes what `n` positions after `len` need beside `pages` pages, the one of the next position being `next`.
    fn plan(
        pool: &Arc<PagePool>,
        next: Option<&mut Arc<Page>>,
        pages: usize,
        (len, n): (usize, usize),
    ) -> Result<Self, NoRoom> {
        // It is written, and is shared with others at times.
        let shared = next.filter(|_| n > 0 && !len.is_multiple_of(PAGE));
        let shared = shared.and_then(|page| if is_own(page) { None } else { Some(&*page) });
        let more = (len + n).div_ceil(PAGE).saturating_sub(pages);
        let mut more = pool.take(more + usize::from(shared.is_some()))?;
        let copy = shared.map(|page| {
            let mut copy = more.remove(0);
            if let Some(copy) = Arc::get_mut(&mut copy) {
                copy.bytes_mut().copy_from_slice(page.bytes());
            }
            copy
        });
        Ok(Self { copy, more })
    }
}

/// A layer's keys and values in a page that can be written.
fn own_layer(page: &mut Option<Arc<Page>>, layer: usize) -> Option<[CachedMut<'_>; 2]> {
    Arc::get_mut(page.as_mut()?)?.layer_mut(layer)
}

/// Whether a page can be written: nobody else has it, and it is in memory.
fn is_own(page: &mut Arc<Page>) -> bool {
    Arc::get_mut(page).is_some_and(|page| !page.is_in_file())
}

#[cfg(test)]
mod tests {
    use super::super::pages::PageShape;
    use super::super::spec::KvHeads;
    use super::*;
    use crate::kernels::CacheType;

    fn pool(pages: usize) -> Arc<PagePool> {
        let heads = KvHeads { count: 1, key_dim: 4, value_dim: 4 };
        let shape = PageShape::of(&[Some(heads)], CacheType::F32, CacheType::F32);
        let bytes = shape.bytes();
        PagePool::new(shape, pages * bytes)
    }

    fn read(sequence: &mut Sequence, n: usize) {
        sequence.reserve(n).unwrap();
        assert!(sequence.has_room(n));
        sequence.advance((0..n as u32).map(Read::Token));
    }

    #[test]
    fn a_failed_growth_leaves_everything_as_it_was() {
        let pool = pool(3);
        let mut sequence = Sequence::new(Arc::clone(&pool), 1000, Vec::new());
        read(&mut sequence, 100);
        assert_eq!(pool.used(), 2);
        assert!(sequence.reserve(100).is_err());
        assert_eq!((pool.used(), sequence.len(), sequence.pages().len()), (2, 100, 2));
        read(&mut sequence, 92);
        assert_eq!(pool.used(), 3);
    }

    #[test]
    fn forks_share_pages_until_one_writes() {
        let pool = pool(9);
        let mut first = Sequence::new(Arc::clone(&pool), 1000, Vec::new());
        read(&mut first, 100);
        let mut second = first.fork();
        assert_eq!(pool.used(), 2);
        read(&mut second, 1);
        assert_eq!(pool.used(), 3, "the second page was copied");
        assert!(Arc::ptr_eq(&first.pages()[0], &second.pages()[0]));
        assert!(!Arc::ptr_eq(&first.pages()[1], &second.pages()[1]));
        read(&mut first, 1);
        assert_eq!(pool.used(), 3, "nobody else has that page now");
        // At the end of a page nothing is shared that is written.
        let mut third = second.fork();
        third.rewind(64);
        read(&mut third, 1);
        assert_eq!(pool.used(), 4);
    }

    #[test]
    fn a_pass_that_is_given_up_leaves_states_that_were_kept() {
        let mut sequence = Sequence::new(pool(9), 1000, vec![Fixed::new(vec![0.0])]);
        let pass = |sequence: &mut Sequence, state: f32, done: bool| {
            sequence.reserve(1).unwrap();
            let mut own = sequence.take_state(0);
            let before = own[0];
            own[0] = state;
            sequence.stage(1, own);
            if done {
                sequence.advance([Read::Token(1)]);
            } else {
                sequence.unstage();
            }
            before
        };
        assert_eq!(pass(&mut sequence, 1.0, true).to_bits(), 0.0_f32.to_bits());
        sequence.checkpoint();
        assert_eq!(pass(&mut sequence, 2.0, true).to_bits(), 1.0_f32.to_bits());
        pass(&mut sequence, 3.0, false);
        // What was kept was not changed, and there it is.
        assert_eq!((sequence.len(), sequence.fixed()[0][0].to_bits()), (1, 1.0_f32.to_bits()));
        let mut fork = sequence.fork();
        for _ in 0..50 {
            pass(&mut fork, 4.0, true);
        }
        assert!(fork.spare.len() <= 1, "{} buffers", fork.spare.len());
        assert_eq!(sequence.fixed()[0][0].to_bits(), 1.0_f32.to_bits());
    }

    #[test]
    fn states_of_fixed_size_go_back_to_checkpoints_only() {
        let blank = vec![Fixed::new(vec![0.0])];
        let mut sequence = Sequence::new(pool(9), 1000, blank);
        for at in 1..=5_u32 {
            sequence.reserve(10).unwrap();
            sequence.stage(10, vec![at as f32]);
            sequence.advance((0..10).map(Read::Token));
            if at.is_multiple_of(2) {
                sequence.checkpoint();
            }
        }
        assert_eq!((sequence.rewind(45), sequence.fixed()[0][0]), (40, 4.0));
        assert_eq!((sequence.rewind(39), sequence.fixed()[0][0]), (20, 2.0));
        assert_eq!((sequence.rewind(19), sequence.fixed()[0][0]), (0, 0.0));
        assert!(sequence.is_empty());
    }
}
