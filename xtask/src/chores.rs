//! Running the project's tools, one after the other, stopping at the first that fails.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why a chore could not be done.
#[derive(Debug)]
pub(crate) enum ChoreError {
    Failed(String),
    /// Something that only a person can put right.
    Missing(String),
    Io(String, io::Error),
}

impl std::fmt::Display for ChoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(what) => write!(f, "`{what}` failed"),
            Self::Missing(what) => f.write_str(what),
            Self::Io(what, error) => write!(f, "`{what}`: {error}"),
        }
    }
}

pub(crate) type Done = Result<(), ChoreError>;

/// The example programs, each a crate, a name and the features that it needs, that run to their end by themselves.
const EXAMPLES: [(&str, &str, &str); 6] = [
    ("tollgate", "library", "default"),
    ("tollgate", "custom_clock", "default"),
    ("tollgate", "instructions", "default"),
    ("tollgate", "client", "axum,outgoing"),
    ("tollgate", "reqwest_client", "reqwest"),
    ("tollgate", "tonic_app", "tower"),
];

pub(crate) fn test() -> Done {
    step("servers for the tests")?;
    crate::servers::ready()?;
    crate::servers::envoy()?;
    crate::servers::schemathesis()?;
    step("tests, and the examples in the documentation")?;
    // Not `--all-targets`: that would build the example programs as tests, and one test runs one of them.
    cargo(&["test", "--workspace", "--all-features"], &[])?;
    chaos_shortly()?;
    models()?;
    interpret()?;
    step("benchmarks, once each")?;
    cargo(&["test", "--package", "tollgate-policy", "--bench", "matching"], &[])?;
    step("example programs")?;
    for (package, example, features) in EXAMPLES {
        let run = ["run", "--quiet", "--package", package, "--example", example, "--features", features];
        cargo(&run, &[])?;
    }
    step("what extends Tollgate from outside: a store and a rule of one's own")?;
    outside(&["test"])?;
    outside(&["run", "--quiet", "--package", "tollgate-two-speed"])?;
    // The others serve until they are stopped; a test drives them (crates/tollgate/tests/examples.rs).
    Ok(())
}

/// The workspace of what uses Tollgate as any program would.
const OUTSIDE: &str = "examples/Cargo.toml";

/// Runs cargo there, with what is built here: both lock files name the same versions.
fn outside(arguments: &[&str]) -> Done {
    let (command, rest) = arguments.split_at(1);
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let options = ["--locked", "--manifest-path", OUTSIDE, "--target-dir", &target];
    cargo(&[command, &options, rest].concat(), &[])
}

/// Attacks on the server, at length: all, or those whose name has this in it.
pub(crate) fn attack(name: &str) -> Done {
    let test = ["test", "--release", "--quiet", "--package", "tollgate-server", "--test", "attack"];
    cargo(&[&test[..], &["--", "--ignored", "--nocapture", "at_length"]].concat(), &[("ATTACK", name)])
}

/// Kills the server three thousand times while it writes its state.
pub(crate) fn kills() -> Done {
    let test = ["test", "--release", "--package", "tollgate-server", "--test", "kills"];
    cargo(&[&test[..], &["--", "--ignored", "--nocapture", "at_length"]].concat(), &[])
}

/// What it costs to keep memory on disk.
pub(crate) fn bench_durable() -> Done {
    cargo(&["bench", "--package", "tollgate-store", "--features", "durable", "--bench", "durable"], &[])
}

/// What a rate limit adds to an empty service, beside middleware of others.
pub(crate) fn bench_middleware() -> Done {
    cargo(&["run", "--release", "--quiet", "--manifest-path", "benches/middleware/Cargo.toml"], &[])
}

/// Breaks the servers that nodes share, and watches what the nodes do.
pub(crate) fn chaos(options: &[&str]) -> Done {
    crate::servers::ready()?;
    let packages = ["--release", "--package", "tollgate-server", "--package", "tollgate-chaos"];
    cargo(&[&["build"][..], &packages].concat(), &[])?;
    let run = ["run", "--quiet", "--release", "--package", "tollgate-chaos", "--"];
    cargo(&[&run[..], options].concat(), &[])
}

