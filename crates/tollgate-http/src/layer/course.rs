//! What becomes of a request: decided in one way, whether or not anything has to be waited for.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderValue, Response, header};
use tollgate_policy::{Attributes, Verdict};

use super::future::Passed;
use super::options::{Finder, Found, Guard, Options, Rejection, warn_of_missing_peer};
use crate::attributes::{HttpAttributes, RequestContext};
use crate::body::Denial;
use crate::gatekeeper::{Checking, Gatekeeper, Undecided, Waiting};
use crate::under_way::{Busy, UnderWay};

/// What becomes of a request.
pub(super) enum Course<G: Gatekeeper> {
    /// It is passed on, and nobody looks at its answer.
    Unseen,
    /// It is passed on, and its answer is looked at.
    Pass(Box<Passed<G>>),
    /// It is answered here.
    Answer(Box<Response<Bytes>>),
}

impl<G: Gatekeeper> Course<G> {
    /// It is passed on, and is under way until this is dropped.
    fn holding(under_way: UnderWay, options: &Options) -> Self {
        if under_way.is_empty() { Self::Unseen } else { Self::Pass(Passed::holding(under_way, options)) }
    }
}

/// What is known of it at once.
pub(super) enum Known<G: Gatekeeper> {
    Course(Course<G>),
    Waiting(Waiting, UnderWay),
}

/// Decides what can be decided at once.
#[inline]
pub(super) fn decide<G: Gatekeeper>(guard: &Arc<Guard<G>>, seen: HttpAttributes<'_>) -> Known<G> {
    let Guard { gate, options } = &**guard;
    let seen = options.see(seen);
    if options.is_skipped(&seen) {
        return Known::Course(Course::Unseen);
    }
    if seen.ip().is_none() {
        warn_of_missing_peer();
    }
    let under_way = match options.entrance.enter(&seen) {
        Ok(under_way) => under_way,
        Err(busy) => return Known::Course(Course::Answer(Box::new(options.refuse(&seen, busy)))),
    };
    let cost = options.cost(&seen);
    let checking = if options.wants_verdicts() { gate.check(&seen, cost) } else { gate.admit(&seen, cost) };
    match checking {
        Checking::Passed => Known::Course(Course::holding(under_way, options)),
        Checking::Done(verdict) => Known::Course(judge(guard, &seen, verdict, under_way)),
        Checking::Waiting(waiting) => Known::Waiting(waiting, under_way),
    }
}

/// Decides the rest: all of it, or what is `waiting` for the store.
pub(super) async fn decide_later<G: Gatekeeper>(
    guard: Arc<Guard<G>>,
    mut head: Head,
    waiting: Option<(Waiting, UnderWay)>,
) -> (Head, Course<G>) {
    let known = match waiting {
        Some((waiting, under_way)) => Known::Waiting(waiting, under_way),
        None => match guard.options.find_all(&mut head).await {
            Ok(()) => decide(&guard, HttpAttributes::of_parts(&head)),
            Err(rejection) => Known::Course(Course::Answer(rejection.0)),
        },
    };
    let (waiting, under_way) = match known {
        Known::Course(course) => return (head, course),
        Known::Waiting(waiting, under_way) => (waiting, under_way),
    };
    let result = waiting.await;
    let seen = guard.options.see(HttpAttributes::of_parts(&head));
    let course = match result {
        Ok(verdict) => judge(&guard, &seen, verdict, under_way),
        Err(error) => guard.options.give_up(&seen, &error, under_way),
    };
    (head, course)
}

fn judge<G: Gatekeeper>(
    guard: &Arc<Guard<G>>,
    seen: &HttpAttributes<'_>,
    verdict: Verdict,
    under_way: UnderWay,
) -> Course<G> {
    for tell in &guard.options.on_decision {
        tell(seen, &verdict);
    }
    if verdict.is_allowed() {
        Passed::new(verdict, under_way, guard).map_or(Course::Unseen, Course::Pass)
    } else {
        Course::Answer(Box::new(guard.options.denied(seen, &verdict)))
    }
}

impl Options {
    /// Whether any attribute has to be waited for.
    pub(super) fn finds_later(&self) -> bool {
        self.finders.iter().any(|finder| matches!(finder, Finder::Later(..)))
    }

    /// Finds the attributes that need no waiting.
    ///
    /// # Errors
    /// The answer, if the request has none of what it must have.
    pub(super) fn find_now(&self, head: &mut Head) -> Result<(), Rejection> {
        for finder in &self.finders {
            if let Finder::Now(name, find) = finder {
                let found = find(&self.see(HttpAttributes::of_parts(head)));
                note(head, name, found)?;
            }
        }
        Ok(())
    }

    /// Finds all attributes, in their order.
    async fn find_all(&self, head: &mut Head) -> Result<(), Rejection> {
        for finder in &self.finders {
            let (name, found) = match finder {
                Finder::Now(name, find) => (name, find(&self.see(HttpAttributes::of_parts(head)))),
                Finder::Later(name, find) => {
                    let finding = find(head);
                    (name, finding.await)
                }
            };
            note(head, name, found)?;
        }
        Ok(())
    }

    #[cold]
    fn denied(&self, seen: &HttpAttributes<'_>, verdict: &Verdict) -> Response<Bytes> {
        let mut answer = if let Some(on_denied) = &self.on_denied {
            on_denied(seen, verdict)
        } else {
            self.form.answer(verdict, self.headers.hides_policy(), content_type(seen), accept(seen))
        };
        self.headers.write(verdict, self.now_unix_s(), answer.headers_mut());
        answer
    }

    #[cold]
    fn refuse(&self, seen: &HttpAttributes<'_>, busy: Busy) -> Response<Bytes> {
        match (busy, &self.on_overloaded) {
            (Busy::Client(too_many), _) => Denial::busy(too_many, content_type(seen)),
            (Busy::Service(full), Some(on_overloaded)) => on_overloaded(seen, full),
            (Busy::Service(_), None) => self.form.overloaded(content_type(seen), accept(seen)),
        }
    }

    #[cold]
    fn give_up<G: Gatekeeper>(
        &self,
        seen: &HttpAttributes<'_>,
        error: &Undecided,
        under_way: UnderWay,
    ) -> Course<G> {
        tracing::debug!(target: "tollgate::http", %error, "a request was not decided");
        let answer = match &self.on_undecided {
            Some(on_undecided) => on_undecided(seen, error),
            None => Some(Denial::undecided(content_type(seen))),
        };
        answer.map_or_else(|| Course::holding(under_way, self), |answer| Course::Answer(Box::new(answer)))
    }
}

/// Adds what was found to what is known of the request.
fn note(head: &mut Head, name: &str, found: Found) -> Result<(), Rejection> {
    if let Some(value) = found? {
        let context = head.extensions.remove::<RequestContext>().unwrap_or_default();
        head.extensions.insert(context.attribute(name, value));
    }
    Ok(())
}

fn accept<'r>(seen: &HttpAttributes<'r>) -> impl Iterator<Item = &'r [u8]> {
    seen.headers().get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes)
}

fn content_type<'r>(seen: &HttpAttributes<'r>) -> Option<&'r [u8]> {
    seen.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes)
}
