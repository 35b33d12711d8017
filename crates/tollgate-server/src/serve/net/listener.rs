//! An address where clients come in.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::seats::{Limits, Seat, Seats, Told};
use super::stream::Stream;
use super::tls::{Protocol, Tls, fingerprint};
use crate::serve::metrics::connections::Face;

/// How long to wait when no connection can be accepted, as when there are no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// How often to look for those who have been silent for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// How long clients are still let in, and listened to, once the server is told to stop: what was sent before that has come
/// by then.
const LAST_CALL: Duration = Duration::from_millis(250);

/// In how many parts it is waited: where a machine stands still for a second, clients stand still as well, and only one is over.
const LAST_CALL_PARTS: u32 = 10;

/// How many may wait to be let in; systems have a limit of their own. For whom there is no room here, a second passes before
/// it is tried again, then two, and so on.
const QUEUE_MAX: u32 = 16_384;

/// How many are let in at most when the door is about to be closed.
const AT_THE_DOOR_MAX: usize = 4_096;

/// How long a client may take until a connection under TLS stands.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
const DRAINING_HANDSHAKE_MAX: Duration = Duration::from_secs(1);

/// How long the first words of a handshake may be to be waited for.
const HELLO_MAX: usize = 16 << 10;

/// How much may wait under TLS to be sent.
const UNSENT_MAX: usize = 16 << 10;

/// How an address is listened at.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Settings {
    /// What is spoken here, for people.
    pub(in crate::serve) name: &'static str,
    /// Where connections are counted.
    pub(in crate::serve) counts: &'static Face,
    /// The option by which the address is chosen, and the words for no address at all, if there are such.
    pub(in crate::serve) option: &'static str,
    pub(in crate::serve) off: Option<&'static str>,
    pub(in crate::serve) limits: Limits,
    pub(in crate::serve) tls: Option<Arc<Tls>>,
    pub(in crate::serve) protocol: Protocol,
    /// What is said to those for whom there is no room, where that can be said without TLS.
    pub(in crate::serve) full: &'static [u8],
}

/// An address where clients come in.
#[derive(Debug)]
pub(in crate::serve) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    settings: Settings,
    seats: Arc<Seats>,
}

/// A client that has come in, and has not said anything yet.
#[derive(Debug)]
pub(in crate::serve) struct Arrived {
    stream: TcpStream,
    from: SocketAddr,
    seat: Seat,
    tls: Option<(Arc<Tls>, Protocol)>,
}

/// A client that can be spoken with.
#[derive(Debug)]
pub(in crate::serve) struct Opened {
    pub(in crate::serve) stream: Stream,
    pub(in crate::serve) seat: Seat,
    pub(in crate::serve) peer: Peer,
    /// Whether the client has chosen HTTP/2 in the handshake.
    pub(in crate::serve) is_http2: bool,
}

/// Who a client is.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Peer {
    pub(in crate::serve) address: SocketAddr,
    /// The certificate that it has shown, if it had to; verified.
    pub(in crate::serve) certificate: Option<CertificateDer<'static>>,
}

impl Listener {
    /// Listens, but lets nobody in yet.
    ///
    /// # Errors
    /// If the address cannot be had: what to do.
    pub(in crate::serve) fn bind(address: SocketAddr, settings: Settings) -> Result<Self, String> {
        let socket = listen(address).map_err(|error| {
            let Settings { name, option, off, .. } = &settings;
            let or_off = off.map(|off| format!(", or switch {name} off with `{off}`")).unwrap_or_default();
            format!("cannot listen on {address}: {error}; choose another address with {option}{or_off}")
        })?;
        let address = socket.local_addr().unwrap_or(address);
        let seats = Seats::new(settings.limits);
        Ok(Self { socket, address, settings, seats })
    }

    pub(in crate::serve) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(in crate::serve) const fn has_tls(&self) -> bool {
        self.settings.tls.is_some()
    }

