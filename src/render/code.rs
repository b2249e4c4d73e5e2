//! Coloured source code.
//!
//! Input: the language word and the text of a code block, perhaps the same block again with more text. Output: HTML
//! whose coloured parts are `<span class="hl-…">`. Knows nothing of Markdown, nor of the colours of the classes.
//!
//! Colouring is limited by size, so that the same text always gives the same HTML however it arrived. The grammars'
//! expressions backtrack, though: a line crafted for that costs a thousand times what others do. So there is a time
//! limit as well, which no real code comes near; code beyond it is plain.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet};

use super::clock::Stopwatch;
use super::escape::push_escaped;
use crate::system::quietly;

/// How much of one code block is coloured; the rest is plain.
const COLOURED_BYTES: usize = 32 * 1024;

/// The longest line that is coloured; a longer one is minified or data.
///
/// The library can't be stopped inside a line, so this limits the cost of a line. The worst that a search found over
/// all 75 grammars (hill climbing, 6 s each) took 0.12 s with 256 bytes and 3.3 s with 512: backtracking grows with the
/// fourth power of the length.
const COLOURED_LINE_BYTES: usize = 256;

/// Usual time per byte of a line: dense code takes 1 to 15 µs.
const BYTE_TIME: Duration = Duration::from_micros(15);

/// Limit on the time beyond that, summed over the lines of one text.
const TEXT_TIME: Duration = Duration::from_millis(250);

/// A line that takes this long is slow, and tried again before its time counts: expressions are compiled on first use.
const SLOW: Duration = Duration::from_millis(15);

/// The longest language word that is shown.
const LANGUAGE_BYTES: usize = 32;

/// The scopes that colour text, by their first word. Punctuation is omitted on purpose: a span around every comma
/// doubles the page and adds nothing.
pub(super) const KINDS: [&str; 10] = [
    "comment", "string", "keyword", "storage", "constant", "entity", "support", "variable",
    "markup", "invalid",
];

/// The further words of a scope that become classes; the first of them in a scope counts.
pub(super) const DETAILS: [&str; 30] = [
    "attribute-name",
    "bold",
    "builtin",
    "changed",
    "character",
    "class",
    "control",
    "deleted",
    "documentation",
    "escape",
    "function",
    "heading",
    "inserted",
    "italic",
    "key",
    "language",
    "link",
    "macro",
    "modifier",
    "module",
    "numeric",
    "operator",
    "parameter",
    "quote",
    "raw",
    "regexp",
    "section",
    "struct",
    "tag",
    "type",
];

/// The colouring of the code blocks of one piece of Markdown, kept while that piece grows.
///
/// Blocks are identified by their order. Only new lines are coloured, so a block that grows line by line costs as much
/// as colouring its text once.
#[derive(Default)]
pub struct Colours<'w> {
    blocks: Vec<Coloured>,
    next: usize,
    allowance: Allowance<'w>,
}

impl<'w> Colours<'w> {
    /// Colours for as long as `wanted` returns true.
    pub fn for_client(wanted: &'w dyn Fn() -> bool) -> Self {
        Self { allowance: Allowance { wanted, ..Allowance::default() }, ..Self::default() }
    }

    /// Whether somebody still waits for them.
    pub fn are_wanted(&self) -> bool {
        (self.allowance.wanted)()
    }

    /// Colours without a time limit.
    #[cfg(test)]
    pub fn untimed() -> Self {
        let allowance = Allowance { most: Duration::MAX, ..Allowance::default() };
        Self { allowance, ..Self::default() }
    }

    /// Moves on to the next piece of the same text. If it `goes_on` with the last code block of this one, so do the
    /// colours.
    pub fn next_piece(&mut self, goes_on: bool) {
        // Drops blocks of an earlier, shorter state of this piece, which was parsed differently.
        self.blocks.truncate(self.next);
        let last = self.blocks.pop().filter(|_| goes_on);
        self.blocks.clear();
        self.blocks.extend(last.map(Coloured::rest));
    }

    /// Starts over at the first block of the same, perhaps longer, piece.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Appends the HTML of the next code block's text.
    pub fn push_html(&mut self, out: &mut String, language: &str, code: &str) {
        let position = self.next;
        self.next += 1;
        if self.blocks.len() <= position {
            self.blocks.resize_with(position + 1, Coloured::default);
        }
        if let Some(block) = self.blocks.get_mut(position) {
            if block.language != language {
                *block = Coloured::new(language);
            } else if !code.starts_with(block.source.as_str()) {
                block.start_over();
            }
            block.push_html(out, code, &mut self.allowance);
        }
    }
}

