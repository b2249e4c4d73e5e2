//! Fits a conversation to a template: rewrites what the template can't express.
//!
//! The template's abilities tell what it supports in general. Whether it shows all of this conversation is tested by
//! rendering it with a marker in place of each text. If a marker is missing, the next rewriting is tried; after the
//! last one the conversation is refused.

use super::abilities::{Systems, Texts, Thoughts};
use super::answer::{AnswerSyntax, CallSyntax};
use super::rewrites::{
    add_to_system, fit_arguments, fit_systems, in_full, in_words, joined, merge, one_at_a_time,
    pair_up, set_apart, shorten_ids,
};
use super::template::Renderer;
use super::tools::{describe, tool_calls, tool_grammar};
use super::{
    Conversation, Ending, Format, Inputs, Known, Message, Prompt, ReasoningFormat, TemplateError,
    ToolChoice, jinja,
};
use crate::worker::Patience;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The prompt for a conversation, and the syntax of its answer.
///
/// # Errors
/// When the template refuses it, when a required call can't be enforced, or when time runs out.
pub(super) fn prompt(
    known: &Known,
    asked: &Conversation,
    patience: &Patience<'_>,
) -> Result<Prompt, TemplateError> {
    let renderer = known.template.within(patience);
    let prompt = fitted(known, asked, &renderer);
    // After an interruption, what the probes found is unreliable.
    renderer.interruption().map_or(prompt, Err)
}

fn fitted(
    known: &Known,
    asked: &Conversation,
    renderer: &Renderer<'_>,
) -> Result<Prompt, TemplateError> {
    let mut variables = asked.variables.clone();
    if asked.no_thoughts {
        // Templates know this setting under either of two names.
        for name in ["enable_thinking", "thinking"] {
            variables.entry(name).or_insert(Value::Bool(false));
        }
    }
    let described = !asked.tools.is_empty() && !known.abilities.tools(renderer);
    let tools = match asked.tools.as_slice() {
        [] => Value::Null,
        _ if described => Value::Null,
        tools => tools.iter().map(|tool| tool.raw.clone()).collect(),
    };
    let stage = Stage { known, renderer, asked, tools, variables: &variables };
    let mut messages = asked.messages.clone();
    if described {
        add_to_system(&mut messages, &describe(&asked.tools));
    }
    let messages = stage.fitted(&messages)?;
    let mut text = stage.render(&messages)?;
    if asked.ending == Ending::Continue {
        stage.cut_within_last(&mut text, messages)?;
    }
    let thinking = known.tags.is_some_and(|tags| tags.is_open(&text));
    let closed = thinking && asked.no_thoughts;
    if let (true, Some(tags)) = (closed, known.tags) {
        text.truncate(text.trim_end().len());
        text.push_str(&format!("\n\n{}\n\n", tags.close));
    }
    let format = if described { Format::generic() } else { known.format };
    let may = match asked.choice {
        ToolChoice::Auto if !asked.tools.is_empty() => {
            tool_calls(format, &asked.tools, asked.parallel)
        }
        _ => None,
    };
    let must = match asked.choice {
        ToolChoice::Auto | ToolChoice::None => None,
        ToolChoice::Required | ToolChoice::Named(_) => {
            let grammar = tool_grammar(format, &asked.tools, &asked.choice, asked.parallel);
            Some(grammar.ok_or(TemplateError::Unforced)?)
        }
    };
    // Some models name a recipient in every answer.
    let calls = !asked.tools.is_empty() || known.format.whole;
    let bare = known.format.bare() || described || must.is_some();
    let plan = AnswerSyntax {
        tags: known.tags,
        thinking: thinking && !closed,
        apart: asked.reasoning != ReasoningFormat::None,
        calls: calls.then(|| CallSyntax {
            format: known.format,
            tools: asked.tools.clone().into(),
            parallel: asked.parallel,
            bare: bare && !asked.tools.is_empty(),
        }),
    };
    Ok(Prompt { text, plan, must, may })
}

/// A template and its inputs other than the messages.
struct Stage<'s> {
    known: &'s Known,
    renderer: &'s Renderer<'s>,
    asked: &'s Conversation,
    tools: Value,
    variables: &'s Map<String, Value>,
}

