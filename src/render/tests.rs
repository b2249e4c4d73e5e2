//! The rules that hold for every text: streaming agrees with rendering, and nothing hostile
//! passes, fails or takes long.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::code::Colours;
use super::*;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Texts in which a block's end is hard to tell.
const TRICKY: [&str; 24] = [
    "Title\n=====\n\nText\n---\nMore\n- - -\n-\n",
    "a\n-\nb\n- c\n-\n\n  d\n\n e",
    "- a\n- b\n\n- c\n\nd\n- e\nlazy\n\n    f\n",
    "> a\nlazy\n> - b\n>\n> c\n\n> d\n- e",
    "1. a\n\n   b\n\n2. c\n   ```rust\n   fn f() {}\n\n   ```\n\n3) d\n10. e",
    "```rust\nfn main() {\n\n// `x`\n}\n```\nafter",
    "a\n```py\ndef f():\n    return \"x\"\n```\n\n```\nopen",
    "a\n``` x`y\nb\n~~~~ \n```\n~~~\n~~~~\nc",
    "    code\n\n    more\n\nnot\n    not code",
    "| a | b |\n|---|--:|\n| $|x|$ | `c|d` |\nnot | table\n\nend",
    "[a][1] and [b]\n\n[1]: https://a.example\n[b]: <x> 't'\n\n[a][1]",
    "So \\(a_1 + b_1\\) and \\[\nx\n= y\n- z\n\\]\nand $$\\frac{1}{2}$$ it costs $5 or $10.",
    "\\[\nunfinished\n\nnot $x$ `$y$` \\\\(z\\\\)",
    "<div>\n*a*\n\n</div>\n\n<!-- b\n\n--> <b>c</b> <https://a.example>",
    "# a #\n## b\n####### c\n#\n#d\ntext\n# e",
    "a\r\nb\r\n\r\nc\rd\r\r\ne",
    "![a](b) [c](javascript:d) [e](https://f.example \"g\") [![h](i)](j)",
    "- [ ] a\n- [x] b\n* c\n+ d\n",
    "a\\\nb  \nc\\* &amp; &#0; &copy \u{0} \u{202E} \u{FDD0}0\u{FDD1}",
    "\tcode\n\n \ttab\n-\ta\n\n\tb\n- \t c",
    "***a** b* __c__ _d_ ~~e~~ ~f~ *g",
    "日本語**太字**です。\n\n- 項目\n\n$\\alpha$は、",
    "*\n*\n\n**\n***\n",
    "Steps:\n1. x\n```sh\nls -l | grep \"a\"\n```\n2. y\n\n   z\n---\n",
];

/// Fragments that Markdown's decisions depend on.
const SOUP: [&str; 44] = [
    "\n",
    "\n",
    "\n\n",
    " ",
    "  ",
    "    ",
    "\t",
    "a",
    "b c",
    "# ",
    "#",
    "- ",
    "-",
    "* ",
    "*",
    "**",
    "+ ",
    "1. ",
    "2) ",
    "12",
    "> ",
    ">",
    "`",
    "```",
    "```rust\n",
    "~~~",
    "~",
    "|",
    "|-|\n",
    "[",
    "]",
    "](",
    "](https://a.example)",
    "![",
    "[a]: b",
    "<",
    "<div>",
    "\\",
    "\\(",
    "\\[",
    "\\]",
    "$",
    "$$",
    "=\n",
];

/// A streamer whose colours have no time limit: this computer may be busy.
fn untimed() -> Streamer<'static> {
    let around = Surroundings { colours: Colours::untimed(), ..Surroundings::default() };
    Streamer { around, ..Streamer::default() }
}

fn render(text: &str) -> Vec<String> {
    let mut streamer = untimed();
    streamer.push(text);
    streamer.update().into_iter().map(|(_, html)| html).collect()
}

/// Feeds a text in pieces and checks every guarantee about updates.
fn check_stream(text: &str, numbers: &mut Numbers) {
    let mut streamer = untimed();
    let mut blocks: Vec<String> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let mut end = (at + 1 + numbers.below(9)).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        streamer.push(&text[at..end]);
        at = end;
        if numbers.below(3) > 0 {
            receive(&mut blocks, streamer.update());
            if numbers.below(8) == 0 {
                assert_eq!(blocks, render(&text[..at]), "{:?}", &text[..at]);
            }
        }
    }
    receive(&mut blocks, streamer.update());
    assert_eq!(streamer.update(), []);
    assert_eq!(blocks, render(text), "{text:?}");
}

