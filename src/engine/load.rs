//! Loads a model file into an engine that answers requests.

use super::fit::{Need, Pages, Sizes, TooLarge, fit, sizes};
use super::forward::Forward;
use super::options::LoadOptions;
use super::queue::{Limits, Queue, Status};
use super::scheduler::Scheduler;
use super::session::Session;
use super::thought::ThoughtLimit;
use crate::backend::{Backend, Cpu};
use crate::chat::{AnswerSyntax, Chat, TemplateError, builtin};
use crate::constraint::{self, Compiler, Constraint, ConstraintError, Guide};
use crate::kernels::Compute;
use crate::model::{
    FamilyError, FileError, Fixed, Model, ModelFile, PagePool, Pooling, Shard, Spec, Weights,
    WeightsError, spec,
};
use crate::system::THREADS_HINT;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::worker::{Patience, Workers};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

/// A loaded model that answers several requests at a time.
pub struct Engine {
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Conversations to prompts.
    pub chat: Chat,
    /// What is loaded.
    pub info: ModelInfo,
    constraints: Compiler,
    model: Arc<dyn Forward>,
    pool: Arc<PagePool>,
    batch: usize,
    pub(super) scheduler: Arc<Queue>,
    /// The instruction set's arithmetic, and the types of keys and values.
    pub(super) kinds: [String; 3],
    file: ModelFile,
    fingerprint: OnceLock<[u8; 32]>,
    thread: Option<JoinHandle<()>>,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub file: ModelFile,
    pub tokenizer: Arc<Tokenizer>,
    pub chat: Chat,
    pub info: ModelInfo,
    pub model: Arc<dyn Forward>,
    pub pool: Arc<PagePool>,
    pub limits: Limits,
}

/// Stack of the scheduler's thread.
const STACK_BYTES: usize = 8 << 20;

/// Facts about the loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `general.name`, or `model` if the file has none.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Size of the context in use, of each sequence.
    pub context: usize,
    /// Requests that are computed at a time.
    pub parallel: usize,
    /// Size of the context the model was trained on.
    pub context_train: usize,
    /// Number of tokens in the vocabulary.
    pub vocab: usize,
    /// Elements of an embedding.
    pub embedding: usize,
    /// Scores that its classification head gives a text; 0 if it has none.
    pub scores: usize,
    /// How embeddings are pooled, if the file says.
    pub pooling: Option<Pooling>,
    /// Whether it can generate text; other models only make embeddings.
    pub makes_text: bool,
    /// Name of the built-in chat template in use, if the file has none and the user chose none.
    pub stand_in: Option<&'static str>,
    /// Cache bytes per position.
    pub cache_bytes_per_position: usize,
    /// Notes for the user: on memory, and on faults in the file that are no reason to refuse it.
    pub notes: Vec<String>,
}

/// A model that could not be loaded.
#[derive(Debug)]
pub struct LoadError {
    /// The file, or the bundle entry.
    name: String,
    problem: Box<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.problem {
            // These already name the part of a split model.
            Problem::File(FileError::Gguf { .. } | FileError::Split { .. }) => {
                write!(f, "{}", self.problem)
            }
            problem => write!(f, "{}: {problem}", self.name),
        }
    }
}

