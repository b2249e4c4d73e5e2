//! What was meant: every setting resolved once, from the built-in value, the bundle, the environment
//! and the flags, each above the one before.

mod constraint;
mod sampling;

use crate::chat::{ReasoningFormat, builtin};
use crate::cli::Flags;
use crate::constraint::Constraint;
use crate::engine::{LoadOptions, Room};
use crate::kernels::{CacheType, Isa, default_threads};
use crate::model::Pooling;
use crate::sampler::Sampling;
use serde_json::{Map, Value};
use std::fmt::{Display, Write as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The port when nobody names one.
pub const PORT_DEFAULT: u16 = 8080;
/// Prompt tokens computed at a time: large enough to use each weight many times while it is in cache.
const BATCH_DEFAULT: usize = 128;
/// Largest file that a flag may name for a text.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program itself.
    BuiltIn,
    /// The bundle.
    Bundle,
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag,
}

impl Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Bundle => f.write_str("bundle"),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One source of settings.
pub struct Layer {
    /// Where they come from.
    pub origin: Origin,
    /// What it sets.
    pub flags: Flags,
    /// What is odd about it.
    pub warning: Option<String>,
}

/// All settings.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Config {
    /// Weights that were named, and by whom.
    pub model: Option<PathBuf>,
    /// Size of the context; 0: the model's.
    pub context: usize,
    /// Whether a user named it, not a bundle.
    pub context_named: bool,
    /// Tokens to generate at most.
    pub predict: Option<usize>,
    /// Threads that compute.
    pub threads: usize,
    /// Prompt tokens computed at a time.
    pub batch: usize,
    /// Element type of the cached keys.
    pub key_type: CacheType,
    /// Element type of the cached values.
    pub value_type: CacheType,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Whether somebody asked for that very port.
    pub port_named: bool,
    /// Keys, one of which an API request must bring; none: no key is asked for.
    pub api_keys: Vec<String>,
    /// Name of the model in the API.
    pub alias: Option<String>,
    /// Folder with the page.
    pub page: Option<PathBuf>,
    /// Path below which everything is served, without a slash at the end.
    pub prefix: String,
    /// How embeddings are pooled, if not as the model says.
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
    /// Whether to go on where the model would end.
    pub ignore_end: bool,
    /// What answers must look like.
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
    /// Texts that end an answer.
    pub stops: Vec<String>,
    /// Source of the chat template, if not the model's own.
    pub template: Option<String>,
    /// Variables of the chat template.
    pub template_variables: Map<String, Value>,
    /// What becomes of a model's thoughts.
    pub reasoning_format: ReasoningFormat,
    /// How many tokens a model may think: 0, or as many as it wants.
    pub reasoning_budget: Option<usize>,
    /// Say more.
    pub verbose: bool,
    /// Say only errors.
    pub quiet: bool,
    /// What `--print-config` prints.
    pub listing: String,
    /// What to tell the user once.
    pub warnings: Vec<String>,
}

/// A value that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is outside what is possible.
    #[error("--{name} ({origin}): found `{found}`, expected {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Who set it.
        origin: Origin,
        /// The value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A file that a flag names cannot be read.
    #[error("--{name} {path}: {error}")]
    File {
        /// The setting.
        name: &'static str,
        /// The file.
        path: String,
        /// Why.
        error: String,
    },
}

