//! `tealight chat`: a conversation in the terminal.
//!
//! Entries come from stdin, so a pipe works as well as a person. Ctrl-C stops an answer; between answers it discards
//! what was typed, and twice in a row it ends the program.

mod entry;
mod lines;

use super::{Interrupt, Interrupted, paint, show};
use crate::chat::{Answer, AnswerPart, AnswerSyntax, Conversation, Message, Reader};
use crate::constraint::Guide;
use crate::engine::{Engine, Event, Finish, Generation, Timings};
use crate::sampler::{Sampling, Stage};
use crate::settings::{Config, numbers, read_text};
use entry::Entry;
use lines::{Lines, Typed};
use std::cell::Cell;
use std::fs;
use std::io::{self, IsTerminal as _};
use tealight_bundle::shown::say;
use tealight_bundle::signals::Ending;

const HELP: &str = "\
/help, /?            this list
/bye, /exit          quit
/clear               start a new conversation
/set NAME VALUE      change max_tokens, system, seed, or a sampling setting such as temperature
/show                show the settings and the conversation's size
/save FILE           write the conversation to a file
/load FILE           continue a saved conversation
/regen               answer again
/undo                remove the last question and its answer
/stats               show the speed of the last answer
/upload FILE         send a text file with the next question
\"\"\"                  begin and end a multi-line text; nothing inside it is a command

Arrow keys move within the line and recall earlier input; pasted text is one question.
Ctrl-C stops an answer, Ctrl-D quits.";

/// The conversation and its settings.
struct Chat<'e> {
    engine: &'e Engine,
    config: Config,
    guide: Option<Guide>,
    messages: Vec<Message>,
    upload: Option<String>,
    last: Option<Timings>,
}

/// Whether the conversation goes on.
#[derive(PartialEq)]
enum Next {
    Line,
    End,
}

/// Chats until `/bye` or the end of the input.
///
/// # Errors
/// When stdin cannot be read, the configured constraint is invalid, or Ctrl-C is pressed twice between answers
/// ([`Interrupted`]).
pub fn chat(engine: &Engine, config: &Config, interrupt: &Interrupt) -> anyhow::Result<()> {
    let guide = config.constraint.as_ref().map(|c| engine.guide(c)).transpose()?;
    let (messages, upload, last) = (Vec::new(), None, None);
    let mut chat = Chat { engine, config: config.clone(), guide, messages, upload, last };
    chat.clear();
    if io::stdin().is_terminal() && !config.quiet {
        say(format_args!("{} — /help for help, /bye to quit", engine.info.name));
    }
    let mut lines = Lines::new(config.history.as_deref());
    let mut cancelled = false;
    loop {
        let text = match lines.next()? {
            Typed::Text(text) => text,
            Typed::Cancelled if cancelled => return Err(Interrupted(Ending::Interrupt).into()),
            Typed::Cancelled => {
                say(format_args!("press Ctrl-C again to quit, or use Ctrl-D or /bye"));
                cancelled = true;
                continue;
            }
            Typed::End => return Ok(()),
        };
        cancelled = false;
        let next = match entry::read(&text) {
            Entry::Empty => Next::Line,
            Entry::Command(name, rest) => chat.command(name, rest, interrupt),
            Entry::Unknown(word) => {
                say(format_args!(
                    "/{word}: no such command; see /help, or put the text between \"\"\" to send it"
                ));
                Next::Line
            }
            Entry::Question(text) => chat.ask(text, interrupt),
        };
        if next == Next::End {
            return Ok(());
        }
    }
}

