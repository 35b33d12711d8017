//! The answer to come.

use std::fmt;
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
        // In boxes, as are those below, so that a future which only passes on is hardly larger than what it passes on to.
        Deciding {
            deciding: Option<Box<Deciding<S, B, G>>>,
        },
        Passing {
            #[pin]
            future: S::Future,
            passed: Option<Box<Passed<G>>>,
        },
        Answered {
            answer: Option<Box<Response<Bytes>>>,
        },
    }
}

/// A request whose course is still to be seen.
pub(super) struct Deciding<S, B, G> {
    pub(super) course: Pin<Box<dyn Future<Output = (Head, Course)> + Send>>,
    pub(super) body: B,
    /// Ready for the request.
    pub(super) inner: S,
    pub(super) gate: Arc<G>,
    pub(super) options: Arc<Options>,
}

impl<S, B, G> ResponseFuture<S, B, G>
where
    S: Service<Request<B>>,
    G: Gatekeeper,
{
    /// Waits for what becomes of a request.
    pub(super) fn deciding(deciding: Deciding<S, B, G>) -> Self {
        Self { state: State::Deciding { deciding: Some(Box::new(deciding)) } }
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

    pub(super) fn answered(answer: Box<Response<Bytes>>) -> Self {
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
                StateProjection::Deciding { deciding: state } => {
                    let Some(deciding) = state else { polled_after_the_end() };
                    let (head, course) = ready!(deciding.course.as_mut().poll(cx));
                    let Some(deciding) = state.take() else { polled_after_the_end() };
                    let Deciding { body, mut inner, gate, options, .. } = *deciding;
                    let request = Request::from_parts(head, body);
                    ResponseFuture::taking(course, request, &mut inner, &gate, &options).state
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
                    return Poll::Ready(Ok((*answer).map(RateLimitBody::own)));
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
    verdict: Arc<Verdict>,
    /// When it was decided: waiting for the answer does not move the moment of a reset.
    now_unix_s: u64,
    gate: Arc<G>,
    options: Arc<Options>,
    is_answered: bool,
}

impl<G: Gatekeeper> Passed<G> {
    /// Nothing if nothing is to be done.
    fn new(
        verdict: Arc<Verdict>,
        extensions: &mut Extensions,
        gate: &Arc<G>,
        options: &Arc<Options>,
    ) -> Option<Box<Self>> {
        if options.shares_verdict {
            extensions.insert(Arc::clone(&verdict));
        }
        (!options.headers.is_none() || options.settles()).then(|| {
            Box::new(Self {
                verdict,
                now_unix_s: options.now_unix_s(),
                gate: Arc::clone(gate),
                options: Arc::clone(options),
                is_answered: false,
            })
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
            let (gate, verdict) = (Arc::clone(&self.gate), Arc::clone(&self.verdict));
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
