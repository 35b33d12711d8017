//! Tables of the results, in the sections of the page.

use std::fmt;

use super::format::{Table, number, time, times, whole};
use super::plan::{Mode, Part, Scenario};
use super::results::{Results, Spread};
use super::sample::Sample;
use super::targets;

/// A part of the page: what it is about, and its tables.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) introduction: &'static str,
    pub(super) tables: Vec<Table>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}", self.heading, self.introduction)?;
        self.tables.iter().try_for_each(|table| write!(f, "\n{table}"))
    }
}

/// The sections after the one on aims: a heading, the parts of the plan that it shows, and what is to be known first.
const SECTIONS: [(&str, &[Part], &str); 8] = [
    (
        "Many keys",
        &[Part::Keyed],
        "\
Nanoseconds a decision: the time from when the first thread starts to when the last one ends, divided by the decisions
of one thread. Two threads that do not hinder each other take as long as one.",
    ),
    ("Numbers as keys", &[Part::Numbers], "The same, but the keys are numbers of 64 bits, which need no reading and little hashing."),
    (
        "No keys",
        &[Part::Direct],
        "\
One limiter that limits one thing. With two threads, both want to write the same word. (`leaky-bucket` does not look at
the clock while there are tokens left.)",
    ),
    (
        "Tollgate's own rules",
        &[Part::Rules, Part::Together],
        "\
What other rules cost against GCRA, and three limits that decide together against one, both asked through the store.
The three have a state each, so their table of states is three times as large.",
    ),
    (
        "Single decisions",
        &[Part::Latency],
        "\
How long a single decision takes, of all decisions of two threads; each number is the median of the rounds. The clock's own
cost is in every one of them: `empty` shows it. The longest times, and on a busy machine more than those, are times in which
the thread was not on its processor: the last column counts how often the system took it off.",
    ),
    (
        "Memory",
        &[Part::Memory],
        "\
What is resident more than before, once a limiter that started empty has met every key, and the most that it ever was while
it grew. Keys are denied on their next request, so that no limiter may forget them.",
    ),
    (
        "While new keys pour in",
        &[Part::Growth],
        "\
How long a decision may take because the limiter makes room: one thread inserts every key into a limiter that starts empty.
Each number is the median of the rounds. *Undisturbed* leaves out the decisions during which the system took the thread off
its processor; the host of a virtual machine may have done so all the same, as `empty` and `empty-memory` show, in which
nothing grows.",
    ),
    (
        "Instructions",
        &[Part::Instructions],
        "\
What a decision makes the processor do, counted by callgrind, where nothing else can disturb it. It says nothing of waiting for
memory, which is most of the time where there are many keys.",
    ),
];

/// All sections for which there is anything to tell.
pub(super) fn all(scenarios: &[Scenario], results: &Results) -> Vec<Section> {
    let mut sections = vec![targets::section(scenarios, results)];
    for (heading, parts, introduction) in SECTIONS {
        let of_part = scenarios.iter().filter(|scenario| parts.contains(&scenario.part));
        let tables: Vec<Table> = of_part.map(|scenario| table(scenario, results)).collect();
        if !tables.is_empty() {
            sections.push(Section { heading, introduction, tables });
        }
    }
    sections
}

/// What to say of a measurement while others are still to come.
pub(super) fn brief(mode: Mode, sample: &Sample) -> String {
    let get = |name| sample.get(name).unwrap_or(f64::NAN);
    match mode {
        Mode::Throughput => format!("{} ns", number(get("ns"))),
        Mode::Latency => format!("p99 {}", time(get("p99"))),
        Mode::Memory => format!("{} bytes a key", number(get("bytes"))),
        Mode::Growth => format!("longest {}", time(get("max"))),
        Mode::Instructions => format!("{} instructions", number(get("instructions"))),
    }
}

fn table(scenario: &Scenario, results: &Results) -> Table {
    match scenario.mode {
        Mode::Throughput => speeds(scenario, results),
        Mode::Latency => latencies(scenario, results),
        Mode::Memory => memory(scenario, results),
        Mode::Growth => growth(scenario, results),
        Mode::Instructions => instructions(scenario, results),
    }
}

