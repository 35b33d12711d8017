//! The first words of a client, up to where it is known what it speaks, and its first request can be read.
//!
//! They are waited for with no more memory than they take: who only pretends to send a request must not cost the buffers of
//! somebody who does. The same holds for the next request of one who has been answered, where many are connected.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, ReadBuf};

use super::listener;
use super::seats::{Seat, Told};
use super::stream::Stream;

/// How HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is waited for. The head of a request may be as long, and is refused if it is longer.
pub(super) const WAITED_FOR_MAX: usize = 16 << 10;

/// How much is read at once.
const READ_MAX: usize = 1 << 10;

/// Waits for the first words, of which some may have come before; or, where a head has come and more is needed, for more. Whether
/// they are those of HTTP/2, for which it is not waited any longer than it may be where nothing else is spoken; nothing if there
/// will be none.
pub(super) async fn opening(
    stream: &mut Stream,
    seat: &mut Seat,
    bytes: &mut Vec<u8>,
    only_two: bool,
    has_head: bool,
) -> io::Result<Option<bool>> {
    let mut came = if has_head { 0 } else { bytes.len() };
    // Told that the server stops, whoever begins a request before long is still answered.
    let mut last_call: Option<LastCall> = seat.is_draining().then(called);
    seat.life.is_last.store(seat.is_draining(), Ordering::Relaxed);
    loop {
        if came > 0 {
            seat.begin();
            // Empty lines before a request are none of it.
            let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            bytes.drain(..empty);
            let is_http2 = bytes.starts_with(PREFACE);
            let is_other = only_two && !PREFACE.starts_with(bytes);
            if has_head || is_http2 || is_other || is_head(bytes, came) || bytes.len() >= WAITED_FOR_MAX {
                return Ok(Some(is_http2));
            }
        }
        let over = async {
            match &mut last_call {
                Some(over) => over.await,
                None => std::future::pending().await,
            }
        };
        came = tokio::select! {
            biased;
            came = read(stream, bytes) => came?,
            told = seat.told() => {
                if told != Told::Draining {
                    return Ok(None);
                }
                seat.life.is_last.store(true, Ordering::Relaxed);
                last_call = Some(called());
                came = 0;
                continue;
            }
            () = over => {
                // What has been begun may be ended.
                if bytes.is_empty() && !stream.has_unread() {
                    return Ok(None);
                }
                last_call = None;
                came = 0;
                continue;
            }
        };
        if came == 0 {
            return Ok(None);
        }
    }
}

/// On the heap, as hardly any client ever hears one.
type LastCall = Pin<Box<dyn Future<Output = ()> + Send>>;

fn called() -> LastCall {
    Box::pin(listener::last_call())
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
