//! Knowing when everything that was started has ended.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;

/// Held by whatever still runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Alive(
    #[expect(dead_code, reason = "its existence is its use")] mpsc::Sender<Infallible>,
);

/// Waits for the last [`Alive`] to go.
#[derive(Debug)]
pub struct Ended(mpsc::Receiver<Infallible>);

/// A pair of a handle to hold and the side that waits.
pub fn alive() -> (Alive, Ended) {
    let (sender, receiver) = mpsc::channel(1);
    (Alive(sender), Ended(receiver))
}

impl Ended {
    /// Waits until every [`Alive`] was dropped. Cancel safe.
    pub async fn wait(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Keeps what it was made of for as long as a clone of it lives.
///
/// A connection's place among those counted goes on to the tunnel that the connection becomes.
#[derive(Clone)]
pub struct Hold(
    #[expect(dead_code, reason = "its existence is its use")] Arc<dyn Any + Send + Sync>,
);

impl Hold {
    /// Keeps `kept`.
    pub fn new(kept: impl Any + Send + Sync) -> Self {
        Self(Arc::new(kept))
    }
}
