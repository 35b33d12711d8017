//! The nodes, as processes.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The limit on each key.
pub(crate) const RATE_S: u32 = 40;
pub(crate) const BURST: u32 = 400;

const COUNT: u32 = 3;

pub(crate) struct Nodes {
    processes: Vec<Child>,
    urls: Vec<String>,
    policy: PathBuf,
}

impl Nodes {
    /// Starts nodes that share a store, and waits until they listen.
    pub(crate) fn start(program: &str, store: &str, consistency: &str) -> Self {
        let policy = std::env::temp_dir().join(format!("tollgate-chaos-{}.yaml", std::process::id()));
        let text =
            format!("policies: [{{ name: api, key: api_key, limit: {RATE_S}/second, burst: {BURST} }}]\n");
        std::fs::write(&policy, text).unwrap();
        let mut nodes = Self { processes: Vec::new(), urls: Vec::new(), policy };
        for number in 0..COUNT {
            let mut process = Command::new(program)
                .args([
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--grpc",
                    "off",
                    "--resp",
                    "off",
                    "--admin",
                    "off",
                    "--log",
                    "error",
                    "--store",
                    store,
                ])
                .args(["--consistency", consistency])
                .args(["--nodes", &COUNT.to_string(), "--node", &number.to_string()])
                .args(["--key-seed", "000102030405060708090a0b0c0d0e0f", "--policy"])
                .arg(&nodes.policy)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}"));
            let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
            let url = said.find_map(|line| {
                line.ok()?.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
            });
            nodes.processes.push(process);
            nodes.urls.push(url.unwrap_or_else(|| panic!("node {number} did not start")));
        }
        // Until they have found the servers.
        std::thread::sleep(Duration::from_secs(1));
        nodes
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    /// What nodes whose store does not answer say of it.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let trouble = |url: &String| {
            let mut reply = ureq::get(format!("{url}/v1/status")).call().ok()?;
            let status: serde_json::Value =
                serde_json::from_str(&reply.body_mut().read_to_string().ok()?).ok()?;
            let store = &status["store"];
            (store["consecutive_failures"] != 0).then(|| format!("node {url}: {store}"))
        };
        self.urls.iter().filter_map(trouble).collect()
    }

    /// How many still run.
    pub(crate) fn alive(&mut self) -> (usize, usize) {
        let alive =
            self.processes.iter_mut().filter_map(|process| process.try_wait().ok()?.is_none().then_some(()));
        (alive.count(), self.urls.len())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(&self.policy);
    }
}
