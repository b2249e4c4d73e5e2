//! The one decoder-only transformer that all families share.
//!
//! Input: a [`Batch`]: new positions of sequences. Output: the final norm's output, and logits. Knows token ids; knows
//! nothing of text. Written once over [`Backend`]: what computes it is chosen where the model is loaded.

use super::altup::{AltUp, Laurel, Prediction, stream};
use super::batch::{Batch, Inputs, Output, Span};
use super::beside::Beside;
use super::classifier::Classifier;
use super::ffn::Ffn;
use super::file::ModelFile;
use super::mixer::Mixer;
use super::mtp::Seed;
use super::norm::Norm;
use super::pages::{PagePool, PageShape};
use super::per_layer::{Mix, PerLayer};
use super::recurrent::{Carried, Recurrent};
use super::rope::Rotation;
use super::rope_factors::Factors;
use super::sequence::{Fixed, Sequence};
use super::spec::{Frequencies, Halves, LayerSpec, Pooling, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, BackendError, Linear, Result, Tensor};
use crate::kernels::{CacheType, Finish, Matrix, dequantize};
use std::ops::Range;
use std::sync::Arc;

/// A loaded model. Immutable, and shared by everything that computes with it.
pub struct Model {
    spec: Spec,
    backend: Arc<dyn Backend>,
    /// Of a model that guesses.
    seed: Option<Seed>,
    embedding: Matrix,
    /// Learned position embeddings, one row per position.
    positions: Option<Matrix>,
    per_layer: Option<PerLayer>,
    altup: Option<AltUp>,
    /// Embedding of the token type of a single text, added to every token.
    token_type: Option<Vec<f32>>,
    embedding_norm: Option<Norm>,
    rope_factors: Factors,
    layers: Vec<Layer>,
    /// Missing only if layers end in a norm.
    norm: Option<Norm>,
    head: Linear,
    /// What follows the pooling of an embedding, one after the other.
    dense: Vec<Linear>,
    /// What gives a text scores.
    classifier: Option<Classifier>,
}

/// One layer: a mixer and a feed-forward part, or one of them, and the norms around them. Families differ in which norms
/// they have.
struct Layer {
    mixer_norm: Option<Norm>,
    mixer: Option<Mixer>,
    laurel: Option<Laurel>,
    post_mixer_norm: Option<Norm>,
    /// After the residual add, not before it.
    mixer_sum_norm: Option<Norm>,
    /// After the layer's input was added once more.
    second_sum_norm: Option<Norm>,
    ffn_norm: Option<Norm>,
    ffn: Option<Ffn>,
    /// In its place, in RWKV.
    channel_mix: Option<Recurrent>,
    beside: Option<Beside>,
    post_ffn_norm: Option<Norm>,
    mix: Option<Mix>,
    prediction: Option<Prediction>,
    scale: Option<f32>,
    sum_norm: Option<Norm>,
}

impl Model {
    /// Builds the model of `spec`, which must use all of the weights.
    ///
    /// # Errors
    /// When a tensor is missing, has the wrong shape or a type without a kernel, or is left over.
    pub fn load(spec: Spec, weights: Weights<'_>) -> std::result::Result<Self, WeightsError> {
        for index in spec.layers.len()..spec.layers.len() + spec.n_guessing {
            weights.pass(&format!("blk.{index}."));
        }
        let model = Self::build(spec, &weights, None)?;
        weights.finish(&model.spec.architecture)?;
        Ok(model)
    }

    /// The model that guesses the token after the next one, of `spec`'s layers for multi-token prediction: it reads
    /// [`Inputs::Following`]. `None` if there are none.
    ///
    /// # Errors
    /// When a tensor is missing, has the wrong shape or a type without a kernel.
    pub fn guesser(
        spec: &Spec,
        file: &ModelFile,
        backend: Arc<dyn Backend>,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        let Some(own) = spec.guesser() else { return Ok(None) };
        let weights = Weights::from_layer(file, backend, spec.layers.len());
        let seed = Seed::load(&own, &weights)?;
        Self::build(own, &weights, Some(seed)).map(Some)
    }

