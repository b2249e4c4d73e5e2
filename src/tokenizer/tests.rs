//! Tokenizers on made-up vocabularies: compared with plain definitions, and how their cost grows.

use super::*;
use crate::model::Shard;
use std::fmt::Write as _;
use std::sync::Arc;
use tealight_bundle::mapped::Mapped;

/// A small random number generator (xorshift), so that a failure can be repeated.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    /// Up to `most` of these characters.
    pub(super) fn text(&mut self, of: &str, most: usize) -> String {
        let of: Vec<char> = of.chars().collect();
        (0..self.roll(most + 1)).map(|_| of[self.roll(of.len())]).collect()
    }
}

/// A metadata value.
enum Meta<'a> {
    Text(&'a str),
    Texts(Vec<String>),
    Number(u32),
    Numbers(Vec<u32>),
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
    Flag(bool),
}

/// A model file without tensors.
fn file(metadata: &[(&str, Meta)]) -> ModelFile {
    let mut bytes = b"GGUF".to_vec();
    let put_text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    let put_array = |bytes: &mut Vec<u8>, kind: u32, count: usize| {
        bytes.extend(9_u32.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend((count as u64).to_le_bytes());
    };
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut bytes, key);
        match value {
            Meta::Text(text) => {
                bytes.extend(8_u32.to_le_bytes());
                put_text(&mut bytes, text);
            }
            Meta::Texts(texts) => {
                put_array(&mut bytes, 8, texts.len());
                texts.iter().for_each(|text| put_text(&mut bytes, text));
            }
            Meta::Number(number) => {
                bytes.extend(4_u32.to_le_bytes());
                bytes.extend(number.to_le_bytes());
            }
            Meta::Numbers(numbers) => {
                put_array(&mut bytes, 5, numbers.len());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }
            Meta::Floats(numbers) => {
                put_array(&mut bytes, 6, numbers.len());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }
            Meta::Bytes(numbers) => {
                put_array(&mut bytes, 0, numbers.len());
                bytes.extend(numbers);
            }
            Meta::Flag(flag) => {
                bytes.extend(7_u32.to_le_bytes());
                bytes.push(u8::from(*flag));
            }
        }
    }
    let disk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(disk.path(), &bytes).unwrap();
    let mapped = Arc::new(Mapped::open(disk.path()).unwrap());
    ModelFile::open(vec![Shard { name: "test".into(), file: mapped, range: 0..bytes.len() }])
        .unwrap()
}

/// A vocabulary of `model`: texts with their kinds and scores.
fn vocabulary(model: &str, tokens: &[(String, u32, f32)], more: Vec<(&str, Meta)>) -> ModelFile {
    let texts = tokens.iter().map(|(text, ..)| text.clone()).collect();
    let mut metadata = vec![
        ("tokenizer.ggml.model", Meta::Text(model)),
        ("tokenizer.ggml.tokens", Meta::Texts(texts)),
        ("tokenizer.ggml.token_type", Meta::Numbers(tokens.iter().map(|t| t.1).collect())),
        ("tokenizer.ggml.scores", Meta::Floats(tokens.iter().map(|t| t.2).collect())),
    ];
    metadata.extend(more);
    file(&metadata)
}

fn pieces(texts: &[Fragment]) -> String {
    let mut out = String::new();
    for fragment in texts {
        let _ = match fragment {
            Fragment::Token(id) => write!(out, "<{id}>"),
            Fragment::Text(text) => write!(out, "[{text}]"),
        };
    }
    out
}

/// The reference's algorithm, step by step: for each token, longest first, in each remaining text.
fn cut_by_definition(
    text: &str,
    tokens: &[(String, u32)],
    parse_special: bool,
    strips: &dyn Fn(&str) -> (bool, bool),
) -> String {
    let blank = |c: char| matches!(c, ' ' | '\t'..='\r');
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    order.sort_by_key(|&id| std::cmp::Reverse(tokens[id as usize].0.len()));
    let mut all = vec![Fragment::Text(text)];
    for id in order {
        let (token, kind) = &tokens[id as usize];
        let counts = *kind == 4 || parse_special && matches!(kind, 2 | 3);
        if token.is_empty() || !counts {
            continue;
        }
        let (before, after) = strips(token);
        let mut next = Vec::new();
        for fragment in all {
            let Fragment::Text(mut rest) = fragment else {
                next.push(fragment);
                continue;
            };
            while let Some(at) = rest.find(token.as_str()) {
                let left = &rest[..at];
                next.push(Fragment::Text(if before { left.trim_end_matches(blank) } else { left }));
                next.push(Fragment::Token(id));
                rest = &rest[at + token.len()..];
                rest = if after { rest.trim_start_matches(blank) } else { rest };
            }
            next.push(Fragment::Text(rest));
        }
        next.retain(|fragment| !matches!(fragment, Fragment::Text("")));
        all = next;
    }
    all.retain(|fragment| !matches!(fragment, Fragment::Text("")));
    pieces(&all)
}

