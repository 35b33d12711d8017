//! HTTP on a connection, both versions, with an end to everything that a client may let last.
//!
//! | what | how much |
//! |---|---|
//! | the head of a request | 10 s, 16 KiB, 100 headers in HTTP/1 |
//! | a request until it is answered | as the face says, by [`within`] |
//! | an answer of which a client takes nothing | 10 s |
//! | silence between requests | as [`super::Limits`] say |
//! | requests at once on a connection of HTTP/2 | as the face says |
//! | what requests and answers hold | 12 MiB a listener; who holds more than 16 KiB of that is cut |

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::time::{Instant, timeout_at};

use super::body::{Owed, Turn, Weighed};
use super::listener::{Arrived, Opened, Peer, last_call};
use super::opening::opening;
use super::plain::{self, Answered};
use super::seats::{Seat, Told};
use super::stream::Stream;
use super::watched::Watched;

/// What a connection of HTTP/2 may send before it is read: one message of the greatest length for a request, and of all
/// requests together so much.
const STREAM_WINDOW_BYTES: u32 = (64 << 10) + 512;
const CONNECTION_WINDOW_BYTES: u32 = 128 << 10;
/// The longest list of headers, and how much of an answer may wait to be sent.
const HEADER_BYTES_MAX: u32 = 16 << 10;
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How many requests a connection may begin that cannot be one, as with headers that are too long.
const FAULTS_MAX: usize = 100;
/// The longest head of HTTP/1, where the buffer for sending is as large as that for reading.
const HEAD_BYTES_MAX: usize = 16 << 10;
const BUFFER_BYTES_MAX: usize = 32 << 10;
/// A connection that says nothing for so long is asked whether it is there, and has so long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the rest of a plain request may follow its head.
const REST_MAX: Duration = Duration::from_millis(100);
/// How long a connection may go on that was asked to end.
const FAREWELL_MAX: Duration = Duration::from_secs(15);

/// A connection makes the server hold too much.
#[derive(Debug)]
struct TooMuch;

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection makes the server hold too much")
    }
}

impl std::error::Error for TooMuch {}

/// How HTTP is spoken on a listener.
pub(in crate::serve) struct Http {
    /// Nothing where only HTTP/2 is spoken.
    one: Option<http1::Builder>,
    two: http2::Builder<TokioExecutor>,
    /// By which plain requests are answered, if there is a shorter way for any.
    plain: Option<plain::Answer>,
}

impl Http {
    /// Both versions, with so many requests at once on a connection of HTTP/2.
    pub(in crate::serve) fn new(streams: u32) -> Self {
        let mut one = http1::Builder::new();
        // The heads of requests are waited for by those who look after all connections.
        one.header_read_timeout(None).max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX);
        let mut two = http2::Builder::new(TokioExecutor::new());
        two.timer(TokioTimer::new())
            .max_concurrent_streams(streams)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buf_size(ANSWER_BYTES_MAX)
            .max_local_error_reset_streams(FAULTS_MAX)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER_MAX);
        Self { one: Some(one), two, plain: None }
    }

    /// With a shorter way for plain requests.
    pub(in crate::serve) fn with_plain(self, plain: plain::Answer) -> Self {
        Self { plain: Some(plain), ..self }
    }

    /// HTTP/2 only, for gRPC.
    pub(in crate::serve) fn only_two(streams: u32) -> Self {
        let mut http = Self::new(streams);
        http.one = None;
        // Nobody reads the date of an answer in gRPC.
        http.two.auto_date_header(false);
        http
    }

    /// Serves a client until it leaves, or has to.
    pub(in crate::serve) async fn serve<A, F, B>(self: Arc<Self>, arrived: Arrived, answer: A)
    where
        A: Fn(Request<Weighed>, Arc<Peer>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(opened) = arrived.open().await else { return };
        let from = opened.peer.clone();
        if let Err(error) = self.converse(opened, answer).await {
            tracing::debug!(target: "tollgate::connections", peer = %from, %error, "a connection broke");
        }
    }

    async fn converse<A, F, B>(&self, opened: Opened, answer: A) -> io::Result<()>
    where
        A: Fn(Request<Weighed>, Arc<Peer>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Opened { mut stream, mut seat, peer, is_http2 } = opened;
        let (share, peer) = (seat.share(), Arc::new(peer));
        let mut service = service_fn(move |request: Request<Incoming>| {
            let turn = Arc::new(Turn::new(share.another(), head_bytes(&request)));
            let is_http1 = request.version() < Version::HTTP_2;
            // Of a connection that is about to be cut no more is taken up. What is, lies on the heap: a task is made for every
            // request in any case, and as large as it may become.
            let answered = (!turn.is_too_much()).then(|| {
                let request = request.map(|body| Weighed::new(body, Arc::clone(&turn)));
                Box::pin(answer(request, Arc::clone(&peer)))
            });
            async move {
                let mut response = answered.ok_or(TooMuch)?.await;
                if is_http1 && turn.is_last() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, TooMuch>(response.map(|body| Owed::new(body, turn)))
            }
        });
        seat.begin();
        let mut bytes = Vec::new();
        // Until when the rest of a plain request is waited for, whose head is there.
        let mut rest_by = None;
        let only_two = is_http2 || self.one.is_none();
        loop {
            let opens = opening(&mut stream, &mut seat, &mut bytes, only_two, rest_by.is_some());
            let opened = match rest_by {
                Some(by) => timeout_at(by, opens).await.ok(),
                None => Some(opens.await),
            };
            // Of who takes longer, the machinery for all of HTTP says what becomes.
            let is_late = opened.is_none();
            let Some(begins_two) = opened.unwrap_or(Ok(Some(false)))? else { return Ok(()) };
            if begins_two {
                seat.life.end();
                let io = TokioIo::new(Watched::new(stream, bytes, seat.share(), false));
                // On the heap, and only for as long as it is needed; below too.
                let mut connection = Box::pin(self.two.serve_connection(io, service));
                drive(connection.as_mut(), &mut seat, true, || false).await;
                return Ok(());
            }
            let Some(one) = self.one.as_ref().filter(|_| !only_two) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP/2"));
            };
            if let Some(answer) = self.plain.as_ref().filter(|_| !is_late) {
                match plain::answer(&mut stream, &mut seat, &mut bytes, answer).await? {
                    Answered::Plain => {
                        rest_by = None;
                        continue;
                    }
                    Answered::Unfinished => {
                        rest_by = rest_by.or_else(|| Some(Instant::now() + REST_MAX));
                        continue;
                    }
                    Answered::Over => return Ok(()),
                    Answered::Other => {}
                }
            }
            rest_by = None;
            let io = Watched::new(stream, bytes, seat.share(), true);
            match Box::pin(speak_one(one, io, service, &mut seat)).await {
                Some(rests) => (stream, bytes, service) = rests,
                None => return Ok(()),
            }
        }
    }
}

