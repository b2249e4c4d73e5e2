//! LaTeX formulas as `MathML`.
//!
//! Input: the LaTeX of one formula. Output: a `<math>` element of known elements and attributes, or nothing if the
//! LaTeX is not understood or too large. Knows nothing of where formulas begin and end in a text.

use std::convert::Infallible;

use pulldown_latex::config::DisplayMode;
use pulldown_latex::event::{ColorChange, ColorTarget, Event, StateChange};
use pulldown_latex::{Parser, RenderConfig, Storage, write_mathml};

use super::escape::push_escaped;
use crate::system::quietly;

/// The longest formula that is typeset.
const FORMULA_BYTES: usize = 4 * 1024;

/// The deepest nesting of groups in a formula that is typeset.
const FORMULA_DEPTH: usize = 48;

/// Cap on scripts, roots and the like in a formula: each may nest in the one before without any brace, as in `x_x_x` or
/// `\sqrt\sqrt x`.
const FORMULA_MARKS: usize = 512;

/// Commands that define commands. A formula in an answer needs none, and they could make a short
/// text expand into a huge one.
const DEFINITIONS: [&str; 12] = [
    "def",
    "edef",
    "gdef",
    "xdef",
    "let",
    "futurelet",
    "newcommand",
    "renewcommand",
    "providecommand",
    "newenvironment",
    "renewenvironment",
    "DeclareMathOperator",
];

/// The color that stands for a box inside the library, the command that sets it, and the border style that the library
/// writes for it.
const BOX_COLOR: (u8, u8, u8) = (1, 2, 3);
const BOX_COMMAND: &str = "\\textcolor{#010203}";
const BOX_STYLE: &str = "border: 0.06em solid rgb(1 2 3)";

/// The elements that may be output; the page allows the same.
pub const ELEMENTS: [&str; 24] = [
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mspace",
    "msub",
    "msup",
    "msubsup",
    "munder",
    "mover",
    "munderover",
    "mfrac",
    "msqrt",
    "mroot",
    "mtable",
    "mtr",
    "mtd",
    "mpadded",
    "mphantom",
    "mmultiscripts",
    "mprescripts",
    "none",
];

/// Their attributes.
pub const ATTRIBUTES: [&str; 24] = [
    "display",
    "displaystyle",
    "scriptlevel",
    "mathvariant",
    "stretchy",
    "symmetric",
    "largeop",
    "movablelimits",
    "accent",
    "accentunder",
    "fence",
    "separator",
    "form",
    "lspace",
    "rspace",
    "minsize",
    "maxsize",
    "width",
    "height",
    "depth",
    "voffset",
    "linethickness",
    "columnspan",
    "rowspan",
];

/// Their classes.
pub const CLASSES: [&str; 21] = [
    "math-boxed",
    "small",
    "mop-negated",
    "cell-left",
    "cell-right",
    "menv-align",
    "menv-alignlike",
    "menv-arraylike",
    "menv-border-only",
    "menv-cases",
    "menv-cells-left",
    "menv-cells-right",
    "menv-hdashline",
    "menv-hline",
    "menv-left-dashed",
    "menv-left-solid",
    "menv-multline",
    "menv-nonumber",
    "menv-right-dashed",
    "menv-right-solid",
    "menv-with-eqn",
];

/// The `MathML` of a formula.
pub fn mathml(latex: &str, display: bool) -> Option<String> {
    if !is_reasonable(latex) {
        return None;
    }
    let latex = translate(latex);
    let html = checked(&latex, display);
    if html.is_none() && display && latex.contains(['&', '\\']) {
        // Lines without an environment around them, which other typesetters accept.
        return checked(&format!("\\begin{{aligned}}{latex}\\end{{aligned}}"), display);
    }
    html
}

/// Whether a formula has a reasonable size, nesting and commands.
fn is_reasonable(latex: &str) -> bool {
    if latex.len() > FORMULA_BYTES || latex.trim().is_empty() {
        return false;
    }
    let mut depth = 0_usize;
    let mut marks = 0_usize;
    for byte in latex.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'\\' | b'^' | b'_' => marks += 1,
            _ => {}
        }
        if depth > FORMULA_DEPTH || marks > FORMULA_MARKS {
            return false;
        }
    }
    let nested = latex.matches("\\left").count().max(latex.matches("\\begin").count());
    nested <= FORMULA_DEPTH && !latex.split('\\').skip(1).any(is_definition)
}

