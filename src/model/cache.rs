//! The keys and values of the positions computed so far.
//!
//! Grows in steps up to its limit, so that a large context costs memory only when it is used. On the CPU
//! the keys of 16 positions lie together element by element, as its attention wants them.

use super::spec::{KvHeads, LayerSpec, Spec};
use crate::kernels::{CACHE_BLOCK, KEYS};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, bail};
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

/// Positions a new cache has room for.
const CAPACITY_FIRST: usize = 256;

/// The KV cache of one timeline.
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    shape: CacheShape,
    capacity: usize,
    len: usize,
}

/// What a cache holds for each position.
#[derive(Debug, Clone)]
pub struct CacheShape {
    /// The heads of each layer, `None` where a layer uses those of another.
    pub layers: Vec<Option<KvHeads>>,
    /// Element type of the keys.
    pub key_type: DType,
    /// Element type of the values.
    pub value_type: DType,
    /// Positions at most.
    pub max: usize,
}

impl CacheShape {
    /// The cache of a model for at most `max` positions.
    #[must_use]
    pub fn new(spec: &Spec, key_type: DType, value_type: DType, max: usize) -> Self {
        let own = |layer: &LayerSpec| layer.shares.is_none().then_some(layer.heads);
        Self { layers: spec.layers.iter().map(own).collect(), key_type, value_type, max }
    }

    /// Bytes that one position takes in all layers.
    #[must_use]
    pub fn bytes_per_position(&self) -> usize {
        let bytes = |heads: &KvHeads| {
            let key = heads.key_dim * self.key_type.size_in_bytes();
            let value = heads.value_dim * self.value_type.size_in_bytes();
            heads.count * (key + value)
        };
        self.layers.iter().flatten().map(bytes).sum()
    }
}

