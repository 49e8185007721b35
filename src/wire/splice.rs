//! Edits JSON by byte range: what is not named in an edit stays as it was, byte for byte.
//! It decides nothing; ranges come from `json.rs`, what to change from the caller.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::json::{MAX_MEMBERS, Member, members_of, push_quoted};
use super::rope::Rope;

/// A buffer shorter than this is copied: that costs less than keeping count of pieces.
const WORTH_SHARING: usize = 16 * 1024;

/// Changes to one buffer, collected first and made in one go by [`Edits::apply`].
///
/// Ranges count in the buffer as it was. An edit that overlaps one that begins before it (or at the same byte and was
/// added before it), or that reaches beyond the buffer, is left out. Insertions at one byte keep the order in which they
/// were added and come before a replacement that begins there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    list: Vec<Edit<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit<'a> {
    range: Range<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Edits<'a> {
    /// No changes.
    pub fn new() -> Self {
        Edits { list: Vec::new() }
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Puts `bytes` in the place of `range`.
    pub fn replace(&mut self, range: Range<usize>, bytes: impl Into<Cow<'a, [u8]>>) {
        self.list.push(Edit { range, bytes: bytes.into() });
    }

    /// Puts `bytes` before the byte at `at`.
    pub fn insert(&mut self, at: usize, bytes: impl Into<Cow<'a, [u8]>>) {
        self.replace(at..at, bytes);
    }

    /// Takes `range` out.
    pub fn delete(&mut self, range: Range<usize>) {
        self.replace(range, Vec::new());
    }

    /// Adds the changes to one object's members.
    pub fn object(&mut self, object: ObjectEdit<'a>) {
        object.collect_into(self);
    }

    /// The buffer with all changes made, in one allocation of the right size.
    pub fn apply(self, source: &[u8]) -> Vec<u8> {
        self.apply_between(b"", source, b"")
    }

    /// The same, sharing the long stretches of a long buffer that stay as they are.
    pub fn apply_shared(mut self, source: &Bytes) -> Rope {
        if source.len() < WORTH_SHARING {
            return Bytes::from(self.apply(source)).into();
        }
        self.settle(source.len());
        let mut rope = Rope::default();
        let mut copied = 0;
        for edit in self.list {
            rope.push(source.slice(copied..edit.range.start));
            rope.push(Bytes::from(edit.bytes.into_owned()));
            copied = edit.range.end;
        }
        rope.push(source.slice(copied..));
        rope
    }

    /// Puts the edits in order and leaves out those that cannot be made. Returns how many bytes they remove and add.
    fn settle(&mut self, source: usize) -> (usize, usize) {
        self.list.sort_by_key(|edit| (edit.range.start, !edit.range.is_empty()));
        let (mut done, mut removed, mut added) = (0, 0, 0);
        self.list.retain(|edit| {
            let fits =
                edit.range.start >= done && edit.range.end >= edit.range.start && edit.range.end <= source;
            if fits {
                done = edit.range.end;
                removed += edit.range.len();
                added += edit.bytes.len();
            }
            fits
        });
        (removed, added)
    }

    /// The same with `before` in front of it and `after` behind.
    pub fn apply_between(mut self, before: &[u8], source: &[u8], after: &[u8]) -> Vec<u8> {
        let (removed, added) = self.settle(source.len());
        // Never below zero: kept ranges do not overlap.
        let length = before.len() + source.len() - removed + added + after.len();
        let mut target = Vec::with_capacity(length);
        target.extend_from_slice(before);
        let mut copied = 0;
        for edit in &self.list {
            target.extend_from_slice(source.get(copied..edit.range.start).unwrap_or_default());
            target.extend_from_slice(&edit.bytes);
            copied = edit.range.end;
        }
        target.extend_from_slice(source.get(copied..).unwrap_or_default());
        target.extend_from_slice(after);
        target
    }
}

/// Changes to the members of one object, at any depth. Each call sees what the calls before it did; commas come out
/// right. Several changes to one object must go through one `ObjectEdit`.
///
/// Where a key is written twice, `remove` takes both, and `set` and `rename` leave one, so that nobody downstream can
/// read another value than we did. Raw values are written as given: they must be JSON.
#[derive(Debug, Clone)]
pub struct ObjectEdit<'a> {
    /// Just behind the opening brace.
    inside: usize,
    slots: Vec<Slot<'a>>,
}

#[derive(Debug, Clone)]
struct Slot<'a> {
    key: Cow<'a, str>,
    origin: Option<Origin>,
    renamed: bool,
    value: Option<Cow<'a, [u8]>>,
    removed: bool,
}

#[derive(Debug, Clone)]
struct Origin {
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> Slot<'a> {
    fn original(key: Cow<'a, str>, origin: Origin) -> Self {
        Slot { key, origin: Some(origin), renamed: false, value: None, removed: false }
    }
}

