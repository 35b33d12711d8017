//! Connections, and their end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::routes::Routes;
use crate::cli::HeaderNames;
use crate::serve::api::App;
use crate::serve::connections;

/// The most connections at once. A proxy holds a few, each of which carries many requests.
const CONNECTIONS_MAX: usize = 1_024;
/// The most requests under way on one connection.
const STREAMS_MAX: u32 = 1_024;
/// What a connection may send before it is read: one message of the greatest length for a request, and of all requests
/// together so much.
const STREAM_WINDOW_BYTES: u32 = (64 << 10) + 512;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// The longest list of headers, and how much of an answer may wait to be sent.
const HEADER_BYTES_MAX: u32 = 16 << 10;
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A connection that says nothing for so long is asked whether it is there, and has so long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a new connection may take to say that it speaks HTTP/2, and in how many bytes it does (RFC 9113, 3.4).
const GREETING_MAX: Duration = Duration::from_secs(10);
const GREETING_BYTES: usize = 24;
/// How long to wait if no connection can be accepted, because there are too many open files, say.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub(in crate::serve) struct GrpcListener {
    listener: TcpListener,
    address: SocketAddr,
    routes: Arc<Routes>,
    app: Arc<App>,
}

impl GrpcListener {
    /// # Errors
    /// If the address cannot be had.
    pub(in crate::serve) async fn bind(
        address: SocketAddr,
        app: &Arc<App>,
        headers: Option<HeaderNames>,
    ) -> Result<Self, String> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!(
                "cannot listen on {address}: {error}; choose another address with --grpc, or switch gRPC off with \
                 `--grpc off`"
            )
        })?;
        let routes = Arc::new(Routes::new(Arc::clone(app), headers).await?);
        let address = listener.local_addr().unwrap_or(address);
        Ok(Self { listener, address, routes, app: Arc::clone(app) })
    }

    pub(in crate::serve) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the server is told to stop, and then until all requests under way are answered.
    pub(in crate::serve) async fn serve(self) {
        let Self { listener, routes, app, .. } = self;
        let mut draining = app.draining.subscribe();
        let builder = builder();
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = async {
                // Whoever comes when all places are taken waits in the system's queue.
                let place = Arc::clone(&connections).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accepted => accepted,
                _ = draining.wait_for(|draining| *draining) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_the_connection(&error) => continue,
                Err(error) => {
                    tracing::error!(target: "tollgate::grpc", %error, "cannot accept connections for gRPC");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without it an answer can wait 40 ms for the client's acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(target: "tollgate::grpc", %error, "cannot set TCP_NODELAY");
            }
            let routes = Arc::clone(&routes);
            let service = service_fn(move |request| {
                let routes = Arc::clone(&routes);
                async move { Ok::<_, Infallible>(routes.answer(request).await) }
            });
            let connection = builder.serve_connection(TokioIo::new(Greeted::new(stream)), service);
            let connection = graceful.watch(connection);
            let open = connections::GRPC.open();
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(target: "tollgate::grpc", %error, "a connection broke");
                }
                drop((place, open));
            });
        }
        drop(listener);
        routes.stop_serving().await;
        graceful.shutdown().await;
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(ANSWER_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER_MAX)
        // Nobody reads the date of an answer in gRPC.
        .auto_date_header(false);
    builder
}

/// Whether an error of accepting is only that of the connection that was to be accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection that has to greet in time. What is not there afterwards is found out by HTTP/2 itself.
#[derive(Debug)]
struct Greeted {
    stream: TcpStream,
    /// The bytes of the greeting that are still to come, and until when. Nothing once it has come.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Greeted {
    fn new(stream: TcpStream) -> Self {
        let deadline = Box::pin(tokio::time::sleep(GREETING_MAX));
        Self { stream, greeting: Some((GREETING_BYTES, deadline)) }
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((missing, deadline)) = &mut this.greeting else {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        };
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 within the time")));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            this.greeting = None;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
