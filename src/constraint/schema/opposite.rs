//! Negates schemas for `not`, `if` and `maxContains`, keyword by keyword, where the negation is again a list of shapes.

use super::json::Json;
use super::number::{Bound, Decimal, NumberKind, Numbers};
use super::places::Place;
use super::read::{Fault, Reader, Shapes, other_types, without};
use super::regex::{REPEATS_MAX, either, literal, not};
use super::shape::{Contains, ListRule, Lists, ObjectRule, Objects, Shape, SubSchema, Texts};

impl<'j> Reader<'j> {
    /// The shapes of values that do not satisfy a schema.
    pub(super) fn opposite(&mut self, place: Place) -> Shapes {
        let value = self.places.value(place);
        match value {
            Json::Bool(true) => return Ok(Vec::new()),
            Json::Bool(false) => return Ok(Shape::all()),
            Json::Object(_) => {}
            _ => return self.schema(place),
        }
        let mut found = Vec::new();
        for (key, inner) in value.members() {
            found.extend(self.opposite_of(place, key, inner)?);
        }
        // A value fails the schema if it fails one keyword; each keyword restricts its own type only.
        Ok(found)
    }

    /// The shapes of values that do not satisfy one keyword.
    fn opposite_of(&mut self, place: Place, key: &str, inner: &'j Json) -> Shapes {
        Ok(match key {
            "type" => {
                let types = self.types(place)?;
                let mut found = other_types(|shape| match shape {
                    Shape::Null => types.contains(&"null"),
                    Shape::Bool(_) => types.contains(&"boolean"),
                    Shape::Number(_) => types.contains(&"number") || types.contains(&"integer"),
                    Shape::Text(_) => types.contains(&"string"),
                    Shape::List(_) => types.contains(&"array"),
                    Shape::Object(_) => types.contains(&"object"),
                });
                if types.contains(&"integer") {
                    found.push(Shape::Number(Numbers {
                        kind: NumberKind::Broken,
                        ..Numbers::default()
                    }));
                }
                found
            }
            "const" => self.others(place, std::slice::from_ref(inner))?,
            "enum" => self.others(place, inner.elements())?,
            "allOf" => {
                let mut found = Vec::new();
                for part in self.several(place, key)? {
                    found.extend(self.shapes(SubSchema::Not(part))?.iter().cloned());
                }
                found
            }
            "anyOf" => {
                let mut found = Shape::all();
                for part in self.several(place, key)? {
                    let more = self.shapes(SubSchema::Not(part))?;
                    found = self.both(place, &found, &more)?;
                }
                found
            }
            "not" => {
                let inner = self.child(place, &[key]);
                self.shapes(SubSchema::Is(inner))?.to_vec()
            }
            "$ref" | "$dynamicRef" | "$recursiveRef" => {
                let target = self.target(place, key)?;
                self.shapes(SubSchema::Not(target))?.to_vec()
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "minLength"
            | "maxLength" | "pattern" | "format" => self.opposite_of_scalars(place, key, inner)?,
            "minItems" | "minProperties" | "maxItems" | "maxProperties" | "contains"
            | "prefixItems" | "items" | "required" | "properties" => {
                self.opposite_of_parts(place, key, inner)?
            }
            _ => self.opposite_of_others(place, key, inner)?,
        })
    }

    /// The same for keywords of numbers and strings.
    fn opposite_of_scalars(&mut self, place: Place, key: &str, inner: &Json) -> Shapes {
        let numbers = |numbers: Numbers| vec![Shape::Number(numbers)];
        let texts = |texts: Texts| vec![Shape::Text(texts)];
        Ok(match key {
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                let Some(at) = self.number(place, key)? else { return Ok(Vec::new()) };
                let bound = Some(Bound { at, inclusive: key.starts_with("exclusive") });
                let is_low = matches!(key, "minimum" | "exclusiveMinimum");
                let (low, high) = if is_low { (None, bound) } else { (bound, None) };
                numbers(Numbers { low, high, ..Numbers::default() })
            }
            "minLength" => match self.count(place, key)? {
                Some(n) if n > 0 => {
                    let most = Some(n - 1).filter(|most| *most <= REPEATS_MAX);
                    texts(Texts { most, ..Texts::default() })
                }
                _ => Vec::new(),
            },
            "maxLength" => {
                let least = self.count(place, key)?.unwrap_or(0).saturating_add(1);
                if least > REPEATS_MAX {
                    Vec::new()
                } else {
                    texts(Texts { least, ..Texts::default() })
                }
            }
            "pattern" | "format" => {
                let one = Json::Object(vec![(key.to_owned(), inner.clone())]);
                let all = self.texts(place, &one)?.all;
                all.into_iter()
                    .flat_map(|ast| texts(Texts { all: vec![not(ast)], ..Texts::default() }))
                    .collect()
            }
            _ => Vec::new(),
        })
    }

