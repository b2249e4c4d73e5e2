//! `tealight verify`: checks every byte of the bundle against its manifest.

use crate::source::Program;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// A progress bar appears only if it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks the bundle in the program's tail. Returns what was found.
///
/// # Errors
/// When there is no bundle, or something differs: the first difference is named.
pub fn verify(program: &Program) -> anyhow::Result<String> {
    let Some(tail) = &program.tail else {
        anyhow::bail!(
            "{}: found no bundle to verify\nhint: make one with tealight-bundle --weights model.gguf -o chat",
            program.path.display()
        );
    };
    let start = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let result = tealight_bundle::verify(program.file.bytes(), tail, &mut |done, total| {
        if bar.is_none() && start.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("verifying {wide_bar} {bytes}/{total_bytes} {eta}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar = Some(ProgressBar::new(total).with_style(style));
        }
        if let Some(bar) = &bar {
            bar.set_position(done);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match result {
        Ok(()) => Ok(format!("{}: every byte is as it was bundled\n", program.path.display())),
        Err(error) => anyhow::bail!("{}: {error}", program.path.display()),
    }
}
