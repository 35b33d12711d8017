//! A store that ends in every way, and what is found then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "there are few keys and threads")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use proptest::prelude::*;
use tollgate_core::algorithm::{Refill, TokenBucket};
use tollgate_core::{Decision, Grant, Limit, LimitId, ManualClock, Quota, Source};

use super::disk::Sheet;
use super::journal::file_name;
use super::*;
use crate::conformance::{Options, run_local};

const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Flushes only when told to.
fn slow() -> DurableOptions {
    DurableOptions { flush_interval: FLUSH_INTERVAL_MAX, ..DurableOptions::default() }
}

fn open(directory: &Path, clock: &ManualClock) -> DurableStore<ManualClock> {
    DurableStore::open_with_clock(directory, &slow(), clock.clone()).unwrap()
}

fn refused(directory: &Path, options: &DurableOptions) -> String {
    DurableStore::open(directory, options).unwrap_err().to_string()
}

fn hit(limit: &Limit, key: u128) -> Hit<'_> {
    Hit::new(LimitId(1), KeyHash(key), limit)
}

fn take(store: &impl LocalStore, limit: &Limit, key: u128) -> Option<Grant> {
    store.acquire(&[Group::all(&[hit(limit, key)])]).outcomes[0].grant
}

fn look(store: &impl LocalStore, limit: &Limit, key: u128) -> Decision {
    store.peek(&[Group::all(&[hit(limit, key)])]).outcomes[0].decision
}

fn used(store: &impl LocalStore, limit: &Limit, key: u128) -> u64 {
    limit.capacity() - look(store, limit, key).remaining
}

/// One for each form that a state can have, in memory and in files.
fn limits() -> Vec<Limit> {
    let bucket = |style| {
        let bucket = TokenBucket::new(9, Quota::per_minute(7)).unwrap();
        Limit::from(bucket.with_refill(style).unwrap())
    };
    let slow = "5/10y".parse::<Quota>().unwrap_or_else(|_| Quota::per_hour(1));
    vec![
        Limit::gcra(Quota::per_minute(6)),
        Limit::gcra(Quota::per_minute(7)),
        Limit::leaky_bucket(5, Quota::per_minute(6)).unwrap(),
        bucket(Refill::Greedy),
        bucket(Refill::Interval),
        Limit::fixed_window(Quota::per_hour(8)),
        Limit::sliding_window(Quota::per_hour(8)),
        Limit::sliding_log(Quota::per_hour(8)).unwrap(),
        // Takes longer to recover than a table counts.
        Limit::gcra(slow),
    ]
}

/// Copies what is in a directory, as it would be found if the process ended now.
fn copied(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        // A file may get its name, or go, in between; then it is there under another.
        let _ = fs::copy(entry.path(), copy.path().join(entry.file_name()));
    }
    copy
}

#[test]
fn a_limit_holds_across_a_restart_and_time_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, limit) = (ManualClock::new(START), Limit::gcra(Quota::per_minute(3)));
    let store = open(directory.path(), &clock);
    assert!(take(&store, &limit, 7).is_some() && take(&store, &limit, 7).is_some());
    store.close().unwrap();

    clock.advance(Duration::from_secs(20));
    let store = open(directory.path(), &clock);
    assert_eq!((store.recovery().keys, store.recovery().as_of), (1, Some(START)));
    // Two were taken, and one has come back meanwhile.
    assert!(take(&store, &limit, 7).is_some() && take(&store, &limit, 7).is_some());
    assert!(take(&store, &limit, 7).is_none());
}

#[test]
fn states_of_every_form_are_kept_with_and_without_a_last_flush() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let store = open(directory.path(), &clock);
    let limits = limits();
    let shown = |store: &DurableStore<ManualClock>| -> Vec<Decision> {
        let keys = |(index, limit)| (0..20_u128).map(move |key| look(store, limit, key + 100 * index));
        (0_u128..).zip(&limits).flat_map(keys).collect()
    };
    for (index, limit) in (0_u128..).zip(&limits) {
        for key in 0..20 {
            for _ in 0..key % 5 {
                take(&store, limit, key + 100 * index);
                clock.advance(Duration::from_millis(1));
            }
        }
    }
    store.flush().unwrap();
    let (expected, copy) = (shown(&store), copied(directory.path()));
    assert_eq!(shown(&open(copy.path(), &clock)), expected);
    store.close().unwrap();
    assert_eq!(shown(&open(directory.path(), &clock)), expected);
}