/// The language word of a code block's info string, safe to show and to put in an attribute.
pub fn language(info: &str) -> String {
    info.split(|c: char| c.is_whitespace() || c == ',')
        .find(|word| !word.is_empty())
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "+#-._".contains(*c))
        .take(LANGUAGE_BYTES)
        .collect()
}

/// One code block: the whole lines seen so far and their HTML.
#[derive(Default)]
struct Coloured {
    language: String,
    /// State left by the previous piece, if this continues it: the parser, and the size of the code so far.
    begin: (Option<Painter>, usize),
    source: String,
    html: String,
    painter: Option<Painter>,
}

impl Coloured {
    fn new(language: &str) -> Self {
        let painter = Painter::new(language);
        let begin = (painter.clone(), 0);
        Self { language: language.to_owned(), begin, painter, ..Self::default() }
    }

    /// The continuation of this code in the next piece.
    fn rest(self) -> Self {
        let begin = (self.painter.clone(), self.begin.1 + self.source.len());
        Self { language: self.language, begin, painter: self.painter, ..Self::default() }
    }

    fn start_over(&mut self) {
        self.source.clear();
        self.html.clear();
        self.painter.clone_from(&self.begin.0);
    }

    /// Appends the HTML of `code`, which begins with the source seen before.
    fn push_html(&mut self, out: &mut String, code: &str, allowance: &mut Allowance<'_>) {
        let mut unfinished = "";
        for line in code.get(self.source.len()..).unwrap_or_default().split_inclusive('\n') {
            if line.ends_with('\n') {
                let before = self.begin.1 + self.source.len();
                push_line(&mut self.html, self.painter.as_mut(), before, line, allowance);
                self.source.push_str(line);
            } else {
                unfinished = line;
            }
        }
        out.push_str(&self.html);
        if !unfinished.is_empty() {
            // Painted by a copy, since the line will come again, longer.
            let before = self.begin.1 + self.source.len();
            let mut painter = self.painter.clone();
            push_line(out, painter.as_mut(), before, unfinished, allowance);
        }
    }
}

/// Appends one line, coloured unless the block or the line is too long for that.
fn push_line(
    out: &mut String,
    painter: Option<&mut Painter>,
    before: usize,
    line: &str,
    allowance: &mut Allowance<'_>,
) {
    let fits = before + line.len() <= COLOURED_BYTES && line.len() <= COLOURED_LINE_BYTES;
    match painter {
        Some(painter) if fits && !allowance.is_spent() => painter.push_line(out, line, allowance),
        _ => push_escaped(out, line),
    }
}

/// Time budget for the lines of one text, as long as somebody waits for them.
struct Allowance<'w> {
    most: Duration,
    /// An unfinished line is painted again each time a growing answer is drawn. That must not use up the budget of a
    /// long answer, so such a line counts only when it is slow.
    spent: Duration,
    /// A line was slow the second time as well, so the text is slow, not compilation.
    no_second_try: bool,
    wanted: &'w dyn Fn() -> bool,
}

impl Default for Allowance<'_> {
    fn default() -> Self {
        Self { most: TEXT_TIME, spent: Duration::ZERO, no_second_try: false, wanted: &|| true }
    }
}

impl Allowance<'_> {
    fn is_spent(&self) -> bool {
        self.spent >= self.most || !(self.wanted)()
    }

    /// Counts the time of a line; `false` if the line should be tried again.
    fn count(&mut self, took: Duration, line: &str, again: bool) -> bool {
        let slow = took >= SLOW;
        self.no_second_try |= slow && again;
        if slow && !self.no_second_try {
            return false;
        }
        if slow || line.ends_with('\n') {
            let usual = BYTE_TIME * u32::try_from(line.len()).unwrap_or(u32::MAX);
            self.spent += took.saturating_sub(usual);
        }
        true
    }
}

/// A language's parser between two lines.
#[derive(Clone)]
struct Painter {
    state: ParseState,
    scopes: ScopeStack,
    /// The class of each scope met so far: asking the library takes a global lock.
    classes: HashMap<Scope, Role>,
    /// The library gave up on this block.
    failed: bool,
}

