//! Renders one block of Markdown as HTML.
//!
//! Input: a block's source. Output: an HTML fragment with only the elements and attributes written here: nothing of the
//! source passes as markup. Knows nothing of the block's place in the answer; what other blocks define (link
//! references) does not exist for it.

use std::borrow::Cow;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};

use super::cjk::marked;
use super::code::{Colours, language};
use super::escape::push_escaped;
use super::formulas::Extracts;
use super::links::{anchor, clickable};

/// Cap on containers that one line may open; nobody writes more.
const LINE_CONTAINERS: usize = 32;

/// Cap on element nesting; anything deeper loses its markup.
const ELEMENT_DEPTH: usize = 64;

/// The level of an answer's first heading: below the page's title and the message's own heading.
const FIRST_HEADING: usize = 3;

/// State passed from block to block.
#[derive(Default)]
pub struct Surroundings<'w> {
    /// The colouring of the block's code, perhaps from an earlier, shorter state of it.
    pub colours: Colours<'w>,
    /// The headings that the block is under.
    pub outline: Outline,
    /// Whether the block continues the code of the block before it.
    pub continued: bool,
}

/// The levels of the headings that enclose the next block, outermost first.
///
/// Models begin at any level and skip levels; in the page, where screen readers go from heading to heading, each is at
/// most one level below the last.
#[derive(Clone, Default)]
pub struct Outline(Vec<usize>);

impl Outline {
    /// The level in the page of the next heading, which has `level` in the text.
    fn enter(&mut self, level: usize) -> usize {
        while self.0.pop_if(|enclosing| *enclosing >= level).is_some() {}
        self.0.push(level);
        (FIRST_HEADING + self.0.len() - 1).min(6)
    }
}

/// The HTML of a block.
pub fn block_html(source: &str, around: &mut Surroundings<'_>) -> String {
    let mut out = String::with_capacity(source.len() + source.len() / 4);
    if source.lines().any(|line| containers(line) > LINE_CONTAINERS) {
        out.push_str("<p>");
        push_escaped(&mut out, source.trim_end());
        out.push_str("</p>");
        return out;
    }
    around.colours.rewind();
    let (text, extracts) = Extracts::extract(source);
    let text = marked(&text);
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut events = Parser::new_ext(&text, options).into_offset_iter();
    let mut writer = Writer::new(out, &extracts, around);
    writer.filled_left = text.len() / 2 + FILLED_MIN;
    for (event, range) in events.by_ref() {
        writer.event(event, text.get(range).unwrap_or_default());
    }
    // Definitions produce no events, but a list of sources must not vanish.
    let mut definitions: Vec<_> = events.reference_definitions().iter().collect();
    definitions.sort_by_key(|(_, definition)| definition.span.start);
    for (label, definition) in definitions {
        writer.definition(label, &definition.dest, definition.title.as_deref());
    }
    writer.out
}

/// How many containers (quotes, list items) the start of a line opens.
fn containers(line: &str) -> usize {
    let mut count = 0;
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let unnumbered = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let marker = if unnumbered.len() == rest.len() {
            rest.strip_prefix(['>', '-', '*', '+'])
        } else {
            unnumbered.strip_prefix(['.', ')'])
        };
        match marker {
            // A quote's mark needs no space after it.
            Some(after) if after.starts_with([' ', '\t']) || rest.starts_with('>') => rest = after,
            _ => return count,
        }
        count += 1;
    }
}

/// Writes events as HTML.
struct Writer<'a, 'w> {
    out: String,
    extracts: &'a Extracts,
    around: &'a mut Surroundings<'w>,
    /// What closes each open element; empty for one nested too deeply to be written.
    closers: Vec<Cow<'static, str>>,
    /// The code block, raw HTML or image that is being read.
    pending: Option<Pending>,
    /// Number of open links: a link inside a link is not HTML.
    links: usize,
    /// Whether the next code block continues the one before this block.
    continued: bool,
    /// The columns of the open table, the next cell's column, and whether its head is open.
    columns: Vec<Alignment>,
    column: usize,
    head: bool,
    /// Cells that may still be added where rows have fewer than the table has columns.
    filled_left: usize,
}

