//! The channel from the scheduler to one request: bounded, so that whoever reads slowly pauses only itself.

use super::channel;
use super::error::EngineError;
use super::request::{Event, Outcome};
use std::sync::Arc;

pub use channel::Wake;

/// Events that wait to be read; more pause the sequence.
pub const EVENTS_MAX: usize = 64;

/// An event, and the tokens generated up to it.
pub type Letter = (Event, usize);
/// How a request ends.
pub type End = Result<Outcome, EngineError>;
/// What the scheduler holds.
pub type Sender = channel::Sender<Letter, End>;
/// What the request holds.
pub type Receiver = channel::Receiver<Letter, End>;
/// Tells whether a request is still wanted.
pub type Watch = channel::Watch<Letter, End>;
/// What a receiver finds.
pub type Received = channel::Received<Letter, End>;

/// A channel.
#[must_use]
pub fn mailbox(wake: Arc<dyn Wake>) -> (Sender, Receiver) {
    let lost = || Err(EngineError::Compute("the engine stopped".to_owned()));
    channel::mailbox(EVENTS_MAX, lost, wake)
}

#[cfg(test)]
mod tests {
    use super::super::request::{Finish, Timings};
    use super::*;
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn text(n: usize) -> (Event, usize) {
        (Event::Text { text: n.to_string(), tokens: Vec::new() }, n)
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_full_mailbox_keeps_events_back_and_wakes_the_scheduler_when_read() {
        let wake = Arc::new(Count::default());
        let (sender, mut receiver) = mailbox(Arc::clone(&wake) as Arc<dyn Wake>);
        let mut events: VecDeque<_> = (0..EVENTS_MAX + 2).map(text).collect();
        sender.send(&mut events);
        assert_eq!(events.len(), 2);
        for n in 0..3 {
            let Received::Event((Event::Text { text, .. }, generated)) = receiver.next(NOW) else {
                panic!("no event")
            };
            assert_eq!((text, generated), (n.to_string(), n));
        }
        assert_eq!(wake.0.load(Ordering::Relaxed), 1, "only reading from a full one wakes");
        sender.send(&mut events);
        assert!(events.is_empty());
    }

    #[test]
    fn the_end_comes_after_all_events_and_once() {
        let (sender, mut receiver) = mailbox(Arc::new(Count::default()));
        sender.send(&mut VecDeque::from([text(1)]));
        let timings = Timings::default();
        sender.end(Ok(Outcome { finish: Finish::Stop, stopped_by_text: false, timings }));
        drop(sender);
        assert!(matches!(receiver.next(NOW), Received::Event(_)));
        assert!(matches!(receiver.next(NOW), Received::End(Ok(_))));
        assert!(matches!(receiver.next(NOW), Received::Nothing));
    }

    #[test]
    fn either_side_notices_that_the_other_is_gone() {
        let wake = Arc::new(Count::default());
        let (sender, mut receiver) = mailbox(Arc::clone(&wake) as Arc<dyn Wake>);
        drop(sender);
        assert!(matches!(receiver.next(NOW), Received::End(Err(EngineError::Compute(_)))));
        let (sender, receiver) = mailbox(Arc::clone(&wake) as Arc<dyn Wake>);
        assert!(!sender.is_cancelled());
        drop(receiver);
        assert!(sender.is_cancelled() && wake.0.load(Ordering::Relaxed) == 1);
        let mut events = VecDeque::from([text(1)]);
        sender.send(&mut events);
        assert!(events.is_empty(), "nobody will read them");
    }
}