#[test]
fn what_was_given_back_or_reset_does_not_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let store = open(directory.path(), &clock);
    let limits = limits();
    let mut grants = Vec::new();
    for (index, limit) in (0_u128..).zip(&limits) {
        grants.push((limit, take(&store, limit, index).unwrap(), KeyHash(index)));
        take(&store, limit, 100 + index).unwrap();
    }
    store.flush().unwrap();
    for (limit, grant, key) in grants {
        store.refund(&[Refund { key, limit, grant, source: Source::Memory }]);
    }
    LocalStore::reset(&store, &(100..100 + limits.len() as u128).map(KeyHash).collect::<Vec<_>>());
    store.flush().unwrap();
    let copy = copied(directory.path());
    let store = open(copy.path(), &clock);
    for (index, limit) in (0_u128..).zip(&limits) {
        assert_eq!(used(&store, limit, index), 0, "given back: {limit}");
        assert_eq!(used(&store, limit, 100 + index), 0, "reset: {limit}");
    }
}

#[test]
fn what_has_come_back_by_itself_takes_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, limit) = (ManualClock::new(START), Limit::gcra(Quota::per_minute(1)));
    let store = open(directory.path(), &clock);
    for key in 0..1_000 {
        take(&store, &limit, key).unwrap();
    }
    store.close().unwrap();
    clock.advance(Duration::from_mins(1));
    assert_eq!(open(directory.path(), &clock).recovery().keys, 0);
}

#[test]
fn keys_that_share_a_state_share_it_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = slow();
    options.memory = MemoryOptions { capacity: 1, ..MemoryOptions::default() };
    let (clock, limit) = (ManualClock::new(START), Limit::gcra(Quota::per_minute(2)));
    let open = || DurableStore::open_with_clock(directory.path(), &options, clock.clone()).unwrap();
    let store = open();
    for key in 0..3 {
        take(&store, &limit, key).unwrap();
    }
    store.close().unwrap();
    let store = open();
    assert!(take(&store, &limit, 9).is_none(), "the two that share have taken both");
    assert!(take(&store, &limit, 0).is_some());
}

#[test]
fn states_without_room_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let store = open(directory.path(), &clock);
    for key in 0..10 {
        take(&store, &limits()[0], key).unwrap();
    }
    store.close().unwrap();
    let mut options = slow();
    options.memory.capacity = 4;
    let store = DurableStore::open_with_clock(directory.path(), &options, clock).unwrap();
    assert_eq!((store.recovery().keys, store.recovery().without_room), (4, 6));
}

/// A store that is closed and opened again, or found as if it had been killed, after every few requests.
struct Interrupted {
    clock: ManualClock,
    store: RwLock<Option<(tempfile::TempDir, DurableStore<ManualClock>)>>,
    requests: AtomicU32,
}

impl Interrupted {
    fn new() -> Self {
        // At the epoch nothing is vacant, whatever times the histories have.
        let (clock, directory) = (ManualClock::new(Timestamp::EPOCH), tempfile::tempdir().unwrap());
        let store = open(directory.path(), &clock);
        Self { clock, store: RwLock::new(Some((directory, store))), requests: AtomicU32::new(0) }
    }

    fn with<R>(&self, run: impl FnOnce(&DurableStore<ManualClock>) -> R) -> R {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        if requests.is_multiple_of(1_000) {
            let mut place = self.store.write().unwrap();
            let (directory, store) = place.take().unwrap();
            let directory = if requests.is_multiple_of(2_000) {
                store.close().unwrap();
                directory
            } else {
                store.flush().unwrap();
                copied(directory.path())
            };
            let store = open(directory.path(), &self.clock);
            *place = Some((directory, store));
        }
        run(&self.store.read().unwrap().as_ref().unwrap().1)
    }
}

impl LocalStore for Interrupted {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        self.with(|store| store.acquire_at(now, groups))
    }

    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        self.with(|store| store.peek_at(now, groups))
    }

    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) {
        self.with(|store| store.refund_at(now, refunds));
    }

    fn reset(&self, keys: &[KeyHash]) {
        self.with(|store| LocalStore::reset(store, keys));
    }
}

