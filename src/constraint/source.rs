//! Translates a constraint to llguidance grammars.

use super::schema::{self, Piece, SchemaFault};
use super::{Constraint, gbnf};
use crate::tokenizer::{TokenKind, Tokenizer};
use llguidance::api::{GrammarInit, TopLevelGrammar};

/// Looks up the tokens that a constraint can name.
pub(super) trait Words {
    /// The single token for a text, if there is one.
    fn token(&self, text: &str) -> Option<u32>;
    /// Splits a text into plain text and control tokens.
    fn pieces(&self, text: &str) -> Vec<Piece>;
}

impl Words for Tokenizer {
    fn token(&self, text: &str) -> Option<u32> {
        match self.encode(text, false, true).as_slice() {
            [id] => Some(*id),
            _ => None,
        }
    }

    fn pieces(&self, text: &str) -> Vec<Piece> {
        let (mut pieces, mut plain) = (Vec::new(), Vec::new());
        let text_of = |plain: &mut Vec<u8>| {
            let bytes = std::mem::take(plain);
            let piece = || Piece::Text(String::from_utf8_lossy(&bytes).into_owned());
            (!bytes.is_empty()).then(piece)
        };
        for id in self.encode(text, false, true) {
            if self.kind(id) == Some(TokenKind::Control) {
                pieces.extend(text_of(&mut plain));
                pieces.push(Piece::Token(id));
            } else {
                self.piece(id, true, &mut plain);
            }
        }
        pieces.extend(text_of(&mut plain));
        pieces
    }
}

/// llguidance grammars for a constraint, the best first.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn grammars(
    constraint: &Constraint,
    words: &dyn Words,
) -> Result<Vec<GrammarInit>, SchemaFault> {
    let serialized = GrammarInit::Serialized;
    let pieces = |text: &str| words.pieces(text);
    Ok(match constraint {
        Constraint::JsonSchema(schema) => {
            let wanted =
                schema::Wanted { answer: Some(schema), calls: &[], form: None, markers: &[] };
            vec![schema::grammar(wanted, &pieces)?]
        }
        Constraint::Calls(calls) => {
            let wanted = schema::Wanted {
                answer: calls.answer.as_deref(),
                calls: &calls.functions,
                form: calls.form.as_ref(),
                markers: &calls.markers,
            };
            vec![schema::grammar(wanted, &pieces)?]
        }
        Constraint::Regex(regex) => {
            // llguidance's own message would quote its rewriting of the regex.
            regex_syntax::parse(regex).map_err(|e| e.to_string())?;
            vec![serialized(TopLevelGrammar::from_regex(regex))]
        }
        Constraint::Lark(grammar) => {
            vec![serialized(TopLevelGrammar::from_lark(grammar.clone()))]
        }
        Constraint::Gbnf(grammar) => {
            let sources = gbnf::parse(grammar, &|text| words.token(text))?.sources();
            let sources = sources.into_iter().map(TopLevelGrammar::from_lark);
            sources.map(serialized).collect()
        }
    })
}
