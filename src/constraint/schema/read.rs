//! Reads schemas, keyword by keyword, into lists of shapes.
//!
//! Input: a place. Output: the shapes that a value there may have. Keywords that do not restrict values are skipped; a
//! keyword that can't be enforced is an error with its place, because ignoring it would allow wrong answers.

use super::json::Json;
use super::number::{Bound, Decimal, NumberKind, Numbers, REMAINDERS_MAX, Step};
use super::places::{Place, Places};
use super::regex::{self, REPEATS_MAX, pattern};
use super::shape::{Contains, ListRule, Lists, ObjectRule, Objects, Shape, SubSchema, Texts};
use hashbrown::HashMap;
use std::rc::Rc;

/// Keywords that are read together, because each restricts one type of value only.
const LOCAL: &[&str] = &[
    "type",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "properties",
    "patternProperties",
    "additionalProperties",
    "required",
    "propertyNames",
    "minProperties",
    "maxProperties",
];
const TYPES: &[&str] = &["null", "boolean", "integer", "number", "string", "array", "object"];
/// Deepest nesting of schemas that apply to the same value, such as a chain of `$ref`.
const DEPTH_MAX: usize = 300;
/// Most `anyOf` options whose combinations are all tried.
const SETS_MAX: usize = 4;
/// Most pairs of shapes to intersect.
const PAIRS_MAX: usize = 100_000;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which document.
    pub document: usize,
    /// A JSON pointer and an explanation.
    pub text: String,
}

pub(super) type Shapes = Result<Vec<Shape>, Fault>;

/// Reads schemas.
pub struct Reader<'j> {
    /// The places in the documents.
    pub places: Places<'j>,
    /// Schemas being read: each applies to the same value as the one before it.
    active: Vec<SubSchema>,
    known: HashMap<SubSchema, Rc<Vec<Shape>>>,
    pairs: usize,
    remainders: u64,
}

impl<'j> Reader<'j> {
    /// A reader of these places.
    pub fn new(places: Places<'j>) -> Self {
        Self { places, active: Vec::new(), known: HashMap::new(), pairs: 0, remainders: 0 }
    }

    /// A fault at a place.
    pub fn fault(&self, place: Place, text: &str) -> Fault {
        Fault {
            document: self.places.document(place),
            text: format!("{}{text}", self.places.shown(place)),
        }
    }

    /// The shapes of values that satisfy a part.
    pub fn shapes(&mut self, part: SubSchema) -> Result<Rc<Vec<Shape>>, Fault> {
        if let Some(known) = self.known.get(&part) {
            return Ok(Rc::clone(known));
        }
        let place = match part {
            SubSchema::Is(place) | SubSchema::Not(place) | SubSchema::Value(place) => place,
            SubSchema::Never => return Ok(Rc::default()),
        };
        if self.active.contains(&part) {
            return Err(self.fault(place, ": circular reference: it refers only to itself"));
        }
        if self.active.len() >= DEPTH_MAX {
            return Err(self.fault(place, ": references and combined schemas are nested too deep"));
        }
        self.active.push(part);
        let shapes = match part {
            SubSchema::Is(_) => self.schema(place),
            SubSchema::Not(_) => self.opposite(place),
            _ => self.value(place).map(|shape| vec![shape]),
        };
        self.active.pop();
        let shapes = Rc::new(shapes?);
        self.known.insert(part, Rc::clone(&shapes));
        Ok(shapes)
    }

    /// The intersections of the shapes in `a` with those in `b`.
    pub fn both(&mut self, at: Place, a: &[Shape], b: &[Shape]) -> Shapes {
        self.pairs += a.len() * b.len();
        if self.pairs > PAIRS_MAX {
            return Err(self.fault(at, ": too many combinations of its subschemas"));
        }
        Ok(a.iter().flat_map(|a| b.iter().filter_map(|b| a.and(b))).collect())
    }

    pub(super) fn child(&mut self, place: Place, steps: &[&str]) -> Place {
        self.places.within(place, steps).unwrap_or(place)
    }

    /// Each element of an array of schemas.
    pub(super) fn several(&mut self, place: Place, key: &str) -> Result<Vec<Place>, Fault> {
        let value = self.places.value(place).get(key);
        let Some(Json::List(all)) = value else {
            return Err(self.expected(place, key, "an array of schemas"));
        };
        Ok((0..all.len()).map(|index| self.child(place, &[key, &index.to_string()])).collect())
    }