    fn build(
        spec: Spec,
        weights: &Weights<'_>,
        seed: Option<Seed>,
    ) -> std::result::Result<Self, WeightsError> {
        let d = spec.d_model;
        // A layer that guesses may have an embedding, a norm and a head of its own.
        let named = |own: &'static str, usual: &'static str| {
            if seed.is_some() && weights.has(&format!("{own}.weight")) { own } else { usual }
        };
        let embedding = named("blk.0.nextn.embed_tokens", "token_embd");
        let embedding = weights.matrix(&format!("{embedding}.weight"), spec.n_vocab, d)?;
        let head = named("blk.0.nextn.shared_head_head", "output");
        let final_norm = named("blk.0.nextn.shared_head_norm", spec.final_norm);
        let head = if weights.has(&format!("{head}.weight")) {
            weights.linear(head, spec.n_vocab, d)?
        } else {
            weights.backend().linear(embedding.clone(), Finish::default())?
        };
        let positions = "position_embd.weight";
        let positions = weights
            .has(positions)
            .then(|| weights.matrix(positions, spec.n_ctx_train, d))
            .transpose()?;
        let per_layer = PerLayer::load(&spec, weights)?;
        let altup = AltUp::load(&spec, weights)?;
        let rope_factors = Factors::load(&spec, weights)?;
        let layers = (0..spec.layers.len())
            .map(|index| Layer::load(&spec, weights, index))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let types = "token_types.weight";
        let token_type = match weights.elements(types) {
            Some(elements) => {
                let types = weights.matrix(types, elements / d, d)?;
                let mut first = vec![0.0; d];
                dequantize(types.dtype, types.row(0), &mut first);
                Some(first)
            }
            None => None,
        };
        let after_embedding = "token_embd_norm";
        let embedding_norm = if spec.final_norm == after_embedding {
            None
        } else {
            Norm::load_if(&spec, weights, after_embedding, d)?
        };
        let norm = match layers.last() {
            Some(last) if last.sum_norm.is_some() => None,
            _ => Some(Norm::load(&spec, weights, final_norm, d)?),
        };
        let classifier = Classifier::load(&spec, weights)?;
        let (mut dense, mut width) = (Vec::new(), d);
        for name in ["dense_2", "dense_3"] {
            let weight = format!("{name}.weight");
            if let Some(elements) = weights.elements(&weight) {
                let layer = weights.linear(name, elements / width.max(1), width)?;
                width = layer.outputs();
                dense.push(layer);
            }
        }
        let backend = Arc::clone(weights.backend());
        Ok(Self {
            spec,
            backend,
            seed,
            embedding,
            positions,
            per_layer,
            altup,
            token_type,
            embedding_norm,
            rope_factors,
            layers,
            norm,
            head,
            dense,
            classifier,
        })
    }

    /// The model's spec.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// A pool of pages for this model's sequences, which take at most `bytes_max` together.
    #[must_use]
    pub fn pages(
        &self,
        key_type: CacheType,
        value_type: CacheType,
        bytes_max: usize,
    ) -> Arc<PagePool> {
        PagePool::new(PageShape::new(&self.spec, key_type, value_type), bytes_max)
    }

    /// An empty sequence of at most `context` positions.
    #[must_use]
    pub fn sequence(&self, pool: &Arc<PagePool>, context: usize) -> Sequence {
        let recurrent = self.spec.layers.iter().flat_map(LayerSpec::states);
        let blank = recurrent.map(|mixer| vec![0.0; mixer.state_len(self.spec.d_model)]);
        Sequence::new(Arc::clone(pool), context, blank.map(Fixed::new).collect())
    }

