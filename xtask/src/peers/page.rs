//! The page: what was measured and how, then the tables.

use std::fmt::Write;

use super::machine;
use super::options::Options;
use super::tables::Section;

const OPENING: &str = "\
# Tollgate and other limiters

How fast Tollgate's limiter decides within a program, and how much memory it takes, beside other crates for Rust. This page is
written by the command below; whoever runs it on another machine gets other numbers, and the ratios are what to look at.
";

const READING: &str = "\
## How to read it

* Each number of a table comes from a process of its own that measures one limiter once. A round measures everything once;
  rounds follow each other, and each begins with another limiter. `min`, `median` and `max` are over the rounds.
* A ratio is taken within a round, so that a machine that was busy for a while does not favour anybody. The ratio's column
  gives the median of the rounds, the last column the least and the greatest: where they lie far apart, trust neither.
* Keys are texts of 13 bytes. All of them are inserted in random order before anything is timed, and stay: a decision finds
  its key. They arrive in an order that is written out beforehand, one key after the other in one piece of memory, as
  requests come off a socket. *Uniform*: each equally often. *Zipf*: the n-th most frequent one n times less often than the
  first, drawn exactly.
* *Allowed*: each key may come 1,000,000 times at once and gets 20 an hour back, so that everything passes and no key is as new
  while it is measured. *Denied*: one an hour, spent beforehand. A run in which less than 99 % pass, or are denied, is an error.
* `empty` is no limiter: what the harness itself costs. `empty-memory` is none either, and writes one word in a cache line that the
  key chooses: what memory costs. Nothing is subtracted anywhere.
";

const LIMITERS: &str = "\
## The limiters

| name | what it is |
|---|---|
| `governor` | a `DashMap` of `String`s with the default hash and clock, as its guide begins; keys are copied into a buffer, as it looks them up by `&String` |
| `governor-tuned` | the same with ahash and with its clock that a thread advances, here once a millisecond |
| `governor-u64` | the same as `governor` with numbers as keys; in tables of texts it shows what hashing and comparing texts costs |
| `flux-limiter` | its own `DashMap`; takes keys by value, so each decision makes a `String` |
| `skp-ratelimit` | GCRA in its memory storage, with old keys left alone; its futures are ready at the first poll |
| `throttlecrab-*` | its three stores, with room for all keys, behind one `Mutex`, as they are borrowed mutably. The probabilistic one looks for old keys once in as many decisions as there are keys, not once in 1,000 |
| `ratelimit-dashmap`, `leaky-bucket-dashmap` | crates that limit one thing, one limiter for each key in a `DashMap` |
| `naive-dashmap`, `naive-moka` | a token bucket of a double and an instant, in a `DashMap` and, behind a `Mutex`, in a cache of moka |
| `tollgate` | `KeyedLimiter::<str>::check`, with GCRA, in a store with room for a quarter more keys than come |
| `tollgate-batch-16` | the same, sixteen keys at a time |
| `tollgate-odd-rate` | the same at a rate whose interval is no whole number of nanoseconds, such as 7 a second has |
| `tollgate-store-one`, `-three` | one limit, or three that must all pass, of the same key, asked through the store |
";

const FAIRNESS: &str = "\
## What is fair, and what is not

* All use the system's allocator, the same compiler and the same settings. Tollgate alone is built with checks for overflow, as it
  is in its own repository.
* `tollgate` and `naive-moka` are bounded and do their own housekeeping. `throttlecrab` throws out old keys by itself, and finds none
  here. The others grow until somebody asks them to clean up, which nobody does here.
* `tollgate` hashes keys to 128 bits under a secret and keeps the hash; the others keep the key and compare it. `governor-tuned` and
  `throttlecrab` use ahash, which is quicker than the SipHash of the others and of `tollgate`.
* An answer of `tollgate` says whether the request passes, what is left, when to retry and when the limit is whole again.
  `governor` says whether it passes and can be asked when to retry; `flux-limiter`, `skp-ratelimit` and `throttlecrab` say about as
  much as `tollgate`, `ratelimit` when to retry, `leaky-bucket` and the naive ones only whether it passes.
* `tollgate` keeps one word of a key's state wherever the time between two permits is a whole number of nanoseconds and the limit is
  whole again within nine years, as here and for nearly all rates that people write. `tollgate-odd-rate` shows the others.
* `skp-ratelimit` counts time in milliseconds. `throttlecrab` is given a burst of 2 where the others are denied by 1: with a burst
  of 1 it forgets each key at once.
* Loops are hot: nothing but decisions happens, and all of a processor's caches belong to the limiter. A program that does anything
  else will see all of them slower, and those that touch more memory slower still.

## What is not measured

* More than two threads, machines with several sockets, other processors.
* Keys that come and go, cleaning up, a store that is full.
* Waiting for a permit, which is what `leaky-bucket` is made for; anything over a network.
* `throttlecrab-adaptive` while growing: in a store that it has not been told the size of, it looks at all keys in each decision once
  the store is three quarters full. The probabilistic one keeps what the periodic one keeps.
";

/// Those whose versions matter.
const CRATES: [&str; 9] = [
    "governor",
    "flux-limiter",
    "skp-ratelimit",
    "throttlecrab",
    "ratelimit",
    "leaky-bucket",
    "dashmap",
    "moka",
    "ahash",
];

/// The whole page.
pub(super) fn text(options: &Options, sections: &[Section]) -> String {
    let mut page = String::from(OPENING);
    // Writing to a string cannot fail.
    let _ = write!(page, "\n```sh\n{}\n```\n\n| | |\n|---|---|\n", options.command());
    for (name, value) in machine::facts() {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    let versions: Vec<String> =
        machine::versions(&CRATES).into_iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = write!(page, "| Versions | {} |\n\n", versions.join(", "));
    let (aims, rest) = sections.split_at(sections.len().min(1));
    for part in aims.iter().map(ToString::to_string).chain([READING.to_owned(), LIMITERS.to_owned()]) {
        let _ = writeln!(page, "{part}");
    }
    for section in rest {
        let _ = writeln!(page, "{section}");
    }
    page.push_str(FAIRNESS);
    page
}
