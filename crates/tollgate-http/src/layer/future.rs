//! The answer to come.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tollgate_adaptive::Outcome;
use tollgate_policy::{Settlement, Verdict};
use tower_service::Service;

use super::body::{Held, RateLimitBody};
use super::course::Course;
use super::options::{Guard, Options, OutcomeOf};
use crate::fields::Fields;
use crate::gatekeeper::Gatekeeper;
use crate::meter::BodyMeter;
use crate::under_way::{UnderWay, usual_outcome};

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
pub(super) struct Deciding<S, B, G: Gatekeeper> {
    pub(super) course: Pin<Box<dyn Future<Output = (Head, Course<G>)> + Send>>,
    pub(super) body: B,
    /// Ready for the request.
    pub(super) inner: S,
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
    #[inline]
    pub(super) fn taking(course: Course<G>, mut request: Request<B>, inner: &mut S) -> Self {
        let passed = match course {
            Course::Unseen => None,
            Course::Pass(mut passed) => {
                passed.under_way.pass_on();
                if let Some(verdict) = passed.shared.take() {
                    request.extensions_mut().insert(verdict);
                }
                Some(passed)
            }
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
                    let Deciding { body, mut inner, .. } = *deciding;
                    ResponseFuture::taking(course, Request::from_parts(head, body), &mut inner).state
                }
                StateProjection::Passing { future, passed } => {
                    let result = ready!(future.poll(cx));
                    let Some(passed) = passed.take() else {
                        return Poll::Ready(
                            result.map(|answer| answer.map(|body| RateLimitBody::inner(body, None))),
                        );
                    };
                    return Poll::Ready(match result {
                        Ok(response) => Ok(passed.finish(response)),
                        Err(error) => {
                            passed.fail();
                            Err(error)
                        }
                    });
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

/// What is still to be done with a request that passed, and with its answer.
pub(super) struct Passed<G: Gatekeeper> {
    fields: Fields,
    /// For who handles it.
    shared: Option<Arc<Verdict>>,
    charge: Option<Charge<G>>,
    under_way: UnderWay,
    /// What an answer says of the service's capacity, if that is not the usual.
    outcome: Option<Arc<OutcomeOf>>,
}

impl<G: Gatekeeper> Passed<G> {
    /// Nothing if nothing is to be done.
    pub(super) fn new(verdict: Verdict, under_way: UnderWay, guard: &Arc<Guard<G>>) -> Option<Box<Self>> {
        let options = &guard.options;
        let (shares, settles) = (options.shares_verdict, options.settles());
        if options.headers.is_none() && !shares && !settles && under_way.is_empty() {
            return None;
        }
        let mut passed = Self::holding(under_way, options);
        // Made now: waiting for the answer does not move the moment of a reset.
        options.headers.add_to(&mut passed.fields, &verdict, options.now_unix_s());
        if shares || settles {
            let verdict = Arc::new(verdict);
            passed.shared = shares.then(|| Arc::clone(&verdict));
            passed.charge = settles.then(|| Charge { verdict, guard: Arc::clone(guard), is_answered: false });
        }
        Some(passed)
    }

    /// Nothing is to be done but to hold this.
    pub(super) fn holding(under_way: UnderWay, options: &Options) -> Box<Self> {
        let outcome = options.outcome.clone();
        Box::new(Self { fields: Fields::default(), shared: None, charge: None, under_way, outcome })
    }

    fn finish<R>(mut self: Box<Self>, mut response: Response<R>) -> Response<RateLimitBody<R>> {
        self.fields.write(response.headers_mut());
        if !self.under_way.is_empty() {
            response = self.tell(response);
        }
        let (meter, response) = match self.charge {
            Some(charge) => charge.finish(response),
            None => (None, response),
        };
        let held = Held::new(meter, self.under_way);
        response.map(|body| RateLimitBody::inner(body, held))
    }

    /// Says how the request was answered to those who want to know.
    fn tell<R>(&self, response: Response<R>) -> Response<R> {
        let (head, body) = response.into_parts();
        let outcome = if let Some(outcome) = &self.outcome {
            outcome(&head)
        } else {
            let grpc_status = head.headers.get("grpc-status").map(HeaderValue::as_bytes);
            usual_outcome(head.status.as_u16(), grpc_status)
        };
        self.under_way.answered(outcome, head.status.is_server_error());
        Response::from_parts(head, body)
    }

    /// The service failed without an answer, as time-outs do.
    fn fail(self: Box<Self>) {
        self.under_way.answered(Outcome::Overloaded, true);
    }
}

/// What a request that passed is charged for, when it is answered.
struct Charge<G: Gatekeeper> {
    verdict: Arc<Verdict>,
    guard: Arc<Guard<G>>,
    is_answered: bool,
}

impl<G: Gatekeeper> Charge<G> {
    /// The answer, and what counts its body if that is charged for.
    fn finish<R>(mut self, response: Response<R>) -> (Option<BodyMeter>, Response<R>) {
        self.is_answered = true;
        let (head, body) = response.into_parts();
        if let Some(settlement) = self.guard.options.settle.iter().find_map(|settle| settle(&head)) {
            self.guard.gate.settle(&self.verdict, settlement);
        }
        let meter = self.guard.options.bytes_per_unit.map(|bytes_per_unit| {
            let (gate, verdict) = (Arc::clone(&self.guard.gate), Arc::clone(&self.verdict));
            let charge = move |units| gate.settle(&verdict, Settlement::Extra(units));
            BodyMeter::new(bytes_per_unit, charge)
        });
        (meter, Response::from_parts(head, body))
    }
}

/// Without an answer the request was cancelled, or the service failed.
impl<G: Gatekeeper> Drop for Charge<G> {
    fn drop(&mut self) {
        if !self.is_answered && self.guard.options.refunds_cancelled {
            self.guard.gate.settle(&self.verdict, Settlement::Refund);
        }
    }
}