/// The same for a minute each on two kinds of servers, with the programs that the tests have built.
fn chaos_shortly() -> Done {
    step("chaos: nodes on servers that break")?;
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let server = format!("{target}/debug/tollgate");
    cargo(&["build", "--package", "tollgate-server"], &[])?;
    for (servers, consistency, seed) in [("cluster", "strict", "1"), ("sentinel", "lease", "2")] {
        let run = ["run", "--quiet", "--package", "tollgate-chaos", "--", "--server", &server, "--for", "60"];
        let options = ["--every", "10", "--on", servers, "--consistency", consistency, "--seed", seed];
        cargo(&[&run[..], &options].concat(), &[])?;
    }
    Ok(())
}

/// The races of the memory table, in every interleaving: a build of its own, with the model checker's atomics.
pub(crate) fn models() -> Done {
    step("models: the table's races in every interleaving")?;
    let flags = format!("{} --cfg loom", std::env::var("RUSTFLAGS").unwrap_or_default());
    let target = root().join("target/loom");
    cargo(
        &[
            "test",
            "--release",
            "--package",
            "tollgate-store",
            "--features",
            "durable",
            "--lib",
            "--",
            "models",
        ],
        &[("RUSTFLAGS", flags.trim()), ("CARGO_TARGET_DIR", &target.to_string_lossy())],
    )
}

/// The table and the clock under Miri, which finds undefined behaviour and data races. It needs a nightly toolchain,
/// which not every machine can get.
pub(crate) fn interpret() -> Done {
    step("Miri: undefined behaviour and data races")?;
    let works = || {
        let version = Command::new("rustup").args(["run", "nightly", "cargo", "miri", "--version"]).output();
        version.is_ok_and(|output| output.status.success())
    };
    if !works() {
        println!("Miri is not installed; installing it");
        let install =
            ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri,rust-src"];
        // If this does not work, it is said below.
        let _ = Command::new("rustup").args(install).status();
    }
    if !works() {
        println!(
            "NOT CHECKED: no Miri here; run `rustup toolchain install nightly --component miri,rust-src`, then \
             `cargo xtask miri`"
        );
        return Ok(());
    }
    let target = root().join("target/miri");
    let package = ["test", "--package", "tollgate-store", "--features", "durable", "--lib"];
    let tests = [&package[..], &["--", "memory::table", "clock", "machine"]].concat();
    let arguments = [&["run", "nightly", "cargo", "miri"][..], &tests[..]].concat();
    // The tests start threads and read the clock.
    let environment =
        [("MIRIFLAGS", "-Zmiri-disable-isolation"), ("CARGO_TARGET_DIR", &*target.to_string_lossy())];
    let mut rustup = Command::new("rustup");
    // Those of the toolchain that runs this would be taken for the other's.
    for variable in ["CARGO", "RUSTC", "RUSTDOC"] {
        rustup.env_remove(variable);
    }
    run(rustup, &format!("rustup {}", arguments.join(" ")), &arguments, &environment)
}

pub(crate) fn ci() -> Done {
    step("format")?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    step("lints")?;
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"], &[])?;
    // Each feature of the library must stand by itself.
    for features in [
        "",
        "policy",
        "durable",
        "shared",
        "redis",
        "postgres",
        "tower",
        "actix",
        "shaping",
        "permits",
        "outgoing",
        "reqwest",
        "expressions",
    ] {
        cargo(
            &[
                "clippy",
                "--package",
                "tollgate",
                "--no-default-features",
                "--features",
                features,
                "--",
                "--deny",
                "warnings",
            ],
            &[],
        )?;
    }
    step("the benchmarks against peers: format and lints")?;
    for manifest in
        ["benches/peers/Cargo.toml", "benches/middleware/Cargo.toml", "benches/limitador/Cargo.toml"]
    {
        let peers = ["--manifest-path", manifest];
        cargo(&[&["fmt", "--check"][..], &peers].concat(), &[])?;
        cargo(&[&["clippy", "--all-targets"][..], &peers, &["--", "--deny", "warnings"]].concat(), &[])?;
    }
    step("what extends Tollgate from outside: format and lints")?;
    cargo(&["fmt", "--all", "--check", "--manifest-path", OUTSIDE], &[])?;
    outside(&["clippy", "--all-targets", "--", "--deny", "warnings"])?;
    step("documentation")?;
    cargo(&["doc", "--workspace", "--all-features", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])?;
    step("dependencies")?;
    dependencies()?;
    test()
}

