//! How many requests passed and were denied over time, in buckets that widen as the time grows.

use std::collections::BTreeMap;

/// The most buckets that are kept; wider ones take the place of more.
const BUCKETS_MAX: usize = 4_096;

/// How wide buckets are, in seconds. Each divides the next, so that they can be merged; and they are lengths that people
/// think in, so that a chart can merge them further into minutes, hours and days. Beyond the last, widths double.
const WIDTHS_S: [u64; 13] = [1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];

/// Counts by time.
#[derive(Debug)]
pub(super) struct TimelineCounter {
    width_s: u64,
    buckets: BTreeMap<u64, (u64, u64)>,
    /// The bucket of the last request: the next one is nearly always in it too.
    last: (u64, (u64, u64)),
}

impl TimelineCounter {
    pub(super) fn new() -> Self {
        Self { width_s: 1, buckets: BTreeMap::new(), last: (0, (0, 0)) }
    }

    pub(super) fn count(&mut self, second: u64, allowed: bool) {
        let bucket = second / self.width_s;
        if self.last.0 != bucket {
            self.flush();
            self.last = (second / self.width_s, (0, 0));
        }
        let (admitted, denied) = &mut self.last.1;
        *(if allowed { admitted } else { denied }) += 1;
    }

    fn flush(&mut self) {
        let (bucket, (admitted, denied)) = self.last;
        if admitted + denied > 0 {
            add(&mut self.buckets, bucket, (admitted, denied));
        }
        let span =
            |buckets: &BTreeMap<u64, (u64, u64)>| match (buckets.first_key_value(), buckets.last_key_value())
            {
                (Some((first, _)), Some((last, _))) => last - first + 1,
                _ => 0,
            };
        while span(&self.buckets) > BUCKETS_MAX as u64 {
            let wider_s =
                WIDTHS_S.into_iter().find(|width| *width > self.width_s).unwrap_or(self.width_s * 2);
            let mut wider = BTreeMap::new();
            for (bucket, counts) in std::mem::take(&mut self.buckets) {
                add(&mut wider, bucket / (wider_s / self.width_s), counts);
            }
            (self.width_s, self.buckets) = (wider_s, wider);
        }
    }

    /// The start, the width in seconds, and what was admitted and denied in each bucket, empty ones too.
    pub(super) fn finish(mut self) -> (u64, u64, Vec<u64>, Vec<u64>) {
        self.flush();
        let (Some((first, _)), Some((last, _))) =
            (self.buckets.first_key_value(), self.buckets.last_key_value())
        else {
            return (0, self.width_s, Vec::new(), Vec::new());
        };
        let count = |bucket: u64| self.buckets.get(&bucket).copied().unwrap_or_default();
        let (admitted, denied) = (*first..=*last).map(count).unzip();
        (first * self.width_s, self.width_s, admitted, denied)
    }
}

fn add(buckets: &mut BTreeMap<u64, (u64, u64)>, bucket: u64, (admitted, denied): (u64, u64)) {
    let counts = buckets.entry(bucket).or_default();
    counts.0 += admitted;
    counts.1 += denied;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_widen_and_lose_nothing() {
        let mut timeline = TimelineCounter::new();
        for second in 0..100_000 {
            timeline.count(1_000_000 + second, second % 10 != 0);
        }
        let (start, width, admitted, denied) = timeline.finish();
        assert_eq!(width, 30);
        assert!(start <= 1_000_000 && start + width > 1_000_000);
        assert!(admitted.len() <= BUCKETS_MAX);
        assert_eq!((admitted.iter().sum::<u64>(), denied.iter().sum::<u64>()), (90_000, 10_000));
    }

    #[test]
    fn time_may_go_back() {
        let mut timeline = TimelineCounter::new();
        for second in [10_000_000, 5, 10_000_000, 7_000_000] {
            timeline.count(second, true);
        }
        let (start, width, admitted, _) = timeline.finish();
        assert!(start <= 5 && start + width > 5);
        assert_eq!(admitted.iter().sum::<u64>(), 4);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(TimelineCounter::new().finish(), (0, 1, Vec::new(), Vec::new()));
    }
}