/// Such cells that any block may have; more, by half its length.
const FILLED_MIN: usize = 256;

/// An element whose content is read whole before it is written.
enum Pending {
    Code { language: String, text: String },
    Html { text: String },
    Image { target: String, alt: String, nested: usize },
}

impl<'a, 'w> Writer<'a, 'w> {
    fn new(out: String, extracts: &'a Extracts, around: &'a mut Surroundings<'w>) -> Self {
        Self {
            continued: around.continued,
            out,
            extracts,
            around,
            closers: Vec::new(),
            pending: None,
            links: 0,
            columns: Vec::new(),
            column: 0,
            head: false,
            filled_left: FILLED_MIN,
        }
    }

    /// Writes one event; `source` is the Markdown it comes from.
    fn event(&mut self, event: Event<'_>, source: &str) {
        if let Some(pending) = self.pending.take() {
            self.pending = self.continue_pending(pending, event);
            return;
        }
        match event {
            Event::Start(tag) => self.start(tag, source),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.extracts.push_html(&mut self.out, &text, self.links > 0),
            Event::Code(text) => {
                self.out.push_str("<code>");
                push_escaped(&mut self.out, &self.extracts.restore(&text));
                self.out.push_str("</code>");
            }
            // A cell can have no other line break.
            Event::InlineHtml(tag) if self.in_cell() && is_break(&tag) => {
                self.out.push_str("<br>");
            }
            // The last three are syntax that is not enabled.
            Event::Html(text)
            | Event::InlineHtml(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text)
            | Event::FootnoteReference(text) => {
                push_escaped(&mut self.out, &self.extracts.restore(&text));
            }
            Event::SoftBreak => self.out.push('\n'),
            Event::HardBreak => self.out.push_str("<br>\n"),
            Event::Rule => self.out.push_str("<hr>"),
            Event::TaskListMarker(done) => self.out.push_str(if done {
                "<input type=\"checkbox\" disabled checked> "
            } else {
                "<input type=\"checkbox\" disabled> "
            }),
        }
    }

