//! What was read is kept: pages of finished and running sequences, found again by their content.
//!
//! A tree of pages: a node's inputs follow those of its parent, and a page is found only by equality of all inputs from
//! the beginning, never by a hash alone. Where a page matches in part, its beginning is used. Knows nothing of
//! requests.

use crate::model::{Checkpoint, PAGE, Page, Read, Sequence};
use std::sync::Arc;

/// Index of a node.
type Id = usize;

/// Pages by what was read.
pub struct PrefixCache {
    /// Vacant places are `None`.
    nodes: Vec<Option<Node>>,
    vacant: Vec<Id>,
    roots: Vec<Id>,
    limits: Kept,
    stored: Kept,
    clock: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Pages.
    pub pages: usize,
    /// Places whose states of fixed size are kept.
    pub states: usize,
}

struct Node {
    parent: Option<Id>,
    children: Vec<Id>,
    /// What the page's positions read: [`PAGE`] inputs, fewer only in a node without children.
    read: Vec<Read>,
    page: Arc<Page>,
    /// The states of fixed size after some of its positions, in order, if the model has any; and when each was stored or
    /// found.
    states: Vec<(Checkpoint, u64)>,
    /// When it was used last.
    used: u64,
    /// Whether all of it was found again after it was stored.
    came_back: bool,
}

/// Where a beginning is stored.
#[derive(Default)]
struct Place {
    len: usize,
    /// Nodes from the root on, before the last.
    before: usize,
    /// The last, and whether it is met whole.
    last: (Id, bool),
    /// Which of the last one's states are those there.
    states: Option<usize>,
}

/// A stored beginning of an input.
#[derive(Default)]
pub struct Found {
    /// Positions.
    pub len: usize,
    /// Their pages; the last may hold more positions.
    pub pages: Vec<Arc<Page>>,
    /// The states of fixed size after them, if the model has any.
    pub states: Option<Checkpoint>,
}

impl PrefixCache {
    /// A cache of at most so much.
    #[must_use]
    pub fn new(limits: Kept) -> Self {
        let (nodes, vacant, roots) = (Vec::new(), Vec::new(), Vec::new());
        Self { nodes, vacant, roots, limits, stored: Kept::default(), clock: 0 }
    }

