//! How many connections each face of the server has.
//!
//! Counts of the whole process, as listeners are: whoever lets a connection in takes a count of its face's, and drops it with the
//! connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::serve::Listener;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connections of one face.
#[derive(Debug)]
pub(super) struct Face {
    name: &'static str,
    accepted: AtomicU64,
    ended: AtomicU64,
}

pub(super) static HTTP: Face = Face::new("http");
pub(super) static GRPC: Face = Face::new("grpc");
pub(super) static RESP: Face = Face::new("resp");

/// All faces.
static FACES: [&Face; 3] = [&HTTP, &GRPC, &RESP];

impl Face {
    const fn new(name: &'static str) -> Self {
        Self { name, accepted: AtomicU64::new(0), ended: AtomicU64::new(0) }
    }

    /// Counts a connection, until what is returned is dropped.
    pub(super) fn open(&'static self) -> Open {
        // Relaxed, here and below: counts, which order nothing else.
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Open(&'static Face);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds what there is to know of connections.
pub(super) fn register(registry: &mut Registry) {
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

/// A listener whose connections are counted.
#[derive(Debug)]
pub(super) struct Counted<L> {
    listener: L,
    face: &'static Face,
}

impl<L> Counted<L> {
    pub(super) const fn new(listener: L, face: &'static Face) -> Self {
        Self { listener, face }
    }
}

impl<L: Listener> Listener for Counted<L> {
    type Io = CountedIo<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.listener.accept().await;
        (CountedIo { io, _open: self.face.open() }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct CountedIo<T> {
    io: T,
    _open: Open,
}

impl<T: AsyncRead + Unpin> AsyncRead for CountedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CountedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
