//! The middleware, and how it is built.

use std::fmt;
use std::future::{Ready, ready};
use std::num::{NonZeroU32, NonZeroU64};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ResponseHead, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::HeaderName;
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpResponse};
use tollgate_adaptive::{ConcurrencyLimit, Full, Outcome, Outcomes};
use tollgate_http::{
    DenialForm, Gatekeeper, HeaderOptions, InFlight, Networks, TrustedProxies, Undecided, UnderWay, Waiting,
    stated_cost,
};
use tollgate_policy::{KeyPart, Settlement, Verdict};

use crate::body::RateLimitBody;
use crate::course::{Known, decide, decide_later};
use crate::future::ResponseFuture;
use crate::options::{Finder, Options};

/// Puts limits in front of an [`App`](actix_web::App), a scope or a resource.
///
/// Clones share the gatekeeper, and with it all state: make one, and wrap a clone of it in each worker. See the
/// [crate's front page](crate) for a whole program.
///
/// | to | use |
/// |---|---|
/// | say who a request is from | [`trusted_proxies`](Self::trusted_proxies), [`api_key_header`](Self::api_key_header), [`attribute`](Self::attribute), [`try_attribute`](Self::try_attribute), [`attribute_async`](Self::attribute_async) |
/// | leave requests alone | [`skip`](Self::skip), [`skip_paths`](Self::skip_paths), [`skip_methods`](Self::skip_methods), [`skip_networks`](Self::skip_networks) |
/// | charge before the answer | [`cost`](Self::cost), [`cost_from_header`](Self::cost_from_header) |
/// | charge after it | [`settle`](Self::settle), [`refund_on_status`](Self::refund_on_status), [`charge_on_status`](Self::charge_on_status), [`settle_reported`](Self::settle_reported), [`charge_body`](Self::charge_body), [`refund_cancelled`](Self::refund_cancelled) |
/// | choose what answers say | [`headers`](Self::headers), [`denial_form`](Self::denial_form), [`on_denied`](Self::on_denied), [`on_undecided`](Self::on_undecided) |
/// | see decisions | [`on_decision`](Self::on_decision), [`share_verdict`](Self::share_verdict) |
pub struct RateLimit<G> {
    gate: Arc<G>,
    options: Arc<Options>,
}

impl<G: Gatekeeper> RateLimit<G> {
    /// Lets this gatekeeper decide. To keep it at hand for other uses, pass an `Arc` of it.
    pub fn new(gate: G) -> Self {
        Self { gate: Arc::new(gate), options: Arc::default() }
    }

    /// Adds these headers to answers.
    #[must_use]
    pub fn headers(self, headers: HeaderOptions) -> Self {
        self.with(|options| options.headers = headers)
    }

    /// Writes the bodies of denials in this form. By default each client gets the one that its `Accept` asks for.
    #[must_use]
    pub fn denial_form(self, form: DenialForm) -> Self {
        self.with(|options| options.form = form)
    }

    /// Believes these proxies about whom they forward for. By default nobody is believed.
    #[must_use]
    pub fn trusted_proxies(self, proxies: TrustedProxies) -> Self {
        self.with(|options| options.proxies = proxies)
    }

    /// Finds API keys in this header instead of `x-api-key`.
    #[must_use]
    pub fn api_key_header(self, name: HeaderName) -> Self {
        self.with(|options| options.api_key = name)
    }

    /// Finds the attribute of this name, which policies know as `attribute:name`, in this way. `None` means that the request
    /// has none.
    #[must_use]
    pub fn attribute(
        self,
        name: impl Into<String>,
        find: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.try_attribute(name, move |request| Ok(find(request)))
    }

    /// Like [`attribute`](Self::attribute), where a request that lacks it can be answered at once, with an error such as
    /// [`ErrorForbidden`](actix_web::error::ErrorForbidden): such a one is not counted.
    #[must_use]
    pub fn try_attribute(
        self,
        name: impl Into<String>,
        find: impl Fn(&ServiceRequest) -> Result<Option<String>, Error> + Send + Sync + 'static,
    ) -> Self {
        let finder = Finder::Now(name.into(), Arc::new(find));
        self.with(|options| options.finders.push(finder))
    }

    /// Like [`try_attribute`](Self::try_attribute), where finding takes a while. Attributes are found one after the other, in
    /// the order of these calls.
    #[must_use]
    pub fn attribute_async<F>(
        self,
        name: impl Into<String>,
        find: impl Fn(&ServiceRequest) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Option<String>, Error>> + 'static,
    {
        let find = move |request: &ServiceRequest| Box::pin(find(request)) as _;
        let finder = Finder::Later(name.into(), Arc::new(find));
        self.with(|options| options.finders.push(finder))
    }

    /// Lets requests of which this is true pass unseen: they count nowhere, and their answers get no headers. Can be
    /// called again: one that says so is enough.
    #[must_use]
    pub fn skip(self, skip: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static) -> Self {
        self.with(|options| options.skip.push(Arc::new(skip)))
    }

    /// Lets requests for exactly these paths pass unseen, such as health checks.
    #[must_use]
    pub fn skip_paths<P: Into<String>>(self, paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        self.skip(move |request| paths.iter().any(|path| path == request.uri().path()))
    }

    /// Lets requests of these methods pass unseen, such as `OPTIONS`.
    #[must_use]
    pub fn skip_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods: Vec<Method> = methods.into_iter().collect();
        self.skip(move |request| methods.contains(request.method()))
    }

