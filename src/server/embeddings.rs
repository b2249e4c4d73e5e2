//! Embeddings: OpenAI's `/v1/embeddings`, and llama.cpp's `/embedding`.

use super::State;
use super::aliases::{self, On};
use super::error::ApiError;
use super::fields::{Fields, show, token_id};
use super::http::{Reply, Request, Response};
use super::json::json_text;
use super::sink::Sink;
use super::stream::engine_error;
use crate::engine::{Engine, EngineError, normalize};
use crate::model::Pooling;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::Value;

/// Most inputs in one request, as with OpenAI.
const INPUTS_MAX: usize = 2048;
const KNOWN: &[&str] =
    &["input", "content", "model", "encoding_format", "dimensions", "embd_normalize", "user"];
/// Norms as `--embd-normalize` numbers them.
const NORMS: std::ops::RangeInclusive<i64> = -1..=1024;

/// `POST /v1/embeddings`.
pub fn openai(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply<'_>,
) -> Result<Option<Response>, ApiError> {
    let asked = Asked::read(state, engine, &request.body, reply)?;
    if asked.pooling == Pooling::None {
        return Err(ApiError::bad(
            "--pooling none gives one embedding per token, which OpenAI's format cannot hold\nhint: use POST /embedding, or start with another --pooling",
        ));
    }
    let Some(all) = asked.embed(engine, reply)? else { return Ok(None) };
    let tokens: usize = asked.inputs.iter().map(Vec::len).sum();
    let data = all.into_iter().flatten().enumerate().map(|(index, row)| Datum {
        object: "embedding",
        index,
        embedding: if asked.base64 { Values::Base64(base64(&row)) } else { Values::Floats(row) },
    });
    answer(&List {
        object: "list",
        data: data.collect(),
        model: state.model_name(engine),
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    })
}

/// `POST /embedding`: for each input a list of rows: one row, or one per token without pooling.
pub fn native(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply<'_>,
) -> Result<Option<Response>, ApiError> {
    let asked = Asked::read(state, engine, &request.body, reply)?;
    let Some(all) = asked.embed(engine, reply)? else { return Ok(None) };
    let rows = all.into_iter().enumerate().map(|(index, embedding)| Rows { index, embedding });
    answer(&rows.collect::<Vec<_>>())
}

/// What a request asks for.
struct Asked {
    inputs: Vec<Vec<u32>>,
    pooling: Pooling,
    norm: i32,
    dimensions: Option<usize>,
    base64: bool,
}

impl Asked {
    fn read(
        state: &State,
        engine: &Engine,
        body: &[u8],
        reply: &mut Reply<'_>,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        aliases::apply(&mut fields, On::Embedding)?;
        fields.ignore(&["model", "user"]);
        let format = fields.string("encoding_format")?;
        let base64 = match format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                let found = format!("\"{other}\"");
                return Err(ApiError::parameter("encoding_format", &found, "float or base64"));
            }
        };
        let width = i64::try_from(engine.info.embedding).unwrap_or(i64::MAX);
        let dimensions = fields.integer("dimensions", 1..=width)?;
        let norm = fields.integer("embd_normalize", NORMS)?;
        let name = if fields.has("input") { "input" } else { "content" };
        let input = fields.take(name);
        let name = fields.called(name).to_owned();
        fields.finish(KNOWN, state.config.strict)?.tell(state.config.quiet, reply);
        let input = input.ok_or_else(|| ApiError::parameter("input", "nothing", EXPECTED))?;
        Ok(Self {
            inputs: inputs(&name, &input, engine)?,
            pooling: state.config.pooling.or(engine.info.pooling).unwrap_or(Pooling::Mean),
            norm: norm.and_then(|n| i32::try_from(n).ok()).unwrap_or(state.config.embd_normalize),
            dimensions: dimensions.and_then(|n| usize::try_from(n).ok()),
            base64,
        })
    }

    /// The rows of each input; `None` if the client has gone.
    fn embed(
        &self,
        engine: &Engine,
        reply: &mut Reply<'_>,
    ) -> Result<Option<Vec<Vec<Vec<f32>>>>, ApiError> {
        let sink = Sink::new(reply);
        let wanted = || sink.is_wanted();
        let all = engine.embed(self.inputs.clone(), self.pooling, &wanted);
        let Some(mut all) = all.map_err(|e| engine_error(&e))? else { return Ok(None) };
        for row in all.iter_mut().flatten() {
            if let Some(dimensions) = self.dimensions {
                row.truncate(dimensions);
            }
            // As in the reference, rows are not normalized without pooling.
            if self.pooling != Pooling::None {
                normalize(row, self.norm);
            }
        }
        Ok(Some(all))
    }
}

const EXPECTED: &str =
    "a string, an array of token ids, or an array of at most 2048 of these, none of them empty";

/// The token ids of each input.
fn inputs(name: &str, input: &Value, engine: &Engine) -> Result<Vec<Vec<u32>>, ApiError> {
    let wrong = |found: &Value| ApiError::parameter(name, &show(found), EXPECTED);
    let each = match input {
        Value::Array(all) if all.first().is_some_and(|v| !v.is_number()) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    if each.len() > INPUTS_MAX {
        return Err(ApiError::parameter(name, &format!("{} inputs", each.len()), EXPECTED));
    }
    let (tokenizer, max) = (&engine.tokenizer, engine.embedding_tokens_max());
    each.iter()
        .map(|one| {
            let ids = match one {
                // Too long whatever its tokens are: skip tokenizing.
                Value::String(text) if text.len() / tokenizer.longest() > max => {
                    let tokens = text.len() / tokenizer.longest();
                    return Err(engine_error(&EngineError::TooLong { tokens, context: max }));
                }
                Value::String(text) => tokenizer.encode(text, true, true),
                Value::Array(ids) => ids
                    .iter()
                    .map(|id| token_id(id, tokenizer.len()))
                    .collect::<Option<Vec<u32>>>()
                    .ok_or_else(|| wrong(one))?,
                _ => return Err(wrong(one)),
            };
            if ids.is_empty() {
                return Err(engine_error(&EngineError::NothingToEmbed));
            }
            if ids.len() > max {
                return Err(engine_error(&EngineError::TooLong {
                    tokens: ids.len(),
                    context: max,
                }));
            }
            Ok(ids)
        })
        .collect()
}

/// Converts an error to the API's form.
/// Little-endian f32, as OpenAI's clients decode it.
fn base64(row: &[f32]) -> String {
    let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

/// Serialized from structs, not through [`Value`], so that an f32 keeps its short decimal form.
fn answer(value: &impl Serialize) -> Result<Option<Response>, ApiError> {
    match serde_json::to_string(value) {
        Ok(text) => Ok(Some(json_text(text))),
        Err(error) => Err(ApiError::new(500, "server_error", error.to_string())),
    }
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Datum>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Datum {
    object: &'static str,
    index: usize,
    embedding: Values,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Rows {
    index: usize,
    embedding: Vec<Vec<f32>>,
}
