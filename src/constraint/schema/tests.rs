//! Schemas without a model: each byte is a token.

use super::super::call::CallForm;
use super::super::tests::{byte_factory, follow};
use super::super::{Guide, guide};
use super::json::quoted;
use super::{Piece, Wanted, grammar};
use llguidance::ParserFactory;
use serde_json::{Value, json};
use std::path::Path;

/// The guide for a schema, or what is wrong with it.
pub(in super::super) fn compile(factory: &ParserFactory, schema: &str) -> Result<Guide, String> {
    let wanted = Wanted { answer: Some(schema), calls: &[], form: None, markers: &[] };
    let grammar = grammar(wanted, &text_only).map_err(|fault| fault.text)?;
    guide(factory, grammar)
}

fn text_only(text: &str) -> Vec<Piece> {
    if text.is_empty() { Vec::new() } else { vec![Piece::Text(text.to_owned())] }
}

/// Asserts which texts a schema allows.
fn allows(schema: &str, yes: &[&str], no: &[&str]) {
    let guide =
        compile(&byte_factory(), schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    for text in yes {
        assert!(follow(&guide, text).1, "{text} by {schema}");
    }
    for text in no {
        assert!(!follow(&guide, text).1, "{text} by {schema}");
    }
}

fn problem(schema: &str) -> String {
    match compile(&byte_factory(), schema) {
        Ok(_) => panic!("{schema} is no fault"),
        Err(problem) => problem,
    }
}

#[test]
fn integers_keep_their_digits() {
    for id in [
        "9007199254740993",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "123456789012345678901234567890",
        "-340282366920938463463374607431768211456",
    ] {
        let near = |by: i32| {
            let last = i32::from(id.as_bytes()[id.len() - 1] - b'0');
            format!("{}{}", &id[..id.len() - 1], (last + by + 10) % 10)
        };
        let (above, below) = (near(1), near(-1));
        for schema in [
            format!(r#"{{"const": {id}}}"#),
            format!(r#"{{"type": "integer", "enum": [{id}, 0]}}"#),
            format!(r#"{{"minimum": {id}, "maximum": {id}}}"#),
            format!(
                r#"{{"allOf": [{{"minimum": {id}}}, {{"enum": ["{id}", {id}]}}], "type": "number"}}"#
            ),
        ] {
            allows(&schema, &[id], &[&above, &below, &format!("{id}0")]);
        }
        allows(
            &format!(r#"{{"const": {{"a": [{id}]}}}}"#),
            &[&format!(r#"{{"a": [{id}]}}"#)],
            &[&format!(r#"{{"a": [{above}]}}"#)],
        );
    }
}

#[test]
fn bounds_are_exact() {
    for (schema, yes, no) in [
        (
            r#"{"type": "integer", "minimum": -9223372036854775808, "exclusiveMaximum": 9223372036854776000}"#,
            &["-9223372036854775808", "9223372036854775999", "0", "-1"][..],
            &["9223372036854776000", "-9223372036854775809", "0.5"][..],
        ),
        (
            r#"{"type": "integer", "minimum": 0, "maximum": 18446744073709551615}"#,
            &["0", "18446744073709551615"],
            &["-1", "18446744073709551616"],
        ),
        (
            r#"{"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38}"#,
            &["0", "-1.5", "340282346638528860000000000000000000000"],
            &["340282346638528860000000000000000000001", "1e3"],
        ),
        (
            r#"{"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1e308}"#,
            &["0.25", "-12"],
            &[],
        ),
        (r#"{"type": "number", "exclusiveMinimum": 5e-324}"#, &["0.1", "7"], &["0", "-1", "0.0"]),
        (r#"{"type": "integer", "minimum": 1.5, "maximum": 3.5}"#, &["2", "3"], &["1", "4", "2.0"]),
        (
            r#"{"minimum": 2, "exclusiveMinimum": true, "maximum": 4, "exclusiveMaximum": false, "type": "integer"}"#,
            &["3", "4"],
            &["2", "5"],
        ),
        (
            r#"{"type": "integer", "multipleOf": 5, "minimum": 11, "maximum": 24}"#,
            &["15", "20"],
            &["12", "10", "25"],
        ),
        (
            r#"{"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 1}"#,
            &["0", "0.25", "1"],
            &["0.255", "1.01"],
        ),
        (r#"{"type": "string", "maxLength": 4294967295}"#, &[r#""a""#], &["1"]),
        (
            r#"{"type": "array", "items": {"type": "null"}, "maxItems": 9007199254740991, "minItems": 1.0}"#,
            &["[null]"],
            &["[]"],
        ),
    ] {
        allows(schema, yes, no);
    }
}

#[test]
fn keywords_without_effect_are_ignored() {
    for extra in [
        r#""propertyNames": {"type": "string"}"#,
        r#""propertyNames": true"#,
        r#""propertyNames": {"description": "any", "minLength": 0}"#,
        r#""dependencies": {}"#,
        r#""dependentRequired": {}, "dependentSchemas": {}"#,
        r#""if": {"minProperties": 9}"#,
        r#""then": false, "else": false"#,
        r#""minContains": 0, "maxContains": 0"#,
        r#""contains": {}, "uniqueItems": true, "minItems": 3"#,
        r#""not": false"#,
        r#""not": {"not": {}}"#,
        r##""$defs": {"X": {"not": 5}, "Y": {"$ref": "#/nowhere"}, "Z": 7}"##,
        r#""definitions": {"X": {"uniqueItems": true, "type": "strin"}}"#,
        r#""title": "t", "description": "d", "default": 5, "examples": [1], "deprecated": true, "readOnly": true, "writeOnly": false"#,
        r#""$comment": "c", "x-order": 3, "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/a""#,
        r#""contentEncoding": "base64", "contentMediaType": "text/plain", "contentSchema": {"not": {}}"#,
        r#""format": "int32", "formatMinimum": 5, "discriminator": {"propertyName": "a"}, "xml": {}, "externalDocs": {}"#,
        r#""unevaluatedProperties": true, "unevaluatedItems": false"#,
        r#""additionalItems": false, "minLength": 100, "pattern": "x", "multipleOf": 7"#,
        r#""$vocabulary": {}, "$anchor": "here", "enumNames": ["x"], "markdownDescription": "", "nullable": true"#,
    ] {
        let schema = format!(
            r#"{{"type": "object", {extra}, "properties": {{"b": {{"type": "integer"}}}}, "required": ["b"], "additionalProperties": false}}"#
        );
        allows(&schema, &[r#"{"b": 1}"#], &[r#"{"b": "1"}"#, "{}", r#"{"b": 1, "c": 2}"#]);
    }
    allows(
        r#"{"type": "array", "items": {"type": "integer"}, "maxItems": 2, "minContains": 0}"#,
        &["[]", "[1, 2]"],
        &["[1, 2, 3]"],
    );
    allows(
        r#"{"type": "string", "format": "int64", "contentEncoding": "base64"}"#,
        &[r#""any""#],
        &["1"],
    );
    allows(r#"{"type": "array", "uniqueItems": true, "maxItems": 1}"#, &["[]", "[1]"], &["[1, 1]"]);
    allows("true", &["1", "null", r#"{"a": [1.5e3]}"#], &["nul"]);
}

#[test]
fn properties_come_in_order_and_only_if_listed() {
    let both =
        r#"{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}}"#;
    allows(
        both,
        &["{}", r#"{"a": 1}"#, r#"{"b": null}"#, r#"{"a": 1, "b": null}"#],
        &[r#"{"b": null, "a": 1}"#, r#"{"c": 1}"#, r#"{"a": 1, }"#, r#"{"a":1}"#, "{ }"],
    );
    // A required name that is not described may be anything.
    allows(
        r#"{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}"#,
        &[r#"{"a": 1, "b": [null]}"#, r#"{"a": 1, "b": 2}"#],
        &[r#"{"a": 1}"#, r#"{"b": 1}"#, r#"{"a": 1, "b": 2, "c": 3}"#],
    );
    allows(
        r#"{"type": "object", "required": ["x"]}"#,
        &[r#"{"x": 1}"#, r#"{"x": 1, "y": 2}"#],
        &["{}", r#"{"y": 2}"#],
    );
    allows(r#"{"properties": {}, "type": "object"}"#, &["{}"], &[r#"{"a": 1}"#]);
    allows(
        r#"{"properties": {}, "type": "object", "additionalProperties": true}"#,
        &["{}", r#"{"a": 1}"#],
        &[],
    );
    // Combined schemas list the members of all their parts.
    allows(
        r##"{"allOf": [{"$ref": "#/$defs/base"}], "properties": {"b": {"const": 2}}, "required": ["b"], "$defs": {"base": {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}}}"##,
        &[r#"{"a": 1, "b": 2}"#],
        &[r#"{"a": 1}"#, r#"{"b": 2}"#, r#"{"a": 1, "b": 2, "c": 3}"#],
    );
    allows(
        r#"{"type": "object", "properties": {"k": {"enum": ["x", "y"]}}, "required": ["k"], "anyOf": [{"properties": {"k": {"const": "x"}, "a": {"type": "null"}}, "required": ["a"]}, {"properties": {"k": {"const": "y"}}}]}"#,
        &[r#"{"k": "x", "a": null}"#, r#"{"k": "y"}"#],
        &[r#"{"k": "x"}"#, r#"{"k": "y", "a": null}"#],
    );
}

#[test]
fn property_names_are_counted_and_matched() {
    allows(
        r#"{"type": "object", "propertyNames": {"pattern": "^[a-z]+$", "maxLength": 3}, "additionalProperties": {"type": "number"}}"#,
        &["{}", r#"{"ab": 1, "cde": 2.5}"#],
        &[r#"{"A": 1}"#, r#"{"abcd": 1}"#],
    );
    allows(
        r#"{"type": "object", "propertyNames": {"type": "string", "enum": ["a", "b"]}, "additionalProperties": {"type": "number"}, "required": ["a"]}"#,
        &[r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#],
        &["{}", r#"{"a": 1, "c": 2}"#, r#"{"a": 1, "a": 2}"#],
    );
    allows(
        r#"{"type": "object", "properties": {"x1": {"type": "integer"}}, "patternProperties": {"^x": {"minimum": 3}, "[0-9]$": {"maximum": 5}}, "additionalProperties": false}"#,
        &["{}", r#"{"x1": 4}"#, r#"{"x": 9}"#, r#"{"y2": 1}"#, r#"{"x2": 4}"#],
        &[r#"{"x1": 2}"#, r#"{"x1": 6}"#, r#"{"x2": 9}"#, r#"{"z": 1}"#, r#"{"x1": 4.5}"#],
    );
    allows(
        r#"{"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2, "maxProperties": 2}"#,
        &[r#"{"a": 1, "b": 2}"#, r#"{"a": 1, "c": 2}"#, r#"{"b": 1, "c": 2}"#],
        &["{}", r#"{"a": 1}"#, r#"{"a": 1, "b": 2, "c": 3}"#],
    );
    allows(
        r#"{"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "null"}, "minProperties": 2, "maxProperties": 3}"#,
        &[
            r#"{"a": 1, "b": null}"#,
            r#"{"b": null, "c": null}"#,
            r#"{"a": 1, "b": null, "c": null}"#,
        ],
        &["{}", r#"{"a": 1}"#, r#"{"b": null}"#, r#"{"a": 1, "b": null, "c": null, "d": null}"#],
    );
    // More members are required than are listed, so others are allowed.
    allows(
        r#"{"type": "object", "properties": {"a": {}}, "minProperties": 2}"#,
        &[r#"{"a": 1, "b": 2}"#],
        &[r#"{"a": 1}"#],
    );
    allows(
        r#"{"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": {"required": ["a"]}}}"#,
        &["{}", r#"{"b": 1}"#, r#"{"a": 1, "b": 1}"#, r#"{"a": 1, "b": 1, "c": 1}"#],
        &[r#"{"a": 1}"#, r#"{"c": 1}"#, r#"{"b": 1, "c": 1}"#],
    );
}

#[test]
fn references_resolve_as_in_the_standard() {
    for (definition, reference) in [
        ("a b", "#/$defs/a%20b"),
        ("a b", "#/$defs/a b"),
        ("a\\\"b", "#/%24defs/a%22b"),
        ("a/b", "#/$defs/a~1b"),
        ("a~b", "#/$defs/a~0b"),
        ("ü%", "#/$defs/%C3%BC%25"),
        ("x", "#name"),
        ("x", "other.json"),
        ("x", "https://example.com/other.json#name"),
        ("x", "/other.json#"),
    ] {
        let id = if reference.contains("other") { r#""$id": "other.json","# } else { "" };
        let schema = format!(
            r#"{{"$id": "https://example.com/root.json", "type": "array", "items": {{"$ref": "{reference}"}}, "$defs": {{"{definition}": {{{id} "$anchor": "name", "type": "null"}}}}}}"#
        );
        allows(&schema, &["[]", "[null]"], &["[1]"]);
    }
    // A schema may be recursive, even with keywords beside the reference.
    allows(
        r##"{"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#", "required": ["v"]}, {"type": "null"}]}}, "required": ["next"]}"##,
        &[r#"{"next": null}"#, r#"{"v": 1, "next": {"v": 2, "next": null}}"#],
        &[r#"{"next": {"next": null}}"#, "{}"],
    );
    allows(
        r##"{"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {"a": {"type": "object", "properties": {"c": {"$ref": "#/$defs/a"}}}, "b": {"type": "object", "properties": {"c": {"$ref": "#/$defs/b"}, "n": {"const": 1}}}}}"##,
        &["{}", r#"{"c": {"c": {}}}"#, r#"{"c": {"n": 1}, "n": 1}"#],
        &[r#"{"c": 1}"#, r#"{"c": {"n": 2}}"#],
    );
}

#[test]
fn not_and_if_are_enforced() {
    for (schema, yes, no) in [
        (
            r#"{"not": {"type": ["integer", "object"]}}"#,
            &["1.5", "null", r#""a""#, "[]"][..],
            &["1", "{}"][..],
        ),
        (
            r#"{"type": "string", "not": {"enum": ["a", "b"]}}"#,
            &[r#""c""#, r#""ab""#, r#""""#],
            &[r#""a""#, r#""b""#],
        ),
        (r#"{"type": "integer", "not": {"const": 5}}"#, &["4", "6", "55"], &["5"]),
        (
            r#"{"type": "string", "not": {"pattern": "^x"}}"#,
            &[r#""ax""#, r#""""#],
            &[r#""x""#, r#""xa""#],
        ),
        (
            r#"{"type": "object", "additionalProperties": true, "not": {"required": ["a"]}}"#,
            &["{}", r#"{"b": 1}"#],
            &[r#"{"a": 1}"#],
        ),
        (r#"{"items": {"not": {}}, "type": "array"}"#, &["[]"], &["[1]"]),
        (
            r#"{"type": "object", "properties": {"k": {"enum": ["card", "cash"]}, "n": {"type": "integer"}}, "required": ["k"], "if": {"properties": {"k": {"const": "card"}}}, "then": {"required": ["n"]}, "else": {"properties": {"n": false}}}"#,
            &[r#"{"k": "cash"}"#, r#"{"k": "card", "n": 1}"#],
            &[r#"{"k": "card"}"#, r#"{"k": "cash", "n": 1}"#, r#"{"k": "card", "n": 1, "m": 2}"#],
        ),
        (
            r#"{"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 2}, "maxItems": 3}"#,
            &["[2]", "[1, 2, 1]", "[2, 2, 2]"],
            &["[]", "[1]", "[1, 1, 1, 2]"],
        ),
        (
            r#"{"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 2}, "minContains": 0, "maxContains": 1}"#,
            &["[]", "[1, 1]", "[1, 2, 1]"],
            &["[2, 2]", "[2, 1, 2]"],
        ),
        (
            r#"{"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": false, "minItems": 1}"#,
            &["[1]", "[1, 2]"],
            &["[]", "[2]", "[1, 2, 3]"],
        ),
        (
            r#"{"type": "array", "items": [{"const": 1}], "additionalItems": {"type": "null"}}"#,
            &["[]", "[1, null]"],
            &["[1, 1]"],
        ),
    ] {
        allows(schema, yes, no);
    }
}

#[test]
fn errors_name_the_place_and_show_no_grammar() {
    let inside = |inner: &str| {
        format!(
            r#"{{"type": "object", "properties": {{"a": {inner}}}, "required": ["a"], "additionalProperties": false}}"#
        )
    };
    for (schema, expected) in [
        (r#"{"properties": {"a": {"type": "strin"}}}"#.to_owned(), r#"#/properties/a/type: found "strin", expected null, boolean"#),
        (inside(r##"{"$ref": "#/$defs/None"}"##), r##"#/properties/a/$ref: found "#/$defs/None", but there is no "$defs" in #"##),
        (inside(r#"{"$ref": "http://example.com/x"}"#), r#"#/properties/a/$ref: found "http://example.com/x", expected a reference within this schema"#),
        (inside(r#"{"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 2}"#), "#/properties/a: `minItems` is 3, but `maxItems` is 2"),
        (inside(r#"{"type": "integer", "minimum": 12345678901234567890123, "maximum": 1}"#), "#/properties/a: `minimum` is 12345678901234567890123, but `maximum` is 1"),
        (inside(r#"{"type": "string", "minLength": 3, "maxLength": 2}"#), "#/properties/a: `minLength` is 3, but `maxLength` is 2"),
        (inside(r#"{"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}"#), "#/properties/a: no number satisfies"),
        (inside(r#"{"type": "string", "pattern": "(a"}"#), r#"#/properties/a/pattern: found "(a": unclosed group"#),
        (inside(r#"{"type": "string", "pattern": "^a$", "enum": ["b"]}"#), "#/properties/a: no string satisfies"),
        (inside(r#"{"allOf": [{"type": "string"}, {"type": "null"}]}"#), "#/properties/a: no value satisfies it"),
        (inside("false"), r#"#: "a" is required, but the schema does not allow it"#),
        (inside(r#"{"type": "array", "items": false, "minItems": 1}"#), "#/properties/a: an item is required, but the schema does not allow it"),
        (r#"{"type": "object", "properties": {"a": {}}, "required": ["a", "b"], "additionalProperties": false}"#.to_owned(), r#"#: "b" is required, but the schema does not allow it"#),
        (r#"{"type": "object", "required": ["a", "b"], "maxProperties": 1}"#.to_owned(), "#: 2 properties are required, but `maxProperties` is 1"),
        (r#"{"type": "object", "properties": {"a": {"required": true}}}"#.to_owned(), "#/properties/a/required: found true, expected an array of names"),
        (r#"{"items": {"uniqueItems": true}}"#.to_owned(), "#/items: `uniqueItems` is not supported"),
        (r#"{"not": {"oneOf": [{"type": "null"}]}}"#.to_owned(), "#/not: `oneOf` is not supported within `not` or `if`"),
        (
            json!({ "allOf": (1..25).map(|n| json!({ "pattern": format!("a{{{n}}}") })).collect::<Vec<_>>() }).to_string(),
            "#: found 24 patterns and formats for the same string, expected at most 8",
        ),
        (r#"{"items": 5}"#.to_owned(), "#/items: found 5, expected a schema"),
        (r#"{"anyOf": {}}"#.to_owned(), "#/anyOf: found {}, expected an array of schemas"),
        (r#"{"minimum": "5"}"#.to_owned(), r#"#/minimum: found "5", expected a number"#),
        (r#"{"minLength": -1}"#.to_owned(), "#/minLength: found -1, expected a whole number"),
        (r#"{"multipleOf": 0}"#.to_owned(), "#/multipleOf: found 0, expected a number above 0"),
        (r#"{"multipleOf": 999983}"#.to_owned(), "#/multipleOf: found 999983, expected a number with significant digits up to 10000"),
        (r#"{"const": 1e99999}"#.to_owned(), "#/const: found 1e99999, expected a number with fewer digits"),
        (r##"{"$ref": "#"}"##.to_owned(), "#: circular reference"),
        (r##"{"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}"##.to_owned(), "#/$defs/a: circular reference"),
        (r##"{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}"##.to_owned(), "#/properties/a: infinite recursion: every value would have to contain another"),
        ("[1]".to_owned(), "#: found [1], expected a schema"),
        (r#"{"a": "#.to_owned(), "EOF"),
    ] {
        let error = problem(&schema);
        assert!(error.starts_with(expected) || expected == "EOF" && error.contains(expected), "{schema}: {error}");
        assert!(!error.contains("x-guidance") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn hostile_schemas_terminate() {
    let deep =
        |open: &str, close: &str, n: usize| format!("{}true{}", open.repeat(n), close.repeat(n));
    let chain: Vec<String> =
        (0..2000).map(|i| format!(r##""d{i}": {{"$ref": "#/$defs/d{}"}}"##, i + 1)).collect();
    let crossed: Vec<Value> = (0..20)
        .map(|i| json!({ "anyOf": [{ "properties": { format!("a{i}"): {} } }, { "required": [format!("b{i}")] }] }))
        .collect();
    let many: Vec<String> = (0..5000).map(|i| format!("\"value number {i}\"")).collect();
    for schema in [
        deep(r#"{"items":"#, "}", 126),
        deep(r#"{"not":"#, "}", 126),
        deep(r#"{"allOf":["#, "]}", 60),
        deep(r#"{"items":"#, "}", 5000),
        format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{}, "d2000": {{}}}}}}"##, chain.join(",")),
        json!({ "allOf": crossed }).to_string(),
        format!(r#"{{"enum": [{}]}}"#, many.join(",")),
        format!(r#"{{"enum": [{}], "pattern": "^value number \\d+$", "maxLength": 16}}"#, many.join(",")),
        r#"{"type": "array", "minItems": 100000, "maxItems": 100000}"#.to_owned(),
        r#"{"type": "array", "contains": {"const": 1}, "minContains": 99999}"#.to_owned(),
        r#"{"type": "string", "minLength": 99999999999999999999}"#.to_owned(),
        r#"{"const": -9223372036854775808, "minimum": -9223372036854775808, "exclusiveMinimum": -1e308, "multipleOf": 1e-400}"#.to_owned(),
        r#"{"type": "object", "patternProperties": {"a": {}, "b": {}, "c": {}, "d": {}, "e": {}}}"#.to_owned(),
        r#"{"type": "object", "properties": {"": {}, "\u0000": {}, "\"": {}}, "required": ["", "\u0000", "\""]}"#.to_owned(),
    ] {
        let _ = compile(&byte_factory(), &schema);
    }
    allows(
        r#"{"type": "object", "properties": {"": {"const": 1}, "\u0000\"é": {"const": 2}}, "required": ["", "\u0000\"é"]}"#,
        &[r#"{"": 1, "\u0000\"é": 2}"#],
        &["{}"],
    );
}

#[test]
fn a_call_or_an_answer_is_accepted_if_both_are_allowed() {
    let form = CallForm {
        before: "<call>".to_owned(),
        after: "</call>".to_owned(),
        between: Some("\n".to_owned()),
        name: "name".to_owned(),
        arguments: "arguments".to_owned(),
        ..CallForm::default()
    };
    let bare = CallForm {
        name: "name".to_owned(),
        arguments: "arguments".to_owned(),
        ..CallForm::default()
    };
    let functions = [("f".to_owned(), r##"{"type": "object", "properties": {"x": {"$ref": "#/$defs/i"}}, "required": ["x"], "$defs": {"i": {"type": "integer"}}}"##.to_owned()), ("now".to_owned(), r#"{"type": "object", "properties": {}}"#.to_owned())];
    let answer = r#"{"type": "object", "properties": {"name": {"enum": ["f", "g"]}, "argument": {"type": "null"}}, "required": ["name"]}"#;
    let guide = |form: Option<&CallForm>, answer: Option<&str>, markers: &[String]| {
        let wanted = Wanted { answer, calls: &functions, form, markers };
        super::super::guide(&byte_factory(), grammar(wanted, &text_only).unwrap()).unwrap()
    };
    let (call, now) =
        (r#"{"name": "f", "arguments": {"x": 1}}"#, r#"{"name": "now", "arguments": {}}"#);
    let both = guide(Some(&form), Some(answer), &[]);
    for (text, ends) in [
        (format!("<call>{call}</call>"), true),
        (format!("<call>{call}</call>\n<call>{now}</call>"), true),
        (r#"{"name": "f"}"#.to_owned(), true),
        (r#"{"name": "g", "argument": null}"#.to_owned(), true),
        (call.to_owned(), false),
        (r#"<call>{"name": "now", "arguments": {"x": 1}}</call>"#.to_owned(), false),
        (format!("<call>{call}</call>{{}}"), false),
    ] {
        assert_eq!(follow(&both, &text).1, ends, "{text}");
    }
    // Without markers around calls, both begin the same way.
    let alike = guide(Some(&bare), Some(answer), &[]);
    for text in [call, now, r#"{"name": "f"}"#, r#"{"name": "f", "argument": null}"#] {
        assert!(follow(&alike, text).1, "{text}");
    }
    assert!(!follow(&guide(Some(&bare), None, &[]), r#"{"name": "f"}"#).1);
    // If calls have no grammar, anything may follow a marker that begins one.
    let markers = ["<tool>".to_owned(), "[CALL]".to_owned()];
    let mut open = guide(None, Some(answer), &markers);
    open.opened_by(&markers);
    for (text, ends) in [
        ("<tool>f(x=1)</tool> and so on", true),
        ("[CALL]", true),
        (r#"{"name": "f"}"#, true),
        ("<tool", false),
        ("no call", false),
        (r#"{"name": "f"}<tool>"#, false),
    ] {
        assert_eq!(follow(&open, text).1, ends, "{text}");
    }
    let wrong = [("f".to_owned(), r#"{"type": "objec"}"#.to_owned())];
    let wanted = Wanted { answer: None, calls: &wrong, form: Some(&form), markers: &[] };
    let fault = grammar(wanted, &text_only).err().unwrap();
    assert!(!fault.of_answer);
    let error = fault.text;
    assert!(error.starts_with(r#"parameters of "f": #/type: found "objec""#), "{error}");
}

/// Schemas as generators write them: `tests/golden/schemas.json`, whose head says how they were made.
#[test]
fn generated_schemas_accept_their_own_examples() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schemas.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let factory = byte_factory();
    let mut count = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = &case["name"];
        let guide = compile(&factory, case["schema"].as_str().unwrap());
        let guide = guide.unwrap_or_else(|error| panic!("{name}: {error}"));
        for (key, ends) in [("valid", true), ("invalid", false)] {
            for text in case[key].as_array().unwrap() {
                assert_eq!(follow(&guide, text.as_str().unwrap()).1, ends, "{name}: {text}");
                count += 1;
            }
        }
    }
    assert!(count > 60, "{count}");
}

/// The public JSON Schema Test Suite: `JSON_SCHEMA_SUITE=FOLDER cargo test --release --lib json_schema_suite --
/// --ignored --nocapture`, where FOLDER holds `tests/draft2020-12`. Prints the table of `docs/schemas.md`.
#[test]
#[ignore = "needs the public test suite"]
fn json_schema_suite() {
    let folder = std::env::var("JSON_SCHEMA_SUITE").expect("JSON_SCHEMA_SUITE: the suite's folder");
    let wrong = suite::run(Path::new(&folder));
    assert_eq!(wrong, 0, "schemas are neither enforced nor refused");
}

mod suite {
    use super::*;
    use std::collections::BTreeMap;

    /// Cases that differ here on purpose: file, start of the description, reason.
    const OTHERWISE: &[(&str, &str, &str)] = &[
        ("format", "", "ten formats are enforced"),
        ("oneOf", "oneOf", "`oneOf` is taken for `anyOf`"),
        (
            "unevaluatedProperties",
            "dynamic evalation inside nested refs",
            "`oneOf` is taken for `anyOf`",
        ),
        ("vocabulary", "", "`$vocabulary` of another metaschema is not looked at"),
        (
            "optional/format/date-time",
            "validation of date-time strings: a valid date-time with a leap second",
            "in universal time only",
        ),
        (
            "optional/format/time",
            "validation of time strings: valid leap second",
            "in universal time only",
        ),
        (
            "optional/format/email",
            "validation of e-mail addresses",
            "no quoted names, no IPv6 addresses",
        ),
    ];
    /// Format tests to run.
    const FORMATS: &[&str] = &[
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
        "unknown",
    ];

    /// Results of one file's cases.
    #[derive(Default)]
    struct Row {
        enforced: usize,
        refused: usize,
        closed: usize,
        otherwise: usize,
        wrong: usize,
        reasons: BTreeMap<String, usize>,
    }

    pub fn run(folder: &Path) -> usize {
        let tests = folder.join("tests/draft2020-12");
        let mut files: Vec<_> =
            std::fs::read_dir(&tests).unwrap().map(|e| e.unwrap().path()).collect();
        files.extend(FORMATS.iter().map(|name| tests.join(format!("optional/format/{name}.json"))));
        files.retain(|path| path.extension().is_some_and(|e| e == "json"));
        files.sort();
        let factory = byte_factory();
        let mut wrong = 0;
        println!(
            "| keyword | enforced | refused by name | closed objects | otherwise | wrong |\n|---|---|---|---|---|---|"
        );
        for path in files {
            let name = path.strip_prefix(&tests).unwrap().with_extension("").display().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            let row = file(&factory, &name, &text);
            println!(
                "| {name} | {} | {} | {} | {} | {} |",
                row.enforced, row.refused, row.closed, row.otherwise, row.wrong
            );
            for (reason, count) in &row.reasons {
                eprintln!("  {name}: {count} × {reason}");
            }
            wrong += row.wrong;
        }
        wrong
    }

    fn file(factory: &ParserFactory, name: &str, text: &str) -> Row {
        let mut row = Row::default();
        let groups: Value = serde_json::from_str(text).unwrap();
        let texts = schemas_as_written(text);
        for (group, schema) in groups.as_array().unwrap().iter().zip(texts) {
            let guide = compile(factory, &schema);
            for test in group["tests"].as_array().unwrap() {
                let valid = test["valid"].as_bool().unwrap();
                let title = format!(
                    "{}: {}",
                    group["description"].as_str().unwrap(),
                    test["description"].as_str().unwrap()
                );
                let accepted = match &guide {
                    Err(error)
                        if error.contains("no value satisfies")
                            || error.contains("infinite recursion") =>
                    {
                        false
                    }
                    Err(error) => {
                        row.refused += 1;
                        *row.reasons.entry(format!("refused: {error}")).or_default() += 1;
                        continue;
                    }
                    Ok(guide) => spellings(&test["data"]).iter().any(|text| follow(guide, text).1),
                };
                let known = OTHERWISE
                    .iter()
                    .any(|(file, begin, _)| *file == name && title.starts_with(begin));
                if accepted == valid {
                    row.enforced += 1;
                } else if known {
                    row.otherwise += 1;
                } else if valid && lists_properties(&group["schema"]) {
                    row.closed += 1;
                    eprintln!("CLOSED {name}: {title}");
                } else {
                    row.wrong += 1;
                    eprintln!("WRONG {name}: {title}: {schema} {} {valid}", test["data"]);
                }
            }
        }
        row
    }

    /// The source of each schema in a file, with all digits of its numbers.
    fn schemas_as_written(text: &str) -> Vec<String> {
        let groups: Vec<std::collections::HashMap<&str, &serde_json::value::RawValue>> =
            serde_json::from_str(text).unwrap();
        groups.iter().map(|group| group["schema"].get().to_owned()).collect()
    }

    fn lists_properties(schema: &Value) -> bool {
        match schema {
            Value::Object(all) => {
                all.contains_key("properties") || all.values().any(lists_properties)
            }
            Value::Array(all) => all.iter().any(lists_properties),
            _ => false,
        }
    }

    /// The value as an answer writes it, with its members in any order.
    fn spellings(value: &Value) -> Vec<String> {
        const MOST: usize = 800;
        match value {
            Value::Number(n) => {
                let digits = super::super::number::Decimal::read(&n.to_string());
                vec![digits.map_or_else(|| n.to_string(), |d| d.to_string())]
            }
            Value::String(text) => vec![quoted(text)],
            Value::Array(all) => {
                let mut texts = vec![String::new()];
                for (index, value) in all.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    let inner = spellings(value);
                    texts = texts
                        .iter()
                        .flat_map(|text| inner.iter().map(move |v| format!("{text}{comma}{v}")))
                        .take(MOST)
                        .collect();
                }
                texts.into_iter().map(|text| format!("[{text}]")).collect()
            }
            Value::Object(all) => {
                let members: Vec<Vec<String>> = all
                    .iter()
                    .map(|(name, value)| {
                        spellings(value)
                            .into_iter()
                            .map(|v| format!("{}: {v}", quoted(name)))
                            .collect()
                    })
                    .collect();
                let mut texts = Vec::new();
                for order in orders(members.len()) {
                    let mut some = vec![String::new()];
                    for (at, index) in order.into_iter().enumerate() {
                        let comma = if at > 0 { ", " } else { "" };
                        some = some
                            .iter()
                            .flat_map(|text| {
                                members[index].iter().map(move |v| format!("{text}{comma}{v}"))
                            })
                            .take(MOST)
                            .collect();
                    }
                    texts.extend(some);
                }
                texts.truncate(MOST);
                texts.into_iter().map(|text| format!("{{{text}}}")).collect()
            }
            other => vec![other.to_string()],
        }
    }

    fn orders(count: usize) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new()];
        for next in 0..count {
            if count > 6 {
                all.iter_mut().for_each(|order: &mut Vec<usize>| order.push(next));
                continue;
            }
            all = all
                .iter()
                .flat_map(|order| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, next);
                        order
                    })
                })
                .collect();
        }
        all
    }
}
