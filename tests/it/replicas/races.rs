//! What may happen once happens once, however many replicas are asked for it at the same time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use gatelet::rules::refresh::Family;
use serde_json::json;

use super::fleet;
use crate::harness::{Client, Flavour, Server, Wallet, rounds};
use crate::refresh::races::{CHEAPER, ROUNDS, at_once};
use crate::sign_in::site::{AUTH, Site, cookie, text};

/// How many ask each replica at once.
const EACH: usize = 4;

/// Many rounds would fill the test's memory with their access log.
const QUIET: &str = "[log]\naccess = false";

fn callers(sites: &[Site]) -> Vec<Client> {
    let places = (0..EACH * sites.len()).map(|caller| caller % sites.len());
    places.map(|place| sites[place].world.connect()).collect()
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {AUTH}{path} HTTP/1.1\r\nhost: api.test\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[test]
fn a_nonce_that_is_shown_to_all_replicas_at_once_signs_in_once() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let sites = fleet::on(&server, QUIET);
        let mut callers = callers(&sites);
        let wallet = Wallet::numbered(40);
        let key = format!("x-api-key: {}\r\n", sites[0].key);
        let rounds = rounds(ROUNDS, 100).div_ceil(CHEAPER);
        let (mut elapsed, mut spent) = (Duration::ZERO, 0);
        let mut families = HashSet::new();
        for round in 0..rounds {
            let nonce = sites[round % sites.len()].nonce(&wallet);
            let message = nonce["message"].as_str().unwrap();
            let body = json!({"message": message, "signature": wallet.sign(message)});
            let request = post("/verify", &key, &body.to_string());
            let begun = Instant::now();
            let answers = at_once(&mut callers, &request);
            elapsed += begun.elapsed();
            let mut signed_in = Vec::new();
            for answer in &answers {
                match (answer.status, &*answer.code()) {
                    (201, _) => signed_in.push(answer),
                    (401, "nonce_invalid") => spent += 1,
                    other => panic!("round {round}: {other:?}: {}", answer.text()),
                }
            }
            let [signed_in] = signed_in[..] else {
                panic!("round {round}: {} signed in", signed_in.len());
            };
            assert!(families.insert(cookie(signed_in)), "round {round}");
            // Who is first is not always the same replica.
            callers.rotate_left(1);
        }
        assert_eq!(spent, rounds * (callers.len() - 1));
        println!(
            "{flavour:?}: {rounds} nonces, each shown {} times at once, in {elapsed:?}",
            callers.len()
        );
    }
}

#[test]
fn a_refresh_that_is_sent_to_all_replicas_at_once_has_one_successor() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let sites = fleet::on(&server, QUIET);
        let mut callers = callers(&sites);
        let mut token = String::new();
        let rounds = rounds(ROUNDS, 100).div_ceil(CHEAPER);
        let begun = Instant::now();
        for round in 0..rounds {
            if round % Family::MOST_ROTATIONS == 0 {
                // A family rotates no more often than this within its grace.
                let signed_in = sites[0].sign_in(&Wallet::numbered(41), "cookie");
                token = cookie(&signed_in);
            }
            let presented = format!("cookie: __Host-refresh={token}\r\n");
            let answers = at_once(&mut callers, &post("/refresh", &presented, ""));
            for answer in &answers {
                assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            }
            let successors: HashSet<String> = answers.iter().map(cookie).collect();
            assert_eq!(successors.len(), 1, "round {round}");
            let successor = successors.into_iter().next().unwrap();
            assert_ne!(successor, token);
            token = successor;
            callers.rotate_left(1);
        }
        let elapsed = begun.elapsed();
        // One rotation a round, of all that were asked for.
        let rotated: f64 = sites
            .iter()
            .map(|site| {
                let outcome = [("outcome", "rotated")];
                let metrics = site.world.metrics();
                metrics.sum("gatelet_refreshes_total", &outcome)
            })
            .sum();
        assert!((rotated - f64::from(u32::try_from(rounds).unwrap())).abs() < f64::EPSILON);
        let last = sites[1].post(
            "/refresh",
            &[("cookie", &format!("__Host-refresh={token}"))],
            &serde_json::Value::Null,
        );
        let access = text(&last, "accessToken");
        for site in &sites {
            site.upstream.take();
            assert_eq!(site.portfolio(&access).status, 200);
            let subject = text(&last, "subject");
            let received = site.upstream.take().unwrap();
            assert_eq!(received.headers.one("x-auth-subject"), Some(&*subject));
        }
        println!(
            "{flavour:?}: {rounds} refreshes, each asked for {} times at once, in {elapsed:?}",
            callers.len()
        );
    }
}
