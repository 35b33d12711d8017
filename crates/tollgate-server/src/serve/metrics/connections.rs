//! How many connections each face of the server has.
//!
//! Counts of the whole process, as listeners are: whoever lets a connection in takes a count of its face's, and drops it with the
//! connection.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// The connections of one face.
#[derive(Debug)]
pub(in crate::serve) struct Face {
    name: &'static str,
    accepted: AtomicU64,
    ended: AtomicU64,
}

pub(in crate::serve) static HTTP: Face = Face::new("http");
pub(in crate::serve) static GRPC: Face = Face::new("grpc");
pub(in crate::serve) static RESP: Face = Face::new("resp");
pub(in crate::serve) static ADMIN: Face = Face::new("admin");

/// All faces.
static FACES: [&Face; 4] = [&HTTP, &GRPC, &RESP, &ADMIN];

impl Face {
    const fn new(name: &'static str) -> Self {
        Self { name, accepted: AtomicU64::new(0), ended: AtomicU64::new(0) }
    }

    /// Counts a connection, until what is returned is dropped.
    pub(in crate::serve) fn open(&'static self) -> Open {
        // Relaxed, here and below: counts, which order nothing else.
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(in crate::serve) struct Open(&'static Face);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds what there is to know of connections.
pub(in crate::serve) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Connections));
}

#[derive(Debug)]
struct Connections;

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // What has ended is read first: it was accepted before.
        let counts = FACES.map(|face| {
            let ended = face.ended.load(Ordering::Relaxed);
            (face.name, face.accepted.load(Ordering::Relaxed), ended)
        });
        let mut open = encoder.encode_descriptor(
            "rate_limiter_connections",
            "Connections that are open.",
            None,
            MetricType::Gauge,
        )?;
        for (face, accepted, ended) in counts {
            let open_now = i64::try_from(accepted.saturating_sub(ended)).unwrap_or(i64::MAX);
            ConstGauge::new(open_now).encode(open.encode_family(&[("face", face)])?)?;
        }
        let mut all = encoder.encode_descriptor(
            "rate_limiter_connections_accepted",
            "Connections that were accepted.",
            None,
            MetricType::Counter,
        )?;
        for (face, accepted, _) in counts {
            ConstCounter::new(accepted).encode(all.encode_family(&[("face", face)])?)?;
        }
        Ok(())
    }
}
