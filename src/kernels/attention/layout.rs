//! Memory layout of cached positions, and the sizes of the pieces that kernels process.

/// Positions whose keys are interleaved element by element, so that a vector holds one element of each.
pub const KEYS: usize = 16;
/// Positions scored before their values are mixed. A cache's capacity is a multiple of this.
pub const BLOCK: usize = 64;
/// Maximum number of query rows that share a pass over keys and values.
pub const ROWS: usize = 8;
/// Softmax weights (or scores) of a block of positions, one array per query row.
pub type Weights = [[f32; BLOCK]];
