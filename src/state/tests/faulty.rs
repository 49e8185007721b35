//! A store in memory that does what a test tells it: answer, refuse, fall, or hang until it is let go.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use crate::quota::Moment;
use crate::state::store::*;

/// What the next write does.
#[derive(Debug, Clone)]
pub(in crate::state) enum Mishap {
    /// Panics before anything is written.
    Panic,
    /// Writes, and panics before it says so.
    WriteThenPanic,
    /// Holds the thread until it is let go, then goes on as usual.
    Hang,
    /// Fails.
    Refuse(Fault, &'static str),
}

/// What is "on disk", and what is to go wrong.
#[derive(Default)]
pub(in crate::state) struct Faulty {
    pub(in crate::state) disk: Mutex<Disk>,
    faults: Mutex<Vec<Mishap>>,
    /// Every opening fails so, while there is one.
    pub(in crate::state) closed: Mutex<Option<(Fault, &'static str)>>,
    held: Mutex<bool>,
    let_go: Condvar,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::state) struct Disk {
    pub(in crate::state) ledger: BTreeMap<RowId, Kept>,
    pub(in crate::state) usage: BTreeMap<UsageId, Spent>,
    pub(in crate::state) written: Option<(i64, i64)>,
    /// Each batch that was written, in order: how many rows.
    pub(in crate::state) commits: Vec<usize>,
    pub(in crate::state) opened: usize,
    pub(in crate::state) put_aside: usize,
}

/// The shelf and every store on it.
pub(in crate::state) struct OnFaulty(pub(in crate::state) Arc<Faulty>);

impl Faulty {
    pub(in crate::state) fn new() -> Arc<Faulty> {
        Arc::new(Faulty { held: Mutex::new(true), ..Faulty::default() })
    }

    /// The next writes do this, in order.
    pub(in crate::state) fn next(&self, faults: &[Mishap]) {
        self.faults.lock().unwrap().splice(.., faults.iter().rev().cloned());
    }

    pub(in crate::state) fn let_go(&self) {
        *self.held.lock().unwrap() = false;
        self.let_go.notify_all();
    }

    pub(in crate::state) fn disk(&self) -> Disk {
        self.disk.lock().unwrap().clone()
    }

    pub(in crate::state) fn text(&self, provider: &str, key: &str) -> Option<String> {
        let id = RowId { provider: provider.into(), key: key.into() };
        self.disk().ledger.get(&id).map(|kept| kept.json.to_string())
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap();
        drop(self.let_go.wait_while(held, |held| *held).unwrap());
    }
}

impl Disk {
    /// What every store must do with a batch.
    pub(in crate::state) fn write(&mut self, batch: &Batch) -> Written {
        match self.written {
            Some((journal, last)) if journal == batch.journal && last >= batch.number => {
                return Written::Done;
            }
            Some((journal, _)) if journal == batch.journal => {}
            _ if batch.whole => {}
            _ => return Written::WantsAll,
        }
        self.written = Some((batch.journal, batch.number));
        for change in &batch.ledger {
            match &change.kept {
                Some(kept) => self.ledger.insert(change.id.clone(), kept.clone()),
                None => self.ledger.remove(&change.id),
            };
        }
        for row in &batch.usage {
            self.usage.entry(row.id.clone()).or_default().add(row.spent);
        }
        self.commits.push(batch.ledger.len() + batch.usage.len());
        Written::Done
    }
}

impl Shelf for OnFaulty {
    fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        if let Some((fault, text)) = *self.0.closed.lock().unwrap() {
            return Err(StoreError::new(fault, text));
        }
        self.0.disk.lock().unwrap().opened += 1;
        Ok(Box::new(OnFaulty(Arc::clone(&self.0))))
    }

    fn put_aside(&self, _why: &StoreError) -> Result<(), StoreError> {
        let mut disk = self.0.disk.lock().unwrap();
        *disk = Disk { opened: disk.opened, put_aside: disk.put_aside + 1, ..Disk::default() };
        Ok(())
    }

    fn read(&self, now: Moment) -> Option<Saved> {
        OnFaulty(Arc::clone(&self.0)).load(now).ok()
    }

    fn release(&self) {}
}

impl Store for OnFaulty {
    fn load(&mut self, _now: Moment) -> Result<Saved, StoreError> {
        let row = |(id, kept): (&RowId, &Kept)| SavedRow {
            provider: id.provider.to_string(),
            key: id.key.to_string(),
            json: kept.json.to_string(),
            updated_ms: kept.updated.0,
        };
        Ok(Saved { ledger: self.0.disk().ledger.iter().map(row).collect() })
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, StoreError> {
        let fault = self.0.faults.lock().unwrap().pop();
        match fault {
            Some(Mishap::Panic) => panic!("injected"),
            Some(Mishap::Refuse(fault, text)) => return Err(StoreError::new(fault, text)),
            Some(Mishap::Hang) => self.0.wait(),
            Some(Mishap::WriteThenPanic) | None => {}
        }
        let written = self.0.disk.lock().unwrap().write(batch);
        assert!(!matches!(fault, Some(Mishap::WriteThenPanic)), "injected");
        Ok(written)
    }

    fn history(&mut self, asked: &Asked) -> Result<Vec<UsageRow>, StoreError> {
        let hours = hour_of(asked.from)..=hour_of(asked.until);
        let usage = self.0.disk().usage;
        let rows = usage.into_iter().filter(|(id, _)| hours.contains(&id.hour));
        Ok(rows.map(|(id, spent)| UsageRow { id, spent }).collect())
    }

    fn is_there(&self) -> bool {
        true
    }
}