/// What a scope means for colour.
#[derive(Clone)]
enum Role {
    /// Text in this scope has these classes.
    Class(Arc<str>),
    /// The scope begins text of another language: enclosing scopes no longer colour.
    Barrier,
    /// The scope has no colour.
    None,
}

impl Painter {
    fn new(language: &str) -> Option<Self> {
        let syntax = syntax(language)?;
        Some(Self {
            state: ParseState::new(syntax),
            scopes: ScopeStack::new(),
            classes: HashMap::new(),
            failed: false,
        })
    }

    fn push_line(&mut self, out: &mut String, line: &str, allowance: &mut Allowance<'_>) {
        let before = out.len();
        if self.failed || self.try_line(out, line, allowance).is_none() {
            // Once the parser's state is lost, colours would be wrong, so the rest stays plain.
            self.failed = true;
            out.truncate(before);
            push_escaped(out, line);
        }
    }

    fn try_line(
        &mut self,
        out: &mut String,
        line: &str,
        allowance: &mut Allowance<'_>,
    ) -> Option<()> {
        let mut again = false;
        let operations = loop {
            let mut state = self.state.clone();
            let time = Stopwatch::start();
            // The grammars are data; a mistake in one must not end the process.
            let operations = quietly(|| state.parse_line(line, syntaxes()))?.ok()?;
            if allowance.count(time.elapsed(), line, again) {
                self.state = state;
                break operations;
            }
            again = true;
        };
        let mut spans = Spans { out, class: None, space: "" };
        let mut from = 0;
        for (position, operation) in operations {
            if position > from {
                spans.push(self.class(), line.get(from..position)?);
                from = position;
            }
            self.scopes.apply(&operation).ok()?;
        }
        spans.push(self.class(), line.get(from..)?);
        spans.close();
        Some(())
    }

    /// The classes of text in the current scopes: those of the innermost scope that colours.
    fn class(&mut self) -> Option<Arc<str>> {
        for scope in self.scopes.scopes.iter().rev() {
            match self.classes.entry(*scope).or_insert_with(|| role(*scope)) {
                Role::Class(class) => return Some(Arc::clone(class)),
                Role::Barrier => return None,
                Role::None => {}
            }
        }
        None
    }
}

/// Writes the pieces of one line, joining neighbours of the same class.
struct Spans<'a, 'b> {
    out: &'a mut String,
    /// The class of the open span.
    class: Option<Arc<str>>,
    /// Spaces not yet written: they go into the open span only if more of it follows.
    space: &'b str,
}

impl<'b> Spans<'_, 'b> {
    fn push(&mut self, class: Option<Arc<str>>, text: &'b str) {
        if text.is_empty() {
            return;
        }
        if text.trim().is_empty() {
            // Two runs of spaces in a row are rare; the first is then written at once.
            push_escaped(self.out, std::mem::replace(&mut self.space, text));
            return;
        }
        if class != self.class {
            self.close();
            if let Some(class) = &class {
                self.out.push_str("<span class=\"");
                self.out.push_str(class);
                self.out.push_str("\">");
            }
            self.class = class;
        }
        push_escaped(self.out, std::mem::take(&mut self.space));
        // The line end stays outside the span, so that each line of the HTML is complete.
        let visible = text.trim_end_matches('\n');
        push_escaped(self.out, visible);
        self.space = text.get(visible.len()..).unwrap_or_default();
    }

    /// Ends the open span and writes the spaces after it.
    fn close(&mut self) {
        if self.class.take().is_some() {
            self.out.push_str("</span>");
        }
        push_escaped(self.out, std::mem::take(&mut self.space));
    }
}

fn role(scope: Scope) -> Role {
    let name = scope.build_string();
    let mut atoms = name.split('.');
    let first = atoms.next().unwrap_or_default();
    if first == "source" {
        return Role::Barrier;
    }
    if !KINDS.contains(&first) {
        return Role::None;
    }
    match atoms.find(|atom| DETAILS.contains(atom)) {
        Some(detail) => Role::Class(format!("hl-{first} hl-{detail}").into()),
        // In some grammars every name is a variable, which says nothing.
        None if first == "variable" => Role::None,
        None => Role::Class(format!("hl-{first}").into()),
    }
}