    /// Lets requests from these networks pass unseen. It goes by the client's address, as far as
    /// [proxies](Self::trusted_proxies) are believed about it.
    #[must_use]
    pub fn skip_networks(self, networks: Networks) -> Self {
        self.with(|options| options.skipped_networks.push(networks))
    }

    /// Lets at most so many requests be under way at once for each of these keys, until their answers' bodies have been sent or
    /// given up. Further ones get the status 429 at once, and cost nothing. Can be called again, with another key.
    ///
    /// The count is this process's own.
    #[must_use]
    pub fn in_flight(self, key: impl Into<KeyPart>, most: NonZeroU32) -> Self {
        self.with(|options| options.entrance.in_flight.push(Arc::new(InFlight::new(key, most))))
    }

    /// Lets no more requests be under way at once than the service can bear, as this limit finds out, until their answers' bodies have
    /// been sent or given up. Further ones get the status 503 at once, and cost nothing. Services that share a limit pass an `Arc` of it.
    ///
    /// How long requests take is counted until the head of their answer. The service is taken to be overloaded if it answers 503 or 504, or
    /// fails with an error that Actix answers so; see [`outcome`](Self::outcome). A request that is cancelled tells nothing.
    ///
    /// ```
    /// # use tollgate_http::Gatekeeper;
    /// # use tollgate_actix::RateLimit;
    /// use tollgate_adaptive::{ConcurrencyLimit, Vegas};
    ///
    /// # fn example<G: Gatekeeper>(limits: RateLimit<G>) {
    /// limits.concurrency(ConcurrencyLimit::new(Vegas::default()));
    /// # }
    /// ```
    #[must_use]
    pub fn concurrency(self, limit: impl Into<Arc<ConcurrencyLimit>>) -> Self {
        self.with(|options| options.entrance.concurrency = Some(limit.into()))
    }

    /// Says what an answer tells of the service's capacity, in place of what is [usual](tollgate_http::usual_outcome).
    #[must_use]
    pub fn outcome(self, outcome: impl Fn(&ResponseHead) -> Outcome + Send + Sync + 'static) -> Self {
        self.with(|options| options.outcome = Some(Arc::new(outcome)))
    }

    /// Answers requests with this instead that come while as many are under way as the service can bear.
    #[must_use]
    pub fn on_overloaded(
        self,
        answer: impl Fn(&ServiceRequest, Full) -> HttpResponse + Send + Sync + 'static,
    ) -> Self {
        self.with(|options| options.on_overloaded = Some(Arc::new(answer)))
    }

    /// Notes how requests fare that are passed on: how long until the head of the answer, and whether the status is 5xx. For
    /// [signals of health](tollgate_adaptive::health).
    #[must_use]
    pub fn note_outcomes(self, outcomes: Arc<Outcomes>) -> Self {
        self.with(|options| options.entrance.outcomes = Some(outcomes))
    }

    /// What a request costs, in place of what the policies say; `None` leaves it to them.
    #[must_use]
    pub fn cost(self, cost: impl Fn(&ServiceRequest) -> Option<u32> + Send + Sync + 'static) -> Self {
        self.with(|options| options.cost = Some(Arc::new(cost)))
    }

    /// What a request costs stands in this header, at least 1 and at most so much. Without it, or where it is no whole number,
    /// the policies say.
    ///
    /// Clients write what they like: this is for headers that a proxy of one's own sets.
    #[must_use]
    pub fn cost_from_header(self, name: HeaderName, most: u32) -> Self {
        self.cost(move |request| stated_cost(request.headers().get(&name)?.as_bytes(), most))
    }

    /// Charges requests that passed otherwise, by what their answers are. The first of these that says something decides.
    #[must_use]
    pub fn settle(
        self,
        settle: impl Fn(&ResponseHead) -> Option<Settlement> + Send + Sync + 'static,
    ) -> Self {
        self.with(|options| options.settle.push(Arc::new(settle)))
    }

    /// Gives back what a request took whose answer has such a status.
    #[must_use]
    pub fn refund_on_status(self, is: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        self.settle(move |answer| is(answer.status).then_some(Settlement::Refund))
    }

