//! What a replay found, and the three forms it is handed over in: text for a terminal, one
//! self-contained HTML page, and JSON.
//!
//! The report is plain data. It knows neither policies nor logs, only their names and counts, and
//! it holds no clock: the same report always renders to the same bytes, so that two runs can be
//! compared with `diff`.
//!
//! Names, keys and log excerpts come from outside, often from whoever sent the requests. Each
//! renderer passes them through [`safe`] before they reach a terminal or a browser.

mod axis;
mod chart;
mod html;
mod text;
mod words;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

pub(crate) use html::render_html;
pub(crate) use text::render_text;

use crate::text::{format, safe};

/// The JSON form of `report`: indented, with a newline at its end.
///
/// Nothing is cut or rounded here: it holds every policy and every bucket, where the other two
/// forms show the hardest-hit ones.
pub(crate) fn to_json(report: &Report) -> String {
    // A value can fail to have a JSON form by a map key that is no string, or by its own
    // `Serialize` saying so: a report has neither.
    let mut json = serde_json::to_string_pretty(report)
        .unwrap_or_else(|error| unreachable!("a report is plain data and always has a JSON form: {error}"));
    json.push('\n');
    json
}

/// Everything a replay of access logs against a policy file found out.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The policy file, as it was named on the command line.
    pub policy_file: String,
    /// The logs, as they were named on the command line and in the order they were read.
    pub logs: Vec<String>,
    /// How the lines of the logs fared.
    pub lines: Lines,
    /// The first few lines that could not be read.
    pub bad_examples: Vec<BadLine>,
    /// The time from the first request to the last; `None` without requests.
    pub span: Option<Span>,
    /// The outcome over all requests.
    pub totals: Totals,
    /// The outcome for each policy of the file, those that matched nothing included.
    pub policies: Vec<PolicyReport>,
    /// The keys that would have been denied most, most denied first, cut to the length asked for.
    pub hardest_keys: Vec<KeyReport>,
    /// Requests over time.
    pub timeline: Timeline,
}

/// How many lines of the logs were read, and what became of them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Lines {
    /// Lines read, of any kind.
    pub read: u64,
    /// Lines that held a request.
    pub requests: u64,
    /// Empty lines.
    pub blank: u64,
    /// Lines that could not be read as a request, and were left out.
    pub bad: u64,
    /// Requests that stood out of order in the log and were put back in order.
    pub out_of_order: u64,
    /// Requests older than the reorder window, which were decided as if they had come at the
    /// replay clock's reading.
    pub late: u64,
    /// How often a line was so much older that another log must begin there; the replay started
    /// again with it.
    pub restarts: u64,
}

/// A line that could not be read as a request.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BadLine {
    /// The log it stands in.
    pub file: String,
    /// Its number, from 1.
    pub line: u64,
    /// Why it could not be read, in a few words.
    pub reason: String,
    /// Its beginning.
    pub excerpt: String,
}

/// The time the requests cover, in whole seconds since 1970-01-01 00:00:00 UTC.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Span {
    /// The time of the earliest request.
    pub first_unix_seconds: u64,
    /// The time of the latest request.
    pub last_unix_seconds: u64,
}

/// The outcome over all requests. `requests` is the sum of `admitted` and `denied`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Requests decided.
    pub requests: u64,
    /// Requests that would have passed, including those that matched no policy.
    pub admitted: u64,
    /// Requests that would have been denied.
    pub denied: u64,
    /// Requests to which no policy applied. They are among the admitted.
    pub unmatched: u64,
    /// Requests that a shadow policy would have denied, had it been enforced.
    pub shadow_denied: u64,
}

impl Totals {
    /// The part of all requests that would have been denied, from 0 to 1; `None` without requests.
    pub(crate) fn denied_share(&self) -> Option<f64> {
        format::share(self.denied, self.requests)
    }
}

