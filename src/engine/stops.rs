//! Where in a prompt the states of mixers that can't go back are kept.
//!
//! The next prompt of a conversation begins like this one up to some message: the answer is regenerated, the last message
//! edited, a thought left out of the history. Templates mark the beginnings of messages with control tokens. Knows
//! nothing of templates or models.

/// Beginnings of messages that are remembered, from the end of the prompt.
const LAST: usize = 4;
/// Tokens that a mark is before the next one at least: of those around a role, the first.
const APART: usize = 3;
/// Tokens after which a state is kept at least where there are no marks: of a long text that is read again with another
/// end. A quarter of the text, if that is more.
const EVERY: usize = 2048;

/// The places in a prompt after which states are kept, in ascending order; the last is its end. `is_control` tells
/// control tokens.
#[must_use]
pub fn stops(prompt: &[u32], is_control: impl Fn(u32) -> bool) -> Vec<usize> {
    let (mut marks, mut next) = (Vec::new(), prompt.len());
    for at in (1..prompt.len()).rev().filter(|at| is_control(prompt[*at])) {
        if next - at >= APART {
            marks.push(at);
            next = at;
        }
    }
    if marks.is_empty() {
        marks.extend((EVERY..prompt.len()).step_by(EVERY.max(prompt.len() / LAST)));
    }
    // What conversations have in common ends where the first message of the user begins.
    let first = marks.last().copied();
    let mut stops: Vec<usize> = marks.into_iter().take(LAST).chain(first).collect();
    stops.push(prompt.len());
    stops.sort_unstable();
    stops.dedup();
    stops
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token for each character; upper case are control tokens.
    fn found(prompt: &str) -> Vec<String> {
        let ids: Vec<u32> = prompt.chars().map(u32::from).collect();
        let is_control = |id| char::from_u32(id).is_some_and(char::is_uppercase);
        stops(&ids, is_control).into_iter().map(|at| prompt[at..].to_owned()).collect()
    }

    #[test]
    fn messages_begin_at_control_tokens() {
        // As ChatML: S role, newline, text, E newline.
        let found_in = found("Ss.systemE.Su.helloE.Sa.worldE.Su.hiE.Sa.");
        let expected =
            ["Su.helloE.Sa.worldE.Su.hiE.Sa.", "Sa.worldE.Su.hiE.Sa.", "Su.hiE.Sa.", "Sa.", ""];
        assert_eq!(found_in, expected);
    }

    #[test]
    fn of_a_long_conversation_the_first_and_the_last_messages() {
        let long = format!("Ss.system{}", "E.Su.helloE.Sa.world".repeat(20) + "E.Su.hiE.Sa.");
        let all = found(&long);
        assert_eq!(all.len(), 6);
        assert!(all[0].len() > 300 && all[1] == "Su.helloE.Sa.worldE.Su.hiE.Sa.");
    }

    #[test]
    fn texts_without_marks_stop_at_the_end_and_now_and_then() {
        assert_eq!(stops(&[1, 2, 3], |_| false), [3]);
        assert_eq!(stops(&vec![0; 5000], |_| false), [2048, 4096, 5000]);
        assert_eq!(stops(&vec![0; 80_000], |_| false), [2048, 22048, 42048, 62048, 80_000]);
        assert_eq!(stops(&[], |_| true), [0]);
    }
}
