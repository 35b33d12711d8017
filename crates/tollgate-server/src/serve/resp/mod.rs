//! The Redis protocol, so that every client of Redis can ask.
//!
//! * [`parse`]: requests, read in place.
//! * [`reply`]: answers in both versions of the protocol.
//! * [`session`]: what a client has said, and what its commands come to; [`commands`] lists them.
//! * [`throttle`]: `CL.THROTTLE` and its like; [`policy`]: our own verbs, by the policy file.
//! * [`desk`]: where questions are answered.
//! * [`connection`]: one connection; [`seats`]: all of them.

mod commands;
mod connection;
mod desk;
mod parse;
mod policy;
mod reply;
mod seats;
mod session;
mod throttle;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::desk::Desk;
pub(super) use self::desk::Tally;
use super::api::App;

/// How long to wait when no connection can be accepted, as when there are no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// How often to look for those who have been silent for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// How this face is set.
#[derive(Debug)]
pub(super) struct Options {
    /// What clients have to know, if anything.
    pub(super) password: Option<String>,
    /// How many there may be at once.
    pub(super) max_connections: usize,
    /// How long they may be silent.
    pub(super) idle: Duration,
}

/// This face of the server, listening.
#[derive(Debug)]
pub(super) struct Face {
    listener: TcpListener,
    options: Options,
}

impl Face {
    /// Listens, but lets nobody in yet.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub(super) async fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the server drains and all that was under way is answered.
    pub(super) async fn serve(self, app: Arc<App>) {
        let mut draining = app.draining.subscribe();
        let desk = Arc::new(Desk::new(app, &self.options));
        let mut connections = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (desk, open) = (Arc::clone(&desk), super::connections::RESP.open());
                        connections.spawn(async move {
                            connection::serve(&desk, stream).await;
                            drop(open);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(target: "tollgate::resp", %error, "cannot accept a connection");
                        tokio::time::sleep(BREATH).await;
                    }
                },
                Some(ended) = connections.join_next() => failed(ended),
                _ = sweep.tick() => desk.seats.sweep(),
                _ = draining.wait_for(|draining| *draining) => break,
            }
        }
        drop(self.listener);
        desk.seats.drain();
        // Those that were let in at the last moment are not told yet.
        while !connections.is_empty() {
            tokio::select! {
                Some(ended) = connections.join_next() => failed(ended),
                _ = sweep.tick() => desk.seats.drain(),
            }
        }
    }
}

/// A connection that fell over is a defect, and takes no other with it.
fn failed(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(target: "tollgate::resp", %error, "a connection ended by a defect of this program");
    }
}