/// The grammars, loaded at first use.
fn syntaxes() -> &'static SyntaxSet {
    static SYNTAXES: OnceLock<SyntaxSet> = OnceLock::new();
    SYNTAXES.get_or_init(SyntaxSet::load_defaults_newlines)
}

/// The grammar of a language word, if there is one.
fn syntax(language: &str) -> Option<&'static SyntaxReference> {
    let word = language.to_ascii_lowercase();
    let token = match word.as_str() {
        "" | "text" | "txt" | "plain" | "plaintext" | "output" => return None,
        // The set has no TypeScript and no JSX; JavaScript's grammar colours most of both.
        "ts" | "typescript" | "tsx" | "jsx" | "mjs" | "cjs" | "node" | "javascript" => "js",
        "python3" | "ipython" => "py",
        // A Dockerfile is mostly shell commands.
        "shell" | "console" | "shell-session" | "shellscript" | "ksh" | "docker" | "dockerfile"
        | "containerfile" => "sh",
        "golang" => "go",
        "rust" => "rs",
        "csharp" => "cs",
        "h++" => "cpp",
        "objc" | "objectivec" | "objective-c" => "m",
        "jsonc" | "json5" | "jsonl" | "ndjson" => "json",
        "toml" | "ini" | "cfg" | "conf" | "dotenv" => "properties",
        "postgres" | "postgresql" | "mysql" | "sqlite" | "tsql" | "plsql" => "sql",
        "kotlin" | "kt" | "kts" => "java",
        "markdown" => "md",
        "ruby" => "rb",
        "perl" => "pl",
        "haskell" => "hs",
        "patch" => "diff",
        "elisp" | "emacs-lisp" | "scheme" | "racket" => "lisp",
        "latex" => "tex",
        other => other,
    };
    syntaxes().find_syntax_by_token(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(language: &str, code: &str) -> String {
        let mut out = String::new();
        Colours::untimed().push_html(&mut out, language, code);
        out
    }

    #[test]
    fn language_words_are_reduced_to_safe_characters() {
        let cases = [
            ("rust", "rust"),
            ("  c++ title=x", "c++"),
            ("rust,ignore", "rust"),
            ("{.python}", ".python"),
            ("\"><script>", "script"),
            ("", ""),
            ("日本", ""),
        ];
        for (info, word) in cases {
            assert_eq!(language(info), word, "{info:?}");
        }
        assert_eq!(language(&"x".repeat(100)).len(), LANGUAGE_BYTES);
    }

    #[test]
    fn highlighting_uses_few_flat_spans() {
        assert_eq!(
            html("rust", "let x = \"<a>\"; // no\n"),
            "<span class=\"hl-storage hl-type\">let</span> x \
             <span class=\"hl-keyword hl-operator\">=</span> \
             <span class=\"hl-string\">&quot;&lt;a&gt;&quot;</span>; \
             <span class=\"hl-comment\">// no</span>\n"
        );
        assert_eq!(html("nosuchlanguage", "a < b\n"), "a &lt; b\n");
        assert_eq!(html("", "a < b"), "a &lt; b");
    }

    #[test]
    fn common_language_names_are_known() {
        for word in [
            "rust",
            "rs",
            "py",
            "Python",
            "js",
            "javascript",
            "ts",
            "typescript",
            "tsx",
            "jsx",
            "sh",
            "bash",
            "zsh",
            "console",
            "c",
            "c++",
            "cpp",
            "c#",
            "csharp",
            "go",
            "golang",
            "yml",
            "yaml",
            "html",
            "css",
            "json",
            "toml",
            "sql",
            "diff",
            "dockerfile",
            "java",
            "kotlin",
            "ruby",
            "php",
            "lua",
            "r",
            "scala",
            "haskell",
            "perl",
            "makefile",
            "xml",
            "latex",
            "markdown",
            "objective-c",
            "clojure",
            "erlang",
            "ocaml",
            "groovy",
            "matlab",
        ] {
            assert!(syntax(word).is_some(), "{word}");
        }
    }

    #[test]
    fn a_growing_block_matches_the_whole() {
        let code = "/* a\n b */ fn f() {\n    \"x\\n\"\n}\nlet s = r#\"\n\"#;";
        let mut colours = Colours::untimed();
        for (end, _) in code.char_indices().chain([(code.len(), ' ')]) {
            let part = &code[..end];
            let mut grown = String::new();
            colours.rewind();
            colours.push_html(&mut grown, "rust", part);
            assert_eq!(grown, html("rust", part));
        }
    }

    #[test]
    fn a_block_in_pieces_is_highlighted_as_one() {
        let code = "/* a\n b */ let s = r#\"\n\"#;\nlet x = 1;\n";
        for (at, _) in code.match_indices('\n') {
            let (first, rest) = code.split_at(at + 1);
            let mut colours = Colours::untimed();
            let mut out = String::new();
            colours.push_html(&mut out, "rust", first);
            colours.next_piece(true);
            for end in 0..=rest.len() {
                colours.rewind();
                let mut grown = out.clone();
                colours.push_html(&mut grown, "rust", &rest[..end]);
                assert_eq!(grown, html("rust", &code[..at + 1 + end]));
            }
            colours.next_piece(false);
            let mut fresh = String::new();
            colours.push_html(&mut fresh, "rust", rest);
            assert_eq!(fresh, html("rust", rest));
        }
    }

    #[test]
    fn backtracking_lines_take_bounded_time_and_stay_whole() {
        // The costliest patterns of the search that set the longest line, and those first reported.
        let cases = [
            ("cpp", "a a::"),
            ("cs", "Aa"),
            ("cs", "&aAAAAAAA"),
            ("makefile", "'?&-if"),
            ("md", "-`"),
            ("scala", "operator::~::~"),
            ("sql", " "),
            ("js", "-$$$$$$$"),
            ("bash", "\t"),
        ];
        for (language, piece) in cases {
            let line = format!("{}\n", piece.repeat((COLOURED_LINE_BYTES - 1) / piece.len()));
            let code = line.repeat(COLOURED_BYTES / line.len());
            let time = Stopwatch::start();
            let mut html = String::new();
            Colours::default().push_html(&mut html, language, &code);
            let took = time.elapsed();
            let shown: String =
                html.split('<').map(|p| p.split_once('>').map_or(p, |p| p.1)).collect();
            assert_eq!(shown.replace("&#39;", "'").replace("&amp;", "&"), code, "{language}");
            // One line is tried twice, the last may be the slowest, and compilation comes on top.
            assert!(took < TEXT_TIME + Duration::from_millis(700), "{language} took {took:?}");
        }
    }

    #[test]
    fn only_slow_matching_counts_against_the_allowance() {
        let mut allowance = Allowance::default();
        let (fast, slow) = (SLOW / 15, SLOW);
        let over = |took: Duration, line: &str| {
            took.saturating_sub(BYTE_TIME * u32::try_from(line.len()).unwrap())
        };
        assert!(!allowance.count(slow, "a\n", false), "compiling is not the text's fault");
        assert!(allowance.count(Duration::ZERO, "a\n", true));
        assert!(!allowance.count(slow, "a\n", false), "nor is it for the next expression");
        for _ in 0..1000 {
            assert!(allowance.count(fast, "unfinished", false));
        }
        assert_eq!(allowance.spent, Duration::ZERO);
        assert!(allowance.count(fast, "a\n", false) && allowance.count(slow, "unfinished", true));
        assert!(allowance.count(slow, "a\n", false), "one was slow twice");
        let spent = over(fast, "a\n") + over(slow, "unfinished") + over(slow, "a\n");
        assert_eq!(allowance.spent, spent);
        assert!(allowance.count(BYTE_TIME * 256, &"a\n".repeat(128), false));
        assert_eq!(allowance.spent, spent, "real code takes as much");
        allowance.spent = TEXT_TIME;
        let mut colours = Colours { allowance, ..Colours::default() };
        let mut plain = String::new();
        colours.push_html(&mut plain, "rust", "let x = \"<\";\n");
        assert_eq!(plain, "let x = &quot;&lt;&quot;;\n");
        colours.next_piece(false);
        assert!(colours.allowance.is_spent(), "it is the whole text's");
    }

    #[test]
    fn overlong_code_is_plain() {
        let long = format!("let x = {};\n", "1".repeat(COLOURED_LINE_BYTES));
        assert_eq!(html("rust", &long), long);
        let many = "let x = 1;\n".repeat(COLOURED_BYTES / 11 + 100);
        assert!(html("rust", &many).ends_with(&"let x = 1;\n".repeat(99)));
    }
}
