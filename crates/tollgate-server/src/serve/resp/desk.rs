//! Where sessions' questions are answered: by the gate, its store, and what the server knows of itself.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use tollgate::{
    Clock, Consistency, Decision, Group, Hit, LocalStore, MemoryStore, Sharing, Store, StoreError, Verdict,
};
use tracing::Instrument;

use super::commands::{self, Numbers};
use super::policy::{self, Kind, Question};
use super::reply::{Protocol, Replies};
use super::session::{Ask, Rules, Topic};
use super::throttle::Throttle;
use crate::serve::api::App;
use crate::serve::net::Seats;
use crate::serve::otlp::spans;
use crate::serve::permits;
use crate::serve::store::log_failure;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) app: Arc<App>,
    pub(super) rules: Rules,
    pub(super) seats: Arc<Seats>,
}

/// How decisions went, to be counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) errors: u64,
}

impl Desk {
    pub(super) fn new(app: Arc<App>, seats: Arc<Seats>, password: Option<&str>) -> Self {
        let rules = Rules::new(app.seed, password);
        Self { app, rules, seats }
    }

    /// The store, if it answers at once.
    pub(super) fn local(&self) -> Option<&MemoryStore> {
        self.app.decides_at_once().then(|| self.app.gate.store().local())
    }

    /// Answers a call by the memory store.
    #[inline]
    pub(super) fn throttle(
        store: &MemoryStore,
        throttle: &Throttle,
        tally: &mut Tally,
        replies: &mut Replies,
    ) {
        let hit = Hit::new(throttle.id, throttle.key, &throttle.limit).with_cost(throttle.cost);
        tell(throttle, &store.acquire_one(&hit).decision, tally, replies);
    }

    /// Answers a question whose store is this process.
    pub(super) fn answer_now(&self, ask: &Ask, protocol: Protocol, tally: &mut Tally, replies: &mut Replies) {
        // Such a store's futures are ready at once.
        let (answer, more) = self.answer(ask, protocol).now_or_never().unwrap_or_else(|| {
            let mut replies = Replies::default();
            replies.error("ERR the store did not answer");
            (replies, Tally { errors: 1, ..Tally::default() })
        });
        replies.0.extend_from_slice(&answer.0);
        tally.add(more);
    }

    /// Answers a question by any store.
    pub(super) async fn answer(&self, ask: &Ask, protocol: Protocol) -> (Replies, Tally) {
        let span = spans::resp(ask.name());
        let (replies, tally) = self.answer_unseen(ask, protocol).instrument(span.clone()).await;
        if tally.errors > 0 {
            span.record("otel.status_code", "ERROR");
        }
        (replies, tally)
    }

    async fn answer_unseen(&self, ask: &Ask, protocol: Protocol) -> (Replies, Tally) {
        let (mut replies, mut tally) = (Replies::default(), Tally::default());
        let failed = match ask {
            Ask::Throttle(throttle) => match self.decided(throttle).await {
                Ok(decision) => {
                    spans::result(decision.allowed);
                    tell(throttle, &decision, &mut tally, &mut replies);
                    None
                }
                Err(error) => Some(error),
            },
            Ask::Policy(question) => self.policy(question, protocol, &mut replies).await.err(),
            Ask::Permit(wish) => wish.fulfil(permits::Desk(&self.app), &mut replies).await.err(),
        };
        if let Some(error) = failed {
            tally.errors += 1;
            undecided(&error, &mut replies);
        }
        (replies, tally)
    }

    async fn decided(&self, throttle: &Throttle) -> Result<Decision, StoreError> {
        let hits = [Hit::new(throttle.id, throttle.key, &throttle.limit).with_cost(throttle.cost)];
        // Limits that come with calls are too many, and change too often, to hold units of them ahead.
        let sharing = Sharing { consistency: Some(Consistency::Strict), ..Sharing::DEFAULT };
        let group = Group { sharing, ..Group::all(&hits) };
        let answer = Store::acquire(self.app.gate.store(), &[group]).await?;
        let nothing = || StoreError::Defect("it answered with nothing".to_owned());
        answer.outcomes.first().map(|outcome| outcome.decision).ok_or_else(nothing)
    }

    async fn policy(
        &self,
        question: &Question,
        protocol: Protocol,
        replies: &mut Replies,
    ) -> Result<(), StoreError> {
        let (gate, now) = (&self.app.gate, self.app.clock.now());
        match question.kind {
            Kind::Check => {
                let started = Instant::now();
                let verdict: Verdict = gate.check_async(now, &question.request, question.cost).await?;
                spans::result(verdict.is_allowed());
                self.app.decided(&verdict, verdict.is_allowed(), &question.request, started.elapsed());
                policy::write(&verdict, protocol, replies);
            }
            Kind::Peek => {
                let verdict = gate.peek_async(now, &question.request, question.cost).await?;
                policy::write(&verdict, protocol, replies);
            }
            Kind::Reset => {
                let names = gate.reset_async(now, &question.request, None).await?;
                tracing::info!(target: "tollgate::audit", policies = ?names, "reset a key");
                replies.array(names.len());
                for name in names {
                    replies.bulk(name.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Says what the server knows of itself.
    pub(super) fn tell(&self, topic: &Topic, protocol: Protocol, replies: &mut Replies) {
        match topic {
            Topic::Info(sections) => replies.text(protocol, &commands::info(&self.numbers(), sections)),
            Topic::Status => self.status(protocol, replies),
        }
    }

    fn numbers(&self) -> Numbers {
        let app = &self.app;
        let (allowed, denied, errors) = app.metrics.totals();
        Numbers {
            uptime_s: app.started.elapsed().as_secs(),
            connections: self.seats.taken(),
            connections_max: self.seats.most(),
            allowed,
            denied,
            errors,
            keys: app.gate.store().local().len(),
        }
    }

    fn status(&self, protocol: Protocol, replies: &mut Replies) {
        let (app, numbers) = (&self.app, self.numbers());
        let store = app.gate.store();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let counts = [
            ("uptime_seconds", numbers.uptime_s),
            ("draining", u64::from(*app.draining.borrow())),
            ("allowed", numbers.allowed),
            ("denied", numbers.denied),
            ("errors", numbers.errors),
            ("active_policies", app.gate.status().active_policies),
            ("connections", count(numbers.connections)),
            ("store_available", u64::from(store.is_available().unwrap_or(true))),
            ("keys", count(numbers.keys)),
            ("capacity", count(app.capacity)),
        ];
        replies.map(protocol, counts.len() + 2);
        for (name, value) in [("version", env!("CARGO_PKG_VERSION")), ("store", store.backend())] {
            replies.bulk(name.as_bytes());
            replies.bulk(value.as_bytes());
        }
        for (name, value) in counts {
            replies.bulk(name.as_bytes());
            replies.integer(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

impl Tally {
    pub(super) const fn add(&mut self, other: Self) {
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.errors += other.errors;
    }
}

#[inline]
fn tell(throttle: &Throttle, decision: &Decision, tally: &mut Tally, replies: &mut Replies) {
    *(if decision.allowed { &mut tally.allowed } else { &mut tally.denied }) += 1;
    replies.five(throttle.answer(decision));
}

/// The answer to a question that the store did not decide: no denial.
fn undecided(error: &StoreError, replies: &mut Replies) {
    log_failure(error);
    replies.error(&match error {
        StoreError::Unavailable(_) => format!("UNAVAILABLE {error}"),
        _ => format!("ERR {error}"),
    });
}
