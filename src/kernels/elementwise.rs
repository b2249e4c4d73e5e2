//! Elementwise and row-wise operations: activation functions, sums, norms, rope.

#![expect(
    unsafe_code,
    reason = "disjoint parts of results, and calls into the instruction set that was detected"
)]

use super::Compute;
use super::disjoint::Disjoint;
use super::float::{self, Turn, gelu_tanh, silu, swiglu_oai};
use super::isa::by_floats;

/// The activation function of a gated feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// x · sigmoid(x).
    Silu,
    /// GELU, tanh form.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    ReluSquared,
    /// gpt-oss's clamped variant of SwiGLU.
    SwigluOai,
    /// xIELU.
    Xielu(Xielu),
}

/// xIELU (Huang and Schlag, 2024): αₚ x² + β x above 0, αₙ (e^min(x, ε) − 1 − x) + β x below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xielu {
    /// αₙ.
    pub negative: f32,
    /// αₚ.
    pub positive: f32,
    /// β.
    pub beta: f32,
    /// ε.
    pub eps: f32,
}

impl Xielu {
    /// Of one number.
    #[must_use]
    pub fn of(self, x: f32) -> f32 {
        let curved = if x > 0.0 {
            self.positive * x * x
        } else {
            (libm::expm1f(x.min(self.eps)) - x) * self.negative
        };
        self.beta * x + curved
    }
}

impl Compute {
    /// `act(gate) · up`, elementwise ([`swiglu_oai`] changes `up` as well).
    #[must_use]
    pub fn gate_up(&self, act: Act, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; gate.len().min(up.len())];
        let shared = Disjoint::new(&mut out);
        self.for_ranges(out_len(gate, up), 16, &|range| {
            let (gate, up) = (&gate[range.clone()], &up[range.clone()]);
            // SAFETY: ranges of different parts do not overlap.
            let out = unsafe { shared.slice(range) };
            self.gate_up_part(act, gate, up, out);
        });
        out
    }

    /// `act(gate) · up` on the calling thread.
    pub(super) fn gate_up_part(&self, act: Act, gate: &[f32], up: &[f32], out: &mut [f32]) {
        match act {
            Act::Silu => self.gate_up_by(|g, u| silu(g) * u, gate, up, out),
            Act::GeluTanh => self.gate_up_by(|g, u| gelu_tanh(g) * u, gate, up, out),
            Act::ReluSquared => {
                self.gate_up_by(|g, u| g.max(0.0) * g.max(0.0) * u, gate, up, out);
            }
            Act::Relu => self.gate_up_by(|g, u| g.max(0.0) * u, gate, up, out),
            Act::Xielu(xielu) => self.gate_up_by(|g, u| xielu.of(g) * u, gate, up, out),
            Act::SwigluOai => self.gate_up_by(swiglu_oai, gate, up, out),
        }
    }

    /// a + b, elementwise.
    #[must_use]
    pub fn add(&self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; out_len(a, b)];
        let shared = Disjoint::new(&mut out);
        self.for_ranges(out_len(a, b), 1, &|range| {
            let (a, b) = (&a[range.clone()], &b[range.clone()]);
            // SAFETY: ranges of different parts do not overlap.
            let out = unsafe { shared.slice(range) };
            out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a + b);
        });
        out
    }

    /// Rope: rotates the pairs of every head of `x`, (n, heads, head_dim), by the angles of its position.
    #[must_use]
    pub fn rotate(&self, x: &[f32], turn: Turn<'_>) -> Vec<f32> {
        let mut out = x.to_vec();
        let shared = Disjoint::new(&mut out);
        let positions = x.len() / (turn.heads * turn.head_dim);
        self.for_ranges(positions, turn.heads * turn.head_dim, &|range| {
            for position in range {
                let size = turn.heads * turn.head_dim;
                // SAFETY: each position is in exactly one part and has its own heads.
                let heads = unsafe { shared.slice(position * size..(position + 1) * size) };
                float::rotate(heads, position, &turn);
            }
        });
        out
    }

    /// x / sqrt(mean(x²) + eps) · weight for each row of `weight.len()` elements.
    #[must_use]
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
        let columns = weight.len();
        let mut out = vec![0.0; x.len()];
        let shared = Disjoint::new(&mut out);
        self.for_ranges(x.len() / columns, 2 * columns, &|range| {
            let elements = range.start * columns..range.end * columns;
            let x = &x[elements.clone()];
            // SAFETY: ranges of different parts do not overlap.
            let out = unsafe { shared.slice(elements) };
            for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
                self.rms_norm_row(x, weight, eps, out);
            }
        });
        out
    }

    fn rms_norm_row(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        by_floats!(
            self.isa,
            scalar: float::rms_norm(x, weight, eps, out),
            rms_norm(x, weight, eps, out)
        );
    }

    fn gate_up_by(&self, act: impl Fn(f32, f32) -> f32, gate: &[f32], up: &[f32], out: &mut [f32]) {
        by_floats!(
            self.isa,
            scalar: float::gate_up(act, gate, up, out),
            gate_up(act, gate, up, out)
        );
    }
}

fn out_len(a: &[f32], b: &[f32]) -> usize {
    a.len().min(b.len())
}
