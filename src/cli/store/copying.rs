//! Copying one store's records into another.
//!
//! Both list their records in the order of their keys, so they are gone through side by side, some
//! at a time. Knows nothing of what the records mean. Each swap tells whoever follows the target to
//! forget what it remembers: something that it did not find may be there now.

use std::collections::BTreeMap;
use std::mem;

use serde_json::Value;

use crate::store::{Listed, Place, Store, StoreFault, Swapped, Versioned, Write};

/// How many records are gone through at once.
const STEP: u32 = 500;

/// How often a step is tried again because someone else wrote to the target.
const TRIES: usize = 16;

/// How many records are named that differ.
const NAMED: usize = 20;

/// How many events are looked at at once.
const EVENTS: u32 = 1000;

/// What followers of the target are told. They have no word for it, so they forget everything.
const COPIED: &[u8] = br#"{"kind":"copied"}"#;

/// How a copy went so far, in records.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Read from the source.
    pub(super) seen: u64,
    /// Written to the target, which had none of them.
    pub(super) copied: u64,
    /// In the target already, and equal.
    pub(super) there: u64,
    /// In the target with another value, which was replaced.
    pub(super) replaced: u64,
    /// In the target alone, and removed.
    pub(super) removed: u64,
    /// In the target alone, and left there.
    pub(super) alone: u64,
    /// In the target with another value, and left there.
    pub(super) differing: usize,
    /// The first of those that differ.
    pub(super) names: Vec<String>,
}

/// A copy on its way.
pub(super) struct Copying<'a> {
    source: &'a Store,
    target: &'a Store,
    replace: bool,
    tally: Tally,
}

impl<'a> Copying<'a> {
    pub(super) fn new(source: &'a Store, target: &'a Store, replace: bool) -> Self {
        Self {
            source,
            target,
            replace,
            tally: Tally::default(),
        }
    }

    /// Goes through everything once, and tells how far it has come after each step.
    ///
    /// If the future is dropped, the last step may have been made and not counted; copying again
    /// goes on from there.
    pub(super) async fn run(&mut self, mut tell: impl FnMut(&Tally)) -> Result<(), StoreFault> {
        let mut after = None;
        while let Some(last) = self.step(after.as_deref()).await? {
            after = Some(last);
            tell(&self.tally);
        }
        Ok(())
    }

    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Copies the next records after the key `after`; the last one's key, or `None` after the last.
    async fn step(&mut self, after: Option<&str>) -> Result<Option<String>, StoreFault> {
        for _ in 0..TRIES {
            let (ours, theirs) = tokio::join!(
                self.source.list("", after, STEP),
                self.target.list("", after, STEP),
            );
            let (ours, theirs) = (ours.map_err(in_source)?, theirs.map_err(in_target)?);
            // As far as both are known: behind its last record a page says nothing.
            let ends = [ours.last(), theirs.last()];
            let Some(last) = ends.into_iter().flatten().map(|end| end.key.clone()).min() else {
                return Ok(None);
            };
            let plan = self.plan(ours, theirs, &last);
            if plan.writes.is_empty() || self.swap(plan.writes).await? == Swapped::Committed {
                self.tally.add(plan.tally);
                return Ok(Some(last));
            }
        }
        let busy = std::io::Error::from(std::io::ErrorKind::ResourceBusy);
        Err(in_target(StoreFault::caused("others write to it", busy)))
    }

    async fn swap(&self, writes: Vec<Write>) -> Result<Swapped, StoreFault> {
        let swapped = self.target.swap(writes, vec![COPIED.to_vec()]);
        swapped.await.map_err(in_target)
    }

    fn plan(&self, ours: Vec<Listed>, theirs: Vec<Listed>, last: &str) -> Plan {
        let theirs = theirs.into_iter().take_while(|listed| &*listed.key <= last);
        let mut theirs: BTreeMap<String, Versioned> =
            theirs.map(|listed| (listed.key, listed.record)).collect();
        let mut plan = Plan::default();
        for Listed { key, record } in ours.into_iter().take_while(|listed| &*listed.key <= last) {
            plan.tally.seen += 1;
            match theirs.remove(&key) {
                None => {
                    plan.tally.copied += 1;
                    plan.write(key, None, Some(record.value));
                }
                Some(there) if there.value == record.value => plan.tally.there += 1,
                Some(there) if self.replace => {
                    plan.tally.replaced += 1;
                    plan.write(key, Some(there.version), Some(record.value));
                }
                Some(_) => {
                    plan.tally.differing += 1;
                    plan.tally.names.push(name(&key, &record.value));
                }
            }
        }
        for (key, there) in theirs {
            if self.replace {
                plan.tally.removed += 1;
                plan.write(key, Some(there.version), None);
            } else {
                plan.tally.alone += 1;
            }
        }
        plan
    }
}

/// What a step does, and what it counts for once it is done.
#[derive(Default)]
struct Plan {
    writes: Vec<Write>,
    tally: Tally,
}

impl Plan {
    fn write(&mut self, key: String, expected: Option<u64>, value: Option<Vec<u8>>) {
        self.writes.push(Write {
            key,
            expected,
            value,
        });
    }
}

impl Tally {
    fn add(&mut self, mut step: Self) {
        self.seen += step.seen;
        self.copied += step.copied;
        self.there += step.there;
        self.replaced += step.replaced;
        self.removed += step.removed;
        self.alone += step.alone;
        self.differing += step.differing;
        self.names.extend(mem::take(&mut step.names));
        self.names.truncate(NAMED);
    }
}

/// Whether there is nothing to copy.
pub(super) async fn is_empty(source: &Store) -> Result<bool, StoreFault> {
    let first = source.list("", None, 1).await.map_err(in_source)?;
    Ok(first.is_empty())
}

fn in_source(fault: StoreFault) -> StoreFault {
    StoreFault::caused("the source", fault)
}

fn in_target(fault: StoreFault) -> StoreFault {
    StoreFault::caused("the target", fault)
}

/// Whether anybody else than a copy has told others of a change in this store.
pub(super) async fn is_in_use(store: &Store) -> Result<bool, StoreFault> {
    let mut place = Place::BEGINNING;
    loop {
        let events = store.events_since(place, EVENTS).await.map_err(in_target)?;
        if events.gap || events.events.iter().any(|event| event.payload != COPIED) {
            return Ok(true);
        }
        if events.last == place {
            return Ok(false);
        }
        place = events.last;
    }
}

/// What a record is called: by its key, and where a digest stands in that, which is not to be shown,
/// by the id in its value.
fn name(key: &str, value: &[u8]) -> String {
    let is_digest = |part: &&str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(digest) = key.split('/').find(is_digest) else {
        return key.to_owned();
    };
    let record: Option<Value> = serde_json::from_slice(value).ok();
    let id = record.as_ref().and_then(|record| record["id"].as_str());
    let id = id.or_else(|| std::str::from_utf8(value).ok());
    let id = id.filter(|id| !is_digest(id) && id.len() < 100);
    key.replace(digest, id.unwrap_or("…"))
}
