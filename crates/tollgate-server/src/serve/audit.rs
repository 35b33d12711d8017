//! The audit log: who has changed what, and a share of the decisions, as lines of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use tollgate::{Attributes, Verdict};

/// How many lines may wait to be written. Decisions beyond are not logged, but counted.
const WAITING_MAX: usize = 8_192;

/// The audit log. Without a file, what administrators do is in the server's own log only.
#[derive(Debug)]
pub(super) struct Audit {
    writer: Option<Writer>,
    /// Of a million decisions, so many are logged.
    parts_per_million: u64,
    decisions: AtomicU64,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Writer {
    /// Behind a lock, so that the end can take it away.
    lines: Mutex<Option<SyncSender<Line>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    reopen: Arc<AtomicBool>,
}

type Line = String;

/// What a line of a decision says.
#[derive(Serialize)]
struct Decided<'v> {
    unix_ms: u64,
    event: &'static str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'v str>,
    /// What the request was counted by; secrets are veiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The hash of it, by which lines of one key are told from those of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<String>,
    method: &'v str,
    path: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Audit {
    /// A log in this file, if any, of this share of all decisions, from 0 to 1.
    pub(super) fn open(file: Option<&Path>, share: f64) -> Result<Self, String> {
        let lost = Arc::new(AtomicU64::new(0));
        let writer = file.map(Writer::start).transpose()?;
        // A share is between 0 and 1.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let parts_per_million = (share.clamp(0.0, 1.0) * 1e6).round() as u64;
        Ok(Self { writer, parts_per_million, decisions: AtomicU64::new(0), lost })
    }

    /// Notes what an administrator did, or tried to do.
    pub(super) fn administered(&self, who: &str, what: &str, of: &Value, outcome: &str) {
        tracing::info!(target: "tollgate::audit", who, what, %of, outcome, "administration");
        let line = json!({
            "unix_ms": unix_ms(), "event": "administration", "who": who, "what": what, "of": of, "outcome": outcome,
        });
        self.write(line.to_string());
    }

    /// Notes a decision, if it is one of those that are logged.
    #[inline]
    pub(super) fn decided(&self, verdict: &Verdict, request: &impl Attributes) {
        if self.writer.is_some() && self.parts_per_million > 0 && self.is_sampled() {
            self.note(verdict, request);
        }
    }

    /// Spreads the share evenly over all decisions.
    fn is_sampled(&self) -> bool {
        // Relaxed: each decision gets a number of its own.
        let number = self.decisions.fetch_add(1, Ordering::Relaxed);
        let share = |number: u64| u128::from(number) * u128::from(self.parts_per_million) / 1_000_000;
        share(number + 1) > share(number)
    }

    fn note(&self, verdict: &Verdict, request: &impl Attributes) {
        let (deciding, policies) = (verdict.deciding(), verdict.asked().policies());
        let text = |name| request.get(&name).map(|value| String::from_utf8_lossy(&value).into_owned());
        let finite = |count: u64| (count != u64::MAX).then_some(count);
        let method = text(tollgate::Attribute::Method).unwrap_or_default();
        let path = request.path().split('?').next().unwrap_or_default();
        let line = Decided {
            unix_ms: unix_ms(),
            event: "decision",
            allowed: verdict.is_allowed(),
            policy: deciding.as_ref().map(|policy| policy.policy.name()),
            key: deciding.as_ref().and_then(|policy| policies.describe_key(policy.index, request)),
            key_hash: deciding
                .as_ref()
                .and_then(|policy| verdict.key_of(policy.index))
                .map(|key| format!("{:032x}", key.0)),
            method: &method,
            path,
            limit: deciding.as_ref().and_then(|policy| finite(policy.limit())),
            remaining: deciding.as_ref().and_then(|policy| finite(policy.remaining())),
            retry_after_ms: deciding
                .as_ref()
                .filter(|_| !verdict.is_allowed())
                .and_then(|policy| policy.retry_after.nanos())
                .map(|wait| wait.as_nanos().div_ceil(1_000_000)),
        };
        // Texts and numbers can always be written.
        self.write(serde_json::to_string(&line).unwrap_or_default());
    }

    fn write(&self, line: Line) {
        let Some(writer) = &self.writer else { return };
        let lines = writer.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = lines.as_ref().map(|lines| lines.try_send(line));
        if let Some(Err(TrySendError::Full(_))) = sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were not written, because the file was too slow.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Opens the file anew with the next line, as it was moved away.
    pub(super) fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Writes what waits; nothing more is logged then.
    pub(super) fn close(&self) {
        let Some(writer) = &self.writer else { return };
        drop(writer.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = writer.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // If it has failed, it has said so.
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn start(path: &Path) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("--audit-log: cannot write {}: {error}", path.display());
        let file = open(path).map_err(cannot)?;
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let reopen = Arc::new(AtomicBool::new(false));
        let (path, is_moved): (PathBuf, _) = (path.to_owned(), Arc::clone(&reopen));
        let thread = std::thread::Builder::new()
            .name("tollgate-audit".to_owned())
            .spawn(move || run(&path, file, &receiver, &is_moved))
            .map_err(|error| format!("--audit-log: {error}"))?;
        Ok(Self { lines: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), reopen })
    }
}

fn open(path: &Path) -> io::Result<BufWriter<File>> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(BufWriter::new)
}

/// Writes lines until there are no more to come.
fn run(path: &Path, mut file: BufWriter<File>, lines: &Receiver<Line>, reopen: &AtomicBool) {
    let mut is_failing = false;
    while let Ok(first) = lines.recv() {
        if reopen.swap(false, Ordering::Relaxed) {
            match open(path) {
                Ok(new) => file = new,
                Err(error) => {
                    tracing::error!(target: "tollgate::audit", %error, path = %path.display(), "cannot open the audit log anew");
                }
            }
        }
        let mut result = writeln!(file, "{first}");
        while let Ok(line) = lines.try_recv() {
            result = result.and_then(|()| writeln!(file, "{line}"));
        }
        let result = result.and_then(|()| file.flush());
        if let (Err(error), false) = (&result, is_failing) {
            tracing::error!(target: "tollgate::audit", %error, path = %path.display(), "the audit log cannot be written");
        }
        is_failing = result.is_err();
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_kept_evenly() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        for (share, expected) in [(0.0, 0), (0.01, 100), (0.3, 3_000), (1.0, 10_000)] {
            let audit = Audit::open(Some(&file), share).unwrap();
            assert_eq!((0..10_000).filter(|_| audit.is_sampled()).count(), expected);
            audit.close();
        }
    }

    #[test]
    fn lines_are_there_after_the_end_and_in_the_new_file_after_a_move() {
        let dir = tempfile::tempdir().unwrap();
        let (file, moved) = (dir.path().join("audit.log"), dir.path().join("audit.log.1"));
        let audit = Audit::open(Some(&file), 0.0).unwrap();
        audit.administered("token", "ban", &json!({ "policy": "api" }), "done");
        audit.close();
        let audit = Audit::open(Some(&file), 0.0).unwrap();
        std::fs::rename(&file, &moved).unwrap();
        audit.reopen();
        audit.administered("token", "reload", &Value::Null, "failed");
        audit.close();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert!(lines(&moved).contains(r#""what":"ban""#) && !lines(&moved).contains("reload"));
        assert!(lines(&file).contains(r#""what":"reload""#));
        let wrong = Audit::open(Some(&dir.path().join("no/such")), 0.0).unwrap_err();
        assert!(wrong.contains("--audit-log"), "{wrong}");
    }
}