    /// Reads one event into the pending element; returns it while it is incomplete.
    fn continue_pending(&mut self, mut pending: Pending, event: Event<'_>) -> Option<Pending> {
        match (&mut pending, event) {
            (Pending::Code { language, text }, Event::End(TagEnd::CodeBlock)) => {
                self.code_block(language, text);
                return None;
            }
            (Pending::Html { text }, Event::End(TagEnd::HtmlBlock)) => {
                self.out.push_str("<pre class=\"raw-html\">");
                push_escaped(&mut self.out, self.extracts.restore(text).trim_end());
                self.out.push_str("</pre>");
                return None;
            }
            (Pending::Image { target, alt, nested: 0 }, Event::End(TagEnd::Image)) => {
                self.image(target, alt);
                return None;
            }
            (Pending::Image { nested, .. }, Event::Start(Tag::Image { .. })) => *nested += 1,
            (Pending::Image { nested, .. }, Event::End(TagEnd::Image)) => *nested -= 1,
            (Pending::Image { alt, .. }, Event::SoftBreak | Event::HardBreak) => alt.push(' '),
            (
                Pending::Code { text: content, .. }
                | Pending::Html { text: content }
                | Pending::Image { alt: content, .. },
                Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text),
            ) => content.push_str(&text),
            _ => {}
        }
        Some(pending)
    }

    fn start(&mut self, tag: Tag<'_>, source: &str) {
        match tag {
            Tag::Paragraph => self.open("<p>", "</p>"),
            Tag::Heading { level, .. } => {
                let level = self.around.outline.enter(level as usize);
                self.open(&format!("<h{level}>"), format!("</h{level}>"));
            }
            Tag::BlockQuote(_) => self.open("<blockquote>", "</blockquote>"),
            Tag::CodeBlock(kind) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => language(&self.extracts.restore(&info)),
                    CodeBlockKind::Indented => String::new(),
                };
                self.pending = Some(Pending::Code { language, text: String::new() });
            }
            Tag::HtmlBlock => {
                self.pending = Some(Pending::Html { text: String::new() });
            }
            Tag::List(None) => self.open("<ul>", "</ul>"),
            Tag::List(Some(1)) => self.open("<ol>", "</ol>"),
            Tag::List(Some(first)) => self.open(&format!("<ol start=\"{first}\">"), "</ol>"),
            Tag::Item => self.open("<li>", "</li>"),
            Tag::Table(columns) => {
                self.columns = columns;
                self.open("<table>", "</tbody></table>");
            }
            Tag::TableHead => {
                self.column = 0;
                self.head = true;
                self.open_part("<thead><tr>", "</tr></thead><tbody>");
            }
            Tag::TableRow => {
                self.column = 0;
                self.open_part("<tr>", "</tr>");
            }
            Tag::TableCell => self.cell(source),
            Tag::Emphasis => self.open("<em>", "</em>"),
            Tag::Strong => self.open("<strong>", "</strong>"),
            // One tilde means "about" or a range more often than it means deleted text.
            Tag::Strikethrough if source.starts_with("~~") => self.open("<del>", "</del>"),
            Tag::Strikethrough => self.open("~", "~"),
            Tag::Link { link_type, dest_url, .. } => self.link(link_type, &dest_url),
            Tag::Image { dest_url, .. } => {
                let target = self.extracts.restore(&dest_url).into_owned();
                self.pending = Some(Pending::Image { target, alt: String::new(), nested: 0 });
            }
            // Syntax that is not enabled.
            Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => self.open("", ""),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::TableHead => self.head = false,
            TagEnd::TableCell => self.column += 1,
            TagEnd::Link => self.links -= 1,
            _ => {}
        }
        if let Some(closer) = self.closers.pop() {
            self.out.push_str(&closer);
        }
    }

    /// Opens an element, unless it is too deep.
    fn open(&mut self, tag: &str, closer: impl Into<Cow<'static, str>>) {
        if self.closers.len() < ELEMENT_DEPTH {
            self.out.push_str(tag);
            self.closers.push(closer.into());
        } else {
            self.closers.push(Cow::Borrowed(""));
        }
    }

    /// Opens a part of a table, when the table itself was opened.
    fn open_part(&mut self, tag: &str, closer: &'static str) {
        if self.closers.last().is_some_and(|closer| !closer.is_empty()) {
            self.out.push_str(tag);
            self.closers.push(Cow::Borrowed(closer));
        } else {
            self.closers.push(Cow::Borrowed(""));
        }
    }

    fn cell(&mut self, source: &str) {
        if source.is_empty() {
            if self.filled_left == 0 {
                self.closers.push(Cow::Borrowed(""));
                return;
            }
            self.filled_left -= 1;
        }
        let class = match self.columns.get(self.column) {
            Some(Alignment::Left) => " class=\"align-left\"",
            Some(Alignment::Center) => " class=\"align-center\"",
            Some(Alignment::Right) => " class=\"align-right\"",
            Some(Alignment::None) | None => "",
        };
        if self.head {
            self.open_part(&format!("<th{class}>"), "</th>");
        } else {
            self.open_part(&format!("<td{class}>"), "</td>");
        }
    }

    /// Whether a table's cell is open.
    fn in_cell(&self) -> bool {
        self.closers.iter().any(|closer| matches!(&**closer, "</td>" | "</th>"))
    }

    fn code_block(&mut self, language: &str, text: &str) {
        // Only the first code block can continue the one before.
        let continued = std::mem::take(&mut self.continued);
        self.out.push_str(if continued {
            "<pre class=\"code continued\""
        } else {
            "<pre class=\"code\""
        });
        if !language.is_empty() {
            self.out.push_str(" data-lang=\"");
            push_escaped(&mut self.out, language);
            self.out.push('"');
        }
        self.out.push_str("><code>");
        let text = self.extracts.restore(text);
        self.around.colours.push_html(&mut self.out, language, &text);
        self.out.push_str("</code></pre>");
    }

    fn link(&mut self, link_type: LinkType, target: &str) {
        let target = self.extracts.restore(target);
        let href = if matches!(link_type, LinkType::Email) {
            clickable(&format!("mailto:{target}"))
        } else {
            clickable(&target)
        };
        match href {
            Some(href) if self.links == 0 => {
                let tag = anchor(&href);
                self.open(&tag, "</a>");
            }
            _ => self.open("", ""),
        }
        self.links += 1;
    }

    /// Writes an image as its description and a link, since the page loads nothing.
    fn image(&mut self, target: &str, alt: &str) {
        self.out.push_str("<span class=\"image-link\">");
        push_escaped(&mut self.out, &self.extracts.restore(alt));
        self.out.push_str("</span>");
        if self.links == 0 {
            self.address(target, " ");
        }
    }

    /// Writes a clickable web address after `space`, or nothing if it is not one.
    fn address(&mut self, target: &str, space: &str) {
        let is_mail = |href: &str| href.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("mailto:"));
        if let Some(href) = clickable(target).filter(|href| !is_mail(href)) {
            self.out.push_str(space);
            self.out.push_str(&anchor(&href));
            push_escaped(&mut self.out, &href);
            self.out.push_str("</a>");
        }
    }

    /// Writes a link reference definition as the line it was.
    fn definition(&mut self, label: &str, target: &str, title: Option<&str>) {
        self.out.push_str("<p class=\"link-definition\">[");
        push_escaped(&mut self.out, &self.extracts.restore(label));
        self.out.push_str("]: ");
        let target = self.extracts.restore(target);
        let before = self.out.len();
        self.address(&target, "");
        if self.out.len() == before {
            push_escaped(&mut self.out, &target);
        }
        if let Some(title) = title {
            self.out.push(' ');
            push_escaped(&mut self.out, &self.extracts.restore(title));
        }
        self.out.push_str("</p>");
    }
}

