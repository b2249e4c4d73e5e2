//! Embeddings: OpenAI's `/v1/embeddings`, and llama.cpp's `/embedding`.

use super::State;
use super::aliases::{self, On};
use super::budget::Share;
use super::error::ApiError;
use super::fields::Fields;
use super::http::{Reply, Request, Response};
use super::json::json_text;
use super::lists::{List, Part};
use super::prompts::tokens;
use super::sink::Sink;
use super::stream::engine_error;
use crate::engine::{Engine, EngineError, normalize};
use crate::model::Pooling;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

/// Most inputs in one request, as with OpenAI.
const INPUTS_MAX: usize = 2048;
/// Bytes of memory for a number of an answer: its digits, twice while the text grows.
const NUMBER_BYTES: usize = 24;
const KNOWN: &[&str] =
    &["input", "content", "model", "encoding_format", "dimensions", "embd_normalize", "user"];
/// Norms as `--embd-normalize` numbers them.
const NORMS: std::ops::RangeInclusive<i64> = -1..=1024;

/// `POST /v1/embeddings`.
pub fn openai(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply,
) -> Result<Option<Response>, ApiError> {
    let asked = Asked::read(state, engine, request, reply)?;
    if asked.pooling == Pooling::None {
        return Err(ApiError::bad(
            "--pooling none gives one embedding per token, which OpenAI's format cannot hold\nhint: use POST /embedding, or start with another --pooling",
        ));
    }
    let Some(all) = asked.embed(engine, &request.share, reply)? else { return Ok(None) };
    let tokens: usize = asked.inputs.iter().map(Vec::len).sum();
    let data = all.into_iter().flatten().enumerate().map(|(index, row)| Datum {
        object: "embedding",
        index,
        embedding: if asked.base64 { Values::Base64(base64(&row)) } else { Values::Floats(row) },
    });
    answer(&Embeddings {
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
    reply: &mut Reply,
) -> Result<Option<Response>, ApiError> {
    let asked = Asked::read(state, engine, request, reply)?;
    let Some(all) = asked.embed(engine, &request.share, reply)? else { return Ok(None) };
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
        request: &Request,
        reply: &mut Reply,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(&request.body, &request.share)?;
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
        let input = fields.take_list(name);
        let name = fields.called(name).to_owned();
        fields.finish(KNOWN, state.config.strict)?.tell(state.config.quiet, reply);
        let pooling = state.config.pooling.or(engine.info.pooling).unwrap_or(Pooling::Mean);
        if pooling == Pooling::Rank && engine.info.scores == 0 {
            return Err(ApiError::bad(
                "--pooling rank gives the scores of a classification head, and this model has none\nhint: start with another --pooling, or with a reranker",
            ));
        }
        let input = input.ok_or_else(|| ApiError::parameter("input", "nothing", EXPECTED))?;
        Ok(Self {
            inputs: inputs(&name, input, engine, &request.share, &Sink::new(reply))?,
            pooling,
            norm: norm.and_then(|n| i32::try_from(n).ok()).unwrap_or(state.config.embd_normalize),
            dimensions: dimensions.and_then(|n| usize::try_from(n).ok()),
            base64,
        })
    }

    /// The rows of each input; `None` if the client has gone.
    fn embed(
        &self,
        engine: &Engine,
        share: &Share,
        reply: &mut Reply,
    ) -> Result<Option<Vec<Vec<Vec<f32>>>>, ApiError> {
        let of = |input: &Vec<u32>| if self.pooling == Pooling::None { input.len() } else { 1 };
        let rows: usize = self.inputs.iter().map(of).sum();
        let width = self.dimensions.unwrap_or(engine.info.embedding);
        share.take(rows.saturating_mul(engine.info.embedding * 4 + width * NUMBER_BYTES))?;
        let sink = Sink::new(reply);
        let wanted = || sink.is_wanted();
        let all = engine.embed(self.inputs.clone(), self.pooling, &wanted);
        let Some(mut all) = all.map_err(|e| engine_error(&e))? else { return Ok(None) };
        for row in all.iter_mut().flatten() {
            if let Some(dimensions) = self.dimensions {
                row.truncate(dimensions);
            }
            // As in the reference, rows are not normalized without pooling, and scores never.
            if !matches!(self.pooling, Pooling::None | Pooling::Rank) {
                normalize(row, self.norm);
            }
        }
        Ok(Some(all))
    }
}

const EXPECTED: &str =
    "a string, an array of token ids, or an array of at most 2048 of these, none of them empty";

/// The token ids of each input.
fn inputs(
    name: &str,
    input: Part,
    engine: &Engine,
    share: &Share,
    sink: &Sink<'_>,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let wrong = |found: &str| ApiError::parameter(name, found, EXPECTED);
    let each = match input {
        Part::List(List(all)) if !all.is_empty() && !List::has_ids(&all) => all,
        one => vec![one],
    };
    if each.len() > INPUTS_MAX {
        return Err(wrong(&format!("{} inputs", each.len())));
    }
    let (tokenizer, max) = (&engine.tokenizer, engine.embedding_tokens_max());
    let too_long = |tokens| Err(engine_error(&EngineError::TooLong { tokens, context: max }));
    let one = |part| {
        let ids = match part {
            // Too long whatever its tokens are: skip tokenizing.
            Part::Text(text) if text.len() / tokenizer.longest() > max => {
                return too_long(text.len() / tokenizer.longest());
            }
            Part::Text(text) => tokens(&text, true, true, engine, share, sink)?,
            Part::List(list) => list.into_ids().map_err(|other| wrong(&other.to_string()))?,
            other => return Err(wrong(&other.to_string())),
        };
        if let Some(unknown) = ids.iter().find(|id| **id as usize >= tokenizer.len()) {
            return Err(wrong(&unknown.to_string()));
        }
        match ids.len() {
            0 => Err(engine_error(&EngineError::NothingToEmbed)),
            n if n > max => too_long(n),
            _ => Ok(ids),
        }
    };
    each.into_iter().map(one).collect()
}

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
struct Embeddings {
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
