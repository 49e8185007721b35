//! What a cache has in memory: bounded in bytes, the one that was used longest ago goes first. Time is passed in.

use std::sync::Arc;

use hashlink::LinkedHashMap;

use super::entry::Entry;
use crate::wire::json::Digest;

/// Answers by what was asked.
pub(super) struct Memory {
    /// The one that was used last is at the end.
    entries: LinkedHashMap<Digest, Arc<Entry>>,
    bytes: usize,
    most: usize,
}

// === impl Memory ===

impl Memory {
    /// At most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Memory { entries: LinkedHashMap::new(), bytes: 0, most }
    }

    /// What is there, if it is good; what is not good is dropped.
    pub(super) fn find(&mut self, key: &Digest, good: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        let found = self.entries.to_back(key)?;
        if good(found) {
            return Some(Arc::clone(found));
        }
        self.remove(key);
        None
    }

    /// What is there and good; nothing is used or dropped by that.
    pub(super) fn peek(&self, key: &Digest, good: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.entries.get(key).filter(|found| good(found)).cloned()
    }

    /// Keeps an answer in the place of one that was there. One that is larger than all there may be is not kept.
    pub(super) fn put(&mut self, key: Digest, entry: Arc<Entry>) {
        self.remove(&key);
        let size = entry.size();
        if size > self.most {
            return;
        }
        while self.bytes + size > self.most {
            let Some((_, oldest)) = self.entries.pop_front() else { break };
            self.bytes -= oldest.size();
        }
        self.bytes += size;
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Digest) {
        if let Some(old) = self.entries.remove(key) {
            self.bytes -= old.size();
        }
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::Usage;
    use crate::quota::Moment;
    use crate::wire::json::Digester;

    fn key(number: u8) -> Digest {
        let mut digester = Digester::default();
        digester.part("number", &[number]);
        digester.finish()
    }

    fn entry(made: i64, size: usize) -> Arc<Entry> {
        Arc::new(Entry {
            made: Moment(made),
            bytes: Bytes::from(vec![b'x'; size]),
            pieces: None,
            model: String::new(),
            edits: Vec::new(),
            usage: Usage::default(),
        })
    }

    fn all(_: &Entry) -> bool {
        true
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut memory = Memory::new(3 * entry(0, 100).size());
        for number in 0..3 {
            memory.put(key(number), entry(0, 100));
        }
        assert!(memory.find(&key(0), all).is_some());
        memory.put(key(3), entry(0, 100));
        let has = |number| memory.peek(&key(number), all).is_some();
        assert!(has(0) && !has(1) && has(2));
        assert_eq!(memory.len(), 3);
    }

    #[test]
    fn what_is_not_good_is_dropped_and_what_is_put_again_replaces() {
        let mut memory = Memory::new(10_000);
        memory.put(key(0), entry(1, 100));
        memory.put(key(0), entry(2, 50));
        assert_eq!((memory.len(), memory.bytes()), (1, entry(2, 50).size()));
        assert_eq!(memory.find(&key(0), all).unwrap().made, Moment(2));
        assert!(memory.find(&key(0), |entry| entry.made > Moment(2)).is_none());
        assert_eq!((memory.len(), memory.bytes()), (0, 0));
        memory.put(key(0), entry(0, 20_000));
        assert_eq!(memory.len(), 0, "one that never fits is not kept");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_never_holds_more_than_it_may(steps in prop::collection::vec((0..20_u8, 0..2000_usize, any::<bool>()), 0..100)) {
            let mut memory = Memory::new(5000);
            for (number, size, put) in steps {
                if put {
                    memory.put(key(number), entry(0, size));
                } else {
                    memory.find(&key(number), |entry| entry.bytes.len() % 3 != 0);
                }
                let sum: usize = memory.entries.values().map(|entry| entry.size()).sum();
                prop_assert_eq!(sum, memory.bytes());
                prop_assert!(sum <= 5000);
            }
        }
    }
}