/// Whether the text after a backslash begins with a command that defines commands.
fn is_definition(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.get(..end).is_some_and(|name| DEFINITIONS.contains(&name))
}

/// The `MathML` of what the library can typeset.
fn checked(latex: &str, display: bool) -> Option<String> {
    // The library still panics in places on odd input; that is one more formula that could not be typeset.
    let markup = quietly(|| typeset(latex, display))??;
    filter(&markup)
}

/// Runs the library, refusing formulas that it reports an error for.
fn typeset(latex: &str, display: bool) -> Option<String> {
    let storage = Storage::new();
    let mut events = Vec::new();
    for event in Parser::new(latex, &storage) {
        match event.ok()? {
            Event::StateChange(StateChange::Color(ColorChange { color: BOX_COLOR, .. })) => {
                let change = ColorChange { color: BOX_COLOR, target: ColorTarget::Border };
                events.push(Ok(Event::StateChange(StateChange::Color(change))));
            }
            // Colors become style attributes, which the page's policy forbids; for a space with a height and no width
            // the library leaves the tag open.
            Event::StateChange(StateChange::Color(_)) | Event::Space { width: None, .. } => {}
            event => events.push(Ok::<_, Infallible>(event)),
        }
    }
    let display_mode = if display { DisplayMode::Block } else { DisplayMode::Inline };
    let config = RenderConfig { display_mode, ..RenderConfig::default() };
    let mut markup = Vec::new();
    write_mathml(&mut markup, events.into_iter(), config).ok()?;
    String::from_utf8(markup).ok()
}

/// Replaces commands that the library does not know by equivalents that it knows.
///
/// Answers to exercises end with `\boxed`, for which a color stands.
fn translate(latex: &str) -> String {
    let mut out = String::with_capacity(latex.len());
    let mut rest = latex;
    while let Some((before, command)) = rest.split_once('\\') {
        out.push_str(before);
        let letters = command.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(command.len());
        let (name, after) = command.split_at_checked(letters).unwrap_or((command, ""));
        rest = after;
        match name {
            "boxed" => out.push_str(BOX_COMMAND),
            "bm" => out.push_str("\\boldsymbol"),
            "tag" => out.push_str("\\qquad\\text"),
            "notag" | "nonumber" | "hfill" => out.push(' '),
            "label" => {
                rest = after.split_once('}').map_or(after, |(_, after)| after);
            }
            "" => {
                // An escaped character, which may be a backslash.
                out.push('\\');
                let mut characters = command.chars();
                out.extend(characters.next());
                rest = characters.as_str();
            }
            _ => {
                out.push('\\');
                out.push_str(name);
            }
        }
    }
    out.push_str(rest);
    out
}

/// Copies `MathML`, keeping known attributes only; `None` if an element is unknown or a tag is missing, so that the
/// output is balanced and harmless whatever the library does.
fn filter(markup: &str) -> Option<String> {
    let mut out = String::with_capacity(markup.len());
    let mut open = Vec::new();
    let mut rest = markup;
    while let Some((text, tagged)) = rest.split_once('<') {
        push_text(&mut out, text);
        // The library writes the relation "less than" unescaped.
        if tagged.starts_with('<') {
            out.push_str("&lt;");
            rest = tagged;
            continue;
        }
        let (tag, after) = tagged.split_once('>')?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop()? != name {
                return None;
            }
            out.push_str("</");
            out.push_str(name);
            out.push('>');
            continue;
        }
        let alone = tag.strip_suffix('/');
        let inside = alone.unwrap_or(tag);
        let (name, attributes) = inside.split_once(' ').unwrap_or((inside, ""));
        if !ELEMENTS.contains(&name) {
            return None;
        }
        out.push('<');
        out.push_str(name);
        push_attributes(&mut out, attributes)?;
        out.push('>');
        if alone.is_some() {
            // HTML reads `<mspace/>` inside math as closed, but a closing tag is never misread.
            out.push_str("</");
            out.push_str(name);
            out.push('>');
        } else {
            open.push(name);
        }
    }
    push_text(&mut out, rest);
    open.is_empty().then_some(out)
}

/// Copies text that is partly escaped: the library escapes the text of `\text`, not operators.
fn push_text(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once('&') {
        push_escaped(out, before);
        rest = reference;
        match ["amp;", "lt;", "gt;", "nbsp;"].iter().find(|name| reference.starts_with(**name)) {
            Some(name) => {
                out.push('&');
                out.push_str(name);
                rest = reference.get(name.len()..).unwrap_or_default();
            }
            None => out.push_str("&amp;"),
        }
    }
    push_escaped(out, rest);
}

