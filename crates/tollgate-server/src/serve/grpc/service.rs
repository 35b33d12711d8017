//! The methods.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tollgate::{Ask, Clock, StoreError, Timestamp, Verdict};
use tonic::{Response, Status};

use super::counters::answer_by_limits;
use super::messages::{Code, RateLimitRequest, RateLimitResponse};
use super::request::{Described, Hits, ask, checked};
use super::rules::answer_by;
use super::status::Answers;
use crate::serve::api::App;
use crate::serve::otlp::spans;
use crate::serve::store::log_failure;

/// What the methods share.
#[derive(Debug)]
pub(super) struct RateLimits {
    pub(super) app: Arc<App>,
    pub(super) answers: Answers,
}

type Answered = Result<Response<RateLimitResponse>, Status>;

/// The descriptors of a request as policies see them. Most have one or two.
type AllDescribed<'m> = SmallVec<[Described<'m>; 2]>;

/// What is done with a request. All but deciding is boxed, so that what is asked all the time is small to carry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Course {
    /// It is decided.
    Decide,
    /// It is looked at.
    Look,
    /// It is charged for what it has cost already.
    Charge,
}

impl RateLimits {
    /// Envoy's `ShouldRateLimit`: all descriptors are within their limits, and each takes its hits, or none does.
    pub(super) async fn should_rate_limit(&self, message: RateLimitRequest) -> Answered {
        spans::domain(&message.domain);
        let answered = self.answer(&message, Course::Decide).await;
        if let Ok(answer) = &answered {
            spans::result(answer.get_ref().overall_code != Code::OverLimit as i32);
        }
        answered
    }

    /// Kuadrant's `CheckRateLimit`: what `ShouldRateLimit` would say. Nothing is taken.
    pub(super) async fn check(&self, message: RateLimitRequest) -> Answered {
        self.answer(&message, Course::Look).await
    }

    /// Kuadrant's `Report`: charges what a request has cost in the end, as far as there is anything left. It is answered with
    /// OK whatever is left, as there is nothing to be refused any more; the statuses say more.
    pub(super) async fn report(&self, message: RateLimitRequest) -> Answered {
        let mut answer = self.answer(&message, Course::Charge).await?;
        let code = &mut answer.get_mut().overall_code;
        if *code == Code::OverLimit as i32 {
            *code = Code::Ok.into();
        }
        Ok(answer)
    }

    async fn answer(&self, message: &RateLimitRequest, course: Course) -> Answered {
        if let Some(limitador) = self.app.limitador.load_full() {
            let headers = self.answers.headers();
            let answer = Box::pin(answer_by_limits(&limitador, &self.app, message, course, headers)).await;
            return answer.map(Response::new).inspect_err(|_| self.app.metrics.undecided());
        }
        checked(message).inspect_err(|_| self.app.metrics.undecided())?;
        if let Some(rules) = self.app.rules.load_full() {
            let answer = answer_by(&rules, &self.app, message, course).await.map_err(|error| {
                self.app.metrics.undecided();
                undecided(&error)
            })?;
            return Ok(Response::new(self.answers.with_headers(answer)));
        }
        let verdicts = self.verdicts(message, course).await.map_err(|error| {
            self.app.metrics.undecided();
            undecided(&error)
        })?;
        Ok(Response::new(self.answers.response(&message.descriptors, &verdicts)))
    }

    async fn verdicts(&self, message: &RateLimitRequest, course: Course) -> Result<Vec<Verdict>, StoreError> {
        let gate = &self.app.gate;
        let hits: SmallVec<[Hits; 2]> =
            message.descriptors.iter().map(|descriptor| Hits::of(message, descriptor)).collect();
        let described: AllDescribed<'_> =
            message.descriptors.iter().map(|descriptor| Described::new(message, descriptor)).collect();
        let asks: SmallVec<[_; 2]> = described
            .iter()
            .zip(&message.descriptors)
            .zip(&hits)
            .map(|((described, descriptor), hits)| ask(described, descriptor, *hits))
            .collect();
        let started = Instant::now();
        let now = self.app.clock.now();
        let mut verdicts = match course {
            Course::Decide => gate.check_together_async(now, &asks).await?,
            Course::Look => return Box::pin(gate.peek_together_async(now, &asks)).await,
            Course::Charge => Box::pin(gate.charge_async(now, &asks)).await?,
        };
        if let Course::Decide = course {
            let took = started.elapsed();
            let passed = verdicts.iter().all(Verdict::is_allowed);
            for (verdict, described) in verdicts.iter().zip(&described) {
                self.app.decided(verdict, passed, described, took);
            }
        }
        if hits.iter().any(|hits| matches!(hits, Hits::GiveBack(_))) {
            Box::pin(self.give_back(now, &mut verdicts, &asks, &hits)).await?;
        }
        Ok(verdicts)
    }

    /// Gives back what requests say that is to go back.
    ///
    /// In a second step: a store decides hits and takes back hits, but not both at once. It gives back to the window that was
    /// looked at, so between the two nothing can be given back that is not spent.
    async fn give_back(
        &self,
        now: Timestamp,
        verdicts: &mut [Verdict],
        asks: &[Ask<&Described<'_>>],
        hits: &[Hits],
    ) -> Result<(), StoreError> {
        let gate = &self.app.gate;
        for ((verdict, ask), hits) in verdicts.iter_mut().zip(asks).zip(hits) {
            let Hits::GiveBack(units) = hits else { continue };
            // If the others were denied, it was not booked, and nothing goes back either.
            if verdict.taken().next().is_none() {
                continue;
            }
            gate.give_back_async(verdict, *units).await?;
            if let Some(after) = gate.peek_together_async(now, &[*ask]).await?.pop() {
                *verdict = after;
            }
        }
        Ok(())
    }
}

/// The status for a request that the store did not decide: an error, so that Envoy's `failure_mode_deny` rules.
pub(super) fn undecided(error: &StoreError) -> Status {
    log_failure(error);
    match error {
        StoreError::Unavailable(_) => Status::unavailable(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
