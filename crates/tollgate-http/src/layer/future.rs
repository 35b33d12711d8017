//! The answer to come.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts as Head;
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tollgate_policy::{Settlement, Verdict};
use tower_service::Service;

use super::body::RateLimitBody;
use super::course::Course;
use super::options::Options;
use crate::gatekeeper::Gatekeeper;
use crate::meter::BodyMeter;

pin_project! {
    /// The future of a [`RateLimitService`](super::RateLimitService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, G>
    where
        S: Service<Request<B>>,
        G: Gatekeeper,
    {
        #[pin]
        state: State<S, B, G>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, G>
    where
        S: Service<Request<B>>,
        G: Gatekeeper,
    {
        Deciding {
            deciding: Deciding,
            // Taken when the request is passed on.
            body: Option<B>,
            inner: S,
            gate: Arc<G>,
            options: Arc<Options>,
        },
        Passing {
            #[pin]
            future: S::Future,
            passed: Option<Passed<G>>,
        },
        Answered {
            answer: Option<Response<Bytes>>,
        },
    }
}

/// What becomes of the request of this head.
pub(super) type Deciding = Pin<Box<dyn Future<Output = (Head, Course)> + Send>>;

impl<S, B, G> ResponseFuture<S, B, G>
where
    S: Service<Request<B>>,
    G: Gatekeeper,
{
    /// Waits for what becomes of a request. `inner` is ready for it.
    pub(super) fn deciding(
        deciding: Deciding,
        body: B,
        inner: S,
        gate: Arc<G>,
        options: Arc<Options>,
    ) -> Self {
        Self { state: State::Deciding { deciding, body: Some(body), inner, gate, options } }
    }

    /// Takes a request's course; `inner` is ready for it.
    pub(super) fn taking(
        course: Course,
        mut request: Request<B>,
        inner: &mut S,
        gate: &Arc<G>,
        options: &Arc<Options>,
    ) -> Self {
        let passed = match course {
            Course::Unseen => None,
            Course::Pass(verdict) => Passed::new(verdict, request.extensions_mut(), gate, options),
            Course::Answer(answer) => return Self::answered(answer),
        };
        Self { state: State::Passing { future: inner.call(request), passed } }
    }

    pub(super) fn answered(answer: Response<Bytes>) -> Self {
        Self { state: State::Answered { answer: Some(answer) } }
    }
}

impl<S, B, G, R> Future for ResponseFuture<S, B, G>
where
    S: Service<Request<B>, Response = Response<R>>,
    G: Gatekeeper,
{
    type Output = Result<Response<RateLimitBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Deciding { deciding, body, inner, gate, options } => {
                    let (head, course) = ready!(deciding.as_mut().poll(cx));
                    let Some(body) = body.take() else { polled_after_the_end() };
                    let request = Request::from_parts(head, body);
                    ResponseFuture::taking(course, request, inner, gate, options).state
                }
                StateProjection::Passing { future, passed } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(match passed.take() {
                        Some(passed) => passed.finish(response),
                        None => response.map(|body| RateLimitBody::inner(body, None)),
                    }));
                }
                StateProjection::Answered { answer } => {
                    let Some(answer) = answer.take() else { polled_after_the_end() };
                    return Poll::Ready(Ok(answer.map(RateLimitBody::own)));
                }
            };
            state.set(next);
        }
    }
}

/// As every future does.
#[cold]
fn polled_after_the_end() -> ! {
    panic!("polled after it was ready")
}

impl<S, B, G> fmt::Debug for ResponseFuture<S, B, G>
where
    S: Service<Request<B>>,
    G: Gatekeeper,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Deciding { .. } => "deciding",
            State::Passing { .. } => "passing",
            State::Answered { .. } => "answered",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}

/// What is still to be done with the answer to a request that passed.
struct Passed<G: Gatekeeper> {
    verdict: Kept,
    /// When it was decided: waiting for the answer does not move the moment of a reset.
    now_unix_s: u64,
    gate: Arc<G>,
    options: Arc<Options>,
    is_answered: bool,
}

/// A verdict, shared with the request's handler or not.
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation for each request")]
enum Kept {
    Own(Verdict),
    Shared(Arc<Verdict>),
}

impl Deref for Kept {
    type Target = Verdict;

    fn deref(&self) -> &Verdict {
        match self {
            Self::Own(verdict) => verdict,
            Self::Shared(verdict) => verdict,
        }
    }
}

impl<G: Gatekeeper> Passed<G> {
    /// Nothing if nothing is to be done.
    fn new(
        verdict: Verdict,
        extensions: &mut Extensions,
        gate: &Arc<G>,
        options: &Arc<Options>,
    ) -> Option<Self> {
        let verdict = if options.shares_verdict {
            let verdict = Arc::new(verdict);
            extensions.insert(Arc::clone(&verdict));
            Kept::Shared(verdict)
        } else {
            Kept::Own(verdict)
        };
        (!options.headers.is_none() || options.settles()).then(|| Self {
            verdict,
            now_unix_s: options.now_unix_s(),
            gate: Arc::clone(gate),
            options: Arc::clone(options),
            is_answered: false,
        })
    }

    fn finish<R>(mut self, mut response: Response<R>) -> Response<RateLimitBody<R>> {
        self.is_answered = true;
        self.options.headers.write(&self.verdict, self.now_unix_s, response.headers_mut());
        if !self.options.settles() {
            return response.map(|body| RateLimitBody::inner(body, None));
        }
        let (head, body) = response.into_parts();
        if let Some(settlement) = self.options.settle.iter().find_map(|settle| settle(&head)) {
            self.gate.settle(&self.verdict, settlement);
        }
        let meter = self.options.bytes_per_unit.map(|bytes_per_unit| {
            let (gate, verdict) = (Arc::clone(&self.gate), Verdict::clone(&self.verdict));
            let charge = move |units| gate.settle(&verdict, Settlement::Extra(units));
            BodyMeter::new(bytes_per_unit, charge)
        });
        Response::from_parts(head, RateLimitBody::inner(body, meter))
    }
}

/// Without an answer the request was cancelled, or the service failed.
impl<G: Gatekeeper> Drop for Passed<G> {
    fn drop(&mut self) {
        if !self.is_answered && self.options.refunds_cancelled {
            self.gate.settle(&self.verdict, Settlement::Refund);
        }
    }
}
