//! The body of an answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use pin_project_lite::pin_project;
use tollgate_http::BodyMeter;

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
            // Last, so that it settles after the body has gone.
            meter: Option<BodyMeter>,
        },
        Own {
            #[pin]
            body: BoxBody,
        },
    }
}

impl<B> RateLimitBody<B> {
    pub(crate) const fn inner(body: B, meter: Option<BodyMeter>) -> Self {
        Self { kind: Kind::Inner { body, meter } }
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
            KindProjection::Inner { body, meter } => {
                let next = ready!(body.poll_next(cx));
                if let (Some(meter), Some(Ok(bytes))) = (meter, &next) {
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
