//! What recurrences compute, written plainly: one position after the other, one head after the other.

use super::checks::misfit;
use super::error::Result;
use super::tensor::{Tensor, with};
use crate::kernels::{Convolution, DeltaNet, Mamba1, Mamba2, Stretch, sigmoid, softplus};

/// Checks inputs, each with the length of its rows, and states, and has `f` compute rows of `width` elements from them.
pub fn over<const N: usize>(
    inputs: [(&Tensor, usize); N],
    state: usize,
    stretches: &mut [Stretch<'_>],
    width: usize,
    f: impl FnOnce([&[f32]; N], &mut [Stretch<'_>]) -> Vec<f32>,
) -> Result<Tensor> {
    let rows: usize = stretches.iter().map(|stretch| stretch.rows).sum();
    let fits = |(x, width): &(&Tensor, usize)| x.shape() == [rows, *width];
    if !inputs.iter().all(fits) || !stretches.iter().all(|stretch| stretch.fits(state)) {
        let shapes = inputs.map(|(x, width)| (x.shape(), width));
        return misfit(format!(
            "recurrence: shapes and widths {shapes:?} do not fit {rows} rows, or states are not of {state} elements"
        ));
    }
    let out = with(inputs.map(|(x, _)| x), |slices| f(slices, stretches))?;
    Tensor::of(out, &[rows, width])
}

/// A causal convolution of rows of `channels` elements.
pub fn convolve(c: &Convolution, x: &[f32], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let (n, mut at) = (c.channels, 0);
    let mut out = Vec::with_capacity(x.len());
    for stretch in stretches {
        let mut rows = stretch.before().to_vec();
        rows.extend_from_slice(&x[at * n..(at + stretch.rows) * n]);
        at += stretch.rows;
        for row in 0..stretch.rows {
            for channel in 0..n {
                let taps = c.taps.iter().skip(channel).step_by(n);
                let inputs = rows[row * n..].iter().skip(channel).step_by(n);
                let sum: f32 = taps.zip(inputs).map(|(tap, x)| tap * x).sum();
                let sum = sum + c.bias.as_ref().map_or(0.0, |bias| bias[channel]);
                out.push(if c.silu { sum * sigmoid(sum) } else { sum });
            }
        }
        for (read, state) in &mut stretch.after {
            let len = state.len();
            state.copy_from_slice(&rows[*read * n..][..len]);
        }
    }
    out
}

/// A position's effect on the state of one head, S (`key_dim`, `value_dim`).
struct Step<'a> {
    key: &'a [f32],
    query: &'a [f32],
    value: &'a [f32],
    decay: f32,
    rate: f32,
    corrects: bool,
}

impl Step<'_> {
    /// Changes the state and returns Sᵀ · query.
    fn take(&self, state: &mut [f32]) -> Vec<f32> {
        let width = self.value.len();
        let times = |state: &[f32], x: &[f32]| -> Vec<f32> {
            let column = |j| x.iter().enumerate().map(|(i, x)| x * state[i * width + j]).sum();
            (0..width).map(column).collect()
        };
        state.iter_mut().for_each(|s| *s *= self.decay);
        let held = times(state, self.key);
        for (i, k) in self.key.iter().enumerate() {
            for j in 0..width {
                let held = if self.corrects { held[j] } else { 0.0 };
                state[i * width + j] += k * self.rate * (self.value[j] - held);
            }
        }
        times(state, self.query)
    }
}

/// Takes states through the rows of all stretches; `step` makes a head's step of a row.
fn run<'s>(
    heads: usize,
    size: usize,
    stretches: &mut [Stretch<'_>],
    mut step: impl FnMut(usize, usize, &mut [f32]) -> Vec<f32> + 's,
) -> Vec<f32> {
    let (mut out, mut row) = (Vec::new(), 0);
    for stretch in stretches {
        let mut state = stretch.before().to_vec();
        let mut after = stretch.after.iter_mut().peekable();
        for read in 0..=stretch.rows {
            if read > 0 {
                for head in 0..heads {
                    out.extend(step(row, head, &mut state[head * size..(head + 1) * size]));
                }
                row += 1;
            }
            if let Some((_, to)) = after.next_if(|(rows, _)| *rows == read) {
                to.copy_from_slice(&state);
            }
        }
    }
    out
}

/// A gated delta net, as [`crate::kernels`] describes it.
pub fn delta_net(
    net: &DeltaNet,
    x: &[f32],
    [alpha, beta]: [&[f32]; 2],
    stretches: &mut [Stretch<'_>],
) -> Vec<f32> {
    let (width, dim, keys) = (net.width(), net.key_dim, net.key_heads * net.key_dim);
    let root = (dim as f32).sqrt();
    let unit = |x: &[f32]| -> Vec<f32> {
        let squares: f32 = x.iter().map(|x| x * x).sum();
        x.iter().map(|x| x / (squares + net.eps).sqrt()).collect()
    };
    let size = net.state_len() / net.heads;
    run(net.heads, size, stretches, |row, head, state| {
        let x = &x[row * width..][..width];
        let key = net.key_of(head) * dim;
        let query: Vec<f32> = unit(&x[key..][..dim]).iter().map(|q| q / root).collect();
        let step = Step {
            key: &unit(&x[keys + key..][..dim]),
            query: &query,
            value: &x[2 * keys + head * net.value_dim..][..net.value_dim],
            decay: libm::expf(
                net.rates[head] * softplus(alpha[row * net.heads + head] + net.bias[head]),
            ),
            rate: sigmoid(beta[row * net.heads + head]),
            corrects: true,
        };
        step.take(state)
    })
}

/// Mamba 2, as [`crate::kernels`] describes it.
pub fn mamba2(m: &Mamba2, x: &[f32], steps: &[f32], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let (width, inner) = (m.width(), m.heads * m.head_dim);
    let size = m.state_len() / m.heads;
    run(m.heads, size, stretches, |row, head, state| {
        let x = &x[row * width..][..width];
        let group = inner + head / (m.heads / m.groups) * m.d_state;
        let rate = softplus(steps[row * m.heads + head] + m.bias[head]);
        let value = &x[head * m.head_dim..][..m.head_dim];
        let step = Step {
            key: &x[group..][..m.d_state],
            query: &x[group + m.groups * m.d_state..][..m.d_state],
            value,
            decay: libm::expf(rate * m.rates[head]),
            rate,
            corrects: false,
        };
        let mut mixed = step.take(state);
        mixed.iter_mut().zip(value).for_each(|(y, x)| *y += m.skips[head] * x);
        mixed
    })
}

/// Mamba, as [`crate::kernels`] describes it. Each channel is a head of one element here.
pub fn mamba1(
    m: &Mamba1,
    [x, steps, b, c]: [&[f32]; 4],
    stretches: &mut [Stretch<'_>],
) -> Vec<f32> {
    let (n, d_state) = (m.channels, m.d_state);
    run(n, d_state, stretches, |row, channel, state| {
        let (x, at) = (x[row * n + channel], row * d_state);
        let step = softplus(steps[row * n + channel] + m.bias[channel]);
        let mut y = m.skips[channel] * x;
        for (i, s) in state.iter_mut().enumerate() {
            *s = libm::expf(step * m.rates[i * n + channel]) * *s + b[at + i] * step * x;
            y += c[at + i] * *s;
        }
        vec![y]
    })
}