/// Applies an update as the page does; only the last block or a new one may come.
fn receive(blocks: &mut Vec<String>, update: Vec<(usize, String)>) {
    for (number, html) in update {
        if number == blocks.len() {
            blocks.push(html);
        } else {
            assert_eq!(number + 1, blocks.len(), "a finished block came again");
            assert_ne!(blocks[number], html, "an unchanged block came again");
            blocks[number] = html;
        }
    }
}

#[test]
fn streaming_matches_rendering() {
    let mut numbers = Numbers(1);
    for text in TRICKY {
        for _ in 0..8 {
            check_stream(text, &mut numbers);
        }
    }
    check_stream(&TRICKY.join("\n"), &mut numbers);
    check_stream(&TRICKY.join("\n\n"), &mut numbers);
    for _ in 0..500 {
        let mut text = String::new();
        for _ in 0..numbers.below(60) {
            text.push_str(numbers.pick(&SOUP));
        }
        check_stream(&text, &mut numbers);
    }
}

#[test]
fn streaming_long_blocks_matches_rendering() {
    let mut numbers = Numbers(2);
    let mut texts = vec![
        format!("```rust\n{}", "let x = \"y\"; // z\n".repeat(6_000)),
        "- item *a*\n".repeat(3_000),
        "word ".repeat(12_000),
        "é".repeat(30_000),
    ];
    texts.push(format!(
        "{}x\n{}# y\n```{}",
        " ".repeat(3_000),
        " ".repeat(2_000),
        "z".repeat(2_000)
    ));
    for text in texts {
        let mut streamer = untimed();
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let mut end = (at + 1 + numbers.below(5_000)).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            streamer.push(&text[at..end]);
            at = end;
            receive(&mut blocks, streamer.update());
        }
        assert_eq!(blocks, render(&text));
    }
}

#[test]
fn blocks_are_updated_as_text_arrives() {
    let mut streamer = untimed();
    streamer.push("Hello *wor");
    assert_eq!(streamer.update(), [(0, "<p>Hello *wor</p>".to_owned())]);
    assert_eq!(streamer.update(), []);
    streamer.push("ld*\n\n");
    assert_eq!(streamer.update(), [(0, "<p>Hello <em>world</em></p>".to_owned())]);
    streamer.push("- a");
    assert_eq!(streamer.update(), [(1, "<ul><li>a</li></ul>".to_owned())]);
    assert_eq!(
        render("Hello *world*\n\n- a"),
        ["<p>Hello <em>world</em></p>", "<ul><li>a</li></ul>"]
    );
    assert_eq!(render(" \n\n"), Vec::<String>::new());
}

/// Checks the HTML of a text.
fn check_all(text: &str) {
    for html in render(text) {
        check_html(&html);
    }
}

/// Checks that HTML is balanced and of known elements and attributes only.
fn check_html(html: &str) {
    let mut open = Vec::new();
    let mut rest = html;
    while let Some((text, tagged)) = rest.split_once('<') {
        assert!(!text.contains('>'), "{html:?}");
        let (tag, after) = tagged.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{html:?}");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{html:?}");
        let banned = ["script", "style", "img", "iframe", "object", "svg", "form", "link", "meta"];
        assert!(!banned.contains(&name), "{html:?}");
        for (index, part) in attributes.split('"').enumerate() {
            let name = part.trim().trim_end_matches('=');
            assert!(index % 2 == 1 || (!name.starts_with("on") && name != "style"), "{html:?}");
        }
        if !["br", "hr", "input"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty() && !rest.contains('>'), "{html:?}");
    assert!(!html.contains(escape::is_banned as fn(char) -> bool), "{html:?}");
}

#[test]
fn text_cannot_inject_markup() {
    let mut numbers = Numbers(3);
    let more = [
        "<script>",
        "</p>",
        "<img src=x onerror=y>",
        "\"",
        "'",
        "&lt;",
        "&#60;",
        "javascript:",
        "\0",
        "\u{202E}",
        "\u{FDD0}",
        "0",
        "\u{FDD1}",
        "$x<y$",
        "\\text{<b>}",
        "$\\text{\" style=\"}$",
        "é",
        "\\frac{a}{b}",
        "{",
        "}",
        "^",
        "_",
        "&",
        "\\begin{matrix}",
        "\\end{matrix}",
        "\\color{red}",
        "```html\n",
        "```js\n",
        "```{\"}\n",
        "- [ ] ",
    ];
    let pieces: Vec<_> = SOUP.iter().chain(&more).copied().collect();
    for text in TRICKY {
        check_all(text);
    }
    for _ in 0..1_000 {
        let mut text = String::new();
        for _ in 0..numbers.below(40) {
            text.push_str(numbers.pick(&pieces));
        }
        check_all(&text);
    }
}

