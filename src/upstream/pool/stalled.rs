//! Readers that keep an upstream connection and take nothing from it.

use std::sync::Weak;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::upstream::connection::Shared;

/// How long the reader of an answer may take nothing of it before the connection is closed.
pub(super) const STALLED: Duration = Duration::from_secs(60);

/// How often that is looked at meanwhile.
const LOOKS: u32 = 4;

/// Closes a connection when the reader of its answer has taken nothing of what is there for
/// [`STALLED`].
///
/// A caller that opens no window would hold the connection for ever, and nothing of its own is
/// polled meanwhile that could notice. A task beside the connection's, so that it costs requests
/// nothing; it ends with the connection.
pub(super) async fn close_when_stalled(connection: Weak<Shared>, mut driven: JoinHandle<()>) {
    let mut held = None;
    let mut looks = 0;
    while timeout(STALLED / LOOKS, &mut driven).await.is_err() {
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let holds = connection.reader.held();
        looks = if holds.is_some() && holds == held {
            looks + 1
        } else {
            0
        };
        if looks == LOOKS {
            tracing::debug!("closed an upstream connection whose answer nobody reads");
            connection.close();
            driven.abort();
        }
        held = holds;
    }
}
