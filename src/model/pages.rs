//! Pages: the cached keys and values of 64 positions, and the pool they come from.
//!
//! Layers that see all positions have one kind of page. Layers with sliding windows may have another, from a pool of
//! their own, so that a sequence can let go of those that no window reaches any more.
//!
//! A page is shared by the sequences that begin alike (`Arc`), and written only while one sequence has it. The pool
//! counts bytes, so that growing fails cleanly instead of ending the process. Knows nothing of tokens.

use super::spec::{KvHeads, LayerSpec, Spec};
use crate::kernels::{CACHE_BLOCK, CacheType, Cached, CachedMut, Window};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tealight_bundle::mapped::Mapped;

/// Positions of a page.
pub const PAGE: usize = CACHE_BLOCK;
/// Alignment of each layer's keys and values within a page, in bytes: a cache line.
const ALIGN: usize = 64;

/// Bytes that have to be left for everything else when a page is taken.
const MARGIN: usize = 32 << 20;

/// What a page holds of each layer.
#[derive(Debug, Clone)]
pub struct PageShape {
    /// `None` if the layer caches no keys and values of its own.
    layers: Vec<Option<Place>>,
    heads: Vec<Option<KvHeads>>,
    key_type: CacheType,
    value_type: CacheType,
    bytes: usize,
    bytes_per_position: usize,
}

/// Where a layer's keys and values are in a page, in bytes.
#[derive(Debug, Clone)]
struct Place {
    keys: Range<usize>,
    values: Range<usize>,
}

impl PageShape {
    /// The pages of a model.
    #[must_use]
    pub fn new(spec: &Spec, key_type: CacheType, value_type: CacheType) -> Self {
        Self::of(&Self::heads(spec, |_| true), key_type, value_type)
    }

    /// The pages of layers that see all positions, and those of layers with sliding windows.
    #[must_use]
    pub fn apart(spec: &Spec, key_type: CacheType, value_type: CacheType) -> [Self; 2] {
        let slides = |layer: &LayerSpec| matches!(layer.window, Window::Last(_));
        [false, true].map(|which| {
            Self::of(&Self::heads(spec, |layer| slides(layer) == which), key_type, value_type)
        })
    }

    fn heads(spec: &Spec, which: impl Fn(&LayerSpec) -> bool) -> Vec<Option<KvHeads>> {
        let own = |layer: &LayerSpec| {
            let caches = layer.mixer.attends() && layer.shares.is_none() && which(layer);
            caches.then_some(layer.heads)
        };
        spec.layers.iter().map(own).collect()
    }

    /// The pages for layers with these KV heads, `None` for a layer without any of its own.
    #[must_use]
    pub fn of(layers: &[Option<KvHeads>], key_type: CacheType, value_type: CacheType) -> Self {
        let (mut end, mut bytes_per_position) = (0, 0);
        let mut take = |heads: &KvHeads, dim: usize, of: CacheType| {
            let size = heads.count * of.bytes(dim);
            bytes_per_position += size;
            let start = end;
            end = (start + PAGE * size).next_multiple_of(ALIGN);
            start..start + PAGE * size
        };
        let mut place = |heads: &KvHeads| Place {
            keys: take(heads, heads.key_dim, key_type),
            values: take(heads, heads.value_dim, value_type),
        };
        let heads = layers.to_vec();
        let layers = layers.iter().map(|heads| heads.as_ref().map(&mut place)).collect();
        Self { layers, heads, key_type, value_type, bytes: end, bytes_per_position }
    }

    /// Bytes of a page.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a page holds keys and values of a layer.
    #[must_use]
    pub fn holds(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(Option::is_some)
    }

    /// Keys and values of no positions, in place of those that no window reaches.
    fn none(&self) -> [Cached<'static>; 2] {
        [self.key_type, self.value_type].map(|of| match of {
            CacheType::F16 => Cached::F16(&[]),
            CacheType::Bf16 => Cached::Bf16(&[]),
            CacheType::F32 => Cached::F32(&[]),
            CacheType::Q8_0 => Cached::Q8_0(&[]),
        })
    }

    /// Bytes per position, summed over all layers.
    #[must_use]
    pub fn bytes_per_position(&self) -> usize {
        self.bytes_per_position
    }
}

/// The pages of one model: hands them out, and counts them.
#[derive(Debug)]
pub struct PagePool {
    shape: PageShape,
    /// Maximum number of pages.
    limit: usize,
    used: AtomicUsize,
    /// The pages of layers with sliding windows, if they are apart, and the longest of these windows.
    windows: Option<(Arc<PagePool>, usize)>,
}

/// There is no room for more pages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough memory for the context: {missing} more bytes are needed, {limit} are allowed in all"
)]
pub struct NoRoom {
    /// Bytes that were asked for and not to be had.
    pub missing: usize,
    /// Bytes that all pages together may take.
    pub limit: usize,
}

impl PagePool {
    /// A pool of pages that take at most `bytes_max` together.
    #[must_use]
    pub fn new(shape: PageShape, bytes_max: usize) -> Arc<Self> {
        Self::with(shape, bytes_max, None)
    }

