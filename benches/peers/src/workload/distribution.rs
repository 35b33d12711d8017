//! How often each key comes.

use super::random::Random;

/// How often each key comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// All equally often.
    Uniform,
    /// The n-th most frequent one n times less often than the first.
    Zipf,
}

impl Distribution {
    /// The name in arguments and results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// Draws indices of keys.
#[derive(Debug)]
pub(crate) enum Picker {
    Uniform(u32),
    /// For each rank, how much falls on it and on those before.
    Zipf(Box<[f64]>),
}

impl Picker {
    /// Draws from `keys` keys.
    pub(crate) fn new(distribution: Distribution, keys: u32) -> Self {
        match distribution {
            Distribution::Uniform => Self::Uniform(keys),
            Distribution::Zipf => {
                let mut sum = 0.0;
                Self::Zipf(
                    (1..=keys)
                        .map(|rank| {
                            sum += 1.0 / f64::from(rank);
                            sum
                        })
                        .collect(),
                )
            }
        }
    }

    /// The index of a key: of Zipf's, its rank. An index says nothing of where a limiter keeps the key: its name is
    /// scrambled, and all are inserted in random order.
    pub(crate) fn pick(&self, random: &mut Random) -> u32 {
        match self {
            Self::Uniform(keys) => random.below(*keys),
            Self::Zipf(sums) => {
                let last = sums.len().saturating_sub(1);
                let point = random.fraction() * sums[last];
                let rank = sums.partition_point(|sum| *sum <= point).min(last);
                u32::try_from(rank).unwrap_or(u32::MAX)
            }
        }
    }
}

/// The indices of all keys in random order.
pub(crate) fn shuffled(keys: u32, random: &mut Random) -> Vec<u32> {
    let mut order: Vec<u32> = (0..keys).collect();
    for end in (1..keys).rev() {
        order.swap(end as usize, random.below(end + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of ten keys comes in 100,000 draws.
    fn draws(distribution: Distribution) -> [u32; 10] {
        let picker = Picker::new(distribution, 10);
        let mut random = Random::new(7);
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[picker.pick(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn zipf_falls_with_the_rank() {
        // The sum of 1/n up to ten.
        const SUM: f64 = 2.928_968;
        for (count, rank) in draws(Distribution::Zipf).into_iter().zip(1_u32..) {
            let expected = 100_000.0 / SUM / f64::from(rank);
            assert!((f64::from(count) - expected).abs() < expected * 0.06, "{rank}: {count} for {expected}");
        }
    }

    #[test]
    fn uniform_is_uniform() {
        assert!(draws(Distribution::Uniform).into_iter().all(|count| (9_500..10_500).contains(&count)));
    }

    #[test]
    fn shuffling_loses_none() {
        let mut order = shuffled(1_000, &mut Random::new(3));
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1_000));
    }
}
