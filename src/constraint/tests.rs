//! Constraints without a model: each byte is a token.

use super::gbnf::{Choice, Grammar, Item};
use super::*;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) fn byte_factory() -> ParserFactory {
    factory(&ApproximateTokEnv::single_byte_env()).unwrap()
}

fn lark(source: String) -> GrammarInit {
    GrammarInit::Serialized(TopLevelGrammar::from_lark(source))
}

fn no_token(_: &str) -> Option<u32> {
    None
}

/// Whether the guide accepts a text byte by byte, and whether the answer may end after it.
pub(super) fn follow(guide: &Guide, text: &str) -> (bool, bool) {
    let mut guide = guide.clone();
    let end = llguidance::toktrie::TokenizerEnv::eos_token(&ApproximateTokEnv::single_byte());
    let ends = |mask: &[u32]| mask[end as usize / 32] >> (end % 32) & 1 == 1;
    for byte in text.bytes() {
        let id = u32::from(byte);
        match guide.step().unwrap() {
            Step::Forced(forced) if forced == id => {}
            Step::Among(mask) if mask[id as usize / 32] >> (id % 32) & 1 == 1 => {
                guide.accept(id).unwrap();
            }
            Step::End | Step::Forced(_) | Step::Among(_) => return (false, false),
        }
    }
    let ends = match guide.step().unwrap() {
        Step::End => true,
        Step::Forced(_) => false,
        Step::Among(mask) => ends(mask),
    };
    (true, ends)
}

/// All strings over these letters up to a length.
fn texts(letters: &str, longest: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..longest {
        let until = all.len();
        for at in from..until {
            all.extend(letters.chars().map(|c| format!("{}{c}", all[at])).collect::<Vec<_>>());
        }
        from = until;
    }
    all
}

/// Grammars that a greedy lexer would get wrong, and every kind of syntax.
const GRAMMARS: &[&str] = &[
    // A greedy `a` takes the whole run and leaves nothing for the second one.
    "root ::= a a\na ::= \"a\"* | \"b\"",
    "root ::= [ab]* \"a\" \"b\"",
    "root ::= x | \"(\" root \")\"\nx ::= [a(]+ \"b\"?",
    "root ::= \"ab\" | \"a\" root?",
    "root ::= (\"a\" | \"ab\") (\"b\" | \"c\")? root?",
    "root ::= \"a\"{2} | \"b\"{1,} | \"c\"{0,2} | \"(\"{0} \"a\"",
    "root ::= [^a] . | \"a\\n\"",
    "root ::= | \"a\" root \"b\"",
    "root ::= \"ab\"* (\"c\" |)",
    "root ::= \"(\" (\n  b |\n  root # nested\n)+ \")\"\nb ::= [ab]{1,3}",
    "# both\nroot ::= \"a\" b c |\n  c \"b\"\n\nb ::= \"b\" c?\r\nc ::= [\\x61-b\\u0063]+",
    "root ::= ((\"a\"?)* \"b\")? root2\nroot2 ::= \"c\" root2 | \"c\"",
];

#[test]
fn gbnf_accepts_every_derivation() {
    let factory = byte_factory();
    let texts: Vec<String> = [("abc(\n", 4), ("ab", 7), ("a()b", 5)]
        .iter()
        .flat_map(|(letters, longest)| texts(letters, *longest))
        .collect();
    for source in GRAMMARS {
        let grammar = gbnf::parse(source, &no_token).unwrap();
        for form in grammar.sources() {
            let guide = guide(&factory, lark(form.clone())).unwrap();
            for text in &texts {
                let means = ways(&grammar, &grammar.rules[0], text, 0).contains(&text.len());
                let (_, ends) = follow(&guide, text);
                assert_eq!(ends, means, "{text:?} by {source}\n{form}");
            }
        }
    }
}

/// The offsets where a match of a choice from `at` may end: the definition of the semantics.
fn ways(grammar: &Grammar, choice: &Choice, text: &str, at: usize) -> BTreeSet<usize> {
    let mut ends = BTreeSet::new();
    for sequence in choice {
        let mut here = BTreeSet::from([at]);
        for item in sequence {
            here = here.into_iter().flat_map(|at| item_ways(grammar, item, text, at)).collect();
        }
        ends.extend(here);
    }
    ends
}

