//! Tests every instruction set of this machine against the scalar kernels, and those against f64.

use super::blocks::{QuantKind, kind};
use super::*;
use std::io::Write as _;
use std::sync::Arc;
use tealight_bundle::gguf::DType;
use tealight_bundle::mapped::Mapped;

/// All types that have a kernel.
fn types() -> Vec<DType> {
    DType::ALL.iter().copied().filter(|&t| kind(t).is_some()).collect()
}

/// A stored matrix of pseudo-random blocks with sane scales.
fn matrix(dtype: DType, rows: usize, columns: usize) -> Matrix {
    let bytes_len = usize::try_from(dtype.bytes_of(&[columns, rows]).unwrap()).unwrap();
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut bytes: Vec<u8> = (0..bytes_len).map(|_| (next() >> 9) as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        let scale = half::f16::from_f32(0.001 + (next() % 100) as f32 * 1e-4).to_le_bytes();
        let at: &[usize] = match dtype {
            DType::F32 => {
                block.copy_from_slice(&((next() % 2001) as f32 / 1000.0 - 1.0).to_le_bytes());
                &[]
            }
            DType::BF16 => {
                block.copy_from_slice(&half::bf16::from_f32((next() % 64) as f32).to_le_bytes());
                &[]
            }
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
            DType::Q2_K => &[80, 82],
            DType::Q3_K => &[108],
            DType::Q6_K => &[208],
            DType::TQ1_0 => &[52],
            DType::TQ2_0 => &[64],
            // The scale is in the top four bits of four words.
            DType::IQ1_M => {
                for (i, nibble) in [0, 0x40, 0, 0x20].into_iter().enumerate() {
                    block[49 + 2 * i] = block[49 + 2 * i] & 15 | nibble;
                }
                &[]
            }
            DType::MXFP4 => {
                block[0] = (115 + next() % 8) as u8; // an exponent: 2⁻¹² to 2⁻⁵
                &[]
            }
            _ => &[0],
        };
        for &at in at {
            block[at..at + 2].copy_from_slice(&scale);
        }
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let mapped = Arc::new(Mapped::open(file.path()).unwrap());
    Matrix::new(mapped, 0..bytes_len, dtype, rows, columns).unwrap()
}

/// The output of `tests/golden/blocks.py`: little-endian words, in the order documented there.
struct Golden(&'static [u8]);

impl Golden {
    fn take(&mut self, n: usize) -> &'static [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> usize {
        u32::from_le_bytes(self.take(4).try_into().unwrap()) as usize
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        let words = self.take(4 * n).as_chunks().0;
        words.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

#[test]
fn every_type_matches_the_reference_with_no_more_error_than_its_own() {
    let mut golden = Golden(include_bytes!("../../tests/golden/blocks.bin"));
    let (columns, rows, inputs) = (golden.word(), golden.word(), golden.word());
    let x = golden.floats(inputs * columns);
    let mut seen = vec![DType::F32];
    while !golden.0.is_empty() {
        let dtype = DType::from_id(u32::try_from(golden.word()).unwrap()).unwrap();
        let size = golden.word();
        let bytes = golden.take(rows * size);
        let meaning = golden.floats(256);
        let reference = golden.floats(rows * inputs); // (rows, inputs)
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mapped = Arc::new(Mapped::open(file.path()).unwrap());
        let w = Matrix::new(mapped, 0..bytes.len(), dtype, rows, columns).unwrap();

        let mut values = vec![0.0; rows * columns];
        for row in 0..rows {
            dequantize(dtype, w.row(row), &mut values[row * columns..(row + 1) * columns]);
        }
        let largest = meaning.iter().fold(0_f32, |m, v| m.max(v.abs()));
        for (i, (ours, theirs)) in values.iter().zip(&meaning).enumerate() {
            assert!((ours - theirs).abs() <= 1e-6 * largest, "{dtype} {i}: {ours}, not {theirs}");
        }

        let exact = |row: usize, j: usize| -> f64 {
            let (w, x) = (&values[row * columns..], &x[j * columns..(j + 1) * columns]);
            w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
        };
        let rms = |product: &dyn Fn(usize, usize) -> f32| -> f64 {
            let pairs = (0..rows).flat_map(|row| (0..inputs).map(move |j| (row, j)));
            let squares =
                pairs.map(|(row, j)| (f64::from(product(row, j)) - exact(row, j)).powi(2));
            (squares.sum::<f64>() / (rows * inputs) as f64).sqrt()
        };
        let theirs = rms(&|row, j| reference[row * inputs + j]);
        for isa in Isa::available() {
            let ours = Compute::new(isa, 1).matmul(&w, &x); // (inputs, rows)
            let ours = rms(&|row, j| ours[j * rows + row]);
            // Both round activations to eight bits, each in its own way; the error of 64 products varies by a tenth.
            assert!(ours <= 1.2 * theirs, "{dtype} {isa}: error {ours}, the reference's {theirs}");
        }
        seen.push(dtype);
    }
    assert!(types().iter().all(|dtype| seen.contains(dtype)), "a type without golden: {seen:?}");
}

/// Values that repeat with a prime period, so that no block edge hides a shift.
fn inputs(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 % 251) as f32 - 125.0) / 60.0).collect()
}

