//! Compiles JSON schemas to grammars.
//!
//! Input: the source of a schema, or of several if functions may be called. Output: an llguidance grammar. llguidance's
//! own schema reader is not used: it reads numbers as 64-bit floats, which changes long identifiers; it knows few of
//! the keywords; and its errors use names of its own.
//!
//! `docs/schemas.md` says how each keyword is handled.

mod json;
mod number;
mod opposite;
mod places;
mod plan;
mod read;
mod regex;
mod shape;
#[cfg(test)]
pub(super) mod tests;
mod write;

pub(super) use write::Piece;

use super::call::CallForm;
use json::Json;
use llguidance::api::GrammarInit;
use places::Places;
use plan::GrammarPlan;
use read::Reader;
use shape::SubSchema;
use write::Writer;

/// The allowed answers: JSON, function calls, or either.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The schema of an answer that is not a call.
    pub answer: Option<&'a str>,
    /// Function names, each with the schema of its arguments.
    pub calls: &'a [(String, String)],
    /// How calls are written.
    pub form: Option<&'a CallForm>,
    /// Markers that begin a call whose form has no grammar.
    pub markers: &'a [String],
}

/// Why there is no grammar.
#[derive(Debug)]
pub(super) struct SchemaFault {
    /// Whether the answer's schema is at fault rather than a function's.
    pub of_answer: bool,
    /// What is wrong, and where.
    pub text: String,
}

impl From<String> for SchemaFault {
    fn from(text: String) -> Self {
        Self { of_answer: true, text }
    }
}

/// The grammar of these answers; `pieces` splits a text into plain text and control tokens.
///
/// # Errors
/// What is wrong with a schema, and where.
pub(super) fn grammar(
    wanted: Wanted<'_>,
    pieces: &dyn Fn(&str) -> Vec<Piece>,
) -> Result<GrammarInit, SchemaFault> {
    // Calls without a grammar are unconstrained: their schemas are not even read.
    let functions = if wanted.form.is_some() { wanted.calls } else { &[] };
    let texts = functions.iter().map(|(_, text)| text.as_str()).chain(wanted.answer);
    let documents: Vec<Json> = texts.map(Json::parse).collect::<Result<_, _>>()?;
    let (places, roots) = Places::new(&documents)?;
    let mut reader = Reader::new(places);
    let parts: Vec<SubSchema> = roots.into_iter().map(SubSchema::Is).collect();
    let (plan, roots) = GrammarPlan::new(&mut reader, &parts).map_err(|fault| {
        match functions.get(fault.document) {
            Some((name, _)) => SchemaFault {
                of_answer: false,
                text: format!("parameters of {}: {}", json::quoted(name), fault.text),
            },
            None => fault.text.into(),
        }
    })?;
    let mut writer = Writer::new()?;
    let mut options = Vec::new();
    if let Some(form) = wanted.form {
        let mut calls = Vec::new();
        let before = writer.pieces(&pieces(&form.before))?;
        let after = writer.pieces(&pieces(&form.after))?;
        for ((name, _), root) in functions.iter().zip(&roots) {
            let mut call = before.clone();
            // Split into the same lexemes as objects from schemas, which may begin the same way.
            let (key, name) = (json::quoted(&form.name), json::quoted(name));
            let arguments = json::quoted(&form.arguments);
            let open = ["{", &key, ": ", &name, ", ", &arguments, ": "];
            call.extend(writer.pieces(&open.map(|text| Piece::Text(text.to_owned())))?);
            call.push(writer.node(*root)?);
            call.extend(writer.pieces(&[Piece::Text("}".to_owned())])?);
            call.extend(after.iter().copied());
            calls.push(call);
        }
        let call = writer.rule(calls)?;
        let mut option = writer.pieces(&pieces(&form.start))?;
        option.push(call);
        if let Some(between) = &form.between {
            let mut next = writer.pieces(&pieces(between))?;
            next.push(call);
            let next = writer.rule(vec![next])?;
            option.push(writer.star(next)?);
        }
        option.extend(writer.pieces(&pieces(&form.end))?);
        options.push(option);
    }
    for marker in wanted.markers {
        options.push(writer.pieces(&pieces(marker))?);
    }
    if wanted.answer.is_some() {
        let root = *roots.last().ok_or_else(|| "no schema was given".to_owned())?;
        options.push(vec![writer.node(root)?]);
    }
    Ok(writer.finish(options, &plan)?)
}
