//! Places in schemas: where subschemas are, and where references lead.
//!
//! Input: one or more documents, each with its own references. Output: places by JSON pointer, `$id` and `$anchor`.
//! Knows nothing of keywords except which of them hold schemas.

use super::json::Json;
use hashbrown::HashMap;
use percent_encoding::percent_decode_str;
use std::rc::Rc;

/// Keywords whose value is a schema, an array of schemas, or schemas by name.
const ONE: &[&str] = &[
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "propertyNames",
    "contains",
    "contentSchema",
    "not",
    "if",
    "then",
    "else",
];
const SEVERAL: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
const NAMED: &[&str] = &[
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];
/// Most places: a schema of 128 KiB has fewer.
const PLACES_MAX: usize = 50_000;

/// A place, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(u32);

/// What is known about a place.
struct Known<'j> {
    document: usize,
    pointer: String,
    value: &'j Json,
    /// The base URI of references in it.
    base: Rc<str>,
}

/// The places in all documents.
pub struct Places<'j> {
    known: Vec<Known<'j>>,
    by_pointer: HashMap<(usize, String), Place>,
    /// Subschemas with an `$id`, by document and URI.
    resources: HashMap<(usize, String), Place>,
    /// Subschemas with an anchor, by document, base URI and name, and whether the anchor is dynamic.
    anchors: HashMap<(usize, String, String), (Place, bool)>,
    /// How many subschemas have this dynamic anchor.
    dynamic: HashMap<(usize, String), usize>,
}

impl<'j> Places<'j> {
    /// Indexes these documents and returns their roots.
    pub fn new(documents: &'j [Json]) -> Result<(Self, Vec<Place>), String> {
        let mut places = Self {
            known: Vec::new(),
            by_pointer: HashMap::new(),
            resources: HashMap::new(),
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
        };
        let mut roots = Vec::new();
        for (document, value) in documents.iter().enumerate() {
            let root = places.intern(document, String::new(), value, &Rc::from(""));
            places.resources.insert((document, String::new()), root);
            places.index(root)?;
            roots.push(root);
        }
        Ok((places, roots))
    }

