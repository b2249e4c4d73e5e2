//! All settings, resolved.

use crate::chat::{Conversation, ReasoningFormat};
use crate::constraint::Constraint;
use crate::engine::{LoadOptions, Room};
use crate::kernels::{CacheType, Compute, Isa, default_threads};
use crate::model::Pooling;
use crate::sampler::Sampling;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

/// All settings.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Config {
    /// File with the weights, if named.
    pub model: Option<PathBuf>,
    /// Size of the context; 0: the model's.
    pub context: usize,
    /// Whether the user set it, rather than a bundle.
    pub context_named: bool,
    /// Tokens to generate at most.
    pub predict: Option<usize>,
    /// Compute threads.
    pub threads: usize,
    /// Prompt tokens computed at a time.
    pub batch: usize,
    /// Requests computed at a time, if set.
    pub parallel: Option<usize>,
    /// Requests that wait besides.
    pub queue: usize,
    /// Memory for all requests, in bytes.
    pub request_memory: usize,
    /// MiB of conversations kept for their next turn, if set.
    pub cache_ram: Option<u64>,
    /// Places to go back to that are kept, for models with states of fixed size or sliding windows.
    pub checkpoints: usize,
    /// Whether layers with sliding windows keep all positions.
    pub swa_full: bool,
    /// Folder for what slots have read, if they may be saved.
    pub slot_save_path: Option<PathBuf>,
    /// File that keeps what the prompt of a completion was read as.
    pub prompt_cache: Option<PathBuf>,
    /// Element type of the cached keys.
    pub key_type: CacheType,
    /// Element type of the cached values.
    pub value_type: CacheType,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Address to listen on.
    pub host: String,
    /// Names of this server beside its address.
    pub allowed_hosts: Vec<String>,
    /// Port to listen on.
    pub port: u16,
    /// Whether the port was set explicitly.
    pub port_named: bool,
    /// API keys, one of which a request must send; empty: no key is required.
    pub api_keys: Vec<String>,
    /// Name of the model in the API.
    pub alias: Option<String>,
    /// Folder with the page.
    pub page: Option<PathBuf>,
    /// Path below which everything is served, without a trailing slash.
    pub prefix: String,
    /// How embeddings are pooled, if it overrides the model.
    pub pooling: Option<Pooling>,
    /// How embeddings are scaled.
    pub embd_normalize: i32,
    /// Whether requests with unknown fields are refused.
    pub strict: bool,
    /// Whether to open the browser.
    pub browser: bool,
    /// Whether conversations are kept beside the program.
    pub portable: bool,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Whether to continue past the model's end token.
    pub ignore_end: bool,
    /// Constraint on answers.
    pub constraint: Option<Constraint>,
    /// Text to complete.
    pub prompt: Option<String>,
    /// File with text to complete.
    pub prompt_file: Option<PathBuf>,
    /// Whether backslash escapes in prompts are read.
    pub escape: bool,
    /// File that keeps what was typed in terminal chats.
    pub history: Option<PathBuf>,
    /// System prompt of chats.
    pub system_prompt: Option<String>,
    /// Stop sequences.
    pub stops: Vec<String>,
    /// Source of the chat template, if not the model's own.
    pub template: Option<String>,
    /// Variables of the chat template.
    pub template_variables: Map<String, Value>,
    /// How reasoning is returned.
    pub reasoning_format: ReasoningFormat,
    /// Reasoning tokens allowed: `Some(0)` for none, `None` for no limit.
    pub reasoning_budget: Option<usize>,
    /// What a thought ends with that reached it.
    pub reasoning_budget_message: String,
    /// More output on stderr.
    pub verbose: bool,
    /// Only errors on stderr.
    pub quiet: bool,
    /// What `--print-config` prints.
    pub listing: String,
    /// Warnings to show the user once.
    pub warnings: Vec<String>,
}

impl Config {
    /// Nothing set, not even the defaults: [`Config::resolve`] applies those.
    pub(super) fn blank() -> Self {
        Self {
            model: None,
            context: 0,
            context_named: false,
            predict: None,
            threads: default_threads(),
            batch: 1,
            parallel: None,
            queue: 1,
            request_memory: 16 << 20,
            cache_ram: None,
            checkpoints: 0,
            swa_full: false,
            slot_save_path: None,
            prompt_cache: None,
            key_type: CacheType::F16,
            value_type: CacheType::F16,
            isa: Isa::detect(),
            host: String::new(),
            allowed_hosts: Vec::new(),
            port: 0,
            port_named: false,
            api_keys: Vec::new(),
            alias: None,
            page: None,
            prefix: String::new(),
            pooling: None,
            embd_normalize: 0,
            strict: false,
            browser: true,
            portable: false,
            sampling: Sampling::default(),
            ignore_end: false,
            constraint: None,
            prompt: None,
            prompt_file: None,
            escape: true,
            history: None,
            system_prompt: None,
            stops: Vec::new(),
            template: None,
            template_variables: Map::new(),
            reasoning_format: ReasoningFormat::default(),
            reasoning_budget: None,
            reasoning_budget_message: String::new(),
            verbose: false,
            quiet: false,
            listing: String::new(),
            warnings: Vec::new(),
        }
    }

    /// The threads and the instruction set that all models of this process compute with.
    #[must_use]
    pub fn compute(&self) -> Arc<Compute> {
        Arc::new(Compute::new(self.isa, self.threads))
    }

    /// A conversation without messages, as the settings have it.
    #[must_use]
    pub fn conversation(&self) -> Conversation {
        Conversation {
            variables: self.template_variables.clone(),
            reasoning: self.reasoning_format,
            no_thoughts: self.reasoning_budget == Some(0),
            ..Conversation::default()
        }
    }

    /// Options for loading the model into the memory that is free now.
    #[must_use]
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            context: self.context,
            room: Room::now(self.context_named),
            batch: self.batch,
            parallel: self.parallel,
            queue: self.queue,
            cache_bytes: self.cache_ram.map(|mib| mib.saturating_mul(1 << 20)),
            checkpoints: self.checkpoints,
            swa_full: self.swa_full,
            key_type: self.key_type,
            value_type: self.value_type,
            template: self.template.clone(),
        }
    }

    /// The defaults, resolved once. They are valid (tested); should one not be, settings are blank.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Config> =
            LazyLock::new(|| Config::resolve(&[]).unwrap_or_else(|_| Config::blank()));
        &BUILT_IN
    }
}
