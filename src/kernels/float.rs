//! Scalar functions that compilers can vectorize: no branches, no library calls.

use half::{bf16, f16};

/// Rope parameters.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Heads per position.
    pub heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Rotated pairs per head.
    pub pairs: usize,
    /// Cosines, (positions, pairs). Elements of a head beyond its pairs are not rotated.
    pub cos: &'a [f32],
    /// Sines, (positions, pairs).
    pub sin: &'a [f32],
    /// Whether pairs are adjacent elements, rather than one from each half of the rotated elements.
    pub adjacent: bool,
}

/// A float element type of the KV cache.
pub trait ToF32: Copy + Send + Sync {
    /// The value as f32.
    fn to_f32(self) -> f32;
}

impl ToF32 for f32 {
    #[inline]
    fn to_f32(self) -> f32 {
        self
    }
}

impl ToF32 for f16 {
    #[inline]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl ToF32 for bf16 {
    #[inline]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
}

/// eˣ with a relative error below 3e-7: 2ⁿ · p(r), with n = round(x / ln 2) and the degree-6 Taylor
/// polynomial of e^r on |r| ≤ ln 2 / 2. Below x = −87.3 (where eˣ ≈ 2⁻¹²⁶) the result is 0; above 88.3 it
/// stays at e^88.3.
#[inline]
#[must_use]
#[expect(clippy::excessive_precision, clippy::unreadable_literal, reason = "ln 2 in two parts")]
pub fn exp(x: f32) -> f32 {
    // 1.5 × 2²³: adding it rounds to an integer and leaves that integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let low = if x > -87.3 { x } else { -87.3 };
    let clamped = if low < 88.3 { low } else { 88.3 };
    let shifted = clamped * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    // ln 2 in two parts, so that r keeps its low bits.
    let r = clamped - n * 0.693359375 - n * -2.12194440e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    // A mask, because an `if` would compile to a branch per element.
    let keep = 0_u32.wrapping_sub(u32::from(x >= -87.3));
    f32::from_bits((p * power).to_bits() & keep)
}

/// Applies rope to the heads of one position.
pub fn rotate(heads: &mut [f32], position: usize, turn: &Turn<'_>) {
    let half = turn.pairs;
    let (cos, sin) = (&turn.cos[position * half..][..half], &turn.sin[position * half..][..half]);
    for head in heads.chunks_exact_mut(turn.head_dim) {
        if turn.adjacent {
            for ((pair, c), s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                *pair = [pair[0] * c - pair[1] * s, pair[0] * s + pair[1] * c];
            }
        } else {
            let (a, b) = head[..2 * half].split_at_mut(half);
            for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
            }
        }
    }
}

/// Adds `bias` to each row of `bias.len()` elements.
pub fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len().max(1)) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// Replaces `x` by `exp(x - max)` and returns the sum.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    x.iter_mut().for_each(|x| *x = exp(*x - max));
    let mut lanes = [0_f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `out[i] = act(gate[i], up[i])`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub fn gate_up(act: impl Fn(f32, f32) -> f32, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = act(gate, up);
    }
}

/// RMS norm of one row.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
#[expect(clippy::cast_precision_loss, reason = "rows have thousands of elements")]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // Eight partial sums: a single running sum would fix the order of the additions.
    let mut lanes = [0_f32; 8];
    let chunks = x.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| x * x).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x * x);
    }
    let mean = (lanes.iter().sum::<f32>() + rest) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

/// `out[i] += weights[i] · x[i]`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub fn add_weighted(out: &mut [f32], weights: &[f32], x: &[f32]) {
    for ((out, w), x) in out.iter_mut().zip(weights).zip(x) {
        *out += w * x;
    }
}

/// A position's effect on the states of some channels.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    /// Their inputs.
    pub x: &'a [f32],
    /// Their steps.
    pub steps: &'a [f32],
    /// How fast the elements of their states forget, (elements, `stride`).
    pub rates: &'a [f32],
    /// Channels of a row of `rates`.
    pub stride: usize,
    /// What each element takes of the input.
    pub b: &'a [f32],
    /// What each element gives.
    pub c: &'a [f32],
    /// What passes by the states.
    pub skips: &'a [f32],
}