    /// The JSON value at a place.
    pub fn value(&self, place: Place) -> &'j Json {
        self.known[place.0 as usize].value
    }

    /// The place as a JSON pointer into its document.
    pub fn shown(&self, place: Place) -> String {
        format!("#{}", self.known[place.0 as usize].pointer)
    }

    /// Which document it is in.
    pub fn document(&self, place: Place) -> usize {
        self.known[place.0 as usize].document
    }

    /// A place within another, by member names and element indices.
    pub fn within(&mut self, place: Place, steps: &[&str]) -> Option<Place> {
        let mut at = place;
        for step in steps {
            let known = &self.known[at.0 as usize];
            let value = known.value.step(step)?;
            let escaped = step.replace('~', "~0").replace('/', "~1");
            let pointer = format!("{}/{escaped}", known.pointer);
            let (document, base) = (known.document, Rc::clone(&known.base));
            at = self.intern(document, pointer, value, &base);
        }
        Some(at)
    }

    /// Resolves a reference at a place; with `dynamic`, one that looks for the outermost subschema with its anchor.
    pub fn resolve(
        &mut self,
        from: Place,
        reference: &str,
        dynamic: bool,
    ) -> Result<Place, String> {
        let known = &self.known[from.0 as usize];
        let document = known.document;
        let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let address = join(&known.base, address);
        let expected = || {
            format!(
                "found {}, expected a reference within this schema: #/…, or its $anchor or $id",
                Json::Text(reference.to_owned()).shown()
            )
        };
        let resource = self.resources.get(&(document, address.clone())).copied();
        let resource = resource.ok_or_else(expected)?;
        let fragment = percent_decode_str(fragment).decode_utf8().map_err(|_| expected())?;
        if fragment.is_empty() {
            return Ok(resource);
        }
        if let Some(pointer) = fragment.strip_prefix('/') {
            let mut at = resource;
            for step in pointer.split('/') {
                let step = step.replace("~1", "/").replace("~0", "~");
                at = self.within(at, &[&step]).ok_or_else(|| {
                    let missing =
                        format!("there is no {} in {}", Json::Text(step).shown(), self.shown(at));
                    format!("found {}, but {missing}", Json::Text(reference.to_owned()).shown())
                })?;
            }
            return Ok(at);
        }
        let key = (document, address, fragment.into_owned());
        let (place, is_dynamic) = self.anchors.get(&key).copied().ok_or_else(expected)?;
        if dynamic && is_dynamic && self.dynamic.get(&(document, key.2)).is_some_and(|n| *n > 1) {
            return Err(
                "references to a `$dynamicAnchor` that is defined more than once are not supported"
                    .to_owned(),
            );
        }
        Ok(place)
    }

    fn intern(
        &mut self,
        document: usize,
        pointer: String,
        value: &'j Json,
        base: &Rc<str>,
    ) -> Place {
        if let Some(place) = self.by_pointer.get(&(document, pointer.clone())) {
            return *place;
        }
        let id = value.get("$id").and_then(Json::as_text).filter(|id| !id.starts_with('#'));
        let base = match id {
            Some(id) => Rc::from(join(base, id.trim_end_matches('#')).as_str()),
            None => Rc::clone(base),
        };
        let place = Place(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        self.known.push(Known { document, pointer: pointer.clone(), value, base });
        self.by_pointer.insert((document, pointer), place);
        place
    }

    /// Indexes the `$id`s and anchors of all schemas in a document.
    fn index(&mut self, root: Place) -> Result<(), String> {
        let mut rest = vec![root];
        while let Some(place) = rest.pop() {
            if self.known.len() > PLACES_MAX {
                return Err("it has too many subschemas".to_owned());
            }
            let known = &self.known[place.0 as usize];
            let (document, value, base) = (known.document, known.value, known.base.to_string());
            let text = |key: &str| value.get(key).and_then(Json::as_text);
            if let Some(id) = text("$id") {
                match id.strip_prefix('#') {
                    Some(name) => {
                        self.anchors
                            .insert((document, base.clone(), name.to_owned()), (place, false));
                    }
                    None => {
                        self.resources.insert((document, base.clone()), place);
                    }
                }
            }
            for (key, dynamic) in [("$anchor", false), ("$dynamicAnchor", true)] {
                if let Some(name) = text(key) {
                    let entry = (document, base.clone(), name.to_owned());
                    self.anchors.insert(entry, (place, dynamic));
                    if dynamic {
                        *self.dynamic.entry((document, name.to_owned())).or_default() += 1;
                    }
                }
            }
            for (key, inner) in value.members() {
                let is = |kind: &[&str]| kind.contains(&key.as_str());
                match inner {
                    Json::List(all) if is(SEVERAL) => {
                        for index in 0..all.len() {
                            rest.extend(self.within(place, &[key, &index.to_string()]));
                        }
                    }
                    Json::Object(all) if is(NAMED) => {
                        for (name, _) in all {
                            rest.extend(self.within(place, &[key, name]));
                        }
                    }
                    Json::Object(_) if is(ONE) => rest.extend(self.within(place, &[key])),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Resolves a URI against a base, as in RFC 3986. Nothing is ever fetched; equal URIs name the same subschema.
fn join(base: &str, address: &str) -> String {
    let base = base.split('#').next().unwrap_or("");
    if address.is_empty() {
        return base.to_owned();
    }
    if scheme(address).is_some() {
        return address.to_owned();
    }
    let scheme = scheme(base).unwrap_or("");
    if address.starts_with("//") {
        return format!("{scheme}{address}");
    }
    let after = &base[scheme.len()..];
    let authority = match after.strip_prefix("//") {
        Some(inner) => &after[..2 + inner.find(['/', '?']).unwrap_or(inner.len())],
        None => "",
    };
    let path = after[authority.len()..].split('?').next().unwrap_or("");
    let (relative, query) = address.find('?').map_or((address, ""), |at| address.split_at(at));
    let joined = if relative.is_empty() {
        path.to_owned()
    } else if relative.starts_with('/') {
        without_dots(relative)
    } else {
        let folder =
            path.rfind('/').map_or(if authority.is_empty() { "" } else { "/" }, |at| &path[..=at]);
        without_dots(&format!("{folder}{relative}"))
    };
    format!("{scheme}{authority}{joined}{query}")
}

/// The scheme of a URI, with its colon.
fn scheme(address: &str) -> Option<&str> {
    let end = address.find(':')?;
    let mut letters = address[..end].bytes();
    let is = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
        && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    is.then(|| &address[..=end])
}

/// Removes `.` and `..` segments from a path.
fn without_dots(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    let all: Vec<&str> = path.split('/').collect();
    for (index, step) in all.iter().enumerate() {
        let last = index + 1 == all.len();
        match *step {
            "." if last => steps.push(""),
            "." => {}
            ".." => {
                if steps.len() > 1 || steps.first().is_some_and(|first| !first.is_empty()) {
                    steps.pop();
                }
                if last {
                    steps.push("");
                }
            }
            step => steps.push(step),
        }
    }
    steps.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(schema: &str, from: &[&str], reference: &str) -> Result<String, String> {
        let documents = [Json::parse(schema).unwrap()];
        let (mut places, roots) = Places::new(&documents).unwrap();
        let from = places.within(roots[0], from).unwrap();
        places.resolve(from, reference, false).map(|place| places.shown(place))
    }

    #[test]
    fn references_resolve_pointers_anchors_and_ids() {
        let schema = r#"{"$id": "https://example.com/root.json", "$defs": {
            "A b": {"$anchor": "a"}, "x/y~z": {}, "é\"": {}, "%25": {},
            "B": {"$id": "folder/b.json", "$defs": {"C": {"$anchor": "c"}, "D": {"$id": "../d.json"}}},
            "U": {"$id": "urn:uuid:1", "$anchor": "u"}}, "oneOf": [{}, {"const": {"$id": "no"}}]}"#;
        for (from, reference, expected) in [
            (&[][..], "#", "#"),
            (&[], "#/$defs/A%20b", "#/$defs/A b"),
            (&[], "#/$defs/A b", "#/$defs/A b"),
            (&[], "#/$defs/x~1y~0z", "#/$defs/x~1y~0z"),
            (&[], "#/%24defs/%C3%A9%22", "#/$defs/é\""),
            (&[], "#/$defs/%2525", "#/$defs/%25"),
            (&[], "#/oneOf/1", "#/oneOf/1"),
            (&[], "#a", "#/$defs/A b"),
            (&[], "root.json#a", "#/$defs/A b"),
            (&[], "folder/b.json", "#/$defs/B"),
            (&[], "https://example.com/folder/b.json#c", "#/$defs/B/$defs/C"),
            (&["$defs", "B"], "#c", "#/$defs/B/$defs/C"),
            (&["$defs", "B", "$defs", "C"], "#/$defs/D", "#/$defs/B/$defs/D"),
            (&["$defs", "B"], "../root.json#/$defs/U", "#/$defs/U"),
            (&[], "d.json", "#/$defs/B/$defs/D"),
            (&["$defs", "U"], "#u", "#/$defs/U"),
        ] {
            assert_eq!(target(schema, from, reference).as_deref(), Ok(expected), "{reference}");
        }
        for reference in [
            "#b",
            "other.json",
            "#/$defs/none",
            "#/oneOf/2",
            "#/oneOf/01",
            "#/$defs/A%2",
            "#/$defs/A%ff",
            "no",
        ] {
            let error = target(schema, &[], reference).unwrap_err();
            assert!(
                error.contains(&format!("found {}", Json::Text(reference.to_owned()).shown())),
                "{error}"
            );
        }
    }

    #[test]
    fn uris_are_joined_as_in_rfc_3986() {
        let base = "http://a/b/c/d;p?q";
        for (address, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("g:h", "g:h"),
        ] {
            assert_eq!(join(base, address), expected, "{address}");
        }
        assert_eq!(join("", "a.json"), "a.json");
        assert_eq!(join("http://a", "b"), "http://a/b");
    }
}
