//! How positions lie in the cache, and in how many they are worked on.

/// Positions whose keys lie together: element by element, so that a vector holds one element of each.
pub const KEYS: usize = 16;
/// Positions that are scored before their values are mixed. A cache's capacity is a multiple of it.
pub const BLOCK: usize = 64;
/// Rows of queries that share a pass over keys and values, at most.
pub const ROWS: usize = 8;
/// Weights of a block of positions, for each of some rows.
pub type Weights = [[f32; BLOCK]];
