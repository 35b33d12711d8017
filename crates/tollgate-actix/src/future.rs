//! The answer to come.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpMessage};
use pin_project_lite::pin_project;
use tollgate_http::{ActualCost, BodyMeter, Gatekeeper};
use tollgate_policy::{Settlement, Verdict};

use crate::body::RateLimitBody;
use crate::course::Course;
use crate::options::Options;
use crate::wire::ActixHeaders;

pin_project! {
    /// The future of a [`RateLimitMiddleware`](crate::RateLimitMiddleware).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, G>
    where
        S: Service<ServiceRequest>,
        G: Gatekeeper,
    {
        #[pin]
        state: State<S, G>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, G>
    where
        S: Service<ServiceRequest>,
        G: Gatekeeper,
    {
        Deciding {
            deciding: Deciding,
            inner: Rc<S>,
            gate: Arc<G>,
            options: Arc<Options>,
        },
        Passing {
            #[pin]
            future: S::Future,
            passed: Option<Passed<G>>,
        },
        Answered {
            answer: Option<ServiceResponse>,
        },
    }
}

/// What becomes of a request.
pub(crate) type Deciding = Pin<Box<dyn Future<Output = (ServiceRequest, Course)>>>;

impl<S, G> ResponseFuture<S, G>
where
    S: Service<ServiceRequest>,
    G: Gatekeeper,
{
    /// Waits for what becomes of a request.
    pub(crate) fn deciding(deciding: Deciding, inner: Rc<S>, gate: Arc<G>, options: Arc<Options>) -> Self {
        Self { state: State::Deciding { deciding, inner, gate, options } }
    }

    /// Takes a request's course.
    pub(crate) fn taking(
        course: Course,
        request: ServiceRequest,
        inner: &S,
        gate: &Arc<G>,
        options: &Arc<Options>,
    ) -> Self {
        let passed = match course {
            Course::Unseen => None,
            Course::Pass(verdict) => Passed::new(verdict, &request, gate, options),
            Course::Answer(answer) => return Self::answered(request.into_response(answer)),
        };
        Self { state: State::Passing { future: inner.call(request), passed } }
    }

    pub(crate) fn answered(answer: ServiceResponse) -> Self {
        Self { state: State::Answered { answer: Some(answer) } }
    }
}

impl<S, G, B> Future for ResponseFuture<S, G>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    G: Gatekeeper,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<RateLimitBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Deciding { deciding, inner, gate, options } => {
                    let (request, course) = ready!(deciding.as_mut().poll(cx));
                    ResponseFuture::taking(course, request, &**inner, gate, options).state
                }
                StateProjection::Passing { future, passed } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(match passed.take() {
                        Some(passed) => passed.finish(response),
                        None => response.map_body(|_, body| RateLimitBody::inner(body, None)),
                    }));
                }
                StateProjection::Answered { answer } => {
                    // As every future does.
                    let Some(answer) = answer.take() else { panic!("polled after it was ready") };
                    return Poll::Ready(Ok(answer.map_body(|_, body| RateLimitBody::own(body))));
                }
            };
            state.set(next);
        }
    }
}

impl<S, G> fmt::Debug for ResponseFuture<S, G>
where
    S: Service<ServiceRequest>,
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
    gate: Arc<G>,
    options: Arc<Options>,
    /// When it was decided: waiting for the answer does not move the moment of a reset.
    now_unix_s: u64,
    is_answered: bool,
}

impl<G: Gatekeeper> Passed<G> {
    /// Nothing if nothing is to be done.
    fn new(
        verdict: Arc<Verdict>,
        request: &ServiceRequest,
        gate: &Arc<G>,
        options: &Arc<Options>,
    ) -> Option<Self> {
        if options.shares_verdict {
            request.extensions_mut().insert(Arc::clone(&verdict));
        }
        let has_work = !options.headers.is_none() || options.settles();
        has_work.then(|| Self {
            verdict,
            gate: Arc::clone(gate),
            options: Arc::clone(options),
            now_unix_s: options.now_unix_s(),
            is_answered: false,
        })
    }

    fn finish<B>(mut self, mut response: ServiceResponse<B>) -> ServiceResponse<RateLimitBody<B>> {
        self.is_answered = true;
        let mut headers = ActixHeaders(response.headers_mut());
        self.options.headers.write(&self.verdict, self.now_unix_s, &mut headers);
        if let Some(settlement) = self.settlement(&response) {
            self.gate.settle(&self.verdict, settlement);
        }
        let meter = self.options.bytes_per_unit.map(|bytes_per_unit| {
            let (gate, verdict) = (Arc::clone(&self.gate), Arc::clone(&self.verdict));
            BodyMeter::new(bytes_per_unit, move |units| gate.settle(&verdict, Settlement::Extra(units)))
        });
        response.map_body(|_, body| RateLimitBody::inner(body, meter))
    }

    /// How the request is charged by what its answer is.
    fn settlement<B>(&self, response: &ServiceResponse<B>) -> Option<Settlement> {
        let response = response.response();
        let by_rule = self.options.settle.iter().find_map(|settle| settle(response.head()));
        by_rule.or_else(|| {
            let cost = self.options.settles_reported.then(|| response.extensions().get().copied())?;
            cost.map(|ActualCost(cost)| Settlement::Actual(cost))
        })
    }
}

/// Without an answer the request was cancelled, or the handler failed.
impl<G: Gatekeeper> Drop for Passed<G> {
    fn drop(&mut self) {
        if !self.is_answered && self.options.refunds_cancelled {
            self.gate.settle(&self.verdict, Settlement::Refund);
        }
    }
}
