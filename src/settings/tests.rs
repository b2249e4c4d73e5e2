use super::*;
use crate::chat::builtin;
use crate::sampler::{Sampling, Stage};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

fn layer(origin: Origin, arguments: &[&str]) -> Layer {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    Layer::new(origin, crate::cli::parse(&arguments).unwrap())
}

fn flags(arguments: &[&str]) -> Result<Config, String> {
    Config::resolve(&[layer(Origin::Flag, arguments)]).map_err(|e| e.to_string())
}

#[test]
fn the_highest_layer_wins_and_the_listing_names_it() {
    let layers = [
        layer(Origin::Bundle, &["--temp", "0.1", "--top-k", "7", "-c", "100"]),
        layer(Origin::Environment("LLAMA_ARG_CTX_SIZE".into()), &["-c", "200"]),
        layer(Origin::Flag, &["--temp", "0.3"]),
    ];
    let config = Config::resolve(&layers).unwrap();
    assert!((config.sampling.temperature - 0.3).abs() < 1e-6);
    assert_eq!((config.sampling.top_k, config.context, config.batch), (7, 200, 128));
    let line = |name: &str| {
        config.listing.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned()
    };
    assert!(line("temp ").ends_with("(flag)"));
    assert!(line("top-k ").ends_with("(bundle)"));
    assert!(line("ctx-size ").ends_with("(environment, LLAMA_ARG_CTX_SIZE)"));
    assert!(line("min-p ").ends_with("(built-in)"));
}

/// Catches mistakes made when rows are copied.
#[test]
fn rows_are_consistent() {
    let mut names = HashSet::new();
    for setting in all() {
        let flag = setting.flag;
        let all = setting.aliases.iter().chain(setting.dashed).copied();
        for name in all.chain(Some(flag).filter(|flag| !flag.is_empty())) {
            assert!(names.insert(name.to_owned()), "{name} twice");
        }
        if let Some(short) = setting.short {
            assert!(names.insert(short.to_string()), "-{short} twice");
        }
        assert!(setting.same_as.is_empty() || find(setting.same_as).is_some(), "{flag}");
        assert!(!setting.help.ends_with('.'), "{flag}");
        let is_switch = matches!(setting.value, Value::Switch(_) | Value::Action);
        assert_eq!(setting.placeholder.is_empty(), is_switch, "{flag}");
        assert!(setting.control.is_none() || !setting.field.is_empty(), "{flag}");
        assert!(!flag.is_empty() || !setting.field.is_empty(), "a row of nothing");
    }
    let mut fields = HashSet::new();
    assert!(all().filter(|s| !s.field.is_empty()).all(|s| fields.insert(s.field)));
}

/// The page's word table covers every control, in both languages.
#[test]
fn each_control_has_its_texts_on_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/i18n.js");
    let words = std::fs::read_to_string(path).unwrap();
    for (setting, control) in controls() {
        let field = setting.field;
        for key in ["f", "h"] {
            let row = words.lines().find(|line| line.starts_with(&format!("{key}_{field}|")));
            // Key and one word for both languages, or one for each.
            assert!(row.is_some_and(|row| row.split('|').count() > 1), "{key}_{field}");
        }
        assert!(control.min < control.max && control.step > 0.0, "{field}");
        let default: f64 = built_in(Config::built_in(), setting).parse().unwrap();
        assert!((control.min..=control.max).contains(&default), "{field}");
    }
}

/// `docs/settings.md` is generated from the rows: `WRITE_DOCS=1 cargo test --lib settings` writes it.
#[test]
fn the_page_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let made = page();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found.replace("\r\n", "\n") == made, "WRITE_DOCS=1 cargo test --lib settings");
}

