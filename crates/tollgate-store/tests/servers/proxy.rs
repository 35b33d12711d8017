//! A way to a server that goes wrong on demand.

// No test file uses all of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Each answer comes so much later.
    Delay(Duration),
    /// The answer to one script call in so many is lost after the server has run it, and the connection with it.
    LoseAnswers {
        one_in: u64,
        /// Whether the connection ends with it, or is only never heard of again.
        closes: bool,
    },
    /// Nothing comes through, in either direction, and nobody says so.
    BlackHole,
    /// Connections are cut, and new ones too.
    Reset,
    /// Answers come a byte a second.
    Drip,
}

/// How calls of a script, and answers to them, are told from all else.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    /// What is found in a call.
    pub(crate) call: &'static [u8],
    /// What an answer begins with.
    pub(crate) answer: u8,
}

/// Stands between a client and a server on a Unix socket.
pub(crate) struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    scripts: AtomicU64,
    asked: AtomicU64,
    lost: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    connections: AtomicU64,
}

impl Proxy {
    /// Before a Redis.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        Self::watching(socket, Watched { call: b"EVALSHA", answer: b'*' }).await
    }

    pub(crate) async fn watching(socket: PathBuf, watched: Watched) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, faults) = watch::channel(Fault::None);
        let counts = Arc::<Counts>::default();
        let seen = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(client, socket.clone(), watched, faults.clone(), Arc::clone(&seen)));
            }
        });
        Self { port, fault, counts }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many script calls have come this far, those that came in one piece as one.
    pub(crate) fn scripts(&self) -> u64 {
        self.counts.scripts.load(Ordering::SeqCst)
    }

    /// How many answers to script calls were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::SeqCst)
    }

    /// How many connections were made, and how many of them there were at once at most.
    pub(crate) fn connections(&self) -> (u64, u64) {
        (self.counts.connections.load(Ordering::SeqCst), self.counts.most_open.load(Ordering::SeqCst))
    }
}

/// Carries bytes both ways until one side ends, or the fault ends it.
async fn carry(
    mut client: TcpStream,
    socket: PathBuf,
    watched: Watched,
    faults: watch::Receiver<Fault>,
    counts: Arc<Counts>,
) {
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most_open.fetch_max(open, Ordering::SeqCst);
    let _ = client.set_nodelay(true);
    // Ends with a reset, as a machine that is gone does.
    let _ = client.set_zero_linger();
    let way = async {
        let Ok(mut server) = UnixStream::connect(socket).await else { return };
        let (mut from_server, mut to_server) = server.split();
        let (mut from_client, mut to_client) = client.split();
        let asked = AtomicBool::new(false);
        let up = async {
            let mut chunk = vec![0; 1 << 16];
            let mut faults = faults.clone();
            while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                let chunk = &chunk[..length];
                if chunk.windows(watched.call.len()).any(|word| word == watched.call) {
                    asked.store(true, Ordering::SeqCst);
                    counts.scripts.fetch_add(1, Ordering::SeqCst);
                }
                passable(&mut faults).await;
                if to_server.write_all(chunk).await.is_err() {
                    return;
                }
            }
        };
        let down = async {
            let mut chunk = vec![0; 1 << 16];
            let mut faults = faults.clone();
            while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
                passable(&mut faults).await;
                let fault = *faults.borrow();
                match fault {
                    Fault::Delay(delay) => tokio::time::sleep(delay).await,
                    Fault::LoseAnswers { one_in, closes } if chunk[0] == watched.answer => {
                        let is_script = asked.swap(false, Ordering::SeqCst);
                        if is_script && counts.asked.fetch_add(1, Ordering::SeqCst) % one_in == one_in - 1 {
                            counts.lost.fetch_add(1, Ordering::SeqCst);
                            if !closes {
                                std::future::pending::<()>().await;
                            }
                            return;
                        }
                    }
                    _ => {}
                }
                let step = if fault == Fault::Drip { 1 } else { length };
                for part in chunk[..length].chunks(step) {
                    if to_client.write_all(part).await.is_err() {
                        return;
                    }
                    if fault == Fault::Drip {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        tokio::select! { () = up => {} () = down => {} }
    };
    let cut = async {
        let _ = faults.clone().wait_for(|fault| *fault == Fault::Reset).await;
    };
    tokio::select! { () = way => {} () = cut => {} }
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

/// Waits while nothing comes through.
async fn passable(faults: &mut watch::Receiver<Fault>) {
    // If the proxy is gone, nothing does any more.
    let _ = faults.wait_for(|fault| *fault != Fault::BlackHole).await;
}