/// Compares results to the bit, or closely where bits may differ.
fn assert_same(isa: Isa, got: &[f32], expected: &[f32], of: &str) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let same =
            if isa.is_exact() { a.to_bits() == b.to_bits() } else { (a - b).abs() <= 2e-5 * scale };
        assert!(same, "{isa}, output {i} of {of}: {a}, scalar {b}");
    }
}

#[test]
fn every_isa_gives_the_bits_of_the_scalar_kernel_for_every_type_and_batch() {
    for dtype in types() {
        // One and several super-blocks, up to more than a panel has; for small blocks, odd numbers of blocks
        // and rows that end within a group. 1 to 15 rows of activations cover every tile size and remainder;
        // 5 and 37 weight rows are less and more than a panel.
        let small = dtype.block_elements() < 256;
        let shapes = if small {
            [(32, 5), (96, 5), (576, 37), (1280, 5)]
        } else {
            [(256, 5), (512, 5), (768, 37), (1280, 5)]
        };
        for (columns, rows) in shapes {
            let columns: usize = columns;
            let columns = columns.next_multiple_of(dtype.block_elements());
            let w = matrix(dtype, rows, columns);
            for n in [1, 2, 3, 4, 9, 15] {
                let x = inputs(n * columns);
                let expected = Compute::new(Isa::SCALAR, 1).matmul(&w, &x);
                for isa in Isa::available() {
                    let got = Compute::new(isa, 3).matmul(&w, &x);
                    assert_same(
                        isa,
                        &got,
                        &expected,
                        &format!("{dtype}, {columns} columns, {n} rows"),
                    );
                }
            }
        }
    }
}

/// Checksums of products, committed: they tie processors together that no machine has side by side. If results are
/// meant to change, raise `ARITHMETIC` in `src/engine/saved.rs`; the message shows the new ones.
#[test]
fn products_have_the_bits_of_every_other_machine() {
    let expected = include_str!("../../tests/golden/bits/kernels.txt");
    let mut found = String::new();
    for dtype in types() {
        let columns = 672_usize.next_multiple_of(dtype.block_elements());
        let w = matrix(dtype, 37, columns);
        let x = inputs(11 * columns);
        let mut of_type = None;
        for isa in Isa::available().into_iter().filter(|isa| isa.is_exact()) {
            let compute = Compute::new(isa, 2);
            let (all, one) = (compute.matmul(&w, &x), compute.matmul(&w, &x[..columns]));
            // FNV-1a.
            let sum = all
                .iter()
                .chain(&one)
                .flat_map(|x| x.to_le_bytes())
                .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                    (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
            assert_eq!(*of_type.get_or_insert(sum), sum, "{dtype} on {isa}");
        }
        found += &format!("{:016x} {dtype}\n", of_type.expect("the scalar one is always there"));
    }
    assert_eq!(found, expected, "expected in tests/golden/bits/kernels.txt:\n{found}");
}

#[test]
fn the_scalar_kernel_is_the_product_of_the_dequantized_blocks() {
    for dtype in types() {
        let columns = 512;
        let w = matrix(dtype, 3, columns);
        let x = inputs(columns);
        let got = Compute::new(Isa::SCALAR, 1).matmul(&w, &x);
        for (row, got) in got.iter().enumerate() {
            let mut values = vec![0.0; columns];
            dequantize(dtype, w.row(row), &mut values);
            let exact: f64 =
                values.iter().zip(&x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            let norm: f64 = values.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
            // Eight-bit activations: half a step of 2.1/127, relative to the norm of the weights.
            let tolerance = if kind(dtype) == Some(QuantKind::Float) { 1e-5 } else { 0.03 };
            let error = (f64::from(*got) - exact).abs() / norm;
            assert!(error < tolerance, "{dtype} row {row}: {got} for {exact}, {error} of the norm");
        }
    }
}

#[test]
fn rows_not_a_multiple_of_a_vector_work_for_float_types() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for columns in [1, 7, 33] {
            let w = matrix(dtype, 3, columns);
            let x = inputs(columns);
            let expected = Compute::new(Isa::SCALAR, 1).matmul(&w, &x);
            for isa in Isa::available() {
                let got = Compute::new(isa, 1).matmul(&w, &x);
                assert_same(isa, &got, &expected, &format!("{dtype}, {columns} columns"));
            }
        }
    }
}

#[test]
fn a_token_gets_the_same_result_alone_and_in_a_prompt() {
    for dtype in types() {
        let columns = 1184_usize.next_multiple_of(dtype.block_elements());
        let w = matrix(dtype, 37, columns);
        let x = inputs(13 * columns);
        for isa in Isa::available() {
            let all = Compute::new(isa, 3).matmul(&w, &x);
            for (n, x) in x.chunks_exact(columns).enumerate() {
                let one = Compute::new(isa, 2).matmul(&w, x);
                assert_eq!(one, all[n * 37..(n + 1) * 37], "{dtype} {isa} row {n}");
            }
        }
    }
}

