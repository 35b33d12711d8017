//! Connections: how they come, what they may hold and for how long, and how they end.
//!
//! * [`listener`]: an address where clients come in, each on a task of its own.
//! * [`stream`]: a connection, plain or under TLS; [`tls`]: the certificates for that.
//! * [`seats`], [`life`]: all connections of a listener, and what is known of each.
//! * [`http`]: HTTP on a connection; [`opening`], [`plain`], [`body`], [`watched`]: its parts.

mod body;
pub(super) mod http;
mod life;
mod listener;
mod opening;
pub(super) mod plain;
mod seats;
mod stream;
mod tls;
mod watched;

pub(super) use self::body::Weighed;
pub(super) use self::listener::{Arrived, Listener, Opened, Peer, Settings};
pub(super) use self::seats::{Limits, Seat, Seats, Told};
pub(super) use self::stream::Stream;
pub(super) use self::tls::{Protocol, Tls, TlsFiles};
