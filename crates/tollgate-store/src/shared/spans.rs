//! Spans around what a server is asked, by OpenTelemetry's conventions for clients of databases
//! (<https://opentelemetry.io/docs/specs/semconv/database/database-spans/>).
//!
//! They are for debugging by their level, so without a subscriber that wants them a span is a look at one number. A span is what one
//! request waits for, also where its call carries those of others.

use tracing::Span;
use tracing::field::Empty;

/// A span around an operation of a store, which is named as its method is.
pub(crate) fn operation(system: &'static str, name: &'static str, address: &str) -> Span {
    let span = tracing::debug_span!(
        target: "tollgate::store",
        "store",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = system,
        db.operation.name = name,
        server.address = Empty,
        server.port = Empty,
    );
    if !span.is_disabled() {
        let (host, port) = server(address);
        span.record("server.address", host);
        if let Some(port) = port {
            span.record("server.port", port);
        }
    }
    span
}

/// Runs an operation within its span, which notes whether it has failed.
macro_rules! traced {
    ($system:expr, $name:literal, $address:expr, $work:expr) => {{
        let span = $crate::shared::spans::operation($system, $name, $address);
        let done = tracing::Instrument::instrument($work, span.clone()).await;
        if done.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        done
    }};
}
pub(crate) use traced;

/// The server of an address, and its port if it is said; all of them where there are several.
fn server(address: &str) -> (&str, Option<u16>) {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    // A socket in the file system is its path.
    let hosts = rest.split(['/', '?']).next().filter(|hosts| !hosts.is_empty()).unwrap_or(rest);
    match hosts.rsplit_once(':') {
        Some((host, port)) if !hosts.contains(',') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (hosts, None),
        },
        _ => (hosts, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_an_address_is_found() {
        for (address, host, port) in [
            ("redis://…@10.0.0.1:6379/0", "10.0.0.1", Some(6_379)),
            ("rediss://cache.example?protocol=resp3", "cache.example", None),
            ("postgres://…@[::1]:5432/limits", "[::1]", Some(5_432)),
            ("redis://a:1,b:2", "a:1,b:2", None),
            ("redis://[::1]", "[::1]", None),
            ("unix:///run/redis.sock", "/run/redis.sock", None),
        ] {
            assert_eq!(server(address), (host, port), "{address}");
        }
    }
}
