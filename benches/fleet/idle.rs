//! Nothing happens.

use std::time::Duration;

use crate::Fleet;
use crate::sums::mebibytes;

pub(crate) async fn measure(fleet: &Fleet, window: Duration) {
    let before = fleet.server.read().await;
    tokio::time::sleep(window).await;
    let after = fleet.server.read().await;
    println!("\nidle for {window:?}");
    before.until(&after).print_a_second();
    // One of them is the bench's.
    let clients = after.clients - 1;
    let memory = mebibytes(after.memory_of_clients);
    println!("  connections  {clients}, in {memory:.1} MiB of the server's memory");
}
