//! The places for connections: how many there are, and who yields when all are taken.
//!
//! A connection that has not sent a whole request yields its place to a newcomer, the one that made no progress for the
//! longest time first: who opens hundreds of connections and says nothing locks nobody out. Peers beyond this machine
//! have limited places each.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Most connections of one address beyond this machine.
const PER_ADDRESS_MAX: usize = 64;
/// A newcomer's time to send its request before it yields to others.
const GRACE: Duration = Duration::from_millis(200);

/// All places.
pub(super) struct Places {
    max: usize,
    taken: RefCell<BTreeMap<u64, Rc<Visitor>>>,
    next: Cell<u64>,
}

/// Who has a place.
pub(super) struct Visitor {
    peer: IpAddr,
    /// When it last sent a part of a request that is not complete yet; `None` while one is answered.
    pub(super) incomplete: Cell<Option<Instant>>,
    /// Says that the place is wanted.
    pub(super) yields: Notify,
}

/// A place; dropping it frees it.
pub(super) struct Place {
    places: Rc<Places>,
    id: u64,
    pub(super) visitor: Rc<Visitor>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().remove(&self.id);
    }
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: RefCell::default(), next: Cell::new(0) }
    }

    /// A place for `peer`, perhaps that of another one who has not asked anything yet.
    pub(super) fn take(self: &Rc<Self>, peer: IpAddr) -> Option<Place> {
        let mut taken = self.taken.borrow_mut();
        let of_peer = || taken.values().filter(|visitor| visitor.peer == peer).count();
        if !peer.is_loopback() && of_peer() >= PER_ADDRESS_MAX {
            return None;
        }
        if taken.len() >= self.max {
            let incomplete = taken.iter().filter_map(|(id, v)| Some((v.incomplete.get()?, *id)));
            let (_, id) = incomplete.min().filter(|(since, _)| since.elapsed() >= GRACE)?;
            // It goes at once; its own end finds nothing left to free.
            taken.remove(&id)?.yields.notify_one();
        }
        let id = self.next.replace(self.next.get() + 1);
        let incomplete = Cell::new(Some(Instant::now()));
        let visitor = Rc::new(Visitor { peer, incomplete, yields: Notify::new() });
        taken.insert(id, Rc::clone(&visitor));
        Some(Place { places: Rc::clone(self), id, visitor })
    }
}

/// Clients that are being turned away: a few, more are cut off.
#[derive(Default)]
pub(super) struct Turning(Rc<Cell<usize>>);

/// One of them.
pub(super) struct Turned(Rc<Cell<usize>>);

/// Most of them at a time.
const TURNED_MAX: usize = 64;

impl Turning {
    pub(super) fn take(&self) -> Option<Turned> {
        self.0.set(self.0.get() + 1);
        let turned = Turned(Rc::clone(&self.0));
        (self.0.get() <= TURNED_MAX).then_some(turned)
    }
}

impl Drop for Turned {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 5));

    #[test]
    fn who_has_waited_longest_yields_and_who_is_answered_does_not() {
        let places = Rc::new(Places::new(2));
        let (first, second) = (places.take(HERE).unwrap(), places.take(HERE).unwrap());
        assert!(places.take(HERE).is_none(), "both have just come");
        let long_ago = Instant::now().checked_sub(GRACE).unwrap();
        second.visitor.incomplete.set(Some(long_ago));
        first.visitor.incomplete.set(None);
        let third = places.take(HERE).unwrap();
        drop(second);
        assert!(places.take(HERE).is_none(), "a place was freed twice");
        drop((first, third));
        assert_eq!(places.taken.borrow().len(), 0);
    }

    #[test]
    fn addresses_beyond_this_machine_have_limited_places() {
        let places = Rc::new(Places::new(1000));
        let taken: Vec<_> = (0..PER_ADDRESS_MAX).map(|_| places.take(THERE).unwrap()).collect();
        assert!(places.take(THERE).is_none() && places.take(HERE).is_some());
        drop(taken);
        assert!(places.take(THERE).is_some());
    }
}