#[test]
fn errors_name_the_invalid_flag() {
    for (arguments, name) in [
        (["--threads", "0"], "--threads"),
        (["--threads", "x"], "--threads"),
        (["--top-p", "1.5"], "--top-p"),
        (["--temp", "NaN"], "--temp"),
        (["--top-k", "1.5"], "--top-k"),
        (["--cache-type-k", "q9"], "--cache-type-k"),
        (["--isa", "z80"], "--isa"),
        (["--port", "65536"], "--port"),
        (["--api-key", ""], "--api-key"),
        (["--api-key", " , "], "--api-key"),
        (["--api-prefix", "/a b"], "--api-prefix"),
        (["--pooling", "max"], "--pooling"),
        (["--parallel", "many"], "--parallel"),
        (["--chat-template-file", "/does/not/exist"], "--chat-template-file"),
        (["--chat-template-kwargs", "[1]"], "--chat-template-kwargs"),
        (["--reasoning-format", "loud"], "--reasoning-format"),
        (["--reasoning-budget", "-2"], "--reasoning-budget"),
    ] {
        let error = flags(&arguments).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_bundle_cannot_read_a_file_into_its_system_prompt() {
    let arguments = ["--system-prompt", "@/etc/hostname"];
    let config = Config::resolve(&[layer(Origin::Bundle, &arguments)]).unwrap();
    assert_eq!(config.system_prompt.as_deref(), Some("@/etc/hostname"));
    assert!(flags(&["--system-prompt", "@/does/not/exist"]).is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("system.txt");
    std::fs::write(&path, "Be brief.\r\n").unwrap();
    let config = flags(&["-sys", &format!("@{}", path.display())]).unwrap();
    assert_eq!(config.system_prompt.as_deref(), Some("Be brief."));
}

#[test]
fn a_chat_template_is_a_name_a_file_or_jinja() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.jinja");
    std::fs::write(&path, "{{ 'mine' }}").unwrap();
    let path = path.to_str().unwrap();
    let with = |origin: Origin, flag: &str, value: &str| {
        Config::resolve(&[layer(origin, &[flag, value])]).map(|c| c.template.unwrap())
    };
    let given = "--chat-template";
    assert_eq!(with(Origin::Bundle, given, "{{ 1 }}").unwrap(), "{{ 1 }}");
    assert_eq!(with(Origin::Bundle, given, "llama3").unwrap(), builtin::source("llama3").unwrap());
    assert_eq!(with(Origin::Flag, given, path).unwrap(), "{{ 'mine' }}");
    assert_eq!(with(Origin::Flag, given, &format!("@{path}")).unwrap(), "{{ 'mine' }}");
    assert_eq!(with(Origin::Flag, "--chat-template-file", path).unwrap(), "{{ 'mine' }}");
    let unknown = with(Origin::Flag, given, "lama3").unwrap_err().to_string();
    assert!(unknown.contains("`lama3`") && unknown.contains("llama3, llama4"), "{unknown}");
    for flag in [given, "--chat-template-file"] {
        assert!(with(Origin::Bundle, flag, path).is_err(), "a bundle reads no file of its user");
    }
    let layers = [
        layer(Origin::Environment("X".into()), &["--chat-template-file", path]),
        layer(Origin::Flag, &[given, "gemma"]),
    ];
    assert_eq!(Config::resolve(&layers).unwrap().template.as_deref(), builtin::source("gemma"));
}

#[test]
fn escapes_are_expanded_unless_disabled() {
    let with = |extra: &[&str]| {
        let mut arguments = vec!["-p", r"a\nb\\\q", "-r", r"\n\n", "--dry-sequence-breaker", r"\t"];
        arguments.extend(extra);
        let config = flags(&arguments).unwrap();
        let breakers = config.sampling.dry_sequence_breakers;
        (config.prompt.unwrap(), config.stops.concat(), breakers.concat())
    };
    let read = ("a\nb\\\\q".to_owned(), "\n\n".to_owned(), "\t".to_owned());
    assert_eq!(with(&[]), read);
    assert_eq!(with(&["-e"]), read);
    assert_eq!(with(&["--no-escape", "-e"]), read);
    let typed = (r"a\nb\\\q".to_owned(), r"\n\n".to_owned(), r"\t".to_owned());
    assert_eq!(with(&["--no-escape"]), typed);
    assert_eq!(with(&["-e", "--no-escape"]), typed);
    let layers =
        [layer(Origin::Bundle, &["--no-escape"]), layer(Origin::Flag, &["-p", r"\n", "-e"])];
    assert_eq!(Config::resolve(&layers).unwrap().prompt.as_deref(), Some("\n"));
}

#[test]
fn a_bundle_cannot_name_a_file_to_write() {
    let history = ["--history", "typed"];
    assert!(Config::resolve(&[layer(Origin::Bundle, &history)]).is_err());
    assert_eq!(flags(&history).unwrap().history.as_deref(), Some(Path::new("typed")));
}

#[test]
fn api_keys_accumulate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "# a comment\n b \n\nc").unwrap();
    let config = flags(&["--api-key", "a, d", "--api-key-file", path.to_str().unwrap()]).unwrap();
    assert_eq!(config.api_keys, ["a", "d", "b", "c"]);
    assert!(!config.listing.contains("a, d") && config.listing.contains("(hidden)"));
    std::fs::write(&path, "# a comment\n").unwrap();
    assert!(flags(&["--api-key-file", path.to_str().unwrap()]).is_err());
}

