//! Mixers that keep a state of fixed size instead of all positions.
//!
//! Each takes new rows of several sequences and their states, and gives mixed rows and the states after them. Before the
//! recurrence, most of them convolve along the positions, for which the last rows are kept: they are the first part of a
//! state.

mod channel_mix;
mod delta_net;
mod kda;
mod lightning;
mod mamba1;
mod mamba2;
mod plamo2;
mod rwkv6;
mod rwkv7;
mod shift;
mod short_convolution;

use super::batch::Span;
use super::spec::{LayerSpec, RecurrentSpec, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Result, Tensor};
use crate::kernels::{Convolution, Recurrence, Stretch};

/// A mixer with a state of fixed size.
pub struct Recurrent {
    mixer: Box<dyn StateMixer>,
    /// Which of a sequence's states is this mixer's.
    slot: usize,
    /// Elements of the state.
    len: usize,
}

/// What such a mixer computes.
trait StateMixer: Send + Sync {
    /// Mixes `x`, (n, d_model), with the past.
    ///
    /// # Errors
    /// When the shapes do not fit.
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor>;
}

/// What a layer leaves to later ones of the same pass.
#[derive(Default)]
pub struct Carried {
    /// The values of the first layer of RWKV 7, (n, d_model).
    values: Option<Tensor>,
}

impl Recurrent {
    /// The mixer of layer `index`, or of its feed-forward half.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        spec: RecurrentSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let mixer: Box<dyn StateMixer> = match spec {
            RecurrentSpec::DeltaNet(net) => {
                Box::new(delta_net::GatedDeltaNet::load(s, w, index, net)?)
            }
            RecurrentSpec::Kda(kda) => Box::new(kda::DeltaAttention::load(s, w, index, kda)?),
            RecurrentSpec::Lightning(lightning) => {
                Box::new(lightning::LightningAttention::load(s, w, index, lightning)?)
            }
            RecurrentSpec::Mamba1(mamba) => Box::new(mamba1::Mamba::load(s, w, index, mamba)?),
            RecurrentSpec::Mamba2(mamba) if mamba.rank > 0 => {
                Box::new(plamo2::Mamba::load(s, w, index, mamba)?)
            }
            RecurrentSpec::Mamba2(mamba) => Box::new(mamba2::Mamba::load(s, w, index, mamba)?),
            RecurrentSpec::Rwkv6(rwkv) => Box::new(rwkv6::TimeMix::load(s, w, index, rwkv)?),
            RecurrentSpec::Rwkv7(rwkv) => Box::new(rwkv7::TimeMix::load(s, w, index, rwkv)?),
            RecurrentSpec::ChannelMix => Box::new(channel_mix::ChannelMix::load(s, w, index)?),
            RecurrentSpec::ShortConvolution { taps } => {
                Box::new(short_convolution::ShortConvolution::load(s, w, index, taps)?)
            }
        };
        let before = s.layers[..index].iter().flat_map(LayerSpec::states).count();
        let own = s.layers[index].states().position(|own| own == spec);
        Ok(Self { mixer, slot: before + own.unwrap_or(0), len: spec.state_len(s.d_model) })
    }

    /// The new rows `x`, (n, d_model), of `spans`, each mixed with its own sequence's past.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        spans: &mut [Span<'_>],
        carried: &mut Carried,
    ) -> Result<Tensor> {
        let states = spans.iter_mut().map(|span| {
            if in_place(span) {
                return vec![(1, span.sequence.take_state(self.slot))];
            }
            let ends: Vec<usize> = span.ends().collect();
            ends.into_iter().map(|rows| (rows, span.sequence.spare(self.len))).collect()
        });
        let states: Vec<Vec<(usize, Vec<f32>)>> = states.collect();
        let mut pasts = Pasts { spans, slot: self.slot, states, carried };
        let out = self.mixer.forward(b, x, &mut pasts)?;
        for (span, states) in pasts.spans.iter_mut().zip(pasts.states) {
            for (rows, state) in states {
                span.sequence.stage(rows, state);
            }
        }
        Ok(out)
    }
}

/// The states of one mixer, before and after the rows of a pass.
struct Pasts<'p, 's> {
    spans: &'p mut [Span<'s>],
    slot: usize,
    /// For each span, the states after so many of its rows.
    states: Vec<Vec<(usize, Vec<f32>)>>,
    carried: &'p mut Carried,
}

impl Pasts<'_, '_> {
    /// Takes the part of the states that begins at `first` through the rows of a recurrence.
    fn recur(
        &mut self,
        b: &dyn Backend,
        first: usize,
        recurrence: Recurrence<'_>,
        inputs: &[&Tensor],
    ) -> Result<Tensor> {
        let part = first..first + recurrence.state_len();
        let (slot, all) = (self.slot, self.spans.iter().zip(&mut self.states));
        let stretches = all.map(|(span, states)| Stretch {
            rows: span.len(),
            before: (!in_place(span)).then(|| &span.sequence.fixed()[slot][part.clone()]),
            after: states
                .iter_mut()
                .map(|(rows, state)| (*rows, &mut state[part.clone()]))
                .collect(),
        });
        b.recur(recurrence, inputs, &mut stretches.collect::<Vec<_>>())
    }
}

/// Whether a span changes its states in place: copying them takes longer than a single token's change.
fn in_place(span: &Span<'_>) -> bool {
    span.len() == 1
}

/// The convolution `{name}.weight`, (channels, taps), with `{name}.bias` if it exists.
fn convolution(
    w: &Weights<'_>,
    name: &str,
    (channels, taps): (usize, usize),
    silu: bool,
) -> std::result::Result<Convolution, WeightsError> {
    let by_channel = w.numbers(&format!("{name}.weight"), channels, taps)?;
    let by_tap = (0..taps * channels).map(|i| by_channel[i % channels * taps + i / channels]);
    let bias = format!("{name}.bias");
    let bias = w.has(&bias).then(|| w.floats(&bias, channels)).transpose()?;
    Ok(Convolution { channels, taps: by_tap.collect(), bias, silu })
}
