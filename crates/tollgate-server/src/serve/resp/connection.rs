//! One connection: what has come is read, decided and answered in one go.
//!
//! While nothing is under way a connection holds no buffer: bytes are read into one that its thread keeps, decided there,
//! and answered from there. Only what is left over (half a command, or answers that the client has yet to fetch) is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tollgate::{Clock, MemoryStore};

use super::desk::{Desk, Tally};
use super::parse::{COMMAND_MAX, Spans};
use super::policy::Kind;
use super::reply::{Protocol, Replies};
use super::session::{Ask, Session, Step};
use crate::serve::net::{Arrived, Opened, Seat, Stream, Told};

/// How much is read at once, and before it is the turn of others.
const READ_MAX: usize = 64 << 10;

/// How much a client may leave unfetched before no more of it is read.
const OUTPUT_MAX: usize = 128 << 10;

/// How long, and how much, a client is listened to that was told why it is cut off: a connection that is closed on what
/// was not read yet may lose its last answer.
const LAST_WORDS: (Duration, usize) = (Duration::from_secs(1), 4 << 20);

/// What a thread keeps for whichever connection it serves.
struct Scratch {
    input: Vec<u8>,
    spans: Spans,
    replies: Replies,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; COMMAND_MAX + READ_MAX],
        spans: Spans::default(),
        replies: Replies::default(),
    });
}

/// Serves a client until it leaves, or has to.
pub(super) async fn serve(desk: &Desk, arrived: Arrived) {
    let local = arrived.local().map(|address| address.to_string()).unwrap_or_default();
    let Some(Opened { stream, seat, peer, .. }) = arrived.open().await else { return };
    let session = Session::new(seat.number, (peer.address.to_string(), local), &desk.rules);
    let mut connection = Connection {
        desk,
        stream,
        session,
        seat,
        input: Vec::new(),
        output: Vec::new(),
        sent: 0,
        is_flushed: true,
        is_full: false,
        is_ending: false,
    };
    // An error of the connection is its end: there is nobody left to tell.
    if connection.run().await.is_ok() && connection.is_ending {
        connection.part().await;
    }
}