/// One way to rewrite a conversation for the template.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Where system messages may stay, if the template accepts them there.
    systems: Systems,
    /// Whether an assistant's text beside calls becomes a separate message before them.
    apart: bool,
    /// Whether adjacent messages of the same role are merged, and parallel calls split into one per message.
    merged: bool,
    /// Whether calls and results are written as text, leaving only user and assistant messages.
    words: bool,
}

const ABLE: Way = Way { systems: Systems::Anywhere, apart: false, merged: false, words: false };

/// The ways, in the order in which they are tried.
const WAYS: &[Way] = &[
    ABLE,
    Way { apart: true, ..ABLE },
    Way { systems: Systems::None, ..ABLE },
    Way { systems: Systems::None, apart: true, ..ABLE },
    Way { systems: Systems::First, apart: true, merged: true, ..ABLE },
    Way { systems: Systems::None, apart: true, merged: true, ..ABLE },
    Way { systems: Systems::None, merged: true, words: true, ..ABLE },
];

/// Cap on messages plus calls: pairing calls with results is quadratic, and no template renders this many.
const TURNS_MAX: usize = 20_000;

/// What a template leaves out.
struct Lost {
    /// Describes the first omission that is not acceptable.
    why: Option<String>,
    /// Whether no message is shown at all.
    all: bool,
    /// Indices of messages whose reasoning is missing.
    thoughts: Vec<usize>,
}