    /// All who are connected.
    pub(in crate::serve) const fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// Lets clients in, each on a task of its own, until the server drains, and then until all of them have left.
    pub(in crate::serve) async fn serve<F, S>(self, mut draining: watch::Receiver<bool>, serve: S)
    where
        S: Fn(Arrived) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut connections = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        let closing = async {
            // Nobody is left to say so: then it is no different.
            let _ = draining.wait_for(|draining| *draining).await;
            last_call().await;
        };
        tokio::pin!(closing);
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, from)) => {
                        if let Some(arrived) = self.arrived(stream, from) {
                            let (open, served) = (self.settings.counts.open(), serve(arrived));
                            connections.spawn(async move {
                                served.await;
                                drop(open);
                            });
                        }
                    }
                    Err(error) if is_of_the_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(target: "tollgate::connections", %error, "cannot accept a connection for {}", self.settings.name);
                        sleep(BREATH).await;
                    }
                },
                Some(ended) = connections.join_next() => failed(ended),
                _ = sweep.tick() => self.seats.sweep(),
                () = &mut closing => break,
            }
        }
        // Whoever stands at the door is let in before it is closed.
        for _ in 0..AT_THE_DOOR_MAX {
            let Some(Ok((stream, from))) = self.socket.accept().now_or_never() else { break };
            if let Some(arrived) = self.arrived(stream, from) {
                connections.spawn(serve(arrived));
            }
        }
        drop(self.socket);
        self.seats.drain();
        // Those that were let in at the last moment are not told yet.
        while !connections.is_empty() {
            tokio::select! {
                Some(ended) = connections.join_next() => failed(ended),
                _ = sweep.tick() => {
                    self.seats.sweep();
                    self.seats.drain();
                }
            }
        }
    }

    /// A client that has come, if there is room for it.
    fn arrived(&self, stream: TcpStream, from: SocketAddr) -> Option<Arrived> {
        let Some(seat) = self.seats.take(from.ip()) else {
            if self.settings.tls.is_none() {
                // Who does not hear it is not waited for.
                let _ = stream.try_write(self.settings.full);
            }
            return None;
        };
        // Without this an answer can wait 40 ms for the client's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(target: "tollgate::connections", %error, "cannot set TCP_NODELAY");
        }
        let tls = self.settings.tls.as_ref().map(|tls| (Arc::clone(tls), self.settings.protocol));
        Some(Arrived { stream, from, seat, tls })
    }
}

/// Waits until the last call is over.
pub(super) async fn last_call() {
    for _ in 0..LAST_CALL_PARTS {
        sleep(LAST_CALL / LAST_CALL_PARTS).await;
    }
}

/// Listens at an address, as a server does that is started again: what is left of former connections does not hold it.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Elsewhere this would let another program take the address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE_MAX)
}

impl Arrived {
    /// The address that the client has come to.
    pub(in crate::serve) fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Makes the connection one that can be spoken on. Nothing if the client does not do its part in time.
    pub(in crate::serve) async fn open(self) -> Option<Opened> {
        let Self { stream, from, mut seat, tls } = self;
        let mut is_http2 = false;
        let stream = match tls {
            None => Stream::Plain(stream),
            Some((tls, protocol)) => {
                // On the heap, and only for as long as it takes: connections are many.
                let handshake = Box::pin(handshake(stream, &mut seat, tls.config(protocol)));
                match handshake.await {
                    Ok(stream) => {
                        is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        Stream::Tls(Box::new(stream))
                    }
                    Err(error) => {
                        tracing::debug!(target: "tollgate::connections", %from, %error, "no connection under TLS");
                        return None;
                    }
                }
            }
        };
        seat.touch();
        let peer = Peer { address: from, certificate: stream.certificate().cloned() };
        Some(Opened { stream, seat, peer, is_http2 })
    }
}

async fn handshake(
    stream: TcpStream,
    seat: &mut Seat,
    config: Arc<rustls::ServerConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let shaken = async {
        hello(&stream).await?;
        let limit = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(UNSENT_MAX));
        TlsAcceptor::from(config).accept_with(stream, limit).await
    };
    tokio::pin!(shaken);
    let mut most = HANDSHAKE_MAX;
    loop {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
        tokio::select! {
            shaken = timeout(most, &mut shaken) => return shaken.unwrap_or_else(|_| Err(late())),
            told = seat.told() => match told {
                // The request may have come along with the last words of the handshake.
                Told::Draining => most = DRAINING_HANDSHAKE_MAX,
                Told::Idle | Told::Late => return Err(io::Error::other("others need its place")),
            },
        }
    }
}

/// Waits until the first words of a handshake are all there: who only begins them gets no state for it.
async fn hello(stream: &TcpStream) -> io::Result<()> {
    /// The head of a record: its kind, its version, and its length; and the kind of a handshake (RFC 8446, 5.1).
    const HEAD_BYTES: usize = 5;
    const HANDSHAKE: u8 = 22;

    let mut pause = Duration::from_millis(2);
    loop {
        let mut head = [0; HEAD_BYTES];
        let came = stream.peek(&mut head).await?;
        let length = HEAD_BYTES + usize::from(u16::from_be_bytes([head[3], head[4]]));
        // What is no handshake is for those who know to say so.
        if came == 0 || head[0] != HANDSHAKE || length > HELLO_MAX {
            return Ok(());
        }
        if came == HEAD_BYTES && stream.peek(&mut vec![0; length]).await? == length {
            return Ok(());
        }
        // Nobody tells when there is more. Mostly it comes all at once.
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match &self.certificate {
            Some(certificate) => write!(f, " by certificate {}", fingerprint(certificate)),
            None => Ok(()),
        }
    }
}

/// Whether an error of accepting is only that of the connection that was to be accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection that fell over is a defect, and takes no other with it.
fn failed(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(target: "tollgate::connections", %error, "a connection ended by a defect of this program");
    }
}
