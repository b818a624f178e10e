//! The access log: one line a request, written by a thread of its own.
//!
//! Workers hand over what they know and format nothing. The queue between them and the writer is
//! bounded and never waited for: a line that finds it full is counted and lost.

mod line;

use std::io::{self, Write};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use line::{Line, LoggedPath};

use line::Second;

use super::metrics::Metrics;

/// The most lines that wait to be written.
const CAPACITY: usize = 4_096;

/// The most lines that are written in one go.
const BATCH: usize = 256;

/// How long the writer rests once it has written all there was. Under load it then finds a batch,
/// and workers need not wake it for each line.
const REST: Duration = Duration::from_millis(5);

/// What the writer's buffer may keep between batches.
const KEPT: usize = 64 * 1024;

/// Where workers leave their lines; clones share one queue.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: mpsc::Sender<Line>,
    metrics: Metrics,
}

impl AccessLog {
    /// Starts the thread that writes lines to `writer`: as text, or each as one JSON object.
    pub fn start(
        text: bool,
        writer: impl Write + Send + 'static,
        metrics: Metrics,
    ) -> io::Result<(Self, Writer)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (lines, queue) = mpsc::channel(CAPACITY);
        let (stop, stopped) = oneshot::channel();
        let (finished, done) = blocking::channel();
        let task = Task {
            queue,
            stopped,
            text,
            second: Second::default(),
            writer,
            metrics: metrics.clone(),
        };
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                runtime.block_on(task.run());
                // Nobody waits for it where the process goes on without its log.
                let _ = finished.send(());
            })?;
        Ok((Self { lines, metrics }, Writer { stop, done }))
    }

    /// Queues a line; counts it as dropped where there is no room.
    pub fn log(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.metrics.log_lines_dropped(1);
        }
    }
}

/// The thread behind an [`AccessLog`]. Dropping this stops it, without waiting for what is queued.
#[derive(Debug)]
pub struct Writer {
    stop: oneshot::Sender<()>,
    done: blocking::Receiver<()>,
}

impl Writer {
    /// Takes no more lines, and writes those that are queued; blocks until that is done.
    ///
    /// False if it took longer than `within`; what was not written then is lost.
    pub fn finish(self, within: Duration) -> bool {
        // The thread may have ended by itself, with all its senders.
        let _ = self.stop.send(());
        self.done.recv_timeout(within).is_ok()
    }
}

/// What the thread works with.
struct Task<W> {
    queue: mpsc::Receiver<Line>,
    stopped: oneshot::Receiver<()>,
    text: bool,
    second: Second,
    writer: W,
    metrics: Metrics,
}

impl<W: Write> Task<W> {
    /// Writes lines until every sender is gone, or until it is stopped and the queue is empty.
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut out = Vec::new();
        let mut open = true;
        loop {
            tokio::select! {
                _ = &mut self.stopped, if open => {
                    open = false;
                    self.queue.close();
                }
                received = self.queue.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    self.write(&mut batch, &mut out);
                }
            }
            if open && self.queue.is_empty() {
                tokio::select! {
                    _ = &mut self.stopped => {
                        open = false;
                        self.queue.close();
                    }
                    () = tokio::time::sleep(REST) => {}
                }
            }
        }
    }

    fn write(&mut self, batch: &mut Vec<Line>, out: &mut Vec<u8>) {
        out.clear();
        out.shrink_to(KEPT);
        let lines = batch.len();
        for line in batch.drain(..) {
            line.write(self.text, &mut self.second, out);
        }
        // Whoever reads the log may have gone; requests do not end for that.
        let written = self
            .writer
            .write_all(out)
            .and_then(|()| self.writer.flush());
        if written.is_err() {
            self.metrics.log_lines_dropped(lines as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A writer that hands on what it gets, and waits at `gate` before it takes anything.
    struct Gated {
        gate: Option<Receiver<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = self.gate.take() {
                let _ = gate.recv();
            }
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(10);

    fn dropped(metrics: &Metrics) -> u64 {
        let text = metrics.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("gatelet_log_lines_dropped_total "));
        line.unwrap().parse().unwrap()
    }

    fn lines(written: &Receiver<Vec<u8>>) -> usize {
        let bytes: Vec<u8> = written.try_iter().flatten().collect();
        String::from_utf8(bytes).unwrap().lines().count()
    }

    #[test]
    fn what_is_queued_is_written_before_the_end() {
        let (written, read) = channel();
        let gated = Gated {
            gate: None,
            written,
        };
        let metrics = Metrics::new(1);
        let (log, writer) = AccessLog::start(false, gated, metrics.clone()).unwrap();
        for _ in 0..1_000 {
            log.log(Line::sample());
        }
        assert!(writer.finish(LONG));
        assert_eq!(lines(&read), 1_000);
        log.log(Line::sample());
        assert_eq!(dropped(&metrics), 1);
    }

    #[test]
    fn a_line_is_written_without_being_asked_for() {
        let (written, read) = channel();
        let gated = Gated {
            gate: None,
            written,
        };
        let (log, _writer) = AccessLog::start(true, gated, Metrics::new(1)).unwrap();
        for _ in 0..3 {
            log.log(Line::sample());
            assert!(read.recv_timeout(LONG).unwrap().ends_with(b"\n"));
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_no_time() {
        let (open, gate) = channel();
        let (written, read) = channel();
        let gated = Gated {
            gate: Some(gate),
            written,
        };
        let metrics = Metrics::new(1);
        let (log, writer) = AccessLog::start(false, gated, metrics.clone()).unwrap();
        let sent = 2 * CAPACITY;
        for _ in 0..sent {
            log.log(Line::sample());
        }
        let lost = usize::try_from(dropped(&metrics)).unwrap();
        assert!(lost >= sent - CAPACITY - BATCH, "{lost}");
        open.send(()).unwrap();
        assert!(writer.finish(LONG));
        assert_eq!(lines(&read), sent - lost);
    }

    #[test]
    fn the_end_waits_no_longer_than_it_was_told() {
        let (_open, gate) = channel();
        let (written, _read) = channel();
        let gated = Gated {
            gate: Some(gate),
            written,
        };
        let (log, writer) = AccessLog::start(false, gated, Metrics::new(1)).unwrap();
        log.log(Line::sample());
        assert!(!writer.finish(Duration::from_millis(20)));
    }

    #[test]
    fn a_broken_pipe_is_counted() {
        let metrics = Metrics::new(1);
        let (log, writer) = AccessLog::start(false, Broken, metrics.clone()).unwrap();
        for _ in 0..10 {
            log.log(Line::sample());
        }
        assert!(writer.finish(LONG));
        assert_eq!(dropped(&metrics), 10);
    }
}
