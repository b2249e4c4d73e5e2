//! What was read, in a file: tokens, the pages of their keys and values, and what these depend on.
//!
//! A file is of use to the model, cache types and arithmetic that made it, and to nothing else; it says all of them, and
//! ends in a checksum. Knows nothing of requests.
//!
//! Layout, little-endian: [`MAGIC`], u32 [`FORMAT`], u32 [`ARITHMETIC`], 32 bytes fingerprint of the weights, three
//! strings (arithmetic, type of keys, type of values; each a u8 length and bytes), u64 bytes of a page, u64 bytes of a page
//! of windows (0 if these are not apart), u64 tokens, that many u32 token ids, u32 states of fixed size (each a u64 length
//! and that many f32), u64 where the pages begin, zeros up to there, the pages, those that the windows reach, and 32 bytes
//! SHA-256 of everything before.
//!
//! A file within a bundle is mapped, not read: its pages begin at a multiple of [`ALIGN`] of the whole file.

use crate::model::{Fixed, PAGE, Page, PagePool};
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use tealight_bundle::mapped::Mapped;

const MAGIC: &[u8; 16] = b"tealight-kv\0\0\0\0\0";
/// Version of the layout.
const FORMAT: u32 = 3;
/// Alignment of the pages, in bytes: a cache line.
const ALIGN: usize = 64;
/// Version of the arithmetic: a change of any result makes saved keys and values worthless.
const ARITHMETIC: u32 = 2;
/// Length of a SHA-256.
const SUM: usize = 32;
const HINT: &str =
    "hint: restore it with the weights and the settings it was saved with, or save it again";

/// What saved keys and values depend on, beside the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Fingerprint of the weights.
    pub weights: [u8; SUM],
    /// Arithmetic of the instruction set, type of keys, type of values.
    pub names: [String; 3],
}

/// Tokens, and the pages of their keys and values.
pub struct Saved {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// A page for each 64 of them.
    pub pages: Vec<Arc<Page>>,
    /// The last pages of layers with sliding windows: those that the windows reach, if they are apart.
    pub windows: Vec<Arc<Page>>,
    /// The states of fixed size after them; none for a model without any.
    pub states: Vec<Fixed>,
}

/// A saved file that is of no use here.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It is something else, or damaged.
    #[error("{what}: found {found}, expected {expected}\n{HINT}")]
    Wrong {
        /// The part.
        what: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// It ends too early.
    #[error(
        "the file ends after {found} bytes, expected {expected}\nhint: it is incomplete; save it again"
    )]
    Short {
        /// Its length.
        found: usize,
        /// What its head says.
        expected: usize,
    },
    /// There is no memory for its pages.
    #[error(transparent)]
    NoRoom(#[from] crate::model::NoRoom),
}

/// Writes tokens and their pages, to lie `shift` bytes behind a multiple of [`ALIGN`]. Returns the number of bytes.
///
/// # Errors
/// When writing fails.
pub fn write(
    out: &mut dyn Write,
    origin: &Origin,
    [page_bytes, window_bytes]: [usize; 2],
    shift: usize,
    saved: &Saved,
) -> io::Result<u64> {
    let mut head = Vec::new();
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&FORMAT.to_le_bytes());
    head.extend_from_slice(&ARITHMETIC.to_le_bytes());
    head.extend_from_slice(&origin.weights);
    for name in &origin.names {
        let length = u8::try_from(name.len()).map_err(io::Error::other)?;
        head.push(length);
        head.extend_from_slice(name.as_bytes());
    }
    head.extend_from_slice(&(page_bytes as u64).to_le_bytes());
    head.extend_from_slice(&(window_bytes as u64).to_le_bytes());
    head.extend_from_slice(&(saved.tokens.len() as u64).to_le_bytes());
    head.extend(saved.tokens.iter().flat_map(|id| id.to_le_bytes()));
    head.extend_from_slice(&(saved.states.len() as u32).to_le_bytes());
    for state in &saved.states {
        head.extend_from_slice(&(state.len() as u64).to_le_bytes());
        head.extend(state.iter().flat_map(|x| x.to_le_bytes()));
    }
    let pages_at = (shift + head.len() + size_of::<u64>()).next_multiple_of(ALIGN) - shift;
    head.extend_from_slice(&(pages_at as u64).to_le_bytes());
    head.resize(pages_at, 0);
    let mut sum = Sha256::new();
    let mut written = 0;
    let mut put = |out: &mut dyn Write, bytes: &[u8]| {
        sum.update(bytes);
        written += bytes.len() as u64;
        out.write_all(bytes)
    };
    put(out, &head)?;
    let first = saved.tokens.len().div_ceil(PAGE) - saved.windows.len();
    let pages = (0..).zip(&saved.pages).chain((first..).zip(&saved.windows));
    for (index, page) in pages {
        // The last page may hold more positions, of someone else's past.
        let used = (saved.tokens.len() - index * PAGE).min(PAGE);
        match used {
            PAGE => put(out, page.bytes())?,
            _ => put(out, &page.beginning(used))?,
        }
    }
    out.write_all(&sum.finalize())?;
    Ok(written + SUM as u64)
}