/// Whether a tag is a line break, however it is written.
fn is_break(tag: &str) -> bool {
    let name = tag.trim_start_matches('<').trim_start_matches('/');
    let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
    name.get(..end).is_some_and(|name| name.eq_ignore_ascii_case("br"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(source: &str) -> String {
        block_html(source, &mut Surroundings::default())
    }

    /// The HTML of a link to `href`.
    fn link(href: &str, text: &str) -> String {
        format!(
            "<a href=\"{href}\" target=\"_blank\" rel=\"noopener noreferrer nofollow\" \
             title=\"{href}\">{text}</a>"
        )
    }

    #[test]
    fn markdown_becomes_these_elements() {
        let cases = [
            (
                "a *b* **c** ~~d~~ `e<`",
                "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e&lt;</code></p>",
            ),
            ("10~20, 30~40 ~a~", "<p>10~20, 30~40 ~a~</p>"),
            ("a  \nb\\\nc\nd", "<p>a<br>\nb<br>\nc\nd</p>"),
            ("# a", "<h3>a</h3>"),
            ("a\n---", "<h3>a</h3>"),
            (
                "> ###### a\n> # b\n> ### c",
                "<blockquote><h3>a</h3><h3>b</h3><h4>c</h4></blockquote>",
            ),
            ("---", "<hr>"),
            ("> a\n> > b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"),
            ("- a\n  - b\n- c", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"),
            ("3. a\n\n4. b", "<ol start=\"3\"><li><p>a</p></li><li><p>b</p></li></ol>"),
            ("1. a", "<ol><li>a</li></ol>"),
            (
                "- [x] a\n- [ ] b",
                "<ul><li><input type=\"checkbox\" disabled checked> a</li>\
                 <li><input type=\"checkbox\" disabled> b</li></ul>",
            ),
            (
                "|a|b|c|d|\n|-|:-|:-:|-:|\n|1|2|3|4|",
                "<table><thead><tr><th>a</th><th class=\"align-left\">b</th>\
                 <th class=\"align-center\">c</th><th class=\"align-right\">d</th></tr></thead>\
                 <tbody><tr><td>1</td><td class=\"align-left\">2</td>\
                 <td class=\"align-center\">3</td><td class=\"align-right\">4</td></tr></tbody></table>",
            ),
            ("```\na<b\n```", "<pre class=\"code\"><code>a&lt;b\n</code></pre>"),
            ("```nosuch x\na", "<pre class=\"code\" data-lang=\"nosuch\"><code>a</code></pre>"),
            ("    a\n\n    b", "<pre class=\"code\"><code>a\n\nb</code></pre>"),
            ("\"a\" -- b...", "<p>&quot;a&quot; -- b...</p>"),
            ("a[^1]", "<p>a[^1]</p>"),
            ("&lt;&amp;&copy;&#x202E;&#xFDD0;", "<p>&lt;&amp;©\u{FFFD}\u{FFFD}</p>"),
        ];
        for (source, expected) in cases {
            assert_eq!(html(source), expected, "{source:?}");
        }
    }

    #[test]
    fn raw_html_is_shown_as_text() {
        let cases = [
            ("a <b onclick=x>c</b>", "<p>a &lt;b onclick=x&gt;c&lt;/b&gt;</p>"),
            (
                "<script>\nalert('1')\n</script>",
                "<pre class=\"raw-html\">&lt;script&gt;\nalert(&#39;1&#39;)\n&lt;/script&gt;</pre>",
            ),
            ("<!-- x", "<pre class=\"raw-html\">&lt;!-- x</pre>"),
            (
                "| <b> |\n|-|",
                "<table><thead><tr><th>&lt;b&gt;</th></tr></thead><tbody></tbody></table>",
            ),
            ("a<br>b", "<p>a&lt;br&gt;b</p>"),
            ("<div>$x$", "<pre class=\"raw-html\">&lt;div&gt;$x$</pre>"),
        ];
        for (source, expected) in cases {
            assert_eq!(html(source), expected, "{source:?}");
        }
    }

    #[test]
    fn line_breaks_in_cells_are_line_breaks() {
        let cell = |text: &str| {
            let html = html(&format!("| {text} |\n|-|\n| {text} |"));
            let (_, head) = html.split_once("<th>").unwrap();
            let (head, rest) = head.split_once("</th>").unwrap();
            assert!(rest.contains(&format!("<td>{head}</td>")), "{html}");
            head.to_owned()
        };
        for tag in ["<br>", "<br/>", "<br />", "<BR>", "</br>", "<br class=\"x\">"] {
            assert_eq!(
                cell(&format!("a{tag}**b{tag}c**")),
                "a<br><strong>b<br>c</strong>",
                "{tag}"
            );
        }
        for tag in ["<brx>", "<b>", "<!--br-->", "`<br>`", "\\<br>", "&lt;br&gt;"] {
            assert!(!cell(tag).contains("<br"), "{tag}");
        }
    }

    #[test]
    fn bold_beside_cjk_punctuation_is_bold() {
        let cases = [
            ("**重点。**后面", "<strong>重点。</strong>后面"),
            ("これは**「引用」**です", "これは<strong>「引用」</strong>です"),
            ("中文**“引用”**中文", "中文<strong>“引用”</strong>中文"),
            (
                "**`a`**입니다, **(b)**는",
                "<strong><code>a</code></strong>입니다, <strong>(b)</strong>는",
            ),
            (
                "*「a」*は~~「b」~~と***「c」***で",
                "<em>「a」</em>は<del>「b」</del>と<em><strong>「c」</strong></em>で",
            ),
            ("**中文（a）**，**b：**c", "<strong>中文（a）</strong>，<strong>b：</strong>c"),
            ("**[a](https://a.b)**。", ""),
            ("`**「a」**は` a。* b* ** 「c」**は", "<code>**「a」**は</code> a。* b* ** 「c」**は"),
            ("1 * 「a」 * 2", "1 * 「a」 * 2"),
        ];
        for (source, expected) in cases {
            let html = html(source);
            if expected.is_empty() {
                assert!(
                    html.starts_with("<p><strong><a ") && html.ends_with("</a></strong>。</p>")
                );
            } else {
                assert_eq!(html, format!("<p>{expected}</p>"), "{source:?}");
            }
            assert!(!html.contains('\u{FDD2}'), "{source:?}");
        }
        for source in [
            "[「*」*は](https://a.b/「*」*は)",
            "![は*「a」*](x)",
            "<b title=\"は*「」*\">",
            "```は*「\nは*「」*は\n```",
            "[は*「」*は]: https://a.b 'は*「」*'",
            "    は*「」*は",
            "$は*「」*は$ \\(は*「",
            "<div>\nは*「」*は",
            "|は*「」*は|\n|-|",
            "<https://a.b/は*「」*は>",
            "は*「」*は https://a.b/*「",
            "&#xFDD2;*「",
        ] {
            assert!(!html(source).contains('\u{FDD2}'), "{source:?}");
        }
    }

    #[test]
    fn bare_urls_become_links_in_plain_text_only() {
        let a = link("https://a.b/_c_*d/e", "https://a.b/_c_*d/e");
        let mail = link("mailto:a@b.c", "a@b.c");
        let cases = [
            ("see https://a.b/_c_*d/e.", format!("<p>see {a}.</p>")),
            ("**https://a.b/_c_*d/e**", format!("<p><strong>{a}</strong></p>")),
            ("**https://a.b/_c_*d/e**后", format!("<p><strong>{a}</strong>后</p>")),
            ("# a@b.c", format!("<h3>{mail}</h3>")),
            ("- a@b.c", format!("<ul><li>{mail}</li></ul>")),
            ("www.a.b", format!("<p>{}</p>", link("http://www.a.b", "www.a.b"))),
            (
                "`https://a.b` ``a@b.c``",
                "<p><code>https://a.b</code> <code>a@b.c</code></p>".into(),
            ),
            (
                "[https://a.b](https://a.c)",
                format!("<p>{}</p>", link("https://a.c", "https://a.b")),
            ),
            (
                "[a](https://a.c/x_y_)_z_",
                format!("<p>{}<em>z</em></p>", link("https://a.c/x_y_", "a")),
            ),
            (
                "[a *a@b.c* b](https://a.c)",
                format!("<p>{}</p>", link("https://a.c", "a <em>a@b.c</em> b")),
            ),
            ("![https://a.b](x)", "<p><span class=\"image-link\">https://a.b</span></p>".into()),
            ("[https://a.b]", format!("<p>[{}]</p>", link("https://a.b", "https://a.b"))),
            (
                "<b href=\"https://a.b\">",
                "<pre class=\"raw-html\">&lt;b href=&quot;https://a.b&quot;&gt;</pre>".into(),
            ),
            (
                "x <b href=\"https://a.b\">",
                "<p>x &lt;b href=&quot;https://a.b&quot;&gt;</p>".into(),
            ),
            ("    https://a.b", "<pre class=\"code\"><code>https://a.b</code></pre>".into()),
            (
                "<https://a.b> <a@b.c>",
                format!("<p>{} {mail}</p>", link("https://a.b", "https://a.b")),
            ),
            (
                "https://a.b/\"onx=\"",
                format!("<p>{}&quot;onx=&quot;</p>", link("https://a.b/", "https://a.b/")),
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(html(source), expected, "{source:?}");
        }
        let table = html("|https://a.b/|a@b.c|\n|-|-|");
        assert_eq!(table.matches("<a href").count(), 2, "{table}");
    }

    #[test]
    fn headings_never_skip_a_level() {
        let mut around = Surroundings::default();
        let mut level = |source: &str| block_html(source, &mut around).as_bytes()[2] - b'0';
        let levels: Vec<u8> = [2, 3, 6, 3, 2, 1, 4, 5, 6, 6]
            .map(|n: usize| level(&format!("{} a", "#".repeat(n))))
            .into();
        assert_eq!(levels, [3, 4, 5, 4, 3, 3, 4, 5, 6, 6]);
    }

    #[test]
    fn links_and_images() {
        let a = "https://a.example/";
        let cases = [
            ("[b](https://a.example/)".to_owned(), format!("<p>{}</p>", link(a, "b"))),
            ("<https://a.example/>".to_owned(), format!("<p>{}</p>", link(a, a))),
            (
                "<me@a.example>".to_owned(),
                format!("<p>{}</p>", link("mailto:me@a.example", "me@a.example")),
            ),
            ("[b](javascript:alert(1))".to_owned(), "<p>b</p>".to_owned()),
            ("[b](&#106;avascript:alert)".to_owned(), "<p>b</p>".to_owned()),
            ("[b](<java&#10;script:x>)".to_owned(), "<p>b</p>".to_owned()),
            ("[b](//a.example) [c](d.html) [e](data:x)".to_owned(), "<p>b c e</p>".to_owned()),
            (
                "[b](https://a.example/?a=1&b=%22\"c)".to_owned(),
                format!("<p>{}</p>", link("https://a.example/?a=1&amp;b=%22%22c", "b")),
            ),
            (
                "[b](https://a.example/$x$)".to_owned(),
                format!("<p>{}</p>", link("https://a.example/$x$", "b")),
            ),
            (
                "![b *c* `d`](https://a.example/)".to_owned(),
                format!("<p><span class=\"image-link\">b c d</span> {}</p>", link(a, a)),
            ),
            ("![b](x.png)".to_owned(), "<p><span class=\"image-link\">b</span></p>".to_owned()),
            (
                "[![b](https://b.example/)](https://a.example/)".to_owned(),
                format!("<p>{}</p>", link(a, "<span class=\"image-link\">b</span>")),
            ),
            (
                "![a ![b](c) d](e)".to_owned(),
                "<p><span class=\"image-link\">a b d</span></p>".to_owned(),
            ),
            (
                "[b][1]\n\n[1]: https://a.example/ \"t\"".to_owned(),
                format!(
                    "<p>{}</p><p class=\"link-definition\">[1]: {} t</p>",
                    link(a, "b"),
                    link(a, a)
                ),
            ),
            (
                "[b]: <javascript:x>".to_owned(),
                "<p class=\"link-definition\">[b]: javascript:x</p>".to_owned(),
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(html(&source), expected, "{source:?}");
        }
    }

    #[test]
    fn formulas_keep_their_place() {
        let x = "<math display=\"inline\"><mi>x</mi></math>";
        let block = "<math display=\"block\"><mi>x</mi></math>";
        let cases = [
            ("a $x$, \\(x\\)", format!("<p>a {x}, {x}</p>")),
            ("$$\nx\n$$", format!("<p>{block}</p>")),
            ("1. a\n   \\[\n   x\n   \\]\n2. b", format!("<ol><li>a\n{block}</li><li>b</li></ol>")),
            ("**$x$** _$x$_", format!("<p><strong>{x}</strong> <em>{x}</em></p>")),
            ("`$x$` and `\\(x\\)`", "<p><code>$x$</code> and <code>\\(x\\)</code></p>".to_owned()),
            (
                "```\n\\(x\\) $x$\n```",
                "<pre class=\"code\"><code>\\(x\\) $x$\n</code></pre>".to_owned(),
            ),
            ("from $5 to $10", "<p>from $5 to $10</p>".to_owned()),
            ("[$x$](x)", format!("<p>{x}</p>")),
            ("![$x$](x)", "<p><span class=\"image-link\">$x$</span></p>".to_owned()),
            ("$\\nope<$", "<p><code class=\"math-source\">$\\nope&lt;$</code></p>".to_owned()),
            ("so \\(x + ", "<p>so <code class=\"math-source\">\\(x +</code></p>".to_owned()),
            ("\\[\na\n=\nb", "<p><code class=\"math-source\">\\[\na\n=\nb</code></p>".to_owned()),
        ];
        for (source, expected) in cases {
            assert_eq!(html(source), expected, "{source:?}");
        }
    }

    #[test]
    fn deep_nesting_is_flattened() {
        let quotes = format!("{}a", ">".repeat(10_000));
        assert_eq!(html(&quotes), format!("<p>{}a</p>", "&gt;".repeat(10_000)));
        let deep = format!("{}a{}", "*a **b ".repeat(500), "** *".repeat(500));
        assert!(html(&deep).matches("<em>").count() <= ELEMENT_DEPTH * 8);
    }
}
