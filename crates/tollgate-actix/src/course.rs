//! What becomes of a request: decided in one way, whether or not anything has to be waited for.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{Error, HttpMessage, HttpResponse};
use tollgate_http::{Busy, Checking, Denial, Gatekeeper, RequestContext, Undecided, UnderWay, Waiting};
use tollgate_policy::{Attributes, Verdict};

use crate::attributes::ActixAttributes;
use crate::future::Passed;
use crate::options::{Finder, Found, Options};
use crate::wire::{ActixHeaders, response};

/// What becomes of a request.
pub(crate) enum Course<G: Gatekeeper> {
    /// It is passed on, and nobody looks at its answer.
    Unseen,
    /// It is passed on, and its answer is looked at.
    Pass(Box<Passed<G>>),
    /// It is answered here.
    Answer(HttpResponse),
}

impl<G: Gatekeeper> Course<G> {
    /// It is passed on, and is under way until this is dropped.
    fn holding(under_way: UnderWay, options: &Options) -> Self {
        if under_way.is_empty() { Self::Unseen } else { Self::Pass(Passed::holding(under_way, options)) }
    }
}

/// What is known of it at once.
pub(crate) enum Known<G: Gatekeeper> {
    Course(Course<G>),
    Waiting(Waiting, UnderWay),
}

/// Decides what can be decided at once.
pub(crate) fn decide<G: Gatekeeper>(
    gate: &Arc<G>,
    options: &Arc<Options>,
    request: &ServiceRequest,
) -> Known<G> {
    let seen = ActixAttributes::new(request, &options.api_key, &options.proxies);
    if options.is_skipped(request, &seen) {
        return Known::Course(Course::Unseen);
    }
    let under_way = match options.entrance.enter(&seen) {
        Ok(under_way) => under_way,
        Err(busy) => return Known::Course(Course::Answer(options.refuse(request, busy))),
    };
    let cost = options.cost.as_ref().and_then(|cost| cost(request));
    let checking = if options.wants_verdicts() { gate.check(&seen, cost) } else { gate.admit(&seen, cost) };
    match checking {
        Checking::Passed => Known::Course(Course::holding(under_way, options)),
        Checking::Done(verdict) => Known::Course(judge(gate, options, request, verdict, under_way)),
        Checking::Waiting(waiting) => Known::Waiting(waiting, under_way),
    }
}

/// Decides the rest: all of it, or what is `waiting` for the store.
pub(crate) async fn decide_later<G: Gatekeeper>(
    gate: Arc<G>,
    options: Arc<Options>,
    request: ServiceRequest,
    waiting: Option<(Waiting, UnderWay)>,
) -> (ServiceRequest, Course<G>) {
    let known = match waiting {
        Some((waiting, under_way)) => Known::Waiting(waiting, under_way),
        None => match options.find_all(&request).await {
            Ok(()) => decide(&gate, &options, &request),
            Err(error) => Known::Course(Course::Answer(HttpResponse::from_error(error))),
        },
    };
    let course = match known {
        Known::Course(course) => course,
        Known::Waiting(waiting, under_way) => match waiting.await {
            Ok(verdict) => judge(&gate, &options, &request, verdict, under_way),
            Err(error) => options.give_up(&request, &error, under_way),
        },
    };
    (request, course)
}

fn judge<G: Gatekeeper>(
    gate: &Arc<G>,
    options: &Arc<Options>,
    request: &ServiceRequest,
    verdict: Verdict,
    under_way: UnderWay,
) -> Course<G> {
    for tell in &options.on_decision {
        tell(request, &verdict);
    }
    if verdict.is_allowed() {
        Passed::new(verdict, under_way, gate, options).map_or(Course::Unseen, Course::Pass)
    } else {
        Course::Answer(options.denied(request, &verdict))
    }
}

impl Options {
    fn is_skipped(&self, request: &ServiceRequest, seen: &ActixAttributes<'_>) -> bool {
        let is_from = |ip| self.skipped_networks.iter().any(|networks| networks.contains(ip));
        self.skip.iter().any(|skip| skip(request)) || seen.ip().is_some_and(is_from)
    }

    /// Finds the attributes that need no waiting.
    ///
    /// # Errors
    /// The error that is the answer, if the request has none of what it must have.
    pub(crate) fn find_now(&self, request: &ServiceRequest) -> Result<(), Error> {
        for finder in &self.finders {
            if let Finder::Now(name, find) = finder {
                note(request, name, find(request))?;
            }
        }
        Ok(())
    }

    /// Finds all attributes, in their order.
    async fn find_all(&self, request: &ServiceRequest) -> Result<(), Error> {
        for finder in &self.finders {
            match finder {
                Finder::Now(name, find) => note(request, name, find(request))?,
                Finder::Later(name, find) => note(request, name, find(request).await)?,
            }
        }
        Ok(())
    }

    #[cold]
    fn denied(&self, request: &ServiceRequest, verdict: &Verdict) -> HttpResponse {
        let mut answer = if let Some(on_denied) = &self.on_denied {
            on_denied(request, verdict)
        } else {
            let hides = self.headers.hides_policy();
            response(self.form.answer(verdict, hides, content_type(request), accept(request)))
        };
        self.headers.write(verdict, self.now_unix_s(), &mut ActixHeaders(answer.headers_mut()));
        answer
    }

    #[cold]
    fn refuse(&self, request: &ServiceRequest, busy: Busy) -> HttpResponse {
        match (busy, &self.on_overloaded) {
            (Busy::Client(too_many), _) => response(Denial::busy(too_many, content_type(request))),
            (Busy::Service(full), Some(on_overloaded)) => on_overloaded(request, full),
            (Busy::Service(_), None) => {
                response(self.form.overloaded(content_type(request), accept(request)))
            }
        }
    }

    #[cold]
    fn give_up<G: Gatekeeper>(
        &self,
        request: &ServiceRequest,
        error: &Undecided,
        under_way: UnderWay,
    ) -> Course<G> {
        tracing::debug!(target: "tollgate::http", %error, "a request was not decided");
        let answer = match &self.on_undecided {
            Some(on_undecided) => on_undecided(request, error),
            None => Some(response(Denial::undecided(content_type(request)))),
        };
        answer.map_or_else(|| Course::holding(under_way, self), Course::Answer)
    }
}

/// Adds what was found to what is known of the request.
fn note(request: &ServiceRequest, name: &str, found: Found) -> Result<(), Error> {
    if let Some(value) = found? {
        let mut extensions = request.extensions_mut();
        let context = extensions.remove::<RequestContext>().unwrap_or_default();
        extensions.insert(context.attribute(name, value));
    }
    Ok(())
}

fn accept(request: &ServiceRequest) -> impl Iterator<Item = &[u8]> {
    request.headers().get_all(header::ACCEPT).map(HeaderValue::as_bytes)
}

fn content_type(request: &ServiceRequest) -> Option<&[u8]> {
    request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes)
}
