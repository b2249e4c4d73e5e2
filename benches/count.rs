//! One product of a kind, for a tool that counts instructions: `tools/bench_guard.py`.
//!
//! ```sh
//! cargo bench --bench count -- avx2 Q4_K 1      # instruction set, storage type, rows of activations
//! ```
//!
//! A fourth argument is a number of products, for a tool that counts all instructions: `tools/arm/count.py`.
//!
//! What [`counted`] does is what counts. The matrix is large enough that its setup does not matter.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use tealight::kernels::{Compute, Isa, Matrix};
use tealight_bundle::gguf::DType;
use tealight_bundle::mapped::Mapped;

/// Rows of the matrix.
const ROWS: usize = 512;
/// Its columns: more than a panel has.
const COLUMNS: usize = 1024;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [isa, dtype, tokens, products @ ..] = &arguments[..] else {
        // As all benchmarks are run together, nothing is to be counted.
        return;
    };
    let products = products.first().map_or(1, |n| n.parse().expect("a number of products"));
    let isa: Isa = isa.parse().expect("an instruction set of this processor");
    let dtype = *DType::ALL.iter().find(|t| t.to_string() == *dtype).expect("a storage type");
    let tokens: usize = tokens.parse().expect("a number of rows");
    let bytes = dtype.bytes_of(&[COLUMNS, ROWS]).expect("a shape of the type");
    let bytes = usize::try_from(bytes).expect("small");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&vec![0; bytes]).expect("room for it");
    let mapped = Arc::new(Mapped::open(file.path()).expect("it is there"));
    let w = Matrix::new(mapped, 0..bytes, dtype, ROWS, COLUMNS).expect("a kernel");
    let compute = Compute::new(isa, 1);
    let x: Vec<f32> = (0..tokens * COLUMNS).map(|i| (i * 37 % 251) as f32 / 60.0 - 2.0).collect();
    // The first one finds out how the matrix is divided.
    drop(compute.matmul(&w, &x));
    for _ in 0..products {
        black_box(counted(&compute, &w, &x));
    }
    println!("{} products of 256 columns", ROWS * COLUMNS / 256 * tokens);
}

/// The product.
#[inline(never)]
fn counted(compute: &Compute, w: &Matrix, x: &[f32]) -> Vec<f32> {
    compute.matmul(w, x)
}
