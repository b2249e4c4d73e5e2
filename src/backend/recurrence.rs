//! What recurrences compute, written plainly: one position after the other, one head after the other.

use super::checks::misfit;
use super::error::Result;
use super::tensor::{Tensor, with_all};
use crate::kernels::{
    Convolution, DeltaNet, Kda, Lightning, Mamba1, Mamba2, Recurrence, Rwkv6, Shape, Stretch,
    sigmoid, softplus,
};

/// Checks inputs and states, and has `f` compute rows of the result from them.
pub fn over(
    recurrence: Recurrence<'_>,
    inputs: &[&Tensor],
    stretches: &mut [Stretch<'_>],
    f: impl FnOnce(&[&[f32]], &mut [Stretch<'_>]) -> Vec<f32>,
) -> Result<Tensor> {
    let rows: usize = stretches.iter().map(|stretch| stretch.rows).sum();
    let (widths, state) = (recurrence.inputs(), recurrence.state_len());
    let fit = inputs.len() == widths.len()
        && inputs.iter().zip(&widths).all(|(x, width)| x.shape() == [rows, *width])
        && stretches.iter().all(|stretch| stretch.fits(state));
    if !fit {
        let shapes: Vec<&[usize]> = inputs.iter().map(|x| x.shape()).collect();
        return misfit(format!(
            "recurrence: shapes {shapes:?} are not {rows} rows of {widths:?}, or states are not of {state} elements"
        ));
    }
    let out = with_all(inputs, |slices| f(slices, stretches))?;
    Tensor::of(out, &[rows, recurrence.width()])
}

/// The result of a recurrence, as [`crate::kernels`] describes it.
pub fn recur(
    recurrence: Recurrence<'_>,
    inputs: &[&[f32]],
    stretches: &mut [Stretch<'_>],
) -> Vec<f32> {
    match (recurrence, inputs) {
        (Recurrence::Convolution(c), &[x]) => convolve(c, x, stretches),
        (Recurrence::DeltaNet(net), &[x, alpha, beta]) => {
            delta_net(net, x, [alpha, beta], stretches)
        }
        (Recurrence::Kda(net), &[x, alpha, beta]) => kda(net, x, [alpha, beta], stretches),
        (Recurrence::Lightning(lightning), &[x]) => attend(lightning, x, stretches),
        (Recurrence::Mamba1(mamba), &[x, steps, b, c]) => {
            mamba1(mamba, [x, steps, b, c], stretches)
        }
        (Recurrence::Mamba2(mamba), &[x, steps]) => mamba2(mamba, x, steps, stretches),
        (Recurrence::Rwkv6(rwkv), &[r, k, v, w]) => rwkv6(rwkv, [r, k, v, w], stretches),
        (Recurrence::Rwkv7(shape), &[r, w, k, v, removed, a]) => {
            rwkv7(shape, [r, w, k, v, removed, a], stretches)
        }
        (_, inputs) => unreachable!("{} inputs for a recurrence", inputs.len()),
    }
}

/// A causal convolution of rows of `channels` elements.
fn convolve(c: &Convolution, x: &[f32], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
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
    /// What is left of each row of the state.
    decays: &'a [f32],
    /// What is taken from the state before it changes: S += back (Sᵀ probe)ᵀ.
    correction: Option<[&'a [f32]; 2]>,
    /// S += key valueᵀ.
    key: &'a [f32],
    value: &'a [f32],
    query: &'a [f32],
    /// Whether it is read before it changes.
    before: bool,
}

impl Step<'_> {
    /// Changes the state and returns Sᵀ · query.
    fn take(&self, state: &mut [f32]) -> Vec<f32> {
        let width = self.value.len();
        let times = |state: &[f32], x: &[f32]| -> Vec<f32> {
            let column = |j| x.iter().enumerate().map(|(i, x)| x * state[i * width + j]).sum();
            (0..width).map(column).collect()
        };
        let first = times(state, self.query);
        let held = self.correction.map(|[probe, back]| (times(state, probe), back));
        for (i, k) in self.key.iter().enumerate() {
            for j in 0..width {
                let s = &mut state[i * width + j];
                *s = self.decays[i] * *s + k * self.value[j];
                if let Some((held, back)) = &held {
                    *s += back[i] * held[j];
                }
            }
        }
        if self.before { first } else { times(state, self.query) }
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

/// A vector of length 1.
fn unit(x: &[f32], eps: f32) -> Vec<f32> {
    let squares: f32 = x.iter().map(|x| x * x).sum();
    x.iter().map(|x| x / (squares + eps).sqrt()).collect()
}

fn scaled(x: &[f32], factor: f32) -> Vec<f32> {
    x.iter().map(|x| x * factor).collect()
}

/// The step of a delta rule: with a key of length 1, the value at the key becomes the new one to the share `rate`.
fn delta_step(
    [query, key, value]: [&[f32]; 3],
    (decays, rate): (&[f32], f32),
    eps: f32,
    state: &mut [f32],
) -> Vec<f32> {
    let (query, key) = (unit(query, eps), unit(key, eps));
    let probe: Vec<f32> = key.iter().zip(decays).map(|(k, g)| k * g).collect();
    let step = Step {
        decays,
        correction: Some([&probe, &scaled(&key, -rate)]),
        key: &scaled(&key, rate),
        value,
        query: &scaled(&query, 1.0 / (key.len() as f32).sqrt()),
        before: false,
    };
    step.take(state)
}

fn delta_net(
    net: &DeltaNet,
    x: &[f32],
    [alpha, beta]: [&[f32]; 2],
    stretches: &mut [Stretch<'_>],
) -> Vec<f32> {
    let (width, dim, keys) = (net.width(), net.key_dim, net.key_heads * net.key_dim);
    let size = net.state_len() / net.heads;
    run(net.heads, size, stretches, |row, head, state| {
        let x = &x[row * width..][..width];
        let key = net.key_of(head) * dim;
        let value = &x[2 * keys + head * net.value_dim..][..net.value_dim];
        let parts = [&x[key..][..dim], &x[keys + key..][..dim], value];
        let alpha = alpha[row * net.heads + head] + net.bias[head];
        let decay = libm::expf(net.rates[head] * softplus(alpha));
        let rate = sigmoid(beta[row * net.heads + head]);
        delta_step(parts, (&vec![decay; dim], rate), net.eps, state)
    })
}

fn kda(
    net: &Kda,
    x: &[f32],
    [alpha, beta]: [&[f32]; 2],
    stretches: &mut [Stretch<'_>],
) -> Vec<f32> {
    let (dim, inner) = (net.dim, net.heads * net.dim);
    run(net.heads, net.shape().state_len() / net.heads, stretches, |row, head, state| {
        let part = |i: usize| &x[row * net.width() + i * inner + head * dim..][..dim];
        let alpha = &alpha[row * inner + head * dim..][..dim];
        let decay = |(a, b): (&f32, &f32)| net.decay(head, a + b);
        let decays: Vec<f32> = alpha.iter().zip(&net.bias[head * dim..]).map(decay).collect();
        let rate = sigmoid(beta[row * net.heads + head]);
        delta_step([part(0), part(1), part(2)], (&decays, rate), net.eps, state)
    })
}

fn attend(lightning: &Lightning, x: &[f32], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let (dim, heads) = (lightning.dim, lightning.decays.len());
    run(heads, lightning.shape().state_len() / heads, stretches, |row, head, state| {
        let part = |i: usize| &x[row * lightning.width() + (3 * head + i) * dim..][..dim];
        let step = Step {
            decays: &vec![lightning.decays[head]; dim],
            correction: None,
            key: part(1),
            value: part(2),
            query: part(0),
            before: false,
        };
        step.take(state)
    })
}

fn rwkv6(rwkv: &Rwkv6, [r, k, v, w]: [&[f32]; 4], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let Shape { heads, key_dim: dim, .. } = rwkv.shape;
    run(heads, rwkv.shape.state_len() / heads, stretches, |row, head, state| {
        let [r, k, v, w] = [r, k, v, w].map(|all| &all[(row * heads + head) * dim..][..dim]);
        let decays: Vec<f32> = w.iter().map(|w| libm::expf(-libm::expf(*w))).collect();
        let weakened: Vec<f32> = k.iter().zip(&decays).map(|(k, g)| k * (1.0 - g)).collect();
        let key = if rwkv.bonus.is_some() { k } else { &weakened };
        let before = rwkv.bonus.is_some();
        let step = Step { decays: &decays, correction: None, key, value: v, query: r, before };
        let mixed = step.take(state);
        match &rwkv.bonus {
            Some(bonus) => {
                let bonus = &bonus[head * dim..][..dim];
                let skip: f32 = r.iter().zip(k).zip(bonus).map(|((r, k), u)| r * k * u).sum();
                mixed.iter().zip(v).map(|(y, v)| y + skip * v).collect()
            }
            None => scaled(&mixed, 1.0 / (dim as f32).sqrt()),
        }
    })
}

fn rwkv7(shape: Shape, all: [&[f32]; 6], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let Shape { heads, key_dim: dim, .. } = shape;
    run(heads, shape.state_len() / heads, stretches, |row, head, state| {
        let [r, w, k, v, removed, a] = all.map(|all| &all[(row * heads + head) * dim..][..dim]);
        let decays: Vec<f32> = w.iter().map(|w| libm::expf(-0.606_531 * sigmoid(*w))).collect();
        let removed = unit(removed, 0.0);
        let back: Vec<f32> = removed.iter().zip(a).map(|(x, a)| x * a).collect();
        let step = Step {
            decays: &decays,
            correction: Some([&scaled(&removed, -1.0), &back]),
            key: k,
            value: v,
            query: r,
            before: false,
        };
        step.take(state)
    })
}

fn mamba2(m: &Mamba2, x: &[f32], steps: &[f32], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let (width, inner) = (m.width(), m.heads * m.head_dim);
    let size = m.state_len() / m.heads;
    run(m.heads, size, stretches, |row, head, state| {
        let x = &x[row * width..][..width];
        let group = inner + head / (m.heads / m.groups) * m.d_state;
        let rate = softplus(steps[row * m.heads + head] + m.bias[head]);
        let value = &x[head * m.head_dim..][..m.head_dim];
        let step = Step {
            decays: &vec![libm::expf(rate * m.rates[head]); m.d_state],
            correction: None,
            key: &scaled(&x[group..][..m.d_state], rate),
            value,
            query: &x[group + m.groups * m.d_state..][..m.d_state],
            before: false,
        };
        let mut mixed = step.take(state);
        mixed.iter_mut().zip(value).for_each(|(y, x)| *y += m.skips[head] * x);
        mixed
    })
}

/// Each channel is a head of one element here.
fn mamba1(m: &Mamba1, [x, steps, b, c]: [&[f32]; 4], stretches: &mut [Stretch<'_>]) -> Vec<f32> {
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
