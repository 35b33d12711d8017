//! Records of what was used: what is noted, what they hold at most, and what stands in their files.
#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use tollgate::Timestamp;
use tollgate::usage::{RecordOptions, UseRecord, UseRow, csv};
use tollgate::{Config, Format, Gate, KeySeed, ManualClock, MemoryOptions, MemoryStore, Request, Settlement};

const PLAN: &str = "{ name: plan, key: user, algorithm: quota, limit: 100/month, record: true }";

/// The 22nd of November 2026, and the 2nd of December.
const NOVEMBER: u64 = 1_795_305_600;
const DECEMBER: u64 = 1_796_169_600;

type Tested = Gate<MemoryStore<ManualClock>>;

fn gate(policies: &str, record: UseRecord) -> (Tested, ManualClock) {
    let text = format!("policies: [{policies}]");
    let config = Config::parse("test", &text, Format::Yaml, &[]).unwrap();
    let clock = ManualClock::new(Timestamp::from_secs(NOVEMBER));
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    (Gate::with_seed(config, store, KeySeed::new([7; 16])).with_use_record(record), clock)
}

fn in_memory(policies: &str) -> (Tested, ManualClock) {
    gate(policies, UseRecord::new(RecordOptions::default()))
}

fn user(name: &str) -> Request {
    Request::default().with_user(name)
}

/// Each identity and what it used.
fn used(gate: &Tested) -> Vec<(String, u64)> {
    let told = |row: UseRow| (row.identity.unwrap_or_else(|| "(others)".to_owned()), row.used);
    gate.use_record().unwrap().rows().into_iter().map(told).collect()
}

fn pair(name: &str, used: u64) -> (String, u64) {
    (name.to_owned(), used)
}

#[test]
fn a_record_holds_what_limits_have_taken() {
    let (gate, clock) = in_memory(PLAN);
    assert!(gate.check_n(&user("ana"), 60).is_allowed());
    // What is denied takes nothing, and what only looks takes nothing.
    assert!(!gate.check_n(&user("ana"), 41).is_allowed());
    assert!(gate.peek(&user("ana"), Some(1)).is_allowed());
    assert!(gate.refusal(&user("bob"), Some(5)).is_none());
    assert_eq!(used(&gate), [pair("ana", 60), pair("bob", 5)]);
    // A cost that turns out otherwise, and one that is given back.
    let verdict = gate.check_n(&user("bob"), 10);
    gate.settle(&verdict, Settlement::Actual(4));
    let verdict = gate.check_n(&user("bob"), 1);
    gate.settle(&verdict, Settlement::Actual(21));
    let (_, reservation) = gate.reserve(&user("bob"), Some(7));
    gate.refund(reservation.unwrap());
    assert_eq!(used(&gate), [pair("ana", 60), pair("bob", 30)]);
    let usage = &gate.usage(&user("bob"))[0];
    assert_eq!((usage.used, usage.limit, usage.end), (30, 100, Timestamp::from_secs(1_796_083_200)));
    // A charge beyond what is left takes what is left.
    let verdict = gate.check_n(&user("ana"), 1);
    gate.settle(&verdict, Settlement::Extra(1_000));
    assert_eq!(used(&gate)[0], pair("ana", 100));

    // What is given back when the period is over goes nowhere.
    let late = gate.check_n(&user("bob"), 2);
    clock.set(Timestamp::from_secs(DECEMBER));
    assert!(gate.check_n(&user("ana"), 3).is_allowed());
    gate.settle(&late, Settlement::Actual(0));
    assert_eq!(used(&gate), [pair("ana", 100), pair("bob", 32), pair("ana", 3)]);
    assert_eq!(gate.usage(&user("bob"))[0].used, 0);
}

#[test]
fn identities_are_named_as_the_policy_says_and_secrets_are_hashed() {
    let quota = "algorithm: quota, limit: 5/day";
    let (gate, _) = in_memory(&format!(
        "{{ name: a, key: api_key, {quota}, record: true }},
         {{ name: b, key: api_key, {quota}, record: 'claim:customer' }},
         {{ name: c, key: [user, identity], {quota}, record: true }},
         {{ name: d, key: 'header:x-team | ip', {quota}, record: true }},
         {{ name: e, key: global, {quota} }},
         {{ name: f, key: global, limits: [{{ name: steady, limit: 5/day }}, {{ name: n, {quota} }}], record: true }}"
    ));
    let request = user("a&b=c")
        .with_api_key("canary-4711")
        .with("claim:customer".parse().unwrap(), "Müller & Söhne")
        .with_ip("203.0.113.7".parse().unwrap());
    assert!(gate.check(&request).is_allowed());
    let rows = gate.use_record().unwrap().rows();
    let names: Vec<&str> = rows.iter().filter_map(|row| row.identity.as_deref()).collect();
    let policies: Vec<&str> = rows.iter().map(|row| row.policy.as_str()).collect();
    assert_eq!(policies, ["a", "b", "c", "d", "f"]);
    assert!(names[0].starts_with('#') && names[0].len() == 33, "{names:?}");
    assert_eq!(names[1], "Müller & Söhne");
    assert_eq!(names[2], format!("user=a%26b=c&api_key={}", names[0]));
    assert_eq!(&names[3..], ["ip=203.0.113.7", "everyone"]);
    assert_eq!(rows[4].limit_name.as_deref(), Some("n"));
    assert!(!format!("{rows:?}").contains("canary"), "{rows:?}");
    // Very long names do not take very much room.
    assert!(gate.check(&user(&"x".repeat(100_000))).is_allowed());
}