/// Reads a file for the model with `vocab` tokens and states of fixed size like `blank`, whose pages come from `pool`.
///
/// # Errors
/// When it was made by something else, is damaged, or there is no memory for it.
pub fn read(
    bytes: &[u8],
    origin: &Origin,
    vocab: usize,
    blank: &[Fixed],
    pool: &Arc<PagePool>,
) -> Result<Saved, SavedError> {
    let head = head(bytes, origin, vocab, blank, pool)?;
    let (body, sum) = bytes.split_at(bytes.len() - SUM);
    if Sha256::digest(body).as_slice() != sum {
        let (found, expected) = ("another".into(), "that of the contents".into());
        return Err(SavedError::Wrong { what: "the checksum", found, expected });
    }
    let copied = |pool: &Arc<PagePool>, Stretch { start, count }| {
        let size = pool.shape().bytes();
        let mut pages = pool.take(count)?;
        for (index, page) in pages.iter_mut().enumerate() {
            if let Some(page) = Arc::get_mut(page) {
                page.bytes_mut().copy_from_slice(&body[start + index * size..][..size]);
            }
        }
        Ok(pages)
    };
    head.with_pages(pool, copied)
}

/// The same for a part of a mapped file, whose pages stay there. They are not read, so damage of them goes unnoticed.
///
/// # Errors
/// When it was made by something else, or lies where its pages can't be used.
pub fn map(
    file: &Arc<Mapped>,
    range: Range<usize>,
    origin: &Origin,
    vocab: usize,
    blank: &[Fixed],
    pool: &Arc<PagePool>,
) -> Result<Saved, SavedError> {
    let bytes = file.bytes().get(range.clone()).unwrap_or_default();
    let head = head(bytes, origin, vocab, blank, pool)?;
    let there = |pool: &Arc<PagePool>, Stretch { start, count }| {
        let start = range.start + start;
        pool.in_file(file, start, count).ok_or_else(|| SavedError::Wrong {
            what: "where the pages begin",
            found: start.to_string(),
            expected: format!("a multiple of {ALIGN}"),
        })
    };
    head.with_pages(pool, there)
}

/// What a file says before its pages.
struct Head {
    tokens: Vec<u32>,
    states: Vec<Fixed>,
    /// Its pages, which take no bytes in a model whose layers keep no keys.
    pages: Stretch,
    /// Those of windows.
    windows: Stretch,
}

impl Head {
    /// All of a file, its pages got by `get` for the pools that they are of.
    fn with_pages(
        self,
        pool: &Arc<PagePool>,
        get: impl Fn(&Arc<PagePool>, Stretch) -> Result<Vec<Arc<Page>>, SavedError>,
    ) -> Result<Saved, SavedError> {
        let windows = match pool.windows() {
            Some((pool, _)) => get(pool, self.windows)?,
            None => Vec::new(),
        };
        let pages = get(pool, self.pages)?;
        Ok(Saved { tokens: self.tokens, pages, windows, states: self.states })
    }
}

/// Pages, one after another.
#[derive(Clone, Copy)]
struct Stretch {
    /// Byte of the file where they begin.
    start: usize,
    /// How many there are.
    count: usize,
}