#[test]
fn highlighting_stops_when_the_client_disconnects() {
    let block = format!("```rust\n{}```\n\n", "let x = \"a\";\n".repeat(50));
    let asked = Cell::new(0);
    let wanted = || {
        asked.set(asked.get() + 1);
        asked.get() <= 100
    };
    let html = render_while(&block.repeat(20), &wanted).concat();
    let coloured = html.matches("hl-string").count();
    assert!((1..=100).contains(&coloured), "{coloured} of 1000 lines");
    assert!(
        asked.get() < 250 && html.matches("let").count() < 250,
        "it asked {} times",
        asked.get()
    );
    // As long as somebody waits, all is drawn.
    assert_eq!(render_while(&block, &|| true), render(&block));
}

#[test]
fn hostile_texts_are_rendered_in_bounded_time() {
    let mut texts: Vec<String> = [
        ">",
        "> ",
        "[",
        "![",
        "*",
        "_",
        "**a ",
        "- ",
        "1. ",
        "(",
        "{",
        "$",
        "$$",
        "\\(",
        "\\[",
        "`",
        "``",
        "<",
        "<a ",
        "<!--",
        "<![CDATA[",
        "<?",
        "&",
        "|",
        "|-",
        "~",
        "~~a",
        "#",
        "\\",
        "\0",
        "\n",
        "\u{202E}",
        "[](",
        "[a](<",
        "*a_",
        "a**b",
        "`a``",
        "$x$",
        "](",
        "[a]: b\n",
        "> a\n",
        "- a\n",
        "-\n",
        "~~~\n",
        "\t",
        " ",
        "* * ",
        "a\n=\n",
        "[a][",
        "[^",
        "<b>",
        "'\"",
        "\r",
        "$x_{",
        "\\begin{",
        "http://a_b/",
        "http://a",
        "www.",
        "www.a_.",
        "xwww.a.b/",
        "1http://a",
        "a@",
        "a@b.c_",
        ":mailto:",
        "。**",
        "*「",
        "~。~",
    ]
    .iter()
    .map(|piece| piece.repeat(100_000 / piece.len()))
    .collect();
    texts.push(format!("https://a/{}", "(".repeat(10_000) + &")".repeat(100_000)));
    texts.push("x".repeat(1_000_000));
    texts.push(format!("```js\n{}", "((((".repeat(200_000)));
    texts.push(format!(
        "| {}\n|{}\n{}",
        "a|".repeat(3_000),
        "-|".repeat(3_000),
        "|\n".repeat(3_000)
    ));
    let mut stairs = String::new();
    for depth in 0..400 {
        let _ = writeln!(stairs, "{}- a", "  ".repeat(depth));
    }
    texts.push(stairs);
    for text in texts {
        let start = Instant::now();
        check_all(&text);
        let took = start.elapsed();
        let shown: String = text.chars().take(12).collect();
        if took > Duration::from_millis(300) {
            eprintln!("{shown:?} took {took:?}");
        }
        assert!(took < Duration::from_secs(30), "{shown:?} took {took:?}");
    }
}

/// The words of a list in the page's sanitizer.
fn page_list(name: &str) -> BTreeSet<String> {
    let script = include_str!("../../web/sanitize.js");
    let (_, list) = script.split_once(&format!("const {name} = words('")).expect(name);
    list.split('\'').next().unwrap_or_default().split(' ').map(str::to_owned).collect()
}

fn set<'a>(words: impl IntoIterator<Item = &'a &'a str>) -> BTreeSet<String> {
    words.into_iter().map(|word| (*word).to_owned()).collect()
}

/// The elements and classes in the HTML of these texts.
fn written(texts: &[&str]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut elements, mut classes) = (BTreeSet::new(), BTreeSet::new());
    for text in texts {
        for html in render(text) {
            for tag in html.split('<').skip(1) {
                let tag = tag.split('>').next().unwrap_or_default();
                let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
                elements.insert(name.to_owned());
                let list = tag.split_once("class=\"").and_then(|(_, rest)| rest.split('"').next());
                classes
                    .extend(list.into_iter().flat_map(|list| list.split(' ')).map(str::to_owned));
            }
        }
    }
    (elements, classes)
}