#[test]
fn special_tokens_match_a_search_for_each() {
    let mut dice = Dice(11);
    for round in 0..240 {
        let tokens: Vec<(String, u32)> =
            (0..dice.roll(9)).map(|_| (dice.text("ab ", 5), [1, 2, 3, 4][dice.roll(4)])).collect();
        let of: Vec<_> = tokens.iter().map(|(text, kind)| (text.clone(), *kind, 0.0)).collect();
        if of.is_empty() {
            continue;
        }
        // Some models' tokens strip the white space after them; in others, one token strips that before it.
        let (key, value) = [
            ("general.name", "x"),
            ("general.name", "Phi-3"),
            ("tokenizer.ggml.pre", "jina-v2-de"),
        ][round % 3];
        let file = vocabulary("gpt2", &of, vec![(key, Meta::Text(value))]);
        let vocabulary = Vocabulary::new(&file).unwrap();
        let fragments = Fragments::new(&file, &vocabulary).unwrap();
        for turn in 0..16 {
            let (special, text) = (turn % 2 == 0, dice.text("ab \u{e9}", 40));
            let strips = |_: &str| (false, round % 3 == 1);
            let expected = cut_by_definition(&text, &tokens, special, &strips);
            let found = pieces(&fragments.of(&text, &vocabulary, special));
            assert_eq!(found, expected, "{tokens:?} in {text:?}, {special}");
        }
    }
}

#[test]
fn a_mask_token_absorbs_the_whitespace_before_it() {
    let tokens = [("<mask>".to_owned(), 3), ("a ".to_owned(), 3), ("  ".to_owned(), 3)];
    let of: Vec<_> = tokens.iter().map(|(text, kind)| (text.clone(), *kind, 0.0)).collect();
    let file = vocabulary("gpt2", &of, vec![("tokenizer.ggml.pre", Meta::Text("jina-v2-de"))]);
    let vocabulary = Vocabulary::new(&file).unwrap();
    let fragments = Fragments::new(&file, &vocabulary).unwrap();
    let strips = |token: &str| (token == "<mask>", false);
    for text in ["a  <mask>  <mask> a", "a <mask>", " <mask>a ", "a   b  <mask>"] {
        let expected = cut_by_definition(text, &tokens, true, &strips);
        assert_eq!(pieces(&fragments.of(text, &vocabulary, true)), expected, "{text:?}");
    }
}

/// Unigrams by definition: at each character all tokens that begin there, shortest first.
fn unigrams_by_definition(text: &str, tokens: &[(String, u32, f32)]) -> Vec<u32> {
    let lowest = tokens.iter().filter(|t| t.1 == 1).map(|t| t.2).fold(f32::MAX, f32::min);
    let mut best = vec![(None, 0, f64::MIN); text.len() + 1];
    best[0].2 = 0.0;
    for (at, c) in text.char_indices() {
        let mut offers: Vec<(usize, u32, f32)> = Vec::new();
        for (id, (token, kind, score)) in (0..).zip(tokens) {
            if !token.is_empty() && matches!(kind, 1 | 4 | 5) && text[at..].starts_with(token) {
                offers.retain(|offer| offer.0 != token.len());
                offers.push((token.len(), id, if *kind == 4 { 0.0 } else { *score }));
            }
        }
        offers.sort_by_key(|offer| offer.0);
        if offers.iter().all(|offer| offer.0 != c.len_utf8()) {
            offers.push((c.len_utf8(), 0, lowest - 10.0));
        }
        for (len, id, score) in offers {
            let score = best[at].2 + f64::from(score);
            if score > best[at + len].2 {
                best[at + len] = (Some(id), at, score);
            }
        }
    }
    let mut ids = Vec::new();
    let mut end = text.len();
    while end > 0 {
        let (token, start, _) = best[end];
        if !(token == Some(0) && ids.last() == Some(&0)) {
            ids.extend(token);
        }
        end = start;
    }
    ids.reverse();
    ids
}

fn unigrams(tokens: &[(String, u32, f32)], more: Vec<(&str, Meta)>) -> Tokenizer {
    let mut more = more;
    more.push(("tokenizer.ggml.unknown_token_id", Meta::Number(0)));
    more.push(("tokenizer.ggml.add_eos_token", Meta::Flag(false)));
    Tokenizer::new(&vocabulary("t5", tokens, more)).unwrap()
}