#[test]
fn every_isa_quantizes_activations_to_the_same_bits() {
    let mut x = inputs(3 * 320);
    x[40..80].fill(0.0);
    x[300] = 1e30;
    x[500] = -1e-30;
    let expected = Compute::new(Isa::SCALAR, 1).quantize(&x, 320);
    for isa in Isa::available() {
        let got = Compute::new(isa, 2).quantize(&x, 320);
        for (got, expected) in got.parts.iter().zip(&expected.parts) {
            assert_eq!(got.quants, expected.quants, "{isa}");
            assert_eq!(got.multiples, expected.multiples, "{isa}");
            assert_eq!((got.sums, got.weighted), (expected.sums, expected.weighted), "{isa}");
            let floats = |part: &super::activations::Part| {
                let all = [part.scale, part.weighted_scale].into_iter();
                all.chain(part.scales).chain(part.totals).map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(floats(got), floats(expected), "{isa}");
        }
    }
}

#[test]
fn gate_up_is_the_activation_times_the_other_half() {
    let (gate, up) = (inputs(1000), inputs(1000));
    for isa in Isa::available() {
        let xielu = Xielu { negative: 0.7, positive: 0.8, beta: 0.5, eps: -1e-6 };
        let xielu = Act::Xielu(xielu);
        for act in [Act::Silu, Act::GeluTanh, Act::Relu, Act::ReluSquared, Act::SwigluOai, xielu] {
            let out = Compute::new(isa, 2).gate_up(act, &gate, &up);
            for i in 0..1000 {
                let expected = match act {
                    Act::Silu => silu(gate[i]) * up[i],
                    Act::GeluTanh => gelu_tanh(gate[i]) * up[i],
                    Act::Relu => gate[i].max(0.0) * up[i],
                    Act::Xielu(xielu) => xielu.of(gate[i]) * up[i],
                    Act::ReluSquared => gate[i].max(0.0).powi(2) * up[i],
                    Act::SwigluOai => swiglu_oai(gate[i], up[i]),
                };
                assert_eq!(out[i].to_bits(), expected.to_bits(), "{isa}, {act:?}");
            }
        }
    }
}

#[test]
fn every_isa_norms_to_the_same_bits() {
    let (x, weight) = (inputs(3 * 77), inputs(77));
    let expected = Compute::new(Isa::SCALAR, 1).rms_norm(&x, &weight, 1e-6);
    for (x, out) in x.chunks(77).zip(expected.chunks(77)) {
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 77.0;
        for ((x, w), out) in x.iter().zip(&weight).zip(out) {
            let exact = f64::from(*x) / (mean + 1e-6).sqrt() * f64::from(*w);
            assert!((f64::from(*out) - exact).abs() < 1e-5);
        }
    }
    for isa in Isa::available() {
        assert_eq!(Compute::new(isa, 2).rms_norm(&x, &weight, 1e-6), expected, "{isa}");
    }
}

#[test]
fn a_gated_layer_gives_the_same_bits_as_its_parts_in_sequence() {
    let (d, ffn) = (320, 416);
    let bias: Vec<f32> = inputs(ffn).iter().map(|x| x * 0.1).collect();
    let of = |dtype, rows, columns| matrix(dtype, rows, columns);
    let types = [
        (DType::Q4_1, DType::Q8_0, DType::Q5_0),
        (DType::Q4_0, DType::F16, DType::Q4_0),
        (DType::Q8_0, DType::Q8_0, DType::F32),
    ];
    for (gate, up, down) in types {
        let (gate, up, down) = (of(gate, ffn, d), of(up, ffn, d), of(down, d, ffn));
        for isa in Isa::available() {
            for (threads, n) in [(1, 1), (2, 3), (3, 41)] {
                let compute = Compute::new(isa, threads);
                let x = inputs(n * d);
                let finish = Finish::bias(Some(bias.clone()));
                let scaled = Finish { scale: Some(0.75), bias: None };
                let layer = Gated {
                    gate: Affine { matrix: &gate, finish: &finish },
                    up: Affine { matrix: &up, finish: &scaled },
                    down: Affine { matrix: &down, finish: &finish.part(0..d) },
                };
                let mut gates = compute.matmul(&gate, &x);
                finish.apply(&mut gates, 0..ffn);
                let mut ups = compute.matmul(&up, &x);
                scaled.apply(&mut ups, 0..ffn);
                let hidden = compute.gate_up(Act::Silu, &gates, &ups);
                let mut expected = compute.matmul(&down, &hidden);
                finish.apply(&mut expected, 0..d);
                let out = compute.feed_forward(Act::Silu, layer, &x);
                assert_eq!(out, expected, "{isa}, {threads} threads, {n} rows of {gate:?}");
            }
        }
    }
}