impl Chat<'_> {
    fn clear(&mut self) {
        self.messages.clear();
        self.upload = None;
        if let Some(system) = self.config.system_prompt.clone().filter(|s| !s.is_empty()) {
            self.messages.push(Message::new("system", system));
        }
    }

    fn command(&mut self, name: &str, rest: &str, interrupt: &Interrupt) -> Next {
        let result = match name {
            "help" | "?" => {
                say(format_args!("{HELP}"));
                Ok(())
            }
            "bye" | "exit" => return Next::End,
            "clear" => {
                self.clear();
                Ok(())
            }
            "set" => self.set(rest),
            "show" => {
                self.show();
                Ok(())
            }
            "save" => self.save(rest),
            "load" => self.load(rest),
            "regen" => return self.regenerate(interrupt),
            "undo" => self.undo(),
            "stats" => {
                self.stats();
                Ok(())
            }
            "upload" => self.upload(rest),
            other => Err(format!("/{other} is not implemented")),
        };
        if let Err(message) = result {
            say(format_args!("{message}"));
        }
        Next::Line
    }

    fn ask(&mut self, text: &str, interrupt: &Interrupt) -> Next {
        let text = match self.upload.take() {
            Some(upload) => format!("{upload}\n\n{text}"),
            None => text.to_owned(),
        };
        self.messages.push(Message::new("user", text));
        self.answer(interrupt)
    }

    /// Answers the last message, which is a question.
    fn answer(&mut self, interrupt: &Interrupt) -> Next {
        interrupt.begin();
        let next = self.answer_on(interrupt);
        interrupt.end();
        next
    }

    fn answer_on(&mut self, interrupt: &Interrupt) -> Next {
        let conversation =
            Conversation { messages: self.messages.clone(), ..self.config.conversation() };
        let prompt = match self.engine.chat.prompt(&conversation) {
            Ok(prompt) => prompt,
            Err(error) => {
                say(format_args!("{error}"));
                self.messages.pop();
                return Next::Line;
            }
        };
        let request = Generation {
            prompt: self.engine.chat_ids(&prompt.text),
            visible: self.engine.visible(&prompt.plan),
            sampling: self.config.sampling.clone(),
            max_tokens: self.config.predict,
            stops: self.config.stops.clone(),
            ignore_end: self.config.ignore_end,
            thoughts: self.config.reasoning_budget.and_then(|tokens| {
                let message = &self.config.reasoning_budget_message;
                self.engine.thought_limit(&prompt.plan, tokens, message)
            }),
            guide: self.guide.clone().map(|guide| guide.after(prompt.plan.thoughts_end())),
            ..Generation::default()
        };
        let open = Cell::new(true);
        let mut printer = Printer::new(prompt.plan);
        let outcome = self.engine.generate(
            &request,
            &|| open.get() && !interrupt.is_raised(),
            &mut |event| {
                if let Event::Text { text, .. } = event {
                    open.set(printer.push(&text).unwrap_or(false) && open.get());
                }
            },
        );
        // After a failure too: the text must not stay dimmed.
        let answer = printer.finish();
        match outcome {
            Ok(outcome) => {
                let _ = show("\n");
                self.last = Some(outcome.timings);
                if outcome.finish == Finish::Length {
                    say(format_args!(
                        "[cut off: reached the token limit or the end of the context]"
                    ));
                }
                self.messages.push(Message {
                    reasoning_content: Some(answer.reasoning).filter(|text| !text.is_empty()),
                    ..Message::new("assistant", answer.content)
                });
            }
            Err(error) => {
                say(format_args!("{error}"));
                self.messages.pop();
            }
        }
        if open.get() { Next::Line } else { Next::End }
    }

    fn regenerate(&mut self, interrupt: &Interrupt) -> Next {
        if self.messages.last().is_some_and(|m| m.role == "assistant") {
            self.messages.pop();
        }
        if self.messages.last().is_none_or(|m| m.role != "user") {
            say(format_args!("/regen: there is no question to answer again"));
            return Next::Line;
        }
        self.answer(interrupt)
    }

    fn undo(&mut self) -> Result<(), String> {
        let question = self.messages.iter().rposition(|m| m.role == "user");
        let question = question.ok_or("/undo: there is nothing to undo")?;
        self.messages.truncate(question);
        Ok(())
    }

    fn set(&mut self, rest: &str) -> Result<(), String> {
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let value = value.trim();
        let wrong = |expected: &str| format!("/set {name}: found `{value}`, expected {expected}");
        let whole = || {
            let parsed = value.parse::<i64>().ok().filter(|n| *n >= -1);
            parsed.ok_or_else(|| wrong("a whole number, -1 or more"))
        };
        let s = &mut self.config.sampling;
        match name {
            "seed" => s.seed = u64::try_from(whole()?).ok(),
            "max_tokens" => self.config.predict = usize::try_from(whole()?).ok(),
            "system" => {
                self.config.system_prompt = Some(value.to_owned());
                if self.messages.first().is_some_and(|m| m.role == "system") {
                    self.messages.remove(0);
                }
                if !value.is_empty() {
                    self.messages.insert(0, Message::new("system", value));
                }
            }
            "samplers" => {
                let named = value.split(';').map(str::trim).filter(|n| !n.is_empty());
                let stages: Option<Vec<Stage>> = named.map(Stage::named).collect();
                s.samplers = stages.ok_or_else(|| wrong(&Stage::names()))?;
            }
            name => {
                let name = if name == "temp" { "temperature" } else { name };
                let Some((_, number)) = numbers().find(|(known, _)| *known == name) else {
                    let names: Vec<&str> = numbers().map(|(name, _)| name).collect();
                    let names = names.join(", ");
                    return Err(format!(
                        "/set: expected max_tokens, system, seed, samplers, {names}"
                    ));
                };
                let parsed = value.parse().ok().filter(|&x| number.allows(x));
                (number.set)(s, parsed.ok_or_else(|| wrong(&number.expected()))?);
            }
        }
        Ok(())
    }

    fn show(&self) {
        let s = &self.config.sampling;
        let or_minus_one = |n: Option<String>| n.unwrap_or_else(|| "-1".to_owned());
        // The usual settings, and those that were changed.
        let usual = ["temperature", "top_k", "top_p", "min_p"];
        let default = Sampling::default();
        let shown = numbers().filter(|(name, n)| {
            usual.contains(name) || (n.get)(s).to_bits() != (n.get)(&default).to_bits()
        });
        let numbers: Vec<String> =
            shown.map(|(name, n)| format!("{name} {}", (n.get)(s))).collect();
        say(format_args!(
            "{}  seed {}  max_tokens {}",
            numbers.join("  "),
            or_minus_one(s.seed.map(|n| n.to_string())),
            or_minus_one(self.config.predict.map(|n| n.to_string())),
        ));
        let computed = self.last.map_or(0, |t| t.prompt_tokens + t.generated_tokens);
        say(format_args!(
            "{} messages; {computed} of {} tokens of context",
            self.messages.len(),
            self.engine.info.context
        ));
    }

    fn stats(&self) {
        match self.last {
            None => say(format_args!("no answer yet")),
            Some(t) => say(format_args!(
                "prompt: {} tokens, {} of them reused, {:.1} tokens/s; answer: {} tokens, {:.1} tokens/s",
                t.prompt_tokens,
                t.reused_tokens,
                t.prompt_per_second(),
                t.generated_tokens,
                t.generated_per_second()
            )),
        }
    }

    fn save(&self, path: &str) -> Result<(), String> {
        let fail = |e: io::Error| format!("/save {path}: {e}");
        let json = serde_json::to_string_pretty(&self.messages).map_err(|e| fail(e.into()))?;
        // Existing files are never overwritten: the program writes only what it was told to.
        let mut file = fs::File::create_new(path).map_err(fail)?;
        io::Write::write_all(&mut file, json.as_bytes()).map_err(fail)
    }

    fn load(&mut self, path: &str) -> Result<(), String> {
        let text = read(path, "/load")?;
        self.messages = serde_json::from_str(&text)
            .map_err(|e| format!("/load {path}: {e}; expected a file made by /save"))?;
        Ok(())
    }

    fn upload(&mut self, path: &str) -> Result<(), String> {
        let text = read(path, "/upload")?;
        say(format_args!(
            "{path}: {} characters, to be sent with the next question",
            text.chars().count()
        ));
        self.upload = Some(text);
        Ok(())
    }
}