impl Stage<'_> {
    fn render(&self, messages: &[Message]) -> Result<String, TemplateError> {
        let inputs = Inputs {
            messages,
            tools: &self.tools,
            documents: &self.asked.documents,
            add_generation_prompt: self.asked.ending == Ending::Answer,
            variables: self.variables,
            now: jinja::now(),
        };
        match self.renderer.render(&inputs) {
            // Some templates rely on fields that a client may leave out.
            Err(TemplateError::Failed(_)) if self.tools.is_array() => {
                let tools = in_full(self.tools.clone());
                self.renderer.render(&Inputs { tools: &tools, ..inputs })
            }
            rendered => rendered,
        }
    }

    /// The least rewriting under which the template shows everything.
    fn fitted(&self, messages: &[Message]) -> Result<Vec<Message>, TemplateError> {
        let count: usize = messages.iter().map(|message| 1 + message.tool_calls.len()).sum();
        if count > TURNS_MAX {
            let why = format!("found {count} messages and calls, expected at most {TURNS_MAX}");
            return Err(TemplateError::Refused(why));
        }
        let mut refusal = None;
        let mut tried: Vec<Vec<Message>> = Vec::new();
        let mut shows_some = false;
        for way in WAYS {
            let fitted = self.fit(messages.to_vec(), *way);
            if tried.is_empty() && self.is_usual(&fitted) {
                return Ok(fitted);
            }
            if tried.contains(&fitted) {
                continue;
            }
            let error = match self.lost(&fitted) {
                Ok(Lost { why: None, thoughts, .. }) => {
                    return Ok(self.with_thoughts(fitted, &thoughts));
                }
                Ok(Lost { why: Some(why), all, .. }) => {
                    shows_some |= !all;
                    TemplateError::Refused(why)
                }
                // The template may reject the markers rather than the texts.
                Err(error) if self.render(&fitted).is_err() => error,
                Err(_) => return Ok(fitted),
            };
            refusal.get_or_insert(error);
            tried.push(fitted);
        }
        // A template that ignores all messages does so on purpose.
        if let (Some(TemplateError::Refused(_)), Some(first)) = (&refusal, tried.first())
            && !shows_some
            && self.render(first).is_ok()
        {
            return Ok(first.clone());
        }
        Err(refusal.unwrap_or_else(|| TemplateError::Refused("there are none".to_owned())))
    }

    /// Whether user and assistant messages alternate, which the template is known to show.
    fn is_usual(&self, messages: &[Message]) -> bool {
        let (renderer, abilities) = (self.renderer, &self.known.abilities);
        let system = messages.first().is_some_and(|first| first.role == "system");
        let rest = &messages[usize::from(system)..];
        let in_turn = rest.iter().enumerate().all(|(index, message)| {
            message.role == ["user", "assistant"][index % 2]
                && message.tool_calls.is_empty()
                && message.tool_call_id.is_none()
        });
        in_turn
            && !rest.is_empty()
            && self.tools.is_null()
            && abilities.texts(renderer).is_some()
            && (!system || abilities.systems(renderer) != Systems::None)
    }

    /// What the template leaves out: each text is replaced by a marker, and the output searched for the markers.
    fn lost(&self, messages: &[Message]) -> Result<Lost, TemplateError> {
        const MARK: &str = "xq7z";
        let mark = |index: usize, what: usize| format!("{MARK}{index}m{what}q");
        let mut marked = messages.to_vec();
        for (index, message) in marked.iter_mut().enumerate() {
            if !message.content.trim().is_empty() {
                *message.content = mark(index, 0);
            }
            let thoughts =
                [&mut message.reasoning_content, &mut message.reasoning, &mut message.thinking];
            thoughts.into_iter().flatten().for_each(|text| *text = mark(index, 1));
            for (number, call) in message.tool_calls.iter_mut().enumerate() {
                let object = json!({ "x": mark(index, 2 + number) });
                let arguments = &mut call.function.arguments;
                *arguments = if arguments.is_string() { object.to_string().into() } else { object };
            }
        }
        // A template may uppercase text.
        let text = self.render(&marked)?.to_lowercase();
        let marks = text.split(MARK).skip(1).filter_map(|rest| Some(rest.split_once('q')?.0));
        let shown: HashSet<&str> = marks.collect();
        let is_lost = |index: usize, what: usize| !shown.contains(&*format!("{index}m{what}"));
        // A result rewritten as text has the role `user`, but is no user turn.
        let is_turn = |m: &Message| m.role == "user" && m.tool_call_id.is_none();
        let last_user = messages.iter().rposition(is_turn);
        let mut lost = Lost { why: None, all: shown.is_empty(), thoughts: Vec::new() };
        for (index, message) in messages.iter().enumerate() {
            if !message.content.trim().is_empty() && is_lost(index, 0) {
                let (role, said) = (&message.role, snippet(&message.content));
                let why = format!("it leaves out what the {role} says, \"{said}\"");
                lost.why.get_or_insert(why);
            }
            for (number, call) in message.tool_calls.iter().enumerate() {
                if is_lost(index, 2 + number) {
                    let why = format!("it leaves out the call of `{}`", call.function.name);
                    lost.why.get_or_insert(why);
                }
            }
            // All reasoning models leave out the reasoning of earlier turns.
            let thinks = thoughts(message).is_some();
            if thinks && last_user.is_none_or(|user| user < index) && is_lost(index, 1) {
                lost.thoughts.push(index);
            }
        }
        Ok(lost)
    }

    /// Moves reasoning that the template has no field for into the content, if it is shown there.
    fn with_thoughts(&self, messages: Vec<Message>, without: &[usize]) -> Vec<Message> {
        if without.is_empty() {
            return messages;
        }
        let continued = self.asked.ending == Ending::Continue;
        let mut changed = messages.clone();
        for &index in without {
            let message = &mut changed[index];
            if message.tool_calls.is_empty() && continued {
                continue;
            }
            let said = thoughts(message).map(str::to_owned).unwrap_or_default();
            Thoughts::ReasoningContent.give(message, None);
            *message.content = joined(&said, &message.content);
        }
        let mut apart = changed.clone();
        set_apart(&mut apart, true);
        merge(&mut apart);
        let all_shown = |lost: &Lost| lost.why.is_none() && lost.thoughts.is_empty();
        let shown =
            |messages: &Vec<Message>| self.lost(messages).is_ok_and(|lost| all_shown(&lost));
        [changed, apart].into_iter().find(shown).unwrap_or(messages)
    }

    /// Cuts a prompt at the end of its last message's text. The template may write anything after that, the same words
    /// included, so a marker appended to the message locates the end.
    fn cut_within_last(
        &self,
        prompt: &mut String,
        mut messages: Vec<Message>,
    ) -> Result<(), TemplateError> {
        const MARK: &str = "xq7endq";
        if let Some(last) = messages.last_mut() {
            last.content.push_str(MARK);
        }
        let marked = self.render(&messages)?;
        let Some(at) = marked.rfind(MARK) else {
            let message = "the last message's text is not in the prompt, and can't be continued";
            return Err(TemplateError::Refused(message.to_owned()));
        };
        // Where the template trims texts, whitespace before the marker is not in the prompt.
        let (whole, trimmed) = (&marked[..at], marked[..at].trim_end());
        let kept = if prompt.starts_with(whole) { whole } else { trimmed };
        kept.clone_into(prompt);
        Ok(())
    }

    /// The messages, rewritten in this way.
    fn fit(&self, mut messages: Vec<Message>, way: Way) -> Vec<Message> {
        let (renderer, abilities) = (self.renderer, &self.known.abilities);
        if messages.iter().any(|m| m.role == "tool" || !m.tool_calls.is_empty()) {
            pair_up(&mut messages);
            match abilities.calls(renderer).filter(|_| !way.words) {
                Some(able) => {
                    fit_arguments(&mut messages, able.arguments, &self.asked.tools);
                    if !able.any_id {
                        shorten_ids(&mut messages);
                    }
                    if !able.several || way.merged {
                        one_at_a_time(&mut messages);
                    }
                    let thinks = messages.iter().any(|m| m.reasoning_content.is_some());
                    // Templates that name the field `thinking` take no text beside calls.
                    let never = thinks && abilities.thoughts(renderer) == Thoughts::Thinking;
                    if way.apart || never {
                        set_apart(&mut messages, way.apart);
                    }
                }
                None => in_words(&mut messages),
            }
        }
        if messages.iter().any(|m| m.role == "system") {
            fit_systems(&mut messages, abilities.systems(renderer).min(way.systems));
        }
        if way.merged {
            // Limited templates often require user and assistant to alternate.
            merge(&mut messages);
        }
        if messages.iter().any(|m| m.reasoning_content.is_some()) {
            let name = abilities.thoughts(renderer);
            for message in &mut messages {
                let said = message.reasoning_content.take();
                name.give(message, said);
            }
        }
        if abilities.texts(renderer) == Some(Texts::Typed) {
            messages.iter_mut().for_each(|message| message.content.is_typed = true);
        }
        messages
    }
}

