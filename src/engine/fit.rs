//! Checks whether a model fits in memory, before any of it is used.
//!
//! Input: a model's needs, the requested context, the memory. Output: the context to use and notes for the user, or why
//! the model can't run. Weights are mapped: if they exceed memory, they are slow, not impossible. Private memory (the
//! KV cache, room to compute) has to be available.

use super::options::{LoadOptions, Room};
use super::queue::Limits;
use crate::model::{LayerSpec, ModelFile, PAGE, PagePool, PageShape, Spec};
use crate::system::{Memory, size};
use std::sync::Arc;

/// Size below which a context is not reduced when memory is short, in positions.
const CONTEXT_FLOOR: usize = 2048;
/// A reduced context is a multiple of this.
const STEP: usize = 256;
/// Private memory of any model: the program, its page, answers being written.
const BASE_BYTES: u64 = 8 << 20;
/// States of a sequence that is being computed: that before a pass, and that after it.
const STATES: u64 = 2;
/// Bytes of tables per token of the vocabulary.
const WORD_BYTES: u64 = 24;

/// The memory that a model needs.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Bytes of the weights: mapped, shared with other programs that use them, and read again after eviction.
    pub weights: u64,
    /// Private bytes per position of the context.
    pub per_position: u64,
    /// Private bytes of what a sequence has of fixed size: states, and the pages that sliding windows reach.
    pub states: u64,
    /// Private bytes of everything else, estimated.
    pub working: u64,
    /// Context length the model was trained with, in positions.
    pub trained: usize,
}

/// The pages of a model: those of all layers, or those of layers with sliding windows apart from the others.
pub struct Pages {
    /// Of layers that see all positions, or of all.
    pub whole: PageShape,
    /// Of the others, and their longest window.
    windows: Option<(PageShape, usize)>,
}

impl Pages {
    /// The pages of a model of this spec when loaded with `options`.
    #[must_use]
    pub fn of(spec: &Spec, options: &LoadOptions) -> Self {
        let (keys, values) = (options.key_type, options.value_type);
        let context = if options.context == 0 { spec.n_ctx_train } else { options.context };
        match spec.slides(context).filter(|_| !options.swa_full) {
            Some(longest) => {
                let [whole, windows] = PageShape::apart(spec, keys, values);
                Self { whole, windows: Some((windows, longest)) }
            }
            None => Self { whole: PageShape::new(spec, keys, values), windows: None },
        }
    }

    /// A pool of them that takes at most `bytes_max` for the first kind.
    #[must_use]
    pub fn pool(self, bytes_max: usize) -> Arc<PagePool> {
        match self.windows {
            Some((windows, longest)) => PagePool::apart([self.whole, windows], bytes_max, longest),
            None => PagePool::new(self.whole, bytes_max),
        }
    }

    /// Bytes of the pages that windows reach at a place.
    fn window_bytes(&self) -> usize {
        let Some((shape, longest)) = &self.windows else { return 0 };
        (longest.div_ceil(PAGE) + 1) * shape.bytes()
    }
}

impl Need {
    /// What the model in `file` needs when loaded with `options`.
    #[must_use]
    pub fn of(file: &ModelFile, spec: &Spec, options: &LoadOptions) -> Self {
        let pages = Pages::of(spec, options);
        let d_ffn = spec.layers.iter().map(|layer| layer.d_ffn).max().unwrap_or(0);
        // A row's activations in f32: eight rows of d_model and three of d_ffn are live at once, as measured.
        let row = 4 * (8 * spec.d_model + 3 * d_ffn) as u64;
        let recurrent = spec.layers.iter().flat_map(LayerSpec::states);
        let states: usize = recurrent.map(|mixer| mixer.state_len(spec.d_model)).sum();
        Self {
            weights: file.weight_bytes(),
            per_position: pages.whole.bytes_per_position() as u64,
            states: (size_of::<f32>() * states + pages.window_bytes()) as u64,
            working: BASE_BYTES
                + WORD_BYTES * spec.n_vocab as u64
                + row.saturating_mul(options.batch as u64),
            trained: spec.n_ctx_train,
        }
    }

    /// Private bytes with a full context.
    #[must_use]
    pub fn private(&self, context: usize) -> u64 {
        let states = STATES.saturating_mul(self.states);
        let rest = self.working.saturating_add(states);
        self.per_position.saturating_mul(context as u64).saturating_add(rest)
    }
}

/// How memory is divided among sequences.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes that all pages together may take.
    pub pool_bytes: usize,
    /// Bounds of the scheduler.
    pub limits: Limits,
}

/// Positions that a conversation is taken to have when the number of parallel requests is chosen.
const USUAL_POSITIONS: u64 = 2048;
/// Bounds of that number.
const PARALLEL: std::ops::RangeInclusive<u64> = 4..=16;

