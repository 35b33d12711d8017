//! What comes with requests and goes with answers, weighed: memory is what a server runs out of.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::seats::Share;

/// What a request holds beside its head and its bodies: a task, its state, and that of its stream.
const TURN_BYTES: usize = 7 << 10;

/// How much of an answer is handed on at once: what was handed on is not weighed any more.
const PIECE_MAX: usize = 16 << 10;

/// A request that is under way, until its answer has been handed on to the end.
#[derive(Debug)]
pub(in crate::serve) struct Turn(Share);

impl Turn {
    /// A request has come, with so much in its head.
    pub(super) fn new(share: Share, head: usize) -> Self {
        let life = share.life();
        life.busy.fetch_add(1, Ordering::Relaxed);
        life.turns.fetch_add(1, Ordering::Relaxed);
        life.asked();
        life.end();
        share.add(TURN_BYTES + head);
        Self(share)
    }

    /// Whether the connection is to be cut for what it holds.
    pub(super) fn is_too_much(&self) -> bool {
        self.0.is_too_much()
    }

    /// Whether the connection ends after the answer.
    pub(super) fn is_last(&self) -> bool {
        self.0.life().is_last.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let life = self.0.life();
        life.second.store(self.0.now(), Ordering::Relaxed);
        life.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a request, which counts for its connection while the request is under way.
#[derive(Debug)]
pub(in crate::serve) struct Weighed {
    body: Incoming,
    /// What was only looked at.
    unread: Option<Bytes>,
    turn: Arc<Turn>,
}

impl Weighed {
    pub(super) const fn new(body: Incoming, turn: Arc<Turn>) -> Self {
        Self { body, unread: None, turn }
    }

    /// Waits for what comes first, and gives it if that is all. Who reads the body finds it there still.
    pub(in crate::serve) async fn whole(&mut self) -> Option<Bytes> {
        let first = poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await?.ok()?;
        self.unread = first.into_data().ok();
        self.unread.clone().filter(|_| self.body.is_end_stream())
    }
}

impl Body for Weighed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(unread) = self.unread.take() {
            return Poll::Ready(Some(Ok(Frame::data(unread))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.turn.0.add(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.unread.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        more(self.body.size_hint(), self.unread.as_ref().map_or(0, Bytes::len))
    }
}

/// The body of an answer, which counts for its connection until the client takes it.
#[derive(Debug)]
pub(super) struct Owed<B> {
    body: B,
    /// The rest of a piece of it.
    rest: Bytes,
    turn: Arc<Turn>,
    /// Whether the client has not let anything of it come yet.
    is_untaken: bool,
    is_empty: bool,
}

impl<B: Body<Data = Bytes>> Owed<B> {
    pub(super) fn new(body: B, turn: Arc<Turn>) -> Self {
        let exact = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let is_empty = body.is_end_stream();
        if !is_empty {
            turn.0.set(TURN_BYTES + exact);
            let (life, now) = (turn.0.life(), turn.0.now());
            if life.untaken.fetch_add(1, Ordering::Relaxed) == 0 {
                life.taken.store(now, Ordering::Relaxed);
            }
        }
        Self { body, rest: Bytes::new(), turn, is_untaken: !is_empty, is_empty }
    }
}

impl<B> Owed<B> {
    /// The client takes some of it.
    fn take(&mut self) {
        let life = self.turn.0.life();
        life.taken.store(self.turn.0.now(), Ordering::Relaxed);
        if std::mem::take(&mut self.is_untaken) {
            life.untaken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Owed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        this.take();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_MAX));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// Not said before it is asked for: so an answer is dropped when its last piece has gone, not when it was handed on.
    fn is_end_stream(&self) -> bool {
        self.is_empty
    }

    fn size_hint(&self) -> SizeHint {
        more(self.body.size_hint(), self.rest.len())
    }
}

impl<B> Drop for Owed<B> {
    fn drop(&mut self) {
        if self.is_untaken {
            self.take();
        }
    }
}

/// The size of what is `rest` longer than this.
fn more(mut hint: SizeHint, rest: usize) -> SizeHint {
    let rest = u64::try_from(rest).unwrap_or(0);
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + rest);
    }
    hint.set_lower(hint.lower() + rest);
    hint
}