struct Connection<'d> {
    desk: &'d Desk,
    stream: Stream,
    session: Session,
    seat: Seat,
    /// A command that is not all there; or commands that wait until the answers to those before them have left.
    input: Vec<u8>,
    is_full: bool,
    /// Answers, of which so many bytes were sent.
    output: Vec<u8>,
    sent: usize,
    /// Whether all of them have left: under TLS what was sent may wait still.
    is_flushed: bool,
    /// Whether the connection ends once the answers are sent.
    is_ending: bool,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        let local = self.desk.local();
        while std::future::poll_fn(|context| self.poll(context, local)).await? {
            self.decide().await;
        }
        Ok(())
    }

    /// Sends what is to be sent, and reads. What can be decided at once is; true means that something has come that cannot,
    /// false that the connection ends.
    fn poll(&mut self, context: &mut Context<'_>, local: Option<&MemoryStore>) -> Poll<io::Result<bool>> {
        let mut seen = 0;
        loop {
            if let Poll::Ready(Told::Idle | Told::Late) = self.seat.poll_told(context) {
                return Poll::Ready(Ok(false));
            }
            let is_sent = self.send(context)?;
            if self.is_ending {
                return if is_sent { Poll::Ready(Ok(false)) } else { Poll::Pending };
            }
            if self.owed() > OUTPUT_MAX || self.is_full && !is_sent {
                return Poll::Pending;
            }
            if seen >= READ_MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let came = SCRATCH.with_borrow_mut(|scratch| self.read(context, scratch, local));
            match came {
                Poll::Ready(came) => {
                    let came = came?;
                    seen += came;
                    if came > 0 && local.is_none() {
                        return Poll::Ready(Ok(true));
                    }
                    if self.seat.is_too_much() {
                        tracing::debug!(target: "tollgate::resp", "a client was cut off that made the server hold too much");
                        return Poll::Ready(Ok(false));
                    }
                }
                Poll::Pending => {
                    // Nothing is under way. What came a moment ago was sent before the end, and is heard of at once.
                    let is_quiet = self.input.is_empty() && self.output.is_empty() && self.is_flushed;
                    if !self.seat.is_draining() || !is_quiet || self.stream.has_unread() {
                        return Poll::Pending;
                    }
                    self.is_ending = true;
                    return Poll::Ready(Ok(false));
                }
            }
        }
    }

    /// Reads once, unless commands wait already, and decides what is all there if that can be done at once. Says at how many bytes it
    /// has looked: at none if the client has no more to say.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
        local: Option<&MemoryStore>,
    ) -> Poll<io::Result<usize>> {
        let kept = self.input.len();
        let came = if self.is_full {
            0
        } else {
            let mut buffer = ReadBuf::new(&mut scratch.input[kept..kept + READ_MAX]);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            buffer.filled().len()
        };
        if came == 0 && !self.is_full {
            // It may still wait for answers.
            self.is_ending = true;
            return Poll::Ready(Ok(0));
        }
        if let Some(store) = local {
            scratch.input[..kept].copy_from_slice(&self.input);
            self.decide_now(store, scratch, kept + came);
            self.send_at_once(context, &mut scratch.replies)?;
        } else {
            self.input.extend_from_slice(&scratch.input[kept..kept + came]);
        }
        let held = self.input.len() + self.output.len();
        if self.input.len() < kept + came {
            self.seat.lives(held, self.owed());
        } else {
            // Part of a command is no sign of life: it could go on for ever.
            self.seat.note(held, self.owed());
        }
        Poll::Ready(Ok(kept + came))
    }

    /// Decides all commands of the input, of so many bytes, and keeps the rest.
    fn decide_now(&mut self, store: &MemoryStore, scratch: &mut Scratch, length: usize) {
        let Scratch { input, spans, replies } = scratch;
        let (desk, input) = (self.desk, &input[..length]);
        let mut tally = Tally::default();
        let started = desk.app.clock.now();
        let walked =
            self.session.walk(&desk.rules, input, spans, replies, |step, protocol, replies| match step {
                Step::Ask(Ask::Throttle(throttle)) => Desk::throttle(store, &throttle, &mut tally, replies),
                Step::Ask(ask) => desk.answer_now(&ask, protocol, &mut tally, replies),
                Step::Tell(topic) => desk.tell(&topic, protocol, replies),
                Step::Refused => tally.errors += 1,
                Step::Answered | Step::Left => {}
            });
        desk.app.metrics.throttled(tally, || desk.app.clock.now().since(started));
        self.is_ending |= walked.is_over;
        self.is_full = walked.is_full;
        keep(&mut self.input, &input[walked.taken..]);
    }

    /// Decides all commands of the input by a store that has to be waited for: asked all at once, answered in order.
    async fn decide(&mut self) {
        let (desk, input) = (self.desk, std::mem::take(&mut self.input));
        let (mut spans, mut replies, mut tally) = (Spans::default(), Replies::default(), Tally::default());
        let mut pieces: Vec<Piece> = Vec::new();
        let started = desk.app.clock.now();
        let walked =
            self.session.walk(&desk.rules, &input, &mut spans, &mut replies, |step, protocol, replies| {
                match step {
                    Step::Ask(ask) => pieces.push(Piece { after: replies.0.len(), ask, protocol }),
                    Step::Tell(topic) => desk.tell(&topic, protocol, replies),
                    Step::Refused => tally.errors += 1,
                    Step::Answered | Step::Left => {}
                }
            });
        let mut said = 0;
        for together in pieces.chunk_by(|one, other| !one.is_in_order() && !other.is_in_order()) {
            let answers = join_all(together.iter().map(|piece| desk.answer(&piece.ask, piece.protocol)));
            for (piece, (answer, more)) in together.iter().zip(answers.await) {
                self.output.extend_from_slice(&replies.0[said..piece.after]);
                self.output.extend_from_slice(&answer.0);
                said = piece.after;
                tally.add(more);
            }
        }
        self.output.extend_from_slice(&replies.0[said..]);
        desk.app.metrics.throttled(tally, || desk.app.clock.now().since(started));
        self.is_ending |= walked.is_over;
        self.is_full = walked.is_full;
        keep(&mut self.input, &input[walked.taken..]);
        self.seat.lives(self.input.len() + self.output.len(), self.owed());
    }

    /// How many bytes of answers are to be sent.
    fn owed(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends what was kept. True if all of it is sent.
    fn send(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.output[self.sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(sent) => self.sent += sent?,
                Poll::Pending => return Ok(false),
            }
            self.is_flushed = false;
            self.seat.lives(self.input.len() + self.output.len(), self.owed());
        }
        if !self.output.is_empty() {
            // The memory goes with it: an idle connection holds none.
            self.output = Vec::new();
            self.sent = 0;
        }
        self.flush(context)
    }

    /// Sends what waits under TLS. True if nothing does.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if !self.is_flushed {
            self.is_flushed = Pin::new(&mut self.stream).poll_flush(context)?.is_ready();
            self.seat.note(self.input.len() + self.output.len(), usize::from(!self.is_flushed));
        }
        Ok(self.is_flushed)
    }

    /// Sends answers from where they were made, as far as that goes, and keeps the rest.
    fn send_at_once(&mut self, context: &mut Context<'_>, replies: &mut Replies) -> io::Result<()> {
        let mut sent = 0;
        // Not ahead of those that were kept.
        while self.output.is_empty() && sent < replies.0.len() {
            match Pin::new(&mut self.stream).poll_write(context, &replies.0[sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(more) => sent += more?,
                Poll::Pending => break,
            }
            self.is_flushed = false;
        }
        self.output.extend_from_slice(&replies.0[sent..]);
        replies.0.clear();
        // What one large answer took must not stay with the thread.
        replies.0.shrink_to(OUTPUT_MAX);
        Ok(())
    }

    /// Closes the connection so that the client gets to read the last answer.
    async fn part(&mut self) {
        let (time, mut most) = LAST_WORDS;
        let listen = async {
            self.stream.shutdown().await?;
            // On the heap: as a part of the task, every connection would hold it all the time.
            let mut unread = vec![0; 4 << 10];
            loop {
                let came = self.stream.read(&mut unread).await?;
                most = most.saturating_sub(came);
                if came == 0 || most == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        // However it ends, that was it.
        let _ = tokio::time::timeout(time, listen).await;
    }
}

/// What is to be asked for an answer that comes after so many bytes of those that are known.
struct Piece {
    after: usize,
    ask: Ask,
    protocol: Protocol,
}

impl Piece {
    /// Whether what is asked after this must not overtake it, nor this what was asked before: as with a reset, and a permit that is
    /// given back.
    fn is_in_order(&self) -> bool {
        match &self.ask {
            Ask::Throttle(_) => false,
            Ask::Policy(question) => question.kind == Kind::Reset,
            Ask::Permit(_) => true,
        }
    }
}

/// Keeps the rest of what has come.
fn keep(input: &mut Vec<u8>, rest: &[u8]) {
    if rest.is_empty() && input.is_empty() {
        return;
    }
    if rest.is_empty() {
        // The memory goes with it: an idle connection holds none.
        *input = Vec::new();
    } else {
        input.clear();
        input.extend_from_slice(rest);
    }
}
