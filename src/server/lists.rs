//! Reads arrays of token ids and texts without making a tree of JSON values, which takes eighty bytes for each number.
//!
//! Input: the JSON of one field, whose syntax was checked. Output: a [`List`]. Knows nothing of vocabularies.

use super::budget::{Share, Short};
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Most parts beside token ids in one list.
const PARTS_MAX: usize = 1 << 16;
/// Bytes of memory for each byte of JSON: an id of two characters takes four bytes, twice while a list grows.
const BYTES_PER_BYTE: usize = 6;
/// Bytes of memory for each part beside token ids.
const BYTES_PER_PART: usize = 64;

/// An array of token ids, texts, and arrays of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<Part>);

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Token ids, one after another.
    Ids(Vec<u32>),
    /// A text.
    Text(String),
    /// An array in an array.
    List(List),
    /// Anything else: JSON for an error message.
    Other(String),
}

impl List {
    /// Reads an array. `None` if it is none, or has too many parts.
    ///
    /// # Errors
    /// When the memory for requests is used up.
    pub fn read(json: &RawValue, share: &Share) -> Result<Option<Self>, Short> {
        share.take(json.get().len().saturating_mul(BYTES_PER_BYTE))?;
        let mut reading = Reading { share, parts: 0, nested: false, short: None };
        let read = serde_json::Deserializer::from_str(json.get()).deserialize_seq(&mut reading);
        reading.short.map_or(Ok(read.ok()), Err)
    }

    /// Whether a token id is among the parts of a list, not in a list within.
    #[must_use]
    pub fn has_ids(parts: &[Part]) -> bool {
        parts.iter().any(|part| matches!(part, Part::Ids(_)))
    }

    /// Its token ids, if there is nothing else in it.
    ///
    /// # Errors
    /// The first other part.
    pub fn into_ids(mut self) -> Result<Vec<u32>, Part> {
        match self.0.pop() {
            None => Ok(Vec::new()),
            Some(Part::Ids(ids)) if self.0.is_empty() => Ok(ids),
            Some(last) => {
                Err(self.0.into_iter().find(|p| !matches!(p, Part::Ids(_))).unwrap_or(last))
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Ids(ids) => ids.first().map_or_else(|| "[]".to_owned(), u32::to_string),
            Self::Text(text) => format!("{:?}", text.chars().take(SHOWN_CHARS).collect::<String>()),
            Self::List(_) => "an array".to_owned(),
            Self::Other(json) => json.clone(),
        };
        f.write_str(&text)
    }
}

/// Most characters of a value in an error message.
const SHOWN_CHARS: usize = 40;

/// Collects the parts of an array.
struct Reading<'s> {
    share: &'s Share,
    /// Parts so far, here and in the arrays within.
    parts: usize,
    nested: bool,
    short: Option<Short>,
}

impl<'de> Visitor<'de> for &mut Reading<'_> {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<List, A::Error> {
        let mut parts = Vec::new();
        while let Some(json) = array.next_element::<&RawValue>()? {
            let json = json.get();
            if let Ok(id) = json.parse() {
                match parts.last_mut() {
                    Some(Part::Ids(ids)) => Vec::push(ids, id),
                    _ => parts.push(Part::Ids(vec![id])),
                }
                continue;
            }
            self.parts += 1;
            if self.parts > PARTS_MAX {
                return Err(serde::de::Error::custom("too many parts"));
            }
            if let Err(short) = self.share.take(BYTES_PER_PART) {
                self.short = Some(short);
                return Err(serde::de::Error::custom("no memory"));
            }
            let text = || serde_json::from_str(json).ok().map(Part::Text);
            parts.push(match json.as_bytes().first() {
                Some(b'"') => text().unwrap_or_else(|| other(json)),
                Some(b'[') if !self.nested => {
                    self.nested = true;
                    let within =
                        serde_json::Deserializer::from_str(json).deserialize_seq(&mut *self);
                    self.nested = false;
                    Part::List(within.map_err(serde::de::Error::custom)?)
                }
                _ => other(json),
            });
        }
        Ok(List(parts))
    }
}

fn other(json: &str) -> Part {
    let mut shown: String = json.chars().take(SHOWN_CHARS).collect();
    if shown.len() < json.len() {
        shown.push('…');
    }
    Part::Other(shown)
}

#[cfg(test)]
impl List {
    /// The tree of it.
    pub fn into_value(self) -> serde_json::Value {
        let parts = self.0.into_iter().flat_map(|part| match part {
            Part::Ids(ids) => ids.into_iter().map(Into::into).collect(),
            Part::Text(text) => vec![text.into()],
            Part::List(list) => vec![list.into_value()],
            Part::Other(json) => vec![serde_json::from_str(&json).unwrap()],
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    fn read(json: &str) -> Option<List> {
        let json: &RawValue = serde_json::from_str(json).unwrap();
        List::read(json, &Share::default()).unwrap()
    }

    #[test]
    fn ids_texts_and_arrays_are_told_apart() {
        let text = |text: &str| Part::Text(text.to_owned());
        let other = |text: &str| Part::Other(text.to_owned());
        let ids = |ids: &[u32]| Part::Ids(ids.to_vec());
        let list =
            read(r#"[1, 2 , "a\u00e9", 3, [4, "b"], [], 1.5, -1, 99999999999, {"x":1}, [[5]]]"#);
        let within = |parts| Part::List(List(parts));
        assert_eq!(
            list,
            Some(List(vec![
                ids(&[1, 2]),
                text("aé"),
                ids(&[3]),
                within(vec![ids(&[4]), text("b")]),
                within(Vec::new()),
                other("1.5"),
                other("-1"),
                other("99999999999"),
                other(r#"{"x":1}"#),
                within(vec![other("[5]")]),
            ]))
        );
        assert_eq!(read("[7, 8]").unwrap().into_ids(), Ok(vec![7, 8]));
        assert_eq!(read("[7, null, 8]").unwrap().into_ids(), Err(other("null")));
        assert_eq!(read("3"), None);
        let half = r#"["\ud800"]"#;
        assert_eq!(read(half), Some(List(vec![other(r#""\ud800""#)])));
        assert_eq!(read(&format!("[{}0]", "[],".repeat(PARTS_MAX + 1))), None);
        let depth = 100_000;
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&deep).is_some());
    }

    #[test]
    fn a_list_takes_what_it_may() {
        let json = format!("[{}1]", "1,".repeat(100_000));
        let json: &RawValue = serde_json::from_str(&json).unwrap();
        let budget = Budget::new(1_300_000);
        assert!(List::read(json, &budget.share()).is_ok());
        assert!(List::read(json, &Budget::new(1_000_000).share()).is_err());
    }
}