#[test]
fn an_invalid_number_is_an_error_in_any_layer() {
    for flag in ["--threads", "--temp", "--parallel", "--seed", "--top-k"] {
        let layers = [
            layer(Origin::Environment("X".into()), &[flag, "many"]),
            layer(Origin::Flag, &[flag, "2"]),
        ];
        let error = Config::resolve(&layers).unwrap_err().to_string();
        assert!(error.contains("many") && error.contains("environment, X"), "{error}");
        assert!(flags(&[flag, "x", flag, "2"]).is_ok(), "of one layer the last counts");
    }
    assert!(flags(&["--top-k", "1e2"]).is_err() && flags(&["--temp", "1e-1"]).is_ok());
}

#[test]
fn the_listing_shows_effective_values() {
    let line = |arguments: &[&str], name: &str| {
        let listing = flags(arguments).unwrap().listing;
        let line = listing.lines().find(|l| l.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {listing}"));
        let (_, value) = line.split_once(" = ").unwrap();
        value.rsplit_once(" (").unwrap().0.trim().to_owned()
    };
    for (arguments, name, shown) in [
        (&["-r", "a", "-r", "b c"][..], "reverse-prompt", r#"["a", "b c"]"#),
        (&["--temp", "1e-1"], "temp", "0.1"),
        (&["--sampler-seq", "kp"], "samplers", "top_k;top_p"),
        (&["--no-escape"], "escape", "false"),
        (&["--dry-sequence-breaker", r"\n"], "dry-sequence-breaker", r#"["\n"]"#),
        (&["--grammar", "root ::= \"a\""], "grammar", "(12 bytes)"),
        (&["--chat-template", "llama3"], "chat-template", "llama3"),
        (&["--chat-template", "{{ 1 }}"], "chat-template", "(7 bytes)"),
        (&["--api-key", "k"], "api-key", "(hidden)"),
        (&[], "api-key", "(none)"),
        (&[], "strict", "false"),
        (&["-p", ""], "prompt", "\"\""),
    ] {
        assert_eq!(line(arguments, name), shown, "{arguments:?}");
    }
}

#[test]
fn breakers_are_measured_after_unescaping() {
    assert!(sampling(&["--dry-sequence-breaker", &r"\xe2".repeat(12)]).is_ok());
    let error = sampling(&["--dry-sequence-breaker", &"x".repeat(41)]).unwrap_err();
    assert!(error.contains("at most 40 bytes") && error.contains("(flag)"), "{error}");
}

#[test]
fn flags_without_effect_warn_once() {
    let config = flags(&["--mlock", "-ngl", "9", "--gpu", "auto", "-np", "4", "--mmap"]).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(flags(&["-ngl", "0", "-fa", "--jinja", "-fa", "off"]).unwrap().warnings.is_empty());
    assert!(!flags(&["--no-mmap"]).unwrap().warnings.is_empty());
}

fn sampling(arguments: &[&str]) -> Result<Sampling, String> {
    flags(arguments).map(|c| c.sampling)
}

#[test]
fn without_flags_the_defaults_apply() {
    assert_eq!(Config::built_in().host, "127.0.0.1", "not the blank that stands in for a mistake");
    assert_eq!(sampling(&[]).unwrap(), Sampling::default());
}

#[test]
fn samplers_parse_from_names_or_letters() {
    use Stage::{MinP, TopK};
    let samplers = |arguments: &[&str]| sampling(arguments).map(|s| s.samplers);
    assert_eq!(samplers(&["--samplers", "top-k;min_p"]), Ok(vec![TopK, MinP]));
    assert_eq!(samplers(&["--sampler-seq", "mk"]), Ok(vec![MinP, TopK]));
    assert_eq!(samplers(&["--samplers", "top_k", "--sampling-seq", "m"]), Ok(vec![MinP]));
    assert_eq!(samplers(&["--sampling-seq", "m", "--samplers", "top_k"]), Ok(vec![TopK]));
    assert!(samplers(&["--samplers", "top_k;nope"]).unwrap_err().contains("nope"));
    assert!(samplers(&["--sampler-seq", "kq"]).unwrap_err().contains('q'));
    assert!(samplers(&["--sampler-seq", &"k".repeat(99)]).unwrap_err().contains("99"));
}

#[test]
fn breakers_and_biases_are_parsed() {
    let breakers = |arguments: &[&str]| sampling(arguments).unwrap().dry_sequence_breakers;
    assert_eq!(
        breakers(&["--dry-sequence-breaker", r"\n", "--dry-sequence-breaker", "-"]),
        ["\n", "-"]
    );
    assert!(breakers(&["--dry-sequence-breaker", "none"]).is_empty());
    let biases = sampling(&["-l", "5-inf", "--logit-bias", "7+1.5"]).unwrap().logit_bias;
    assert_eq!(biases, [(5, f32::NEG_INFINITY), (7, 1.5)]);
    for wrong in ["5", "x+1", "5+inf", "5+nan", "-1-1", "5+"] {
        assert!(sampling(&[&format!("--logit-bias={wrong}")]).is_err(), "{wrong}");
    }
}
