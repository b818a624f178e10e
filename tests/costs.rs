//! How often gatelet asks for memory to answer a request whose credentials it remembers.
//!
//! The one test of its binary: the allocator counts what the whole process asks for, and only here is that gatelet
//! alone. The caller and the upstream are threads that ask for nothing once they have begun.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected stops there, and makes tokens that are good now"
)]

use std::alloc::System;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatelet::authn::jwt::signing::SigningKey;
use gatelet::platform::Platform;
use gatelet::rules::api_key::mint;
use gatelet::rules::jwt::SigningAlgorithm;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tempfile::TempDir;

#[path = "it/harness/in_process.rs"]
mod in_process;

use in_process::InProcess;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many requests come before those that are counted, until everything is remembered and has its room.
const WARM: usize = 200;

/// How many requests are counted. Following the store asks for some memory ten times a second, which is lost among so
/// many.
const COUNTED: usize = 1_000;

/// The longest that anything is waited for.
const BOUND: Duration = Duration::from_secs(10);

const ISSUER: &str = "https://id.example.com";

const CONFIG: &str = r#"
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[runtime]
workers = 1

[log]
access = false

# Every request with an unknown key counts.
[limits]
failed_authentications = "1000000/s"

[[upstreams]]
name = "api"
url = "http://{upstream}"

[[routes]]
prefix = "/key"
require = ["api_key"]

[[routes]]
prefix = "/both"
require = ["api_key", "access_token"]

[[access_token.trusted]]
issuer = "{issuer}"
audience = ["api"]
jwks_file = "{folder}/jwks.json"

[store]
kind = "embedded"
path = "{folder}/data"
"#;

/// A higher number is more work for every request, for ever. Where it is worth that, say why with the change; where the
/// number falls, write the lower one here.
#[test]
fn a_request_asks_for_memory_no_more_often_than_it_did() {
    let gatelet = Gatelet::start(upstream());
    let key = gatelet.create_key();
    let token = gatelet.token();
    let unknown = mint("gk", &[7; 32]);
    let both = format!("x-api-key: {key}\r\nauthorization: Bearer {token}");
    for (what, path, credentials, status, at_most) in [
        ("a key", "/key", format!("x-api-key: {key}"), "200", 2),
        ("a key and an access token", "/both", both, "200", 2),
        (
            "an unknown key",
            "/key",
            format!("x-api-key: {}", &*unknown),
            "401",
            7,
        ),
    ] {
        let mut caller = Caller::connect(gatelet.running.proxy, path, &credentials, status);
        caller.ask(WARM);
        // The least of three: some comes with time, and not with requests.
        let counted = (0..3).map(|_| {
            let region = Region::new(ALLOCATOR);
            caller.ask(COUNTED);
            let asked = region.change();
            asked.allocations + asked.reallocations
        });
        let counted = counted.min().unwrap();
        let each = (counted + COUNTED / 2) / COUNTED;
        assert!(
            each <= at_most,
            "a request with {what} asks for memory {each} times, and did {at_most} times: {counted} in {COUNTED}"
        );
    }
}

/// gatelet in this process, with one worker.
struct Gatelet {
    running: InProcess,
    /// What the trusted issuer signs with.
    signing: SigningKey,
    folder: TempDir,
}

impl Gatelet {
    fn start(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let signing = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        let published = json!({ "keys": [signing.public_jwk()] });
        fs::write(path.join("jwks.json"), published.to_string()).unwrap();
        let text = CONFIG
            .replace("{upstream}", &upstream.to_string())
            .replace("{issuer}", ISSUER)
            .replace("{folder}", path.to_str().unwrap());
        let configuration = path.join("config.toml");
        fs::write(&configuration, text).unwrap();
        Self {
            running: InProcess::start(&configuration, Platform::system()),
            signing,
            folder,
        }
    }

    /// Mints a key, which the store keeps.
    fn create_key(&self) -> String {
        let made = Command::new(env!("CARGO_BIN_EXE_gatelet"))
            .env_clear()
            .args(["keys", "create", "--json", "--name", "caller", "--config"])
            .arg(self.folder.path().join("config.toml"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        made["key"].as_str().unwrap().to_owned()
    }

    /// An access token of the trusted issuer, good for an hour.
    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let header = json!({"alg": "ES256", "kid": self.signing.kid(), "typ": "JWT"});
        let expires = now.as_secs() + 3600;
        let claims = json!({"iss": ISSUER, "aud": "api", "sub": "ada", "exp": expires});
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let covered = format!("{header}.{claims}");
        let key = jsonwebtoken::EncodingKey::from_ec_der(self.signing.as_pkcs8());
        let algorithm = jsonwebtoken::Algorithm::ES256;
        let signature = jsonwebtoken::crypto::sign(covered.as_bytes(), &key, algorithm).unwrap();
        format!("{covered}.{signature}")
    }
}

/// An API that answers every request alike, and says no date, so that gatelet has to.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(socket));
        }
    });
    address
}

fn serve(mut socket: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 12\r\n\r\n{\"ok\":true}\n";

    socket.set_nodelay(true)?;
    let mut head = Room::default();
    while head.read(&mut socket)? {
        if head.text().ends_with("\r\n\r\n") {
            head.length = 0;
            socket.write_all(ANSWER)?;
        }
    }
    Ok(())
}

/// A caller that sends the same request again and again on one connection.
struct Caller<'a> {
    socket: TcpStream,
    request: String,
    status: &'a str,
}

impl<'a> Caller<'a> {
    /// `status` is what its requests have to be answered with.
    fn connect(address: SocketAddr, path: &str, credentials: &str, status: &'a str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: api.test\r\nuser-agent: test\r\naccept: */*\r\n{credentials}\r\n\r\n"
        );
        Self {
            socket,
            request,
            status,
        }
    }

    /// Sends the request so many times, each when the one before was answered.
    fn ask(&mut self, times: usize) {
        for _ in 0..times {
            self.socket.write_all(self.request.as_bytes()).unwrap();
            let mut answer = Room::default();
            while !is_whole(answer.text()) {
                let goes_on = answer.read(&mut self.socket).unwrap();
                assert!(goes_on, "closed amid an answer: {}", answer.text());
            }
            let status = answer.text().split(' ').nth(1);
            assert_eq!(status, Some(self.status), "{}", answer.text());
        }
    }
}

/// Whether an answer is there with all that it says it has.
fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.unwrap().parse::<usize>().unwrap()
}

/// Room to read into that asks for no memory.
struct Room {
    bytes: [u8; 4096],
    length: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: [0; 4096],
            length: 0,
        }
    }
}

impl Room {
    /// Reads more; false at the end of the connection, or where there is no room.
    fn read(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        let count = socket.read(&mut self.bytes[self.length..])?;
        self.length += count;
        Ok(count > 0)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap()
    }
}
