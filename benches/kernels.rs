//! Speed of each kernel, by instruction set, storage type and shape.
//!
//! ```sh
//! cargo bench --bench kernels                       # all
//! cargo bench --bench kernels -- 'generation.*Q4_K' # some
//! ```
//!
//! *small* matrices stay in the L2 cache and measure the arithmetic; *large* ones are read from memory each time. One
//! thread; items are multiply-adds, bytes are weight bytes.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use tealight::kernels::{Compute, Isa, Matrix};
use tealight_bundle::gguf::DType;
use tealight_bundle::mapped::Mapped;

fn main() {
    divan::main();
}

/// One benchmark: instruction set, storage type and matrix shape.
#[derive(Clone, Copy)]
struct Case {
    isa: Isa,
    dtype: DType,
    rows: usize,
    columns: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { isa, dtype, rows, columns } = self;
        write!(f, "{isa} {dtype} {rows}x{columns}")
    }
}

/// Shapes of a small model's layers, and one too large for any cache.
const SMALL: [(usize, usize); 3] = [(256, 576), (256, 1536), (64, 8960)];
const LARGE: [(usize, usize); 1] = [(262_144, 1536)];

fn cases(shapes: &[(usize, usize)]) -> Vec<Case> {
    let mut all = Vec::new();
    for isa in Isa::available() {
        for &dtype in DType::ALL {
            for &(rows, columns) in shapes {
                if dtype.bytes_of(&[columns, 1]).is_some() && has_kernel(dtype) {
                    all.push(Case { isa, dtype, rows, columns });
                }
            }
        }
    }
    all
}

fn has_kernel(dtype: DType) -> bool {
    let columns = 256;
    let bytes = dtype.bytes_of(&[columns, 1]).and_then(|n| usize::try_from(n).ok());
    bytes.is_some_and(|bytes| Matrix::new(zeros(bytes), 0..bytes, dtype, 1, columns).is_ok())
}

fn zeros(bytes: usize) -> Arc<Mapped> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    // The values don't affect the time; scales of zero keep sums finite.
    file.write_all(&vec![0; bytes]).expect("room for it");
    Arc::new(Mapped::open(file.path()).expect("it is there"))
}

fn multiply(bencher: Bencher<'_, '_>, case: Case, tokens: usize) {
    let Case { isa, dtype, rows, columns } = case;
    let bytes = dtype.bytes_of(&[columns, rows]).expect("a shape of the type");
    let bytes = usize::try_from(bytes).expect("small");
    let w = Matrix::new(zeros(bytes), 0..bytes, dtype, rows, columns).expect("a kernel");
    let compute = Compute::new(isa, 1);
    let x: Vec<f32> = (0..tokens * columns).map(|i| (i * 37 % 251) as f32 / 60.0 - 2.0).collect();
    bencher
        .counter(ItemsCount::new(rows * columns * tokens))
        .counter(BytesCount::new(bytes))
        .bench_local(|| compute.matmul(&w, &x));
}

#[divan::bench(args = cases(&SMALL))]
fn generation_small(bencher: Bencher<'_, '_>, case: Case) {
    multiply(bencher, case, 1);
}

#[divan::bench(args = cases(&LARGE), sample_count = 5)]
fn generation_large(bencher: Bencher<'_, '_>, case: Case) {
    multiply(bencher, case, 1);
}

#[divan::bench(args = cases(&SMALL), sample_count = 20)]
fn prompt(bencher: Bencher<'_, '_>, case: Case) {
    multiply(bencher, case, 96);
}