#[test]
fn a_store_that_restarts_all_the_time_equals_the_model() {
    let summary = run_local(&Interrupted::new(), Options::new(20_261_122, 20_000)).unwrap();
    assert!(summary.decisions > 100_000, "{}", summary.decisions);
}

/// What is done to a store before it ends.
#[derive(Clone, Debug)]
enum Step {
    Take(usize, u128),
    Refund(usize),
    Reset(u128),
    Wait(u64),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..9_usize, 0..4_u128).prop_map(|(limit, key)| Step::Take(limit, key)),
        2 => any::<usize>().prop_map(Step::Refund),
        1 => (0..4_u128).prop_map(Step::Reset),
        1 => (1..40_u64).prop_map(Step::Wait),
        2 => Just(Step::Flush),
    ]
}

/// What all keys had left at one moment, and how long the file was then.
struct Moment {
    bytes: u64,
    now: Timestamp,
    left: Vec<Decision>,
}

/// Runs these steps, and returns the file with what was flushed at which length.
fn history(steps: &[Step]) -> (tempfile::TempDir, Vec<Moment>) {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let store = open(directory.path(), &clock);
    let (limits, mut grants) = (limits(), Vec::new());
    let mut moments = vec![moment(&store, &limits)];
    for step in steps {
        match step {
            Step::Take(index, key) => {
                let key = key + 100 * *index as u128;
                grants.extend(take(&store, &limits[*index], key).map(|grant| (*index, KeyHash(key), grant)));
            }
            Step::Refund(index) if !grants.is_empty() => {
                let (limit, key, grant) = grants.swap_remove(index % grants.len());
                store.refund(&[Refund { key, limit: &limits[limit], grant, source: Source::Memory }]);
            }
            Step::Refund(_) => {}
            Step::Reset(key) => LocalStore::reset(&store, &[KeyHash(*key)]),
            Step::Wait(seconds) => clock.advance(Duration::from_secs(*seconds)),
            Step::Flush => {
                store.flush().unwrap();
                moments.push(moment(&store, &limits));
            }
        }
    }
    store.flush().unwrap();
    moments.push(moment(&store, &limits));
    let copy = copied(directory.path());
    (copy, moments)
}

fn moment(store: &DurableStore<ManualClock>, limits: &[Limit]) -> Moment {
    let left = (0_u128..)
        .zip(limits)
        .flat_map(|(index, limit)| (0..4_u128).map(move |key| look(store, limit, key + 100 * index)));
    Moment { bytes: store.durability().file_bytes, now: store.now(), left: left.collect() }
}

/// Opens what is left of a file, and demands that each key is as it was at the last flush that is whole.
fn check_prefix(file: &[u8], whole_up_to: usize, moments: &[Moment]) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(file_name(1)), file).unwrap();
    let moment_index = moments.iter().rposition(|moment| moment.bytes <= whole_up_to as u64).unwrap();
    let expected = &moments[moment_index];
    let clock = ManualClock::new(expected.now);
    let store = open(directory.path(), &clock);
    assert_eq!(moment(&store, &limits()).left, expected.left, "whole up to {whole_up_to} of {}", file.len());
    // And it can be gone on with.
    take(&store, &limits()[0], 77).unwrap();
    store.close().unwrap();
    assert_eq!(used(&open(directory.path(), &clock), &limits()[0], 77), 1);
}

fn example() -> (Vec<u8>, Vec<Moment>) {
    let take = |limit| Step::Take(limit, 1);
    let steps = [take(0), Step::Flush, take(1), take(7), Step::Flush, Step::Refund(0), take(4), Step::Flush];
    let (directory, moments) = history(&steps);
    (fs::read(directory.path().join(file_name(1))).unwrap(), moments)
}

#[test]
fn a_file_torn_at_any_byte_is_whole_up_to_the_flush_before() {
    let (file, moments) = example();
    assert_eq!(moments.last().unwrap().bytes, file.len() as u64);
    for end in format::HEAD_BYTES..=file.len() {
        check_prefix(&file[..end], end, &moments);
    }
    // Nor do the bytes matter that the system has promised and not written.
    let end = file.len() - 7;
    check_prefix(&[&file[..end], &[0; 4_096]].concat(), end, &moments);
}