/// Prints an answer, with its reasoning dimmed if the terminal shows colours.
struct Printer {
    reader: Reader,
    answer: Answer,
    pale: bool,
    thinking: bool,
}

impl Printer {
    fn new(plan: AnswerSyntax) -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let pale = colours && io::stdout().is_terminal();
        Self { reader: Reader::new(plan), answer: Answer::default(), pale, thinking: false }
    }

    /// Prints the next piece. `false`: the reader of stdout is gone.
    fn push(&mut self, text: &str) -> io::Result<bool> {
        let parts = self.reader.push(text);
        self.print(parts)
    }

    /// Prints the rest. Returns the answer.
    fn finish(mut self) -> Answer {
        let parts = self.reader.finish(false);
        let _ = self.print(parts).and_then(|_| paint(self.turn(false)));
        self.answer
    }

    fn print(&mut self, parts: Vec<AnswerPart>) -> io::Result<bool> {
        let mut open = true;
        for part in parts {
            let (thinking, text) = match &part {
                AnswerPart::Reasoning(text) => (true, text.as_str()),
                AnswerPart::Content(text) => (false, text.as_str()),
                // No tools are offered here.
                AnswerPart::Call { .. } | AnswerPart::Arguments(_) => (self.thinking, ""),
            };
            open = paint(self.turn(thinking)).and_then(|_| show(text))?;
            self.answer.add(part);
        }
        Ok(open)
    }

    /// The text to print where reasoning begins or ends.
    fn turn(&mut self, thinking: bool) -> &'static str {
        if std::mem::replace(&mut self.thinking, thinking) == thinking {
            return "";
        }
        match (thinking, self.pale) {
            (true, true) => "\x1b[2m",
            (true, false) => "",
            (false, true) => "\x1b[0m\n\n",
            (false, false) => "\n\n",
        }
    }
}

/// Reads a text file for a command.
fn read(path: &str, command: &str) -> Result<String, String> {
    read_text(path.as_ref()).map_err(|error| format!("{command} {error}"))
}