/// Serves a client of HTTP/1 until it leaves; or until it is silent, where so many are connected that buffers are dear. Then the
/// connection is handed back, with what has come of the next request.
async fn speak_one<S, F, B>(
    one: &http1::Builder,
    io: Watched,
    service: S,
    seat: &mut Seat,
) -> Option<(Stream, Vec<u8>, S)>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = TooMuch, Future = F>,
    F: Future<Output = Result<Response<B>, TooMuch>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = one.serve_connection(TokioIo::new(io), service);
    let rest = seat.rest();
    if !drive(Pin::new(&mut connection), seat, false, || rest.is_due()).await {
        return None;
    }
    let parts = connection.into_parts();
    let (stream, unread) = parts.io.into_inner().into_parts();
    let mut bytes = parts.read_buf.to_vec();
    bytes.extend_from_slice(&unread);
    Some((stream, bytes, parts.service))
}

/// Runs a connection to its end, or until it may rest. True for that.
async fn drive<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    seat: &mut Seat,
    is_http2: bool,
    may_rest: impl Fn() -> bool,
) -> bool
where
    C::Error: fmt::Display,
{
    let life = Arc::clone(&seat.life);
    let told = if seat.is_draining() {
        Told::Draining
    } else {
        let runs = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Pending if may_rest() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        tokio::select! {
            // What has come is taken up before the end is spoken of.
            biased;
            ended = runs => return ended.map(log).is_none(),
            () = life.over.notified() => return cut_off(),
            told = seat.told() => told,
        }
    };
    let most = match told {
        // However long it takes: the whole server has an end of its own.
        Told::Draining => Duration::MAX,
        Told::Idle => FAREWELL_MAX,
        Told::Late => {
            tracing::debug!(target: "tollgate::connections", "a client was cut off that took too long");
            return false;
        }
    };
    if told == Told::Draining {
        // HTTP/1 has no word for the end but in an answer: who asks before long still hears it.
        life.is_last.store(true, Ordering::Relaxed);
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                log(ended);
                return false;
            }
            () = async { if !is_http2 { last_call().await } } => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = tokio::time::timeout(most, connection) => log(ended.unwrap_or(Ok(()))),
        () = life.over.notified() => { cut_off(); }
    }
    false
}

fn log<E: fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(target: "tollgate::connections", %error, "a connection broke");
    }
}

fn cut_off() -> bool {
    tracing::debug!(target: "tollgate::connections", "a client was cut off that made the server hold too much");
    false
}

/// What the head of a request takes.
fn head_bytes<B>(request: &Request<B>) -> usize {
    /// What every header takes beside its bytes.
    const HEADER: usize = 64;
    let headers: usize =
        request.headers().iter().map(|(name, value)| HEADER + name.as_str().len() + value.len()).sum();
    request.uri().path().len() + headers
}

/// What something comes to if that takes no longer than this. Nearly all that is asked is answered at once: only the rest needs
/// a timer.
pub(in crate::serve) async fn within<T>(most: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        return Some(done);
    }
    tokio::time::timeout(most, future).await.ok()
}
