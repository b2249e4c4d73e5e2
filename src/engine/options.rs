//! What is asked of a model when it is loaded.

use crate::kernels::{CacheType, Isa};
use crate::system::Memory;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Size of the context; 0: what the model was trained on.
    pub context: usize,
    /// The memory it has to fit into, if that is to be looked at.
    pub room: Option<Room>,
    /// Threads that compute.
    pub threads: usize,
    /// Prompt tokens computed at a time.
    pub batch: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Element type of the cached keys.
    pub key_type: CacheType,
    /// Element type of the cached values.
    pub value_type: CacheType,
    /// A chat template instead of the file's own.
    pub template: Option<String>,
}

/// The memory there is, and how much the context means.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// What there is.
    pub memory: Memory,
    /// Whether the user named the size of the context, so that it is not to be cut.
    pub named: bool,
}

impl Room {
    /// What there is now, `None` where the system does not say.
    #[must_use]
    pub fn now(named: bool) -> Option<Self> {
        Some(Self { memory: Memory::now()?, named })
    }
}
