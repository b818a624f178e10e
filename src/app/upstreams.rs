//! The directories of the upstreams, kept over reloads as long as an upstream stays what it is.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::platform::Platform;
use crate::telemetry::metrics::{AddressState, Metrics};
use crate::upstream::Config;
use crate::upstream::directory::{Directory, Tended};

/// Tends the directories in force, on the runtime that everything began on.
pub(super) struct Upstreams {
    tended: ArcSwap<Vec<Arc<Tended>>>,
    platform: Platform,
    metrics: Metrics,
}

/// The directories of one configuration, in the order of its upstreams.
pub(super) struct Fitted(Vec<Arc<Tended>>);

impl Fitted {
    /// The directories themselves, for the workers.
    pub(super) fn directories(&self) -> Vec<Arc<Directory>> {
        let tended = self.0.iter();
        tended
            .map(|tended| Arc::clone(tended.directory()))
            .collect()
    }
}

impl Upstreams {
    /// None yet.
    pub(super) fn new(platform: &Platform, metrics: &Metrics) -> Self {
        Self {
            tended: ArcSwap::default(),
            platform: platform.clone(),
            metrics: metrics.clone(),
        }
    }

    /// A directory for each upstream: the one that there is, where its configuration is the same.
    /// Has to be called within a runtime.
    pub(super) fn fit(&self, configs: &[Config]) -> Fitted {
        let known = self.tended.load();
        let fitted = configs.iter().map(|config| {
            let mut known = known.iter();
            let same = known.find(|tended| tended.directory().config() == config);
            same.map_or_else(
                || Arc::new(Tended::start(config, &self.platform, &self.metrics)),
                Arc::clone,
            )
        });
        Fitted(fitted.collect())
    }

    /// Puts these in force; those that are no longer needed are tended no more.
    pub(super) fn settle(&self, Fitted(fresh): Fitted) {
        let fresh = Arc::new(fresh);
        let before = self.tended.swap(Arc::clone(&fresh));
        let names = before.iter().map(|tended| tended.directory().config());
        let names: Vec<Box<str>> = names.map(|config| config.name.clone()).collect();
        // From here on those that are not among the fresh say nothing more.
        drop(before);
        for name in names {
            let none = [0; AddressState::ALL.len()];
            self.metrics.upstream(&name).addresses(none);
        }
        for tended in fresh.iter() {
            tended.enter();
        }
    }
}
