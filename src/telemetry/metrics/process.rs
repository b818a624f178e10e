//! The process's own series: memory, descriptors, threads, processor time.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{family, fractional, whole};

const PROCESSOR_TIME: &str = "process_cpu_seconds_total";

/// The library's collector, which knows whole seconds of processor time alone: for a process that
/// is mostly at rest, a rate over a minute would read nothing, and then too much.
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn of_this() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        if let Some(seconds) = processor_time() {
            families.retain(|family| family.name() != PROCESSOR_TIME);
            families.push(family(
                PROCESSOR_TIME,
                "Total user and system CPU time spent in seconds.",
                MetricType::COUNTER,
                vec![fractional(seconds)],
            ));
        }
        families
    }
}

/// The processor time that all threads of this process have used, in seconds.
fn processor_time() -> Option<f64> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    Some(whole(stat.utime + stat.stime) / whole(procfs::ticks_per_second()))
}
