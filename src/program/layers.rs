//! Where settings come from: the bundle, the environment, the command line.

use anyhow::Context as _;
use std::ffi::OsString;
use tealight::cli;
use tealight::settings::{Config, Layer, Origin, Set};
use tealight::source::Program;
use tealight_bundle::args::Args;
use tealight_bundle::tail::Role;

/// A setting from the environment or the bundle that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct UsageError {
    place: String,
    message: String,
}

/// The configuration layers, highest precedence last.
pub fn layers(program: Option<&Program>, user: Vec<Set>) -> anyhow::Result<Vec<Layer>> {
    let mut layers = Vec::new();
    if let Some(program) = program {
        let sets = match program.text(Role::Args) {
            None => Vec::new(),
            Some(text) => {
                let args =
                    Args::parse(text.as_bytes()).context("the bundle's default arguments")?;
                let all: Vec<OsString> = args.around(std::iter::empty::<OsString>());
                cli::parse(&all).map_err(|e| misplaced("the bundle's default arguments", &e))?
            }
        };
        let mut layer = Layer::new(Origin::Bundle, sets);
        for (flag, role) in
            [("system-prompt", Role::SystemPrompt), ("chat-template", Role::ChatTemplate)]
        {
            if let Some(text) = program.text(role) {
                layer.set(flag, text);
            }
        }
        layers.push(layer);
    }
    layers.extend(environment()?);
    layers.push(Layer::new(Origin::Flag, user));
    Ok(layers)
}

/// Settings for a command that takes none from a bundle.
pub fn settings(user: Vec<Set>) -> anyhow::Result<Config> {
    Ok(Config::resolve(&layers(None, user)?)?)
}

/// The layers from environment variables.
fn environment() -> anyhow::Result<Vec<Layer>> {
    let variables = cli::environment(&|name| std::env::var_os(name)).into_iter();
    let layers = variables.map(|cli::Variable { name, arguments, warning }| {
        let sets = cli::parse(&arguments)
            .map_err(|e| misplaced(format!("environment variable {name}"), &e))?;
        Ok(Layer { warning, ..Layer::new(Origin::Environment(name), sets) })
    });
    layers.collect()
}

/// The first line of clap's message without its `error:`, plus where the arguments come from.
fn misplaced(place: impl Into<String>, error: &clap::Error) -> UsageError {
    let text = error.to_string();
    let message = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
    UsageError { place: place.into(), message }
}