    /// Each member of an object of schemas.
    pub(super) fn named(&mut self, place: Place, key: &str) -> Result<Vec<(String, Place)>, Fault> {
        match self.places.value(place).get(key) {
            None => Ok(Vec::new()),
            Some(Json::Object(all)) => Ok(all
                .iter()
                .map(|(name, _)| (name.clone(), self.child(place, &[key, name])))
                .collect()),
            Some(_) => Err(self.expected(place, key, "an object of schemas")),
        }
    }

    fn expected(&self, place: Place, key: &str, expected: &str) -> Fault {
        let found = self.places.value(place).get(key).map_or_else(String::new, Json::shown);
        self.fault(place, &format!("/{key}: found {found}, expected {expected}"))
    }

    fn unsupported(&self, place: Place, key: &str) -> Fault {
        self.fault(place, &format!(": `{key}` is not supported"))
    }

    pub(super) fn schema(&mut self, place: Place) -> Shapes {
        let value = self.places.value(place);
        match value {
            Json::Bool(true) => return Ok(Shape::all()),
            Json::Bool(false) => return Ok(Vec::new()),
            Json::Object(_) => {}
            other => {
                let found = other.shown();
                return Err(self.fault(place, &format!(": found {found}, expected a schema")));
            }
        }
        let mut found: Option<Vec<Shape>> = None;
        let mut local = false;
        for (key, inner) in value.members() {
            let factors = match key.as_str() {
                key if LOCAL.contains(&key) => {
                    if std::mem::replace(&mut local, true) {
                        continue;
                    }
                    vec![self.local(place)?]
                }
                "const" => {
                    let place = self.child(place, &["const"]);
                    vec![vec![self.value(place)?]]
                }
                "enum" => vec![self.enumeration(place)?],
                "allOf" => {
                    let all = self.several(place, key)?;
                    all.into_iter()
                        .map(|p| Ok(self.shapes(SubSchema::Is(p))?.to_vec()))
                        .collect::<Result<_, _>>()?
                }
                // `oneOf` is treated as `anyOf`, as in llama.cpp.
                "anyOf" | "oneOf" => {
                    let options = self.several(place, key)?;
                    let several =
                        key == "anyOf" && asks_for_rest(value) && options.len() <= SETS_MAX;
                    let mut any = Vec::new();
                    for option in &options {
                        any.extend(self.shapes(SubSchema::Is(*option))?.iter().cloned());
                    }
                    // A value that satisfies several options may have the members of all of them.
                    let sets = if several { 1..1_usize << options.len() } else { 0..0 };
                    for set in sets.filter(|set| set.count_ones() > 1) {
                        let mut all = Shape::all();
                        for (_, option) in
                            options.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1)
                        {
                            let more = self.shapes(SubSchema::Is(*option))?;
                            all = self.both(place, &all, &more)?;
                        }
                        any.extend(all);
                    }
                    vec![any]
                }
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    let target = self.target(place, key)?;
                    vec![self.shapes(SubSchema::Is(target))?.to_vec()]
                }
                "not" => {
                    let place = self.child(place, &["not"]);
                    vec![
                        self.shapes(SubSchema::Not(place))?
                            .iter()
                            .map(|s| s.hushed(true))
                            .collect(),
                    ]
                }
                "if" => match self.condition(place)? {
                    Some(shapes) => vec![shapes],
                    None => continue,
                },
                "dependentRequired" | "dependentSchemas" | "dependencies" => {
                    self.dependent(place, key, inner)?
                }
                _ => continue,
            };
            for factor in factors {
                found = Some(match found {
                    Some(found) => self.both(place, &found, &factor)?,
                    None => factor,
                });
            }
        }
        let mut found = found.unwrap_or_else(Shape::all);
        self.unevaluated(place, &mut found)?;
        Ok(found)
    }

    pub(super) fn target(&mut self, place: Place, key: &str) -> Result<Place, Fault> {
        let Some(reference) = self.places.value(place).get(key).and_then(Json::as_text) else {
            return Err(self.expected(place, key, "a reference within this schema, such as #/…"));
        };
        let target = self.places.resolve(place, reference, key != "$ref");
        target.map_err(|problem| self.fault(place, &format!("/{key}: {problem}")))
    }

    fn enumeration(&mut self, place: Place) -> Shapes {
        let Some(Json::List(all)) = self.places.value(place).get("enum") else {
            return Err(self.expected(place, "enum", "an array of values"));
        };
        // All strings make one shape: some lists have thousands.
        let mut texts = Vec::new();
        let mut shapes = Vec::new();
        for (index, value) in all.iter().enumerate() {
            if let Json::Text(text) = value {
                texts.push(text.clone());
            } else {
                let place = self.child(place, &["enum", &index.to_string()]);
                shapes.push(self.value(place)?);
            }
        }
        if !texts.is_empty() {
            shapes.push(Shape::Text(Texts { only: Some(texts), ..Texts::default() }));
        }
        Ok(shapes)
    }

    /// The shape of exactly the value at a place.
    fn value(&mut self, place: Place) -> Result<Shape, Fault> {
        Ok(match self.places.value(place) {
            Json::Null => Shape::Null,
            Json::Bool(value) => Shape::Bool(*value),
            Json::Number(digits) => Shape::Number(Numbers::only(self.decimal(place, digits)?)),
            Json::Text(text) => {
                Shape::Text(Texts { only: Some(vec![text.clone()]), ..Texts::default() })
            }
            Json::List(all) => {
                let steps: Vec<String> = (0..all.len()).map(|index| index.to_string()).collect();
                let lead =
                    steps.iter().map(|step| Some(SubSchema::Value(self.child(place, &[step]))));
                let rules = vec![ListRule {
                    lead: lead.collect(),
                    rest: Some(SubSchema::Never),
                    silent: false,
                }];
                let (least, most) = (all.len(), Some(all.len()));
                Shape::List(Lists { rules, least, most, ..Lists::default() })
            }
            Json::Object(all) => {
                let required: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
                let part = |name: &String| Some(SubSchema::Value(self.child(place, &[name])));
                let members = required.iter().cloned().zip(required.iter().map(part)).collect();
                let rule =
                    ObjectRule { members, rest: Some(SubSchema::Never), ..ObjectRule::default() };
                Shape::Object(Objects { rules: vec![rule], required, ..Objects::default() })
            }
        })
    }

    /// The shapes allowed by `if`, `then` and `else` together; `None` if they have no effect.
    fn condition(&mut self, place: Place) -> Result<Option<Vec<Shape>>, Fault> {
        let value = self.places.value(place);
        let has = |key: &str| value.get(key).is_some();
        if !has("then") && !has("else") && !asks_for_rest(value) {
            return Ok(None);
        }
        let question = self.child(place, &["if"]);
        let branch = |this: &mut Self, part: SubSchema, key: &str| -> Shapes {
            // `if` mentions members; it does not list those that exist.
            let silent = matches!(part, SubSchema::Not(_));
            let shapes: Vec<_> = this.shapes(part)?.iter().map(|s| s.hushed(silent)).collect();
            if !has(key) {
                return Ok(shapes);
            }
            let more = this.child(place, &[key]);
            let more = this.shapes(SubSchema::Is(more))?;
            this.both(place, &shapes, &more)
        };
        let mut shapes = branch(self, SubSchema::Is(question), "then")?;
        shapes.extend(branch(self, SubSchema::Not(question), "else")?);
        Ok(Some(shapes))
    }

    /// Requirements that depend on a member's presence: one list of shapes for each member.
    fn dependent(
        &mut self,
        place: Place,
        key: &str,
        value: &'j Json,
    ) -> Result<Vec<Vec<Shape>>, Fault> {
        let Json::Object(all) = value else {
            return Err(self.expected(place, key, "an object"));
        };
        let mut factors = Vec::new();
        for (name, inner) in all {
            let mut shapes: Vec<Shape> = other_types(|shape| matches!(shape, Shape::Object(_)));
            shapes.push(Shape::Object(without(name)));
            let with =
                Shape::Object(Objects { required: vec![name.clone()], ..Objects::default() });
            let at = self.child(place, &[key, name]);
            match inner {
                Json::List(_) if key != "dependentSchemas" => {
                    let mut required = self.names(at, inner)?;
                    if !required.contains(name) {
                        required.insert(0, name.clone());
                    }
                    shapes.push(Shape::Object(Objects { required, ..Objects::default() }));
                }
                _ if key != "dependentRequired" => {
                    let more = self.shapes(SubSchema::Is(at))?;
                    shapes.extend(self.both(place, &[with], &more)?);
                }
                _ => {
                    return Err(self.fault(
                        at,
                        &format!(": found {}, expected an array of names", inner.shown()),
                    ));
                }
            }
            factors.push(shapes);
        }
        Ok(factors)
    }

    pub(super) fn names(&self, place: Place, value: &Json) -> Result<Vec<String>, Fault> {
        let wrong =
            || self.fault(place, &format!(": found {}, expected an array of names", value.shown()));
        let Json::List(all) = value else { return Err(wrong()) };
        let names: Result<Vec<String>, Fault> = all
            .iter()
            .map(|name| name.as_text().map(ToOwned::to_owned).ok_or_else(wrong))
            .collect();
        let mut names = names?;
        let mut seen = hashbrown::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    /// Applies `unevaluatedProperties` and `unevaluatedItems` to everything that nothing else in the schema evaluates.
    fn unevaluated(&mut self, place: Place, shapes: &mut [Shape]) -> Result<(), Fault> {
        let value = self.places.value(place);
        if value.get("unevaluatedProperties").is_some() {
            let rest = Some(SubSchema::Is(self.child(place, &["unevaluatedProperties"])));
            for shape in shapes.iter_mut() {
                let Shape::Object(objects) = shape else { continue };
                if objects.rules.iter().any(|rule| rule.rest.is_some() && !rule.silent) {
                    continue;
                }
                let mut rule = ObjectRule { rest, ..ObjectRule::default() };
                for old in objects.rules.iter().filter(|rule| !rule.silent) {
                    rule.members.extend(old.members.iter().map(|(name, _)| (name.clone(), None)));
                    let patterns = old.patterns.iter();
                    rule.patterns
                        .extend(patterns.map(|(s, ast, _)| (s.clone(), ast.clone(), None)));
                }
                objects.rules.push(rule);
            }
        }
        if value.get("unevaluatedItems").is_some() {
            let rest = Some(SubSchema::Is(self.child(place, &["unevaluatedItems"])));
            for shape in shapes {
                let Shape::List(lists) = shape else { continue };
                if lists.rules.iter().any(|rule| rule.rest.is_some() && !rule.silent) {
                    continue;
                }
                if !lists.contains.is_empty() {
                    return Err(self.fault(
                        place,
                        ": `unevaluatedItems` together with `contains` is not supported",
                    ));
                }
                let looked = lists.rules.iter().filter(|rule| !rule.silent);
                let lead = looked.map(|rule| rule.lead.len()).max().unwrap_or(0);
                lists.rules.push(ListRule { lead: vec![None; lead], rest, silent: false });
            }
        }
        Ok(())
    }

    /// Reads the keywords that restrict one type of value.
    fn local(&mut self, place: Place) -> Shapes {
        let value = self.places.value(place);
        let mut shapes = Vec::new();
        for name in self.types(place)? {
            match name {
                "null" => shapes.push(Shape::Null),
                "boolean" => shapes.extend([Shape::Bool(true), Shape::Bool(false)]),
                "number" => shapes.push(Shape::Number(self.numbers(place, NumberKind::Any)?)),
                "integer" => shapes.push(Shape::Number(self.numbers(place, NumberKind::Whole)?)),
                "string" => shapes.push(Shape::Text(self.texts(place, value)?)),
                "array" => shapes.push(Shape::List(self.lists(place, value)?)),
                _ => shapes.push(Shape::Object(self.objects(place, value)?)),
            }
        }
        Ok(shapes)
    }

    /// The allowed types; `number` includes `integer`, which is then left out.
    pub(super) fn types(&self, place: Place) -> Result<Vec<&'static str>, Fault> {
        let value = self.places.value(place);
        let known =
            |v: &Json| v.as_text().and_then(|name| TYPES.iter().find(|t| **t == name).copied());
        let mut types: Vec<&str> = match value.get("type") {
            None => TYPES.to_vec(),
            Some(one @ Json::Text(_)) => known(one).into_iter().collect(),
            Some(Json::List(all)) if all.iter().all(|v| known(v).is_some()) => {
                all.iter().filter_map(known).collect()
            }
            Some(_) => Vec::new(),
        };
        if types.is_empty() {
            return Err(self.expected(place, "type", &TYPES.join(", ")));
        }
        if types.contains(&"number") {
            types.retain(|name| *name != "integer");
        }
        Ok(types)
    }

    pub(super) fn decimal(&self, place: Place, digits: &str) -> Result<Decimal, Fault> {
        Decimal::read(digits).ok_or_else(|| {
            let found = Json::Number(digits.to_owned()).shown();
            self.fault(place, &format!(": found {found}, expected a number with fewer digits"))
        })
    }

    pub(super) fn number(&mut self, place: Place, key: &str) -> Result<Option<Decimal>, Fault> {
        match self.places.value(place).get(key) {
            None => Ok(None),
            Some(Json::Number(digits)) => {
                let place = self.child(place, &[key]);
                self.decimal(place, digits).map(Some)
            }
            Some(_) => Err(self.expected(place, key, "a number")),
        }
    }

    fn numbers(&mut self, place: Place, kind: NumberKind) -> Result<Numbers, Fault> {
        let mut numbers = Numbers { kind, ..Numbers::default() };
        for (inclusive, exclusive, is_low) in
            [("minimum", "exclusiveMinimum", true), ("maximum", "exclusiveMaximum", false)]
        {
            // In draft 4, the exclusive keywords are booleans.
            let switch = match self.places.value(place).get(exclusive) {
                Some(Json::Bool(value)) => Some(*value),
                _ => None,
            };
            let plain = self.number(place, inclusive)?;
            let strict = if switch.is_some() { None } else { self.number(place, exclusive)? };
            for (at, inclusive) in [(plain, switch != Some(true)), (strict, false)] {
                let Some(at) = at else { continue };
                let bound = Some(Bound { at, inclusive });
                let (low, high) = if is_low { (bound, None) } else { (None, bound) };
                let more = Numbers { low, high, ..Numbers::default() };
                numbers = numbers.and(&more).unwrap_or(numbers);
            }
        }
        if let Some(step) = self.number(place, "multipleOf")? {
            if !step.is_positive() {
                return Err(self.expected(place, "multipleOf", "a number above 0"));
            }
            let Some(step) = Step::new(&step) else {
                let most = format!(
                    "a number with significant digits up to {REMAINDERS_MAX} (0.25 counts as 25)"
                );
                return Err(self.expected(place, "multipleOf", &most));
            };
            self.remainders += step.remainders();
            if self.remainders > 2 * REMAINDERS_MAX {
                return Err(self.fault(place, ": the `multipleOf` values are too large in total"));
            }
            numbers.steps.push(step);
        }
        Ok(numbers)
    }

    /// A count of characters, elements or members.
    pub(super) fn count(&self, place: Place, key: &str) -> Result<Option<usize>, Fault> {
        let Some(value) = self.places.value(place).get(key) else { return Ok(None) };
        let count = match value {
            Json::Number(digits) => Decimal::read(digits).and_then(|n| n.count()),
            _ => None,
        };
        let expected = || self.expected(place, key, "a whole number, 0 or more");
        count.map(Some).ok_or_else(expected)
    }

    /// A lower and an upper bound. An upper bound above `REPEATS_MAX` is dropped: no answer reaches it.
    fn counts(&self, place: Place, what: &str) -> Result<(usize, Option<usize>), Fault> {
        let least = self.count(place, &format!("min{what}"))?.unwrap_or(0);
        if least > REPEATS_MAX {
            let most = format!("at most {REPEATS_MAX}");
            return Err(self.expected(place, &format!("min{what}"), &most));
        }
        let most = self.count(place, &format!("max{what}"))?;
        Ok((least, most.filter(|most| *most <= REPEATS_MAX)))
    }

    pub(super) fn texts(&mut self, place: Place, value: &Json) -> Result<Texts, Fault> {
        let (least, most) = self.counts(place, "Length")?;
        let mut texts = Texts { least, most, ..Texts::default() };
        match value.get("pattern") {
            None => {}
            Some(Json::Text(source)) => {
                let ast = pattern(source);
                texts.all.push(ast.map_err(|problem| {
                    let found = Json::Text(source.clone()).shown();
                    self.fault(place, &format!("/pattern: found {found}: {problem}"))
                })?);
            }
            Some(_) => return Err(self.expected(place, "pattern", "a regular expression")),
        }
        if let Some(format) = value.get("format").and_then(Json::as_text) {
            texts.all.extend(regex::format(format));
        }
        Ok(texts)
    }

    fn lists(&mut self, place: Place, value: &Json) -> Result<Lists, Fault> {
        let (least, most) = self.counts(place, "Items")?;
        let mut rule = ListRule::default();
        // Before draft 2020-12, `items` may be an array, and `additionalItems` applies to the elements after it.
        let (lead, rest) = match value.get("items") {
            Some(Json::List(_)) => ("items", "additionalItems"),
            _ => ("prefixItems", "items"),
        };
        if value.get(lead).is_some() {
            rule.lead =
                self.several(place, lead)?.into_iter().map(|p| Some(SubSchema::Is(p))).collect();
        }
        if value.get(rest).is_some() {
            rule.rest = Some(SubSchema::Is(self.child(place, &[rest])));
        }
        let mut lists = Lists { rules: vec![rule], least, most, ..Lists::default() };
        match value.get("uniqueItems") {
            None | Some(Json::Bool(false) | Json::Null) => {}
            Some(Json::Bool(true)) => lists.unique = Some(place),
            Some(_) => return Err(self.expected(place, "uniqueItems", "true or false")),
        }
        if value.get("contains").is_some() {
            let part = SubSchema::Is(self.child(place, &["contains"]));
            let least = self.count(place, "minContains")?.unwrap_or(1);
            let most = self.count(place, "maxContains")?;
            if least > 0 || most.is_some() {
                lists.contains.push(Contains { place, part, least, most });
            }
        }
        Ok(lists)
    }

    fn objects(&mut self, place: Place, value: &Json) -> Result<Objects, Fault> {
        let (least, most) = self.counts(place, "Properties")?;
        let members = self.named(place, "properties")?;
        let mut rule = ObjectRule {
            lists: value.get("properties").is_some(),
            members: members.into_iter().map(|(name, p)| (name, Some(SubSchema::Is(p)))).collect(),
            ..ObjectRule::default()
        };
        for (source, inner) in self.named(place, "patternProperties")? {
            let ast = pattern(&source);
            let ast = ast.map_err(|problem| self.fault(inner, &format!(": {problem}")))?;
            rule.patterns.push((source, ast, Some(SubSchema::Is(inner))));
        }
        if value.get("additionalProperties").is_some() {
            rule.rest = Some(SubSchema::Is(self.child(place, &["additionalProperties"])));
        }
        let required = match value.get("required") {
            None => Vec::new(),
            Some(names) => {
                let place = self.child(place, &["required"]);
                self.names(place, names)?
            }
        };
        let mut names = Vec::new();
        if value.get("propertyNames").is_some() {
            let place = self.child(place, &["propertyNames"]);
            let shapes = self.shapes(SubSchema::Is(place))?;
            let texts = shapes.iter().filter_map(|shape| match shape {
                Shape::Text(texts) => Some(texts.clone()),
                _ => None,
            });
            let texts: Vec<Texts> = texts.collect();
            for names in &texts {
                names.check().map_err(|problem| self.fault(place, &problem))?;
            }
            let all = |t: &Texts| {
                t.only.is_none() && t.all.is_empty() && t.least == 0 && t.most.is_none()
            };
            if !texts.iter().any(all) {
                names.push(texts);
            }
        }
        Ok(Objects { rules: vec![rule], required, names, least, most })
    }

    /// The fault for `uniqueItems` on arrays that may have two elements or more.
    pub fn not_unique(&self, place: Place) -> Fault {
        self.unsupported(place, "uniqueItems")
    }
}

/// Whether a schema has `unevaluatedProperties` or `unevaluatedItems`.
fn asks_for_rest(schema: &Json) -> bool {
    schema.get("unevaluatedProperties").or(schema.get("unevaluatedItems")).is_some()
}

/// All values except those of some types.
pub(super) fn other_types(is: impl Fn(&Shape) -> bool) -> Vec<Shape> {
    Shape::all().into_iter().filter(|shape| !is(shape)).collect()
}

/// Objects that do not have this member.
pub(super) fn without(name: &str) -> Objects {
    let members = vec![(name.to_owned(), Some(SubSchema::Never))];
    Objects { rules: vec![ObjectRule { members, ..ObjectRule::default() }], ..Objects::default() }
}