/// Changes the states, (elements, channels), and sets `out`: s = e^(step · rate) · s + b · step · x, out = Σ c · s + skip · x.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub fn channels(step: &Channels<'_>, state: &mut [f32], out: &mut [f32]) {
    let n = out.len();
    let (x, steps, skips) = (&step.x[..n], &step.steps[..n], &step.skips[..n]);
    for i in 0..n {
        out[i] = skips[i] * x[i];
    }
    for (element, (b, c)) in step.b.iter().zip(step.c).enumerate() {
        let state = &mut state[element * n..(element + 1) * n];
        let rates = &step.rates[element * step.stride..][..n];
        for i in 0..n {
            state[i] = exp(steps[i] * rates[i]) * state[i] + b * (steps[i] * x[i]);
            out[i] += c * state[i];
        }
    }
}

/// Replaces each x by x · sigmoid(x).
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub fn silu_all(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = silu(*x));
}

/// x · sigmoid(x).
#[inline]
#[must_use]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// gate · sigmoid(1.702 gate) · (up + 1) with gate clamped to at most 7 and up to ±7, as in gpt-oss.
#[inline]
#[must_use]
pub fn swiglu_oai(gate: f32, up: f32) -> f32 {
    const ALPHA: f32 = 1.702;
    const LIMIT: f32 = 7.0;
    let gate = gate.min(LIMIT);
    gate / (1.0 + exp(-ALPHA * gate)) * (up.clamp(-LIMIT, LIMIT) + 1.0)
}

/// GELU in its tanh form.
#[inline]
#[must_use]
pub fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    // x · (1 + tanh u) / 2 is x · sigmoid(2 u).
    let u = SQRT_2_OVER_PI * x * (1.0 + 0.044_715 * x * x);
    x / (1.0 + exp(-2.0 * u))
}

/// Compiles the loops above for an instruction set. The compiler vectorizes them; the results are the same to the bit.
macro_rules! compiled {
    ($features:literal, round: $round:ty) => {
        /// See [`crate::kernels::float::exp_sum`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn exp_sum(x: &mut [f32], max: f32) -> f32 {
            crate::kernels::float::exp_sum(x, max)
        }

        /// See [`crate::kernels::float::gate_up`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn gate_up(
            act: impl Fn(f32, f32) -> f32,
            gate: &[f32],
            up: &[f32],
            out: &mut [f32],
        ) {
            crate::kernels::float::gate_up(act, gate, up, out);
        }

        /// See [`crate::kernels::float::add_weighted`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn add_weighted(out: &mut [f32], weights: &[f32], x: &[f32]) {
            crate::kernels::float::add_weighted(out, weights, x);
        }

        /// See [`crate::kernels::float::channels`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn channels(
            step: &crate::kernels::float::Channels<'_>,
            state: &mut [f32],
            out: &mut [f32],
        ) {
            crate::kernels::float::channels(step, state, out);
        }

        /// See [`crate::kernels::float::silu_all`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn silu_all(x: &mut [f32]) {
            crate::kernels::float::silu_all(x);
        }

        /// See [`crate::kernels::activations::quantize`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn quantize(
            x: &[f32],
            parts: &mut [std::mem::MaybeUninit<crate::kernels::activations::Part>],
        ) {
            // SAFETY: guaranteed by the caller.
            unsafe { crate::kernels::activations::quantize::<$round>(x, parts) }
        }

        /// See [`crate::kernels::float::rms_norm`].
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
            crate::kernels::float::rms_norm(x, weight, eps, out);
        }
    };
}

pub(super) use compiled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_parts_in_ten_million() {
        for i in -8700..8800_i16 {
            let x = f32::from(i) / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}): relative error {error}");
        }
        assert!(exp(f32::NEG_INFINITY).abs() < f32::MIN_POSITIVE);
        assert!((silu(-100.0)).abs() < 1e-30 && (silu(50.0) - 50.0).abs() < 1e-5);
    }
}
