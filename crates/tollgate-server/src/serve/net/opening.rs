//! The first words of a client, up to where it is known what it speaks, and its first request can be read.
//!
//! They are waited for with no more memory than they take: who only pretends to send a request must not cost the buffers of
//! somebody who does.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, ReadBuf};

use super::seats::{Seat, Told};
use super::stream::Stream;

/// How HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is waited for. The head of a request may be as long, and is refused if it is longer.
const WAITED_FOR_MAX: usize = 16 << 10;

/// How much is read at once.
const READ_MAX: usize = 1 << 10;

/// What a client began with.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) bytes: Vec<u8>,
    pub(super) is_http2: bool,
}

/// Waits for the first words. Nothing if there will be none.
pub(super) async fn opening(stream: &mut Stream, seat: &mut Seat) -> io::Result<Option<Opening>> {
    let mut bytes = Vec::new();
    seat.begin();
    loop {
        let came = tokio::select! {
            biased;
            came = read(stream, &mut bytes) => came?,
            told = seat.told() => {
                // What has been begun may be ended.
                if told == Told::Draining && (!bytes.is_empty() || stream.has_unread()) {
                    continue;
                }
                return Ok(None);
            }
        };
        if came == 0 {
            return Ok(None);
        }
        let is_http2 = bytes.starts_with(PREFACE);
        if is_http2 || is_head(&bytes, came) || bytes.len() >= WAITED_FOR_MAX {
            return Ok(Some(Opening { bytes, is_http2 }));
        }
    }
}

/// Reads what is there.
async fn read(stream: &mut Stream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    std::future::poll_fn(|context| {
        let mut room = [0; READ_MAX];
        let mut buffer = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut *stream).poll_read(context, &mut buffer);
        polled.map_ok(|()| {
            let came = buffer.filled();
            bytes.reserve_exact(came.len());
            bytes.extend_from_slice(came);
            came.len()
        })
    })
    .await
}

/// Whether these bytes have an empty line among those that came last: there a head ends.
fn is_head(bytes: &[u8], came: usize) -> bool {
    // HTTP/2 has one in its first words.
    if PREFACE.starts_with(bytes) {
        return false;
    }
    let from = bytes.len().saturating_sub(came + 3);
    bytes[from..].windows(3).any(|three| three == b"\n\r\n")
        || bytes[from..].windows(2).any(|two| two == b"\n\n")
}

/// Whether this may become the first words of HTTP/2.
pub(super) fn may_be_http2(bytes: &[u8]) -> bool {
    PREFACE.starts_with(bytes) || bytes.starts_with(PREFACE)
}
