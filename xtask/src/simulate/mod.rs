//! A service that loses most of its capacity and gets it back, under more load than it can ever bear, behind each kind of limit.
//!
//! Nothing here measures the machine that it runs on: time is simulated, chance has a fixed seed, and only the four operations of
//! arithmetic are used on fractions, so that every machine finds the same.

mod backend;
mod chart;
mod guards;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use tollgate_core::Timestamp;

use self::backend::Backend;
use self::guards::{Guard, Held};
use crate::chores::{ChoreError, Done, root};

/// The cores of the service, on good days and while it has lost most of them.
const CORES: u32 = 32;
const CORES_LOST: u32 = 12;
/// What a request takes of a core, on average.
const SERVICE: Duration = Duration::from_millis(50);
/// Requests a second: what the service can bear on good days, and what comes.
const CAPACITY: u32 = 640;
const LOAD: u32 = 960;
/// After which a client has gone, and what the service did for it was in vain.
const TIMEOUT: Duration = Duration::from_secs(1);
/// When the cores are lost, when they come back, and when it ends.
const LOST_S: u32 = 30;
const BACK_S: u32 = 60;
const END_S: u32 = 90;

/// How often in a second health is looked at.
const TICKS: u32 = 4;

const SECOND: f64 = 1e9;

/// How a service fared behind one kind of limit.
#[derive(Debug)]
struct Course {
    name: &'static str,
    /// Requests answered in time, in each second.
    good: Vec<u32>,
}

impl Course {
    /// Of the requests that the service could have answered, how many it did, in percent: over all the time, and while
    /// the cores were lost.
    fn shares(&self) -> (f64, f64) {
        (self.share(0, END_S), self.share(LOST_S, BACK_S))
    }

    fn share(&self, from_s: u32, to_s: u32) -> f64 {
        let best: u32 = (from_s..to_s).map(best_at).sum();
        let seconds = self.good.iter().take(to_s as usize).skip(from_s as usize);
        f64::from(seconds.sum::<u32>()) * 100.0 / f64::from(best)
    }
}

/// The most that the service can answer in this second: with all cores in use, and nothing waiting.
const fn best_at(second: u32) -> u32 {
    if LOST_S <= second && second < BACK_S { CAPACITY * CORES_LOST / CORES } else { CAPACITY }
}

/// Requests under way.
struct Request {
    began: f64,
    /// Taken when it is answered, or given up.
    held: Option<Held>,
}

/// One run, to its end.
// What happens next is the least of some numbers, and which of them it is.
#[allow(clippy::float_cmp)]
fn run(name: &'static str, mut guard: Guard) -> Course {
    let mut chance = Chance(0x746F_6C6C_6761_7465);
    let mut backend = Backend::new(CORES);
    let mut requests: Vec<Request> = Vec::new();
    // In the order in which they began, which is that in which they would be given up.
    let mut waiting: VecDeque<usize> = VecDeque::new();
    let mut good = vec![0; END_S as usize];
    let (mut arrival, mut ticks, mut second) = (0.0, 0_u32, 0_u32);
    let timeout = TIMEOUT.as_secs_f64() * SECOND;
    loop {
        let finished = backend.next().unwrap_or(f64::INFINITY);
        let tick = f64::from(ticks) * SECOND / f64::from(TICKS);
        while waiting.front().is_some_and(|request| requests[*request].held.is_none()) {
            waiting.pop_front();
        }
        let late = waiting.front().map_or(f64::INFINITY, |request| requests[*request].began + timeout);
        let now = finished.min(tick).min(late).min(arrival);
        backend.advance(now);
        if now == tick {
            second = ticks / TICKS;
            if second == END_S {
                return Course { name, good };
            }
            ticks += 1;
            backend.set_cores(if (LOST_S..BACK_S).contains(&second) { CORES_LOST } else { CORES });
            guard.tick(at(now));
        } else if now == finished {
            let Some(request) = backend.finish().map(|request| &mut requests[request]) else { continue };
            if let Some(held) = request.held.take() {
                guard.leave(held, lasted(now - request.began), false);
                good[second as usize] += 1;
            }
        } else if now == late {
            let Some(index) = waiting.pop_front() else { continue };
            if let Some(held) = requests[index].held.take() {
                backend.drop(index);
                guard.leave(held, TIMEOUT, true);
            }
        } else {
            if let Some(held) = guard.enter(at(now)) {
                let work = SERVICE.as_secs_f64() * SECOND * chance.around_one();
                backend.begin(requests.len(), work);
                waiting.push_back(requests.len());
                requests.push(Request { began: now, held: Some(held) });
            }
            arrival = now + SECOND / f64::from(LOAD) * chance.around_one();
        }
    }
}

