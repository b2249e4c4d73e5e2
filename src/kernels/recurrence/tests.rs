//! Every instruction set against the definition, to the bit; and that it does not matter how rows come.

use super::*;
use crate::kernels::{Compute, Isa};

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 2.0
    };
    (0..n).map(|_| next()).collect()
}

/// Runs rows of some sequences, cut into pieces of these lengths, through a mixer: mixed rows, last state, and the
/// states after the first two rows of the last piece.
fn pieces(
    cuts: &[usize],
    state_len: usize,
    mut run: impl FnMut(std::ops::Range<usize>, &mut [Stretch<'_>]) -> Vec<f32>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mut out, mut state, mut at) = (Vec::new(), random(state_len, 5), 0);
    let mut stop = vec![f32::NAN; state_len];
    for rows in cuts {
        let mut after = vec![f32::NAN; state_len];
        let mut ends = Vec::new();
        if *rows > 2 {
            ends.push((2, stop.as_mut_slice()));
        }
        ends.push((*rows, after.as_mut_slice()));
        // Alone, a row changes the state in place.
        let in_place = *rows == 1;
        if in_place {
            ends[0].1.copy_from_slice(&state);
        }
        let before = (!in_place).then_some(state.as_slice());
        let stretch = Stretch { rows: *rows, before, after: ends };
        out.extend(run(at..at + rows, &mut [stretch]));
        state = after;
        at += rows;
    }
    (out, state, stop)
}

/// Computes some rows.
type Run<'a> = &'a dyn Fn(&Compute, std::ops::Range<usize>, &mut [Stretch<'_>]) -> Vec<f32>;

const ROWS: usize = 11;
const CUTS: [&[usize]; 4] = [&[ROWS], &[1; ROWS], &[3, 8], &[8, 1, 2]];

/// Checks a mixer of rows on all instruction sets, threads and cuts. `run` computes some rows.
fn check(name: &str, state_len: usize, run: Run<'_>) {
    let definition = Compute::new(Isa::SCALAR, 1);
    let expected = pieces(&[ROWS], state_len, |rows, stretches| run(&definition, rows, stretches));
    assert!(expected.0.iter().chain(&expected.1).chain(&expected.2).all(|x| x.is_finite()));
    for isa in Isa::available() {
        for threads in [1, 3] {
            let compute = Compute::new(isa, threads);
            let whole = pieces(&[ROWS], state_len, |rows, s| run(&compute, rows, s));
            if isa.is_exact() {
                assert!(whole == expected, "{name} with {isa}: other bits");
            }
            let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-4 * (1.0 + b.abs());
            assert!(!whole.0.iter().zip(&expected.0).any(far), "{name} with {isa}");
            for cuts in CUTS {
                let (out, state, _) = pieces(cuts, state_len, |rows, s| run(&compute, rows, s));
                assert!(out == whole.0 && state == whole.1, "{name} with {isa}, cut {cuts:?}");
            }
            // The state at a stop is that after as many rows alone.
            let (_, state, _) = pieces(&[2], state_len, |rows, s| run(&compute, rows, s));
            assert!(state == whole.2, "{name} with {isa}: the state at a stop");
        }
    }
}

/// Rows of two sequences of different lengths, side by side and alone.
fn check_neighbours(width: usize, state_len: usize, run: Run<'_>) {
    let compute = Compute::new(Isa::detect(), 2);
    let before = [random(state_len, 1), random(state_len, 2)];
    let rows = [0..4, 4..ROWS];
    let mut after = vec![vec![0.0; state_len]; 4];
    let (together, alone) = after.split_at_mut(2);
    let mut stretches: Vec<Stretch<'_>> = together
        .iter_mut()
        .enumerate()
        .map(|(i, after)| Stretch {
            rows: rows[i].len(),
            before: Some(&before[i]),
            after: vec![(rows[i].len(), after.as_mut_slice())],
        })
        .collect();
    let both = run(&compute, 0..ROWS, &mut stretches);
    for (i, after) in alone.iter_mut().enumerate() {
        let count = rows[i].len();
        let stretch = Stretch {
            rows: count,
            before: Some(&before[i]),
            after: vec![(count, after.as_mut_slice())],
        };
        let one = run(&compute, rows[i].clone(), &mut [stretch]);
        assert!(one == both[rows[i].start * width..rows[i].end * width]);
    }
    assert!(together == alone);
}

#[test]
fn a_delta_net_is_the_same_everywhere_and_however_rows_come() {
    // Dimensions with and without whole vectors and blocks, keys of odd length.
    for (heads, key_heads, key_dim, value_dim) in [(4, 2, 16, 64), (3, 3, 7, 6), (2, 1, 33, 80)] {
        for order in [KeyOrder::Neighbours, KeyOrder::Alternating] {
            let net = DeltaNet {
                heads,
                key_heads,
                order,
                key_dim,
                value_dim,
                bias: random(heads, 7),
                rates: random(heads, 8).iter().map(|x| -x.abs()).collect(),
                eps: 1e-6,
            };
            let (width, x) = (net.width(), random(ROWS * net.width(), 1));
            let (alpha, beta) = (random(ROWS * heads, 2), random(ROWS * heads, 3));
            let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
                let gate = |all: &[f32]| all[rows.start * heads..rows.end * heads].to_vec();
                let (alpha, beta) = (gate(&alpha), gate(&beta));
                let x = &x[rows.start * width..rows.end * width];
                compute.delta_net(&net, x, Gates { alpha: &alpha, beta: &beta }, s)
            };
            check("delta net", net.state_len(), &run);
            check_neighbours(heads * value_dim, net.state_len(), &run);
        }
    }
}

#[test]
fn mamba_2_is_the_same_everywhere_and_however_rows_come() {
    for (heads, head_dim, d_state, groups) in [(4, 64, 16, 2), (6, 10, 9, 3)] {
        let mamba = Mamba2 {
            heads,
            head_dim,
            d_state,
            groups,
            bias: random(heads, 7),
            rates: random(heads, 8).iter().map(|x| -x.abs()).collect(),
            skips: random(heads, 9),
        };
        let (width, x) = (mamba.width(), random(ROWS * mamba.width(), 1));
        let steps = random(ROWS * heads, 2);
        let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
            let steps = &steps[rows.start * heads..rows.end * heads];
            compute.mamba2(&mamba, &x[rows.start * width..rows.end * width], steps, s)
        };
        check("mamba 2", mamba.state_len(), &run);
        check_neighbours(heads * head_dim, mamba.state_len(), &run);
    }
}

#[test]
fn mamba_1_is_the_same_everywhere_and_however_rows_come() {
    for (channels, d_state) in [(150, 16), (7, 3)] {
        let rates = random(channels * d_state, 8).iter().map(|x| -x.abs()).collect();
        let (bias, skips) = (random(channels, 7), random(channels, 9));
        let mamba = Mamba1 { channels, d_state, rates, bias, skips };
        let all = [(channels, 1), (channels, 2), (d_state, 3), (d_state, 4)]
            .map(|(width, seed)| (width, random(ROWS * width, seed)));
        let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
            let part = |i: usize| &all[i].1[rows.start * all[i].0..rows.end * all[i].0];
            let rows = MambaRows { x: part(0), steps: part(1), b: part(2), c: part(3) };
            compute.mamba1(&mamba, rows, s)
        };
        check("mamba 1", mamba.state_len(), &run);
        check_neighbours(channels, mamba.state_len(), &run);
    }
}

#[test]
fn kimis_delta_attention_is_the_same_everywhere_and_however_rows_come() {
    for (heads, dim, forgetting) in
        [(3, 33, Forgetting::Softplus), (2, 64, Forgetting::Bounded { least: -5.0 })]
    {
        let inner = heads * dim;
        let rates = random(heads, 8).iter().map(|x| -x.abs()).collect();
        let net = Kda { heads, dim, bias: random(inner, 7), rates, forgetting, eps: 1e-6 };
        let (width, x) = (net.width(), random(ROWS * net.width(), 1));
        let (alpha, beta) = (random(ROWS * inner, 2), random(ROWS * heads, 3));
        let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
            let alpha = &alpha[rows.start * inner..rows.end * inner];
            let beta = &beta[rows.start * heads..rows.end * heads];
            let x = &x[rows.start * width..rows.end * width];
            compute.kda(&net, x, Gates { alpha, beta }, s)
        };
        check("kda", net.shape().state_len(), &run);
        check_neighbours(inner, net.shape().state_len(), &run);
    }
}

