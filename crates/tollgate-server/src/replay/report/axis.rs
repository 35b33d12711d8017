//! Axes: how a timeline is cut into columns, and where its marks stand.
//!
//! The terminal plot and the SVG chart share this, so that both show the same columns and hours.

use super::{Timeline, format};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Lengths of time people think in, in seconds. Longer ones are doublings of the last.
const NICE_SECONDS: [u64; 27] = [
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
    91 * DAY,
    364 * DAY,
];

/// A timeline cut into few enough columns to be drawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Where the first column begins, in seconds since 1970-01-01 00:00:00 UTC.
    pub(super) start: u64,
    /// The length of each column, in seconds.
    pub(super) seconds: u64,
    /// Requests admitted and requests denied in each column.
    pub(super) counts: Vec<(u64, u64)>,
}

impl Columns {
    /// `timeline` in at most `most` columns.
    ///
    /// Where buckets must be merged, columns get a length people think in and begin at its
    /// multiples, so that an hour's column holds that hour. The first and the last may therefore
    /// hold less than a whole one, just as a log does.
    pub(super) fn fit(timeline: &Timeline, most: usize) -> Self {
        let bucket = timeline.bucket_seconds.max(1);
        let length = timeline.admitted.len().max(timeline.denied.len());
        let value = |list: &[u64], i: usize| list.get(i).copied().unwrap_or(0);
        let buckets = (0..length).map(|i| (value(&timeline.admitted, i), value(&timeline.denied, i)));
        if length <= most {
            return Self { start: timeline.start_unix_seconds, seconds: bucket, counts: buckets.collect() };
        }

        let seconds = column_seconds(timeline.start_unix_seconds, bucket, length as u64, most as u64);
        let first = timeline.start_unix_seconds / seconds;
        let mut counts: Vec<(u64, u64)> = Vec::with_capacity(most);
        let mut begin = timeline.start_unix_seconds;
        let mut current = None;
        for (admitted, denied) in buckets {
            let column = begin / seconds - first;
            if current != Some(column) {
                counts.push((0, 0));
                current = Some(column);
            }
            if let Some(last) = counts.last_mut() {
                *last = (last.0.saturating_add(admitted), last.1.saturating_add(denied));
            }
            begin = begin.saturating_add(bucket);
        }
        Self { start: first * seconds, seconds, counts }
    }

    /// Where column `i` begins.
    pub(super) fn begin(&self, i: usize) -> u64 {
        self.start.saturating_add(self.seconds.saturating_mul(i as u64))
    }

    /// Where the last column ends.
    pub(super) fn end(&self) -> u64 {
        self.begin(self.counts.len())
    }

    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|&column| column == (0, 0))
    }

    /// The most requests admitted in one column.
    pub(super) fn most_admitted(&self) -> u64 {
        self.counts.iter().map(|column| column.0).max().unwrap_or(0)
    }

    /// The most requests denied in one column.
    pub(super) fn most_denied(&self) -> u64 {
        self.counts.iter().map(|column| column.1).max().unwrap_or(0)
    }

    /// The column with the most requests of both kinds, and how many those are.
    pub(super) fn busiest(&self) -> Option<(usize, u64)> {
        let totals = self.counts.iter().map(|&(admitted, denied)| admitted.saturating_add(denied));
        // `max_by_key` would give the last of equals: the first is where one looks.
        totals.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

/// A mark on the time axis.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// Where it stands, in seconds since 1970-01-01 00:00:00 UTC.
    pub(super) at: u64,
    /// What is written there.
    pub(super) label: String,
}

/// At most `most` marks from `start` to `end`, at round times in UTC.
///
/// A mark at midnight bears the day, others the time of day.
pub(super) fn ticks(start: u64, end: u64, most: u64) -> Vec<Tick> {
    // A step may divide the span exactly and put a mark at both ends: one more than the quotient.
    let fits = |step: u64| (end.saturating_sub(start)) / step < most.max(1);
    let step = nice_seconds(fits);
    // Weeks begin on Mondays: the fourth day after the epoch, a Thursday, was the first one.
    let offset = if step >= 7 * DAY { 4 * DAY } else { 0 };
    let first = start.saturating_sub(offset).div_ceil(step).saturating_mul(step).saturating_add(offset);
    let mut ticks = Vec::new();
    let mut at = first;
    while at <= end {
        ticks.push(Tick { at, label: label(at, step) });
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    ticks
}

/// The scale of a count axis: round steps from zero to at least the highest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    /// The distance of two marks.
    pub(super) step: u128,
    /// The value at the top, a multiple of `step`.
    pub(super) top: u128,
}

impl Scale {
    /// The scale for values up to `peak`, with at most `steps` steps.
    pub(super) fn up_to(peak: u64, steps: u128) -> Self {
        let peak = u128::from(peak.max(1));
        let mut power = 1_u128;
        loop {
            for digit in [1, 2, 5] {
                let step = digit * power;
                if step * steps.max(1) >= peak {
                    return Self { step, top: peak.div_ceil(step) * step };
                }
            }
            power *= 10;
        }
    }

    /// The marks, from zero upwards.
    pub(super) fn marks(self) -> impl Iterator<Item = u128> {
        (0..=self.top / self.step).map(move |i| i * self.step)
    }
}

/// The shortest column that makes `buckets` buckets of `bucket` seconds from `start` at most `most`
/// columns, a multiple of the bucket.
fn column_seconds(start: u64, bucket: u64, buckets: u64, most: u64) -> u64 {
    let last = start.saturating_add(bucket.saturating_mul(buckets.saturating_sub(1)));
    let fits = |seconds: u64| last / seconds - start / seconds < most.max(1);
    // Every bucket must lie in one column alone, or a column would show part of another's requests.
    let nice =
        nice_seconds(|seconds| seconds.is_multiple_of(bucket) && fits(seconds) || seconds > u64::MAX / 4);
    if nice.is_multiple_of(bucket) && fits(nice) {
        return nice;
    }
    // An odd bucket length (7 s, say): as many whole ones as it takes.
    let mut seconds = bucket.saturating_mul(buckets.div_ceil(most.max(1)));
    while !fits(seconds) {
        seconds = seconds.saturating_add(bucket);
    }
    seconds
}

/// The shortest nice length of time that `fits`, or the longest there is.
fn nice_seconds(fits: impl Fn(u64) -> bool) -> u64 {
    let mut longer = 364 * DAY;
    if let Some(&seconds) = NICE_SECONDS.iter().find(|&&seconds| fits(seconds)) {
        return seconds;
    }
    while !fits(longer) {
        let Some(doubled) = longer.checked_mul(2) else { break };
        longer = doubled;
    }
    longer
}

/// What is written at the mark `at` when marks are `step` seconds apart.
fn label(at: u64, step: u64) -> String {
    if step >= 91 * DAY {
        format::date(at)
    } else if at.is_multiple_of(DAY) {
        format::day(at)
    } else if step >= MINUTE {
        format::hour_minute(at)
    } else {
        format::hour_minute_second(at)
    }
}
