//! A connection that leaves word of what comes and goes on it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::seats::Share;
use super::stream::Stream;

/// A connection that leaves word of what comes and goes on it.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// What was read before, and up to where it was handed on.
    first: Vec<u8>,
    handed_on: usize,
    /// What waits to be sent.
    unsent: Share,
    /// Whether requests come one after the other, so that what comes between them begins one.
    is_http1: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream, first: Vec<u8>, unsent: Share, is_http1: bool) -> Self {
        Self { stream, first, handed_on: 0, unsent, is_http1 }
    }

    /// The connection, and what was read before and not handed on.
    pub(super) fn into_parts(mut self) -> (Stream, Vec<u8>) {
        let unread = self.first.split_off(self.handed_on);
        (self.stream, unread)
    }

    /// Of so many bytes that were to be sent these were.
    fn note(&self, sent: Poll<io::Result<usize>>, of: usize) -> Poll<io::Result<usize>> {
        let life = self.unsent.life();
        match &sent {
            Poll::Pending => {
                self.unsent.set(of);
                life.is_owed.store(true, Ordering::Relaxed);
            }
            Poll::Ready(_) => {
                self.unsent.set(0);
                life.is_owed.store(false, Ordering::Relaxed);
                life.second.store(self.unsent.now(), Ordering::Relaxed);
            }
        }
        sent
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.handed_on < this.first.len() {
            let rest = &this.first[this.handed_on..];
            let next = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..next]);
            this.handed_on += next;
            if this.handed_on == this.first.len() {
                this.first = Vec::new();
                this.handed_on = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let (life, now) = (this.unsent.life(), this.unsent.now());
            life.second.store(now, Ordering::Relaxed);
            if this.is_http1 && life.busy.load(Ordering::Relaxed) == 0 {
                life.begin(now);
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(sent, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // Under TLS what was taken may be waiting still.
        self.unsent.life().is_owed.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.unsent.life().is_owed.store(shut.is_pending(), Ordering::Relaxed);
        shut
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(sent, slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
