//! `gatelet serve`: runs the sidecar until it is told to stop, following its configuration.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::App;
use crate::config::{self, Config, Overrides, Watch};
use crate::platform::signal::{Request, Signals};
use crate::platform::{Platform, raise_open_files};
use crate::telemetry::log::{self, LevelSwitch};

use super::{DONE, WRONG, failed, tell_problems};

/// How often the configuration's content is compared. Kubernetes swaps symlinks, so looking
/// beats being notified.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Serves the configuration at `path`, and returns the exit status.
pub(super) fn run(path: &Path, overrides: Overrides) -> u8 {
    let loaded = match config::load(path, &overrides) {
        Ok(loaded) => loaded,
        Err(problems) => {
            tell_problems(path, &problems);
            return WRONG;
        }
    };
    let diagnostics = match log::init(&loaded.config.log) {
        Ok(diagnostics) => diagnostics,
        Err(error) => return failed(&error),
    };
    let platform = Platform::system();
    for warning in loaded.warnings(platform.clock.now()) {
        tracing::warn!("{warning}");
    }
    if let Some(limit) = raise_open_files()
        && loaded.config.open_files() > limit
    {
        tracing::warn!(
            limit,
            needed = loaded.config.open_files(),
            "fewer files may be open than the configured connections need; raise the limit \
             (`ulimit -n`), or lower limits.connections or upstreams.max_connections"
        );
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let following = Following {
        path: path.to_owned(),
        overrides,
        platform,
        watch: Some(loaded.watch),
        began: loaded.config,
        level: diagnostics.level(),
    };
    match runtime.block_on(serve(following)) {
        Ok(()) => DONE,
        Err(error) => failed(&*error),
    }
}

/// The configuration's file, and how to notice that it changed.
struct Following {
    path: PathBuf,
    overrides: Overrides,
    platform: Platform,
    /// What the process began with: some of it holds until it ends.
    began: Config,
    /// Absent while a look is under way.
    watch: Option<Watch>,
    level: LevelSwitch,
}

async fn serve(mut following: Following) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let app = App::start(&following.began, &following.platform).await?;
    tracing::info!(listener = "proxy", address = %app.proxy(), "listening");
    tracing::info!(listener = "telemetry", address = %app.telemetry(), "listening");
    tracing::info!("ready");
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => break,
                Request::Reload => following.reload(&app).await,
            },
            () = tokio::time::sleep(LOOK_PERIOD) => {
                if following.changed().await? {
                    following.reload(&app).await;
                }
            }
        }
    }
    tracing::info!("stopping");
    let stopping = app.stop();
    tokio::pin!(stopping);
    let finished = loop {
        tokio::select! {
            finished = &mut stopping => break finished,
            request = signals.next() => if request == Request::Stop {
                tracing::warn!("stopping at once: asked a second time");
                break false;
            },
        }
    };
    if finished {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped before everything had finished");
    }
    Ok(())
}

impl Following {
    /// Whether the file or what it points to changed since the last look.
    async fn changed(&mut self) -> io::Result<bool> {
        let Some(mut watch) = self.watch.take() else {
            return Ok(false);
        };
        let looking = tokio::task::spawn_blocking(move || (watch.changed(), watch));
        let (changed, watch) = looking.await.map_err(io::Error::other)?;
        self.watch = Some(watch);
        Ok(changed)
    }

    /// Reads the configuration again, and puts it in force if it is valid.
    async fn reload(&mut self, app: &App) {
        let loaded = match config::load(&self.path, &self.overrides) {
            Ok(loaded) => loaded,
            Err(problems) => {
                for problem in &problems.list {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration is invalid; the one before stays in force");
                app.reload_rejected();
                self.watch = Some(problems.watch);
                return;
            }
        };
        for warning in loaded.warnings(self.platform.clock.now()) {
            tracing::warn!("{warning}");
        }
        self.watch = Some(loaded.watch);
        for key in config::fixed_changes(&self.began, &loaded.config) {
            tracing::warn!(key, "was changed; that takes effect with a restart");
        }
        match app.reload(&loaded.config).await {
            Ok(()) => {
                self.level.set(loaded.config.log.level);
                tracing::info!("the configuration was reloaded");
            }
            Err(error) => {
                tracing::error!(%error, "the configuration cannot be served; the one before stays in force");
                app.reload_rejected();
            }
        }
    }
}
