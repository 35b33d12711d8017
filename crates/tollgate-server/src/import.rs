//! `tollgate import`: policies made of what other rate limiters are told.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tollgate::{DescriptorRules, Import, KeySeed, LimitadorLimits, Origin, Problems};

use crate::cli::{ImportFrom, ImportOptions, count, fail, print_out};
use crate::load::{Failure, RULE_BYTES_MAX};

/// Nothing is counted here, so any seed will do.
const SEED: KeySeed = KeySeed::new([0; 16]);

/// A file that was read.
struct File {
    name: String,
    text: String,
    from: ImportFrom,
}

/// Reads all files, and writes one; or says what is wrong with them, and writes none.
pub(crate) fn run(options: &ImportOptions) -> ExitCode {
    let files: Result<Vec<File>, String> =
        options.files.iter().map(|path| read(path, options.from)).collect();
    let files = match files {
        Ok(files) => files,
        Err(message) => return fail(message),
    };
    if let Some(output) = &options.output
        && options.files.iter().any(|file| is_same(file, output))
    {
        return fail(format_args!("--output {}: this is a file that is imported", output.display()));
    }
    let import = match import(&files, options.merge_domains) {
        Ok(import) => import,
        Err(wrong) => return Failure::Problems(wrong).show(),
    };
    if let Err(problems) = import.check() {
        // A mistake of this program's: better no file than a wrong one.
        return Failure::from(problems).show();
    }
    for warning in import.warnings() {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "warning: {warning}");
    }
    let text = import.text();
    let Some(output) = &options.output else { return print_out(text.as_bytes()) };
    if let Err(error) = std::fs::write(output, text) {
        return fail(format_args!("cannot write {}: {error}", output.display()));
    }
    let policies = match import.policies() {
        1 => "1 policy".to_owned(),
        many => format!("{many} policies"),
    };
    let warnings = count(import.warnings().len(), "warning");
    print_out(format!("{}: {policies}, {warnings}\n", output.display()).as_bytes())
}

/// The policies of all files: of the rules for descriptors, which know each other, then of each file of limits.
fn import(files: &[File], merges: bool) -> Result<Import, Vec<Problems>> {
    let of = |from| files.iter().filter(move |file| file.from == from);
    let mut wrong = Vec::new();
    let mut import = Import::default();
    let rules: Vec<(&str, &str)> =
        of(ImportFrom::Envoy).map(|file| (file.name.as_str(), file.text.as_str())).collect();
    if !rules.is_empty() {
        match DescriptorRules::parse(&rules, merges, SEED) {
            Ok(parsed) => {
                let names: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
                import.add_descriptors(&names, &parsed);
            }
            Err(problems) => wrong.extend(problems),
        }
    }
    for file in of(ImportFrom::Limitador) {
        match LimitadorLimits::parse(&file.name, &file.text, SEED) {
            Ok(limits) => import.add_limitador(&file.name, &file.text, &limits),
            Err(problems) => wrong.push(problems),
        }
    }
    if wrong.is_empty() { Ok(import) } else { Err(wrong) }
}

fn read(path: &Path, from: Option<ImportFrom>) -> Result<File, String> {
    let name = path.display().to_string();
    let unread = |error: io::Error| format!("cannot read {name}: {error}");
    let size = std::fs::metadata(path).map_err(unread)?.len();
    if size > RULE_BYTES_MAX {
        return Err(format!("{name} is larger than {} MiB", RULE_BYTES_MAX >> 20));
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let origin = if is_toml { Some(Origin::Tollgate) } else { Origin::of(&text) };
    let found = match origin {
        Some(Origin::Tollgate) => {
            return Err(format!(
                "{name} is a policy file of Tollgate's already: there is nothing to import; `tollgate validate` checks it"
            ));
        }
        Some(Origin::Envoy) => Some(ImportFrom::Envoy),
        Some(Origin::Limitador) => Some(ImportFrom::Limitador),
        None => None,
    };
    match from.or(found) {
        Some(from) => Ok(File { name, text, from }),
        None => Err(format!(
            "{name} looks like no file that is known: rules of envoyproxy/ratelimit have a `domain:`, and limits of Limitador are \
             a list; say whose it is with --from, and what is wrong with it is told"
        )),
    }
}

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