impl Config {
    /// Resolves the layers, the strongest last.
    ///
    /// # Errors
    /// When a value is impossible or a file it names cannot be read.
    pub fn resolve(layers: &[Layer]) -> Result<Self, ConfigError> {
        let mut r = Resolver { layers, listing: String::new() };
        let model = r.optional("model", |f| f.model.clone(), |p| p.display().to_string());
        let context = r.value("ctx-size", |f| f.ctx_size, 0)?;
        let context_named =
            r.find(|f| f.ctx_size).is_some_and(|(_, origin)| origin != Origin::Bundle);
        let predict = r.value("predict", |f| f.predict, -1)?;
        let threads = r.value("threads", |f| f.threads, default_threads())?;
        let batch = r.value("batch-size", |f| f.batch_size, BATCH_DEFAULT)?;
        let key_type = r.cache_type("cache-type-k", |f| f.cache_type_k.clone())?;
        let value_type = r.cache_type("cache-type-v", |f| f.cache_type_v.clone())?;
        let (isa, origin) =
            r.find(|f| f.isa.clone()).unwrap_or((Isa::detect().name().to_owned(), Origin::BuiltIn));
        r.row("isa", &isa, &origin);
        let isa: Isa = isa.parse().map_err(|expected| ConfigError::Value {
            name: "isa",
            origin,
            found: isa.clone(),
            expected,
        })?;
        let host = r.value("host", |f| f.server.host.clone(), "127.0.0.1".to_owned())?;
        let port_named = r.find(|f| f.server.port).is_some();
        let port = r.value("port", |f| f.server.port, PORT_DEFAULT)?;
        let api_keys = r.api_keys()?;
        let alias = r.optional("alias", |f| f.server.alias.clone(), Clone::clone);
        let page = r.optional("path", |f| f.server.path.clone(), |p| p.display().to_string());
        let prefix = r.value("api-prefix", |f| f.server.api_prefix.clone(), String::new())?;
        let pooling = r.pooling()?;
        let embd_normalize = r.embd_normalize()?;
        let strict = r.value("strict", |f| f.server.strict.then_some(true), false)?;
        let nobrowser = r.value("nobrowser", |f| f.server.nobrowser.then_some(true), false)?;
        let portable = r.value("portable", |f| f.server.portable.then_some(true), false)?;
        let sampling = r.sampling()?;
        let ignore_end = r.value("ignore-eos", |f| f.sampling.ignore_eos.then_some(true), false)?;
        let constraint = r.constraint()?;
        let prompt = r.optional("prompt", |f| f.text.prompt.clone(), |p| format!("{p:?}"));
        let prompt_file = r.optional("file", |f| f.text.file.clone(), |p| p.display().to_string());
        let escape = r.value("escape", |f| f.text.escapes(), true)?;
        let history = r.history()?;
        let system_prompt = r.system_prompt()?;
        let stops = r.value_of(
            "reverse-prompt",
            |f| Some(f.text.reverse_prompt.clone()).filter(|s| !s.is_empty()),
            Vec::new(),
            |s| format!("{s:?}"),
        );
        let template = r.template()?;
        let template_variables = r.template_variables()?;
        let reasoning_format = r.reasoning_format()?;
        let reasoning_budget = r.reasoning_budget()?;
        let verbose = r.value("verbose", |f| f.verbose.then_some(true), false)?;
        let quiet = r.value("log-disable", |f| f.quiet.then_some(true), false)?;
        r.in_range("threads", threads, 1..=1024, |f| f.threads.map(|t| t.to_string()))?;
        r.in_range("batch-size", batch, 1..=1 << 16, |f| f.batch_size.map(|b| b.to_string()))?;
        r.in_range("ctx-size", context, 0..=1 << 30, |f| f.ctx_size.map(|c| c.to_string()))?;
        let unescape = |text: String| if escape { unescape(&text) } else { text };
        Ok(Self {
            model,
            context,
            context_named,
            predict: usize::try_from(predict).ok(),
            threads,
            batch,
            key_type,
            value_type,
            isa,
            host,
            port,
            port_named,
            api_keys,
            alias,
            page,
            prefix: normal_prefix(&prefix).ok_or_else(|| ConfigError::Value {
                name: "api-prefix",
                origin: r.find(|f| f.server.api_prefix.clone()).map_or(Origin::BuiltIn, |(_, o)| o),
                found: prefix.clone(),
                expected: "a path of letters, digits and ._~-".to_owned(),
            })?,
            pooling,
            embd_normalize,
            strict,
            browser: !nobrowser,
            portable,
            sampling,
            ignore_end,
            constraint,
            prompt: prompt.map(unescape),
            prompt_file,
            escape,
            history,
            system_prompt,
            stops: stops.into_iter().map(unescape).collect(),
            template,
            template_variables,
            reasoning_format,
            reasoning_budget,
            verbose,
            quiet,
            warnings: warnings(layers),
            listing: r.listing,
        })
    }
}