    /// Pages stored.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.stored.pages
    }

    /// Places whose states of fixed size are stored.
    #[cfg(test)]
    #[must_use]
    pub fn states(&self) -> usize {
        self.stored.states
    }

    /// The longest stored beginning of `read`. `fixed`: whether the model has states of fixed size, so that only a
    /// place where these were kept will do.
    pub fn find(&mut self, read: &[Read], fixed: bool) -> Found {
        self.clock += 1;
        let mut best = Place::default();
        let (mut path, mut at) = (Vec::new(), 0);
        let mut children = self.roots.as_slice();
        loop {
            let alike = children.iter().filter_map(|id| Some((*id, self.nodes[*id].as_ref()?)));
            let alike = alike.map(|(id, node)| {
                let common = node.read.iter().zip(&read[at..]).take_while(|(a, b)| a == b).count();
                (common, id, node)
            });
            let alike: Vec<(usize, Id, &Node)> = alike.filter(|(common, ..)| *common > 0).collect();
            for (common, id, node) in &alike {
                let states = node.states.iter().rposition(|(s, _)| fixed && s.len <= at + common);
                let len = match states {
                    Some(index) => node.states[index].0.len,
                    None if fixed => continue,
                    None => at + common,
                };
                if len > best.len {
                    let last = (*id, *common == node.read.len());
                    best = Place { len, before: path.len(), last, states };
                }
            }
            let Some((common, id, node)) = alike.into_iter().max_by_key(|(n, ..)| *n) else {
                break;
            };
            if common < PAGE {
                break;
            }
            at += common;
            path.push((id, true));
            children = &node.children;
        }
        path.truncate(best.before);
        path.extend((best.len > 0).then_some(best.last));
        self.take(&best, &path)
    }

    /// What is stored at a place that was found, used now.
    fn take(&mut self, place: &Place, path: &[(Id, bool)]) -> Found {
        let mut found = Found { len: place.len, ..Found::default() };
        for (index, (id, whole)) in path.iter().enumerate() {
            let Some(node) = &mut self.nodes[*id] else { continue };
            node.used = self.clock;
            // All conversations of a template begin alike, which is no coming back.
            node.came_back |= *whole;
            found.pages.push(Arc::clone(&node.page));
            if let (true, Some(states)) = (index == place.before, place.states) {
                let (states, used) = &mut node.states[states];
                *used = self.clock;
                found.states = Some(states.clone());
            }
        }
        found
    }

    /// Stores the whole pages of a sequence, and its last page as well if `all`: then nothing is to be written to it
    /// any more without a copy.
    pub fn store(&mut self, sequence: &Sequence, all: bool) {
        self.clock += 1;
        let (read, mut parent) = (sequence.read(), None);
        for (page, (index, part)) in sequence.pages().iter().zip(read.chunks(PAGE).enumerate()) {
            if part.len() < PAGE && !all {
                return;
            }
            let (first, end) = (index * PAGE, index * PAGE + part.len());
            let within = |states: &&Checkpoint| (first + 1..=end).contains(&states.len);
            let mut states: Vec<Checkpoint> =
                sequence.checkpoints().iter().filter(within).cloned().collect();
            if end == read.len() && !sequence.can_rewind() {
                states.push(sequence.here());
            }
            let Some(id) = self.place(parent, part, page, states) else { return };
            parent = Some(id);
        }
        self.shrink();
    }

    /// The node for a page's inputs after those of `parent`: found, extended or new. `None`: a longer one is there.
    fn place(
        &mut self,
        parent: Option<Id>,
        part: &[Read],
        page: &Arc<Page>,
        states: Vec<Checkpoint>,
    ) -> Option<Id> {
        let clock = self.clock;
        let children = match parent {
            Some(parent) => self.nodes[parent].as_ref()?.children.clone(),
            None => self.roots.clone(),
        };
        for id in children {
            let Some(node) = &mut self.nodes[id] else { continue };
            if node.read.starts_with(part) {
                node.used = clock;
                self.stored.states += node.add(states, clock);
                return (node.read.len() == part.len()).then_some(id);
            }
            if part.starts_with(&node.read) && !node.page.is_in_file() {
                // A last page that was read on.
                (node.read, node.page, node.used) = (part.to_vec(), Arc::clone(page), clock);
                self.stored.states += node.add(states, clock);
                return Some(id);
            }
        }
        let mut node = Node {
            parent,
            children: Vec::new(),
            read: part.to_vec(),
            page: Arc::clone(page),
            states: Vec::new(),
            used: clock,
            came_back: false,
        };
        self.stored.states += node.add(states, clock);
        let id = self.vacant.pop().unwrap_or(self.nodes.len());
        if id == self.nodes.len() {
            self.nodes.push(Some(node));
        } else {
            self.nodes[id] = Some(node);
        }
        match parent.and_then(|parent| self.nodes[parent].as_mut()) {
            Some(parent) => parent.children.push(id),
            None => self.roots.push(id),
        }
        self.stored.pages += usize::from(!page.is_in_file());
        Some(id)
    }

    fn shrink(&mut self) {
        while self.stored.pages > self.limits.pages && self.forget() {}
        while self.stored.states > self.limits.states {
            let places = self.nodes.iter().enumerate().flat_map(|(id, node)| {
                let node = node.iter().flat_map(|node| &node.states).enumerate();
                node.map(move |(index, (states, used))| (*used, states.len, id, index))
            });
            // Of those of one conversation, the earliest.
            let Some((_, _, id, index)) = places.min() else { return };
            if let Some(node) = &mut self.nodes[id] {
                node.states.remove(index);
                self.stored.states -= 1;
            }
        }
    }

    /// Forgets one page: the one used longest ago of those that never came back, else of those that did. Returns
    /// whether there was one. Only the ends of the tree can go, since a page is of no use without those before it.
    pub fn forget(&mut self) -> bool {
        let ends = self.nodes.iter().enumerate().filter_map(|(id, node)| {
            let node = node.as_ref().filter(|node| node.children.is_empty())?;
            // In a file, it takes no memory.
            let kept = node.page.is_in_file();
            (!kept).then_some((node.came_back, node.used, id))
        });
        let Some((_, _, id)) = ends.min() else { return false };
        self.remove(id);
        true
    }

    /// Forgets the pages of `read` that serve nothing else.
    pub fn erase(&mut self, read: &[Read]) {
        let (mut path, mut children) = (Vec::new(), self.roots.clone());
        for part in read.chunks(PAGE) {
            let is_it = |id: &Id| self.nodes[*id].as_ref().is_some_and(|node| node.read == part);
            let Some(id) = children.iter().copied().find(is_it) else { break };
            path.push(id);
            children =
                self.nodes[id].as_ref().map(|node| node.children.clone()).unwrap_or_default();
        }
        for id in path.into_iter().rev() {
            let goes = |node: &Node| node.children.is_empty() && !node.page.is_in_file();
            if self.nodes[id].as_ref().is_some_and(goes) {
                self.remove(id);
            }
        }
    }

    fn remove(&mut self, id: Id) {
        if let Some(node) = self.nodes[id].take() {
            let siblings = match node.parent.and_then(|parent| self.nodes[parent].as_mut()) {
                Some(parent) => &mut parent.children,
                None => &mut self.roots,
            };
            siblings.retain(|sibling| *sibling != id);
            self.vacant.push(id);
            self.stored.pages -= usize::from(!node.page.is_in_file());
            self.stored.states -= node.states.len();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }
}

