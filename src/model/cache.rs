//! The keys and values of the positions computed so far.
//!
//! Grows in steps up to its limit, so that a large context costs memory only when it is used. On the CPU, the keys of
//! 16 positions are interleaved element by element, as the attention kernels expect.

use super::spec::{KvHeads, LayerSpec, Spec};
use crate::kernels::{CACHE_BLOCK, CacheType, Element, KEYS};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, bail};

/// Initial capacity, in positions.
const CAPACITY_FIRST: usize = 256;

/// The KV cache of one timeline.
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    shape: CacheShape,
    capacity: usize,
    len: usize,
}

/// What a cache stores per position.
#[derive(Debug, Clone)]
pub struct CacheShape {
    /// The KV heads of each layer, `None` if it reuses those of another.
    pub layers: Vec<Option<KvHeads>>,
    /// Element type of the keys.
    pub key_type: CacheType,
    /// Element type of the values.
    pub value_type: CacheType,
    /// Maximum number of positions.
    pub max: usize,
}

impl CacheShape {
    /// The cache of a model for at most `max` positions.
    #[must_use]
    pub fn new(spec: &Spec, key_type: CacheType, value_type: CacheType, max: usize) -> Self {
        let own = |layer: &LayerSpec| layer.shares.is_none().then_some(layer.heads);
        Self { layers: spec.layers.iter().map(own).collect(), key_type, value_type, max }
    }

    /// Bytes per position, summed over all layers.
    #[must_use]
    pub fn bytes_per_position(&self) -> usize {
        let bytes = |heads: &KvHeads| {
            let (key, value) = (self.key_type, self.value_type);
            heads.count * (key.bytes(heads.key_dim) + value.bytes(heads.value_dim))
        };
        self.layers.iter().flatten().map(bytes).sum()
    }
}

/// Keys (kv_heads, capacity, key_dim), on the CPU (kv_heads, capacity / 16, units, 16), and values
/// (kv_heads, capacity, value_dim or units) of one layer, in units of [`CacheType`].
struct Layer {
    k: Tensor,
    v: Tensor,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// When the device is out of memory.
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

    /// Positions that fit without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Maximum number of positions.
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
    /// When they exceed the limit, or the device is out of memory.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        let needed = self.len + n;
        if needed > self.shape.max {
            bail!("needs {needed} positions, but the context has {}", self.shape.max)
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
        layer.k.slice_set(&rows(k, layer.k.dtype())?, 1, self.len)?;
        layer.v.slice_set(&rows(v, layer.v.dtype())?, 1, self.len)?;
        Ok((&layer.k, &layer.v))
    }

    /// The keys and values of a layer, including the positions appended to it last.
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
        let (_, heads, dim) = new_layout.shape().dims3()?;
        let Some((start, end)) = new_layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, found {new_layout:?}")
        };
        let new = &new.as_slice::<f32>()?[start..end];
        if cache_layout.start_offset() != 0 {
            bail!("expected a cache at offset 0, found offset {}", cache_layout.start_offset())
        }
        match cache {
            CpuStorage::F16(x) => self.write(x, new, heads, dim)?,
            CpuStorage::BF16(x) => self.write(x, new, heads, dim)?,
            CpuStorage::F32(x) => self.write(x, new, heads, dim)?,
            CpuStorage::U8(x) => self.write(x, new, heads, dim)?,
            _ => bail!("unsupported cache type, expected f16, bf16, f32 or q8_0"),
        }
        Ok(())
    }
}

impl Append {
    fn write<T: Element>(
        &self,
        cache: &mut [T],
        new: &[f32],
        heads: usize,
        dim: usize,
    ) -> Result<()> {
        let room = cache.len() / heads.max(1);
        if self.at + new.len() / heads.max(1) / dim.max(1) > room / T::units(dim).max(1) {
            bail!("{} new elements at position {} do not fit {room} units", new.len(), self.at)
        }
        for (i, new) in new.chunks_exact(dim).enumerate() {
            let (position, head) = (self.at + i / heads, i % heads);
            let cache = &mut cache[head * room..(head + 1) * room];
            if self.keys {
                T::put_key(cache, position, new);
            } else {
                T::put_value(cache, position, new);
            }
        }
        Ok(())
    }
}

impl Layer {
    fn new(shape: &CacheShape, heads: KvHeads, capacity: usize, device: &Device) -> Result<Self> {
        let room = |dim: usize, of: CacheType| {
            let dtype = match of {
                CacheType::F16 => DType::F16,
                CacheType::Bf16 => DType::BF16,
                CacheType::F32 => DType::F32,
                CacheType::Q8_0 if device.is_cpu() => DType::U8,
                CacheType::Q8_0 => bail!("cache type q8_0 is supported on the CPU only"),
            };
            // Probe first: a failed allocation inside the tensor would end the process.
            let bytes = heads.count * capacity * of.bytes(dim);
            let mut probe: Vec<u8> = Vec::new();
            if device.is_cpu() && probe.try_reserve_exact(bytes).is_err() {
                bail!(
                    "not enough memory for a context of {capacity} tokens; use a smaller --ctx-size"
                )
            }
            drop(probe);
            Tensor::zeros((heads.count, capacity, of.units(dim)), dtype, device)
        };
        let k = room(heads.key_dim, shape.key_type)?;
        let units = k.dim(2)?;
        let interleaved = (heads.count, capacity / KEYS, units, KEYS);
        Ok(Self {
            k: if device.is_cpu() { k.reshape(interleaved)? } else { k },
            v: room(heads.value_dim, shape.value_type)?,
        })
    }
}
