//! `tollgate validate`: every problem of every file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tollgate::{Config, DescriptorRules, KeySeed, LimitadorLimits, LoadError, Policy};

use crate::cli::{ValidateOptions, count, fail, print_out, stderr_has_colour};
use crate::load::{limits_file, rule_file};

/// Checks all files; succeeds if none has a problem.
pub(crate) fn run(options: &ValidateOptions) -> ExitCode {
    let mut files = BTreeSet::new();
    for path in &options.paths {
        if let Err(error) = collect(path, &mut files) {
            return fail(format_args!("cannot read {}: {error}", path.display()));
        }
    }
    if files.is_empty() {
        return fail("there is no .yaml, .yml or .toml file there");
    }
    let mut summary = String::new();
    let mut problems = 0;
    for file in &files {
        if let Some(text) = rule_file(file) {
            let name = file.display().to_string();
            match DescriptorRules::parse(&[(&name, &text)], false, KeySeed::new([0; 16])) {
                Ok(rules) => {
                    let rules = count(rules.rules().len(), "rule");
                    let _ = writeln!(summary, "{name}: fine (descriptors, {rules})");
                }
                Err(wrong) => {
                    problems += wrong.iter().map(tollgate::Problems::len).sum::<usize>();
                    for found in wrong {
                        let _ = writeln!(io::stderr().lock(), "{}\n", found.render(stderr_has_colour()));
                    }
                }
            }
            continue;
        }
        if let Some(text) = limits_file(file) {
            let name = file.display().to_string();
            match LimitadorLimits::parse(&name, &text, KeySeed::new([0; 16])) {
                Ok(limits) => {
                    let limits = count(limits.limits().len(), "limit");
                    let _ = writeln!(summary, "{name}: fine (Limitador, {limits})");
                }
                Err(found) => {
                    problems += found.len();
                    let _ = writeln!(io::stderr().lock(), "{}\n", found.render(stderr_has_colour()));
                }
            }
            continue;
        }
        match Config::load(file) {
            Ok(config) => {
                let limits =
                    config.policies.iter().flat_map(Policy::variants).map(|variant| variant.limits().len());
                let (policies, limits) = (config.policies.len(), limits.sum());
                let policies =
                    if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
                // Writing to a string cannot fail.
                let _ =
                    writeln!(summary, "{}: fine ({policies}, {})", file.display(), count(limits, "limit"));
            }
            Err(error) => {
                let text = match &error {
                    LoadError::Problems(found) => {
                        problems += found.len();
                        found.render(stderr_has_colour())
                    }
                    other => {
                        problems += 1;
                        format!("error: {other}")
                    }
                };
                let _ = writeln!(io::stderr().lock(), "{text}\n");
            }
        }
    }
    let printed = print_out(summary.as_bytes());
    if problems > 0 {
        fail(format_args!("{} in {}", count(problems, "problem"), count(files.len(), "file")))
    } else {
        printed
    }
}

/// The policy files that a path stands for: itself, or those in it and below, by their endings.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        // A file that is not there is a problem of its own, shown with the others.
        files.insert(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?.path();
        let is_policy = entry.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
            ["yaml", "yml", "toml"].contains(&extension.to_ascii_lowercase().as_str())
        });
        // A link to a directory may lead around in a circle.
        if entry.is_dir() && !entry.is_symlink() {
            collect(&entry, files)?;
        } else if is_policy && entry.is_file() {
            files.insert(entry);
        }
    }
    Ok(())
}
