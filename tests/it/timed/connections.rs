//! How old connections grow.

use std::sync::mpsc;

use super::MINUTE;
use crate::harness::{Client, Frames, RawAnswer, Timed, Upstream, eventually, request};

const ROUTES: &str = r#"
[[routes]]
prefix = "/"
require = "nothing"
"#;

/// An hour, less the tenth by which ages differ.
const YOUNG: u32 = 53;

#[test]
fn an_old_connection_says_that_it_closes_and_closes() {
    let upstream = Upstream::echo();
    let world = Timed::start(&upstream, ROUTES);
    let mut client = Client::connect(world.proxy());
    let mut closes = |after: u32| {
        world.pass(after * MINUTE);
        let response = client.send(request("GET", "/", &[])).response();
        assert_eq!(response.status, 200);
        response.headers.one("connection") == Some("close")
    };
    assert!(!closes(0));
    assert!(!closes(YOUNG));
    assert!(closes(60 - YOUNG));
    assert_eq!(client.rest(), "");
}

#[test]
fn an_old_http2_connection_finishes_its_streams() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::scripted(move |exchange| {
        let _ = wait.lock().unwrap().recv();
        exchange.answer("200 OK", "", "late")
    });
    // It is looked at each eighth of this.
    let routes =
        format!("{ROUTES}\n[limits]\nidle_timeout = \"800ms\"\nconnection_age = \"10m\"\n");
    let world = Timed::start(&upstream, &routes);
    let mut frames = Frames::connect(world.proxy());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "api.test"),
    ];
    frames.headers(1, &fields, true).unwrap();
    eventually("the request arrived", || upstream.received().len() == 1);
    world.pass(10 * MINUTE);
    let last = loop {
        let (kind, _, _, payload) = frames.read_frame().expect("it is not cut");
        if kind == 7 {
            break u32::from_be_bytes(payload[4..8].try_into().unwrap());
        }
    };
    assert_eq!(last, 0, "no error");
    go_on.send(()).unwrap();
    assert_eq!(frames.answer(1), RawAnswer::Status(200));
    assert_eq!(frames.answer(3), RawAnswer::Closed);
}
