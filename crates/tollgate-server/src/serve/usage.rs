//! What identities have used: the record of it, and how it is told.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tollgate::usage::{RecordOptions, Usage, UseRecord, UseRow, csv};
use tollgate::{Clock, Gate, KeySeed, query_value};

use super::api::{self, App, refusal};
use super::changes::replace;
use super::store::{ServerStore, digits_of, seed_of};
use crate::cli::{Flush, UsageOptions};
use crate::load::Failure;

/// The file of the secret that keys and names are hashed under.
const SEED: &str = "seed";

/// How often to look whether the record can be written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The secret under which keys were hashed when the record was begun, if there is one.
pub(super) fn saved_seed(options: &UsageOptions) -> Result<Option<KeySeed>, Failure> {
    let Some(path) = options.usage_dir.as_ref().map(|directory| directory.join(SEED)) else {
        return Ok(None);
    };
    let wrong = |why: String| {
        Failure::Other(format!(
            "{}: {why}; it is written by the server itself: mend it, or move it away to begin anew",
            path.display()
        ))
    };
    match fs::read_to_string(&path) {
        Ok(digits) => seed_of(digits.trim()).map(Some).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The record, with what stands in its directory.
pub(super) fn open(options: &UsageOptions, seed: &KeySeed) -> Result<UseRecord, Failure> {
    let mut record = RecordOptions::default();
    record.rows_max = usize::try_from(options.usage_rows).unwrap_or(usize::MAX);
    record.flush_every = match options.usage_flush {
        Flush::Each => None,
        Flush::Every(every) => Some(every),
    };
    let Some(directory) = &options.usage_dir else { return Ok(UseRecord::new(record)) };
    let failed = |error: io::Error| Failure::Other(format!("--usage-dir: {error}"));
    let opened = UseRecord::open(directory, record).map_err(failed)?;
    save_seed(&directory.join(SEED), seed).map_err(failed)?;
    Ok(opened)
}

fn save_seed(path: &Path, seed: &KeySeed) -> io::Result<()> {
    let digits = digits_of(seed);
    if fs::read_to_string(path).is_ok_and(|saved| saved.trim() == digits) {
        return Ok(());
    }
    replace(path, format!("{digits}\n").as_bytes())
}

/// Has limits in memory go on where the record stands. A store that nodes share knows better.
pub(super) fn restore(gate: &Gate<ServerStore>) {
    if let (ServerStore::Memory(store), Some(record)) = (gate.store(), gate.use_record()) {
        let restored = record.restore(store, &gate.policies());
        if restored > 0 {
            tracing::info!(target: "tollgate::store", identities = restored, "quotas go on where the record of use stands");
        }
    }
}

/// Says in the log when the record cannot be written, and when it can again.
pub(super) async fn watch(app: Arc<App>) {
    let mut trouble = None;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let now = app.gate.use_record().and_then(UseRecord::trouble);
        match (&trouble, &now) {
            (None, Some(why)) => {
                tracing::error!(target: "tollgate::store", %why, "the record of use cannot be written; it is tried again");
            }
            (Some(_), None) => {
                tracing::info!(target: "tollgate::store", "the record of use is written again");
            }
            _ => {}
        }
        trouble = now;
    }
}

/// How much an identity has used of a period.
#[derive(Debug, Serialize)]
pub(super) struct UsageView {
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_name: Option<String>,
    period_start: String,
    period_end: String,
    limit: u64,
    used: u64,
    remaining: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        let (period_start, period_end) = usage.local;
        Self {
            policy: usage.policy,
            tier: usage.tier,
            limit_name: usage.limit_name,
            period_start,
            period_end,
            limit: usage.limit,
            used: usage.used,
            remaining: usage.limit.saturating_sub(usage.used),
        }
    }
}

/// A row of the record.
#[derive(Debug, Serialize)]
struct RowView {
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_name: Option<String>,
    /// None for those together for whom there was no room.
    identity: Option<String>,
    period_start: String,
    period_end: String,
    limit: u64,
    used: u64,
}

impl From<UseRow> for RowView {
    fn from(row: UseRow) -> Self {
        let (period_start, period_end) = row.local;
        Self {
            policy: row.policy,
            tier: row.tier,
            limit_name: row.limit_name,
            identity: row.identity,
            period_start,
            period_end,
            limit: row.limit,
            used: row.used,
        }
    }
}

/// The record, as a query asks for it.
pub(super) fn export(app: &App, query: &str) -> Response {
    let wrong = |message: &str| refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    let query = format!("?{query}");
    let asked = |name: &str| {
        let value = query_value(&query, name)?;
        Some(String::from_utf8_lossy(&value).into_owned())
    };
    let now = app.clock.now();
    let (is_wanted, format): (fn(bool) -> bool, _) = match (asked("periods").as_deref(), asked("format")) {
        (None | Some("all"), format) => (|_| true, format),
        (Some("current"), format) => (|is_over| !is_over, format),
        (Some("ended"), format) => (|is_over| is_over, format),
        _ => return wrong("`periods` is `all`, `current` or `ended`"),
    };
    let policy = asked("policy");
    let record = app.gate.use_record();
    let mut rows = record.map(UseRecord::rows).unwrap_or_default();
    rows.retain(|row| {
        is_wanted(row.end <= now) && policy.as_deref().is_none_or(|policy| policy == row.policy)
    });
    match format.as_deref() {
        None | Some("json") => {
            let rows: Vec<RowView> = rows.into_iter().map(RowView::from).collect();
            let trouble = record.and_then(UseRecord::trouble);
            api::json(StatusCode::OK, &json!({ "rows": rows, "trouble": trouble }))
        }
        Some("csv") => {
            let headers = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
            ];
            (headers, csv(&rows)).into_response()
        }
        Some(_) => wrong("`format` is `json` or `csv`"),
    }
}
