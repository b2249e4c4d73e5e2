//! A text as a chain of symbols whose neighbours are merged, best pair first.
//!
//! Knows the order of merging; knows nothing of how pairs are ranked.

use super::steps;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// A text below 4 GiB cut into symbols that are merged with their right neighbour.
pub(super) struct Chain<'t> {
    text: &'t str,
    symbols: Vec<Symbol>,
}

/// Two neighbours, and their joined text.
pub(super) struct Pair<'t> {
    pub(super) left: &'t str,
    pub(super) right: &'t str,
    pub(super) joined: &'t str,
}

/// One symbol: `text[start..end]`, empty once merged into its left neighbour. Small numbers: a word of millions of
/// characters takes forty bytes for each.
struct Symbol {
    start: u32,
    end: u32,
    /// [`NONE`] at either end of the text.
    before: u32,
    after: u32,
}

/// Merges after which to ask whether to go on.
const MERGES_UNASKED: usize = 1024;
/// No symbol.
const NONE: u32 = u32::MAX;

impl Symbol {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl<'t> Chain<'t> {
    /// One symbol per character.
    pub(super) fn new(text: &'t str) -> Self {
        let symbol = |(i, (start, c)): (usize, (usize, char))| Symbol {
            start: start as u32,
            end: (start + c.len_utf8()) as u32,
            before: i.checked_sub(1).map_or(NONE, |before| before as u32),
            after: (i + 1) as u32,
        };
        let mut symbols = Vec::with_capacity(text.chars().count());
        symbols.extend(text.char_indices().enumerate().map(symbol));
        if let Some(last) = symbols.last_mut() {
            last.after = NONE;
        }
        Self { text, symbols }
    }

    /// Merges neighbours until `worth` is `None` for every pair: the pair of highest worth first, the leftmost on ties.
    /// Stops half way once `go_on` returns false.
    pub(super) fn merge_all<W: Ord>(
        &mut self,
        go_on: &dyn Fn() -> bool,
        worth: impl Fn(&Pair<'t>) -> Option<W>,
    ) {
        let mut queue = BinaryHeap::new();
        let offer = |chain: &Self, left: u32, queue: &mut BinaryHeap<_>| {
            if let Some(pair) = chain.pair(left)
                && let Some(worth) = worth(&pair)
            {
                steps::add(1);
                queue.push((worth, Reverse(left), pair.joined.len() as u32));
            }
        };
        for left in 0..self.symbols.len() {
            offer(self, left as u32, &mut queue);
        }
        let mut merged = 0_usize;
        while let Some((_, Reverse(left), len)) = queue.pop() {
            steps::add(1);
            merged += 1;
            if merged.is_multiple_of(MERGES_UNASKED) && !go_on() {
                return;
            }
            // Symbols only grow, so a pair of another length is a new pair, with its own entry in the queue.
            if self.pair(left).is_none_or(|pair| pair.joined.len() as u32 != len) {
                continue;
            }
            self.merge(left);
            offer(self, left, &mut queue);
            let before = self.symbols[left as usize].before;
            if before != NONE {
                offer(self, before, &mut queue);
            }
        }
    }

    /// The remaining symbols, in order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'t str> {
        self.symbols.iter().map(|s| &self.text[s.range()]).filter(|t| !t.is_empty())
    }

    /// A symbol and its right neighbour, if both still exist.
    fn pair(&self, left: u32) -> Option<Pair<'t>> {
        let a = &self.symbols[left as usize];
        let b = self.symbols.get(a.after as usize)?;
        (a.start < a.end).then(|| Pair {
            left: &self.text[a.range()],
            right: &self.text[b.range()],
            joined: &self.text[a.start as usize..b.end as usize],
        })
    }

    /// Merges a symbol with its right neighbour.
    fn merge(&mut self, left: u32) {
        let right = self.symbols[left as usize].after as usize;
        let Some(&Symbol { end, after, .. }) = self.symbols.get(right) else { return };
        self.symbols[left as usize].end = end;
        self.symbols[left as usize].after = after;
        self.symbols[right].start = end;
        self.symbols[right].after = NONE;
        if let Some(after) = self.symbols.get_mut(after as usize) {
            after.before = left;
        }
    }
}
