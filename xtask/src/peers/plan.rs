//! What is measured: which limiters, in which scenarios.

use super::format::grouped;
use super::options::Options;

/// A limiter, as it is used in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contender {
    /// Its name in tables and in `--only`.
    pub(super) name: &'static str,
    /// Its name for the program that measures.
    pub(super) peer: &'static str,
    /// How many decisions are asked for at once.
    pub(super) batch: usize,
}

const fn single(name: &'static str) -> Contender {
    Contender { name, peer: name, batch: 1 }
}

const EMPTY: Contender = single("empty");
const EMPTY_MEMORY: Contender = single("empty-memory");
const GOVERNOR: Contender = single("governor");
const TOLLGATE: Contender = single("tollgate");
const TOLLGATE_ODD: Contender = single("tollgate-odd-rate");
const TOLLGATE_BATCH: Contender = Contender { name: "tollgate-batch-16", peer: "tollgate", batch: 16 };

/// Texts as keys.
const KEYED: [Contender; 15] = [
    EMPTY,
    EMPTY_MEMORY,
    GOVERNOR,
    single("governor-tuned"),
    single("governor-u64"),
    single("flux-limiter"),
    single("skp-ratelimit"),
    single("throttlecrab-periodic"),
    single("throttlecrab-adaptive"),
    single("throttlecrab-probabilistic"),
    single("ratelimit-dashmap"),
    single("leaky-bucket-dashmap"),
    single("naive-dashmap"),
    single("naive-moka"),
    TOLLGATE,
];

/// Those of them that are measured with more keys than a million: of maps behind a lock, and of crates that grow as
/// slowly as each other, one.
const KEYED_LARGE: [Contender; 9] = [
    EMPTY,
    EMPTY_MEMORY,
    GOVERNOR,
    single("governor-tuned"),
    single("flux-limiter"),
    single("skp-ratelimit"),
    single("throttlecrab-periodic"),
    single("naive-dashmap"),
    TOLLGATE,
];

/// Numbers as keys.
const NUMBERS: [Contender; 3] = [single("governor-u64"), single("flux-limiter-u64"), single("tollgate-u64")];

/// No keys.
const DIRECT: [Contender; 5] = [
    single("empty-direct"),
    single("governor-direct"),
    single("ratelimit-direct"),
    single("leaky-bucket-direct"),
    single("tollgate-direct"),
];

/// Tollgate's other rules.
const RULES: [Contender; 5] = [
    TOLLGATE,
    TOLLGATE_ODD,
    single("tollgate-token-bucket"),
    single("tollgate-fixed-window"),
    single("tollgate-sliding-window"),
];

/// Several limits that decide together.
const TOGETHER: [Contender; 2] = [single("tollgate-store-one"), single("tollgate-store-three")];

/// Those that start empty. Of limiters that differ in nothing that counts here, one.
const GROWING: [Contender; 12] = [
    EMPTY,
    EMPTY_MEMORY,
    GOVERNOR,
    single("flux-limiter"),
    single("skp-ratelimit"),
    single("throttlecrab-periodic"),
    single("ratelimit-dashmap"),
    single("leaky-bucket-dashmap"),
    single("naive-dashmap"),
    single("naive-moka"),
    TOLLGATE,
    TOLLGATE_ODD,
];

/// The names that `--only` knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let all = KEYED.iter().chain(&NUMBERS).chain(&DIRECT).chain(&RULES).chain(&TOGETHER);
    let mut names: Vec<&str> = all.chain([&TOLLGATE_BATCH]).map(|contender| contender.name).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

/// What is measured of a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Throughput,
    Latency,
    Memory,
    Growth,
    Instructions,
}

impl Mode {
    /// The name for the program that measures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Growth => "growth",
            Self::Instructions => "instructions",
        }
    }

    /// Whether one round says it all: what is counted does not depend on what else the machine does.
    pub(super) const fn once(self) -> bool {
        matches!(self, Self::Memory | Self::Instructions)
    }
}