    /// Takes so much more if the answer has such a status: failed logins, say. As far as it is there.
    #[must_use]
    pub fn charge_on_status(
        self,
        is: impl Fn(StatusCode) -> bool + Send + Sync + 'static,
        extra: u32,
    ) -> Self {
        self.settle(move |answer| is(answer.status).then_some(Settlement::Extra(extra)))
    }

    /// Charges for the [`ActualCost`](tollgate_http::ActualCost) that a handler puts into the extensions of its answer, in
    /// place of what was taken. What [`settle`](Self::settle) says goes before.
    #[must_use]
    pub fn settle_reported(self) -> Self {
        self.with(|options| options.settles_reported = true)
    }

    /// Charges one more for every so many bytes of the answer's body that are sent, the last ones too if they are fewer. It is
    /// taken when the body is at its end, or given up.
    #[must_use]
    pub fn charge_body(self, bytes_per_unit: NonZeroU64) -> Self {
        self.with(|options| options.bytes_per_unit = Some(bytes_per_unit))
    }

    /// Gives back what a request took that is cancelled before it is answered, or whose handler fails.
    #[must_use]
    pub fn refund_cancelled(self) -> Self {
        self.with(|options| options.refunds_cancelled = true)
    }

    /// Puts the verdict into the request's extensions, as an `Arc<Verdict>`, for handlers that want to know what is left.
    #[must_use]
    pub fn share_verdict(self) -> Self {
        self.with(|options| options.shares_verdict = true)
    }

    /// Tells of each decision: for logs and metrics of one's own. Can be called again.
    #[must_use]
    pub fn on_decision(self, tell: impl Fn(&ServiceRequest, &Verdict) + Send + Sync + 'static) -> Self {
        self.with(|options| options.on_decision.push(Arc::new(tell)))
    }

    /// Answers denied requests with this instead. The headers are added to it, but for those that it already has.
    #[must_use]
    pub fn on_denied(
        self,
        answer: impl Fn(&ServiceRequest, &Verdict) -> HttpResponse + Send + Sync + 'static,
    ) -> Self {
        self.with(|options| options.on_denied = Some(Arc::new(answer)))
    }

    /// Answers requests with this that could not be decided, as the store is away and the policy is not to go on without it;
    /// `None` lets them pass. Without this they get the status 503.
    #[must_use]
    pub fn on_undecided(
        self,
        answer: impl Fn(&ServiceRequest, &Undecided) -> Option<HttpResponse> + Send + Sync + 'static,
    ) -> Self {
        self.with(|options| options.on_undecided = Some(Arc::new(answer)))
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl<S, G, B> Transform<S, ServiceRequest> for RateLimit<G>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    G: Gatekeeper,
    B: MessageBody,
{
    type Response = ServiceResponse<RateLimitBody<B>>;
    type Error = Error;
    type InitError = ();
    type Transform = RateLimitMiddleware<S, G>;
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let (gate, options) = (Arc::clone(&self.gate), Arc::clone(&self.options));
        ready(Ok(RateLimitMiddleware { inner: Rc::new(inner), gate, options }))
    }
}

// Not derived: a gatekeeper need not be `Clone` or `Debug`.
impl<G> Clone for RateLimit<G> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), options: Arc::clone(&self.options) }
    }
}

impl<G> fmt::Debug for RateLimit<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A service with limits in front of it: made by [`RateLimit`].
pub struct RateLimitMiddleware<S, G> {
    inner: Rc<S>,
    gate: Arc<G>,
    options: Arc<Options>,
}

impl<S, G> fmt::Debug for RateLimitMiddleware<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitMiddleware").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<S, G> RateLimitMiddleware<S, G>
where
    S: Service<ServiceRequest>,
    G: Gatekeeper,
{
    /// Waits for what becomes of a request; `waiting` is for what the store says, if it was asked already.
    fn call_later(
        &self,
        request: ServiceRequest,
        waiting: Option<(Waiting, UnderWay)>,
    ) -> ResponseFuture<S, G> {
        let (gate, options) = (Arc::clone(&self.gate), Arc::clone(&self.options));
        let deciding = Box::pin(decide_later(gate, options, request, waiting));
        ResponseFuture::deciding(deciding, Rc::clone(&self.inner))
    }
}

impl<S, G, B> Service<ServiceRequest> for RateLimitMiddleware<S, G>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    G: Gatekeeper,
    B: MessageBody,
{
    type Response = ServiceResponse<RateLimitBody<B>>;
    type Error = Error;
    type Future = ResponseFuture<S, G>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if !self.options.finders.is_empty() {
            if self.options.finds_later() {
                return self.call_later(request, None);
            }
            if let Err(error) = self.options.find_now(&request) {
                return ResponseFuture::answered(request.error_response(error));
            }
        }
        match decide(&self.gate, &self.options, &request) {
            Known::Course(course) => ResponseFuture::taking(course, request, &*self.inner),
            Known::Waiting(waiting, under_way) => self.call_later(request, Some((waiting, under_way))),
        }
    }
}