#[test]
fn unigrams_match_the_definition() {
    let mut dice = Dice(5);
    for _ in 0..150 {
        let mut tokens = vec![("<unk>".to_owned(), 2, 0.0)];
        for _ in 0..dice.roll(14) {
            let kind = [1, 1, 1, 5][dice.roll(4)];
            // Few scores, so that there are ties.
            tokens.push((dice.text("ab\u{e9}", 5), kind, -(dice.roll(4) as f32)));
        }
        let tokenizer = unigrams(&tokens, Vec::new());
        for _ in 0..16 {
            let text = dice.text("ab\u{e9}c", 30);
            let expected = unigrams_by_definition(&text, &tokens);
            assert_eq!(tokenizer.encode(&text, false, false), expected, "{tokens:?} in {text:?}");
        }
    }
}

/// WordPiece by definition: the longest token at each position; a word that has none there is unknown.
fn word_pieces_by_definition(text: &str, tokens: &[(String, u32, f32)]) -> Vec<u32> {
    let mut ids = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let word = format!("{SPACE}{word}");
        let (mut rest, before) = (word.as_str(), ids.len());
        while !rest.is_empty() {
            let fits = |(id, (token, ..)): (u32, &(String, u32, f32))| {
                (!token.is_empty() && rest.starts_with(token)).then_some((token.len(), id))
            };
            let Some((len, id)) = (0..).zip(tokens).filter_map(fits).max() else {
                ids.truncate(before);
                break;
            };
            ids.push(id);
            rest = &rest[len..];
        }
        if ids.len() == before {
            ids.push(0);
        }
    }
    ids
}

fn word_pieces(tokens: &[(String, u32, f32)]) -> Tokenizer {
    let more = vec![
        ("tokenizer.ggml.unknown_token_id", Meta::Number(0)),
        ("tokenizer.ggml.normalizer.lowercase", Meta::Flag(false)),
    ];
    Tokenizer::new(&vocabulary("bert", tokens, more)).unwrap()
}

#[test]
fn word_pieces_match_the_definition() {
    let mut dice = Dice(3);
    for _ in 0..150 {
        let mut tokens = vec![("[UNK]".to_owned(), 2, 0.0)];
        for _ in 0..dice.roll(14) {
            let mark = ["", SPACE][dice.roll(2)];
            tokens.push((format!("{mark}{}", dice.text("ab\u{e9}", 4)), 1, 0.0));
        }
        let tokenizer = word_pieces(&tokens);
        for _ in 0..16 {
            let text = dice.text("ab\u{e9} ", 30);
            let expected = word_pieces_by_definition(&text, &tokens);
            assert_eq!(tokenizer.encode(&text, false, false), expected, "{tokens:?} in {text:?}");
        }
    }
}

/// Steps per byte for texts that `text` makes from a length; panics if they grow with the length.
fn steps_a_byte(tokenizer: &Tokenizer, text: &dyn Fn(usize) -> String) -> f64 {
    let each = |length: usize| {
        let text = text(length);
        let steps = steps::of(|| drop(tokenizer.encode(&text, true, true)));
        steps as f64 / text.len() as f64
    };
    let (short, long) = (each(2_000), each(8_000));
    assert!(long < 1.2 * short + 1.0, "{short} steps a byte became {long}");
    long
}

#[test]
fn the_number_of_special_tokens_does_not_add_cost() {
    let names = |count: usize| -> Vec<(String, u32, f32)> {
        let bytes = (0..=255_u32).filter_map(char::from_u32).map(|c| (c.to_string(), 1, 0.0));
        let named = (0..count).map(|n| (format!("<unused{n}>"), 3, 0.0));
        bytes.chain(named).collect()
    };
    let spm = |tokens: &[(String, u32, f32)]| {
        Tokenizer::new(&vocabulary("llama", tokens, Vec::new())).unwrap()
    };
    let text = |length: usize| {
        let each: Vec<_> = (0..length / 12).map(|n| format!("<unused{}> ", n % 100)).collect();
        each.concat()
    };
    let few = steps_a_byte(&spm(&names(100)), &text);
    let many = steps_a_byte(&spm(&names(6400)), &text);
    assert!(many < 1.2 * few && many < 30.0, "{few} steps a byte became {many}");
    // Each token is part of the next, and begins everywhere.
    let nested: Vec<_> = (1..600).map(|n| ("a".repeat(n), 4, 0.0)).collect();
    let cost = steps_a_byte(&spm(&nested), &|length| "a".repeat(length));
    assert!(cost < 10.0, "{cost}");
    let cost =
        steps_a_byte(&spm(&nested), &|length| format!("{}b", "a".repeat(599)).repeat(length / 600));
    assert!(cost < 10.0, "{cost}");
}

