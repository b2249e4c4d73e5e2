//! Renders a model's Markdown as HTML for the page.
//!
//! Input: a text, complete or still being written. Output: HTML fragments, one per top-level block, of elements and
//! attributes that a page with a strict content security policy shows as they are: no raw HTML, no styles, no scripts,
//! no images. Knows nothing of the page, the connection to it, or the model.
//!
//! A text is cut into blocks (`blocks`), and each block is rendered on its own (`markdown`): its formulas and bare
//! addresses are extracted first (`formulas`, `mathml`, `addresses`), its code is coloured (`code`), and all text goes
//! through `escape`. Since the cuts depend only on what is already written, rendering the text while it grows and
//! rendering it whole agree. All that is carried from block to block is the level of headings and, where long code was
//! cut, the colours.

mod addresses;
mod blocks;
mod cjk;
mod clock;
mod code;
mod escape;
mod formulas;
mod links;
mod markdown;
mod mathml;

use blocks::Blocks;
use code::Colours;
use markdown::{Surroundings, block_html};

/// Renders a finished text: one HTML fragment per top-level block.
///
/// Link reference definitions apply to their own block only, and are shown as text.
#[must_use]
pub fn render(markdown: &str) -> Vec<String> {
    render_while(markdown, &|| true)
}

/// Like [`render`], but stops early once `wanted` returns false.
#[must_use]
pub fn render_while(markdown: &str, wanted: &dyn Fn() -> bool) -> Vec<String> {
    let mut streamer = Streamer::for_client(wanted);
    streamer.push(markdown);
    // All at once, each block is sent exactly once and in order.
    streamer.update().into_iter().map(|(_, html)| html).collect()
}

/// Renders an answer while it is being written.
///
/// At any moment the last fragment of each block is what [`render`] gives for the text so far.
#[derive(Default)]
pub struct Streamer<'w> {
    blocks: Blocks,
    /// The number of the open block.
    number: usize,
    /// What was last sent for the open block.
    sent: Option<String>,
    /// State that the finished blocks pass on to the open one.
    around: Surroundings<'w>,
    /// Text came since the last update.
    changed: bool,
}

impl<'w> Streamer<'w> {
    /// A streamer for a new answer, which renders for as long as `wanted` returns true.
    #[must_use]
    pub fn for_client(wanted: &'w dyn Fn() -> bool) -> Self {
        let around =
            Surroundings { colours: Colours::for_client(wanted), ..Surroundings::default() };
        Self { around, ..Self::default() }
    }

    /// Appends text; nothing is rendered yet.
    pub fn push(&mut self, text: &str) {
        self.blocks.push(text);
        self.changed = true;
    }

    /// The fragments that changed since the last call: block number and HTML.
    ///
    /// A block is sent again as long as it is open and changes. The call in which the next block appears sends the
    /// finished one for the last time, if it changed again.
    pub fn update(&mut self) -> Vec<(usize, String)> {
        let mut out = Vec::new();
        if !std::mem::take(&mut self.changed) {
            return out;
        }
        loop {
            if !self.around.colours.are_wanted() {
                return out;
            }
            let Some(source) = self.blocks.next_finished() else { break };
            let html = block_html(&source, &mut self.around);
            if self.sent.as_ref() != Some(&html) {
                out.push((self.number, html));
            }
            self.number += 1;
            self.sent = None;
            self.around.continued = self.blocks.is_continued();
            self.around.colours.next_piece(self.around.continued);
        }
        if let Some(source) = self.blocks.open() {
            // The block is rendered again later: its headings must not count twice.
            let outline = self.around.outline.clone();
            let html = block_html(&source, &mut self.around);
            self.around.outline = outline;
            if self.sent.as_ref() != Some(&html) {
                out.push((self.number, html.clone()));
                self.sent = Some(html);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
