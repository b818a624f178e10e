//! What comes back to a server all at once.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gatelet::store::{Address, Config, RedisConfig, Topology};

use super::{commit_with, open};
use crate::harness::{Flavour, Server};

/// How many reads a server that is slow was asked before it had answered, at most.
#[derive(Default)]
struct Pending {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

/// The words of the next command.
fn command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut line = String::new();
    let mut number = |reader: &mut dyn BufRead| {
        line.clear();
        reader.read_line(&mut line).ok()?;
        line.trim().get(1..)?.parse::<usize>().ok()
    };
    let words = number(reader)?;
    let mut command = Vec::new();
    for _ in 0..words {
        let length = number(reader)?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(length);
        command.push(String::from_utf8_lossy(&word).to_uppercase());
    }
    Some(command)
}

/// Answers as a master does, and reads of records a millisecond after the last one.
fn serve(stream: TcpStream, pending: &Arc<Pending>) {
    let (answer, answers) = mpsc::channel::<(bool, Vec<u8>)>();
    let mut writer = stream.try_clone().unwrap();
    let counted = Arc::clone(pending);
    thread::spawn(move || {
        for (is_read, bytes) in answers {
            if is_read {
                thread::sleep(Duration::from_millis(1));
                counted.now.fetch_sub(1, Ordering::SeqCst);
            }
            if writer.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let mut reader = BufReader::new(stream);
    while let Some(command) = command(&mut reader) {
        let info = "run_id:1\r\nmaster_replid:1\r\n";
        let is_read = command[0] == "GET" && !command[1].ends_with(":LAYOUT");
        if is_read {
            let now = pending.now.fetch_add(1, Ordering::SeqCst) + 1;
            pending.most.fetch_max(now, Ordering::SeqCst);
            pending.all.fetch_add(1, Ordering::SeqCst);
        }
        let bytes = match &*command[0] {
            "GET" if is_read => "$-1\r\n".to_owned(),
            "GET" => "$1\r\n1\r\n".to_owned(),
            "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_owned(),
            "INFO" => format!("${}\r\n{info}\r\n", info.len()),
            "CONFIG" => "*0\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        };
        if answer.send((is_read, bytes.into_bytes())).is_err() {
            return;
        }
    }
}

fn nobody() -> RedisConfig {
    RedisConfig {
        addresses: Vec::new(),
        topology: Topology::Single,
        tls: false,
        authorities: None,
        username: None,
        password: None,
        key_prefix: "gatelet".into(),
    }
}

#[tokio::test]
async fn a_thousand_loads_at_once_reach_the_server_some_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pending = Arc::new(Pending::default());
    let counted = Arc::clone(&pending);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let pending = Arc::clone(&counted);
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream, &pending));
        }
    });
    let store = Arc::new(open(&Config::Redis(RedisConfig {
        addresses: vec![Address {
            host: "127.0.0.1".into(),
            port,
        }],
        ..nobody()
    })));
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let store = Arc::clone(&store);
        loads.spawn(async move { store.load(&number.to_string()).await });
    }
    while let Some(loaded) = loads.join_next().await {
        // Those whose turn does not come in time are told so.
        let _ = loaded.unwrap().map(|record| assert!(record.is_none()));
    }
    let (most, all) = (
        pending.most.load(Ordering::SeqCst),
        pending.all.load(Ordering::SeqCst),
    );
    assert!(most <= 64, "{most} at once");
    assert!(most > 32 && all > 500, "{most} at once, {all} of them");
}

/// Whatever happens while a replica follows, it asks some ten times a second.
#[tokio::test]
async fn the_news_of_a_busy_store_is_gathered() {
    let server = Server::start(Flavour::Redis);
    let home = || {
        open(&Config::Redis(RedisConfig {
            addresses: vec![Address {
                host: "127.0.0.1".into(),
                port: server.port(),
            }],
            ..nobody()
        }))
    };
    let (follower, writer) = (home(), home());
    let wait = Duration::from_secs(1);
    let mut place = follower.follow(None, 1_000, wait).await.unwrap().last;
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            commit_with(&writer, Vec::new(), &["news"]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let (mut heard, mut questions, began) = (0, 0, Instant::now());
    while heard < 100 {
        let seen = follower.follow(Some(place), 1_000, wait).await.unwrap();
        heard += seen.events.len();
        place = seen.last;
        questions += 1;
    }
    writing.await.unwrap();
    let most = 12 + began.elapsed().as_millis() / 100;
    assert!(questions <= most, "{questions} questions, at most {most}");
}
