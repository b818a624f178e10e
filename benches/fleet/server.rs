//! The server, and what it says of itself.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gatelet::store::{Address, Config, RedisConfig, Topology};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::sums::Reading;

/// How often it is looked whether it answers.
const LOOK: Duration = Duration::from_millis(5);

/// A server on a port of its own that keeps everything on disk; killed when dropped.
pub(crate) struct Server {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    child: RefCell<Child>,
    connection: RefCell<MultiplexedConnection>,
    /// How many readings were taken, and what their answers were long.
    readings: Cell<(u64, u64)>,
}

impl Server {
    pub(crate) async fn start(program: &Path) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let child = run(program, port, folder.path());
        let connection = connected(port).await;
        Self {
            program: program.to_owned(),
            folder,
            port,
            child: RefCell::new(child),
            connection: RefCell::new(connection),
            readings: Cell::default(),
        }
    }

    /// Ends it without a warning and starts it on what it had; returns once it answers.
    pub(crate) async fn restart(&self) {
        end(&mut self.child.borrow_mut());
        *self.child.borrow_mut() = run(&self.program, self.port, self.folder.path());
        let connection = connected(self.port).await;
        *self.connection.borrow_mut() = connection;
        self.readings.set((0, 0));
    }

    /// The store on it.
    pub(crate) fn config(&self) -> Config {
        Config::Redis(RedisConfig {
            addresses: vec![Address {
                host: "127.0.0.1".into(),
                port: self.port,
            }],
            topology: Topology::Single,
            tls: false,
            authorities: None,
            username: None,
            password: None,
            key_prefix: "gatelet".into(),
        })
    }

    pub(crate) async fn version(&self) -> String {
        let info = self.info("server").await;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        match field("valkey_version:") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field("redis_version:").unwrap()),
        }
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.unwrap()
    }

    async fn try_ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection.borrow().clone();
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await
    }

    async fn info(&self, section: &str) -> String {
        let info: String = self.ask(&["INFO", section]).await;
        let (readings, length) = self.readings.get();
        let length = length + u64::try_from(info.len()).unwrap();
        self.readings.set((readings + 1, length));
        info
    }

    /// What it has counted so far, but for the readings themselves.
    pub(crate) async fn read(&self) -> Reading {
        let before = self.readings.get();
        Reading::of(&self.info("everything").await, before)
    }

    /// How large the files are that its folder holds.
    pub(crate) fn on_disk(&self, extension: &str) -> u64 {
        let mut pending = vec![self.folder.path().to_owned()];
        let mut size = 0;
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_dir() {
                    pending.push(entry.path());
                } else if entry.path().extension().is_some_and(|it| it == extension) {
                    size += entry.metadata().unwrap().len();
                }
            }
        }
        size
    }

    /// Has it done in the background, and waits until it is.
    pub(crate) async fn do_aside(&self, command: &str) {
        let _: String = self.ask(&[command]).await;
        loop {
            let info = self.info("persistence").await;
            let is_over = |name: &str| info.contains(&format!("{name}:0\r"));
            if is_over("aof_rewrite_in_progress")
                && is_over("aof_rewrite_scheduled")
                && is_over("rdb_bgsave_in_progress")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(self.child.get_mut());
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

fn run(program: &Path, port: u16, folder: &Path) -> Child {
    let running = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "yes", "--dir"])
        .arg(folder)
        // It is rewritten when the bench says so.
        .args(["--auto-aof-rewrite-percentage", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    running.unwrap_or_else(|error| unreachable!("{}: {error}", program.display()))
}

async fn connected(port: u16) -> MultiplexedConnection {
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    // Longer than a million records are loaded.
    let bound = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                let answer: RedisResult<String> =
                    redis::cmd("PING").query_async(&mut connection).await;
                if answer.is_ok() {
                    return connection;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    bound.await.unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
