//! Parses the command line. Knows nothing of what the options do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::target::Target;
use super::usb::filesystem::FileSystem;

/// Make one executable file that chats: a runtime, weights and a chat page.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub new: New,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a bundle (what is done when no command is named).
    New(New),
    /// Fill a USB stick: a program for each system, and one copy of the weights for all.
    Usb(Usb),
    /// Change what lies behind the weights, without copying the weights.
    Set(Set),
    /// Show what is in a bundle.
    List(List),
    /// Take entries out of a bundle.
    Extract(Extract),
    /// Compare every byte of a bundle with its manifest.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct New {
    /// The weights: a GGUF file; of a split one any part.
    // Required, but an `Option`, because a subcommand needs none.
    #[arg(short, long, value_name = "FILE", required = true)]
    pub weights: Option<PathBuf>,
    /// The bundle to write (`.exe` is added for Windows).
    #[arg(short, long, value_name = "FILE", required = true)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub runtime: Executable,
    #[command(flatten)]
    pub settings: Settings,
    /// Make one file that starts on Windows, Linux and macOS.
    #[arg(long, conflicts_with_all = ["runtime", "target"])]
    pub universal: bool,
    /// Leave the weights in a file beside the executable.
    #[arg(long)]
    pub pair: bool,
    /// Replace files that exist.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Default, Args)]
pub struct Executable {
    /// The executable in front [default: `tealight` beside this program].
    #[arg(long, value_name = "FILE")]
    pub runtime: Option<PathBuf>,
    /// The system to make it for, on any system.
    #[arg(long, value_name = "NAME", conflicts_with = "runtime")]
    pub target: Option<Target>,
    /// The folder with a runtime for each target [default: where this program is, then `dist`].
    #[arg(long, value_name = "DIR", conflicts_with = "runtime")]
    pub dist: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
pub struct Settings {
    /// A folder with a chat page of your own.
    #[arg(long, value_name = "DIR")]
    pub web: Option<PathBuf>,
    /// What to call the bundle.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The system prompt, or `@FILE` to read it from a file (`@@…` for a text that begins with `@`).
    #[arg(long, value_name = "TEXT|@FILE")]
    pub system_prompt: Option<String>,
    /// Default arguments: one a line, `...` where the user's own go.
    #[arg(long, value_name = "FILE")]
    pub args: Option<PathBuf>,
    /// A Jinja chat template to use instead of the one in the weights.
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// A licence text to carry along; may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub license: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Usb {
    /// The folder to fill: the stick, or a folder to copy to it.
    pub folder: PathBuf,
    /// The weights: a GGUF file; of a split one any part.
    #[arg(short, long, value_name = "FILE")]
    pub weights: PathBuf,
    /// The folder with a runtime for each system [default: where this program is, then `dist`].
    #[arg(long, value_name = "DIR")]
    pub dist: Option<PathBuf>,
    /// What the stick is formatted with [default: what the folder is on, else fat32].
    #[arg(long, value_name = "NAME")]
    pub filesystem: Option<FileSystem>,
    /// The longest file to write; for tests.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub part_bytes: Option<u64>,
    #[command(flatten)]
    pub settings: Settings,
    /// Replace files that exist.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Set {
    /// The bundle to change.
    pub bundle: PathBuf,
    #[command(flatten)]
    pub settings: Settings,
    /// Compute what all conversations with the system prompt begin with, so that they start at once.
    #[arg(long)]
    pub prompt_cache: bool,
    /// The runtime that computes it [default: the bundle's own, or `tealight` beside this program].
    #[arg(long, value_name = "FILE", requires = "prompt_cache")]
    pub runtime: Option<PathBuf>,
    /// Remove the prompt cache.
    #[arg(long, conflicts_with = "prompt_cache")]
    pub no_prompt_cache: bool,
    /// Remove the chat page: the runtime shows the one inside it.
    #[arg(long, conflicts_with = "web")]
    pub no_web: bool,
    /// Remove the name.
    #[arg(long, conflicts_with = "name")]
    pub no_name: bool,
    /// Remove the system prompt.
    #[arg(long, conflicts_with = "system_prompt")]
    pub no_system_prompt: bool,
    /// Remove the default arguments.
    #[arg(long, conflicts_with = "args")]
    pub no_args: bool,
    /// Remove the chat template: the one in the weights is used.
    #[arg(long, conflicts_with = "chat_template")]
    pub no_chat_template: bool,
    /// Remove the licence texts.
    #[arg(long, conflicts_with = "license")]
    pub no_license: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// The bundle.
    pub bundle: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Extract {
    /// The bundle.
    pub bundle: PathBuf,
    /// The entries to take out [default: all].
    pub names: Vec<String>,
    /// The folder to put them in.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Take out the runtime, without anything behind it.
    #[arg(long)]
    pub runtime: bool,
    /// Replace files that exist.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The bundle.
    pub bundle: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn both_forms_of_new_parse() {
        Cli::command().debug_assert();
        let plain = Cli::try_parse_from(["b", "--weights", "w", "-o", "x"]).unwrap();
        assert_eq!(plain.new.output, Some(PathBuf::from("x")));
        let named = Cli::try_parse_from([
            "b",
            "new",
            "-w",
            "w",
            "-o",
            "x",
            "--license",
            "a",
            "--license",
            "b",
        ])
        .unwrap();
        assert!(
            matches!(named.command, Some(Command::New(new)) if new.settings.license.len() == 2)
        );
        assert!(Cli::try_parse_from(["b", "--weights", "w"]).is_err());
        assert!(Cli::try_parse_from(["b", "set", "x", "--name", "a", "--no-name"]).is_err());
        assert!(Cli::try_parse_from(["b", "list", "x", "--json"]).is_ok());
    }
}
