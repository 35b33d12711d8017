//! The answer to come.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::{Error, HttpMessage};
use pin_project_lite::pin_project;
use tollgate_http::{ActualCost, BodyMeter, Fields, Gatekeeper, UnderWay, usual_outcome};
use tollgate_policy::{Settlement, Verdict};

use crate::body::{Held, RateLimitBody};
use crate::course::Course;
use crate::options::{Options, OutcomeOf};
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
            deciding: Deciding<G>,
            inner: Rc<S>,
        },
        Passing {
            #[pin]
            future: S::Future,
            passed: Option<Box<Passed<G>>>,
        },
        Answered {
            answer: Option<ServiceResponse>,
        },
    }
}

/// What becomes of a request.
pub(crate) type Deciding<G> = Pin<Box<dyn Future<Output = (ServiceRequest, Course<G>)>>>;

impl<S, G> ResponseFuture<S, G>
where
    S: Service<ServiceRequest>,
    G: Gatekeeper,
{
    /// Waits for what becomes of a request.
    pub(crate) const fn deciding(deciding: Deciding<G>, inner: Rc<S>) -> Self {
        Self { state: State::Deciding { deciding, inner } }
    }

    /// Takes a request's course.
    pub(crate) fn taking(course: Course<G>, request: ServiceRequest, inner: &S) -> Self {
        let passed = match course {
            Course::Unseen => None,
            Course::Pass(mut passed) => {
                passed.under_way.pass_on();
                if let Some(verdict) = passed.shared.take() {
                    request.extensions_mut().insert(verdict);
                }
                Some(passed)
            }
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
                StateProjection::Deciding { deciding, inner } => {
                    let (request, course) = ready!(deciding.as_mut().poll(cx));
                    ResponseFuture::taking(course, request, &**inner).state
                }
                StateProjection::Passing { future, passed } => {
                    let result = ready!(future.poll(cx));
                    let Some(passed) = passed.take() else {
                        let bare = |answer: ServiceResponse<B>| {
                            answer.map_body(|_, body| RateLimitBody::inner(body, None))
                        };
                        return Poll::Ready(result.map(bare));
                    };
                    return Poll::Ready(match result {
                        Ok(response) => Ok(passed.finish(response)),
                        Err(error) => {
                            passed.fail(&error);
                            Err(error)
                        }
                    });
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

/// What is still to be done with a request that passed, and with its answer.
pub(crate) struct Passed<G: Gatekeeper> {
    fields: Fields,
    /// For the handler.
    shared: Option<Arc<Verdict>>,
    charge: Option<Charge<G>>,
    under_way: UnderWay,
    /// What an answer says of the service's capacity, if that is not the usual.
    outcome: Option<Arc<OutcomeOf>>,
}

impl<G: Gatekeeper> Passed<G> {
    /// Nothing if nothing is to be done.
    pub(crate) fn new(
        verdict: Verdict,
        under_way: UnderWay,
        gate: &Arc<G>,
        options: &Arc<Options>,
    ) -> Option<Box<Self>> {
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
            passed.charge = settles.then(|| Charge {
                verdict,
                gate: Arc::clone(gate),
                options: Arc::clone(options),
                is_answered: false,
            });
        }
        Some(passed)
    }

    /// Nothing is to be done but to hold this.
    pub(crate) fn holding(under_way: UnderWay, options: &Options) -> Box<Self> {
        let outcome = options.outcome.clone();
        Box::new(Self { fields: Fields::default(), shared: None, charge: None, under_way, outcome })
    }

    fn finish<B>(mut self: Box<Self>, mut response: ServiceResponse<B>) -> ServiceResponse<RateLimitBody<B>> {
        self.fields.write(&mut ActixHeaders(response.headers_mut()));
        if !self.under_way.is_empty() {
            self.tell(&response);
        }
        let meter = self.charge.and_then(|charge| charge.finish(&response));
        let held = Held::new(meter, self.under_way);
        response.map_body(|_, body| RateLimitBody::inner(body, held))
    }

    /// Says how the request was answered to those who want to know.
    fn tell<B>(&self, response: &ServiceResponse<B>) {
        let head = response.response().head();
        let outcome = if let Some(outcome) = &self.outcome {
            outcome(head)
        } else {
            let grpc_status = head.headers.get("grpc-status").map(HeaderValue::as_bytes);
            usual_outcome(head.status.as_u16(), grpc_status)
        };
        self.under_way.answered(outcome, head.status.is_server_error());
    }

    /// The handler failed: what Actix will make of its error tells how.
    fn fail(self: Box<Self>, error: &Error) {
        if self.under_way.is_empty() {
            return;
        }
        let status = error.as_response_error().status_code();
        self.under_way.answered(usual_outcome(status.as_u16(), None), status.is_server_error());
    }
}

/// What a request that passed is charged for, when it is answered.
struct Charge<G: Gatekeeper> {
    verdict: Arc<Verdict>,
    gate: Arc<G>,
    options: Arc<Options>,
    is_answered: bool,
}

impl<G: Gatekeeper> Charge<G> {
    /// What counts the answer's body, if that is charged for.
    fn finish<B>(mut self, response: &ServiceResponse<B>) -> Option<BodyMeter> {
        self.is_answered = true;
        if let Some(settlement) = self.settlement(response) {
            self.gate.settle(&self.verdict, settlement);
        }
        self.options.bytes_per_unit.map(|bytes_per_unit| {
            let (gate, verdict) = (Arc::clone(&self.gate), Arc::clone(&self.verdict));
            BodyMeter::new(bytes_per_unit, move |units| gate.settle(&verdict, Settlement::Extra(units)))
        })
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
impl<G: Gatekeeper> Drop for Charge<G> {
    fn drop(&mut self) {
        if !self.is_answered && self.options.refunds_cancelled {
            self.gate.settle(&self.verdict, Settlement::Refund);
        }
    }
}
