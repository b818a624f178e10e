//! Diagnostics on their way to whoever reads them: a bounded queue and a thread that writes.
//!
//! A reader that stops reading fills its pipe, and whoever wrote to that would wait with it:
//! workers in the middle of requests, or the process at its end. Here only the thread waits. A line
//! that finds the queue full is lost, and the loss is told once lines flow again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The most lines that wait to be written.
const CAPACITY: usize = 1_024;

/// The longest that the end of the process waits for lines to be written, once they are queued.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often, and after what time each, a full queue is tried again at the end of the process.
const RETRIES: (usize, Duration) = (50, Duration::from_millis(10));

enum Item {
    Line(Box<[u8]>),
    /// Everything before this was written once it is answered.
    Flush(SyncSender<()>),
}

/// Where lines are left; clones share one queue.
#[derive(Clone)]
pub(super) struct Queue {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread that writes lines to `writer`.
    pub(super) fn start(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (items, queue) = sync_channel(CAPACITY);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new()
            .name("diagnostics".into())
            .spawn(move || write(&queue, writer, &counted))?;
        Ok(Self { items, lost })
    }
}

impl Write for Queue {
    /// Takes one line, whole; it never fails and never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.items.try_send(Item::Line(line.into())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Waits, when dropped, until the lines so far were written; not for long.
pub(super) struct LastLines(pub(super) Queue);

impl Drop for LastLines {
    fn drop(&mut self) {
        let (flushed, written) = sync_channel(1);
        let mut item = Item::Flush(flushed);
        let (tries, pause) = RETRIES;
        for _ in 0..tries {
            match self.0.items.try_send(item) {
                Ok(()) => {
                    // What nobody reads within this time is lost.
                    let _ = written.recv_timeout(LAST_LINES);
                    return;
                }
                Err(TrySendError::Full(back)) => item = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            thread::sleep(pause);
        }
    }
}

fn write(queue: &Receiver<Item>, mut writer: impl Write, lost: &AtomicU64) {
    for item in queue {
        match item {
            // A standard error that is closed loses the line and nothing else.
            Item::Line(line) => drop(writer.write_all(&line).and_then(|()| writer.flush())),
            Item::Flush(flushed) => drop(flushed.send(())),
        }
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(
                lines,
                "lines of this log were lost: its reader was too slow"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that waits at `gate` before each line, and hands on what it gets.
    struct Gated {
        gate: Receiver<()>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_past_the_capacity_are_lost_and_nobody_waits() {
        let (open, gate) = sync_channel(4 * CAPACITY);
        let (written, lines) = sync_channel(4 * CAPACITY);
        let mut queue = Queue::start(Gated { gate, written }).unwrap();
        for _ in 0..3 * CAPACITY {
            queue.write_all(b"line\n").unwrap();
        }
        let lost = queue.lost.load(Ordering::Relaxed);
        // One line is in the writer's hands.
        assert!(lost >= (2 * CAPACITY - 1) as u64, "{lost}");
        drop(open);
        drop(LastLines(queue));
        let kept = lines.try_iter().count() as u64;
        assert_eq!(kept + lost, 3 * CAPACITY as u64);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (open, gate) = sync_channel(2);
        let (written, lines) = sync_channel(2);
        let mut queue = Queue::start(Gated { gate, written }).unwrap();
        queue.write_all(b"stopping\n").unwrap();
        queue.write_all(b"stopped\n").unwrap();
        let opener = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(open);
        });
        drop(LastLines(queue));
        let lines: Vec<_> = lines.try_iter().collect();
        assert_eq!(lines, [b"stopping\n".to_vec(), b"stopped\n".to_vec()]);
        opener.join().unwrap();
    }

    #[test]
    fn an_end_without_a_reader_comes_all_the_same() {
        let (_closed, gate) = sync_channel(0);
        let (written, _lines) = sync_channel(0);
        let mut queue = Queue::start(Gated { gate, written }).unwrap();
        queue.write_all(b"unread\n").unwrap();
        let (ended, end) = sync_channel(1);
        thread::spawn(move || {
            drop(LastLines(queue));
            ended.send(()).unwrap();
        });
        end.recv_timeout(10 * LAST_LINES).unwrap();
    }
}