#[test]
fn the_page_allows_exactly_what_is_rendered() {
    assert_eq!(page_list("MATH_TAGS"), set(&mathml::ELEMENTS));
    assert_eq!(page_list("MATH_ATTRS"), set(&mathml::ATTRIBUTES));
    assert_eq!(page_list("MATH_CLASSES"), set(&mathml::CLASSES));
    let coloured: BTreeSet<_> =
        code::KINDS.iter().chain(&code::DETAILS).map(|name| format!("hl-{name}")).collect();
    assert_eq!(page_list("CODE_CLASSES"), coloured);

    let long = format!("```\n{}```", "x\n".repeat(20_000));
    let html = [
        "# a\n## b\n### c\n#### d\n---\n> a\n\n- a\n\n1. b\n\n- [ ] c",
        "*a* **b** ~~c~~ `d` [e](https://f.example)  \ng\n\n<div>\n\n![a](b)\n\n[a]: b\n\n$\\nope$",
        "|a|b|c|\n|:-|:-:|-:|\n|1|2|3|",
        &long,
    ];
    let (elements, classes) = written(&html);
    assert_eq!(elements, page_list("HTML_TAGS"));
    assert_eq!(classes, page_list("CLASSES"));

    let formulas = FORMULAS.map(|formula| format!("$${formula}$$"));
    let (elements, classes) = written(&formulas.each_ref().map(String::as_str));
    let known = page_list("MATH_TAGS");
    assert!(elements.iter().all(|name| known.contains(name) || name == "p"), "{elements:?}");
    let missing: Vec<_> = page_list("MATH_CLASSES").difference(&classes).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "allowed and never written");
}

/// Formulas that use all that the page must let through.
const FORMULAS: [&str; 16] = [
    r"\boxed{x}",
    r"a \not= b \not{x+y}",
    r"a \shortmid b",
    r"\cancel{a b}",
    r"\bigl( x \big/",
    r"\begin{cases} 1 & 2 \\ 3 & 4 \end{cases}",
    r"\begin{rcases} 1 & 2 \end{rcases}",
    r"\begin{align} a &= b \\ c &= d \end{align}",
    r"\begin{array}{|l|c|r|} \hline 1 & 2 & 3 \\ \hline 4 & 5 & 6 \end{array}",
    r"\begin{array}{:l:c:r:} 1 & 2 & 3 \\ \hdashline 4 & 5 & 6 \end{array}",
    r"\begin{array}{||l|:r::} 1 & 2 \\ \hline \hline 4 & 5 \end{array}",
    r"\begin{matrix} 1 \end{matrix}",
    r"\begin{gather} a \\ b \end{gather}",
    r"\begin{multline} a \\ b \end{multline}",
    r"\begin{split} a &= b \end{split}",
    r"\begin{matrix*}[r] 1 \end{matrix*}",
];

#[test]
fn headings_and_long_code_continue_across_blocks() {
    assert_eq!(
        render("## a\n\n#### b\n\nc\n\n### d\n\n# e"),
        ["<h3>a</h3>", "<h4>b</h4>", "<p>c</p>", "<h4>d</h4>", "<h3>e</h3>"]
    );
    let code = format!("```rust\n/*\n{}*/ fn\n```\n\n```rust\nfn\n```", "x y\n".repeat(5_000));
    let blocks = render(&code);
    let (last, pieces) = blocks.split_last().unwrap();
    assert!(pieces.len() == 3 && !last.contains("continued"));
    for (i, piece) in pieces.iter().enumerate() {
        assert_eq!(piece.contains("<pre class=\"code continued\" data-lang=\"rust\">"), i > 0);
        assert!(piece.contains("<span class=\"hl-comment\">x y</span>\n"), "{i}");
    }
    assert!(pieces[2].contains("<span class=\"hl-storage hl-type\">fn</span>"));
}

#[test]
fn growing_code_costs_linear_time() {
    // Stream a line per update: only the open block is drawn again.
    let drawn = |lines: usize| {
        let mut streamer = untimed();
        streamer.push("```nosuch\n");
        let mut bytes = 0;
        for _ in 0..lines {
            streamer.push("    let number_of_things = 1;\n");
            bytes += streamer.update().iter().map(|(_, html)| html.len()).sum::<usize>();
        }
        bytes
    };
    let (few, many) = (drawn(2_000), drawn(16_000));
    assert!(many < few * 9, "{few} bytes for 2,000 lines, {many} for 16,000");
}

/// A row with one cell is filled up with as many as the table has columns.
#[test]
fn tables_with_missing_cells_stay_in_proportion_to_their_source() {
    let columns = 500;
    let row = |cell: &str, n: usize| format!("|{}\n", format!("{cell}|").repeat(n));
    let table = row("a", columns) + &row(":-:", columns) + &row("b", 1).repeat(500);
    let html = render(&table).concat();
    assert!(html.len() < 40 * table.len(), "{} from {}", html.len(), table.len());
    let small = render("|a|b|c|\n|-|-|-|\n|1|\n").concat();
    assert_eq!(small.matches("<td").count(), 3, "{small}");
}
