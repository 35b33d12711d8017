//! Denials as clients of gRPC understand them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use tollgate_core::Retry;

/// `RESOURCE_EXHAUSTED` and `UNAVAILABLE`, by <https://grpc.io/docs/guides/status-codes/>.
const RESOURCE_EXHAUSTED: u8 = 8;
const UNAVAILABLE: u8 = 14;

/// Whether a request is one of gRPC, so that its client looks for the status in headers of its own.
pub(crate) fn is_grpc(content_type: Option<&[u8]>) -> bool {
    let rest = content_type.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    // `application/grpc`, `application/grpc+proto`, but not `application/grpc-web`, whose status is in the body.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The answer to a denied request: `RESOURCE_EXHAUSTED`, with a `google.rpc.RetryInfo` if waiting helps.
pub(crate) fn denial(message: &str, retry: Retry) -> Response<Bytes> {
    let mut response = status(RESOURCE_EXHAUSTED, message);
    if let Retry::After(wait) = retry {
        let nanos = wait.as_nanos();
        let details = details(RESOURCE_EXHAUSTED, message, nanos / 1_000_000_000, nanos % 1_000_000_000);
        // Base64 has nothing that a header cannot hold.
        if let Ok(details) = HeaderValue::try_from(STANDARD_NO_PAD.encode(details)) {
            response.headers_mut().insert(HeaderName::from_static("grpc-status-details-bin"), details);
        }
    }
    response
}

/// The answer to a request of a client that has too many under way.
pub(crate) fn busy(message: &str) -> Response<Bytes> {
    status(RESOURCE_EXHAUSTED, message)
}

/// The answer to a request that nothing can be done about for now.
pub(crate) fn unavailable(message: &str) -> Response<Bytes> {
    status(UNAVAILABLE, message)
}

/// An answer that is nothing but a status, in the headers.
fn status(code: u8, message: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::try_from(escaped(message)) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    response
}

/// A message as the header wants it: what is not printable ASCII in percent escapes.
fn escaped(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => {
                use std::fmt::Write;
                // Writing to a string cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

/// A `google.rpc.Status` with a `google.rpc.RetryInfo`, in the wire format of protocol buffers: four fields are not worth a
/// compiler for them.
fn details(code: u8, message: &str, seconds: u64, nanos: u64) -> Vec<u8> {
    const TYPE: &str = "type.googleapis.com/google.rpc.RetryInfo";

    let mut duration = Vec::new();
    number(&mut duration, 1, seconds);
    number(&mut duration, 2, nanos);
    let mut retry_info = Vec::new();
    bytes(&mut retry_info, 1, &duration);
    let mut any = Vec::new();
    bytes(&mut any, 1, TYPE.as_bytes());
    bytes(&mut any, 2, &retry_info);
    let mut status = Vec::new();
    number(&mut status, 1, code.into());
    bytes(&mut status, 2, message.as_bytes());
    bytes(&mut status, 3, &any);
    status
}

/// A field that holds a number; nothing if it is zero, as is usual.
fn number(to: &mut Vec<u8>, field: u8, value: u64) {
    if value > 0 {
        to.push(field << 3);
        varint(to, value);
    }
}

/// A field that holds bytes.
fn bytes(to: &mut Vec<u8>, field: u8, value: &[u8]) {
    to.push(field << 3 | 2);
    varint(to, value.len() as u64);
    to.extend_from_slice(value);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The lower seven bits, and that there are more.
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}
