//! A request's body as its caller sends it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::wire::framing::{Framing, Malformed};

/// A request's body.
pub enum Incoming {
    /// There is none.
    Empty,
    /// Over HTTP/1.1.
    Http1(Box<dyn Source>),
    /// Over HTTP/2.
    Http2(hyper::body::Incoming),
}

/// Where a body over HTTP/1.1 comes from.
pub trait Source: Send + Sync {
    /// The next frame, as [`Body::poll_frame`] has it.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>>;

    /// What is still to come.
    fn framing(&self) -> Framing;
}

/// Why a body does not come whole.
#[derive(Debug)]
pub enum Broken {
    /// The caller went away.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// What came is not framed as it was said to be.
    Malformed(Malformed),
    /// The stream of HTTP/2 failed.
    Stream(hyper::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the caller went away"),
            Self::Io(_) => f.write_str("the connection failed"),
            Self::Malformed(what) => what.fmt(f),
            Self::Stream(_) => f.write_str("the stream failed"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Stream(error) => Some(error),
            Self::Closed | Self::Malformed(_) => None,
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(source) => source.poll_frame(cx),
            Self::Http2(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Broken::Stream),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(source) => source.framing().is_over(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(source) => source
                .framing()
                .length()
                .map_or_else(SizeHint::new, SizeHint::with_exact),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}