impl Config {
    /// How the model is loaded: into the memory there is now.
    #[must_use]
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            context: self.context,
            room: Room::now(self.context_named),
            threads: self.threads,
            batch: self.batch,
            isa: self.isa,
            key_type: self.key_type,
            value_type: self.value_type,
            template: self.template.clone(),
        }
    }
}

/// Looks through the layers and keeps the listing.
struct Resolver<'l> {
    layers: &'l [Layer],
    listing: String,
}

impl Resolver<'_> {
    /// The strongest layer that sets something.
    fn find<T>(&self, get: impl Fn(&Flags) -> Option<T>) -> Option<(T, Origin)> {
        self.layers.iter().rev().find_map(|l| get(&l.flags).map(|v| (v, l.origin.clone())))
    }

    fn row(&mut self, name: &str, value: &str, origin: &Origin) {
        let _ = writeln!(self.listing, "{name:<18} = {value:<24} ({origin})");
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike with the getters that check something")]
    fn value<T: Display>(
        &mut self,
        name: &str,
        get: impl Fn(&Flags) -> Option<T>,
        default: T,
    ) -> Result<T, ConfigError> {
        Ok(self.value_of(name, get, default, ToString::to_string))
    }

    fn value_of<T>(
        &mut self,
        name: &str,
        get: impl Fn(&Flags) -> Option<T>,
        default: T,
        show: impl Fn(&T) -> String,
    ) -> T {
        let (value, origin) = self.find(get).unwrap_or((default, Origin::BuiltIn));
        self.row(name, &show(&value), &origin);
        value
    }

    fn optional<T>(
        &mut self,
        name: &str,
        get: impl Fn(&Flags) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let found = self.find(get);
        match &found {
            Some((value, origin)) => self.row(name, &show(value), origin),
            None => self.row(name, "(none)", &Origin::BuiltIn),
        }
        found.map(|(value, _)| value)
    }

    fn cache_type(
        &mut self,
        name: &'static str,
        get: impl Fn(&Flags) -> Option<String>,
    ) -> Result<CacheType, ConfigError> {
        let (found, origin) = self.find(get).unwrap_or(("f16".to_owned(), Origin::BuiltIn));
        self.row(name, &found, &origin);
        match found.parse() {
            Ok(cache_type) => Ok(cache_type),
            Err(expected) => {
                let expected = expected.to_owned();
                Err(ConfigError::Value { name, origin, found, expected })
            }
        }
    }

    fn pooling(&mut self) -> Result<Option<Pooling>, ConfigError> {
        let Some((found, origin)) = self.find(|f| f.server.pooling.clone()) else {
            self.row("pooling", "(the model's)", &Origin::BuiltIn);
            return Ok(None);
        };
        self.row("pooling", &found, &origin);
        match found.as_str() {
            "none" => Ok(Some(Pooling::None)),
            "mean" => Ok(Some(Pooling::Mean)),
            "cls" => Ok(Some(Pooling::Cls)),
            "last" => Ok(Some(Pooling::Last)),
            _ => Err(ConfigError::Value {
                name: "pooling",
                origin,
                found,
                expected: "none, mean, cls or last".to_owned(),
            }),
        }
    }

    fn embd_normalize(&mut self) -> Result<i32, ConfigError> {
        let name = "embd-normalize";
        let found = self.find(|f| f.server.embd_normalize);
        let (norm, origin) = found.unwrap_or((2, Origin::BuiltIn));
        self.row(name, &norm.to_string(), &origin);
        if !(-1..=1024).contains(&norm) {
            let (found, expected) = (norm.to_string(), "-1 to 1024".to_owned());
            return Err(ConfigError::Value { name, origin, found, expected });
        }
        Ok(norm)
    }

    fn in_range(
        &self,
        name: &'static str,
        value: usize,
        range: std::ops::RangeInclusive<usize>,
        set: impl Fn(&Flags) -> Option<String>,
    ) -> Result<(), ConfigError> {
        if range.contains(&value) {
            return Ok(());
        }
        let origin = self.find(set).map_or(Origin::BuiltIn, |(_, origin)| origin);
        let expected = format!("{} to {}", range.start(), range.end());
        Err(ConfigError::Value { name, origin, found: value.to_string(), expected })
    }

    fn api_keys(&mut self) -> Result<Vec<String>, ConfigError> {
        let mut keys = Vec::new();
        if let Some((list, origin)) = self.find(|f| f.server.api_key.clone()) {
            keys.extend(list.split(',').map(|k| k.trim().to_owned()));
            self.row("api-key", "(hidden)", &origin);
        } else {
            self.row("api-key", "(none)", &Origin::BuiltIn);
        }
        let file = self.optional(
            "api-key-file",
            |f| f.server.api_key_file.clone(),
            |p| p.display().to_string(),
        );
        if let Some(path) = file {
            let text = read_text("api-key-file", &path)?;
            let before = keys.len();
            keys.extend(
                text.lines()
                    .map(|l| l.trim().to_owned())
                    .filter(|l| !l.starts_with('#') && !l.is_empty()),
            );
            if keys.len() == before {
                let error = "no key in it".to_owned();
                return Err(ConfigError::File {
                    name: "api-key-file",
                    path: path.display().to_string(),
                    error,
                });
            }
        }
        keys.retain(|k| !k.is_empty());
        // `--api-key "$UNSET"` must not open the server to everyone.
        if keys.is_empty()
            && let Some((_, origin)) = self.find(|f| f.server.api_key.clone())
        {
            let expected = "a key".to_owned();
            return Err(ConfigError::Value {
                name: "api-key",
                origin,
                found: String::new(),
                expected,
            });
        }
        Ok(keys)
    }

    /// The system prompt. `@FILE` is read for whoever types it; in a bundle it is text like any other,
    /// or a bundle could put a file of its user's into the prompt.
    fn system_prompt(&mut self) -> Result<Option<String>, ConfigError> {
        let Some((text, origin)) = self.find(|f| f.text.system_prompt.clone()) else {
            self.row("system-prompt", "(none)", &Origin::BuiltIn);
            return Ok(None);
        };
        self.row("system-prompt", &format!("{text:?}"), &origin);
        match text.strip_prefix('@') {
            Some(path) if origin != Origin::Bundle => {
                let text = read_text("system-prompt", Path::new(path))?;
                Ok(Some(without_last_break(&text).to_owned()))
            }
            _ => Ok(Some(text)),
        }
    }

    /// The file of what was typed. It is written to, so that a bundle must not name one of its user's.
    fn history(&mut self) -> Result<Option<PathBuf>, ConfigError> {
        let name = "history";
        let show = |p: &PathBuf| p.display().to_string();
        let found = self.optional(name, |f| f.text.history.clone(), show);
        match self.find(|f| f.text.history.clone()) {
            Some((path, origin @ Origin::Bundle)) => {
                let expected = "no file: only who types may name one that is written".to_owned();
                Err(ConfigError::Value { name, origin, found: show(&path), expected })
            }
            _ => Ok(found),
        }
    }

    /// The source of the chat template: named, in a file, or given. A bundle can't name a file, as with the
    /// system prompt.
    fn template(&mut self) -> Result<Option<String>, ConfigError> {
        let file = |f: &Flags| f.text.chat_template_file.clone();
        // Of the two flags that of the stronger layer counts.
        let found = self.find(|f| {
            let named = file(f).map(|path| ("chat-template-file", path.display().to_string()));
            named.or_else(|| Some(("chat-template", f.text.chat_template.clone()?)))
        });
        let Some(((flag, text), origin)) = found else {
            self.row("chat-template", "(the model's)", &Origin::BuiltIn);
            return Ok(None);
        };
        let jinja = flag == "chat-template" && text.contains('{');
        let shown = if jinja { format!("({} bytes)", text.len()) } else { text.clone() };
        self.row(flag, &shown, &origin);
        if jinja {
            return Ok(Some(text));
        }
        let known = builtin::source(&text).filter(|_| flag == "chat-template");
        if let Some(source) = known {
            return Ok(Some(source.to_owned()));
        }
        let path = text.strip_prefix('@').unwrap_or(&text);
        let named = flag == "chat-template-file" || path.len() < text.len();
        if origin != Origin::Bundle && (named || Path::new(path).is_file()) {
            return read_text(flag, Path::new(path)).map(Some);
        }
        let expected = if flag == "chat-template-file" {
            "no file: a bundle brings its template itself (tealight-bundle --chat-template)"
                .to_owned()
        } else {
            format!("a file with a Jinja template, or one of: {}", builtin::names().join(", "))
        };
        Err(ConfigError::Value { name: flag, origin, found: text, expected })
    }

    fn template_variables(&mut self) -> Result<Map<String, Value>, ConfigError> {
        let name = "chat-template-kwargs";
        let Some((found, origin)) = self.find(|f| f.text.chat_template_kwargs.clone()) else {
            self.row(name, "{}", &Origin::BuiltIn);
            return Ok(Map::new());
        };
        self.row(name, &found, &origin);
        serde_json::from_str(&found).map_err(|_| {
            let expected = "a JSON object".to_owned();
            ConfigError::Value { name, origin, found, expected }
        })
    }

    fn reasoning_format(&mut self) -> Result<ReasoningFormat, ConfigError> {
        let name = "reasoning-format";
        let found = self.find(|f| f.text.reasoning_format.clone());
        let (found, origin) = found.unwrap_or(("auto".to_owned(), Origin::BuiltIn));
        self.row(name, &found, &origin);
        let expected = ReasoningFormat::NAMES.to_owned();
        ReasoningFormat::from_name(&found).ok_or(ConfigError::Value {
            name,
            origin,
            found,
            expected,
        })
    }

    fn reasoning_budget(&mut self) -> Result<Option<usize>, ConfigError> {
        let name = "reasoning-budget";
        let found = self.find(|f| f.text.reasoning_budget);
        let (budget, origin) = found.unwrap_or((-1, Origin::BuiltIn));
        self.row(name, &budget.to_string(), &origin);
        if !(-1..=0).contains(&budget) {
            let expected = "0 (no thoughts) or -1 (no limit)".to_owned();
            return Err(ConfigError::Value { name, origin, found: budget.to_string(), expected });
        }
        Ok(usize::try_from(budget).ok())
    }
}