fn head(
    bytes: &[u8],
    origin: &Origin,
    vocab: usize,
    blank: &[Fixed],
    pool: &Arc<PagePool>,
) -> Result<Head, SavedError> {
    let mut rest = Rest { bytes, at: 0 };
    let wrong = |what, found: String, expected: String| SavedError::Wrong { what, found, expected };
    if rest.take(MAGIC.len())? != MAGIC {
        return Err(wrong("the file", "something else".into(), "a saved prompt cache".into()));
    }
    for (what, expected) in
        [("the format's version", FORMAT), ("the arithmetic's version", ARITHMETIC)]
    {
        let found = u32::from_le_bytes(rest.array()?);
        if found != expected {
            return Err(wrong(what, found.to_string(), expected.to_string()));
        }
    }
    if rest.take(SUM)? != origin.weights {
        return Err(wrong("the weights", "those of another model".into(), "this model's".into()));
    }
    let parts = ["the arithmetic", "the type of keys", "the type of values"];
    for (what, expected) in parts.into_iter().zip(&origin.names) {
        let length = usize::from(rest.array::<1>()?[0]);
        let found = String::from_utf8_lossy(rest.take(length)?).into_owned();
        if found != *expected {
            return Err(wrong(what, found, expected.clone()));
        }
    }
    let sizes = pool.page_bytes();
    for (what, expected) in
        ["the bytes of a page", "the bytes of a page of windows"].into_iter().zip(sizes)
    {
        let found = u64::from_le_bytes(rest.array()?);
        if found != expected as u64 {
            return Err(wrong(what, found.to_string(), expected.to_string()));
        }
    }
    let [page_bytes, window_bytes] = sizes;
    let said = u64::from_le_bytes(rest.array()?);
    // Each token takes at least its id, so a length beyond that is a lie.
    let most = (bytes.len() - rest.at) / 4;
    let count = usize::try_from(said).ok().filter(|n| *n <= most);
    let count = count.ok_or_else(|| {
        wrong("the number of tokens", said.to_string(), format!("at most {most}"))
    })?;
    let ids = rest.take(4 * count)?.as_chunks::<4>().0;
    let tokens: Vec<u32> = ids.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let found = u32::from_le_bytes(rest.array()?) as usize;
    if found != blank.len() {
        return Err(wrong("the number of states", found.to_string(), blank.len().to_string()));
    }
    let mut states = Vec::with_capacity(blank.len());
    for blank in blank {
        let found = u64::from_le_bytes(rest.array()?);
        if found != blank.len() as u64 {
            return Err(wrong("the length of a state", found.to_string(), blank.len().to_string()));
        }
        let floats = rest.take(4 * blank.len())?.as_chunks::<4>().0;
        states.push(Fixed::new(floats.iter().map(|x| f32::from_le_bytes(*x)).collect()));
    }
    let (found, most) = (u64::from_le_bytes(rest.array()?), rest.at + ALIGN);
    let start = usize::try_from(found).ok().filter(|start| (rest.at..most).contains(start));
    let start = start.ok_or_else(|| {
        let expected = format!("{} to {most}", rest.at);
        wrong("where the pages begin", found.to_string(), expected)
    })?;
    let pages = Stretch { start, count: count.div_ceil(PAGE) };
    let middle = start + pages.count * page_bytes;
    let windows = Stretch { start: middle, count: pool.reached(count).len() };
    let end = middle + windows.count * window_bytes;
    if bytes.len() != end + SUM {
        return Err(SavedError::Short { found: bytes.len(), expected: end + SUM });
    }
    if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab) {
        return Err(wrong("a token", id.to_string(), format!("ids below {vocab}")));
    }
    Ok(Head { tokens, states, pages, windows })
}

