//! An answer as it is written over HTTP/1.1 (RFC 9112).

use std::io::Write;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body::Body;

use crate::rules::fields::{Fields, number};
use crate::wire::message::Response;
use crate::wire::outgoing::{Framed, Outgoing};
use crate::wire::scratch;

/// What a request says about its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// The connection can carry another request.
    pub(super) persists: bool,
    /// Its caller takes trailers.
    pub(super) trailers: bool,
}

impl Asked {
    pub(super) fn new(head: &super::head::Head) -> Self {
        Self {
            is_head: head.request.method == Method::HEAD,
            version: head.request.version,
            persists: head.persists,
            trailers: head.trailers,
        }
    }
}

/// An answer that can be sent, and whether another may follow it. `date` is what it is dated with, where it says no
/// date itself.
pub(super) fn write<B: Body<Data = Bytes> + Unpin>(
    answer: Response<B>,
    asked: Asked,
    date: impl FnOnce() -> HeaderValue,
) -> (Outgoing<B>, bool) {
    let mut bytes = scratch::take();
    write_status(&mut bytes, &answer, asked.version);
    let Response {
        status,
        fields,
        body,
        ..
    } = answer;
    let said = write_lines(&mut bytes, &fields, status);
    scratch::give_fields_back(fields);
    if !said.date {
        line(&mut bytes, &header::DATE, date().as_bytes());
    }
    let framing = framing(&mut bytes, &body, status, asked, &said);
    let persists = asked.persists && !said.close && framing != Framed::UntilClose;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        match asked.version {
            Version::HTTP_10 if persists => bytes.extend_from_slice(b"connection: keep-alive\r\n"),
            Version::HTTP_10 => {}
            _ if persists => {}
            _ => bytes.extend_from_slice(b"connection: close\r\n"),
        }
    }
    bytes.extend_from_slice(b"\r\n");
    (Outgoing::new(bytes, body, framing), persists)
}

fn write_status<B>(bytes: &mut Vec<u8>, answer: &Response<B>, version: Version) {
    let Response { status, reason, .. } = answer;
    if version == Version::HTTP_11 && *status == StatusCode::OK && reason.is_none() {
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    bytes.extend_from_slice(match version {
        Version::HTTP_10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    });
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(match reason {
        Some(reason) => reason.as_bytes(),
        None => status.canonical_reason().unwrap_or("").as_bytes(),
    });
    bytes.extend_from_slice(b"\r\n");
}

/// What an answer's lines say.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    close: bool,
    date: bool,
    trailer: bool,
}

/// Writes the lines but for those that frame the answer or end its connection.
fn write_lines(bytes: &mut Vec<u8>, fields: &Fields, status: StatusCode) -> Said {
    let mut said = Said::default();
    fields.write(bytes, |name, value| {
        if *name == header::CONTENT_LENGTH {
            said.length = number(value);
            // Where there is a body to follow, or there would be to a GET (RFC 9110 §8.6).
            return has_length(status) && said.length.is_some();
        }
        if *name == header::CONNECTION && status != StatusCode::SWITCHING_PROTOCOLS {
            said.close |= value.eq_ignore_ascii_case(b"close");
            return false;
        }
        said.date |= *name == header::DATE;
        said.trailer |= *name == header::TRAILER;
        *name != header::TRANSFER_ENCODING
    });
    said
}

/// How the body is framed, which is said where it has to be.
fn framing(
    bytes: &mut Vec<u8>,
    body: &impl Body,
    status: StatusCode,
    asked: Asked,
    said: &Said,
) -> Framed {
    // RFC 9110 §15.4.5: what a body would be framed by may be told without it.
    if asked.is_head || status == StatusCode::NOT_MODIFIED || !has_length(status) {
        return Framed::Nothing;
    }
    if let Some(length) = said.length {
        return Framed::Length(length);
    }
    match body.size_hint().exact() {
        Some(length) => {
            // Writing to memory does not fail.
            let _ = write!(bytes, "content-length: {length}\r\n");
            Framed::Length(length)
        }
        None if asked.version == Version::HTTP_10 => Framed::UntilClose,
        None => {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framed::Chunked {
                // RFC 9110 §6.5.1: where they are taken, or were announced.
                trailers: asked.trailers || said.trailer,
            }
        }
    }
}

/// Whether a body can follow, so that a length has a meaning (RFC 9110 §8.6, §15.3.5).
fn has_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn line(bytes: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    bytes.extend_from_slice(name.as_str().as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}