#[test]
fn long_tokens_add_no_cost_where_they_do_not_match() {
    let long = |len: usize| -> Vec<(String, u32, f32)> {
        let texts = ["<unk>".to_owned(), "a".to_owned(), format!("{}b", "a".repeat(len))];
        let kinds = [2, 1, 1];
        let marked = texts.iter().zip(kinds).map(|(text, kind)| (text.clone(), kind, -1.0));
        let word = (format!("{SPACE}a"), 1, -1.0);
        marked.chain([word, (SPACE.to_owned(), 1, -1.0)]).collect()
    };
    for make in [
        |tokens: &[(String, u32, f32)]| unigrams(tokens, Vec::new()),
        word_pieces,
        |tokens: &[(String, u32, f32)]| {
            Tokenizer::new(&vocabulary("llama", tokens, Vec::new())).unwrap()
        },
    ] {
        let text = |length: usize| "a".repeat(length);
        let short = steps_a_byte(&make(&long(10)), &text);
        let longer = steps_a_byte(&make(&long(10_000)), &text);
        assert!(longer < 1.2 * short && longer < 30.0, "{short} steps a byte became {longer}");
    }
}

#[test]
fn a_cyclic_replacement_map_terminates() {
    // A node that is its own child under `a`, and at which no text ends.
    let mut nodes = vec![0_u32; 256];
    nodes[0] = 1 << 10;
    for (place, node) in nodes.iter_mut().enumerate().skip(1) {
        // The place after `a` is place ^ 'a'; its offset leads back to where it came from.
        *node = u32::from(b'a') | ((place as u32 ^ 1) << 10);
    }
    let mut map = (nodes.len() as u32 * 4).to_le_bytes().to_vec();
    nodes.iter().for_each(|node| map.extend(node.to_le_bytes()));
    map.extend(b"x\0");
    let tokens = [("<unk>".to_owned(), 2, 0.0), ("a".to_owned(), 1, -1.0)];
    let more = vec![("tokenizer.ggml.precompiled_charsmap", Meta::Bytes(map))];
    let tokenizer = unigrams(&tokens, more);
    let cost = steps_a_byte(&tokenizer, &|length| "a".repeat(length));
    assert!(cost > 100.0, "the map was not followed at all: {cost}");
}

#[test]
fn long_runs_cost_no_more_per_byte() {
    let letters = (0..=255_u32).filter_map(char::from_u32).map(|c| (c.to_string(), 1, 0.0));
    let tokens: Vec<_> =
        letters.chain([("aa".into(), 1, 0.0), ("\u{100}".into(), 1, 0.0)]).collect();
    let merges = || vec![("tokenizer.ggml.merges", Meta::Texts(vec!["a a".to_owned()]))];
    let file = vocabulary("gpt2", &tokens, merges());
    let runs = [
        "a",
        "A",
        " ",
        "\n",
        "1",
        "-",
        "\u{3000}",
        "\u{4e00}",
        " \n",
        "aA",
        "\t ",
        "a1",
        "<sentinel:1",
    ];
    // Names with the same steps only once.
    let mut seen = std::collections::HashSet::new();
    let fresh = |name: &&str| seen.insert(patterns::known(name).unwrap().0.as_ptr().addr());
    for name in patterns::names().filter(fresh) {
        let tokenizer = Tokenizer::with_pre(&file, name).unwrap();
        for run in runs {
            let cost = steps_a_byte(&tokenizer, &|length| run.repeat(length / run.len()) + "x");
            assert!(cost < 30.0, "{name} {run:?}: {cost}");
        }
    }
}

/// A minimal BPE vocabulary, with more metadata.
fn bpe(more: Vec<(&str, Meta)>) -> Result<Tokenizer, TokenizerError> {
    let tokens: Vec<_> = ["a", "b", "<|im_end|>"].map(|text| (text.to_owned(), 1, 0.0)).into();
    let mut all = vec![("tokenizer.ggml.merges", Meta::Texts(Vec::new()))];
    all.extend(more);
    Tokenizer::new(&vocabulary("gpt2", &tokens, all))
}

