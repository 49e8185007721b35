//! Who waits for a place at one provider: first come, first served within a client, and clients take turns, so that
//! one with a hundred requests does not keep another waiting. Bounded; those who left are forgotten when met. Pure.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Size;
use crate::backend::waiter::Waiter;

/// The queue of one provider.
#[derive(Default)]
pub(super) struct Queue {
    /// The client whose turn it is comes first.
    clients: VecDeque<Line>,
}

/// The waiting requests of one client.
struct Line {
    client: Option<Arc<str>>,
    waiting: VecDeque<Place>,
}

/// One waiting request.
pub(super) struct Place {
    pub(super) waiter: Weak<Waiter>,
    pub(super) model: Arc<str>,
    pub(super) size: Size,
}

// === impl Queue ===

impl Queue {
    /// Whether nobody waits, but for those who left.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many wait.
    pub(super) fn waiting(&mut self) -> usize {
        self.forget_those_who_left();
        self.len()
    }

    /// How many wait, with those who left and were not met since.
    fn len(&self) -> usize {
        self.clients.iter().map(|line| line.waiting.len()).sum()
    }

    /// Lets a request wait, at the end of its client's line; one that waits for this model already keeps its place.
    /// False when so many wait that there is no room.
    pub(super) fn join(&mut self, client: Option<&Arc<str>>, place: Place, most: usize) -> bool {
        let same = |known: &Place| Weak::ptr_eq(&known.waiter, &place.waiter) && known.model == place.model;
        if self.clients.iter().any(|line| line.waiting.iter().any(same)) {
            return true;
        }
        if self.len() >= most {
            self.forget_those_who_left();
        }
        if self.len() >= most {
            return false;
        }
        match self.clients.iter_mut().find(|line| line.client.as_ref() == client) {
            Some(line) => line.waiting.push_back(place),
            None => {
                self.clients.push_back(Line { client: client.cloned(), waiting: VecDeque::from([place]) });
            }
        }
        true
    }

    /// Whether somebody other than this one comes first. Nobody is held for it: the last hold on a waiter gives back
    /// what it holds, which must not happen under the capacity's lock.
    pub(super) fn others_first(&mut self, asking: Option<&Arc<Waiter>>) -> bool {
        self.forget_those_who_left();
        let first = self.clients.front().and_then(|line| line.waiting.front());
        first.is_some_and(|first| {
            asking.is_none_or(|asking| !std::ptr::eq(first.waiter.as_ptr(), Arc::as_ptr(asking)))
        })
    }

    /// Whose turn it is; it keeps it until [`Queue::served`].
    pub(super) fn next(&mut self) -> Option<(Arc<Waiter>, &Place)> {
        self.forget_those_who_left();
        let place = self.clients.front()?.waiting.front()?;
        Some((place.waiter.upgrade()?, place))
    }

    /// The one whose turn it was got a place; the next client's turn comes.
    pub(super) fn served(&mut self) {
        if let Some(mut line) = self.clients.pop_front() {
            line.waiting.pop_front();
            if !line.waiting.is_empty() {
                self.clients.push_back(line);
            }
        }
    }

    fn forget_those_who_left(&mut self) {
        for line in &mut self.clients {
            line.waiting.retain(|place| place.waiter.strong_count() > 0);
        }
        self.clients.retain(|line| !line.waiting.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(waiter: &Arc<Waiter>, bytes: usize) -> Place {
        let size = Size { bytes, max_tokens: None, stream: false };
        Place { waiter: Arc::downgrade(waiter), model: Arc::from("m"), size }
    }

    fn served(queue: &mut Queue) -> Option<usize> {
        let bytes = queue.next().map(|(_, place)| place.size.bytes)?;
        queue.served();
        Some(bytes)
    }

    #[test]
    fn clients_take_turns_and_each_is_served_in_its_own_order() {
        let mut queue = Queue::default();
        let (busy, other): (Arc<str>, Arc<str>) = (Arc::from("busy"), Arc::from("other"));
        let waiters: Vec<Arc<Waiter>> = (0..4).map(|_| Arc::default()).collect();
        for (number, waiter) in waiters.iter().take(3).enumerate() {
            assert!(queue.join(Some(&busy), place(waiter, number), 10));
        }
        assert!(queue.join(Some(&other), place(&waiters[3], 3), 10));
        let order: Vec<usize> = std::iter::from_fn(|| served(&mut queue)).collect();
        assert_eq!(order, [0, 3, 1, 2]);
    }

    #[test]
    fn only_the_first_is_not_behind_others_and_looking_holds_nobody() {
        let mut queue = Queue::default();
        let (first, second): (Arc<Waiter>, Arc<Waiter>) = (Arc::default(), Arc::default());
        assert!(!queue.others_first(None));
        assert!(queue.join(None, place(&first, 1), 9) && queue.join(None, place(&second, 2), 9));
        assert!(!queue.others_first(Some(&first)) && queue.others_first(Some(&second)));
        assert!(queue.others_first(None));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
        drop(first);
        assert!(!queue.others_first(Some(&second)));
    }

    #[test]
    fn who_left_is_forgotten_who_waits_keeps_its_place_and_there_is_a_bound() {
        let mut queue = Queue::default();
        let (gone, here): (Arc<Waiter>, Arc<Waiter>) = (Arc::default(), Arc::default());
        assert!(queue.join(None, place(&gone, 1), 2) && queue.join(None, place(&here, 2), 2));
        assert!(queue.join(None, place(&here, 2), 2), "it waits already");
        assert_eq!(queue.len(), 2);
        let late: Arc<Waiter> = Arc::default();
        assert!(!queue.join(None, place(&late, 3), 2));
        assert_eq!(queue.waiting(), 2);
        drop(gone);
        assert_eq!(queue.waiting(), 1, "who left is not said to wait");
        assert!(queue.join(None, place(&late, 3), 2));
        assert_eq!((served(&mut queue), served(&mut queue), served(&mut queue)), (Some(2), Some(3), None));
    }
}
