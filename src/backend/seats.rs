//! How many requests a provider holds at once, and the lease that each of them carries.
//! Lives in an `Arc` outside every actor, so that it outlasts panics, restarts and arbiters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Identifies one replica's incarnation: one arbiter with one actor and one client.
pub type Generation = u64;

/// The seats of one provider: taken on admission, given back by [`Lease`]'s drop.
#[derive(Default)]
pub struct Seats {
    taken: Mutex<HashMap<Generation, usize>>,
}

/// The admission of one request. Dropping it, on whatever way, gives the seat back exactly once.
pub struct Lease {
    seat: Arc<Seat>,
}

/// Gives a seat back though somebody still holds the lease, who may never let go of it. Keeps no seat taken itself.
pub struct Recall {
    seat: Weak<Seat>,
}

/// One taken seat.
struct Seat {
    seats: Arc<Seats>,
    generation: Generation,
    free: AtomicBool,
}

// === impl Seats ===

impl Seats {
    /// Takes a seat for a request on the given replica, or says how many are taken when `max` is reached.
    ///
    /// # Errors
    /// The number of seats taken, if that is `max` or more.
    pub fn take(self: &Arc<Self>, generation: Generation, max: Option<usize>) -> Result<Lease, usize> {
        let mut taken = self.lock();
        let total: usize = taken.values().sum();
        if max.is_some_and(|bound| total >= bound) {
            return Err(total);
        }
        *taken.entry(generation).or_default() += 1;
        let seat = Seat { seats: Arc::clone(self), generation, free: AtomicBool::new(false) };
        Ok(Lease { seat: Arc::new(seat) })
    }

    /// Gives back all seats of a replica that was given up; its leases settle nothing any more.
    pub fn give_up(&self, generation: Generation) {
        self.lock().remove(&generation);
    }

    /// How many seats are taken now.
    pub fn taken(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Generation, usize>> {
        // A count cannot be half-changed by a panic, so a poisoned lock is as good as any.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Lease ===

impl Lease {
    /// A way to give the seat back from elsewhere.
    pub fn recall(&self) -> Recall {
        Recall { seat: Arc::downgrade(&self.seat) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.seat.give_back();
    }
}

impl Recall {
    /// Gives the seat back, unless that is done.
    pub fn give_back(&self) {
        if let Some(seat) = self.seat.upgrade() {
            seat.give_back();
        }
    }
}

impl Seat {
    fn give_back(&self) {
        if self.free.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(count) = self.seats.lock().get_mut(&self.generation) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lease_gives_its_seat_back_once() {
        let seats = Arc::new(Seats::default());
        let first = seats.take(1, Some(2)).ok();
        let second = seats.take(1, Some(2)).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(seats.take(1, Some(2)).err(), Some(2));
        drop(first);
        assert_eq!(seats.taken(), 1);
        assert!(seats.take(1, Some(2)).is_ok());
    }

    #[test]
    fn a_recalled_seat_is_free_at_once_and_only_once() {
        let seats = Arc::new(Seats::default());
        let (held, other) = (seats.take(1, None).ok().unwrap(), seats.take(1, None).ok().unwrap());
        let recall = held.recall();
        recall.give_back();
        recall.give_back();
        assert_eq!(seats.taken(), 1);
        drop(held);
        assert_eq!(seats.taken(), 1);
        let late = other.recall();
        drop(other);
        late.give_back();
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn seats_of_a_given_up_replica_are_free_and_its_late_leases_settle_nothing() {
        let seats = Arc::new(Seats::default());
        let stuck = seats.take(1, None).ok();
        let other = seats.take(2, None).ok();
        seats.give_up(1);
        assert_eq!(seats.taken(), 1);
        drop(stuck);
        assert_eq!(seats.taken(), 1);
        drop(other);
        assert_eq!(seats.taken(), 0);
    }
}