/// The outcome for one policy.
#[derive(Debug, Clone)]
pub(crate) struct PolicyReport {
    /// Its name in the policy file.
    pub name: String,
    /// Its priority in the policy file.
    pub priority: i64,
    /// Its limits, in words: `5/minute fixed window`.
    pub limits: Vec<String>,
    /// Whether it only watches: what it would deny is counted, but the request passes.
    pub shadow: bool,
    /// Whether it is switched on.
    pub enabled: bool,
    /// How many distinct keys it counted.
    pub keys: u64,
    /// Requests it applied to: the sum of `admitted` and `denied`.
    pub matched: u64,
    /// Requests it would have let pass.
    pub admitted: u64,
    /// Requests it would have denied.
    pub denied: u64,
    /// Other numbers for its limits that would fit this traffic.
    pub suggestions: Vec<Suggestion>,
}

impl PolicyReport {
    /// The part of the matched requests that would have been denied, from 0 to 1; `None` where the
    /// policy matched nothing.
    pub(crate) fn denied_share(&self) -> Option<f64> {
        format::share(self.denied, self.matched)
    }
}

/// Numbers that would have denied less, or no more than they must, on the replayed traffic.
///
/// A number is `None` where none was found: there were too few requests, or none that is high
/// enough.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Suggestion {
    /// The limit spoken of, in words, as in [`PolicyReport::limits`].
    pub limit: String,
    /// Requests it allows in each period now.
    pub current: u64,
    /// The period, in words that follow "per": `minute`, `10s`.
    pub period: String,
    /// How many requests this limit saw.
    pub requests: u64,
    /// The smallest number a period that would have denied no request.
    pub denies_nobody: Option<u64>,
    /// The smallest number a period that would have denied at most one request in 1,000.
    pub denies_0_1_percent: Option<u64>,
    /// The smallest number a period that would have denied at most one request in 100.
    pub denies_1_percent: Option<u64>,
}

/// The outcome for one key of one policy.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeyReport {
    /// The name of the policy that counted the key.
    pub policy: String,
    /// The key: an address, an account, whatever the policy counts by.
    pub key: String,
    /// The key's requests to which the policy applied.
    pub matched: u64,
    /// Those of them that would have been denied.
    pub denied: u64,
    /// The time of the first denial, in seconds since 1970-01-01 00:00:00 UTC.
    pub first_denied_unix_seconds: u64,
    /// The time of the last denial, in seconds since 1970-01-01 00:00:00 UTC.
    pub last_denied_unix_seconds: u64,
}

/// Requests over time, in buckets of equal length. The two lists have the same length.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Timeline {
    /// Where the first bucket begins, in seconds since 1970-01-01 00:00:00 UTC.
    pub start_unix_seconds: u64,
    /// The length of each bucket, in seconds.
    pub bucket_seconds: u64,
    /// Requests admitted in each bucket.
    pub admitted: Vec<u64>,
    /// Requests denied in each bucket.
    pub denied: Vec<u64>,
}

// The two below are written out because `denied_share` is worked out, not stored, and a reader of
// the JSON (a `jq` line in a CI job, say) should not have to divide.

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Totals", 6)?;
        map.serialize_field("requests", &self.requests)?;
        map.serialize_field("admitted", &self.admitted)?;
        map.serialize_field("denied", &self.denied)?;
        map.serialize_field("denied_share", &self.denied_share())?;
        map.serialize_field("unmatched", &self.unmatched)?;
        map.serialize_field("shadow_denied", &self.shadow_denied)?;
        map.end()
    }
}

impl Serialize for PolicyReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("PolicyReport", 11)?;
        map.serialize_field("name", &self.name)?;
        map.serialize_field("priority", &self.priority)?;
        map.serialize_field("limits", &self.limits)?;
        map.serialize_field("shadow", &self.shadow)?;
        map.serialize_field("enabled", &self.enabled)?;
        map.serialize_field("keys", &self.keys)?;
        map.serialize_field("matched", &self.matched)?;
        map.serialize_field("admitted", &self.admitted)?;
        map.serialize_field("denied", &self.denied)?;
        map.serialize_field("denied_share", &self.denied_share())?;
        map.serialize_field("suggestions", &self.suggestions)?;
        map.end()
    }
}