/// Licences, sources and doubled versions; and known vulnerabilities, where the database of them can be reached.
fn dependencies() -> Done {
    let present = Command::new("cargo")
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !present.is_ok_and(|status| status.success()) {
        println!("cargo-deny is not installed; installing it");
        cargo(&["install", "cargo-deny", "--locked"], &[])?;
    }
    cargo(&["deny", "--all-features", "check", "licenses", "bans", "sources"], &[])?;
    let advisories =
        Command::new("cargo").args(["deny", "--all-features", "fetch", "db"]).stderr(Stdio::null()).status();
    if advisories.is_ok_and(|status| status.success()) {
        cargo(&["deny", "--all-features", "check", "advisories"], &[])
    } else {
        println!(
            "NOT CHECKED: the advisory database cannot be reached from here; run `cargo deny check advisories`"
        );
        Ok(())
    }
}

pub(crate) fn bench() -> Done {
    step("matching: ten policies against ten thousand")?;
    cargo(&["bench", "--package", "tollgate-policy", "--bench", "matching"], &[])?;
    step("replay: lines a second")?;
    cargo(&["build", "--release", "--package", "tollgate-server"], &[])?;
    replay_speed()
}

/// Times the replay of a log of about a million lines, several times, with the example policies.
fn replay_speed() -> Done {
    const TIMES: usize = 240;
    const RUNS: usize = 7;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| ChoreError::Io(what, error)
    };
    let sample =
        std::fs::read_to_string(root().join("samples/access.log")).map_err(failed("samples/access.log"))?;
    let log = root().join("target/bench-access.log");
    std::fs::write(&log, sample.repeat(TIMES)).map_err(failed("target/bench-access.log"))?;
    let lines = TIMES * sample.lines().count();
    for arguments in [&["replay"][..], &["replay", "--no-suggestions"]] {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            let started = Instant::now();
            let status = Command::new(root().join("target/release/tollgate"))
                .args(arguments)
                .arg(&log)
                .stdout(Stdio::null())
                .status()
                .map_err(failed("target/release/tollgate"))?;
            if !status.success() {
                return Err(ChoreError::Failed(format!("tollgate {}", arguments.join(" "))));
            }
            // A rate for people.
            #[allow(clippy::cast_precision_loss)]
            rates.push(lines as f64 / started.elapsed().as_secs_f64() / 1e6);
        }
        rates.sort_by(f64::total_cmp);
        println!(
            "tollgate {:<26} {lines} lines, {RUNS} runs: {:.2} / {:.2} / {:.2} million a second (min / median / max)",
            arguments.join(" "),
            rates[0],
            rates[RUNS / 2],
            rates[RUNS - 1],
        );
    }
    Ok(())
}

fn step(name: &str) -> Done {
    use std::io::Write;
    println!("\n── {name} {}", "─".repeat(76_usize.saturating_sub(name.chars().count())));
    io::stdout().flush().map_err(|error| ChoreError::Io(name.to_owned(), error))
}

pub(crate) fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Done {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(Command::new(program), &format!("cargo {}", arguments.join(" ")), arguments, environment)
}

fn run(mut program: Command, shown: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
    println!("$ {shown}");
    let started = Instant::now();
    let status = program
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|error| ChoreError::Io(shown.to_owned(), error))?;
    if status.success() {
        println!("done in {:.0?}", started.elapsed());
        Ok(())
    } else {
        Err(ChoreError::Failed(shown.to_owned()))
    }
}

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
