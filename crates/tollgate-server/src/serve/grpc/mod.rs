//! Envoy's rate limit service over gRPC.
//!
//! * [`listen`]: connections, and their end.
//! * [`routes`]: from a path to a method.
//! * [`service`]: the methods.
//! * [`request`]: from a message to what the gate is asked.
//! * [`status`]: from verdicts to the answer.
//! * [`messages`], [`codec`]: the wire.
//! * [`descriptors`]: what the server says of itself to clients that ask (server reflection).

mod codec;
mod descriptors;
mod listen;
mod messages;
mod request;
mod routes;
mod service;
mod status;

pub(super) use self::listen::GrpcListener;