/// A table of one row for each limiter.
fn rows(scenario: &Scenario, head: &[&str], cells: impl Fn(&'static str) -> Vec<Option<String>>) -> Table {
    let mut table = Table::new(scenario.title(), head);
    for contender in &scenario.contenders {
        let mut row = vec![contender.name.to_owned()];
        row.extend(cells(contender.name).into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned())));
        table.rows.push(row);
    }
    table
}

fn speeds(scenario: &Scenario, results: &Results) -> Table {
    let baseline = scenario.baseline;
    // A rule is told by what it costs, a limiter by how fast it is.
    let costs = matches!(scenario.part, Part::Rules | Part::Together);
    let ratio =
        if costs { format!("× the time of {baseline}") } else { format!("× as fast as {baseline}") };
    let head = ["limiter", "min ns", "median ns", "max ns", &ratio, "min … max"];
    let mut table = rows(scenario, &head, |name| {
        let spread = results.spread(scenario, name, "ns");
        let (above, below) = if costs { (name, baseline) } else { (baseline, name) };
        let ratio = results.ratio(scenario, "ns", above, below).filter(|_| name != baseline);
        vec![
            spread.map(|spread| number(spread.min)),
            spread.map(|spread| number(spread.median)),
            spread.map(|spread| number(spread.max)),
            ratio.map(|ratio| times(ratio.median)),
            ratio.map(range),
        ]
    });
    table.note = disturbances(scenario, results);
    table
}

/// How many of a table's runs had to share their processors with something else.
fn disturbances(scenario: &Scenario, results: &Results) -> String {
    /// A run that has its processors for less of the time tells of the machine as well as of the limiter.
    const ENOUGH: f64 = 0.95;
    let names = scenario.contenders.iter().map(|contender| contender.name);
    let shares: Vec<f64> = names.flat_map(|name| results.numbers(scenario, name, "on_processor")).collect();
    match shares.iter().filter(|share| **share < ENOUGH).count() {
        0 => String::new(),
        disturbed => {
            let all = shares.len();
            format!("Of these {all} runs, {disturbed} had their processors for less than 95 % of the time.")
        }
    }
}

fn latencies(scenario: &Scenario, results: &Results) -> Table {
    let head = ["limiter", "p50", "p99", "p99.9", "longest", "switches"];
    let mut table = rows(scenario, &head, |name| {
        let median = |number| results.spread(scenario, name, number).map(|spread| spread.median);
        let mut cells: Vec<_> = ["p50", "p99", "p999", "max"].map(|name| median(name).map(time)).into();
        cells.push(median("switches").map(whole));
        cells
    });
    let timer = Spread::of(scenario.contenders.iter().filter_map(|contender| {
        results.spread(scenario, contender.name, "timer").map(|spread| spread.median)
    }));
    if let Some(timer) = timer {
        table.note = format!("Reading the clock once took {} on average.", time(timer.median));
    }
    table
}

fn memory(scenario: &Scenario, results: &Results) -> Table {
    let head = ["limiter", "bytes a key", "at most, while growing"];
    rows(scenario, &head, |name| {
        let median = |field| results.spread(scenario, name, field).map(|spread| number(spread.median));
        vec![median("bytes"), median("peak_bytes")]
    })
}

fn growth(scenario: &Scenario, results: &Results) -> Table {
    let head = [
        "limiter",
        "p50",
        "p99",
        "p99.99",
        "longest",
        "longest undisturbed",
        "above 100 µs",
        "undisturbed",
        "switches",
    ];
    rows(scenario, &head, |name| {
        let median = |number| results.spread(scenario, name, number).map(|spread| spread.median);
        let times = ["p50", "p99", "p9999", "max", "max_undisturbed"].map(|name| median(name).map(time));
        let counts = ["long", "long_undisturbed", "switches"].map(|name| median(name).map(whole));
        times.into_iter().chain(counts).collect()
    })
}

fn instructions(scenario: &Scenario, results: &Results) -> Table {
    let mut table = rows(scenario, &["limiter", "instructions a decision"], |name| {
        vec![results.spread(scenario, name, "instructions").map(|spread| number(spread.median))]
    });
    if table.rows.iter().all(|row| row.iter().skip(1).all(|cell| cell == "–")) {
        "Not counted: valgrind is not installed.".clone_into(&mut table.note);
    }
    table
}

/// From the least to the greatest ratio.
pub(super) fn range(ratio: Spread) -> String {
    format!("{:.2} … {:.2}", ratio.min, ratio.max)
}