/// The unread part of a file.
struct Rest<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Rest<'b> {
    fn take(&mut self, n: usize) -> Result<&'b [u8], SavedError> {
        let short = SavedError::Short { found: self.bytes.len(), expected: self.at + n };
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len()).ok_or(short)?;
        Ok(&self.bytes[std::mem::replace(&mut self.at, end)..end])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SavedError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{CacheType, CachedMut};
    use crate::model::{KvHeads, PageShape};

    fn origin() -> Origin {
        let names = ["avx2", "f16", "f32"].map(str::to_owned);
        Origin { weights: [7; SUM], names }
    }

    fn blank() -> Vec<Fixed> {
        vec![Fixed::new(vec![0.0; 2]), Fixed::new(vec![])]
    }

    fn pool() -> Arc<PagePool> {
        let heads = KvHeads { count: 2, key_dim: 3, value_dim: 5 };
        PagePool::new(PageShape::of(&[Some(heads); 2], CacheType::F16, CacheType::F32), 1 << 20)
    }

    fn saved(pool: &Arc<PagePool>, count: usize) -> Saved {
        let tokens = (0..count as u32).collect();
        let mut pages = pool.take(count.div_ceil(PAGE)).unwrap();
        for (index, page) in pages.iter_mut().enumerate() {
            for layer in 0..2 {
                let page = Arc::get_mut(page).unwrap();
                let [CachedMut::F16(keys), CachedMut::F32(values)] = page.layer_mut(layer).unwrap()
                else {
                    panic!("other types")
                };
                keys.fill(half::f16::from_f32(1.0 + index as f32));
                values.fill(2.0 + index as f32);
            }
        }
        let states = vec![Fixed::new(vec![1.5, count as f32]), Fixed::new(vec![])];
        Saved { tokens, pages, windows: Vec::new(), states }
    }

    fn bytes(saved: &Saved, pool: &Arc<PagePool>) -> Vec<u8> {
        let mut out = Vec::new();
        let n = write(&mut out, &origin(), pool.page_bytes(), 0, saved).unwrap();
        assert_eq!(n, out.len() as u64);
        out
    }

    #[test]
    fn what_is_written_reads_back_and_the_rest_of_the_last_page_is_blank() {
        let pool = pool();
        for count in [0, 1, 64, 100] {
            let saved = saved(&pool, count);
            let file = bytes(&saved, &pool);
            let found = read(&file, &origin(), 1000, &blank(), &pool).unwrap();
            assert_eq!((&found.tokens, found.pages.len()), (&saved.tokens, saved.pages.len()));
            assert_eq!(found.states, saved.states);
            for (index, (a, b)) in found.pages.iter().zip(&saved.pages).enumerate() {
                let used = (count - index * PAGE).min(PAGE);
                assert_eq!(a.bytes(), b.beginning(used));
                assert_eq!(a.bytes() == b.bytes(), used == PAGE);
            }
        }
    }

    #[test]
    fn pages_without_bytes_are_counted_all_the_same() {
        let pool =
            PagePool::new(PageShape::of(&[None; 2], CacheType::F16, CacheType::F16), 1 << 20);
        let states = vec![Fixed::new(vec![1.5, 2.5]), Fixed::new(vec![])];
        let pages = pool.take(2).unwrap();
        let saved = Saved { tokens: (0..100).collect(), pages, windows: Vec::new(), states };
        let found = read(&bytes(&saved, &pool), &origin(), 1000, &blank(), &pool).unwrap();
        assert_eq!((found.pages.len(), found.states), (2, saved.states));
    }

    #[test]
    fn a_part_of_a_mapped_file_is_used_where_it_lies_and_never_written() {
        let (pool, folder) = (pool(), tempfile::tempdir().unwrap());
        let saved = saved(&pool, 100);
        let mut whole = vec![1; 4096 + 45];
        write(&mut whole, &origin(), pool.page_bytes(), 45, &saved).unwrap();
        let range = 4096 + 45..whole.len();
        let path = folder.path().join("bundle");
        std::fs::write(&path, &whole).unwrap();
        let file = Arc::new(Mapped::open(&path).unwrap());
        let map = |range| map(&file, range, &origin(), 1000, &blank(), &pool);
        let before = pool.used();
        let found = map(range.clone()).unwrap();
        assert_eq!((found.tokens, pool.used()), (saved.tokens, before));
        assert_eq!(found.pages[0].bytes(), saved.pages[0].bytes());
        assert_eq!(found.pages[1].bytes(), saved.pages[1].beginning(36));
        for mut page in found.pages {
            let page = Arc::get_mut(&mut page).unwrap();
            assert!(
                page.is_in_file() && page.bytes_mut().is_empty() && page.layer_mut(0).is_none()
            );
            assert!(page.layer(1).is_some());
        }
        for cut in [range.start + 1..range.end, range.start..range.end - 1, 0..100, 0..0] {
            assert!(map(cut).is_err());
        }
        assert_eq!(pool.used(), before);
        whole.insert(0, 1);
        std::fs::write(&path, &whole).unwrap();
        let file = Arc::new(Mapped::open(&path).unwrap());
        let shifted =
            super::map(&file, range.start + 1..range.end + 1, &origin(), 1000, &blank(), &pool);
        assert!(shifted.err().unwrap().to_string().contains("multiple of 64"));
    }

    #[test]
    fn a_file_of_something_else_says_what_differs() {
        let pool = pool();
        let file = bytes(&saved(&pool, 70), &pool);
        let said = |bytes: &[u8], origin: &Origin, vocab| {
            read(bytes, origin, vocab, &blank(), &pool).err().unwrap().to_string()
        };
        let other = |change: fn(&mut Origin)| {
            let mut origin = origin();
            change(&mut origin);
            said(&file, &origin, 1000)
        };
        assert!(other(|o| o.weights[0] = 0).contains("another model"));
        assert!(other(|o| o.names[0] = "sse".into()).contains("found avx2, expected sse"));
        assert!(other(|o| o.names[2] = "f16".into()).contains("found f32, expected f16"));
        assert!(said(&file, &origin(), 60).contains("ids below 60"));
        assert!(said(b"GGUF, a file of another kind", &origin(), 1000).contains("something else"));
        assert!(said(b"", &origin(), 1000).contains("ends after 0 bytes"));
    }

    #[test]
    fn damage_anywhere_is_an_error_and_takes_no_pages() {
        let pool = pool();
        let file = bytes(&saved(&pool, 70), &pool);
        for at in (0..file.len()).step_by(37).chain(file.len() - 40..file.len()) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged, &origin(), 1000, &blank(), &pool).is_err(), "at {at}");
            assert!(read(&file[..at], &origin(), 1000, &blank(), &pool).is_err(), "cut at {at}");
        }
        assert_eq!(pool.used(), 0);
        let tiny = PagePool::new(pool.shape().clone(), 100);
        assert!(matches!(
            read(&file, &origin(), 1000, &blank(), &tiny),
            Err(SavedError::NoRoom(_))
        ));
    }
}
