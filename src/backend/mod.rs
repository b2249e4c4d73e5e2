//! The operations that a transformer needs, and who computes them.
//!
//! Input and output: [`Tensor`]s, weights as [`Linear`] layers, cached positions as pages. Knows nothing of layers,
//! families or tokens. [`Cpu`] runs our kernels; [`Portable`] runs candle's own operations, which define what the
//! others must compute. A backend for another device is one more implementation of [`Backend`].

mod checks;
mod cpu;
mod error;
mod linear;
mod portable;
mod recurrence;
mod tensor;

pub use cpu::Cpu;
pub use error::{BackendError, Result};
pub use linear::Linear;
pub use portable::Portable;
pub use tensor::Tensor;

use crate::kernels::{
    Act, Choice, Convolution, DeltaNet, Expert, Fresh, Heads, Mamba1, Mamba2, Matrix, Past,
    Stretch, Weigh,
};

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1, as in GGUF files of the `llama` family.
    Adjacent,
    /// i and i + dims/2, as in GPT-NeoX.
    Halves,
}

/// The experts of a mixture and where their weights are applied.
pub struct ExpertPool {
    /// The experts.
    pub experts: Vec<Expert>,
    /// Where the weights are applied.
    pub weigh: Weigh,
}

/// What computes a model. A row's result depends on that row alone, never on the others beside it.
///
/// # Errors
/// Each operation fails when shapes do not fit, or when the device refuses.
#[expect(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Backend: Send + Sync {
    /// Places a linear layer: y = x Wᵀ + b.
    fn linear(&self, matrix: Matrix, bias: Option<Vec<f32>>) -> Result<Linear>;

    /// A tensor of these values.
    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor>;

    /// Copies the values of a tensor to `out`, row after row.
    fn read(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()>;

    /// Applies several linear layers to the same input, (n, in) → (n, out) each.
    fn products(&self, layers: &[&Linear], x: &Tensor) -> Result<Vec<Tensor>>;

    /// Applies one linear layer, (n, in) → (n, out).
    fn product(&self, layer: &Linear, x: &Tensor) -> Result<Tensor> {
        let mut all = self.products(&[layer], x)?;
        all.pop().ok_or_else(|| BackendError::new("no product of a layer"))
    }

    /// Applies one linear layer and copies the result to `out`, (n, out), row after row.
    fn product_into(&self, layer: &Linear, x: &Tensor, out: &mut Vec<f32>) -> Result<()>;

    /// A gated feed-forward layer, down(act(gate(x)) · up(x)).
    fn feed_forward(&self, act: Act, layers: [&Linear; 3], x: &Tensor) -> Result<Tensor>;

    /// A mixture of experts: `x` (n, d_model) and the experts chosen for each row to (n, d_model).
    fn mixture(
        &self,
        pool: &ExpertPool,
        act: Act,
        x: &Tensor,
        choices: &[Vec<Choice>],
    ) -> Result<Tensor>;

    /// a + b, of the same shape.
    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// a + b, where `b` has the last dimensions of `a`, or 1 in place of some.
    fn add_each(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// a · b, where `b` has the last dimensions of `a`, or 1 in place of some.
    fn multiply_each(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// x · factor.
    fn scale(&self, x: &Tensor, factor: f64) -> Result<Tensor>;

    /// x / sqrt(mean(x²) + ε) · weight over the last dimension.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor>;

    /// x − mean(x) over the last dimension.
    fn center(&self, x: &Tensor) -> Result<Tensor>;

    /// Rotates the first elements of every head of `x`, (n, heads, head_dim), by `angles`: cosines and sines,
    /// (n, pairs).
    fn rotate(&self, x: &Tensor, angles: [&Tensor; 2], pairs: Pairs) -> Result<Tensor>;

    /// act(gate) · up, elementwise.
    fn gate_up(&self, act: Act, gate: &Tensor, up: &Tensor) -> Result<Tensor>;

    /// 1 / (1 + e^−x).
    fn sigmoid(&self, x: &Tensor) -> Result<Tensor>;

    /// Writes keys and values, (n, kv_heads, dim), to the pages of the sequences that the rows belong to.
    fn append(&self, k: &Tensor, v: &Tensor, fresh: &mut [Fresh<'_>]) -> Result<()>;

    /// Attention of `q`, (n, heads, key_dim), over the pages of the sequences that the rows belong to:
    /// (n, heads · value_dim). `sinks` holds one score per head that takes softmax weight but adds no value.
    fn attend(
        &self,
        h: Heads,
        sinks: Option<&[f32]>,
        q: &Tensor,
        pasts: &[Past<'_>],
    ) -> Result<Tensor>;

    /// A causal convolution of each channel of `x`, (n, channels), along the positions of the sequences that the rows
    /// belong to.
    fn convolve(
        &self,
        convolution: &Convolution,
        x: &Tensor,
        stretches: &mut [Stretch<'_>],
    ) -> Result<Tensor>;

    /// A gated delta net over queries, keys and values, (n, [`DeltaNet::width`]), with `gates` alpha and beta, (n, heads)
    /// each: (n, heads · value_dim).
    fn delta_net(
        &self,
        net: &DeltaNet,
        x: &Tensor,
        gates: [&Tensor; 2],
        stretches: &mut [Stretch<'_>],
    ) -> Result<Tensor>;

    /// Mamba over x and steps, (n, channels), B and C, (n, d_state): (n, channels).
    fn mamba1(
        &self,
        mamba: &Mamba1,
        rows: [&Tensor; 4],
        stretches: &mut [Stretch<'_>],
    ) -> Result<Tensor>;

    /// Mamba 2 over x, B and C, (n, [`Mamba2::width`]), with steps (n, heads): (n, heads · head_dim).
    fn mamba2(
        &self,
        mamba: &Mamba2,
        x: &Tensor,
        steps: &Tensor,
        stretches: &mut [Stretch<'_>],
    ) -> Result<Tensor>;
}

impl dyn Backend + '_ {
    /// [`Backend::products`] of a fixed number of layers.
    ///
    /// # Errors
    /// As there.
    pub fn products_of<const N: usize>(
        &self,
        layers: [&Linear; N],
        x: &Tensor,
    ) -> Result<[Tensor; N]> {
        let all = self.products(&layers, x)?;
        all.try_into().map_err(|_| BackendError::new("not a product for each layer"))
    }
}
