//! What happened in a run: how often, how long at most.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    longest: Mutex<BTreeMap<&'static str, Duration>>,
}

impl Tally {
    pub(super) fn count(&self, what: &'static str, outcome: &'static str) {
        let mut counts = self.counts.lock().unwrap();
        *counts.entry((what, outcome)).or_default() += 1;
    }

    /// Notes how long something took, if nothing took longer.
    pub(super) fn took(&self, what: &'static str, duration: Duration) {
        let mut longest = self.longest.lock().unwrap();
        let most = longest.entry(what).or_default();
        *most = duration.max(*most);
    }

    /// How often this came out so.
    pub(super) fn of(&self, what: &'static str, outcome: &'static str) -> u64 {
        let counts = self.counts.lock().unwrap();
        counts.get(&(what, outcome)).copied().unwrap_or_default()
    }

    /// How often there was this outcome of anything.
    pub(super) fn all(&self, outcome: &'static str) -> u64 {
        let counts = self.counts.lock().unwrap();
        let matching = counts.iter().filter(|((_, it), _)| *it == outcome);
        matching.map(|(_, count)| count).sum()
    }

    /// A line for each thing that happened.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        let mut before = "";
        for ((what, outcome), count) in &*self.counts.lock().unwrap() {
            if *what != before {
                write!(text, "\n  {what}:").unwrap();
                before = what;
            }
            write!(text, " {outcome} {count}").unwrap();
        }
        for (what, duration) in &*self.longest.lock().unwrap() {
            write!(text, "\n  at most {what}: {} ms", duration.as_millis()).unwrap();
        }
        text
    }
}