    /// Computes the new positions of several sequences and adds them to these. What a position gives depends on its
    /// own sequence alone.
    ///
    /// Calls `go_on` before each layer; if it returns false, stops with `None`. A prompt takes seconds, and the client
    /// may be gone.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, or a sequence has no room (see [`Sequence::reserve`]). After an error or
    /// a stop, all sequences are as they were, except that states of fixed size that a single new position changed go
    /// back to the last ones kept, and the positions with them.
    pub fn forward(
        &self,
        batch: &mut Batch<'_>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Output>> {
        let output = self.pass(batch, go_on);
        if !matches!(output, Ok(Some(_))) {
            batch.spans.iter_mut().for_each(|span| span.sequence.unstage());
        }
        output
    }

    fn pass(&self, batch: &mut Batch<'_>, go_on: &dyn Fn() -> bool) -> Result<Option<Output>> {
        let b = &*self.backend;
        let spans = &mut batch.spans;
        for span in spans.iter_mut() {
            let (new, len, context) = (span.len(), span.sequence.len(), span.sequence.context());
            if len + new > context {
                let message = format!("{} positions exceed the context of {context}", len + new);
                return Err(BackendError::new(message));
            }
            if !span.sequence.has_room(new) {
                return Err(BackendError::new(format!("no pages for {new} more positions")));
            }
        }
        let (mut rows, mut wanted, mut first) = (Vec::with_capacity(spans.len()), Vec::new(), 0);
        for span in spans.iter() {
            let start = wanted.len();
            wanted.extend(span.wanted().map(|row| first + row));
            rows.push(start..wanted.len());
            first += span.len();
        }
        if first == 0 {
            let hidden = b.tensor(Vec::new(), &[0, self.spec.d_model])?;
            return Ok(Some(Output { hidden, rows }));
        }
        let mut tokens = Vec::with_capacity(first);
        let mut positions = Vec::with_capacity(first); // as RoPE counts them
        for span in spans.iter() {
            match span.inputs {
                Inputs::Tokens(ids) | Inputs::Following { tokens: ids, .. } => {
                    tokens.extend_from_slice(ids);
                }
                // Where each token has a row of its own, an embedding takes that of the first.
                Inputs::Embeddings { hashes, .. } => tokens.extend(hashes.iter().map(|_| 0)),
            }
            match span.positions {
                Some(given) if given.len() == span.len() => positions.extend_from_slice(given),
                Some(given) => {
                    let message = format!("{} positions for {} inputs", given.len(), span.len());
                    return Err(BackendError::new(message));
                }
                None => positions.extend((span.sequence.len()..).take(span.len())),
            }
        }
        let mut x = self.embed(batch, &positions)?; // (n, d_model)
        let inputs = match &self.per_layer {
            Some(per_layer) => Some(per_layer.inputs(&self.spec, b, &tokens, &x)?),
            None => None,
        };
        let spans = &mut batch.spans;
        // Rotary factors may depend on the context, so sequences of different ones would change each other's results.
        let context = spans[0].sequence.context();
        if spans.iter().any(|span| span.sequence.context() != context) {
            return Err(BackendError::new("sequences of different contexts in one batch"));
        }
        let rotations = self.rotations(&positions, context)?;
        if let Some(altup) = &self.altup {
            x = altup.spread(b, &x)?;
        }
        let mut carried = Carried::default();
        for (index, layer) in self.layers.iter().enumerate() {
            if !go_on() {
                return Ok(None);
            }
            let input = inputs.as_ref().map(|all| PerLayer::of_layer(all, index)).transpose()?;
            let (rotation, input) = (rotations[index].as_deref(), input.as_ref());
            x = match &layer.prediction {
                Some(prediction) => {
                    let predicted = prediction.predict(b, &x)?;
                    let active = stream(&predicted, 0)?;
                    let computed =
                        self.layer(layer, &active, spans, rotation, None, &mut carried)?;
                    let mixed = layer.mix.as_ref().zip(input);
                    prediction.correct(b, &predicted, &computed, mixed)?
                }
                None => self.layer(layer, &x, spans, rotation, input, &mut carried)?,
            };
        }
        if let Some(altup) = &self.altup {
            x = altup.gather(b, &x)?;
        }
        let hidden = self.norm_if(self.norm.as_ref(), &x.select(&wanted)?)?;
        for span in spans.iter_mut() {
            let inputs = span.inputs;
            span.sequence.mark(span.stops);
            span.sequence.advance(inputs.read());
        }
        Ok(Some(Output { hidden, rows }))
    }

