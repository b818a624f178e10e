//! The program on a thread of this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use gatelet::app::App;
use gatelet::config::{self, Overrides};
use gatelet::platform::Platform;
use tokio::sync::oneshot;

/// A gatelet that runs until it is dropped.
pub(crate) struct InProcess {
    /// Where it listens.
    pub(crate) proxy: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    /// Runs gatelet as the file `configuration` says.
    pub(crate) fn start(configuration: &Path, platform: Platform) -> Self {
        let loaded = config::load(configuration, &Overrides::default());
        let config = loaded.unwrap_or_else(|problems| panic!("{:?}", problems.list));
        let (end, ended) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let app = App::start(&config.config, &platform).await.unwrap();
                tell.send(app.proxy()).unwrap();
                let _ = ended.await;
                app.stop().await;
            });
        });
        Self {
            proxy: told.recv().unwrap(),
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "gatelet panicked");
        }
    }
}
