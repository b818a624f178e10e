//! Readers that keep an upstream connection and take nothing from it.

use std::sync::Weak;

use crate::upstream::connection::Shared;
use crate::upstream::pace::{LOOK, Looks};
use crate::upstream::shelves::Seat;

/// Closes a connection when the reader of its answer has stalled, and has its seat no longer taken.
///
/// A task of its own, so that it costs requests nothing; it ends soon after the connection.
pub(super) async fn close_when_stalled(connection: Weak<Shared>, seat: Weak<Seat>) {
    let mut looks = Looks::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        if looks.find_stalled(&connection.reader) {
            tracing::debug!("closed an upstream connection whose answer nobody reads");
            connection.close();
            // Whoever holds the answer may keep it for ever.
            if let Some(seat) = seat.upgrade() {
                seat.set(false);
            }
            return;
        }
    }
}
