//! Mixers that keep a state of fixed size instead of all positions.
//!
//! Each takes new rows of several sequences and their states, and gives mixed rows and the states after them. Before the
//! recurrence, all of them convolve along the positions, for which the last rows are kept: they are the first part of a
//! state.

mod delta_net;
mod mamba1;
mod mamba2;
mod short_convolution;

use super::batch::Span;
use super::spec::{RecurrentSpec, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Result, Tensor};
use crate::kernels::{Convolution, Stretch};
use delta_net::GatedDeltaNet;
use short_convolution::ShortConvolution;
use std::ops::Range;

/// A mixer with a state of fixed size.
pub struct Recurrent {
    kind: Kind,
    /// Which of a sequence's states is this layer's.
    slot: usize,
    /// Elements of the state.
    len: usize,
}

enum Kind {
    DeltaNet(Box<GatedDeltaNet>),
    Mamba1(Box<mamba1::Mamba>),
    Mamba2(Box<mamba2::Mamba>),
    ShortConvolution(Box<ShortConvolution>),
}

impl Recurrent {
    /// The mixer of layer `index`.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        spec: RecurrentSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let kind = match spec {
            RecurrentSpec::DeltaNet(net) => {
                Kind::DeltaNet(Box::new(GatedDeltaNet::load(s, w, index, net)?))
            }
            RecurrentSpec::Mamba1(mamba) => {
                Kind::Mamba1(Box::new(mamba1::Mamba::load(s, w, index, mamba)?))
            }
            RecurrentSpec::Mamba2(mamba) => {
                Kind::Mamba2(Box::new(mamba2::Mamba::load(s, w, index, mamba)?))
            }
            RecurrentSpec::ShortConvolution { taps } => {
                Kind::ShortConvolution(Box::new(ShortConvolution::load(s, w, index, taps)?))
            }
        };
        let before = s.layers[..index].iter().filter(|layer| layer.mixer.recurrent().is_some());
        Ok(Self { kind, slot: before.count(), len: spec.state_len(s.d_model) })
    }

    /// The new rows `x`, (n, d_model), of `spans`, each mixed with its own sequence's past.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, b: &dyn Backend, x: &Tensor, spans: &mut [Span<'_>]) -> Result<Tensor> {
        let states = spans.iter_mut().map(|span| {
            if in_place(span) {
                return vec![(1, span.sequence.take_state(self.slot))];
            }
            let ends: Vec<usize> = span.ends().collect();
            ends.into_iter().map(|rows| (rows, span.sequence.spare(self.len))).collect()
        });
        let states: Vec<Vec<(usize, Vec<f32>)>> = states.collect();
        let mut pasts = Pasts { spans, slot: self.slot, states };
        let out = match &self.kind {
            Kind::DeltaNet(net) => net.forward(b, x, &mut pasts)?,
            Kind::Mamba1(mamba) => mamba.forward(b, x, &mut pasts)?,
            Kind::Mamba2(mamba) => mamba.forward(b, x, &mut pasts)?,
            Kind::ShortConvolution(short) => short.forward(b, x, &mut pasts)?,
        };
        for (span, states) in pasts.spans.iter_mut().zip(pasts.states) {
            for (rows, state) in states {
                span.sequence.stage(rows, state);
            }
        }
        Ok(out)
    }
}

/// The states of one layer, before and after the rows of a pass.
struct Pasts<'p, 's> {
    spans: &'p mut [Span<'s>],
    slot: usize,
    /// For each span, the states after so many of its rows.
    states: Vec<Vec<(usize, Vec<f32>)>>,
}

impl Pasts<'_, '_> {
    /// Some elements of the states.
    fn part(&mut self, part: Range<usize>) -> Vec<Stretch<'_>> {
        let (slot, all) = (self.slot, self.spans.iter().zip(&mut self.states));
        let stretches = all.map(|(span, states)| Stretch {
            rows: span.len(),
            before: (!in_place(span)).then(|| &span.sequence.fixed()[slot][part.clone()]),
            after: states
                .iter_mut()
                .map(|(rows, state)| (*rows, &mut state[part.clone()]))
                .collect(),
        });
        stretches.collect()
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
