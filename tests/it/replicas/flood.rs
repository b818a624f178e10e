//! Guesses by the thousand: what they cost the server, and that they push out nobody who is known.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use gatelet::rules::api_key::mint;
use gatelet::rules::session;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::fleet::{at, start};
use crate::harness::{BOUND, Client, Flavour, Random, Server, request, rounds};
use crate::sign_in::site::Site;

/// How many guesses there are; this variable asks for more.
const GUESSES: &str = "GATELET_FLOOD_GUESSES";

/// From how many addresses they come; this variable asks for more.
const SOURCES: &str = "GATELET_FLOOD_SOURCES";

/// How many keys are in use meanwhile.
const HOT: usize = 1_000;

/// How many guesses are sent before an answer is read.
const PIPELINED: usize = 50;

/// How many each address may make a second, and at once: the default.
const ALLOWED: usize = 200;

/// What the feeds and the reading of counters may cost besides.
const BESIDES: usize = 100;

/// A guess, and what it costs the server at most.
#[derive(Clone, Copy, Debug)]
enum Guess {
    /// What begins like a minted key and has another checksum.
    Garbled,
    /// A minted key's form.
    Minted,
    /// Whatever an imported key may look like.
    Imported,
    /// The same as a bearer, which may be an imported session's token too.
    Bearer,
    /// A session token's form.
    Session,
}

impl Guess {
    const ALL: [Self; 5] = [
        Self::Garbled,
        Self::Minted,
        Self::Imported,
        Self::Bearer,
        Self::Session,
    ];

    fn cost(self) -> usize {
        match self {
            Self::Garbled => 0,
            Self::Minted | Self::Imported | Self::Session => 1,
            Self::Bearer => 2,
        }
    }

    fn request(self, random: &mut Random) -> String {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_be_bytes());
        }
        let text = || {
            format!(
                "guess-{:032x}",
                u128::from_be_bytes(*bytes.first_chunk().unwrap())
            )
        };
        match self {
            Self::Garbled => request("GET", "/keys", &[("x-api-key", &format!("gk_{}", text()))]),
            Self::Minted => request("GET", "/keys", &[("x-api-key", &mint("gk", &bytes))]),
            Self::Imported => request("GET", "/keys", &[("x-api-key", &text())]),
            Self::Bearer => {
                let bearer = format!("Bearer {}", text());
                request("GET", "/keys", &[("authorization", &bearer)])
            }
            Self::Session => {
                let bearer = format!("Bearer {}", *mint(session::PREFIX, &bytes));
                request("GET", "/client", &[("authorization", &bearer)])
            }
        }
    }
}

/// A stranger at an address of its own.
struct Stranger {
    socket: TcpStream,
    /// What came and was not looked at: less than the beginning of a head.
    rest: Vec<u8>,
}

impl Stranger {
    fn at(source: usize, proxy: SocketAddr) -> Self {
        let source = u32::try_from(source).unwrap();
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + source);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&proxy.into()).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        Self {
            socket: socket.into(),
            rest: Vec::new(),
        }
    }

    /// Reads so many answers, all of them refusals; how many said that it was too much.
    fn refused(&mut self, count: usize) -> usize {
        const HEAD: &[u8] = b"HTTP/1.1 ";
        let (mut heads, mut too_much) = (0, 0);
        let mut bytes = [0; 16 * 1024];
        while heads < count {
            let length = self.socket.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "the connection ended");
            self.rest.extend_from_slice(&bytes[..length]);
            let mut seen = 0;
            for at in memchr::memmem::find_iter(&self.rest, HEAD) {
                let Some(status) = self.rest.get(at + HEAD.len()..at + HEAD.len() + 3) else {
                    break;
                };
                heads += 1;
                seen = at + HEAD.len();
                match status {
                    b"401" => {}
                    b"429" | b"503" => too_much += 1,
                    _ => panic!("{}", String::from_utf8_lossy(&self.rest)),
                }
            }
            // A head that is not whole may begin in the last bytes.
            let looked_at = seen.max(self.rest.len().saturating_sub(HEAD.len() + 2));
            self.rest.drain(..looked_at);
        }
        too_much
    }
}

/// What a flood came to.
struct Flood {
    seconds: f64,
    commands: usize,
    too_much: usize,
}

/// Sends these guesses from so many addresses, over and over in their order.
fn flood(site: &Site, server: &Server, kinds: &[Guess], guesses: usize, sources: usize) -> Flood {
    let mut random = Random::seeded(20_000);
    let batches: Vec<String> = (0..guesses.div_ceil(PIPELINED))
        .map(|batch| {
            (0..PIPELINED).fold(String::new(), |mut text, place| {
                let kind = kinds[(batch * PIPELINED + place) % kinds.len()];
                text.push_str(&kind.request(&mut random));
                text
            })
        })
        .collect();
    let mut strangers: Vec<Stranger> = (0..sources)
        .map(|source| Stranger::at(source, site.world.proxy()))
        .collect();
    let before = commands(server);
    let begun = Instant::now();
    let mut too_much = 0;
    for round in batches.chunks(sources) {
        for (stranger, batch) in strangers.iter_mut().zip(round) {
            stranger.socket.write_all(batch.as_bytes()).unwrap();
        }
        for (stranger, _) in strangers.iter_mut().zip(round) {
            too_much += stranger.refused(PIPELINED);
        }
    }
    Flood {
        seconds: begun.elapsed().as_secs_f64(),
        commands: commands(server) - before,
        too_much,
    }
}

