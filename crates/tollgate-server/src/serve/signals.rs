//! What the system tells the server: to stop, or to load its files again.

use std::future::Future;

/// Waits for SIGTERM or Ctrl-C, from this call on: a signal that nobody waits for would end the program at once.
#[cfg(unix)]
pub(super) fn told_to_stop() -> impl Future<Output = ()> + use<> {
    use tokio::signal::unix::{SignalKind, signal};

    let (interrupted, terminated) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let either = async {
            let (mut interrupted, mut terminated) = (interrupted?, terminated?);
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            Ok::<_, std::io::Error>(())
        };
        // Without signals it runs until it is killed.
        if either.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
pub(super) async fn told_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// SIGHUPs, from when this is made on.
#[derive(Debug)]
pub(super) struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    #[cfg(unix)]
    pub(super) fn new() -> Self {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        let unheard =
            |error: &std::io::Error| tracing::warn!(target: "tollgate::serve", %error, "SIGHUP is not heard");
        Self { signal: signal.inspect_err(unheard).ok() }
    }

    #[cfg(not(unix))]
    pub(super) const fn new() -> Self {
        Self {}
    }

    /// The next; never, where there are none.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}