    /// A pool of pages of layers that see all positions, and a second one of those whose windows, the longest of `longest`
    /// positions, slide. What the second takes is bounded by the sequences and by the places that are kept of them.
    #[must_use]
    pub fn apart([whole, windowed]: [PageShape; 2], bytes_max: usize, longest: usize) -> Arc<Self> {
        let windows = Self::new(windowed, usize::MAX);
        Self::with(whole, bytes_max, Some((windows, longest)))
    }

    fn with(shape: PageShape, bytes_max: usize, windows: Option<(Arc<Self>, usize)>) -> Arc<Self> {
        let limit = bytes_max / shape.bytes.max(1);
        Arc::new(Self { shape, limit, used: AtomicUsize::new(0), windows })
    }

    /// The pool of pages of layers with sliding windows, if they are apart, and the longest of these windows.
    #[must_use]
    pub fn windows(&self) -> Option<(&Arc<Self>, usize)> {
        self.windows.as_ref().map(|(pool, longest)| (pool, *longest))
    }

    /// The pages of windows that are needed to go on after `len` positions.
    #[must_use]
    pub fn reached(&self, len: usize) -> Range<usize> {
        let Some((_, longest)) = self.windows() else { return 0..0 };
        len.saturating_sub(longest) / PAGE..len.div_ceil(PAGE)
    }

    /// Bytes of a page; and of one of layers with sliding windows, 0 if these are not apart.
    #[must_use]
    pub fn page_bytes(&self) -> [usize; 2] {
        [self.shape.bytes, self.windows().map_or(0, |(pool, _)| pool.shape.bytes)]
    }

    /// Bytes of all pages in use.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        let windows = self.windows().map_or(0, |(pool, _)| pool.bytes_used());
        self.used() * self.shape.bytes + windows
    }

    /// What a page holds.
    #[must_use]
    pub fn shape(&self) -> &PageShape {
        &self.shape
    }

    /// Pages in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Maximum number of pages.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `count` pages, all or none.
    ///
    /// # Errors
    /// When the limit is reached or the system has no more memory.
    pub fn take(self: &Arc<Self>, count: usize) -> Result<Vec<Arc<Page>>, NoRoom> {
        let missing = count * self.shape.bytes;
        let no_room = || NoRoom { missing, limit: self.limit * self.shape.bytes };
        (0..count).map(|_| self.page().ok_or_else(no_room).map(Arc::new)).collect()
    }

    fn page(self: &Arc<Self>) -> Option<Page> {
        let more = |used: usize| (used < self.limit).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        // From here on, dropping the page gives its place back.
        let mut page = Page { place: Bytes::Own(Vec::new()), pool: Arc::clone(self) };
        // Whatever else is allocated would end the process if it failed, so pages stop before memory does.
        Vec::<u8>::new().try_reserve_exact(MARGIN).ok()?;
        let count = self.shape.bytes / size_of::<u64>();
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        words.resize(count, 0);
        page.place = Bytes::Own(words);
        Some(page)
    }

    /// `count` pages that stay in a file, one after another from byte `start`, a multiple of eight. They take no place in
    /// the pool, and are copied before anything is written to them. `None`: they are not within the file, or not aligned.
    #[must_use]
    pub fn in_file(
        self: &Arc<Self>,
        file: &Arc<Mapped>,
        start: usize,
        count: usize,
    ) -> Option<Vec<Arc<Page>>> {
        let size = self.shape.bytes;
        let end = count.checked_mul(size)?.checked_add(start)?;
        let there = file.bytes().get(start..end)?;
        if !(there.as_ptr() as usize).is_multiple_of(align_of::<u64>()) {
            return None;
        }
        let page = |index: usize| Page {
            place: Bytes::File(Arc::clone(file), start + index * size..start + (index + 1) * size),
            pool: Arc::clone(self),
        };
        Some((0..count).map(page).map(Arc::new).collect())
    }
}

/// The keys and values of [`PAGE`] positions in all layers.
#[derive(Debug)]
pub struct Page {
    place: Bytes,
    pool: Arc<PagePool>,
}

/// Where a page's bytes are.
enum Bytes {
    /// In memory: words rather than bytes, for their alignment.
    Own(Vec<u64>),
    /// In a file, which is never written.
    File(Arc<Mapped>, Range<usize>),
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(words) => write!(f, "{} words", words.len()),
            Self::File(_, range) => write!(f, "{range:?} of a file"),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if !self.is_in_file() {
            self.pool.used.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Page {
    /// All bytes, for copying and saving.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.place {
            Bytes::Own(words) => bytemuck::cast_slice(words),
            Bytes::File(file, range) => &file.bytes()[range.clone()],
        }
    }