/// How many commands the server has carried out.
fn commands(server: &Server) -> usize {
    let stats = server.ask(&["INFO", "commandstats"]);
    let calls = stats.lines().filter_map(|line| {
        let (_, calls) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        calls.split(',').next()?.parse::<usize>().ok()
    });
    calls.sum()
}

/// How many guesses of all addresses together may reach the server a second, and at once.
const TOGETHER: usize = 2_000;

/// What so many addresses may have the server asked in this time.
fn allowed(sources: usize, seconds: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds of a test"
    )]
    let seconds = seconds.ceil() as usize;
    (sources * ALLOWED).min(TOGETHER) * (1 + seconds)
}

#[test]
fn a_guess_costs_the_server_no_more_than_its_address_may_ask() {
    let server = Server::start(Flavour::Redis);
    let sites = start(&[at(server.port())], "[log]\naccess = false");
    for kind in Guess::ALL {
        // What an earlier kind has left of the allowance is little, and too much is no matter.
        let flood = flood(&sites[0], &server, &[kind], 1_000, 1);
        let bound = kind.cost() * allowed(1, flood.seconds) + BESIDES;
        println!(
            "{kind:?}: {} commands in {:.2} s, at most {bound}; {} were too much",
            flood.commands, flood.seconds, flood.too_much
        );
        assert!(flood.commands <= bound, "{kind:?}: {}", flood.commands);
    }
    sites[0].upstream.assert_untouched("guesses");
}

#[test]
fn a_flood_of_guesses_pushes_out_nobody_who_is_known() {
    flood_and_use(rounds(SOURCES, 4));
}

/// However many they are, they cost the server no more than a replica lets through.
#[test]
fn a_flood_from_a_hundred_addresses_is_bounded_too() {
    flood_and_use(100);
}

fn flood_and_use(sources: usize) {
    let server = Server::start(Flavour::Redis);
    let sites = start(&[at(server.port())], "[log]\naccess = false");
    let site = &sites[0];
    let keys: Vec<String> = (0..HOT)
        .map(|key| format!("a-key-in-use-{key:08}"))
        .collect();
    let lines = keys.iter().fold(String::new(), |mut lines, key| {
        writeln!(lines, "{}", json!({"name": key, "key": key})).unwrap();
        lines
    });
    site.world.write("hot.ndjson", &lines);
    let imported = site.world.command(&["keys", "import", "hot.ndjson"]);
    assert!(imported.status.success(), "{imported:?}");
    let use_all = |client: &mut Client, over: &AtomicBool| {
        let requests = keys
            .iter()
            .map(|key| request("GET", "/keys", &[("x-api-key", key)]));
        let mut used = 0;
        for request in requests.take_while(|_| !over.load(Ordering::Relaxed)) {
            let answer = client.send(request).response();
            assert_eq!(answer.status, 200, "{}", answer.text());
            used += 1;
        }
        used
    };
    let (mut client, over) = (site.world.connect(), AtomicBool::new(false));
    let mut expected = use_all(&mut client, &over);
    let used = AtomicUsize::new(0);
    let guesses = rounds(GUESSES, 10_000);
    let flood = thread::scope(|scope| {
        let hot = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                used.fetch_add(use_all(&mut client, &over), Ordering::Relaxed);
            }
        });
        let flooded = scope.spawn(|| flood(site, &server, &Guess::ALL, guesses, sources));
        let flooded = flooded.join();
        over.store(true, Ordering::Relaxed);
        hot.join().unwrap();
        flooded.unwrap()
    });
    let used = used.into_inner();
    let bound = 2 * allowed(sources, flood.seconds) + BESIDES;
    let before = commands(&server);
    expected += used + use_all(&mut site.world.connect(), &AtomicBool::new(false));
    let loaded = commands(&server) - before;
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let per_second = |count: usize| count as f64 / flood.seconds;
    println!(
        "{sources} addresses, {:.0} guesses/s: {:.0} commands/s ({} in all, at most {bound}), {} too \
         much; {:.0} uses of {HOT} keys/s, {loaded} commands to use each of them again",
        per_second(guesses),
        per_second(flood.commands),
        flood.commands,
        flood.too_much,
        per_second(used)
    );
    assert!(flood.commands <= bound, "{} commands", flood.commands);
    // The feed may ask once or twice meanwhile, and reading the counters is a command.
    assert!(
        loaded < 10,
        "{loaded} of the keys in use were asked for again"
    );
    let received = site.upstream.received();
    assert_eq!(
        received.len(),
        expected,
        "nothing but what has a key arrives"
    );
}
