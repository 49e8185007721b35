//! Where a conversation is: its prompt cache is at the member that answered it last. Bounded; time is passed in.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Call;
use crate::config::settings::StickyBy;

/// More conversations than this are not remembered; the one that was quiet longest is forgotten.
const MOST: usize = 10_000;

/// Conversations stay where their prompt cache is.
pub struct Sticky {
    by: StickyBy,
    places: Mutex<Conversations>,
}

/// Which member answered which conversation last.
#[derive(Debug)]
struct Conversations {
    keep: Duration,
    places: HashMap<u64, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    member: usize,
    last: Instant,
}

// === impl Sticky ===

impl Sticky {
    /// Conversations are told apart by this, and kept so long after their last answer.
    pub fn new(by: StickyBy, keep: Duration) -> Self {
        Sticky { by, places: Mutex::new(Conversations::new(keep)) }
    }

    /// Which conversation a call belongs to, if it says so.
    fn key(&self, call: &Call) -> Option<u64> {
        let client = call.client.as_deref();
        let request = &call.request;
        match self.by {
            StickyBy::Session => Some(key(client, &[call.session.as_deref()?.as_bytes()])),
            StickyBy::User => Some(key(client, &[request.value("user")?])),
            StickyBy::Conversation => {
                let begin = request.opening();
                (!begin.is_empty()).then(|| key(client, &begin))
            }
        }
    }

    /// The member where this conversation was answered last.
    pub(super) fn home(&self, call: &Call, now: Instant) -> Option<usize> {
        let key = self.key(call)?;
        self.places().member_of(key, now)
    }

    /// Notes which member answered it.
    pub(super) fn answered(&self, call: &Call, member: usize, now: Instant) {
        if let Some(key) = self.key(call) {
            self.places().answered(key, member, now);
        }
    }

    fn places(&self) -> MutexGuard<'_, Conversations> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Conversations ===

impl Conversations {
    /// None yet; each is kept so long after its last answer.
    fn new(keep: Duration) -> Self {
        Conversations { keep, places: HashMap::new() }
    }

    /// The member that answered it last, unless that is long ago.
    fn member_of(&self, key: u64, now: Instant) -> Option<usize> {
        let place = self.places.get(&key)?;
        (now.saturating_duration_since(place.last) < self.keep).then_some(place.member)
    }

    /// Notes who answered it.
    fn answered(&mut self, key: u64, member: usize, now: Instant) {
        if self.places.len() >= MOST && !self.places.contains_key(&key) {
            let keep = self.keep;
            self.places.retain(|_, place| now.saturating_duration_since(place.last) < keep);
            if self.places.len() >= MOST
                && let Some(quietest) =
                    self.places.iter().min_by_key(|(_, place)| place.last).map(|(key, _)| *key)
            {
                self.places.remove(&quietest);
            }
        }
        self.places.insert(key, Place { member, last: now });
    }
}

/// The key of a conversation that these bytes identify, for this client.
pub(super) fn key(client: Option<&str>, parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    for part in parts {
        part.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_conversation_is_where_it_was_answered_last_for_so_long() {
        let now = Instant::now();
        let mut conversations = Conversations::new(HOUR);
        let (mine, yours) = (key(Some("me"), &[b"hi"]), key(Some("you"), &[b"hi"]));
        assert_ne!(mine, yours);
        conversations.answered(mine, 2, now);
        assert_eq!(conversations.member_of(mine, now + HOUR / 2), Some(2));
        assert_eq!(conversations.member_of(yours, now), None);
        assert_eq!(conversations.member_of(mine, now + HOUR), None);
        conversations.answered(mine, 1, now);
        assert_eq!(conversations.member_of(mine, now), Some(1));
    }

    #[test]
    fn their_number_is_bounded_and_the_quietest_goes() {
        let now = Instant::now();
        let mut conversations = Conversations::new(HOUR);
        for number in 0..MOST as u64 + 10 {
            conversations.answered(number, 0, now + Duration::from_millis(number));
        }
        assert_eq!(conversations.places.len(), MOST);
        assert_eq!(conversations.member_of(0, now + Duration::from_secs(20)), None);
        assert_eq!(conversations.member_of(MOST as u64, now + Duration::from_secs(20)), Some(0));
    }
}
