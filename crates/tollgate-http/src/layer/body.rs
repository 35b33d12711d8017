//! The body of an answer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::meter::BodyMeter;
use crate::under_way::UnderWay;

pin_project! {
    /// The body of an answer: the inner service's, or that of a denial.
    pub struct RateLimitBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner {
            #[pin]
            body: B,
            // Last, so that it goes after the body has gone.
            held: Option<Box<Held>>,
        },
        Own {
            bytes: Option<Bytes>,
        },
    }
}

/// What lasts as long as a body.
pub(super) struct Held {
    meter: Option<BodyMeter>,
    /// Until this is dropped.
    _under_way: UnderWay,
}

impl Held {
    /// Nothing if nothing is held.
    pub(super) fn new(meter: Option<BodyMeter>, under_way: UnderWay) -> Option<Box<Self>> {
        (meter.is_some() || !under_way.is_empty()).then(|| Box::new(Self { meter, _under_way: under_way }))
    }
}

impl<B> RateLimitBody<B> {
    pub(super) const fn inner(body: B, held: Option<Box<Held>>) -> Self {
        Self { kind: Kind::Inner { body, held } }
    }

    pub(super) fn own(bytes: Bytes) -> Self {
        Self { kind: Kind::Own { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }

    /// The inner service's body, if that has answered. What it holds is not counted any more.
    pub fn into_inner(self) -> Option<B> {
        match self.kind {
            Kind::Inner { body, .. } => Some(body),
            Kind::Own { .. } => None,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for RateLimitBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body, held } => {
                let frame = ready!(body.poll_frame(cx));
                if let (Some(held), Some(Ok(frame))) = (held, &frame)
                    && let (Some(meter), Some(data)) = (&mut held.meter, frame.data_ref())
                {
                    meter.add(data.remaining());
                }
                Poll::Ready(frame)
            }
            KindProjection::Own { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body, .. } => body.is_end_stream(),
            Kind::Own { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body, .. } => body.size_hint(),
            Kind::Own { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl<B> fmt::Debug for RateLimitBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_inner = matches!(self.kind, Kind::Inner { .. });
        f.debug_struct("RateLimitBody").field("is_inner", &is_inner).finish_non_exhaustive()
    }
}
