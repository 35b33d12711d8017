//! Which keys come, and in which order.

mod distribution;
mod random;
mod stream;

pub(crate) use distribution::{Distribution, Picker, shuffled};
pub(crate) use random::Random;
pub(crate) use stream::{KeyStream, NoKeys, Numbers, Texts};

use crate::arguments::Arguments;

/// What a thread's stream is drawn from: equal for equal arguments, different for each thread.
fn stream_seed(arguments: &Arguments, thread: usize) -> u64 {
    // No fewer than the most threads there can be.
    const THREADS: u64 = 1 << 16;
    arguments.seed.wrapping_mul(THREADS).wrapping_add(thread as u64)
}

/// The arrivals of all threads, written out before any clock runs.
pub(crate) fn streams<S: KeyStream>(arguments: &Arguments, length: usize) -> Vec<S> {
    let picker = S::KEYED.then(|| Picker::new(arguments.distribution, arguments.keys));
    let stream = |thread: usize| {
        let mut random = Random::new(stream_seed(arguments, thread));
        let mut stream = S::with_capacity(length);
        if let Some(picker) = &picker {
            for _ in 0..length {
                stream.push(picker.pick(&mut random));
            }
        }
        stream
    };
    // Looking places up in the table of a long-tailed distribution takes a while; no reason to wait for it twice.
    std::thread::scope(|scope| {
        let stream = &stream;
        let threads: Vec<_> =
            (0..arguments.threads).map(|thread| scope.spawn(move || stream(thread))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}
