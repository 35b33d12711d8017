//! The answer to come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use tollgate_policy::Verdict;

use super::RateLimitBody;
use crate::headers::HeaderOptions;

pin_project! {
    /// The future of a [`RateLimitService`](super::RateLimitService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Passing {
            #[pin]
            inner: F,
            passed: Option<Passed>,
        },
        Denied {
            response: Option<Response<Bytes>>,
        },
    }
}

/// What is to be told of a request that passed.
pub(super) struct Passed {
    pub(super) verdict: Arc<Verdict>,
    /// When it was decided: waiting for the answer does not move the moment of a reset.
    pub(super) now_unix_s: u64,
    pub(super) headers: HeaderOptions,
}

impl<F> ResponseFuture<F> {
    pub(super) fn passing(inner: F, passed: Option<Passed>) -> Self {
        Self { state: State::Passing { inner, passed } }
    }

    pub(super) fn denied(response: Response<Bytes>) -> Self {
        Self { state: State::Denied { response: Some(response) } }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<RateLimitBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passing { inner, passed } => {
                let mut response = ready!(inner.poll(cx))?;
                if let Some(Passed { verdict, now_unix_s, headers }) = passed.take() {
                    headers.write(&verdict, now_unix_s, response.headers_mut());
                }
                Poll::Ready(Ok(response.map(Either::Left)))
            }
            StateProjection::Denied { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(|body| Either::Right(Full::new(body))))),
                // As every future does that is polled after its end.
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_denied = matches!(self.state, State::Denied { .. });
        f.debug_struct("ResponseFuture").field("is_denied", &is_denied).finish_non_exhaustive()
    }
}