#[test]
fn a_flipped_byte_ends_the_file_there_and_is_told() {
    let (file, moments) = example();
    for index in format::HEAD_BYTES..file.len() {
        let mut flipped = file.clone();
        flipped[index] ^= 0x10;
        check_prefix(&flipped, index, &moments);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file_name(1));
    let mut flipped = file.clone();
    flipped[format::HEAD_BYTES + 30] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let store = open(directory.path(), &ManualClock::new(START));
    let cut = store.recovery().cut.clone().unwrap();
    assert_eq!((cut.at, cut.bytes), (64, file.len() as u64 - 64));
    assert!(cut.is_damage, "there is more behind it");
    assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), flipped);
    assert!(directory.path().join(file_name(2)).exists() && !path.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_cut_what_is_found_is_a_prefix(
        steps in prop::collection::vec(step(), 1..60),
        cut in any::<prop::sample::Index>(),
        flipped in any::<prop::sample::Index>(),
    ) {
        let (directory, moments) = history(&steps);
        let file = fs::read(directory.path().join(file_name(1))).unwrap();
        let end = format::HEAD_BYTES + cut.index(file.len() - format::HEAD_BYTES + 1);
        check_prefix(&file[..end], end, &moments);
        if file.len() > format::HEAD_BYTES {
            let index = format::HEAD_BYTES + flipped.index(file.len() - format::HEAD_BYTES);
            let mut file = file;
            file[index] ^= 1;
            check_prefix(&file, index, &moments);
        }
    }
}

