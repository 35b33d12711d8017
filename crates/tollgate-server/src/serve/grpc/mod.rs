//! Envoy's rate limit service over gRPC.
//!
//! * [`listen`]: connections, and their end.
//! * [`routes`]: from a path to a method; [`unary`]: how those are asked and answered.
//! * [`service`]: the methods.
//! * [`rules`]: the same by the rules of descriptors.
//! * [`counters`]: the same by the limits of Limitador.
//! * [`json`]: the same over HTTP.
//! * [`request`]: from a message to what the gate is asked.
//! * [`status`]: from verdicts to the answer.
//! * [`messages`], [`codec`]: the wire.
//! * [`descriptors`]: what the server says of itself to clients that ask (server reflection).

mod codec;
mod counters;
mod descriptors;
pub(super) mod json;
mod listen;
mod messages;
mod request;
mod routes;
mod rules;
mod service;
mod status;
mod unary;

pub(super) use self::listen::GrpcFace;