impl Node {
    /// Adds states of other places, and returns how many these were.
    fn add(&mut self, states: Vec<Checkpoint>, clock: u64) -> usize {
        let before = self.states.len();
        for states in states {
            match self.states.binary_search_by_key(&states.len, |(known, _)| known.len) {
                Ok(index) => self.states[index].1 = clock,
                Err(index) => self.states.insert(index, (states, clock)),
            }
        }
        self.states.len() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{CacheType, CachedMut};
    use crate::model::{Fixed, KvHeads, PagePool, PageShape};

    fn pool() -> Arc<PagePool> {
        let heads = KvHeads { count: 1, key_dim: 1, value_dim: 1 };
        let shape = PageShape::of(&[Some(heads)], CacheType::F32, CacheType::F32);
        PagePool::new(shape, usize::MAX)
    }

    /// Reads on as a model would: each position's value is a hash of all tokens up to it.
    fn read(sequence: &mut Sequence, tokens: &[u32]) {
        for token in tokens {
            sequence.reserve(1).unwrap();
            let at = sequence.len();
            let before = if at == 0 { 7 } else { value(sequence, at - 1) };
            let hash = before.wrapping_mul(31).wrapping_add(*token).rotate_left(5);
            let fresh = sequence.fresh(0, 1).unwrap();
            let mut pages = fresh.pages;
            let [_, CachedMut::F32(values)] = &mut pages[0] else { panic!("another type") };
            values[fresh.at] = f32::from_bits(hash & 0x3fff_ffff);
            drop(pages);
            sequence.advance([Read::Token(*token)]);
        }
    }

    fn value(sequence: &Sequence, position: usize) -> u32 {
        let past = sequence.past(0, 0, true).unwrap();
        let crate::kernels::Cached::F32(values) = past.pages[position / PAGE][1] else {
            panic!("another type")
        };
        values[position % PAGE].to_bits()
    }

    fn tokens(read: &[u32]) -> Vec<Read> {
        read.iter().copied().map(Read::Token).collect()
    }

    /// A sequence of `wanted` that takes over what is stored, and how much that was.
    fn run(cache: &mut PrefixCache, pool: &Arc<PagePool>, wanted: &[u32]) -> (Sequence, usize) {
        let found = cache.find(&tokens(wanted), false);
        let mut sequence = Sequence::new(Arc::clone(pool), 10_000, Vec::new());
        sequence.adopt(&tokens(&wanted[..found.len]), found.pages, None);
        read(&mut sequence, &wanted[found.len..]);
        (sequence, found.len)
    }

    /// Small alphabets and copied beginnings make conversations as alike as can be.
    #[test]
    fn thousands_of_like_conversations_never_get_each_others_pages() {
        let (pool, mut cache) = (pool(), PrefixCache::new(Kept { pages: 200, states: 100 }));
        let mut random = 12345_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % below
        };
        let mut known: Vec<Vec<u32>> = vec![Vec::new()];
        let mut reused = 0;
        for _ in 0..4000 {
            let of = known[next(known.len())].clone();
            let mut wanted = of[..next(of.len() + 1)].to_vec();
            wanted.extend((0..next(150)).map(|_| next(2) as u32));
            let (sequence, found) = run(&mut cache, &pool, &wanted);
            reused += found;
            let mut alone = Sequence::new(Arc::clone(&pool), 10_000, Vec::new());
            read(&mut alone, &wanted);
            for position in 0..wanted.len() {
                assert_eq!(value(&sequence, position), value(&alone, position), "at {position}");
            }
            cache.store(&sequence, true);
            assert!(cache.pages() <= 200);
            if wanted.len() < 600 {
                known.push(wanted);
            }
            if known.len() > 50 {
                known.remove(next(50));
            }
        }
        assert!(reused > 10_000, "{reused}");
        cache.clear();
        assert_eq!((pool.used(), cache.pages()), (0, 0), "a page is left");
    }

    #[test]
    fn alternating_conversations_and_edited_turns_compute_only_what_is_new() {
        let (pool, mut cache) = (pool(), PrefixCache::new(Kept { pages: 100, states: 100 }));
        let talk = |which: u32, n: u32| (0..n).map(|i| i * which).collect::<Vec<_>>();
        for (which, n, expected) in [
            (3, 200, 0),
            (5, 150, 1), // both begin with token 0
            (3, 260, 200),
            (5, 300, 150),
            (3, 260, 260),
            (3, 230, 230),
        ] {
            let (sequence, found) = run(&mut cache, &pool, &talk(which, n));
            assert_eq!(found, expected, "{which} {n}");
            cache.store(&sequence, true);
        }
        let mut edited = talk(3, 260);
        edited[100] = 7;
        assert_eq!(cache.find(&tokens(&edited), false).len, 100);
    }