#[test]
fn a_record_has_room_for_so_many_and_sums_up_the_others() {
    let mut options = RecordOptions::default();
    options.rows_max = 3;
    let (gate, clock) = gate(PLAN, UseRecord::new(options));
    for name in ["a", "b", "c", "d", "e"] {
        assert!(gate.check_n(&user(name), 2).is_allowed());
    }
    assert_eq!(used(&gate), [pair("(others)", 4), pair("a", 2), pair("b", 2), pair("c", 2)]);
    // Once the month is over it makes room.
    clock.set(Timestamp::from_secs(DECEMBER));
    assert!(gate.check_n(&user("e"), 1).is_allowed());
    assert_eq!(used(&gate), [pair("e", 1)]);
}

#[test]
fn rows_are_told_as_csv_in_local_time() {
    let text = "{ name: plan, key: user, algorithm: quota, limit: 100/month, record: true,
                  calendar: { zone: Europe/Berlin, start_day: 15 } }";
    let (gate, _) = in_memory(text);
    assert!(gate.check_n(&user("=cmd|' /C calc'!A0, \"x\""), 2).is_allowed());
    assert_eq!(
        csv(&gate.use_record().unwrap().rows()),
        "policy,tier,limit_name,identity,period_start,period_end,limit,used\r\n\
         plan,,,\"'=cmd|' /C calc'!A0, \"\"x\"\"\",2026-11-15T00:00:00+01:00,2026-12-15T00:00:00+01:00,100,2\r\n"
    );
}

fn opened(directory: &Path, flush_every: Option<Duration>) -> UseRecord {
    let mut options = RecordOptions::default();
    options.flush_every = flush_every;
    UseRecord::open(directory, options).unwrap()
}

#[test]
fn a_record_goes_on_where_its_file_ends() {
    let directory = tempfile::tempdir().unwrap();
    for (round, flush_every) in [None, Some(Duration::from_hours(1)), None].into_iter().enumerate() {
        let (gate, _) = gate(PLAN, opened(directory.path(), flush_every));
        // The store is new each time, and takes over what was used.
        assert_eq!(
            gate.use_record().unwrap().restore(gate.store(), &gate.policies()),
            usize::from(round > 0)
        );
        assert_eq!(gate.usage(&user("ana\t%"))[0].used, 30 * round as u64);
        assert!(gate.check_n(&user("ana\t%"), 30).is_allowed());
        // What it has it does not take twice.
        assert_eq!(gate.use_record().unwrap().restore(gate.store(), &gate.policies()), 0);
    }
    let (gate, _) = gate(PLAN, opened(directory.path(), None));
    assert_eq!(used(&gate), [pair("ana\t%", 90)]);
}

#[test]
fn what_is_told_is_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (gate, _) = gate(PLAN, opened(directory.path(), None));
    let copy = tempfile::tempdir().unwrap();
    for round in 1..=20_u64 {
        assert!(gate.check_n(&user("ana"), 3).is_allowed());
        // As it would be found if the process ended here.
        let file = fs::read(directory.path().join("use.log")).unwrap();
        fs::write(copy.path().join("use.log"), &file).unwrap();
        assert_eq!(opened(copy.path(), None).rows()[0].used, 3 * round);
        // And if the last line had not been written to its end.
        fs::write(copy.path().join("use.log"), &file[..file.len() - 1]).unwrap();
        assert_eq!(opened(copy.path(), None).rows().first().map_or(0, |row| row.used), 3 * (round - 1));
    }
}

#[test]
fn a_file_that_no_record_wrote_is_refused_and_one_at_a_time_uses_it() {
    let directory = tempfile::tempdir().unwrap();
    let (gate, _) = gate(PLAN, opened(directory.path(), None));
    assert!(gate.check(&user("ana")).is_allowed());
    let error = UseRecord::open(directory.path(), RecordOptions::default()).unwrap_err().to_string();
    assert!(error.contains("another process keeps its record here"), "{error}");
    drop(gate);
    let path = directory.path().join("use.log");
    let line = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{}{line}", line.replace("plan", "plum"))).unwrap();
    let error = UseRecord::open(directory.path(), RecordOptions::default()).unwrap_err().to_string();
    assert!(error.contains("use.log:1: this is no line of a record"), "{error}");
}

#[test]
fn many_threads_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (gate, _) = gate(&PLAN.replace("100/", "1000000/"), opened(directory.path(), None));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gate = &gate;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert!(gate.check(&user(if thread % 2 == 0 { "even" } else { "odd" })).is_allowed());
                }
            });
        }
    });
    drop(gate);
    let rows = opened(directory.path(), None).rows();
    assert_eq!(rows.iter().map(|row| row.used).collect::<Vec<_>>(), [400, 400]);
}
