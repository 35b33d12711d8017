//! The body of an answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use pin_project_lite::pin_project;
use tollgate_http::{BodyMeter, UnderWay};

pin_project! {
    /// The body of an answer: the handler's, or that of a denial.
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
            #[pin]
            body: BoxBody,
        },
    }
}

/// What lasts as long as a body.
pub(crate) struct Held {
    meter: Option<BodyMeter>,
    /// Until this is dropped.
    _under_way: UnderWay,
}

impl Held {
    /// Nothing if nothing is held.
    pub(crate) fn new(meter: Option<BodyMeter>, under_way: UnderWay) -> Option<Box<Self>> {
        (meter.is_some() || !under_way.is_empty()).then(|| Box::new(Self { meter, _under_way: under_way }))
    }
}

impl<B> RateLimitBody<B> {
    pub(crate) const fn inner(body: B, held: Option<Box<Held>>) -> Self {
        Self { kind: Kind::Inner { body, held } }
    }

    pub(crate) const fn own(body: BoxBody) -> Self {
        Self { kind: Kind::Own { body } }
    }
}

impl<B: MessageBody> MessageBody for RateLimitBody<B> {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        match &self.kind {
            Kind::Inner { body, .. } => body.size(),
            Kind::Own { body } => body.size(),
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body, held } => {
                let next = ready!(body.poll_next(cx));
                if let (Some(held), Some(Ok(bytes))) = (held, &next)
                    && let Some(meter) = &mut held.meter
                {
                    meter.add(bytes.len());
                }
                Poll::Ready(next.map(|next| next.map_err(Into::into)))
            }
            KindProjection::Own { body } => body.poll_next(cx),
        }
    }
}

impl<B> std::fmt::Debug for RateLimitBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_inner = matches!(self.kind, Kind::Inner { .. });
        f.debug_struct("RateLimitBody").field("is_inner", &is_inner).finish_non_exhaustive()
    }
}