    #[test]
    fn erasing_leaves_what_others_use() {
        let (pool, mut cache) = (pool(), PrefixCache::new(Kept { pages: 100, states: 100 }));
        let talk = |last: u32| (0..200).chain([last]).collect::<Vec<u32>>();
        for last in [1, 2] {
            let (sequence, _) = run(&mut cache, &pool, &talk(last));
            cache.store(&sequence, true);
        }
        cache.erase(&tokens(&talk(1)));
        assert_eq!(cache.find(&tokens(&talk(2)), false).len, 201);
        cache.erase(&tokens(&talk(2)));
        assert_eq!((cache.pages(), cache.find(&tokens(&talk(2)), false).len), (0, 0));
    }

    #[test]
    fn what_never_comes_back_does_not_push_out_what_does() {
        let (pool, mut cache) = (pool(), PrefixCache::new(Kept { pages: 10, states: 100 }));
        let talk: Vec<u32> = (0..300).collect();
        for _ in 0..2 {
            let (sequence, _) = run(&mut cache, &pool, &talk);
            cache.store(&sequence, true);
        }
        for other in 1..50 {
            let once: Vec<u32> = (0..200).map(|i| other * 1000 + i).collect();
            let (sequence, _) = run(&mut cache, &pool, &once);
            cache.store(&sequence, true);
        }
        assert_eq!(cache.find(&tokens(&talk), false).len, 300);
    }

    #[test]
    fn with_states_of_fixed_size_only_their_places_are_found() {
        let (pool, mut cache) = (pool(), PrefixCache::new(Kept { pages: 100, states: 100 }));
        let mut sequence = Sequence::new(Arc::clone(&pool), 1000, vec![Fixed::new(vec![0.0])]);
        let all: Vec<u32> = (0..200).collect();
        for (start, end) in [(0, 128), (128, 150)] {
            read(&mut sequence, &all[start..end]);
            sequence.stage(0, vec![end as f32]);
            sequence.advance([]);
            cache.store(&sequence, true);
        }
        let mut check = |asked: usize, expected: usize| {
            let found = cache.find(&tokens(&all[..asked]), true);
            assert_eq!(found.len, expected, "{asked}");
            let state = found.states.map_or(0, |s| s.fixed[0][0] as usize);
            assert_eq!(state, expected);
            assert_eq!(found.pages.len(), expected.div_ceil(PAGE));
        };
        for (asked, expected) in [(200, 150), (150, 150), (149, 128), (100, 0)] {
            check(asked, expected);
        }
    }

    /// Reads `tokens` in one pass that stops at some of them.
    fn read_with_stops(sequence: &mut Sequence, tokens: &[u32], stops: &[usize]) {
        let before = sequence.len();
        sequence.reserve(tokens.len()).unwrap();
        for rows in stops.iter().copied().chain([tokens.len()]) {
            sequence.stage(rows, vec![(before + rows) as f32]);
        }
        sequence.advance(tokens.iter().copied().map(Read::Token));
    }

    #[test]
    fn states_are_found_at_every_stop_and_the_oldest_go_first() {
        let (pool, all) = (pool(), (0..200).collect::<Vec<u32>>());
        let mut cache = PrefixCache::new(Kept { pages: 100, states: 4 });
        let mut sequence = Sequence::new(Arc::clone(&pool), 1000, vec![Fixed::new(vec![0.0])]);
        read_with_stops(&mut sequence, &all[..130], &[10, 70, 75]);
        cache.store(&sequence, true);
        let found = |cache: &mut PrefixCache, asked: usize| {
            let found = cache.find(&tokens(&all[..asked]), true);
            assert_eq!(found.states.map_or(0, |s| s.fixed[0][0] as usize), found.len);
            found.len
        };
        for (asked, expected) in [(200, 130), (129, 75), (74, 70), (69, 10), (9, 0)] {
            assert_eq!(found(&mut cache, asked), expected, "{asked}");
        }
        // Of the four places, that at 75 was used last but for those after it was asked for.
        assert_eq!((cache.states(), found(&mut cache, 72)), (4, 70));
        let mut other = sequence.fork();
        read_with_stops(&mut other, &all[130..150], &[]);
        cache.store(&other, true);
        assert_eq!(cache.states(), 4);
        assert_eq!((found(&mut cache, 150), found(&mut cache, 72)), (150, 70));
        cache.erase(&tokens(&all[..150]));
        assert_eq!((cache.states(), cache.pages()), (0, 0));
    }
}