fn warnings(layers: &[Layer]) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |set: bool, text: &str| {
        if set {
            out.push(text.to_owned());
        }
    };
    for Layer { flags, warning, .. } in layers {
        say(warning.is_some(), warning.as_deref().unwrap_or_default());
        let a = &flags.accepted;
        say(
            flags.n_gpu_layers.as_deref().is_some_and(|n| n != "0") || a.gpu.is_some(),
            "--n-gpu-layers: this build computes on the CPU; the setting has no effect",
        );
        say(a.no_mmap, "--no-mmap has no effect: weights are always mapped, never copied");
        say(a.mlock, "--mlock has no effect here");
        say(
            a.parallel.is_some_and(|n| n > 1),
            "--parallel has no effect: requests are answered one after the other",
        );
        say(
            a.no_webui || a.v2 || a.nologo || a.ascii || a.unsecure,
            "--no-webui, --v2, --nologo, --ascii and --unsecure have no effect here",
        );
        say(
            a.threads_batch.is_some(),
            "--threads-batch has no effect: --threads counts for prompts too",
        );
    }
    out
}

/// `@FILE` is the text of that file.
///
/// # Errors
/// As [`read_text`].
pub fn at_file(name: &'static str, text: String) -> Result<String, ConfigError> {
    match text.strip_prefix('@') {
        Some(path) => read_text(name, Path::new(path)),
        None => Ok(text),
    }
}

