//! Servers that stores are kept on: Redis and Valkey, alone, behind a Sentinel and as a Cluster.

use std::env;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::wait::eventually;

/// Has a replica synchronised when it asks, and not in five seconds when others may ask as well.
pub(crate) const AT_ONCE: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flavour {
    Redis,
    Valkey,
}

impl Flavour {
    fn program(self) -> PathBuf {
        let name = match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        };
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path)
            .chain([tools])
            .map(|folder| folder.join(name))
            .find(|program| program.exists());
        found.unwrap_or_else(|| panic!("{name} is missing: run scripts/install-tools redis valkey"))
    }
}

/// A running server on a port of its own; killed when dropped.
pub(crate) struct Server {
    flavour: Flavour,
    arguments: Vec<String>,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Keeps everything on disk, as a store needs it.
    pub(crate) fn start(flavour: Flavour) -> Self {
        Self::with(flavour, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// The same with other arguments.
    pub(crate) fn with(flavour: Flavour, arguments: &[&str]) -> Self {
        let mut server = Self::unstarted(flavour);
        server.arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        server.start_again();
        server
    }

    fn unstarted(flavour: Flavour) -> Self {
        Self {
            flavour,
            arguments: Vec::new(),
            port: free_port(),
            folder: folder(),
            child: None,
        }
    }

    fn answers(&self) {
        eventually("the server answers", || {
            // One that wants a password answers too.
            try_ask(self.address(), &["PING"])
                .is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
        });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The answer to a command, as it came.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        try_ask(self.address(), command).unwrap()
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let child = self.child.as_ref().unwrap();
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) {
        let folder = self.folder.path();
        self.child = Some(run(self.flavour, self.port, folder, &self.arguments));
        self.answers();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Sentinel that watches a master; killed when dropped.
pub(crate) struct Sentinel(Server);

impl Sentinel {
    /// Watches `master` by the name `main`, and replaces it half a second after it is gone.
    pub(crate) fn over(master: &Server) -> Self {
        let mut sentinel = Server::unstarted(master.flavour);
        let file = sentinel.file("sentinel.conf");
        let port = master.port();
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            sentinel.port,
            sentinel.folder.path().display()
        );
        std::fs::write(&file, text).unwrap();
        sentinel.child = Some(
            Command::new(master.flavour.program())
                .arg(file)
                .arg("--sentinel")
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        sentinel.answers();
        Self(sentinel)
    }

    pub(crate) fn server(&self) -> &Server {
        &self.0
    }
}

/// Three masters that share the slots.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
    /// One of each, where there are any.
    pub(crate) replicas: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start(flavour: Flavour) -> Self {
        let nodes: Vec<Server> = (0..3).map(|_| Self::node(flavour)).collect();
        let bounds = [0, 5461, 10923, 16384];
        for (node, range) in nodes.iter().zip(bounds.windows(2)) {
            let (first, last) = (range[0].to_string(), (range[1] - 1).to_string());
            let taken = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            assert!(taken.starts_with("+OK"), "{taken}");
            node.meet(&nodes[0]);
        }
        let cluster = Self {
            nodes,
            replicas: Vec::new(),
        };
        cluster.stands(3);
        cluster
    }

    /// The same with a replica of each master.
    pub(crate) fn with_replicas(flavour: Flavour) -> Self {
        let mut cluster = Self::start(flavour);
        for node in &cluster.nodes {
            let replica = Self::node(flavour);
            replica.meet(node);
            let id = node.ask(&["CLUSTER", "MYID"]);
            let id = id.lines().nth(1).unwrap();
            eventually("the replica knows its master", || {
                let told = replica.ask(&["CLUSTER", "REPLICATE", id]);
                told.starts_with("+OK")
            });
            replica.follows();
            cluster.replicas.push(replica);
        }
        cluster.stands(6);
        cluster
    }

    fn node(flavour: Flavour) -> Server {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        Server::with(flavour, &[&arguments[..], &AT_ONCE].concat())
    }

    fn stands(&self, known: usize) {
        let known = format!("cluster_known_nodes:{known}");
        eventually("the cluster stands", || {
            let mut nodes = self.nodes.iter().chain(&self.replicas);
            nodes.all(|node| node.is_in_order() && node.ask(&["CLUSTER", "INFO"]).contains(&known))
        });
    }

    /// Which of the masters has the slot of this key.
    pub(crate) fn holder_of(&self, key: &str) -> usize {
        let held = |node: &Server| !node.ask(&["GET", key]).starts_with("-MOVED");
        self.nodes.iter().position(held).unwrap()
    }
}

impl Server {
    fn meet(&self, other: &Self) {
        self.ask(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]);
    }

    /// A replica that hears of whatever happens from here on.
    pub(crate) fn replica_of(master: &Self) -> Self {
        let port = master.port().to_string();
        let replica = Self::with(master.flavour, &["--replicaof", "127.0.0.1", &port]);
        replica.follows();
        // It is told of as online up to a second before anything reaches it.
        master.ask(&["SET", "news", ""]);
        eventually("the replica hears", || {
            replica.ask(&["EXISTS", "news"]).starts_with(":1")
        });
        replica
    }

    /// Waits until it has what its master has.
    pub(crate) fn follows(&self) {
        eventually("the replica is synchronised", || {
            self.ask(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
    }

    /// Whether the Cluster that it is in serves every slot, as far as it knows.
    pub(crate) fn is_in_order(&self) -> bool {
        self.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    }

    /// Whether it has become the master; it closes its connections when it does.
    pub(crate) fn is_master(&self) -> bool {
        try_ask(self.address(), &["ROLE"]).is_ok_and(|answer| answer.contains("master"))
    }
}

/// In memory, where there is such a place: a server that writes each command to a disk waits for whoever else does, for
/// seconds now and then. A process that is killed loses nothing there either.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn run(flavour: Flavour, port: u16, folder: &Path, arguments: &[String]) -> Child {
    Command::new(flavour.program())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--dir"])
        .arg(folder)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Server {
    /// A port that is free, and whose neighbour that a Cluster speaks on is a port too.
    pub(crate) fn free_port() -> u16 {
        free_port()
    }
}

fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}

fn try_ask(address: SocketAddr, command: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = format!("*{}\r\n", command.len());
    for word in command {
        write!(bytes, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    stream.write_all(bytes.as_bytes())?;
    // What follows the answer is the end.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