/// A vocabulary of single bytes, of which 0 is the end of a text.
pub(crate) fn bytes() -> ModelFile {
    // GPT-2's alphabet: printable characters for themselves, the others from U+0100 on.
    let mut spare = 0x100..;
    let mut text = |byte: u8| {
        let own = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if own { u32::from(byte) } else { spare.next().unwrap() };
        char::from_u32(code).unwrap().to_string()
    };
    let token = |byte: u8| (text(byte), if byte == 0 { 3 } else { 1 }, 0.0);
    let tokens: Vec<_> = (0..=255).map(token).collect();
    let more = vec![
        ("tokenizer.ggml.pre", Meta::Text("gpt-2")),
        ("tokenizer.ggml.merges", Meta::Texts(Vec::new())),
        ("tokenizer.ggml.eos_token_id", Meta::Number(0)),
    ];
    vocabulary("gpt2", &tokens, more)
}

#[test]
fn kimi_k2_without_merges_joins_by_token_id() {
    let tokens = ["a", "b", "c", "bc", "ab", "abc"].map(|text| (text.to_owned(), 1, 0.0));
    let pre = |name| vec![("tokenizer.ggml.pre", Meta::Text(name))];
    let tokenizer = Tokenizer::new(&vocabulary("gpt2", &tokens, pre("kimi-k2"))).unwrap();
    for (text, ids) in [("abc", &[5][..]), ("ab", &[4]), ("abb", &[4, 1]), ("bcab", &[3, 4])] {
        assert_eq!(tokenizer.encode_inside(text), ids, "{text}");
    }
    let error = Tokenizer::new(&vocabulary("gpt2", &tokens, pre("gpt-2"))).err().unwrap();
    assert!(error.to_string().contains("tokenizer.ggml.merges"), "{error}");
}

#[test]
fn a_special_token_beyond_the_vocabulary_is_reported_and_ignored() {
    let pre = || ("tokenizer.ggml.pre", Meta::Text("gpt-2"));
    assert!(bpe(vec![pre()]).unwrap().warnings().is_empty());
    for key in [
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",
        "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.seperator_token_id",
        "tokenizer.ggml.fim_pre_token_id",
        "tokenizer.ggml.fim_sep_token_id",
        "tokenizer.ggml.middle_token_id",
    ] {
        for id in [3, 32_000, u32::MAX - 1] {
            let tokenizer = bpe(vec![pre(), (key, Meta::Number(id))]).unwrap();
            let [warning] = tokenizer.warnings() else { panic!("{key}") };
            assert!(warning.contains(key) && warning.contains(&id.to_string()), "{warning}");
            // The end token is still known by its text.
            assert_eq!((tokenizer.ends(), tokenizer.bos()), (&[2][..], None), "{key}");
        }
        let none = bpe(vec![pre(), (key, Meta::Number(u32::MAX))]).unwrap();
        assert!(none.warnings().is_empty(), "{key}");
        assert!(bpe(vec![pre(), (key, Meta::Text("2"))]).is_err(), "{key}");
    }
    // If an algorithm has a default, that counts, provided that there is such a token.
    let tokens: Vec<_> = ["<unk>", "<s>", "</s>"].map(|text| (text.to_owned(), 3, 0.0)).into();
    let wrong = vec![("tokenizer.ggml.bos_token_id", Meta::Number(99))];
    let tokenizer = Tokenizer::new(&vocabulary("llama", &tokens, wrong)).unwrap();
    assert_eq!(tokenizer.bos(), Some(1));
    assert!(tokenizer.warnings()[0].ends_with("; ignoring it and using 1 instead"));
    let wrong = vec![("tokenizer.ggml.bos_token_id", Meta::Number(99))];
    let tokenizer = Tokenizer::new(&vocabulary("llama", &tokens[..1], wrong)).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.warnings().len()), (None, 1));
}

#[test]
fn a_missing_pre_tokenizer_is_reported() {
    for more in [vec![], vec![("tokenizer.ggml.pre", Meta::Text(""))]] {
        let tokenizer = bpe(more).unwrap();
        assert!(tokenizer.warnings()[0].contains("`tokenizer.ggml.pre` is missing"));
    }
    assert!(bpe(vec![("tokenizer.ggml.pre", Meta::Text("unheard-of"))]).is_err());
}

#[test]
fn kinds_and_scores_beyond_the_vocabulary_are_ignored() {
    let made = |kinds: usize, scores: usize| {
        let texts = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
        Tokenizer::new(&file(&[
            ("tokenizer.ggml.model", Meta::Text("llama")),
            ("tokenizer.ggml.tokens", Meta::Texts(texts)),
            ("tokenizer.ggml.token_type", Meta::Numbers(vec![3; kinds])),
            ("tokenizer.ggml.scores", Meta::Floats(vec![0.0; scores])),
        ]))
    };
    assert_eq!(made(5, 4).unwrap().len(), 3);
    assert!(made(2, 3).is_err() && made(3, 2).is_err());
}
