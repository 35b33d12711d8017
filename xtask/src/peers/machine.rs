//! On what was measured, and with which versions.

use std::fs;
use std::process::Command;

use crate::chores::root;

/// What is worth knowing of this machine, as names and values. What the system does not say is left out.
pub(super) fn facts() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().ok().map(|cores| cores.to_string());
    let facts = [
        ("Processor", after(read("/proc/cpuinfo").as_deref(), "model name")),
        ("Processors to run on", cores),
        ("Second-level cache", cache("index2")),
        ("Third-level cache", cache("index3")),
        ("Memory", after(read("/proc/meminfo").as_deref(), "MemTotal").as_deref().and_then(gibibytes)),
        ("Kernel", read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned())),
        ("Compiler", said("rustc", &["--version"])),
        ("Date", said("date", &["-u", "+%Y-%m-%d"])),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The versions of these crates in the lock file of the program that measures.
pub(super) fn versions(names: &[&'static str]) -> Vec<(&'static str, String)> {
    let lock = fs::read_to_string(root().join("benches/peers/Cargo.lock")).unwrap_or_default();
    names.iter().filter_map(|name| Some((*name, version(&lock, name)?))).collect()
}

fn version(lock: &str, name: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next().map(str::to_owned)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What follows a name and a colon.
fn after(text: Option<&str>, name: &str) -> Option<String> {
    let line = text?.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A number of kibibytes in a unit for people.
fn gibibytes(kibibytes: &str) -> Option<String> {
    let number: u32 = kibibytes.split_whitespace().next()?.parse().ok()?;
    Some(format!("{:.1} GiB", f64::from(number) / 1_048_576.0))
}

fn cache(index: &str) -> Option<String> {
    read(&format!("/sys/devices/system/cpu/cpu0/cache/{index}/size")).map(|size| size.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{gibibytes, version};

    #[test]
    fn memory_is_told_in_gibibytes() {
        assert_eq!(gibibytes("2097152 kB").as_deref(), Some("2.0 GiB"));
        assert_eq!(gibibytes("much"), None);
    }

    #[test]
    fn finds_versions() {
        let lock = "[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"b\"\nversion = \"2.1.0\"\n";
        assert_eq!(version(lock, "b").as_deref(), Some("2.1.0"));
        assert_eq!(version(lock, "c"), None);
    }
}
