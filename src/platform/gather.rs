//! Writing several pieces at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// What is copied together at most; an ordinary head and a small body.
const SMALL: usize = 1024;

/// Writes a part of `slices`, as [`AsyncWrite::poll_write_vectored`] does.
///
/// A vectored write to a socket costs the kernel half a microsecond more than a plain one: what is
/// small or in one piece goes out as one.
pub fn poll_write_gathered(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [only] = slices {
        return stream.poll_write(cx, only);
    }
    if slices.iter().map(|slice| slice.len()).sum::<usize>() > SMALL {
        return stream.poll_write_vectored(cx, slices);
    }
    let mut copied = [0; SMALL];
    let mut end = 0;
    for slice in slices {
        copied[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    stream.poll_write(cx, &copied[..end])
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_what_was_given() {
        let long = vec![b'x'; SMALL];
        for pieces in [
            vec![],
            vec![&b"alone"[..]],
            vec![&b"head"[..], b"", b"body"],
            vec![&b"head"[..], &long],
        ] {
            let (ours, mut theirs) = tokio::io::duplex(4 * SMALL);
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut ours = pin!(ours);
            let written = poll_fn(|cx| poll_write_gathered(ours.as_mut(), cx, &slices))
                .await
                .unwrap();
            let given = pieces.concat();
            assert!(written > 0 || given.is_empty());
            let mut read = vec![0; written];
            theirs.read_exact(&mut read).await.unwrap();
            assert_eq!(read, given[..written]);
        }
    }
}
