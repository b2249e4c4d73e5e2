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
    Act, Choice, Expert, Finish, Fresh, Heads, Matrix, Past, Recurrence, Stretch, Weigh,
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
    /// Places a linear layer: y = scale · x Wᵀ + b.
    fn linear(&self, matrix: Matrix, finish: Finish) -> Result<Linear>;

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

    /// Takes states through the rows of the sequences that they belong to: the recurrence's inputs to its result,
    /// (n, elements) each.
    fn recur(
        &self,
        recurrence: Recurrence<'_>,
        inputs: &[&Tensor],
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

    /// The hyperbolic tangent.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn tanh(&self, x: &Tensor) -> Result<Tensor> {
        // tanh x = 2 sigmoid(2 x) − 1.
        let doubled = self.scale(&self.sigmoid(&self.scale(x, 2.0)?)?, 2.0)?;
        let width = x.shape().last().copied().unwrap_or(0);
        self.add_each(&doubled, &self.tensor(vec![-1.0; width], &[width])?)
    }

    /// x · sigmoid(x).
    ///
    /// # Errors
    /// When the device refuses.
    pub fn silu(&self, x: &Tensor) -> Result<Tensor> {
        self.act(Act::Silu, x)
    }

    /// act(x) alone.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn act(&self, act: Act, x: &Tensor) -> Result<Tensor> {
        self.gate_up(act, x, &self.tensor(vec![1.0; x.elements()], x.shape())?)
    }
}
