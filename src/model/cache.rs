//! The keys and values of the positions computed so far.
//!
//! Grows in steps up to its limit, so that a large context costs memory only when it is used.

use candle_core::{DType, Device, Result, Tensor};

/// Positions a new cache has room for.
const CAPACITY_FIRST: usize = 256;

/// The KV cache of one timeline.
pub struct KvCache {
    layers: Vec<Layer>,
    shape: CacheShape,
    capacity: usize,
    len: usize,
}

/// What a cache holds for each position.
#[derive(Debug, Clone)]
pub struct CacheShape {
    /// Layers.
    pub layers: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a key head.
    pub key_dim: usize,
    /// Elements of a value head.
    pub value_dim: usize,
    /// Element type of the keys.
    pub key_type: DType,
    /// Element type of the values.
    pub value_type: DType,
    /// Positions at most.
    pub max: usize,
}

impl CacheShape {
    /// Bytes that one position takes in all layers.
    #[must_use]
    pub fn bytes_per_position(&self) -> usize {
        let key = self.key_dim * self.key_type.size_in_bytes();
        let value = self.value_dim * self.value_type.size_in_bytes();
        self.layers * self.kv_heads * (key + value)
    }
}

/// Keys (kv_heads, capacity, key_dim) and values (kv_heads, capacity, value_dim) of one layer.
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
        let capacity = CAPACITY_FIRST.min(shape.max);
        let layers = (0..shape.layers)
            .map(|_| Layer::new(&shape, capacity, device))
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
        if needed <= self.capacity {
            return Ok(());
        }
        if needed > self.shape.max {
            candle_core::bail!("{needed} positions in a context of {}", self.shape.max)
        }
        let capacity = needed.max(self.capacity * 2).min(self.shape.max);
        for layer in &mut self.layers {
            let larger = Layer::new(&self.shape, capacity, layer.k.device())?;
            if self.len > 0 {
                larger.k.slice_set(&layer.k.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
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
        let Some(layer) = self.layers.get(layer) else {
            candle_core::bail!("layer {layer} of {}", self.layers.len())
        };
        let rows = |x: &Tensor, dtype| x.transpose(0, 1)?.to_dtype(dtype)?.contiguous();
        layer.k.slice_set(&rows(k, self.shape.key_type)?, 1, self.len)?;
        layer.v.slice_set(&rows(v, self.shape.value_type)?, 1, self.len)?;
        Ok((&layer.k, &layer.v))
    }

    /// Counts `n` positions that were appended to every layer.
    pub fn advance(&mut self, n: usize) {
        self.len += n;
    }
}

impl Layer {
    fn new(shape: &CacheShape, capacity: usize, device: &Device) -> Result<Self> {
        let room = |dim: usize, dtype: DType| {
            let shape = (shape.kv_heads, capacity, dim);
            // Asking first: a failed allocation inside the tensor would end the process.
            let bytes = shape.0 * shape.1 * shape.2 * dtype.size_in_bytes();
            let mut probe: Vec<u8> = Vec::new();
            if device.is_cpu() && probe.try_reserve_exact(bytes).is_err() {
                candle_core::bail!(
                    "no memory for a context of {capacity} positions; use a smaller --ctx-size"
                )
            }
            drop(probe);
            Tensor::zeros(shape, dtype, device)
        };
        Ok(Self {
            k: room(shape.key_dim, shape.key_type)?,
            v: room(shape.value_dim, shape.value_type)?,
        })
    }
}
