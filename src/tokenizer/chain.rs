//! A text as a chain of symbols whose neighbours are merged, best pair first.
//!
//! Knows the order of merging; knows nothing of how pairs are ranked.

use super::steps;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A text cut into symbols that are merged with their right neighbour.
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

/// One symbol: `text[start..end]`, empty once merged into its left neighbour.
struct Symbol {
    start: usize,
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

impl<'t> Chain<'t> {
    /// One symbol per character.
    pub(super) fn new(text: &'t str) -> Self {
        let symbol = |(i, (start, c)): (usize, (usize, char))| Symbol {
            start,
            end: start + c.len_utf8(),
            before: i.checked_sub(1),
            after: Some(i + 1),
        };
        let mut symbols: Vec<Symbol> = text.char_indices().enumerate().map(symbol).collect();
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        Self { text, symbols }
    }

    /// Merges neighbours until `worth` is `None` for every pair: the pair of highest worth first, the leftmost on ties.
    pub(super) fn merge_all<W: Ord>(&mut self, worth: impl Fn(&Pair<'t>) -> Option<W>) {
        let mut queue = BinaryHeap::new();
        let offer = |chain: &Self, left: usize, queue: &mut BinaryHeap<_>| {
            if let Some(pair) = chain.pair(left)
                && let Some(worth) = worth(&pair)
            {
                steps::add(1);
                queue.push((worth, Reverse(left), pair.joined.len()));
            }
        };
        for left in 0..self.symbols.len() {
            offer(self, left, &mut queue);
        }
        while let Some((_, Reverse(left), len)) = queue.pop() {
            steps::add(1);
            // Symbols only grow, so a pair of another length is a new pair, with its own entry in the queue.
            if self.pair(left).is_none_or(|pair| pair.joined.len() != len) {
                continue;
            }
            self.merge(left);
            offer(self, left, &mut queue);
            if let Some(before) = self.symbols[left].before {
                offer(self, before, &mut queue);
            }
        }
    }

    /// The remaining symbols, in order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'t str> {
        self.symbols.iter().map(|s| &self.text[s.start..s.end]).filter(|t| !t.is_empty())
    }

    /// A symbol and its right neighbour, if both still exist.
    fn pair(&self, left: usize) -> Option<Pair<'t>> {
        let a = &self.symbols[left];
        let b = &self.symbols[a.after?];
        (a.start < a.end).then(|| Pair {
            left: &self.text[a.start..a.end],
            right: &self.text[b.start..b.end],
            joined: &self.text[a.start..b.end],
        })
    }

    /// Merges a symbol with its right neighbour.
    fn merge(&mut self, left: usize) {
        let Some(right) = self.symbols[left].after else { return };
        let (end, after) = (self.symbols[right].end, self.symbols[right].after);
        self.symbols[left].end = end;
        self.symbols[left].after = after;
        self.symbols[right].start = end;
        self.symbols[right].after = None;
        if let Some(after) = after {
            self.symbols[after].before = Some(left);
        }
    }
}
