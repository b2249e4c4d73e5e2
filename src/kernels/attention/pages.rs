//! Pages: the cached keys and values of [`BLOCK`] positions, as attention reads and writes them.
//!
//! Input: rows of f32. Output: storage units in the layout of [`super::stored`]. Knows nothing of who owns a page.

use super::stored::{Cached, Element, by_element};
use super::{BLOCK, Heads, Window};
use half::{bf16, f16};
use std::ops::Range;

/// Cached keys or values that are being written, in storage units.
#[expect(missing_docs, reason = "the variants are the element types")]
pub enum CachedMut<'a> {
    F16(&'a mut [f16]),
    Bf16(&'a mut [bf16]),
    F32(&'a mut [f32]),
    Q8_0(&'a mut [u8]),
}

/// Evaluates a generic expression with a part of the typed slice inside a [`CachedMut`].
macro_rules! by_element_mut {
    ($cached:expr, |$all:ident| $part:expr, |$own:ident| $body:expr) => {
        match $cached {
            CachedMut::F16($all) => {
                let $own = $part;
                $body
            }
            CachedMut::Bf16($all) => {
                let $own = $part;
                $body
            }
            CachedMut::F32($all) => {
                let $own = $part;
                $body
            }
            CachedMut::Q8_0($all) => {
                let $own = $part;
                $body
            }
        }
    };
}

/// Where the keys and values of a sequence's new positions go.
pub struct Fresh<'a> {
    /// Position within the first page.
    pub at: usize,
    /// New positions.
    pub rows: usize,
    /// The pages that hold them: keys (kv_heads, 64 / 16, units, 16) and values (kv_heads, 64, units).
    pub pages: Vec<[CachedMut<'a>; 2]>,
}

impl Fresh<'_> {
    /// Whether there is a page for each new position.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.at + self.rows <= self.pages.len() * BLOCK
    }
}

/// Writes keys and values, (rows of all, heads, dim), to the pages of their sequences.
///
/// # Panics
/// When there are fewer rows or pages than positions.
pub fn append(heads: usize, k: &[f32], v: &[f32], fresh: &mut [Fresh<'_>]) {
    let rows: usize = fresh.iter().map(|fresh| fresh.rows).sum();
    if rows == 0 {
        return;
    }
    let (key_dim, value_dim) = (k.len() / rows / heads, v.len() / rows / heads);
    let mut k = k.chunks_exact(key_dim);
    let mut v = v.chunks_exact(value_dim);
    for fresh in fresh {
        for position in fresh.at..fresh.at + fresh.rows {
            let [keys, values] = &mut fresh.pages[position / BLOCK];
            for head in 0..heads {
                let (Some(k), Some(v)) = (k.next(), v.next()) else {
                    unreachable!("a row for each position")
                };
                keys.put_key(heads, head, position % BLOCK, k);
                values.put_value(heads, head, position % BLOCK, v);
            }
        }
    }
}

impl CachedMut<'_> {
    /// Stores the key of a position for head `head` out of `heads`.
    pub fn put_key(&mut self, heads: usize, head: usize, position: usize, key: &[f32]) {
        by_element_mut!(self, |all| part(all, heads, head), |own| Element::put_key(
            own, position, key
        ));
    }

    /// Stores the value of a position for head `head` out of `heads`.
    pub fn put_value(&mut self, heads: usize, head: usize, position: usize, value: &[f32]) {
        by_element_mut!(self, |all| part(all, heads, head), |own| {
            Element::put_value(own, position, value);
        });
    }
}

fn part<T>(all: &mut [T], heads: usize, head: usize) -> &mut [T] {
    let size = all.len() / heads;
    &mut all[head * size..(head + 1) * size]
}

/// The new rows of one sequence, and the pages that hold their keys and values and those before.
#[derive(Clone)]
pub struct Past<'a> {
    /// Positions before these rows.
    pub len: usize,
    /// New rows.
    pub rows: usize,
    /// Whether a row sees only positions up to its own. Otherwise each sees as much as the last one.
    pub causal: bool,
    /// Keys (kv_heads, 64 / 16, units, 16) and values (kv_heads, 64, units) of each page; nothing of pages that no window
    /// reaches.
    pub pages: Vec<[Cached<'a>; 2]>,
}

impl Past<'_> {
    /// Positions, the new ones included.
    #[must_use]
    pub fn total(&self) -> usize {
        self.len + self.rows
    }

    /// The positions that new row `row` sees.
    #[must_use]
    pub fn seen(&self, row: usize, window: Window) -> Range<usize> {
        let own = self.len + row;
        match window {
            _ if self.causal => window.start(own)..own + 1,
            Window::Around(n) => window.start(own)..self.total().min(own + n + 1),
            _ => window.start(self.total() - 1)..self.total(),
        }
    }

    /// Whether there is a page of the right size for each position that is seen; others may be empty.
    #[must_use]
    pub fn fits(&self, h: &Heads) -> bool {
        let holds = |cached: &Cached<'_>, dim: usize| {
            let units = cached.cache_type().units(dim);
            by_element!(*cached, |all| all.len()) == h.kv_heads * BLOCK * units
        };
        let seen = self.seen(0, h.window).start / BLOCK;
        self.total() <= self.pages.len() * BLOCK
            && self
                .pages
                .iter()
                .skip(seen)
                .all(|[k, v]| holds(k, h.key_dim) && holds(v, h.value_dim))
    }

    /// All keys and values in f32, (kv_heads, total, dim); zeros of positions that nobody sees.
    #[must_use]
    pub fn read(&self, h: &Heads) -> (Vec<f32>, Vec<f32>) {
        fn element(of: Cached<'_>, is_key: bool, position: usize, dim: usize, d: usize) -> f32 {
            fn read<T: Element>(all: &[T], is_key: bool, at: usize, dim: usize, d: usize) -> f32 {
                if is_key { T::key(all, at, dim, d) } else { T::value(all, at, dim, d) }
            }
            by_element!(of, |all| read(all, is_key, position, dim, d))
        }
        let all = |which: usize, dim: usize| -> Vec<f32> {
            let places = (0..h.kv_heads).flat_map(|head| (0..self.total()).map(move |p| (head, p)));
            let seen = self.seen(0, h.window).start;
            let row = |(head, position): (usize, usize)| {
                let own = self.pages[position / BLOCK][which].head(h.kv_heads, head);
                let is_seen = position >= seen;
                let one = move |d| element(own, which == 0, position % BLOCK, dim, d);
                (0..dim).map(move |d| if is_seen { one(d) } else { 0.0 })
            };
            places.flat_map(row).collect()
        };
        (all(0, h.key_dim), all(1, h.value_dim))
    }
}