/// Which part of the page a scenario belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Keyed,
    Numbers,
    Direct,
    Rules,
    Together,
    Latency,
    Memory,
    Growth,
    Instructions,
}

/// Some limiters in the same circumstances: a table.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) part: Part,
    pub(super) mode: Mode,
    pub(super) keys: u32,
    pub(super) distribution: &'static str,
    pub(super) threads: usize,
    pub(super) outcome: &'static str,
    /// How many decisions each thread asks for.
    pub(super) operations: usize,
    /// What the others are compared with.
    pub(super) baseline: &'static str,
    pub(super) contenders: Vec<Contender>,
}

impl Scenario {
    /// Decisions that all pass, by one thread, on keys that come equally often.
    fn new(part: Part, keys: u32, baseline: &'static str, contenders: &[Contender]) -> Self {
        Self {
            part,
            mode: Mode::Throughput,
            keys,
            distribution: "uniform",
            threads: 1,
            outcome: "allowed",
            operations: 2_000_000,
            baseline,
            contenders: contenders.to_vec(),
        }
    }

    fn zipf(mut self) -> Self {
        self.distribution = "zipf";
        self
    }

    fn two_threads(mut self) -> Self {
        self.threads = 2;
        self
    }

    fn denied(mut self) -> Self {
        self.outcome = "denied";
        self
    }

    /// The scenario in words.
    pub(super) fn title(&self) -> String {
        let keys = grouped(self.keys.into());
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let Self { distribution, outcome, .. } = self;
        match self.part {
            Part::Keyed => format!("{keys} keys, {distribution}, {threads}, {outcome}"),
            Part::Numbers => format!("Numbers as keys: {keys} of them, {distribution}, {threads}, {outcome}"),
            Part::Direct => format!("No keys, {threads}, {outcome}"),
            Part::Rules => format!("Tollgate's rules: {keys} keys, {distribution}, {threads}, {outcome}"),
            Part::Together => format!("Three limits: {keys} keys, {distribution}, {threads}, {outcome}"),
            Part::Latency => format!("Single decisions: {keys} keys, {distribution}, {threads}"),
            Part::Memory => format!("Memory of {keys} keys"),
            Part::Growth => format!("Waits while {keys} new keys pour in"),
            Part::Instructions => format!("Instructions: {keys} keys, {distribution}, {threads}, {outcome}"),
        }
    }
}

/// All that is measured, in the order of the page.
pub(super) fn scenarios(options: &Options) -> Vec<Scenario> {
    let mut all = Vec::new();
    for (index, keys) in options.keys.iter().enumerate() {
        all.extend(keyed(*keys, index == 0));
    }
    let first = options.keys.first().copied().unwrap_or(1_000_000);
    let numbers = Scenario::new(Part::Numbers, first, "governor-u64", &NUMBERS);
    all.extend([numbers.clone(), numbers.zipf().two_threads()]);
    all.extend(direct());
    let rules = Scenario::new(Part::Rules, first, TOLLGATE.name, &RULES);
    let together = Scenario::new(Part::Together, first, "tollgate-store-one", &TOGETHER);
    all.extend([rules.clone(), rules.zipf(), together.clone(), together.zipf()]);
    all.extend(latency(&options.keys));
    for part in [Part::Memory, Part::Growth] {
        all.extend(options.keys.iter().map(|keys| growing(part, *keys)));
    }
    if options.quick {
        for scenario in &mut all {
            scenario.operations = 50_000;
        }
    } else {
        all.extend(instructions());
    }
    for scenario in &mut all {
        restrict(scenario, options);
    }
    all.retain(|scenario| !scenario.contenders.is_empty());
    all
}

fn keyed_contenders(keys: u32) -> &'static [Contender] {
    if keys > 1_000_000 { &KEYED_LARGE } else { &KEYED }
}