/// Reads a text file of bounded size.
///
/// # Errors
/// When it cannot be read, is too large, or is no UTF-8.
pub fn read_text(name: &'static str, path: &Path) -> Result<String, ConfigError> {
    let fail = |error: String| ConfigError::File { name, path: path.display().to_string(), error };
    let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut text = String::new();
    // Bounded by what is read, not by what the file system says: a device has no size.
    let read = file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|e| fail(e.to_string()))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(fail(format!("found more than {TEXT_BYTES_MAX} bytes, expected at most that")));
    }
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), ToOwned::to_owned))
}

/// `/a/b` without a slash at its end, of letters that no browser rewrites; `None` for others.
fn normal_prefix(prefix: &str) -> Option<String> {
    let inner = prefix.trim_matches('/');
    if inner.is_empty() {
        return Some(String::new());
    }
    let plain = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
        part.bytes().all(known) && part.bytes().any(|b| b != b'.')
    };
    inner.split('/').all(plain).then(|| format!("/{inner}"))
}

/// A text from a file without its last line break, which editors and `echo` put there.
#[must_use]
pub fn without_last_break(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// Backslash escapes of a prompt, as llama.cpp reads them: `\n`, `\r`, `\t`, the two quotes, the backslash, and `\xHH`
/// for a byte. Others stay as they are. Bytes that are no UTF-8 then become U+FFFD each, as its tokenizer has it.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [quoted @ (b'\\' | b'"' | b'\''), after @ ..]) => (*quoted, after),
            (b'\\', [b'x', high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (byte, &rest[1..]),
            },
            _ => (byte, after),
        };
        out.push(byte);
        rest = after;
    }
    let mut text = String::with_capacity(out.len());
    for chunk in out.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn layer(origin: Origin, arguments: &[&str]) -> Layer {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Layer { origin, flags: crate::cli::parse(&arguments).unwrap(), warning: None }
    }

    #[test]
    fn the_strongest_layer_wins_and_the_listing_says_which() {
        let layers = [
            layer(Origin::Bundle, &["--temp", "0.1", "--top-k", "7", "-c", "100"]),
            layer(Origin::Environment("LLAMA_ARG_CTX_SIZE".into()), &["-c", "200"]),
            layer(Origin::Flag, &["--temp", "0.3"]),
        ];
        let config = Config::resolve(&layers).unwrap();
        assert!((config.sampling.temperature - 0.3).abs() < 1e-6);
        assert_eq!((config.sampling.top_k, config.context, config.batch), (7, 200, BATCH_DEFAULT));
        let line = |name: &str| {
            config.listing.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned()
        };
        assert!(line("temp ").ends_with("(flag)"));
        assert!(line("top-k ").ends_with("(bundle)"));
        assert!(line("ctx-size ").ends_with("(environment, LLAMA_ARG_CTX_SIZE)"));
        assert!(line("min-p ").ends_with("(built-in)"));
    }

    #[test]
    fn impossible_values_are_named() {
        for (arguments, name) in [
            (["--threads", "0"], "--threads"),
            (["--top-p", "1.5"], "--top-p"),
            (["--temp", "NaN"], "--temp"),
            (["--cache-type-k", "q9"], "--cache-type-k"),
            (["--isa", "z80"], "--isa"),
            (["--chat-template-file", "/does/not/exist"], "--chat-template-file"),
            (["--chat-template-kwargs", "[1]"], "--chat-template-kwargs"),
            (["--reasoning-format", "loud"], "--reasoning-format"),
            (["--reasoning-budget", "7"], "--reasoning-budget"),
        ] {
            let error =
                Config::resolve(&[layer(Origin::Flag, &arguments)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_bundle_cannot_read_a_file_into_its_system_prompt() {
        let arguments = ["--system-prompt", "@/etc/hostname"];
        let config = Config::resolve(&[layer(Origin::Bundle, &arguments)]).unwrap();
        assert_eq!(config.system_prompt.as_deref(), Some("@/etc/hostname"));
        let missing = ["--system-prompt", "@/does/not/exist"];
        assert!(Config::resolve(&[layer(Origin::Flag, &missing)]).is_err());
    }

    #[test]
    fn a_chat_template_is_a_name_a_file_or_jinja() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.jinja");
        std::fs::write(&path, "{{ 'mine' }}").unwrap();
        let path = path.to_str().unwrap();
        let with = |origin: Origin, flag: &str, value: &str| {
            Config::resolve(&[layer(origin, &[flag, value])]).map(|c| c.template.unwrap())
        };
        let given = "--chat-template";
        assert_eq!(with(Origin::Bundle, given, "{{ 1 }}").unwrap(), "{{ 1 }}");
        assert_eq!(
            with(Origin::Bundle, given, "llama3").unwrap(),
            builtin::source("llama3").unwrap()
        );
        assert_eq!(with(Origin::Flag, given, path).unwrap(), "{{ 'mine' }}");
        assert_eq!(with(Origin::Flag, given, &format!("@{path}")).unwrap(), "{{ 'mine' }}");
        assert_eq!(with(Origin::Flag, "--chat-template-file", path).unwrap(), "{{ 'mine' }}");
        let unknown = with(Origin::Flag, given, "lama3").unwrap_err().to_string();
        assert!(unknown.contains("`lama3`") && unknown.contains("llama3, llama4"), "{unknown}");
        for flag in [given, "--chat-template-file"] {
            assert!(
                with(Origin::Bundle, flag, path).is_err(),
                "a bundle reads no file of its user"
            );
        }
        let layers = [
            layer(Origin::Environment("X".into()), &["--chat-template-file", path]),
            layer(Origin::Flag, &[given, "gemma"]),
        ];
        assert_eq!(Config::resolve(&layers).unwrap().template.as_deref(), builtin::source("gemma"));
    }

    #[test]
    fn escapes_are_read_unless_that_is_forbidden() {
        let with = |extra: &[&str]| {
            let mut arguments =
                vec!["-p", r"a\nb\\\q", "-r", r"\n\n", "--dry-sequence-breaker", r"\t"];
            arguments.extend(extra);
            let config = Config::resolve(&[layer(Origin::Flag, &arguments)]).unwrap();
            let breakers = config.sampling.dry_sequence_breakers;
            (config.prompt.unwrap(), config.stops.concat(), breakers.concat())
        };
        let read = ("a\nb\\\\q".to_owned(), "\n\n".to_owned(), "\t".to_owned());
        assert_eq!(with(&[]), read);
        assert_eq!(with(&["-e"]), read);
        assert_eq!(with(&["--no-escape", "-e"]), read);
        let typed = (r"a\nb\\\q".to_owned(), r"\n\n".to_owned(), r"\t".to_owned());
        assert_eq!(with(&["--no-escape"]), typed);
        assert_eq!(with(&["-e", "--no-escape"]), typed);
        let layers =
            [layer(Origin::Bundle, &["--no-escape"]), layer(Origin::Flag, &["-p", r"\n", "-e"])];
        assert_eq!(Config::resolve(&layers).unwrap().prompt.as_deref(), Some("\n"));
    }

    /// The right values are those of llama.cpp's `string_process_escapes`.
    #[test]
    fn an_escape_means_what_it_means_in_llama_cpp() {
        for (typed, meant) in [
            (r#"\n\r\t\'\"\\"#, "\n\r\t'\"\\"),
            (r"\x41\x0a\xe2\x82\xac", "A\n€"),
            (r"\x4\x4G\x", r"\x4\x4G\x"),
            (r"\q\u0041\", r"\q\u0041\"),
            (r"\\n", r"\n"),
            (r"\x5cn", r"\n"),
            (r"a\xffb\xe2\x82", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("é\\né", "é\né"),
            ("", ""),
        ] {
            assert_eq!(unescape(typed), meant, "{typed}");
        }
    }

    #[test]
    fn a_file_loses_its_last_line_break_and_no_other() {
        for (text, wanted) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", ""), ("a", "a")]
        {
            assert_eq!(without_last_break(text), wanted);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("system.txt");
        std::fs::write(&path, "Be brief.\r\n").unwrap();
        let value = format!("@{}", path.display());
        let config = Config::resolve(&[layer(Origin::Flag, &["-sys", &value])]).unwrap();
        assert_eq!(config.system_prompt.as_deref(), Some("Be brief."));
    }

    #[test]
    fn a_bundle_names_no_file_that_is_written() {
        let flags = ["--history", "typed"];
        assert!(Config::resolve(&[layer(Origin::Bundle, &flags)]).is_err());
        let config = Config::resolve(&[layer(Origin::Flag, &flags)]).unwrap();
        assert_eq!(config.history.as_deref(), Some(Path::new("typed")));
    }
}
