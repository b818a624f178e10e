//! The access log: what a caller sends never forges a line, and no secret of a path is in it.

#[path = "../../src/telemetry/access_log/line.rs"]
mod line;

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use line::{Line, LoggedPath};
use serde_json::Value;

use crate::request;
use crate::rules::api_key::mint;
use crate::rules::forwarded::{RequestId, X_REQUEST_ID};
use crate::rules::time::Timestamp;

/// A request head, as it is logged; who sent it claims to be what its body says.
pub fn log(data: &[u8]) {
    let Some(head) = request::head(data) else {
        return;
    };
    let body = data.windows(4).position(|four| four == b"\r\n\r\n");
    let subject = String::from_utf8_lossy(body.map_or(&[], |end| &data[end + 4..]));
    let id = head.fields.get(&X_REQUEST_ID);
    let id = id.and_then(|id| HeaderValue::from_bytes(id).ok());
    let line = Line {
        time: Timestamp::from_seconds(data.len() as u64),
        request_id: id.map_or(RequestId::Made([b'0'; 32]), RequestId::Believed),
        client: IpAddr::from([192, 0, 2, 1]),
        method: head.method,
        route: "api".into(),
        path: LoggedPath::from(&head.uri),
        status: 200,
        code: None,
        subject: Some((&*subject).into()),
        key_id: None,
        bytes_in: 0,
        bytes_out: data.len() as u64,
        duration: Duration::from_nanos(data.len() as u64),
        upstream: None,
    };
    let json: Value = serde_json::from_str(&written(&line, false)).unwrap_or_default();
    assert_eq!(json["subject"], *subject);
    assert_eq!(json["method"], line.method.as_str());
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(14));
    let text = written(&line, true);
    assert!(text.starts_with("time=") && text.contains(" status=200 "));

    // A key that somebody put into the path.
    let key = mint("gk", &[7; 32]);
    let path = format!("{}/{}", head.uri.path().trim_end_matches('/'), *key);
    if let Ok(uri) = path.parse() {
        let line = Line {
            path: LoggedPath::from(&uri),
            ..line
        };
        assert!(!written(&line, false).contains(&**key), "{path}");
    }
}

fn written(line: &Line, text: bool) -> String {
    let mut out = Vec::new();
    line.write(text, &mut line::Second::default(), &mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')));
    String::from_utf8(out).unwrap_or_default()
}