/// The main tables: all of them for the first number of keys, the most telling for the others.
fn keyed(keys: u32, all: bool) -> Vec<Scenario> {
    let mut plain = Scenario::new(Part::Keyed, keys, GOVERNOR.name, keyed_contenders(keys));
    plain.contenders.push(TOLLGATE_BATCH);
    let zipf = plain.clone().zipf();
    let mut scenarios = vec![plain.clone(), zipf.clone().two_threads()];
    if all {
        scenarios.push(zipf.clone());
        scenarios.push(plain.clone().two_threads());
        scenarios.push(plain.denied());
        scenarios.push(zipf.two_threads().denied());
    }
    scenarios
}

fn direct() -> [Scenario; 3] {
    let mut plain = Scenario::new(Part::Direct, 1, "governor-direct", &DIRECT);
    // They are quick, and there is no stream to write out.
    plain.operations = 20_000_000;
    [plain.clone(), plain.clone().two_threads(), plain.denied()]
}

fn latency(keys: &[u32]) -> Vec<Scenario> {
    let scenario = |keys| {
        let mut plain =
            Scenario::new(Part::Latency, keys, GOVERNOR.name, keyed_contenders(keys)).two_threads();
        plain.mode = Mode::Latency;
        plain.operations = 2_000_000;
        plain
    };
    let mut all: Vec<Scenario> = keys.iter().map(|keys| scenario(*keys).zipf()).collect();
    all.extend(keys.first().map(|keys| scenario(*keys)));
    all
}

/// A limit so low that each key is remembered, in limiters that forget what has become as new.
fn growing(part: Part, keys: u32) -> Scenario {
    let mut scenario = Scenario::new(part, keys, GOVERNOR.name, &GROWING).denied();
    scenario.mode = if part == Part::Memory { Mode::Memory } else { Mode::Growth };
    if part == Part::Memory {
        scenario.contenders.retain(|contender| ![EMPTY, EMPTY_MEMORY].contains(contender));
    }
    scenario
}

/// Few keys: an emulated processor is slow.
fn instructions() -> Vec<Scenario> {
    const KEYS: u32 = 10_000;
    let mut keyed = Scenario::new(Part::Instructions, KEYS, GOVERNOR.name, &KEYED);
    keyed.contenders.push(TOLLGATE_BATCH);
    keyed.contenders.extend(RULES.iter().skip(1).chain(&TOGETHER).chain(&DIRECT));
    keyed.mode = Mode::Instructions;
    vec![keyed]
}

/// Leaves those that are asked for, and what they are compared with.
fn restrict(scenario: &mut Scenario, options: &Options) {
    let baseline = scenario.baseline;
    if scenario.contenders.iter().any(|contender| options.wants(contender.name)) {
        scenario.contenders.retain(|contender| contender.name == baseline || options.wants(contender.name));
    } else {
        scenario.contenders.clear();
    }
    // A cost against itself says nothing.
    if matches!(scenario.part, Part::Rules | Part::Together) && scenario.contenders.len() == 1 {
        scenario.contenders.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(words: &[&str]) -> Vec<Scenario> {
        scenarios(&Options::parse(words).unwrap())
    }

    #[test]
    fn every_table_has_its_baseline() {
        for words in [&[][..], &["--only", "tollgate,tollgate-direct,tollgate-store-three"], &["--quick"]] {
            for scenario in planned(words) {
                let names: Vec<&str> = scenario.contenders.iter().map(|contender| contender.name).collect();
                assert!(names.contains(&scenario.baseline), "{}: {names:?}", scenario.title());
            }
        }
    }

    #[test]
    fn only_what_is_asked_for() {
        let scenarios = planned(&["--only", "flux-limiter-u64"]);
        assert!(scenarios.iter().all(|scenario| scenario.part == Part::Numbers));
        assert!(scenarios.iter().all(|scenario| scenario.contenders.len() == 2));
    }
}