/// Takes on threads while a table grows and files follow one another; at any moment, what lies on disk is what was flushed
/// last, or later.
#[test]
fn what_is_found_at_any_moment_under_load_is_at_least_what_was_flushed() {
    const KEYS: u128 = 60_000;
    const THREADS: u128 = 2;
    let directory = tempfile::tempdir().unwrap();
    let mut options = slow();
    options.flush_interval = FLUSH_INTERVAL_MIN;
    let limits = [
        Limit::gcra_with_burst(Quota::per_hour(100), 1_000_000).unwrap(),
        Limit::gcra_with_burst(Quota::per_hour(700), 1_000_000).unwrap(),
    ];
    let limit = |key: u128| &limits[usize::from(key.is_multiple_of(8))];
    let clock = ManualClock::new(START);
    let store = DurableStore::open_with_clock(directory.path(), &options, clock.clone()).unwrap();
    let taken: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let stop = AtomicBool::new(false);
    // More keys every time around, so that segments split meanwhile.
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, taken, stop, limit) = (&store, &taken, &stop, &limit);
            scope.spawn(move || {
                for round in 1_u128.. {
                    for key in (thread..(round * 1_000).min(KEYS)).step_by(THREADS as usize) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        // Told apart by the low bits, as a hash would be.
                        take(store, limit(key), key.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap();
                        taken[key as usize].fetch_add(1, Ordering::Release);
                    }
                }
            });
        }
        let count = || -> Vec<u32> { taken.iter().map(|taken| taken.load(Ordering::Acquire)).collect() };
        let mut files = Vec::new();
        while files.len() < 3 {
            let before = count();
            store.flush().unwrap();
            let copy = copied(directory.path());
            let after = count();
            let found = DurableStore::open_with_clock(copy.path(), &options, clock.clone());
            // A file may have been replaced while the directory was copied.
            let Ok(found) = found else { continue };
            if found.recovery().as_of.is_none() {
                continue;
            }
            let number = Found::look(directory.path()).unwrap().latest.unwrap();
            if !files.contains(&number) {
                files.push(number);
            }
            for (key, (before, after)) in (0..KEYS).zip(before.iter().zip(&after)) {
                let used = used(&found, limit(key), key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                // One may be taken and not counted yet by each thread.
                assert!(
                    u64::from(*before) <= used && used <= u64::from(*after) + 1,
                    "key {key}: {before} ≤ {used} ≤ {after}"
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let expected: Vec<u64> = taken.iter().map(|taken| taken.load(Ordering::Relaxed).into()).collect();
    store.close().unwrap();
    let store = open(directory.path(), &clock);
    for (key, expected) in (0..KEYS).zip(expected) {
        assert_eq!(used(&store, limit(key), key.wrapping_mul(0x9E37_79B9_7F4A_7C15)), expected, "key {key}");
    }
}

/// A disk of which one operation fails, or all from one on.
#[derive(Clone)]
struct Faulty(Arc<RealDisk>, Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// How many operations there were, of which kind each.
    done: Vec<&'static str>,
    fails: Option<usize>,
    for_good: bool,
}

impl Faulty {
    fn new(directory: &Path) -> Self {
        Self(Arc::new(RealDisk::lock(directory).unwrap()), Arc::default())
    }

    fn operation(&self, kind: &'static str) -> io::Result<()> {
        let mut plan = self.1.lock().unwrap();
        let number = plan.done.len();
        plan.done.push(kind);
        match plan.fails {
            Some(fails) if number == fails || plan.for_good && number > fails => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
            }
            _ => Ok(()),
        }
    }

    fn mend(&self) {
        *self.1.lock().unwrap() = Plan::default();
    }
}

struct FaultySheet(Faulty, Box<dyn Sheet>);

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sheet>> {
        self.operation("create")?;
        Ok(Box::new(FaultySheet(self.clone(), self.0.create(path)?)))
    }

    fn reopen(&self, path: &Path, length: u64) -> io::Result<Box<dyn Sheet>> {
        self.operation("reopen")?;
        Ok(Box::new(FaultySheet(self.clone(), self.0.reopen(path, length)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // It may have happened all the same.
        self.operation("rename").inspect_err(|_| drop(self.0.rename(from, to)))?;
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operation("remove")?;
        self.0.remove(path)
    }
}

impl Sheet for FaultySheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.0.operation("write") {
            Ok(()) => self.1.write(bytes),
            Err(error) => {
                // A part of it may be there all the same.
                self.1.write(&bytes[..bytes.len() / 2])?;
                Err(error)
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.operation("sync")?;
        self.1.sync()
    }

    fn check(&self) -> io::Result<()> {
        self.0.operation("check")?;
        self.1.check()
    }
}

#[test]
fn whichever_operation_fails_decisions_go_on_and_all_is_written_afterwards() {
    let limit = Limit::gcra(Quota::per_hour(100));
    let mut kinds = BTreeMap::new();
    for for_good in [false, true] {
        for fails in 0.. {
            let (directory, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(START));
            let disk = Faulty::new(directory.path());
            let store =
                DurableStore::open_on(Box::new(disk.clone()), directory.path(), &slow(), clock.clone())
                    .unwrap();
            take(&store, &limit, 1).unwrap();
            store.flush().unwrap();
            *disk.1.lock().unwrap() = Plan { done: Vec::new(), fails: Some(fails), for_good };
            let mut flushed = 1;
            for round in 2..6 {
                take(&store, &limit, 1).unwrap();
                if round == 4 {
                    // So that a new file is written, too.
                    fs::remove_file(Found::look(directory.path()).unwrap().latest.unwrap()).ok();
                }
                if store.flush().is_ok() {
                    flushed = round;
                    assert_eq!(store.durability().trouble, None);
                } else {
                    assert!(store.durability().trouble.is_some() && store.durability().failures > 0);
                }
            }
            let done = std::mem::take(&mut disk.1.lock().unwrap().done);
            if done.len() <= fails {
                break;
            }
            *kinds.entry(done[fails]).or_insert(0) += 1;
            // Found as it is now, it is as it was flushed, or not there at all where somebody has removed it.
            let found = open(copied(directory.path()).path(), &clock);
            let found = used(&found, &limit, 1);
            assert!(found >= flushed || found == 0 && done.len() > fails, "{found} of {flushed}: {done:?}");
            // Mended, it writes everything.
            disk.mend();
            store.flush().unwrap();
            let found = open(copied(directory.path()).path(), &clock);
            assert_eq!(used(&found, &limit, 1), 5, "{done:?}");
        }
    }
    assert_eq!(
        kinds.into_keys().collect::<Vec<_>>(),
        ["check", "create", "remove", "rename", "sync", "write"]
    );
}

/// A new file is begun beside one that has grown long, and takes several flushes to become whole.
#[test]
fn a_new_file_that_lacks_something_never_gets_its_name() {
    const KEYS: usize = 600_000;
    // Few enough that not all of the new file is written along with them.
    const SOME: usize = 20_000;
    let limit = Limit::gcra(Quota::per_hour(1_000));
    let (directory, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(START));
    let disk = Faulty::new(directory.path());
    let store =
        DurableStore::open_on(Box::new(disk.clone()), directory.path(), &slow(), clock.clone()).unwrap();
    let is_begun = || {
        let mut files = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
        files.any(|path| path.extension().is_some_and(|extension| extension == "new"))
    };
    let mut taken = vec![0; KEYS];
    let mut take_of = |key: usize| {
        take(&store, &limit, key as u128).unwrap();
        taken[key] += 1;
    };
    (0..KEYS).for_each(&mut take_of);
    store.flush().unwrap();
    for round in 0.. {
        assert!(round < 100, "no new file is begun");
        (0..SOME).for_each(&mut take_of);
        store.flush().unwrap();
        if is_begun() {
            break;
        }
    }
    // What has changed is written to the present file, and then cannot be to the new one.
    *disk.1.lock().unwrap() = Plan { fails: Some(1), ..Plan::default() };
    take_of(7);
    let _ = store.flush();
    assert_eq!(disk.1.lock().unwrap().done[..2], ["write", "write"]);
    assert!(store.durability().failures > 0 && !is_begun());
    disk.mend();
    take_of(8);
    store.flush().unwrap();
    let found = open(copied(directory.path()).path(), &clock);
    for key in (0..KEYS).step_by(997).chain([7, 8]) {
        assert_eq!(used(&found, &limit, key as u128), taken[key], "{key}");
    }
}

#[test]
fn a_file_that_was_removed_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, limit) = (ManualClock::new(START), Limit::gcra(Quota::per_hour(9)));
    let store = open(directory.path(), &clock);
    take(&store, &limit, 1).unwrap();
    store.flush().unwrap();
    fs::remove_file(directory.path().join(file_name(1))).unwrap();
    assert!(store.flush().unwrap_err().to_string().contains("removed"));
    assert!(store.durability().trouble.is_some());
    store.flush().unwrap();
    assert_eq!(store.durability().trouble, None);
    assert_eq!(used(&open(copied(directory.path()).path(), &clock), &limit, 1), 1);
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), &ManualClock::new(START));
    let why = refused(directory.path(), &slow());
    assert!(why.contains("in use by another process (process "), "{why}");
    drop(store);
    open(directory.path(), &ManualClock::new(START));
}