    /// All bytes, to be filled from a copy; none of a page in a file.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.place {
            Bytes::Own(words) => bytemuck::cast_slice_mut(words),
            Bytes::File(..) => &mut [],
        }
    }

    /// Whether it is in a file: it takes no memory, and can't be written.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Bytes::File(..))
    }

    /// All bytes of a copy that holds only the first `positions`, and zeros in place of the others.
    #[must_use]
    pub fn beginning(&self, positions: usize) -> Vec<u8> {
        let shape = &self.pool.shape;
        let mut bytes = self.bytes().to_vec();
        for (place, heads) in shape.layers.iter().zip(&shape.heads) {
            let (Some(Place { keys, values }), Some(heads)) = (place, heads) else { continue };
            let (first, second) = bytes.split_at_mut(values.start);
            let second = &mut second[..values.len()];
            let mut keys = cached_mut(&mut first[keys.clone()], shape.key_type);
            let mut values = cached_mut(second, shape.value_type);
            let zeros = vec![0.0; heads.key_dim.max(heads.value_dim)];
            for position in positions..PAGE {
                for head in 0..heads.count {
                    keys.put_key(heads.count, head, position, &zeros[..heads.key_dim]);
                    values.put_value(heads.count, head, position, &zeros[..heads.value_dim]);
                }
            }
        }
        bytes
    }

    /// The keys and values of a layer: keys (kv_heads, 64 / 16, units, 16), values (kv_heads, 64, units). `None` if it
    /// has none of its own.
    #[must_use]
    pub fn layer(&self, layer: usize) -> Option<[Cached<'_>; 2]> {
        let shape = &self.pool.shape;
        let place = shape.layers.get(layer)?.as_ref()?;
        let bytes = self.bytes();
        let keys = cached(&bytes[place.keys.clone()], shape.key_type);
        Some([keys, cached(&bytes[place.values.clone()], shape.value_type)])
    }

    /// The same of a page that may be gone.
    #[must_use]
    pub fn layer_of<'p>(
        page: Option<&'p Arc<Self>>,
        pool: &PagePool,
        layer: usize,
    ) -> Option<[Cached<'p>; 2]> {
        page.map_or_else(|| Some(pool.shape.none()), |page| page.layer(layer))
    }

    /// The same, to be written.
    pub fn layer_mut(&mut self, layer: usize) -> Option<[CachedMut<'_>; 2]> {
        let shape = &self.pool.shape;
        let Place { keys, values } = shape.layers.get(layer)?.clone()?;
        let (key_type, value_type) = (shape.key_type, shape.value_type);
        let (first, second) = self.bytes_mut().split_at_mut_checked(values.start)?;
        let values = &mut second[..values.len()];
        Some([cached_mut(&mut first[keys], key_type), cached_mut(values, value_type)])
    }
}

fn cached(bytes: &[u8], of: CacheType) -> Cached<'_> {
    match of {
        CacheType::F16 => Cached::F16(bytemuck::cast_slice(bytes)),
        CacheType::Bf16 => Cached::Bf16(bytemuck::cast_slice(bytes)),
        CacheType::F32 => Cached::F32(bytemuck::cast_slice(bytes)),
        CacheType::Q8_0 => Cached::Q8_0(bytes),
    }
}

fn cached_mut(bytes: &mut [u8], of: CacheType) -> CachedMut<'_> {
    match of {
        CacheType::F16 => CachedMut::F16(bytemuck::cast_slice_mut(bytes)),
        CacheType::Bf16 => CachedMut::Bf16(bytemuck::cast_slice_mut(bytes)),
        CacheType::F32 => CachedMut::F32(bytemuck::cast_slice_mut(bytes)),
        CacheType::Q8_0 => CachedMut::Q8_0(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PageShape {
        let heads = KvHeads { count: 2, key_dim: 20, value_dim: 36 };
        PageShape::of(&[Some(heads), None, Some(heads)], CacheType::F16, CacheType::Q8_0)
    }

    #[test]
    fn layers_have_places_of_their_own_and_their_types_sizes() {
        let pool = PagePool::new(shape(), 1 << 20);
        let mut page = pool.page().unwrap();
        for layer in [0, 2] {
            let [CachedMut::F16(keys), CachedMut::Q8_0(values)] = page.layer_mut(layer).unwrap()
            else {
                panic!("other types")
            };
            // Two heads; a value of 36 elements takes two blocks of 34 bytes.
            assert_eq!((keys.len(), values.len()), (64 * 2 * 20, 64 * 2 * 68));
            keys.fill(half::f16::from_f32(1.0 + layer as f32));
            values.fill(7 + layer as u8);
        }
        assert!(page.layer(1).is_none() && page.layer(3).is_none());
        let Some([Cached::F16(keys), Cached::Q8_0(values)]) = page.layer(0) else {
            panic!("other types")
        };
        assert!(keys.iter().all(|k| *k == half::f16::ONE) && values.iter().all(|v| *v == 7));
        assert_eq!(pool.shape().bytes_per_position(), 2 * 2 * (40 + 68));
    }

    #[test]
    fn taking_pages_is_all_or_nothing() {
        let bytes = shape().bytes();
        let pool = PagePool::new(shape(), 3 * bytes + 5);
        let two = pool.take(2).unwrap();
        let error = pool.take(2).unwrap_err();
        assert_eq!((pool.used(), error.missing, error.limit), (2, 2 * bytes, 3 * bytes));
        drop(two);
        assert_eq!((pool.used(), pool.take(3).unwrap().len()), (0, 3));
    }
}
