//! What the program takes of the machine, by the names that all exporters use. What a system does not tell is left out.

use std::fmt::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Adds what is known of the program: which one it is, and what it takes.
pub(in crate::serve) fn register(registry: &mut Registry) {
    let build = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("arch", std::env::consts::ARCH),
        ("os", std::env::consts::OS),
    ];
    registry.register("rate_limiter_build", "The program", Info::new(build.to_vec()));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register_collector(Box::new(Process { started_s: since.as_secs_f64() }));
}

#[derive(Debug)]
struct Process {
    /// When, in seconds of the Unix epoch.
    started_s: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        gauge(
            &mut encoder,
            "process_start_time_seconds",
            "When the program was started, in seconds of the Unix epoch.",
            self.started_s,
        )?;
        if let Some(seconds) = cpu_s() {
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Time of processors that was taken.",
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        for (name, help, value) in numbers() {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// The time that all threads together have had.
#[cfg(unix)]
fn cpu_s() -> Option<f64> {
    use rustix::time::{ClockId, clock_gettime};

    let taken = clock_gettime(ClockId::ProcessCPUTime);
    std::time::Duration::try_from(taken).ok().map(|taken| taken.as_secs_f64())
}

#[cfg(not(unix))]
fn cpu_s() -> Option<f64> {
    None
}

type Number = (&'static str, &'static str, f64);

#[cfg(target_os = "linux")]
fn numbers() -> Vec<Number> {
    use rustix::process::{Resource, getrlimit};

    let mut numbers = Vec::new();
    let mut add = |name, help, value: Option<u64>| {
        // Counts, for people.
        #[allow(clippy::cast_precision_loss)]
        numbers.extend(value.map(|value| (name, help, value as f64)));
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let text = status.lines().find_map(|line| line.strip_prefix(name))?;
        text.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()
    };
    let bytes = |name| field(name).map(|kib| kib << 10);
    add("process_resident_memory_bytes", "Memory that is in use.", bytes("VmRSS"));
    add("process_virtual_memory_bytes", "Addresses that are taken.", bytes("VmSize"));
    add("process_threads", "Threads.", field("Threads"));
    let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    // One of them is the directory.
    let open = open.and_then(|open| u64::try_from(open.saturating_sub(1)).ok());
    add("process_open_fds", "Descriptors of files and connections that are open.", open);
    add("process_max_fds", "How many there may be.", getrlimit(Resource::Nofile).current);
    numbers
}

#[cfg(not(target_os = "linux"))]
fn numbers() -> Vec<Number> {
    Vec::new()
}