// A minute or so.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn at(now: f64) -> Timestamp {
    Timestamp::from_nanos(now as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn lasted(nanos: f64) -> Duration {
    Duration::from_nanos(nanos as u64)
}

/// Numbers by chance: `SplitMix64` (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    /// Evenly between ½ and 1½.
    // 53 bits are what a double holds.
    #[allow(clippy::cast_precision_loss)]
    fn around_one(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        0.5 + ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn courses() -> Result<Vec<Course>, ChoreError> {
    let guards = guards::all().map_err(|error| ChoreError::Failed(error.to_string()))?;
    Ok(guards.into_iter().map(|(name, guard)| run(name, guard)).collect())
}

fn table(courses: &[Course]) -> String {
    let mut table =
        String::from("| behind | of the best, over all | while the cores are lost |\n|---|---|---|\n");
    for course in courses {
        let (all, lost) = course.shares();
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {} | {all:.1} % | {lost:.1} % |", course.name);
    }
    table
}

/// Between these lines of the page stands the table.
const BEGIN: &str = "<!-- The table is written by `cargo xtask simulate`. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

const PAGE: &str = "docs/adaptive.md";
const PLOT: &str = "docs/adaptive.svg";

/// Writes the plot, and the table into its page.
pub(crate) fn write() -> Done {
    let courses = courses()?;
    let failed = |what: &'static str| move |error| ChoreError::Io(what.to_owned(), error);
    let page = fs::read_to_string(root().join(PAGE)).map_err(failed(PAGE))?;
    let page = with_table(&page, &table(&courses)).ok_or_else(|| {
        ChoreError::Missing(format!("{PAGE} has no place for the table: `{}`", BEGIN.trim()))
    })?;
    fs::write(root().join(PAGE), page).map_err(failed(PAGE))?;
    fs::write(root().join(PLOT), chart::svg(&courses)).map_err(failed(PLOT))?;
    print!("{}", table(&courses));
    println!("written: {PLOT}, and the table in {PAGE}");
    Ok(())
}

/// The page with this table in place of the one that stands there.
fn with_table(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_adapt_hold_the_service_near_its_best() {
        for course in courses().unwrap() {
            let (all, lost) = course.shares();
            match course.name {
                "no limit" => assert!(all < 50.0, "{all}"),
                "AIMD" | "Vegas" | "gradient" => {
                    assert!(all >= 90.0 && lost >= 90.0, "{}: {all}, {lost}", course.name);
                }
                name if name.starts_with("rate") => assert!(all >= 80.0, "{name}: {all}"),
                name => assert!(all > 50.0, "{name}: {all}"),
            }
        }
    }

    #[test]
    fn the_page_and_the_plot_are_those_of_this_simulation() {
        let courses = courses().unwrap();
        let page = fs::read_to_string(root().join(PAGE)).unwrap();
        let told = "run `cargo xtask simulate`";
        assert_eq!(with_table(&page, &table(&courses)).as_deref(), Some(&*page), "{told}");
        assert!(fs::read_to_string(root().join(PLOT)).unwrap() == chart::svg(&courses), "{told}");
    }
}
