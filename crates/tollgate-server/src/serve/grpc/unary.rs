//! Methods whose request is one message, and whose answer is another.
//!
//! As nearly all come, whole and not compressed, they are read and answered here; the library has a stream for each way, with
//! buffers, which costs about as much as the decision. Whatever is the least unusual is left to it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Frame;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};

use super::codec::SmallCodec;
use super::messages::{RateLimitRequest, RateLimitResponse};
use crate::serve::net::Weighed;

/// The largest message.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What stands before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Answers a method of the rate limit services.
pub(super) async fn unary<F, A>(mut request: Request<Weighed>, mut method: F) -> Response<Body>
where
    F: FnMut(RateLimitRequest) -> A,
    A: Future<Output = Result<tonic::Response<RateLimitResponse>, Status>>,
{
    let is_usual = request.headers().get("grpc-encoding").is_none_or(|encoding| encoding == "identity");
    if is_usual && let Some(message) = request.body_mut().whole().await.and_then(|body| message(&body)) {
        return match method(message).await {
            Ok(answer) => answered(answer.get_ref()),
            Err(status) => status.into_http(),
        };
    }
    let codec = SmallCodec::<RateLimitResponse, RateLimitRequest>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Box::pin(grpc.unary(Method(method), request)).await
}

/// The only message of a body, if there is one and no other.
fn message(body: &Bytes) -> Option<RateLimitRequest> {
    let (&[is_compressed, ref length @ ..], _) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if is_compressed != 0 || length > MESSAGE_BYTES_MAX || body.len() - PREFIX_BYTES != length {
        return None;
    }
    RateLimitRequest::decode(body.slice(PREFIX_BYTES..)).ok()
}

/// An answer in gRPC over HTTP/2.
fn answered(answer: &RateLimitResponse) -> Response<Body> {
    let length = answer.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    // What is answered to a message of at most 64 KiB is far from 4 GiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    if answer.encode(&mut bytes).is_err() {
        return Status::internal("there is no room for the answer").into_http();
    }
    let mut response = Response::new(Body::new(Answered { message: Some(bytes.freeze()), is_over: false }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A message, and that all went well.
struct Answered {
    message: Option<Bytes>,
    is_over: bool,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

/// A method as the library knows it.
struct Method<F>(F);

impl<F, A> UnaryService<RateLimitRequest> for Method<F>
where
    F: FnMut(RateLimitRequest) -> A,
    A: Future<Output = Result<tonic::Response<RateLimitResponse>, Status>>,
{
    type Response = RateLimitResponse;
    type Future = A;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> A {
        (self.0)(request.into_inner())
    }
}
