//! Diagnostics: what gatelet tells its operator, on standard error.
//!
//! Requests are not logged here but by `access_log`, and no span is opened for one. Lines are
//! written by a thread of their own, so that nobody waits for whoever reads them.

mod queue;

use std::io::{self, IsTerminal, stderr};

use tracing::Level;
use tracing::dispatcher::Dispatch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use queue::{LastLines, Queue};

/// How gatelet logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The form of each line.
    pub format: Format,
    /// The least severe level that is written.
    pub level: Level,
    /// Whether each request is logged.
    pub access: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Whether lines are text, where `terminal` says if they go to one.
    pub fn is_text(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal,
            Self::Text => true,
            Self::Json => false,
        }
    }
}

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct LevelSwitch(reload::Handle<Targets, Registry>);

impl LevelSwitch {
    /// Writes what is at least as severe as `level` from now on.
    pub fn set(&self, level: Level) {
        // Fails only once the log itself is gone, and then there is nothing to switch.
        let _ = self.0.reload(written(level));
    }
}

/// The diagnostics of this process. Dropped at its end, it waits until the last lines were written,
/// a second at most.
pub struct Diagnostics {
    level: LevelSwitch,
    _last_lines: LastLines,
}

impl Diagnostics {
    /// Changes the level from here on.
    pub fn level(&self) -> LevelSwitch {
        self.level.clone()
    }
}

/// Sends this process's diagnostics to standard error.
///
/// Fails if that was done before. A standard error that is closed, broken or not read loses the
/// lines and nothing else.
pub fn init(config: &Config) -> io::Result<Diagnostics> {
    let queue = Queue::start(stderr())?;
    let (dispatch, level) = dispatch(config, stderr().is_terminal(), queue.clone());
    tracing::dispatcher::set_global_default(dispatch).map_err(io::Error::other)?;
    Ok(Diagnostics {
        level,
        _last_lines: LastLines(queue),
    })
}

/// What is written at `level`.
///
/// The HTTP/2 library warns of what a stranger sends, once a connection: that is counted, and written
/// to those alone who ask for more than usual.
fn written(level: Level) -> Targets {
    let library = if level > Level::INFO {
        level
    } else {
        Level::ERROR
    };
    Targets::new()
        .with_default(LevelFilter::from_level(level))
        .with_target("h2", LevelFilter::from_level(library))
}

fn dispatch<W>(config: &Config, terminal: bool, writer: W) -> (Dispatch, LevelSwitch)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(written(config.level));
    let registry = Registry::default().with(filter);
    // Told of a line that it cannot write, the layer would print that to standard error, and panic if
    // that is what broke.
    let layer = fmt::layer().with_writer(writer).log_internal_errors(false);
    let dispatch = if config.format.is_text(terminal) {
        // The layer's own default leaves colours out where NO_COLOR asks for it.
        let layer = if terminal {
            layer
        } else {
            layer.with_ansi(false)
        };
        Dispatch::new(registry.with(layer.with_target(false)))
    } else {
        let layer = layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        Dispatch::new(registry.with(layer))
    };
    (dispatch, LevelSwitch(handle))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const CONFIG: Config = Config {
        format: Format::Auto,
        level: Level::INFO,
        access: true,
    };

    #[test]
    fn json_is_one_flat_object_a_line() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (dispatch, _switch) = dispatch(&CONFIG, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(address = "127.0.0.1:8080", "listening");
            tracing::debug!("not written");
        });
        let line: Value = serde_json::from_str(captured.text().trim_end()).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["address"], "127.0.0.1:8080");
        assert!(line.get("span").is_none());
    }

    #[test]
    fn text_without_a_terminal_has_no_colours() {
        let captured = Captured::default();
        let writer = captured.clone();
        let config = Config {
            format: Format::Text,
            ..CONFIG
        };
        let (dispatch, _switch) = dispatch(&config, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || tracing::warn!(left = 3, "draining"));
        let text = captured.text();
        assert!(text.ends_with("WARN draining left=3\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn the_level_can_be_switched() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (dispatch, switch) = dispatch(&CONFIG, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::debug!("before");
            switch.set(Level::DEBUG);
            tracing::debug!("between");
            switch.set(Level::ERROR);
            tracing::warn!("after");
        });
        let text = captured.text();
        assert!(text.contains("between"));
        assert!(!text.contains("before") && !text.contains("after"));
    }

    #[test]
    fn strangers_do_not_fill_the_log_through_a_library() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (dispatch, switch) = dispatch(&CONFIG, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(target: "h2::proto::streams::streams", "before");
            switch.set(Level::DEBUG);
            tracing::debug!(target: "h2::proto::streams::streams", "after");
        });
        let text = captured.text();
        assert!(text.contains("after") && !text.contains("before"), "{text}");
    }

    #[test]
    fn automatic_form_follows_the_terminal() {
        assert!(Format::Auto.is_text(true));
        assert!(!Format::Auto.is_text(false));
        assert!(Format::Text.is_text(false));
        assert!(!Format::Json.is_text(true));
    }
}