#[test]
fn rwkv_is_the_same_everywhere_and_however_rows_come() {
    for (heads, dim, bonus) in [(2, 64, true), (3, 10, true), (2, 40, false)] {
        let (inner, shape) = (heads * dim, Shape { heads, key_dim: dim, value_dim: dim });
        let all: Vec<Vec<f32>> = (1..7).map(|seed| random(ROWS * inner, seed)).collect();
        let part = |i: usize, rows: &std::ops::Range<usize>| {
            all[i][rows.start * inner..rows.end * inner].to_vec()
        };
        let rwkv = Rwkv6 { shape, bonus: bonus.then(|| random(inner, 9)) };
        for (name, recurrence) in
            [("rwkv 6", Recurrence::Rwkv6(&rwkv)), ("rwkv 7", Recurrence::Rwkv7(shape))]
        {
            let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
                let inputs: Vec<Vec<f32>> =
                    (0..recurrence.inputs().len()).map(|i| part(i, &rows)).collect();
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                compute.recur(recurrence, &inputs, s)
            };
            check(name, recurrence.state_len(), &run);
            check_neighbours(inner, recurrence.state_len(), &run);
        }
    }
}

#[test]
fn lightning_attention_is_the_same_everywhere_and_however_rows_come() {
    let lightning = Lightning { dim: 40, decays: vec![0.5, 0.9, 0.99] };
    let (width, x) = (lightning.width(), random(ROWS * lightning.width(), 1));
    let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
        compute.lightning(&lightning, &x[rows.start * width..rows.end * width], s)
    };
    check("lightning attention", lightning.shape().state_len(), &run);
    check_neighbours(120, lightning.shape().state_len(), &run);
}

#[test]
fn a_convolution_is_the_same_everywhere_and_however_rows_come() {
    for (channels, taps, silu) in [(40, 4, true), (7, 3, false)] {
        let convolution = Convolution {
            channels,
            taps: random(taps * channels, 1),
            bias: silu.then(|| random(channels, 2)),
            silu,
        };
        let x = random(ROWS * channels, 3);
        let run = |compute: &Compute, rows: std::ops::Range<usize>, s: &mut [Stretch<'_>]| {
            compute.convolve(&convolution, &x[rows.start * channels..rows.end * channels], s)
        };
        check("convolution", convolution.state_len(), &run);
        check_neighbours(channels, convolution.state_len(), &run);
    }
}

#[test]
fn softplus_and_sigmoid_are_those_of_exact_arithmetic() {
    for i in -300..300_i16 {
        let x = f32::from(i) / 10.0;
        let exact = f64::from(x).exp().ln_1p();
        assert!((f64::from(softplus(x)) - exact).abs() < 1e-6 * exact.max(1e-3), "{x}");
        let exact = 1.0 / (1.0 + f64::from(-x).exp());
        assert!((f64::from(sigmoid(x)) - exact).abs() < 1e-6 * exact.max(1e-3), "{x}");
    }
}
