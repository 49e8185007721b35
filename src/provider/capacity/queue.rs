//! Who waits for a place at one provider: first come, first served within a client, and clients take turns, so that
//! one with a hundred requests does not keep another waiting. Bounded; those who left are forgotten when met. Pure.

use std::collections::{HashSet, VecDeque};
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

/// Where somebody stands who is served now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    line: usize,
    place: usize,
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

    /// Whether somebody other than this one comes first, of those who wait for a model with which it contends. Nobody is
    /// held for it: the last hold on a waiter gives back what it holds, which must not happen under the capacity's lock.
    pub(super) fn others_first(
        &mut self,
        asking: Option<&Arc<Waiter>>,
        contends: impl Fn(&str) -> bool,
    ) -> bool {
        self.forget_those_who_left();
        let is_asking =
            |place: &Place| asking.is_some_and(|one| std::ptr::eq(place.waiter.as_ptr(), Arc::as_ptr(one)));
        let mut harmless: Option<&str> = None;
        for (_, place) in self.in_turn() {
            if is_asking(place) {
                return false;
            }
            if harmless == Some(&*place.model) {
                continue;
            }
            if contends(&place.model) {
                return true;
            }
            harmless = Some(&place.model);
        }
        false
    }

    /// Whose turn it is of those who wait for none of these models; it keeps it until [`Queue::served`].
    pub(super) fn next(&mut self, but: &HashSet<Arc<str>>) -> Option<(Turn, Arc<Waiter>, &Place)> {
        self.forget_those_who_left();
        let (turn, place) = self.in_turn().find(|(_, place)| !but.contains(&place.model))?;
        Some((turn, place.waiter.upgrade()?, place))
    }

    /// The one whose turn it was got a place; its client comes last now.
    pub(super) fn served(&mut self, turn: Turn) {
        if let Some(mut line) = self.clients.remove(turn.line) {
            line.waiting.remove(turn.place);
            if !line.waiting.is_empty() {
                self.clients.push_back(line);
            }
        }
    }

    /// All who wait, in the order in which they come: each client's first, then each one's second.
    fn in_turn(&self) -> impl Iterator<Item = (Turn, &Place)> {
        let rounds = self.clients.iter().map(|line| line.waiting.len()).max().unwrap_or(0);
        (0..rounds).flat_map(move |place| {
            self.clients
                .iter()
                .enumerate()
                .filter_map(move |(line, known)| Some((Turn { line, place }, known.waiting.get(place)?)))
        })
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
        let size = Size { bytes, media: 0, max_tokens: None, answers: 1, stream: false };
        Place { waiter: Arc::downgrade(waiter), model: Arc::from("m"), size }
    }

    fn served(queue: &mut Queue) -> Option<usize> {
        let (turn, bytes) = queue.next(&HashSet::new()).map(|(turn, _, place)| (turn, place.size.bytes))?;
        queue.served(turn);
        Some(bytes)
    }

    #[test]
    fn who_waits_for_another_model_is_not_passed_over_and_the_others_keep_their_order() {
        let mut queue = Queue::default();
        let (busy, other): (Arc<str>, Arc<str>) = (Arc::from("busy"), Arc::from("other"));
        let waiters: Vec<Arc<Waiter>> = (0..4).map(|_| Arc::default()).collect();
        for (number, waiter) in waiters.iter().take(3).enumerate() {
            let model = Arc::from(if number == 2 { "fast" } else { "m" });
            assert!(queue.join(Some(&busy), Place { model, ..place(waiter, number) }, 10));
        }
        assert!(queue.join(Some(&other), place(&waiters[3], 3), 10));
        let full: HashSet<Arc<str>> = HashSet::from([Arc::from("m")]);
        let (turn, _, fast) = queue.next(&full).unwrap();
        assert_eq!(fast.size.bytes, 2);
        queue.served(turn);
        assert!(queue.next(&full).is_none());
        let order: Vec<usize> = std::iter::from_fn(|| served(&mut queue)).collect();
        assert_eq!(order, [3, 0, 1], "its client had its turn");
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
        let all = |_: &str| true;
        assert!(!queue.others_first(None, all));
        assert!(queue.join(None, place(&first, 1), 9) && queue.join(None, place(&second, 2), 9));
        assert!(!queue.others_first(Some(&first), all) && queue.others_first(Some(&second), all));
        assert!(queue.others_first(None, all) && !queue.others_first(None, |model| model != "m"));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
        drop(first);
        assert!(!queue.others_first(Some(&second), all));
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