/// Copies the known attributes of `name="value" …`.
fn push_attributes(out: &mut String, attributes: &str) -> Option<()> {
    let mut rest = attributes.trim();
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = quoted.split_once('"')?;
        rest = after.trim_start();
        if name == "style" && value == BOX_STYLE {
            out.push_str(" class=\"math-boxed\"");
        } else if name == "class" {
            let known: Vec<&str> = value.split(' ').filter(|c| CLASSES.contains(c)).collect();
            if !known.is_empty() {
                out.push_str(&format!(" class=\"{}\"", known.join(" ")));
            }
        } else if ATTRIBUTES.contains(&name) {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(value);
            out.push('"');
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_mathml() {
        assert_eq!(
            mathml("x^2", false).as_deref(),
            Some("<math display=\"inline\"><msup><mi>x</mi><mn>2</mn></msup></math>")
        );
        assert_eq!(
            mathml(r"\boxed{x}", true).as_deref(),
            Some(
                "<math display=\"block\"><mrow class=\"math-boxed\"><mrow><mi>x</mi></mrow></mrow></math>"
            )
        );
        assert!(mathml("a < b", true).is_some_and(|m| m.contains("&lt;") && m.contains("block")));
    }

    #[test]
    fn common_formulas_are_supported() {
        for latex in [
            r"\frac{-b \pm \sqrt{b^2 - 4ac}}{2a}",
            r"\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}",
            r"\sum_{i=1}^{n} i = \frac{n(n+1)}{2}",
            r"\begin{aligned} a &= b + c \\ &= d \end{aligned}",
            r"\begin{align} a &= b \\ c &= d \end{align}",
            r"\begin{align*} a &= b \\[2pt] c &= d \end{align*}",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
            r"f(x) = \begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{otherwise} \end{cases}",
            r"\boxed{42}",
            r"\mathbb{R}^n \to \mathcal{L}(\mathbf{x})",
            r"\left( \frac{a}{b} \right)",
            r"\lim_{x \to 0} \frac{\sin x}{x} = 1",
            r"\vec{v} \cdot \hat{n} = \overline{z}",
            r"5 \, \text{km} \times 100\%",
            r"P(A \mid B) \approx 0.5",
            r"\binom{n}{k}",
            r"\underbrace{a+b}_{c}",
            r"\color{red}{x} + \textcolor{blue}{y}",
            r"a \! b \quad c",
            r"\operatorname{softmax}(x)",
            r"90^\circ \implies \theta",
            r"x \neq y \leq z \ldots",
            r"\bm{x} \tag{1} \label{eq:x}",
            r"a &= b \\ &= c \notag",
            r"\text{中文 é} \bigl( \tfrac12 \bigr)",
            r"\begin{array}{c|c} 1 & 2 \\ \hline 3 & 4 \end{array}",
        ] {
            let html = mathml(latex, true);
            assert!(html.is_some(), "{latex}");
            assert!(!html.unwrap_or_default().contains(" style="), "{latex}");
        }
    }

    #[test]
    fn unsupported_formulas_are_refused() {
        for latex in [
            "",
            " ",
            r"\frac{1",
            r"\nosuchcommand",
            "x^",
            "a^b^c",
            r"\begin{align} x",
            "}",
            r"\def\a{\a\a}\a",
            r"\newcommand{\x}{y}\x",
        ] {
            assert_eq!(mathml(latex, false), None, "{latex}");
        }
        for hostile in
            ["{", "x_{", r"\left(", r"\sqrt{", r"\frac", r"\sqrt", "x_", r"\begin{matrix}"]
        {
            let _ = mathml(&hostile.repeat(10_000), true);
            let _ = mathml(&hostile.repeat(FORMULA_BYTES / hostile.len()), true);
            let _ = mathml(&hostile.repeat(40), true);
        }
        assert_eq!(mathml(&"x".repeat(FORMULA_BYTES + 1), false), None);
    }

    #[test]
    fn the_filter_passes_only_known_markup() {
        assert_eq!(
            filter("<math onload=\"x\" style=\"y\"></math>").as_deref(),
            Some("<math></math>")
        );
        for markup in
            ["<script></script>", "<math>", "</math>", "<mrow></mi>", "<mi", "<mi a=b></mi>"]
        {
            assert_eq!(filter(markup), None, "{markup}");
        }
    }
}
