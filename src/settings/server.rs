//! Settings of the server: where it listens and who may use it.

use super::files::read_text;
use super::setting::{Group, Origin, Setting, Value, Wrong};
use super::text::may_be_written;
use crate::model::Pooling;

/// The default port.
pub const PORT_DEFAULT: u16 = 8080;

const fn server(
    flag: &'static str,
    value: Value,
    placeholder: &'static str,
    help: &'static str,
) -> Setting {
    Setting::new(flag, value, placeholder, help).within(Group::Server)
}

/// The rows.
pub static ROWS: &[Setting] = &[
    server(
        "host",
        Value::Text(|c, given| {
            given.text.clone_into(&mut c.host);
            Ok(())
        }),
        "ADDRESS",
        "Address to listen on",
    )
    .default("127.0.0.1"),
    server(
        "port",
        Value::Whole {
            min: 0,
            max: u16::MAX as i64,
            set: |c, n, given| {
                c.port = u16::try_from(n).unwrap_or(PORT_DEFAULT);
                c.port_named = *given.origin != Origin::BuiltIn;
            },
        },
        "PORT",
        "Port to listen on (default: 8080, or the next free one)",
    )
    .default("8080"),
    server(
        "allowed-host",
        Value::Text(|c, given| {
            let names = given.text.split(',').map(str::trim).filter(|name| !name.is_empty());
            c.allowed_hosts.extend(names.map(str::to_owned));
            Ok(())
        }),
        "NAME",
        "Also accept requests for this name, as behind a proxy or on a local network (several: separated by commas)",
    ),
    server(
        "api-key",
        Value::Text(|c, given| {
            let keys = given.text.split(',').map(str::trim).filter(|key| !key.is_empty());
            let before = c.api_keys.len();
            c.api_keys.extend(keys.map(str::to_owned));
            // `--api-key "$UNSET"` must not open the server to everyone.
            let any = c.api_keys.len() > before;
            any.then_some(()).ok_or_else(|| Wrong::Expected("a key".to_owned()))
        }),
        "KEY",
        "Require this key in API requests (several: separated by commas)",
    )
    .variables(&["LLAMA_API_KEY"])
    .secret(),
    server(
        "api-key-file",
        Value::Path(|c, path, _| {
            let text = read_text(&path)?;
            let keys = text.lines().map(str::trim).filter(|l| !l.starts_with('#') && !l.is_empty());
            let before = c.api_keys.len();
            c.api_keys.extend(keys.map(str::to_owned));
            let (path, error) = (path.display().to_string(), "no API key in the file".to_owned());
            let any = c.api_keys.len() > before;
            any.then_some(()).ok_or(Wrong::File { path, error })
        }),
        "FILE",
        "Read API keys from a file, one per line",
    ),
    server(
        "alias",
        Value::Text(|c, given| {
            c.alias = Some(given.text.to_owned());
            Ok(())
        }),
        "NAME",
        "Name of the model in the API",
    )
    .short('a'),
    server(
        "path",
        Value::Path(|c, path, _| {
            c.page = Some(path);
            Ok(())
        }),
        "FOLDER",
        "Serve the page from this folder",
    )
    .variables(&["LLAMA_ARG_STATIC_PATH"]),
    server(
        "api-prefix",
        Value::Text(|c, given| {
            let expected = || Wrong::Expected("a path of letters, digits and ._~-".to_owned());
            c.prefix = normal_prefix(given.text).ok_or_else(expected)?;
            Ok(())
        }),
        "PATH",
        "Serve everything under this path",
    )
    .shown(|c| c.prefix.clone()),
    server(
        "pooling",
        Value::Text(|c, given| {
            c.pooling = Some(match given.text {
                "none" => Pooling::None,
                "mean" => Pooling::Mean,
                "cls" => Pooling::Cls,
                "last" => Pooling::Last,
                "rank" => Pooling::Rank,
                _ => return Err(Wrong::Expected("none, mean, cls, last or rank".to_owned())),
            });
            Ok(())
        }),
        "HOW",
        "Pooling of embeddings: none, mean, cls, last or rank (scores of a classification head; default: the model's own, else mean)",
    )
    .none("(the model's)"),
    server(
        "embd-normalize",
        Value::Whole {
            min: -1,
            max: 1024,
            set: |c, n, _| c.embd_normalize = i32::try_from(n).unwrap_or_default(),
        },
        "N",
        "Normalization of embeddings: -1 none, 0 to 16-bit integers, 1 taxicab, 2 Euclidean, N the p-norm",
    )
    .default("2"),
    server(
        "parallel",
        Value::Whole {
            min: -1,
            max: 1024,
            set: |c, n, _| c.parallel = usize::try_from(n).ok().filter(|n| *n > 0),
        },
        "N",
        "Requests computed at a time; the others wait (default: 4 to 16, by the memory that is free)",
    )
    .dashed(&["-np"])
    .variables(&["LLAMA_ARG_N_PARALLEL"])
    .none("(by the memory)"),
    server(
        "queue",
        Value::Whole {
            min: 1,
            max: 1 << 20,
            set: |c, n, _| c.queue = usize::try_from(n).unwrap_or(1),
        },
        "N",
        "Requests that may wait; more get status 503",
    )
    .default("512"),
    server(
        "request-memory",
        Value::Whole {
            min: 16,
            max: 1 << 30,
            set: |c, n, _| c.request_memory = usize::try_from(n).unwrap_or(16).saturating_mul(1 << 20),
        },
        "MIB",
        "Memory for all requests together: their bodies, JSON, tokenizing and answers; who asks for more is told to come back",
    )
    .default("512"),
    server(
        "cache-ram",
        Value::Whole {
            min: -1,
            max: 1 << 30,
            set: |c, n, _| c.cache_ram = Some(u64::try_from(n).unwrap_or(u64::MAX)),
        },
        "MIB",
        "Memory for what was read, kept for the next turn: 0 keeps nothing, -1 as much as there is room for (default: a quarter of the memory that is free)",
    )
    .dashed(&["-cram"])
    .variables(&["LLAMA_ARG_CACHE_RAM"])
    .none("(by the memory)"),
    server(
        "ctx-checkpoints",
        Value::Whole {
            min: 0,
            max: 1 << 16,
            set: |c, n, _| c.checkpoints = usize::try_from(n).unwrap_or(0),
        },
        "N",
        "Places in conversations to which a model with recurrent layers or sliding windows can go back without reading again; fewer if memory is short",
    )
    .dashed(&["-ctxcp"])
    .variables(&["LLAMA_ARG_CTX_CHECKPOINTS"])
    .default("32"),
    server(
        "swa-full",
        Value::Switch(|c| c.swa_full = true),
        "",
        "Keep all positions of layers with sliding windows, so that conversations can be continued from anywhere: takes more memory",
    )
    .variables(&["LLAMA_ARG_SWA_FULL"]),
    server(
        "slot-save-path",
        Value::Path(|c, path, given| {
            may_be_written(given.origin)?;
            c.slot_save_path = Some(path);
            Ok(())
        }),
        "FOLDER",
        "Folder for what slots have read: POST /slots/N?action=save and restore (off unless set)",
    )
    .variables(&["LLAMA_ARG_SLOT_SAVE_PATH"]),
    server(
        "strict",
        Value::Switch(|c| c.strict = true),
        "",
        "Reject API requests with unknown fields (by default they are ignored and reported)",
    ),
    server("nobrowser", Value::Switch(|c| c.browser = false), "", "Do not open the browser"),
    server(
        "portable",
        Value::Switch(|c| c.portable = true),
        "",
        "Keep the page's conversations in a file beside the program, not in the browser",
    ),
];

/// Normalizes a prefix to `/a/b`, without a trailing slash; `None` if it has characters that browsers rewrite.
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
