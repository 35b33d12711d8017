//! skp-ratelimit: GCRA in whole milliseconds, in a sharded map, behind an asynchronous interface.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use skp_ratelimit::storage::GcConfig;
use skp_ratelimit::{Algorithm, GCRA, MemoryStorage, Quota};

use super::Peer;
use crate::error::Error;
use crate::setup::Setup;
use crate::workload::Texts;

/// Its storage in memory, which never waits: its futures are ready when they are first polled.
///
/// Throwing out old keys is left to a call that nobody makes here: by default it would look at all keys once in
/// 10,000 decisions.
#[derive(Debug)]
pub(crate) struct Skp {
    storage: MemoryStorage,
    algorithm: GCRA,
    quota: Quota,
}

impl Peer for Skp {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        let allowance = setup.allowance;
        let quota = Quota::try_new(u64::from(allowance.count), allowance.period)
            .map_err(|error| Error::refused("skp-ratelimit", error))?
            .with_burst(u64::from(allowance.burst));
        Ok(Self { storage: MemoryStorage::with_gc(GcConfig::manual()), algorithm: GCRA::new(), quota })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        let answer = at_once(self.algorithm.check_and_record(&self.storage, key, &self.quota));
        matches!(answer, Some(Ok(decision)) if decision.is_allowed())
    }
}

/// What a future gives that is ready at once.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