/// Divides the memory beside the weights: three quarters of what is free go to pages, at least one whole context; a
/// quarter of it, at most, to conversations that are kept. Sequences take pages as they grow, so several short ones
/// need no whole contexts.
#[must_use]
pub fn sizes(need: &Need, shape: &PageShape, context: usize, options: &LoadOptions) -> Sizes {
    let page = shape.bytes().max(1) as u64;
    let of = |positions: u64| positions.div_ceil(PAGE as u64) * page;
    // A page more, since a shared one is copied when it is written.
    let one = of(context as u64) + page;
    let free = options.room.map_or(u64::MAX, |room| {
        let beside = room.memory.available.saturating_sub(need.weights);
        beside.max(room.memory.available / 4).saturating_sub(need.working)
    });
    // States to go back to take up to an eighth of it, beside the pages.
    let most = (free / 8).checked_div(need.states).unwrap_or(0);
    let cached_states = most.min(options.checkpoints as u64);
    let free = free.saturating_sub(cached_states.saturating_mul(need.states));
    let each = of(USUAL_POSITIONS).saturating_add(STATES.saturating_mul(need.states));
    let fitting = (free / 4 * 3 / each).clamp(*PARALLEL.start(), *PARALLEL.end());
    let parallel = options.parallel.map_or(fitting, |n| n.max(1) as u64);
    let cached = options.cache_bytes.unwrap_or(free / 4);
    let most = one.saturating_mul(parallel).saturating_add(cached);
    let pool = most.min((free / 4 * 3).max(one));
    let as_size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Sizes {
        pool_bytes: as_size(pool),
        limits: Limits {
            parallel: as_size(parallel),
            queue: options.queue,
            batch: options.batch.max(1),
            context,
            cached_pages: as_size(cached.min(pool) / page),
            cached_states: as_size(cached_states),
        },
    }
}

/// How a model fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// Size of the context to use.
    pub context: usize,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// A model or a context that does not fit in memory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a context of {context} tokens needs {needed} of memory, but {found}\nhint: {hint}")]
pub struct TooLarge {
    context: usize,
    needed: String,
    found: String,
    hint: String,
}

/// Fits a model with a context of `asked` positions (0: what it was trained with) into the room.
///
/// # Errors
/// When it does not fit, even slowly.
pub fn fit(need: &Need, asked: usize, room: Option<&Room>) -> Result<Fit, TooLarge> {
    let wanted = if asked == 0 { need.trained } else { asked };
    let Some(Room { memory, named }) = room else {
        return Ok(Fit { context: wanted, notes: Vec::new() });
    };
    let context = if *named && asked > 0 { wanted } else { fitting(need, wanted, memory) };
    let all = memory.total.saturating_add(memory.swap);
    if need.private(context) > all {
        return Err(too_large(need, context, memory));
    }
    let mut notes = Vec::new();
    if context < wanted {
        notes.push(format!(
            "note: the context is {context} tokens instead of {wanted}: {} of memory is free, the weights take {}, and each token of context {}\nhint: --ctx-size N sets a larger one anyway",
            size(memory.available),
            size(need.weights),
            size(need.per_position)
        ));
    }
    notes.extend(slow(need, context, memory));
    Ok(Fit { context, notes })
}

/// The largest context up to `wanted` that leaves the weights in memory, if possible.
fn fitting(need: &Need, wanted: usize, memory: &Memory) -> usize {
    // Weights larger than free memory are constantly read again anyway: leave the context a quarter of it.
    let left = memory.available.saturating_sub(need.weights).max(memory.available / 4);
    let positions = left.saturating_sub(need.working) / need.per_position.max(1);
    let positions = usize::try_from(positions).unwrap_or(usize::MAX);
    if positions >= wanted {
        return wanted;
    }
    (positions / STEP * STEP).max(CONTEXT_FLOOR).min(wanted)
}

fn too_large(need: &Need, context: usize, memory: &Memory) -> TooLarge {
    let all = memory.total.saturating_add(memory.swap);
    let most = fitting(need, context, memory);
    let hint = if most < context && need.private(most) <= all {
        format!("--ctx-size {most} takes {}", size(need.private(most)))
    } else {
        "use a smaller model; a smaller --ctx-size is not enough".to_owned()
    };
    let swap =
        if memory.swap > 0 { format!(" and {} of swap", size(memory.swap)) } else { String::new() };
    let whose = if memory.limited { "this container" } else { "this computer" };
    TooLarge {
        context,
        needed: size(need.private(context)),
        found: format!("{whose} has {}{swap}", size(memory.total)),
        hint,
    }
}