fn thoughts(message: &Message) -> Option<&str> {
    let names = [&message.reasoning_content, &message.reasoning, &message.thinking];
    names.into_iter().flatten().next().map(String::as_str)
}

/// The beginning of a text.
fn snippet(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut short: String = text.trim().chars().take(CHARS_MAX).collect();
    if text.trim().chars().count() > CHARS_MAX {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::super::{Chat, Tool, ToolCall};
    use super::*;
    use crate::constraint::Constraint;

    macro_rules! real {
        ($name:literal) => {
            chat(include_str!(concat!("../../tests/golden/templates/", $name, ".jinja")))
        };
    }

    fn chat(source: &str) -> Chat {
        Chat::new(source, None, None, "<s>", "</s>").unwrap()
    }

    fn tool() -> Tool {
        let raw = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
        Tool::read(&raw).unwrap()
    }

    fn round(arguments: Value) -> Conversation {
        let id = Some("abcdef123".to_owned());
        let call = ToolCall::new(id.clone(), "look", arguments);
        let messages = vec![
            Message::new("system", "Be brief."),
            Message::new("user", "Where?"),
            Message { tool_calls: vec![call], ..Message::new("assistant", "") },
            Message {
                tool_call_id: id,
                name: Some("look".to_owned()),
                ..Message::new("tool", "there")
            },
        ];
        Conversation { messages, tools: vec![tool()], ..Conversation::default() }
    }

    #[test]
    fn arguments_come_in_the_form_that_the_template_takes() {
        for arguments in [json!({"at": 1}), json!("{\"at\": 1}")] {
            let text = |chat: &Chat| chat.prompt(&round(arguments.clone())).unwrap().text;
            let qwen = text(&real!("Qwen-Qwen2.5-7B-Instruct"));
            assert!(qwen.contains("{\"name\": \"look\", \"arguments\": {\"at\": 1}}"), "{qwen}");
            let coder = text(&real!("Qwen3-Coder"));
            assert!(coder.contains("<parameter=at>\n1\n</parameter>"), "{coder}");
            let functionary = text(&real!("meetkai-functionary-medium-v3.2"));
            assert!(functionary.contains(">>>look\n{\"at\":"), "{functionary}");
            let nemo = text(&real!("mistralai-Mistral-Nemo-Instruct-2407"));
            assert!(nemo.contains("\"arguments\": {\"at\": 1}, \"id\": \"abcdef123\""), "{nemo}");
        }
        let broken = round(json!("{\"at\": "));
        assert!(real!("Qwen-Qwen2.5-7B-Instruct").prompt(&broken).is_ok());
    }

    #[test]
    fn a_template_that_knows_no_functions_is_told_of_them_in_words() {
        let strict = "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('no ' + m.role) }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        let prompt = chat(strict).prompt(&round(json!({"at": 1}))).unwrap();
        let text = prompt.text;
        assert!(text.starts_with("[user]Be brief.\n\nYou can call these functions"), "{text}");
        assert!(text.contains("{\"name\": \"look\", \"parameters\": {\"type\": \"object\"}}"));
        assert!(text.contains("Where?[assistant]{\"name\":\"look\",\"arguments\":{\"at\":1}}"));
        assert!(text.ends_with("[user]Result of look:\nthere"), "{text}");
        let calls = prompt.plan.calls.unwrap();
        assert!(calls.bare && calls.format.is_generic());
        // DeepSeek V3.1 has a call format, but its template does not describe functions.
        let prompt = real!("deepseek-ai-DeepSeek-V3.1").prompt(&round(json!({}))).unwrap();
        assert!(prompt.text.contains("Be brief.\n\nYou can call these functions"));
        assert!(prompt.plan.calls.unwrap().bare);
    }

    #[test]
    fn a_call_can_be_a_must_where_calls_are_json() {
        let must = |chat: &Chat| {
            chat.prompt(&Conversation { choice: ToolChoice::Required, ..round(json!({})) })
        };
        let form = |chat: &Chat| match must(chat).unwrap().must {
            Some(Constraint::Calls(calls)) => {
                let form = calls.form.unwrap();
                (form.start + &form.before, form.arguments)
            }
            other => panic!("{other:?}"),
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(form(&real!("Qwen-Qwen3-0.6B")), pair("<tool_call>\n", "arguments"));
        assert_eq!(
            form(&real!("mistralai-Mistral-Nemo-Instruct-2407")),
            pair("[TOOL_CALLS][", "arguments")
        );
        assert_eq!(form(&real!("Qwen3-Coder")), pair("", "arguments"));
        assert!(must(&real!("Qwen3-Coder")).unwrap().plan.calls.unwrap().bare);
        assert!(matches!(must(&real!("openai-gpt-oss-120b")), Err(TemplateError::Unforced)));
        assert!(real!("Qwen3-Coder").prompt(&round(json!({}))).unwrap().must.is_none());
    }

    #[test]
    fn a_call_that_may_be_made_is_told_from_an_answer() {
        let may = |chat: &Chat| chat.prompt(&round(json!({}))).unwrap().may;
        let qwen = may(&real!("Qwen-Qwen2.5-7B-Instruct")).unwrap();
        assert_eq!(qwen.form.unwrap().before, "<tool_call>\n");
        assert!(qwen.markers.is_empty());
        let coder = may(&real!("Qwen3-Coder")).unwrap();
        assert!(coder.form.is_none() && coder.markers.contains(&"<tool_call>".to_owned()));
        let phi = may(&real!("microsoft-Phi-3.5-mini-instruct")).unwrap();
        assert_eq!(phi.form.unwrap().before, "");
        assert!(may(&real!("openai-gpt-oss-120b")).is_none());
        assert!(may(&real!("meetkai-functionary-medium-v3.2")).is_none());
        // No parameters: called with none.
        let function = |more: Value| {
            let mut raw = json!({"type": "function", "function": {"name": "now"}});
            if !more.is_null() {
                raw["function"]["parameters"] = more;
            }
            let tools = vec![Tool::read(&raw).unwrap()];
            let asked = Conversation { tools, ..round(json!({})) };
            let chat = real!("Qwen-Qwen2.5-7B-Instruct");
            chat.prompt(&asked).unwrap().may.unwrap().functions[0].1.clone()
        };
        let nothing = r#"{"type":"object","properties":{},"additionalProperties":false}"#;
        assert_eq!(function(Value::Null), nothing);
        assert_eq!(function(json!({})), nothing);
    }

    #[test]
    fn a_plan_says_whether_the_prompt_ends_in_thoughts() {
        let ask = |chat: &Chat, more: Conversation| {
            let messages = vec![Message::new("user", "Hi")];
            let prompt = chat.prompt(&Conversation { messages, ..more }).unwrap();
            (prompt.plan.thinking, prompt.text)
        };
        let minimax = real!("MiniMax-M2");
        assert!(ask(&minimax, Conversation::default()).0);
        let (thinking, text) =
            ask(&minimax, Conversation { no_thoughts: true, ..Conversation::default() });
        assert!(!thinking && text.ends_with("<think>\n\n</think>\n\n"), "{text:?}");
        let qwen3 = real!("Qwen-Qwen3-0.6B");
        assert!(!ask(&qwen3, Conversation::default()).0);
        let (_, text) = ask(&qwen3, Conversation { no_thoughts: true, ..Conversation::default() });
        assert!(text.ends_with("assistant\n<think>\n\n</think>\n\n"), "{text:?}");
    }

    #[test]
    fn thoughts_of_the_history_reach_the_template() {
        let mut conversation = round(json!({"at": 1}));
        conversation.messages[2].reasoning_content = Some("I had better look.".to_owned());
        for chat in [real!("Qwen-Qwen3-0.6B"), real!("openai-gpt-oss-120b")] {
            let text = chat.prompt(&conversation).unwrap().text;
            assert!(text.contains("I had better look."), "{text}");
        }
    }

    #[test]
    fn a_last_message_is_continued_where_it_ends() {
        let chatml = chat(super::super::builtin::source("chatml").unwrap());
        let with = |chat: &Chat, content: &str| {
            let messages = vec![Message::new("user", "Hi"), Message::new("assistant", content)];
            let ending = Ending::Continue;
            chat.prompt(&Conversation { messages, ending, ..Conversation::default() }).unwrap().text
        };
        // Even if the template repeats the same text after it.
        for content in
            ["Well, ", "Well", "end", "im", "|", "e", "<", "<|im_end|>\n", "Hi", "\n", ""]
        {
            let text = with(&chatml, content);
            assert!(text.ends_with(&format!("<|im_start|>assistant\n{content}")), "{text:?}");
        }
        let gemma = chat(super::super::builtin::source("gemma").unwrap());
        for (content, kept) in [("Well, ", "Well,"), ("turn", "turn"), ("of", "of"), ("", "")] {
            let text = with(&gemma, content);
            let text = text.split_once("<start_of_turn>model\n").unwrap().1;
            assert_eq!(text, kept);
        }
        let nothing = Conversation {
            messages: vec![Message::new("user", "Hi")],
            ending: Ending::Nothing,
            ..Conversation::default()
        };
        assert_eq!(chatml.prompt(&nothing).unwrap().text, "<|im_start|>user\nHi<|im_end|>\n");
    }

    #[test]
    fn functions_and_documents_have_templates_of_their_own_where_a_model_brings_them() {
        let main = "plain{% for m in messages %}{{ m.content }}{% endfor %}";
        let tools = "tools {{ tools[0].function.name }}{{ messages[0].content }}";
        let rag = "rag{{ messages[0].content }}";
        let chat = Chat::new(main, Some(tools), Some(rag), "", "").unwrap();
        let ask = || Conversation {
            messages: vec![Message::new("user", "?")],
            ..Conversation::default()
        };
        let text = |more: Conversation| chat.prompt(&more).unwrap().text;
        assert_eq!(text(ask()), "plain?");
        assert_eq!(text(Conversation { tools: vec![tool()], ..ask() }), "tools look?");
        assert_eq!(text(Conversation { documents: json!([{}]), ..ask() }), "rag?");
        let broken = Chat::new(main, Some("{% if %}"), None, "", "").unwrap();
        assert!(broken.tool_use.is_none());
    }

    /// The golden templates, the named ones, and those in the folder named by `TEALIGHT_TEMPLATES`.
    fn all_templates() -> Vec<(String, String)> {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/templates").to_owned();
        let folders = [Some(golden), std::env::var("TEALIGHT_TEMPLATES").ok()];
        let named = super::super::builtin::names();
        let mut all: Vec<_> = named
            .into_iter()
            .map(|name| (name.to_owned(), super::super::builtin::source(name).unwrap().to_owned()))
            .collect();
        for folder in folders.into_iter().flatten() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|e| e == "jinja") {
                    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                    // It needs a variable that nobody sets.
                    if !name.contains("firefunction") {
                        all.push((name, std::fs::read_to_string(path).unwrap()));
                    }
                }
            }
        }
        all
    }

    fn call(id: Option<&str>, name: &str, arguments: Value) -> ToolCall {
        ToolCall::new(id.map(ToOwned::to_owned), name, arguments)
    }

    fn calls(content: &str, calls: Vec<ToolCall>) -> Message {
        Message { tool_calls: calls, ..Message::new("assistant", content) }
    }

    fn thinking(thoughts: &str, message: Message) -> Message {
        Message { reasoning_content: Some(thoughts.to_owned()), ..message }
    }

    fn result(id: Option<&str>, content: &str) -> Message {
        Message { tool_call_id: id.map(ToOwned::to_owned), ..Message::new("tool", content) }
    }

    /// Histories as clients send them; each text that must reach the prompt contains a digit.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn histories() -> Vec<(&'static str, Vec<Message>)> {
        let user = |text: &str| Message::new("user", text);
        let system = |text: &str| Message::new("system", text);
        let assistant = |text: &str| Message::new("assistant", text);
        let at = |text: &str| json!({ "at": text });
        let look = |id: Option<&'static str>, text: &str| call(id, "look", at(text));
        let (a, b, c) = (Some("call_a-1/x"), Some("call_b-2/x"), Some("call_c-3/x"));
        vec![
            ("a question", vec![user("u1")]),
            ("a system", vec![system("s1"), user("u1")]),
            ("two systems", vec![system("s1"), system("s2"), user("u1")]),
            ("a system in the middle", vec![user("u1"), assistant("a1"), system("s1"), user("u2")]),
            ("a system at the end", vec![system("s1"), user("u1"), system("s2")]),
            (
                "a system before an answer",
                vec![user("u1"), system("s1"), assistant("a1"), user("u2")],
            ),
            ("two questions", vec![user("u1"), user("u2")]),
            ("two answers", vec![user("u1"), assistant("a1"), assistant("a2"), user("u2")]),
            (
                "two answers with thoughts",
                vec![
                    user("u1"),
                    thinking("t1", assistant("a1")),
                    thinking("t2", calls("a2", vec![look(a, "c1")])),
                    result(a, "r1"),
                ],
            ),
            ("a call", vec![user("u1"), calls("", vec![look(a, "c1")]), result(a, "r1")]),
            (
                "a call and a system",
                vec![
                    system("s1"),
                    user("u1"),
                    calls("", vec![look(a, "c1")]),
                    result(a, "r1"),
                    assistant("a1"),
                    user("u2"),
                ],
            ),
            (
                "a call without ids",
                vec![
                    user("u1"),
                    calls("", vec![look(None, "c1")]),
                    result(None, "r1"),
                    assistant("a1"),
                    user("u2"),
                ],
            ),
            (
                "a call with a text",
                vec![user("u1"), calls("a1", vec![look(a, "c1")]), result(a, "r1")],
            ),
            (
                "a call in text",
                vec![
                    user("u1"),
                    calls("", vec![call(a, "look", json!("{\"at\": \"c1\"}"))]),
                    result(a, "r1"),
                ],
            ),
            (
                "a call cut off",
                vec![
                    user("u1"),
                    calls("", vec![call(a, "look", json!("{\"at\": \"c1"))]),
                    result(a, "r1"),
                ],
            ),
            (
                "a call of nothing",
                vec![user("u1"), calls("", vec![call(a, "look", json!(""))]), result(a, "r1")],
            ),
            (
                "a call of a text",
                vec![
                    user("u1"),
                    calls("", vec![call(a, "look", json!("c1 is no JSON"))]),
                    result(a, "r1"),
                ],
            ),
            ("a call and no result", vec![user("u1"), calls("", vec![look(a, "c1")]), user("u2")]),
            (
                "several calls",
                vec![
                    user("u1"),
                    calls("", vec![look(a, "c1"), look(b, "c2"), look(c, "c3")]),
                    result(a, "r1"),
                    result(b, "r2"),
                    result(c, "r3"),
                ],
            ),
            (
                "results in another order",
                vec![
                    user("u1"),
                    calls("", vec![look(a, "c1"), look(b, "c2")]),
                    result(b, "r2"),
                    result(a, "r1"),
                    assistant("a1"),
                    user("u2"),
                ],
            ),
            (
                "call after call",
                vec![
                    user("u1"),
                    calls("", vec![look(a, "c1")]),
                    result(a, "r1"),
                    calls("", vec![look(b, "c2")]),
                    result(b, "r2"),
                    assistant("a1"),
                    user("u2"),
                ],
            ),
            (
                "a system after a result",
                vec![user("u1"), calls("", vec![look(a, "c1")]), result(a, "r1"), system("s1")],
            ),
            (
                "a question after a result",
                vec![user("u1"), calls("", vec![look(a, "c1")]), result(a, "r1"), user("u2")],
            ),
            (
                "thoughts before a call",
                vec![user("u1"), thinking("t1", calls("", vec![look(a, "c1")])), result(a, "r1")],
            ),
            (
                "thoughts, a text and a call",
                vec![user("u1"), thinking("t1", calls("a1", vec![look(a, "c1")])), result(a, "r1")],
            ),
            (
                "a text and several calls",
                vec![
                    system("s1"),
                    user("u1"),
                    calls("a1", vec![look(a, "c1"), look(b, "c2")]),
                    result(a, "r1"),
                    result(b, "r2"),
                    assistant("a2"),
                    user("u2"),
                ],
            ),
        ]
    }

    #[test]
    fn whatever_a_client_sends_back_is_in_the_prompt_under_every_template() {
        let mut wrong = Vec::new();
        for (name, source) in all_templates() {
            let chat = chat(&source);
            for (what, messages) in histories() {
                for tools in [vec![tool()], Vec::new()] {
                    let has_tools = !tools.is_empty();
                    let asked = Conversation {
                        messages: messages.clone(),
                        tools,
                        ..Conversation::default()
                    };
                    let text = match chat.prompt(&asked) {
                        Ok(prompt) => prompt.text,
                        Err(error) => {
                            wrong.push(format!("{name}, {what}, tools {has_tools}: {error}"));
                            continue;
                        }
                    };
                    let mut wanted: Vec<String> =
                        messages.iter().map(|m| m.content.to_string()).collect();
                    wanted.extend(messages.iter().filter_map(|m| m.reasoning_content.clone()));
                    let said = |call: &ToolCall| match &call.function.arguments {
                        Value::String(text) => text.contains("c1").then(|| "c1".to_owned()),
                        object => Some(object["at"].as_str().unwrap().to_owned()),
                    };
                    wanted.extend(messages.iter().flat_map(|m| &m.tool_calls).filter_map(said));
                    let lost: Vec<_> =
                        wanted.iter().filter(|wanted| !text.contains(wanted.as_str())).collect();
                    if !lost.is_empty() {
                        wrong.push(format!(
                            "{name}, {what}, tools {has_tools}: lost {lost:?}\n{text}"
                        ));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
    }
}