    /// Writes the logits of some rows of an output to `logits`: (rows, n_vocab), row after row.
    ///
    /// # Errors
    /// When there are no such rows.
    pub fn logits(&self, output: &Output, rows: Range<usize>, logits: &mut Vec<f32>) -> Result<()> {
        if rows.is_empty() {
            logits.clear();
            return Ok(());
        }
        let hidden = output.hidden.narrow(0, rows.start, rows.len())?;
        self.backend.product_into(&self.head, &hidden, logits)?;
        if (self.spec.logit_scale - 1.0).abs() > f32::EPSILON {
            logits.iter_mut().for_each(|l| *l *= self.spec.logit_scale);
        }
        if let Some(cap) = self.spec.logit_softcap {
            logits.iter_mut().for_each(|l| *l = cap * libm::tanhf(*l / cap));
        }
        Ok(())
    }

    /// Copies some rows of an output to `hidden`: (rows, d_model), row after row.
    ///
    /// # Errors
    /// When there are no such rows.
    pub fn hidden(&self, output: &Output, rows: Range<usize>, hidden: &mut Vec<f32>) -> Result<()> {
        self.backend.read(&output.hidden.narrow(0, rows.start, rows.len())?, hidden)
    }

    /// Elements of an embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        self.dense.last().map_or(self.spec.d_model, Linear::outputs)
    }

    /// Scores that a text gets; 0 without a classification head.
    #[must_use]
    pub fn scores(&self) -> usize {
        self.classifier.as_ref().map_or(0, |classifier| classifier.classes(self.spec.d_model))
    }

    /// The embedding, or the scores, made of a pooled row.
    ///
    /// # Errors
    /// When it has another length than d_model.
    pub fn project(&self, pooled: Vec<f32>, pooling: Pooling) -> Result<Vec<f32>> {
        let b = &*self.backend;
        if let (Pooling::Rank, Some(classifier)) = (pooling, &self.classifier) {
            return classifier.scores(b, b.tensor(pooled, &[1, self.spec.d_model])?);
        }
        if self.dense.is_empty() {
            return Ok(pooled);
        }
        let mut x = b.tensor(pooled, &[1, self.spec.d_model])?;
        for layer in &self.dense {
            x = b.product(layer, &x)?;
        }
        let mut out = Vec::new();
        b.read(&x, &mut out)?;
        Ok(out)
    }

    fn embed(&self, batch: &Batch<'_>, positions: &[usize]) -> Result<Tensor> {
        let d = self.spec.d_model;
        let mut all = vec![0.0; positions.len() * d];
        let mut rows = all.chunks_exact_mut(d);
        for span in &batch.spans {
            match span.inputs {
                Inputs::Tokens(tokens) | Inputs::Following { tokens, .. } => {
                    for (token, row) in tokens.iter().zip(&mut rows) {
                        self.embed_token(*token, row)?;
                    }
                }
                Inputs::Embeddings { rows: given, hashes } => {
                    if given.len() != hashes.len() * d {
                        let message = format!("{} elements for {} rows", given.len(), hashes.len());
                        return Err(BackendError::new(message));
                    }
                    given
                        .chunks_exact(d)
                        .zip(&mut rows)
                        .for_each(|(x, row)| row.copy_from_slice(x));
                }
            }
        }
        if let Some(table) = &self.positions {
            let mut added = vec![0.0; d];
            for (row, position) in all.chunks_exact_mut(d).zip(positions) {
                if *position >= table.rows {
                    let message =
                        format!("position {position} is beyond the model's {}", table.rows);
                    return Err(BackendError::new(message));
                }
                dequantize(table.dtype, table.row(*position), &mut added);
                row.iter_mut().zip(&added).for_each(|(x, a)| *x += a);
            }
        }
        if let Some(added) = &self.token_type {
            for row in all.chunks_exact_mut(d) {
                row.iter_mut().zip(added).for_each(|(x, a)| *x += a);
            }
        }
        let x = self.backend.tensor(all, &[positions.len(), d])?;
        let x = self.norm_if(self.embedding_norm.as_ref(), &x)?;
        self.join_hidden(batch, x)
    }

    /// Of a model that guesses, joins the embeddings `x` with what the other model gave.
    fn join_hidden(&self, batch: &Batch<'_>, x: Tensor) -> Result<Tensor> {
        let mut all = Vec::new();
        for span in &batch.spans {
            match (&self.seed, span.inputs) {
                (Some(_), Inputs::Following { hidden, .. }) => all.extend_from_slice(hidden),
                (None, Inputs::Tokens(_) | Inputs::Embeddings { .. }) => {}
                (Some(_), _) => return Err(BackendError::new("a guess without what it follows")),
                (None, _) => return Err(BackendError::new("this model does not guess")),
            }
        }
        let Some(seed) = &self.seed else { return Ok(x) };
        let b = &*self.backend;
        if all.len() != x.elements() {
            let message = format!("{} hidden elements, expected {}", all.len(), x.elements());
            return Err(BackendError::new(message));
        }
        seed.join(b, &x, &b.tensor(all, x.shape())?)
    }

    fn embed_token(&self, token: u32, row: &mut [f32]) -> Result<()> {
        let (index, table) = (token as usize, &self.embedding);
        if index >= table.rows {
            let message = format!("token {token} is not in the vocabulary of {}", table.rows);
            return Err(BackendError::new(message));
        }
        dequantize(table.dtype, table.row(index), row);
        row.iter_mut().for_each(|x| *x *= self.spec.embedding_scale);
        Ok(())
    }

    /// The rotary angles of each layer, `None` without RoPE; layers with the same frequencies share them.
    fn rotations(&self, positions: &[usize], context: usize) -> Result<Vec<Option<Arc<Rotation>>>> {
        let factors = self.rope_factors.of(context);
        let mut made: Vec<(Frequencies, Arc<Rotation>)> = Vec::new();
        let mut all = Vec::with_capacity(self.layers.len());
        for layer in &self.spec.layers {
            let Some(frequencies) = layer.rope else {
                all.push(None);
                continue;
            };
            if let Some((_, rotation)) = made.iter().find(|(key, _)| *key == frequencies) {
                all.push(Some(Arc::clone(rotation)));
                continue;
            }
            let (b, rope) = (&*self.backend, self.spec.rope);
            let rotation = Arc::new(Rotation::new(b, positions, rope, frequencies, factors)?);
            made.push((frequencies, Arc::clone(&rotation)));
            all.push(Some(rotation));
        }
        Ok(all)
    }

    fn layer(
        &self,
        layer: &Layer,
        x: &Tensor,
        spans: &mut [Span<'_>],
        rotation: Option<&Rotation>,
        input: Option<&Tensor>,
        carried: &mut Carried,
    ) -> Result<Tensor> {
        let (s, b) = (&self.spec, &*self.backend);
        let normed = self.norm_if(layer.mixer_norm.as_ref(), x)?;
        let after = match &layer.mixer {
            Some(mixer) => {
                let mixed = mixer.forward(s, b, &normed, rotation, spans, carried)?;
                let mixed = self.norm_if(layer.post_mixer_norm.as_ref(), &mixed)?;
                let after = self.join(x, &normed, mixed)?;
                match &layer.laurel {
                    Some(laurel) => laurel.join(b, &normed, &after)?,
                    None => after,
                }
            }
            None => x.clone(),
        };
        if let Some(mix) = &layer.channel_mix {
            let normed = self.norm_if(layer.ffn_norm.as_ref(), &after)?;
            let out = b.add(&after, &mix.forward(b, &normed, spans, carried)?)?;
            return self.scaled(layer, out);
        }
        let Some(ffn) = &layer.ffn else { return Ok(after) };
        // If the mixer has a norm and the FFN has none, the FFN shares it and runs in parallel.
        let parallel = layer.ffn_norm.is_none() && layer.mixer_norm.is_some();
        let after = self.norm_if(layer.mixer_sum_norm.as_ref(), &after)?;
        let after = match &layer.second_sum_norm {
            Some(norm) => norm.forward(b, &b.add(&after, x)?)?,
            None => after,
        };
        let ffn_input = if parallel {
            normed
        } else {
            self.norm_if(
                layer.ffn_norm.as_ref(),
                if s.halves == Halves::SideBySide { x } else { &after },
            )?
        };
        let out = ffn.forward(s, b, &ffn_input, x)?;
        let out = match &layer.beside {
            Some(experts) => experts.forward(s, b, &after, &out)?,
            None => out,
        };
        let out = self.norm_if(layer.post_ffn_norm.as_ref(), &out)?;
        let out = self.join(&after, &ffn_input, out)?;
        let out = self.norm_if(layer.sum_norm.as_ref(), &out)?;
        let out = match (&layer.mix, input) {
            (Some(mix), Some(input)) => mix.forward(b, &out, input)?,
            _ => out,
        };
        self.scaled(layer, out)
    }

    fn scaled(&self, layer: &Layer, out: Tensor) -> Result<Tensor> {
        match layer.scale {
            Some(scale) => self.backend.scale(&out, f64::from(scale)),
            None => Ok(out),
        }
    }

    /// What half of a layer adds to its input.
    fn join(&self, x: &Tensor, normed: &Tensor, half: Tensor) -> Result<Tensor> {
        let (b, scale) = (&*self.backend, self.spec.residual_scale);
        if self.spec.adds_to_normed {
            return b.add(&half, &b.scale(normed, f64::from(scale))?);
        }
        let is_one = (scale - 1.0).abs() <= f32::EPSILON;
        let half = if is_one { half } else { b.scale(&half, f64::from(scale))? };
        b.add(x, &half)
    }

    fn norm_if(&self, norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
        norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(&*self.backend, x))
    }
}