fn item_ways(grammar: &Grammar, item: &Item, text: &str, at: usize) -> BTreeSet<usize> {
    match item {
        Item::Class(ranges, is) => {
            let c = text[at..].chars().next();
            let matching = |c: &char| ranges.iter().any(|(a, b)| (a..=b).contains(&c)) == *is;
            c.filter(matching).map(|c| at + c.len_utf8()).into_iter().collect()
        }
        Item::Rule(rule) => ways(grammar, &grammar.rules[*rule], text, at),
        Item::Group(choice) => ways(grammar, choice, text, at),
        Item::Token(..) => BTreeSet::new(),
        Item::Repeat(item, least, most) => {
            let (mut here, mut ends) = (BTreeSet::from([at]), BTreeSet::new());
            for count in 0..=most.unwrap_or(least + text.len() as u32 + 1) {
                if count >= *least {
                    ends.extend(here.iter().copied());
                }
                here = here.into_iter().flat_map(|at| item_ways(grammar, item, text, at)).collect();
            }
            ends
        }
    }
}

#[test]
fn expensive_or_invalid_constraints_are_refused_up_front() {
    let factory = byte_factory();
    let lark = |source: String| guide(&factory, lark(source)).map(drop);
    let schema = |v: Value| schema::tests::compile(&factory, &v.to_string()).map(drop);
    let doubled = (0..40).map(|i| format!("T{}: T{i} T{i}", i + 1)).collect::<Vec<_>>().join("\n");
    let crossed: Vec<Value> = (0..20)
        .map(|i| json!({ "anyOf": [{ "properties": { format!("a{i}"): {} } }, { "required": [format!("b{i}")] }] }))
        .collect();
    for (name, result) in [
        (
            "groups within groups",
            lark(format!("start: {}\"a\"{}", "(".repeat(50_000), ")".repeat(50_000))),
        ),
        ("doubling terminals", lark(format!("start: T40\nT0: \"a\"\n{doubled}"))),
        ("endless without an end", lark("start: \"a\" start".to_owned())),
        ("an expression of many states", lark("start: /(x?){1000}x{1000}/".to_owned())),
        ("no such rule", lark("start: nothing".to_owned())),
        ("a schema that is itself", schema(json!({ "$ref": "#" }))),
        ("all of many choices", schema(json!({ "allOf": crossed }))),
        ("nothing fits", schema(json!({ "type": "integer", "minimum": 5, "maximum": 4 }))),
        ("many remainders", schema(json!({ "multipleOf": 999_983 }))),
    ] {
        assert!(result.is_err(), "{name}");
    }
    for source in [
        "root ::= ((\"a\"{0,500}){0,500}){0,500}",
        &format!("root ::= {}\"a\"{}", "(".repeat(101), ")".repeat(101)),
        "root ::= \"a",
        "root ::= [b-a]",
        "root ::= [",
        "root ::= b",
        "root ::= \"a\" }",
        "root ::= * \"a\"",
        "root ::= \"\\q\"",
        "root ::= \"\\uD800\"",
        "root ::= \"a\"{3,2}",
        "root ::= \"a\"{99999}",
        "root ::= <nothing>",
        "roof ::= \"a\"",
        "root = \"a\"",
        "",
    ] {
        assert!(gbnf::parse(source, &no_token).is_err(), "{source}");
    }
    let error = gbnf::parse("root ::= \"a\"\n\nb ::= [a-", &no_token).err().unwrap();
    assert!(error.starts_with("line 3:"), "{error}");
}

/// A copy is how a generation goes back.
#[test]
fn a_copy_goes_its_own_way_from_where_it_was_made() {
    let grammar = lark("start: /[a-c]+/ \":\" (\"x\" | \"yy\") \"!\"".to_owned());
    let mut guide = guide(&byte_factory(), grammar).unwrap();
    let accept = |guide: &mut Guide, text: &str| {
        for byte in text.bytes() {
            match guide.step().unwrap() {
                Step::Forced(id) => assert_eq!(id, u32::from(byte)),
                Step::Among(_) => guide.accept(byte.into()).unwrap(),
                Step::End => panic!("the end before {byte}"),
            }
        }
    };
    accept(&mut guide, "ab");
    let kept = guide.clone();
    accept(&mut guide, "c:");
    let later = guide.clone();
    accept(&mut guide, "yy!");
    assert_eq!(guide.step(), Ok(Step::End));
    for (from, text, expected) in [
        (&later, "x!", (true, true)),
        (&kept, "bca:yy!", (true, true)),
        (&later, "yy", (true, false)),
        (&kept, "x", (false, false)),
    ] {
        assert_eq!(follow(from, text), expected, "{text}");
    }
}

#[test]
fn a_constraint_may_start_after_a_marker() {
    let grammar = lark("start: \"yes\" | \"no\"".to_owned());
    let guide = guide(&byte_factory(), grammar).unwrap().after(Some("</think>"));
    for (text, expected) in [
        ("yes", (true, false)),
        ("I think <<</think>yes", (true, true)),
        ("</thin</think>no", (true, true)),
        ("</think>maybe", (false, false)),
        ("</think>yes</think>", (false, false)),
    ] {
        assert_eq!(follow(&guide, text), expected, "{text}");
    }
}