impl<'a> ObjectEdit<'a> {
    /// For the top-level object of `bytes`, whose members were scanned before.
    pub fn top(bytes: &[u8], members: &'a [Member]) -> Self {
        let inside = memchr::memchr(b'{', bytes).map_or(0, |brace| brace + 1);
        let slots = members.iter().map(|member| {
            let origin = Origin { key: member.key_range.clone(), value: member.value.clone() };
            Slot::original(Cow::Borrowed(&member.key), origin)
        });
        ObjectEdit { inside, slots: slots.collect() }
    }

    /// For the object that is written at `range` of `bytes`, which were validated before. `None` if it is no object,
    /// or one with so many members that nothing in it can be meant for us.
    pub fn nested(bytes: &'a [u8], range: Range<usize>) -> Option<Self> {
        if bytes.get(range.start) != Some(&b'{') {
            return None;
        }
        let inside = range.start + 1;
        let mut slots = Vec::new();
        for field in members_of(bytes, range) {
            if slots.len() == MAX_MEMBERS {
                return None;
            }
            let origin = Origin { key: field.key_range.clone(), value: field.range.clone() };
            slots.push(Slot::original(field.key(), origin));
        }
        Some(ObjectEdit { inside, slots })
    }

    /// Whether the object has this key, after the changes so far.
    pub fn has(&self, key: &str) -> bool {
        self.slots.iter().any(|slot| !slot.removed && slot.key == key)
    }

    /// Takes the key out. False if there is none.
    pub fn remove(&mut self, key: &str) -> bool {
        let mut found = false;
        for slot in self.slots.iter_mut().filter(|slot| !slot.removed && slot.key == key) {
            slot.removed = true;
            found = true;
        }
        found
    }

    /// Gives the member another key, in its place; of a key that was written twice the last value is kept, as parsers
    /// do. Where `new` exists already it stays as it is and `key` is taken out: what was said in the other's own word
    /// counts. False if there is no such key.
    pub fn rename(&mut self, key: &str, new: impl Into<Cow<'a, str>>) -> bool {
        let new = new.into();
        if key == new {
            return self.has(key);
        }
        if self.has(&new) {
            return self.remove(key);
        }
        let Some(last) = self.slots.iter().rposition(|slot| !slot.removed && slot.key == key) else {
            return false;
        };
        self.remove(key);
        if let Some(slot) = self.slots.get_mut(last) {
            slot.removed = false;
            slot.renamed = true;
            slot.key = new;
        }
        true
    }

    /// Gives the key this value, in its place, or appends both.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, raw: impl Into<Cow<'a, [u8]>>) {
        let (key, raw) = (key.into(), raw.into());
        let first = self.slots.iter().position(|slot| !slot.removed && slot.key == key);
        self.remove(&key);
        match first.and_then(|index| self.slots.get_mut(index)) {
            Some(slot) => {
                slot.removed = false;
                slot.value = Some(raw);
            }
            None => {
                self.slots.push(Slot { key, origin: None, renamed: true, value: Some(raw), removed: false });
            }
        }
    }

    /// Kept members are edited where they stand. A removed one takes a comma with it: the one before it, or, as long
    /// as nothing before it is kept, the one after it.
    fn collect_into(self, edits: &mut Edits<'a>) {
        let origins: Vec<(&Origin, bool)> =
            self.slots.iter().filter_map(|slot| Some((slot.origin.as_ref()?, slot.removed))).collect();
        let last_kept = origins.iter().rposition(|(_, removed)| !removed);
        let append_at = last_kept.and_then(|index| origins.get(index)).map(|(origin, _)| origin.value.end);
        match (last_kept, origins.first(), origins.last()) {
            (None, Some((first, _)), Some((last, _))) => edits.delete(first.key.start..last.value.end),
            _ => delete_removed(&origins, edits),
        }
        let mut appended: Vec<u8> = Vec::new();
        for slot in self.slots.into_iter().filter(|slot| !slot.removed) {
            match slot.origin {
                Some(origin) => {
                    if slot.renamed {
                        edits.replace(origin.key, super::json::quoted(&slot.key));
                    }
                    if let Some(raw) = slot.value {
                        edits.replace(origin.value, raw);
                    }
                }
                None => {
                    if append_at.is_some() || !appended.is_empty() {
                        appended.push(b',');
                    }
                    push_quoted(&mut appended, &slot.key);
                    appended.push(b':');
                    appended.extend_from_slice(&slot.value.unwrap_or_default());
                }
            }
        }
        if !appended.is_empty() {
            edits.insert(append_at.unwrap_or(self.inside), appended);
        }
    }
}

/// Takes the removed members out of an object of which something is kept.
fn delete_removed(origins: &[(&Origin, bool)], edits: &mut Edits<'_>) {
    let mut kept_before = false;
    let mut before: Option<&Origin> = None;
    for (index, (origin, removed)) in origins.iter().enumerate() {
        let after = origins.get(index + 1).map(|(next, _)| next);
        match (removed, kept_before, before, after) {
            (false, ..) => kept_before = true,
            (true, true, Some(previous), _) => edits.delete(previous.value.end..origin.value.end),
            (true, _, _, Some(next)) => edits.delete(origin.key.start..next.key.start),
            _ => {}
        }
        before = Some(origin);
    }
}
