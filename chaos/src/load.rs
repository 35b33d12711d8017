//! Who asks the nodes: at times that do not depend on the answers, so that a slow answer is not paid for by asking less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So many keys are asked for all the time, far above their limit …
pub(crate) const HOT: u32 = 3;
/// … and so many others far below it, so that none of them is ever rightly denied.
const COLD: u32 = 100;

/// How many ask each node, and how many times a second each of them does.
const ASKERS: u32 = 4;
const EACH_S: u32 = 40;

/// What a decision came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The store, or what was taken from it ahead.
    Shared,
    /// The node alone.
    Alone,
    /// There was no decision.
    Nobody,
}

/// One question and its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was due, from the beginning.
    pub(crate) due: Duration,
    /// How much later the answer came.
    pub(crate) took: Duration,
    pub(crate) key: u32,
    pub(crate) allowed: bool,
    pub(crate) source: Source,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    askers: Vec<JoinHandle<Vec<Record>>>,
}

impl Load {
    pub(crate) fn start(nodes: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let askers = (0..ASKERS).flat_map(|asker| nodes.iter().map(move |node| (asker, node.clone())));
        let askers = askers.map(|(asker, node)| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask(&node, asker, began, &stop))
        });
        Self { askers: askers.collect(), stop }
    }

    /// All questions and answers, in the order of time.
    pub(crate) fn stop(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        let mut records: Vec<Record> =
            self.askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect();
        records.sort_by_key(|record| record.due + record.took);
        records
    }
}

fn ask(node: &str, asker: u32, began: Instant, stop: &AtomicBool) -> Vec<Record> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)));
    let agent: ureq::Agent = config.build().into();
    let url = format!("{node}/v1/check");
    let mut records = Vec::new();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = Duration::from_secs(1) * count / EACH_S;
        std::thread::sleep((began + due).saturating_duration_since(Instant::now()));
        // Every other question is for a hot key.
        let key = if count % 2 == 0 { count / 2 % HOT } else { HOT + (count / 2 * ASKERS + asker) % COLD };
        let question = format!(r#"{{"path":"/","api_key":"k-{key}"}}"#);
        let (allowed, source) = match agent.post(&url).send(question) {
            Ok(mut reply) => told(&reply.body_mut().read_to_string().unwrap_or_default()),
            Err(_) => (false, Source::Nobody),
        };
        records.push(Record { due, took: began.elapsed().saturating_sub(due), key, allowed, source });
    }
    records
}

fn told(reply: &str) -> (bool, Source) {
    let reply: serde_json::Value = serde_json::from_str(reply).unwrap_or_default();
    let source = match reply["policies"][0]["limits"][0]["source"].as_str() {
        None => Source::Nobody,
        Some("fallback") => Source::Alone,
        Some(_) => Source::Shared,
    };
    (reply["allowed"] == true, source)
}
