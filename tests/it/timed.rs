//! Lifetimes as they are promised, to the nanosecond, over the whole program with its defaults.

mod access_tokens;
mod connections;
mod families;
mod nonces;
mod replicas;
mod sessions;

use std::time::Duration;

use crate::harness::{Response, Serve, request};
use crate::sign_in::site::Site;

/// The shortest time that a clock tells.
const INSTANT: Duration = Duration::from_nanos(1);

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An instant less than this.
fn almost(time: Duration) -> Duration {
    time.saturating_sub(INSTANT)
}

/// A `GET` with a bearer.
fn shown<W: Serve>(site: &Site<W>, target: &str, bearer: &str) -> Response {
    let bearer = format!("Bearer {bearer}");
    let headers = [("authorization", &*bearer)];
    site.world.send(request("GET", target, &headers))
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    let told = (answer.status, answer.code());
    assert_eq!(told, (status, code.to_owned()), "{}", answer.text());
}

/// The names of an answer's members.
fn members(answer: &Response) -> Vec<String> {
    let json = answer.json();
    let mut names: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}