impl Layer {
    fn load(s: &Spec, w: &Weights<'_>, index: usize) -> std::result::Result<Self, WeightsError> {
        let norm = |part: &str| Norm::load_if(s, w, &format!("blk.{index}.{part}"), s.d_model);
        // Some files name the norm before the feed-forward half, or that of a sum, as others name one of these.
        let [after_mixer, after_ffn] = s.after_norms;
        let of_sum = |part: &str| if s.after_norms.contains(&part) { Ok(None) } else { norm(part) };
        let mixer = Mixer::load(s, w, index)?;
        let feed = s.layers[index].feed;
        let has_ffn = feed.is_none() && (s.halves != Halves::Either || mixer.is_none());
        let scale = w.scalar_if(&format!("blk.{index}.layer_output_scale.weight"))?;
        let of_spec = Some(s.layers[index].output_scale);
        Ok(Self {
            mixer_norm: norm("attn_norm")?,
            mixer,
            laurel: Laurel::load(s, w, index)?,
            post_mixer_norm: if s.ffn_norm == after_mixer { None } else { norm(after_mixer)? },
            mixer_sum_norm: of_sum("attn_output_norm")?,
            second_sum_norm: if s.causal { None } else { norm("attn_norm_2")? },
            ffn_norm: norm(s.ffn_norm)?,
            ffn: if has_ffn { Some(Ffn::load(s, w, index)?) } else { None },
            channel_mix: feed.map(|spec| Recurrent::load(s, w, index, spec)).transpose()?,
            beside: Beside::load(s, w, index)?,
            post_ffn_norm: norm(after_ffn)?,
            mix: Mix::load(s, w, index)?,
            prediction: Prediction::load(s, w, index)?,
            scale: scale.or(of_spec.filter(|scale| (scale - 1.0).abs() > f32::EPSILON)),
            sum_norm: of_sum("layer_output_norm")?,
        })
    }
}
