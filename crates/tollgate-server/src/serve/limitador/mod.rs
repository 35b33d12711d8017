//! Limitador's limits, and its API over HTTP.
//!
//! * [`routes`]: the API.
//! * [`record`]: which counters there are.
//! * `openapi.json`: what the API says of itself.

mod record;
mod routes;

use std::fmt::Write;

use tollgate::{
    CounterStatus, CountersAnswer, Entries, LimitadorCounter, LimitadorLimits, StoreError, check_counters,
    peek_counters, report_counters,
};

use self::record::Record;
pub(super) use self::routes::routes;
use crate::serve::api::App;

/// What the server decides by, and what it remembers for those who ask which counters there are.
#[derive(Debug)]
pub(super) struct Limitador {
    limits: LimitadorLimits,
    record: Record,
}

/// What was asked of counters, and answered.
#[derive(Debug)]
pub(super) struct Asked<'l> {
    counters: Vec<LimitadorCounter<'l>>,
    answer: CountersAnswer,
}

impl Limitador {
    pub(super) fn new(limits: LimitadorLimits) -> Self {
        Self { limits, record: Record::default() }
    }

    /// What follows former limits: it remembers the counters that are still counted.
    pub(super) fn following(former: Option<&Self>, limits: LimitadorLimits) -> Self {
        let record = former.map(|former| former.record.following(&former.limits, &limits));
        Self { limits, record: record.unwrap_or_default() }
    }

    pub(super) const fn limits(&self) -> &LimitadorLimits {
        &self.limits
    }

    /// Decides a request, and takes its cost from all counters or from none.
    pub(super) async fn check(
        &self,
        app: &App,
        namespace: &str,
        descriptors: &[Entries<'_>],
        cost: u32,
    ) -> Result<Asked<'_>, StoreError> {
        let counters = self.limits.find(namespace, descriptors);
        let answer = check_counters(app.gate.store(), &counters, cost).await?;
        if cost > 0 && answer.allowed {
            self.record.note(&counters);
        }
        Ok(Asked { counters, answer })
    }

    /// Says what [`check`](Self::check) would.
    pub(super) async fn peek(
        &self,
        app: &App,
        namespace: &str,
        descriptors: &[Entries<'_>],
        cost: u32,
    ) -> Result<Asked<'_>, StoreError> {
        let counters = self.limits.find(namespace, descriptors);
        let answer = peek_counters(app.gate.store(), &counters, cost).await?;
        Ok(Asked { counters, answer })
    }

    /// Charges all counters as far as they have anything left.
    pub(super) async fn report(
        &self,
        app: &App,
        namespace: &str,
        descriptors: &[Entries<'_>],
        cost: u32,
    ) -> Result<Asked<'_>, StoreError> {
        let counters = self.limits.find(namespace, descriptors);
        let answer = report_counters(app.gate.store(), &counters, cost).await?;
        if cost > 0 {
            self.record.note(&counters);
        }
        Ok(Asked { counters, answer })
    }
}

impl Asked<'_> {
    pub(super) const fn allowed(&self) -> bool {
        self.answer.allowed
    }

    fn statuses(&self) -> impl Iterator<Item = (&LimitadorCounter<'_>, &CounterStatus)> {
        self.counters.iter().zip(&self.answer.statuses)
    }

    /// Of the counters for which this holds, the one that denies, or else has the least left.
    pub(super) fn tightest(
        &self,
        concerns: impl Fn(&LimitadorCounter<'_>) -> bool,
    ) -> Option<(&LimitadorCounter<'_>, &CounterStatus)> {
        self.statuses()
            .filter(|(counter, _)| concerns(counter))
            .min_by_key(|(_, status)| (status.is_within, status.remaining))
    }

    /// The values of the headers that say how much there is, how much is left, and in how many seconds it is whole again, as
    /// Limitador writes them: `10, 10;w=60;name="x", 100;w=3600`, the tightest limit first.
    pub(super) fn header_values(&self) -> Option<[String; 3]> {
        let mut all: Vec<_> = self.statuses().collect();
        all.sort_by_key(|(_, status)| (status.is_within, status.remaining));
        let (counter, status) = all.first()?;
        let mut limits = counter.limit.max_value().to_string();
        for (counter, _) in &all {
            // Writing to a string cannot fail.
            let _ = write!(limits, ", {};w={}", counter.limit.max_value(), counter.limit.seconds());
            if let Some(name) = counter.limit.name() {
                let _ = write!(limits, ";name=\"{}\"", in_quotes(name));
            }
        }
        Some([limits, status.remaining.to_string(), status.reset_after.as_secs_ceil().to_string()])
    }
}

/// A name as it may stand in quotes in a header: what is no printable ASCII cannot be said there.
fn in_quotes(name: &str) -> String {
    let safe = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    name.chars().map(safe).collect()
}