    /// The same for keywords of arrays and objects.
    fn opposite_of_parts(&mut self, place: Place, key: &str, inner: &'j Json) -> Shapes {
        let lists = |lists: Lists| vec![Shape::List(lists)];
        let objects = |objects: Objects| vec![Shape::Object(objects)];
        Ok(match key {
            "minItems" | "minProperties" => match self.count(place, key)? {
                Some(n) if n > 0 && key == "minItems" => {
                    lists(Lists { most: Some(n - 1), ..Lists::default() })
                }
                Some(n) if n > 0 => objects(Objects { most: Some(n - 1), ..Objects::default() }),
                _ => Vec::new(),
            },
            "maxItems" | "maxProperties" => {
                let least = self.count(place, key)?.unwrap_or(0).saturating_add(1);
                if least > REPEATS_MAX {
                    Vec::new()
                } else if key == "maxItems" {
                    lists(Lists { least, ..Lists::default() })
                } else {
                    objects(Objects { least, ..Objects::default() })
                }
            }
            "contains" if self.places.value(place).get("minContains").is_none() => {
                if self.places.value(place).get("maxContains").is_some() {
                    return Err(self.opposite_unsupported(place, "maxContains"));
                }
                let rest = Some(SubSchema::Not(self.child(place, &[key])));
                lists(Lists {
                    rules: vec![ListRule { rest, ..ListRule::default() }],
                    ..Lists::default()
                })
            }
            "prefixItems" => {
                let mut found = Vec::new();
                for (index, part) in self.several(place, key)?.into_iter().enumerate() {
                    let mut lead = vec![None; index];
                    lead.push(Some(SubSchema::Not(part)));
                    let rules = vec![ListRule { lead, ..ListRule::default() }];
                    found.extend(lists(Lists { rules, least: index + 1, ..Lists::default() }));
                }
                found
            }
            "items"
                if !matches!(inner, Json::List(_))
                    && self.places.value(place).get("prefixItems").is_none() =>
            {
                let part = SubSchema::Not(self.child(place, &[key]));
                let contains = vec![Contains { place, part, least: 1, most: None }];
                lists(Lists { contains, ..Lists::default() })
            }
            "required" => {
                let at = self.child(place, &[key]);
                let names = self.names(at, inner)?;
                names.iter().flat_map(|name| objects(without(name))).collect()
            }
            "properties" => {
                let mut found = Vec::new();
                for (name, part) in self.named(place, key)? {
                    let members = vec![(name.clone(), Some(SubSchema::Not(part)))];
                    let rules = vec![ObjectRule { members, ..ObjectRule::default() }];
                    found.extend(objects(Objects {
                        rules,
                        required: vec![name],
                        ..Objects::default()
                    }));
                }
                found
            }
            _ => self.opposite_of_others(place, key, inner)?,
        })
    }

    /// The same for keywords that can't be negated: a fault, unless the keyword has no effect.
    fn opposite_of_others(&mut self, place: Place, key: &str, inner: &'j Json) -> Shapes {
        Ok(match key {
            // The negation of a keyword that allows everything is empty.
            "additionalProperties"
            | "propertyNames"
            | "patternProperties"
            | "unevaluatedProperties"
            | "unevaluatedItems"
            | "uniqueItems"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies"
            | "multipleOf"
            | "contains"
            | "items"
            | "oneOf"
            | "if" => {
                let nothing = match inner {
                    Json::Bool(value) => *value == (key != "uniqueItems"),
                    Json::Object(all) => all.is_empty(),
                    _ => false,
                };
                let alone = |key: &str| self.places.value(place).get(key).is_none();
                if nothing && key != "contains" || key == "if" && alone("then") && alone("else") {
                    Vec::new()
                } else {
                    return Err(self.opposite_unsupported(place, key));
                }
            }
            _ => Vec::new(),
        })
    }

    fn opposite_unsupported(&self, place: Place, key: &str) -> Fault {
        self.fault(place, &format!(": `{key}` is not supported within `not` or `if`"))
    }

    /// All values except these.
    fn others(&mut self, place: Place, values: &[Json]) -> Shapes {
        let has = |value: &Json| values.contains(value);
        let mut found = Vec::new();
        if !has(&Json::Null) {
            found.push(Shape::Null);
        }
        found.extend([true, false].into_iter().filter(|b| !has(&Json::Bool(*b))).map(Shape::Bool));
        let mut numbers = Vec::new();
        for value in values {
            if let Json::Number(digits) = value {
                numbers.push(self.decimal(place, digits)?);
            }
        }
        numbers.sort();
        numbers.dedup();
        let bound = |at: &Decimal| Some(Bound { at: at.clone(), inclusive: false });
        for index in 0..=numbers.len() {
            let low = index.checked_sub(1).and_then(|at| bound(&numbers[at]));
            let high = numbers.get(index).and_then(bound);
            found.push(Shape::Number(Numbers { low, high, ..Numbers::default() }));
        }
        let texts: Vec<_> = values.iter().filter_map(Json::as_text).map(literal).collect();
        let all = if texts.is_empty() { Vec::new() } else { vec![not(either(texts))] };
        found.push(Shape::Text(Texts { all, ..Texts::default() }));
        let lists: Vec<&Json> = values.iter().filter(|v| matches!(v, Json::List(_))).collect();
        let objects: Vec<&Json> = values.iter().filter(|v| matches!(v, Json::Object(_))).collect();
        if lists.iter().any(|v| !v.elements().is_empty())
            || objects.iter().any(|v| !v.members().is_empty())
        {
            let text =
                ": arrays and objects are not supported in `const` and `enum` within `not` or `if`";
            return Err(self.fault(place, text));
        }
        found.push(Shape::List(Lists { least: lists.len().min(1), ..Lists::default() }));
        found.push(Shape::Object(Objects { least: objects.len().min(1), ..Objects::default() }));
        Ok(found)
    }
}
