//! Options for loading a model.

use crate::kernels::CacheType;
use crate::system::Memory;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Size of the context; 0: what the model was trained on.
    pub context: usize,
    /// The memory it has to fit into; `None`: not checked.
    pub room: Option<Room>,
    /// Prompt tokens computed at a time.
    pub batch: usize,
    /// Requests computed at a time; `None`: chosen from the memory.
    pub parallel: Option<usize>,
    /// Requests that wait besides.
    pub queue: usize,
    /// Bytes of conversations that are kept for their next turn; `None`: chosen from the memory.
    pub cache_bytes: Option<u64>,
    /// Places to go back to that are kept at most, for models with states of fixed size or sliding windows.
    pub checkpoints: usize,
    /// Whether layers with sliding windows keep all positions, though they see only the last.
    pub swa_full: bool,
    /// Element type of the cached keys.
    pub key_type: CacheType,
    /// Element type of the cached values.
    pub value_type: CacheType,
    /// A chat template instead of the file's own.
    pub template: Option<String>,
}

impl Default for LoadOptions {
    /// What suits any model, and memory without bounds.
    fn default() -> Self {
        Self {
            context: 0,
            room: None,
            batch: 128,
            parallel: None,
            queue: 512,
            cache_bytes: None,
            checkpoints: 32,
            swa_full: false,
            key_type: CacheType::F16,
            value_type: CacheType::F16,
            template: None,
        }
    }
}

/// The available memory, and whether the context size is fixed.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The memory.
    pub memory: Memory,
    /// Whether the user set the context size, so that it must not be reduced.
    pub named: bool,
}

impl Room {
    /// The memory right now, `None` if the system does not say.
    #[must_use]
    pub fn now(named: bool) -> Option<Self> {
        Some(Self { memory: Memory::now()?, named })
    }
}