/// A warning about what will be slow, and what to do.
fn slow(need: &Need, context: usize, memory: &Memory) -> Option<String> {
    let private = need.private(context);
    if need.weights.saturating_add(need.working) > memory.total {
        return Some(format!(
            "warning: the weights take {}, but there is only {} of memory: they are read from the disk again for every token, which is slow\nhint: use a smaller quantization (Q4 or less), or a smaller model",
            size(need.weights),
            size(memory.total)
        ));
    }
    let most = need.weights.saturating_add(private);
    (most > memory.available).then(|| {
        format!(
            "warning: with a full context this takes {} of memory ({} of it for the weights), but only {} is free: the computer may become slow\nhint: close other programs, or use a smaller --ctx-size or a smaller quantization",
            size(most),
            size(need.weights),
            size(memory.available)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    /// An 8B model in Q4: 128 KiB per position.
    const NEED: Need = Need {
        weights: 5 * GIB,
        per_position: 128 << 10,
        states: 0,
        working: 64 << 20,
        trained: 131_072,
    };

    fn room(total: u64, available: u64, swap: u64, named: bool) -> Room {
        let memory = Memory {
            total: total * GIB,
            available: available * GIB,
            swap: swap * GIB,
            limited: false,
        };
        Room { memory, named }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let fits = |asked: usize, context: usize| {
            let found = fit(&NEED, asked, Some(&room(64, 60, 0, false))).unwrap();
            assert_eq!(found, Fit { context, notes: Vec::new() });
        };
        fits(0, 131_072);
        fits(4096, 4096);
        assert_eq!(fit(&NEED, 0, None).unwrap().context, 131_072, "nothing is known of the memory");
    }

    #[test]
    fn a_default_context_is_reduced_to_what_is_free_beside_the_weights() {
        let Fit { context, notes } = fit(&NEED, 0, Some(&room(16, 8, 0, true))).unwrap();
        assert_eq!(context, (3 * GIB - (64 << 20)) as usize / (128 << 10) / STEP * STEP);
        assert!(NEED.weights + NEED.private(context) <= 8 * GIB);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("note: ") && notes[0].contains("131072"), "{notes:?}");
        let bundled = fit(&NEED, 100_000, Some(&room(16, 8, 0, false))).unwrap();
        assert_eq!(bundled.context, context, "what a bundle names is no user's wish");
    }

    #[test]
    fn a_requested_context_is_kept_if_it_is_possible_at_all() {
        let found = fit(&NEED, 65_536, Some(&room(8, 4, 4, true))).unwrap();
        assert_eq!(found.context, 65_536);
        assert!(found.notes[0].starts_with("warning: "), "{found:?}");
        let error = fit(&NEED, 131_072, Some(&room(8, 7, 0, true))).unwrap_err().to_string();
        for part in ["131072 tokens", "16.1 GiB", "8.0 GiB", "hint: --ctx-size "] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let hinted: usize =
            error.split("--ctx-size ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(fit(&NEED, hinted, Some(&room(8, 7, 0, true))).unwrap().context, hinted);
    }

    #[test]
    fn states_to_go_back_to_take_an_eighth_of_what_is_free() {
        let need = Need { weights: GIB, states: 20 << 20, ..NEED };
        let shape = PageShape::of(
            &[Some(crate::model::KvHeads { count: 8, key_dim: 128, value_dim: 128 }); 32],
            crate::kernels::CacheType::F16,
            crate::kernels::CacheType::F16,
        );
        let kept = |available: u64, checkpoints: usize| {
            let room = Some(room(64, available, 0, false));
            let options = LoadOptions { room, checkpoints, ..LoadOptions::default() };
            sizes(&need, &shape, 2048, &options).limits.cached_states
        };
        let free = GIB - (64 << 20); // beside the weights and what is worked with
        assert_eq!(kept(2, 32), (free / 8 / need.states) as usize);
        assert_eq!((kept(40, 32), kept(40, 5), kept(40, 0)), (32, 5, 0));
        let attention_only = sizes(&NEED, &shape, 2048, &LoadOptions::default());
        assert_eq!(attention_only.limits.cached_states, 0);
    }

    #[test]
    fn weights_beyond_memory_are_slow_but_not_an_error() {
        let found = fit(&NEED, 0, Some(&room(4, 3, 0, false))).unwrap();
        assert!(found.context >= CONTEXT_FLOOR);
        assert!(found.notes.iter().any(|n| n.contains("read from the disk again")), "{found:?}");
        let huge = Need { per_position: 0, weights: u64::MAX, ..NEED };
        assert!(fit(&huge, 0, Some(&room(4, 3, 0, false))).is_ok());
    }

    #[test]
    fn an_impossible_context_is_an_error_even_by_default() {
        let huge = Need { per_position: u64::MAX, ..NEED };
        assert!(fit(&huge, 0, Some(&room(4, 3, 0, false))).is_err());
        let error = fit(&Need { working: u64::MAX, ..NEED }, 1, Some(&room(4, 3, 0, true)));
        assert!(error.unwrap_err().to_string().contains("smaller model"));
    }
}