/// Keys (kv_heads, capacity, key_dim), on the CPU (kv_heads, capacity / 16, key_dim, 16), and values
/// (kv_heads, capacity, value_dim) of one layer.
struct Layer {
    k: Tensor,
    v: Tensor,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(shape: CacheShape, device: &Device) -> Result<Self> {
        let capacity = CAPACITY_FIRST.min(shape.max).next_multiple_of(CACHE_BLOCK);
        let layers = shape
            .layers
            .iter()
            .map(|heads| heads.map(|heads| Layer::new(&shape, heads, capacity, device)).transpose())
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, shape, capacity, len: 0 })
    }

    /// Positions computed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was computed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions there is room for without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions at most.
    #[must_use]
    pub fn max(&self) -> usize {
        self.shape.max
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `n` more positions.
    ///
    /// # Errors
    /// When they do not fit the limit, or the device has no room.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        let needed = self.len + n;
        if needed > self.shape.max {
            bail!("{needed} positions in a context of {}", self.shape.max)
        }
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.max(self.capacity * 2).min(self.shape.max);
        let capacity = capacity.next_multiple_of(CACHE_BLOCK);
        for (layer, heads) in self.layers.iter_mut().zip(&self.shape.layers) {
            let (Some(layer), Some(heads)) = (layer, *heads) else { continue };
            let larger = Layer::new(&self.shape, heads, capacity, layer.k.device())?;
            if self.len > 0 {
                let keys = if layer.k.rank() == 4 { self.len.div_ceil(KEYS) } else { self.len };
                larger.k.slice_set(&layer.k.narrow(1, 0, keys)?.contiguous()?, 1, 0)?;
                larger.v.slice_set(&layer.v.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
            }
            *layer = larger;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Writes the keys and values, (n, kv_heads, dim), of new positions of a layer and returns that
    /// layer's tensors. They count only after [`KvCache::advance`].
    ///
    /// # Errors
    /// When no room was reserved.
    pub fn append(&self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(&Tensor, &Tensor)> {
        let layer = self.own(layer)?;
        if layer.k.device().is_cpu() {
            layer.k.inplace_op2(k, &Append { at: self.len, keys: true })?;
            layer.v.inplace_op2(v, &Append { at: self.len, keys: false })?;
            return Ok((&layer.k, &layer.v));
        }
        let rows = |x: &Tensor, dtype| x.transpose(0, 1)?.to_dtype(dtype)?.contiguous();
        layer.k.slice_set(&rows(k, self.shape.key_type)?, 1, self.len)?;
        layer.v.slice_set(&rows(v, self.shape.value_type)?, 1, self.len)?;
        Ok((&layer.k, &layer.v))
    }

    /// The keys and values of a layer, with the positions that were appended to it last.
    ///
    /// # Errors
    /// When it has none of its own.
    pub fn get(&self, layer: usize) -> Result<(&Tensor, &Tensor)> {
        let layer = self.own(layer)?;
        Ok((&layer.k, &layer.v))
    }

    fn own(&self, layer: usize) -> Result<&Layer> {
        match self.layers.get(layer) {
            Some(Some(layer)) => Ok(layer),
            _ => bail!("layer {layer} of {} has no cache", self.layers.len()),
        }
    }

    /// Counts `n` positions that were appended to every layer.
    pub fn advance(&mut self, n: usize) {
        self.len += n;
    }
}

/// Writes rows of f32, (n, kv_heads, dim), into the cache from position `at` on.
struct Append {
    at: usize,
    keys: bool,
}

impl InplaceOp2 for Append {
    fn name(&self) -> &'static str {
        "append-to-cache"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        cache_layout: &Layout,
        new: &CpuStorage,
        new_layout: &Layout,
    ) -> Result<()> {
        let (n, heads, dim) = new_layout.shape().dims3()?;
        let Some((start, end)) = new_layout.contiguous_offsets() else {
            bail!("a contiguous tensor was expected, found {new_layout:?}")
        };
        let new = &new.as_slice::<f32>()?[start..end];
        let room = cache_layout.shape().elem_count();
        let capacity = room / heads.max(1) / dim.max(1);
        if cache_layout.start_offset() != 0
            || room != heads * capacity * dim
            || self.at + n > capacity
        {
            bail!("{n} positions at {} of {:?}", self.at, cache_layout.shape())
        }
        match cache {
            CpuStorage::F16(x) => self.write(x, new, (heads, dim, capacity)),
            CpuStorage::BF16(x) => self.write(x, new, (heads, dim, capacity)),
            CpuStorage::F32(x) => self.write(x, new, (heads, dim, capacity)),
            _ => bail!("a cache of another element type than f16, bf16 or f32"),
        }
        Ok(())
    }
}

impl Append {
    fn write<T: Stored>(
        &self,
        cache: &mut [T],
        new: &[f32],
        (heads, dim, capacity): (usize, usize, usize),
    ) {
        let mut row = vec![T::default(); dim];
        for (i, new) in new.chunks_exact(dim).enumerate() {
            let (position, head) = (self.at + i / heads, i % heads);
            let cache = &mut cache[head * capacity * dim..(head + 1) * capacity * dim];
            if self.keys {
                T::convert(new, &mut row);
                let block = &mut cache[position / KEYS * KEYS * dim..][..KEYS * dim];
                let places = block.iter_mut().skip(position % KEYS).step_by(KEYS);
                places.zip(&row).for_each(|(place, &key)| *place = key);
            } else {
                T::convert(new, &mut cache[position * dim..][..dim]);
            }
        }
    }
}

/// An element type of the cache.
trait Stored: Copy + Default {
    fn convert(from: &[f32], to: &mut [Self]);
}

impl Stored for f32 {
    fn convert(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Stored for f16 {
    fn convert(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Stored for bf16 {
    fn convert(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Layer {
    fn new(shape: &CacheShape, heads: KvHeads, capacity: usize, device: &Device) -> Result<Self> {
        let room = |dim: usize, dtype: DType| {
            // Asking first: a failed allocation inside the tensor would end the process.
            let bytes = heads.count * capacity * dim * dtype.size_in_bytes();
            let mut probe: Vec<u8> = Vec::new();
            if device.is_cpu() && probe.try_reserve_exact(bytes).is_err() {
                bail!("no memory for a context of {capacity} positions; use a smaller --ctx-size")
            }
            drop(probe);
            Tensor::zeros((heads.count, capacity, dim), dtype, device)
        };
        let k = room(heads.key_dim, shape.key_type)?;
        let interleaved = (heads.count, capacity / KEYS, heads.key_dim, KEYS);
        Ok(Self {
            k: if device.is_cpu() { k.reshape(interleaved)? } else { k },
            v: room(heads.value_dim, shape.value_type)?,
        })
    }
}
