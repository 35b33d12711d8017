//! What is in force, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tollgate::{Ban, Policy, PolicyStatistics, Timestamp};

use crate::cli::ServeOptions;
use crate::serve::api::App;
use crate::serve::book::Origin;

/// A policy in force.
#[derive(Debug, Serialize)]
pub(super) struct PolicyInForce {
    name: String,
    /// `file`, or `runtime` if it was set while the server ran.
    origin: &'static str,
    /// What can be sent back to set it.
    definition: Value,
    /// Requests that it applied to, and how many it did not admit.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<u64>,
}

impl PolicyInForce {
    pub(super) fn new(policy: &Policy, origin: Origin) -> Self {
        let definition = policy.definition().and_then(|text| serde_json::from_str(text).ok());
        let origin = match origin {
            Origin::File => "file",
            Origin::Runtime => "runtime",
        };
        Self {
            name: policy.name().to_owned(),
            origin,
            definition: definition.unwrap_or(Value::Null),
            matched: None,
            denied: None,
        }
    }

    fn with_counts(mut self, counts: &PolicyStatistics) -> Self {
        (self.matched, self.denied) = (Some(counts.matched), Some(counts.denied));
        self
    }
}

/// All policies in force.
pub(super) fn policies(app: &App) -> Vec<PolicyInForce> {
    let (set, status, changes) = (app.gate.policies(), app.gate.status(), app.book.changes());
    let runtime: std::collections::HashSet<&str> = changes.names().collect();
    set.policies()
        .enumerate()
        .map(|(index, policy)| {
            let origin = if runtime.contains(policy.name()) { Origin::Runtime } else { Origin::File };
            let view = PolicyInForce::new(policy, origin);
            // They may have been replaced in between.
            match status.policies.get(index).filter(|counts| counts.name == policy.name()) {
                Some(counts) => view.with_counts(counts),
                None => view,
            }
        })
        .collect()
}

/// A ban.
#[derive(Debug, Serialize)]
pub(super) struct BanView {
    policy: String,
    /// The hash of what is banned: bans are lifted by it.
    key: String,
    left_ms: u64,
}

impl BanView {
    pub(super) fn new(ban: &Ban, now: Timestamp) -> Self {
        Self {
            policy: ban.policy.clone(),
            key: format!("{:032x}", ban.key.0),
            left_ms: ban.until.since(now).as_nanos().div_ceil(1_000_000),
        }
    }
}

/// What the server was started with, but for secrets.
#[derive(Debug, Serialize)]
// Each is an answer of its own.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Settings {
    listen: String,
    grpc: String,
    resp: String,
    admin: String,
    resp_password: bool,
    admin_token: bool,
    tls: bool,
    mutual_tls: bool,
    capacity: u32,
    overflow: String,
    watch: String,
    log: String,
    audit_log: Option<String>,
    audit_sample: f64,
    usage_dir: Option<String>,
    usage_flush: String,
    usage_rows: u32,
}

impl Settings {
    pub(super) fn of(options: &ServeOptions) -> Self {
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let access = &options.admin;
        Self {
            listen: options.listen.to_string(),
            grpc: options.grpc.to_string(),
            resp: options.resp.resp.to_string(),
            admin: access.admin.to_string(),
            resp_password: options.resp.resp_password.as_ref().is_some_and(|password| !password.is_empty()),
            admin_token: access.admin_token.as_ref().is_some_and(|token| !token.is_empty())
                || access.admin_token_file.is_some(),
            tls: options.tls.cert.is_some(),
            mutual_tls: options.tls.client_ca.is_some(),
            capacity: options.capacity,
            overflow: format!("{:?}", options.overflow).to_lowercase(),
            watch: options.watch.to_string(),
            log: options.logs.log.clone(),
            audit_log: path(&access.audit_log),
            audit_sample: access.audit_sample,
            usage_dir: path(&options.usage.usage_dir),
            usage_flush: options.usage.usage_flush.to_string(),
            usage_rows: options.usage.usage_rows,
        }
    }
}

/// The configuration in force.
#[derive(Debug, Serialize)]
pub(super) struct ConfigView<'s> {
    version: &'static str,
    policy_file: String,
    /// When what is in force was loaded.
    loaded_unix_s: u64,
    /// What is wrong with the files as they are now, if they were not loaded for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_unix_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    policies: usize,
    rules: usize,
    /// The names of policies that were set, and taken out, at run time.
    set: Vec<String>,
    removed: Vec<String>,
    kept_in: Option<String>,
    store: String,
    settings: &'s Settings,
}

impl<'s> ConfigView<'s> {
    pub(super) fn new(app: &App, settings: &'s Settings) -> Self {
        let (last, changes) = (app.book.last(), app.book.changes());
        let (failed_at, failure) = last.failure.unzip();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            policy_file: app.book.name(),
            loaded_unix_s: unix_s(last.loaded_at),
            failed_unix_s: failed_at.map(unix_s),
            failure,
            policies: app.gate.policies().policies().len(),
            rules: app.rules.load().as_ref().map_or(0, |rules| rules.rules().len()),
            set: changes.names().map(str::to_owned).collect(),
            removed: changes.removed().iter().cloned().collect(),
            kept_in: app.book.kept_in().map(|path| path.display().to_string()),
            store: app.gate.store().to_string(),
            settings,
        }
    }
}

fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
