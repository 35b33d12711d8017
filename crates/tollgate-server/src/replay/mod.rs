//! `tollgate replay`: access logs against a policy file, in the logs' own time.
//!
//! One thread for each log reads and parses ([`log`]), and finds the policies that apply ([`plan`]). This one merges
//! them by time ([`order`]), decides each request as a server would have ([`engine`]), asks what other limits would have done ([`suggest`]), and hands over a
//! report ([`report`]).

mod engine;
mod log;
mod order;
mod plan;
mod report;
mod request;
mod source;
mod suggest;
mod tally;
mod timeline;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tollgate::{Attribute, PolicySet, random_seed};

use self::engine::Engine;
use self::log::{FieldNames, FormatChoice, Progress};
use self::order::Order;
use self::plan::Planner;
use self::report::{render_html, render_text, to_json};
use self::source::Source;
use crate::cli::{fail, print_out};
use crate::load::policies;
use crate::text::style;

#[derive(Args, Debug)]
pub(crate) struct ReplayOptions {
    /// Access logs: common, combined or JSON lines; plain, gzip or zstd; `-` is standard input
    #[arg(value_name = "LOG", required = true)]
    pub(crate) logs: Vec<PathBuf>,

    /// The policy file (YAML or TOML); without one the built-in example is used
    #[arg(long, value_name = "FILE", env = "TOLLGATE_POLICY")]
    pub(crate) policy: Option<PathBuf>,

    /// The format of the logs: auto, common, combined or json
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub(crate) format: FormatChoice,

    /// Where a field of a JSON line is, as in `client=remote.ip`, or an attribute that policies use, as in
    /// `header:x-tenant=request.tenant`
    #[arg(long = "field", value_name = "NAME=FIELD")]
    pub(crate) fields: Vec<String>,

    /// How far out of order lines may be and still be put in order, such as 10s or 5m
    #[arg(long, value_name = "LENGTH", default_value = "2m", value_parser = tollgate::quota::parse_length)]
    pub(crate) reorder_window: tollgate::Nanos,

    /// How many of the keys that are denied most to show
    #[arg(long, value_name = "KEYS", default_value_t = 10)]
    pub(crate) top: usize,

    /// Leave out the limits that would have fitted: needs less memory
    #[arg(long)]
    pub(crate) no_suggestions: bool,

    /// Write a report as one HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Replays the logs and prints the report.
pub(crate) fn run(options: &ReplayOptions) -> ExitCode {
    let (policy_file, config) = match policies(options.policy.as_deref()) {
        Ok(loaded) => loaded,
        Err(failure) => return failure.show(),
    };
    let fields = match FieldNames::parse(&options.fields) {
        Ok(fields) => fields,
        Err(error) => return fail(format_args!("--field: {error}")),
    };
    let attributes = match fields.attribute_names().map(str::parse::<Attribute>).collect() {
        Ok(attributes) => attributes,
        Err(error) => {
            return fail(format_args!(
                "--field: {error}, nor a field of the log; write `client=FIELD`, or `header:x-tenant=FIELD`"
            ));
        }
    };
    let planner = Planner { attributes, policies: Arc::new(PolicySet::new(config, random_seed())) };
    let log_options = log::Options { format: options.format, fields, ..log::Options::default() };
    let sources = match Source::open_all(&options.logs, &log_options, &planner) {
        Ok(sources) => sources,
        Err(error) => return fail(error),
    };
    let progress = progress_bar(&sources);
    let started = Instant::now();
    let mut engine = Engine::new(planner, !options.no_suggestions);
    let mut order = Order::new(sources, options.reorder_window);
    let mut decided = 0_u64;
    while let Some(event) = order.next() {
        engine.take(&event);
        decided += 1;
        if decided.is_multiple_of(65_536) {
            progress.show(decided);
        }
    }
    progress.bar.finish_and_clear();
    let (tally, failures) = order.finish();
    let logs = options.logs.iter().map(|path| path.display().to_string()).collect();
    let report = engine.finish(policy_file, logs, &tally, options.top);
    let took = started.elapsed();

    if let Some(path) = &options.report
        && let Err(error) = std::fs::write(path, render_html(&report))
    {
        return fail(format_args!("cannot write {}: {error}", path.display()));
    }
    let text = if options.json { to_json(&report) } else { render_text(&report, style()) };
    let printed = print_out(text.as_bytes());
    if std::io::stderr().is_terminal() {
        say_speed(report.lines.read, took);
    }
    for failure in &failures {
        fail(failure);
    }
    if failures.is_empty() { printed } else { ExitCode::FAILURE }
}

fn say_speed(lines: u64, took: Duration) {
    // A rate for people: no precision is lost that anyone would see.
    #[allow(clippy::cast_precision_loss)]
    let rate = lines as f64 / took.as_secs_f64().max(1e-9);
    let _ = writeln!(std::io::stderr().lock(), "{lines} lines in {took:.1?}, {rate:.0} a second");
}

struct Shown {
    bar: ProgressBar,
    parts: Vec<Progress>,
}

impl Shown {
    fn show(&self, requests: u64) {
        self.bar.set_position(self.parts.iter().map(Progress::bytes_read).sum());
        self.bar.set_message(format!("{requests} requests"));
    }
}

/// A bar on standard error, where that is a terminal.
fn progress_bar(sources: &[Source]) -> Shown {
    let parts: Vec<Progress> = sources.iter().map(Source::progress).collect();
    let total: Option<u64> = parts.iter().map(Progress::bytes_total).sum();
    let bar = match total {
        Some(total) => ProgressBar::new(total).with_style(
            ProgressStyle::with_template(
                "{bar:40} {percent:>3} %  {binary_bytes_per_sec}  {msg}  {eta} left",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
        ),
        None => ProgressBar::new_spinner(),
    };
    Shown { bar, parts }
}