#[test]
fn what_cannot_be_opened_is_said_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = slow();
    options.seed = Some(KeySeed::new([1; 16]));
    DurableStore::open(directory.path(), &options).unwrap().close().unwrap();
    let path = directory.path().join(file_name(1));
    let file = fs::read(&path).unwrap();

    assert_eq!(DurableStore::open(directory.path(), &slow()).unwrap().seed().to_bytes(), [1; 16]);
    options.seed = Some(KeySeed::new([2; 16]));
    assert!(refused(directory.path(), &options).contains("another seed"));

    let mut later = file.clone();
    later[8] = 9;
    let sum = crc32fast::hash(&later[..60]).to_le_bytes();
    later[60..64].copy_from_slice(&sum);
    for (bytes, expected) in [
        (later, "is of format 9"),
        (
            b"something else altogether, which is as long as the head of a file is".to_vec(),
            "no states of Tollgate's",
        ),
        (file[..63].to_vec(), "damaged at its beginning"),
        ([&file[..40], &[9], &file[41..]].concat(), "damaged at its beginning"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let why = refused(directory.path(), &slow());
        assert!(why.contains(expected) && why.contains(file_name(1).as_str()), "{why}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it is");
    }
    // A directory that cannot be one.
    let why = refused(&path.join("below"), &slow());
    assert!(why.contains("has to be a directory in which this user may write"), "{why}");
}

#[cfg(unix)]
#[test]
fn the_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    open(&directory, &ManualClock::new(START));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join(file_name(1)))), (0o700, 0o600));
}

#[test]
fn a_file_that_was_begun_and_not_finished_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    open(directory.path(), &clock).close().unwrap();
    let begun = directory.path().join(file_name(2)).with_extension("new");
    fs::write(&begun, "torn").unwrap();
    open(directory.path(), &clock);
    assert!(!begun.exists());
}