impl std::error::Error for LoadError {}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Family(#[from] FamilyError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(
        "the vocabulary has {tokens} tokens, but `token_embd.weight` has {rows} rows\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Vocabulary { tokens: usize, rows: usize },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("no thread could be started: {0}\n{THREADS_HINT}")]
    Thread(#[from] std::io::Error),
}

/// The chat templates: those of the file, the given one, or a built-in one that suits the vocabulary, whose name is
/// then returned too.
fn chat(
    file: &ModelFile,
    tokenizer: &Tokenizer,
    architecture: &str,
    options: &LoadOptions,
    workers: &Arc<Workers>,
) -> Result<(Chat, Option<&'static str>), TemplateError> {
    let (bos, eos) = (tokenizer.bos_text(), tokenizer.eos_text());
    let of_file = |key| file.text(key).filter(|_| options.template.is_none());
    let tool_use = of_file("tokenizer.chat_template.tool_use");
    let rag = of_file("tokenizer.chat_template.rag");
    if let Some(source) = options.template.as_deref().or(file.text("tokenizer.chat_template")) {
        return Ok((Chat::with(workers, source, tool_use, rag, &bos, &eos)?, None));
    }
    let guessed = builtin::guess(architecture, &|token| tokenizer.find(token).is_some());
    let name = guessed.unwrap_or(builtin::DEFAULT);
    let source = builtin::source(name).unwrap_or_default();
    Ok((Chat::with(workers, source, tool_use, rag, &bos, &eos)?, Some(name)))
}

impl Engine {
    /// Loads the model in `shards`. Reads metadata and small tensors; weights are read on first use. `compute` is shared
    /// by all models of a process. `workers` run the chat template and try out the requests' constraints.
    ///
    /// # Errors
    /// When the file is invalid or unsupported, or the model does not fit in memory.
    pub fn load(
        shards: Vec<Shard>,
        options: &LoadOptions,
        compute: &Arc<Compute>,
        workers: &Arc<Workers>,
    ) -> Result<Self, LoadError> {
        let name = shards.first().map_or_else(String::new, |shard| shard.name.clone());
        Self::load_parts(shards, options, compute, workers)
            .map_err(|problem| LoadError { name, problem: Box::new(problem) })
    }

    fn load_parts(
        shards: Vec<Shard>,
        options: &LoadOptions,
        compute: &Arc<Compute>,
        workers: &Arc<Workers>,
    ) -> Result<Self, Problem> {
        let file = open(shards)?;
        let spec = spec(&file)?;
        let tokenizer = Arc::new(fitting_tokenizer(&file, &spec)?);
        let warnings = tokenizer.warnings().iter().map(|warning| format!("warning: {warning}"));
        let mut notes: Vec<String> = warnings.collect();
        let (chat, stand_in) = chat(&file, &tokenizer, &spec.architecture, options, workers)?;
        let need = Need::of(&file, &spec, options);
        let fit = fit(&need, options.context, options.room.as_ref())?;
        notes.extend(fit.notes);
        let context = fit.context;
        let pages = Pages::of(&spec, options);
        let Sizes { pool_bytes, limits } = sizes(&need, &pages.whole, context, options);
        let model = Arc::new(model(&file, spec, compute)?);
        let spec = model.spec();
        let info = ModelInfo {
            name: file.text("general.name").unwrap_or("model").to_owned(),
            architecture: spec.architecture.clone(),
            parameters: file.tensors().map(|t| t.elements() as u64).sum(),
            weight_bytes: file.weight_bytes(),
            context,
            parallel: limits.parallel,
            context_train: spec.n_ctx_train,
            vocab: spec.n_vocab,
            embedding: model.width(),
            scores: model.scores(),
            pooling: spec.pooling,
            makes_text: spec.causal,
            stand_in,
            cache_bytes_per_position: pages.whole.bytes_per_position(),
            notes,
        };
        let pool = pages.pool(pool_bytes);
        let parts = Parts { file, tokenizer, chat, info, model, pool, limits };
        Ok(Self::of(parts, options, compute, workers)?)
    }

    /// An engine of its parts; starts the scheduler.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn of(
        parts: Parts,
        options: &LoadOptions,
        compute: &Arc<Compute>,
        workers: &Arc<Workers>,
    ) -> io::Result<Self> {
        let Parts { file, tokenizer, chat, info, model, pool, limits } = parts;
        let scheduler = Queue::new(options.queue);
        let queue = Arc::clone(&scheduler);
        let (forward, arithmetic) = (Arc::clone(&model), compute.isa.arithmetic().to_owned());
        let compute = Arc::clone(compute);
        let computing = Scheduler::new(queue, forward, compute, Arc::clone(&pool), limits);
        let thread = thread::Builder::new().name("scheduler".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || computing.run())?;
        Ok(Self {
            constraints: Compiler::with(Arc::clone(&tokenizer), Arc::clone(workers)),
            tokenizer,
            chat,
            info,
            model,
            pool,
            batch: options.batch,
            scheduler,
            kinds: [arithmetic, options.key_type.to_string(), options.value_type.to_string()],
            file,
            fingerprint: OnceLock::new(),
            thread: Some(thread),
        })
    }

    /// The control tokens that serve as markers in an answer, which its reader must see.
    #[must_use]
    pub fn visible(&self, plan: &AnswerSyntax) -> Vec<u32> {
        let ids = |marker: &&str| self.tokenizer.encode(marker, false, true);
        let mut ids: Vec<u32> = plan.markers().iter().flat_map(ids).collect();
        ids.retain(|&id| self.tokenizer.is_control(id));
        ids
    }

    /// A limit of `tokens` on the thoughts of an answer, which are ended with `message`; `None` if the model marks none.
    #[must_use]
    pub fn thought_limit(
        &self,
        plan: &AnswerSyntax,
        tokens: usize,
        message: &str,
    ) -> Option<ThoughtLimit> {
        let tags = plan.tags?;
        let mut ending = self.tokenizer.encode_inside(message);
        ending.extend(self.tokenizer.encode(&format!("{}{}", tags.close, tags.then), false, true));
        Some(ThoughtLimit {
            tokens,
            open: tags.open,
            close: tags.close,
            opened: plan.thinking,
            again: tags.again,
            ending: ending.into(),
        })
    }

    /// The token ids of a rendered conversation. The template may write the BOS token itself; a second one is removed.
    #[must_use]
    pub fn chat_ids(&self, rendered: &str) -> Vec<u32> {
        self.begun_once(self.tokenizer.encode(rendered, true, true))
    }

    /// Ids that begin with BOS once at most.
    #[must_use]
    pub fn begun_once(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.tokenizer.bos()
            && ids.starts_with(&[bos, bos])
        {
            ids.remove(0);
        }
        ids
    }

    /// Compiles a constraint into a guide for a [`super::Generation`].
    ///
    /// # Errors
    /// When it cannot be compiled.
    pub fn guide(&self, constraint: &Constraint) -> Result<Guide, ConstraintError> {
        self.constraints.compile(constraint)
    }

    /// Like [`Engine::guide`], but with a time limit, and only as long as `wanted` returns true.
    ///
    /// # Errors
    /// When it cannot be compiled, takes too long, or is cancelled.
    pub fn guide_within(
        &self,
        constraint: &Constraint,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Guide, ConstraintError> {
        let patience = Patience::new(constraint::TIME_MAX, wanted);
        self.constraints.compile_within(constraint, &patience)
    }

    /// A session of its own, beside the requests: for measuring.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.model), &self.pool, self.info.context, self.batch)
    }

    /// The pages of this model.
    pub(super) fn pool(&self) -> &Arc<PagePool> {
        &self.pool
    }

    /// The states of fixed size before anything was read.
    pub(super) fn blank_states(&self) -> Vec<Fixed> {
        self.model.sequence(&self.pool, self.info.context).fixed().to_vec()
    }

    /// The weights' fingerprint; made when it is first asked for.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        *self.fingerprint.get_or_init(|| self.file.fingerprint())
    }

    /// See [`PagePool::page_bytes`].
    #[must_use]
    pub fn page_bytes(&self) -> [usize; 2] {
        self.pool.page_bytes()
    }

    /// Bytes of all keys and values in use.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.pool.bytes_used()
    }

    /// What the scheduler does and has done.
    #[must_use]
    pub fn status(&self) -> Status {
        self.scheduler.status()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.scheduler.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A model alone, for measurements: without a session or a chat template, and without a tokenizer if the file has none.
pub struct Bare {
    /// The model.
    pub model: Model,
    /// Text to ids and back, or why there is no tokenizer.
    pub tokenizer: Result<Tokenizer, LoadError>,
    /// The weights' name.
    pub name: String,
}

impl Bare {
    /// Loads the model in `shards`.
    ///
    /// # Errors
    /// When the weights are invalid or unsupported.
    pub fn load(shards: Vec<Shard>, compute: &Arc<Compute>) -> Result<Self, LoadError> {
        let name = shards.first().map_or_else(String::new, |shard| shard.name.clone());
        let wrong = |problem| LoadError { name: name.clone(), problem: Box::new(problem) };
        let load = || -> Result<(Model, Result<Tokenizer, Problem>), Problem> {
            let file = open(shards)?;
            let spec = spec(&file)?;
            let tokenizer = fitting_tokenizer(&file, &spec);
            Ok((model(&file, spec, compute)?, tokenizer))
        };
        let (model, tokenizer) = load().map_err(wrong)?;
        Ok(Self { model, tokenizer: tokenizer.map_err(wrong), name })
    }
}

/// Opens the weights. Nothing else of a bundle is read from here on, so releases the lock that keeps others from
/// changing it.
fn open(shards: Vec<Shard>) -> Result<ModelFile, FileError> {
    shards.iter().for_each(|shard| shard.file.release());
    ModelFile::open(shards)
}

fn model(file: &ModelFile, spec: Spec, compute: &Arc<Compute>) -> Result<Model, WeightsError> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::clone(compute)));
    Model::load(spec, Weights::new(file, backend))
}

fn fitting_tokenizer(file: &ModelFile, spec: &Spec) -> Result<Tokenizer, Problem> {
    let tokenizer = Tokenizer::new(file)?;
    if tokenizer.len() > spec.n_vocab {
        return Err(Problem::Vocabulary { tokens: tokenizer.len(), rows: spec.n_vocab });
    }
    Ok(tokenizer)
}
