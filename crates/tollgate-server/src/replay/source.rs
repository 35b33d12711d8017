//! One log, read, parsed and planned on a thread of its own.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::log::{LogError, Options, Progress, Reader, Tally};
use super::plan::{PlannedBatch, Planner};

/// How many planned batches may wait: enough that neither side stands still.
const BATCHES_WAITING: usize = 4;

/// The most logs that are read side by side: each holds a thread and a few megabytes.
const LOGS_MAX: usize = 64;

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Source {
    planned: Receiver<Result<PlannedBatch, LogError>>,
    used: SyncSender<PlannedBatch>,
    progress: Progress,
}

/// Why the logs cannot be read side by side.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "{0} logs are more than the {LOGS_MAX} that are read at once; use `cat LOG… | tollgate replay -`"
    )]
    TooMany(usize),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Source {
    /// Opens all logs, or none.
    pub(super) fn open_all(
        paths: &[PathBuf],
        options: &Options,
        planner: &Planner,
    ) -> Result<Vec<Self>, OpenError> {
        if paths.len() > LOGS_MAX {
            return Err(OpenError::TooMany(paths.len()));
        }
        // Checks all of them first, so that a wrong name is said before the work begins.
        drop(Reader::open(paths, options)?);
        paths
            .iter()
            .map(|path| Ok(Self::start(Reader::open(std::slice::from_ref(path), options)?, planner.clone())?))
            .collect()
    }

    fn start(mut reader: Reader, planner: Planner) -> std::io::Result<Self> {
        let progress = reader.progress();
        let mut parser = reader.parser();
        let (send, planned) = sync_channel(BATCHES_WAITING);
        let (used, reuse) = sync_channel::<PlannedBatch>(BATCHES_WAITING + 1);
        thread::Builder::new().name("log reader".to_owned()).spawn(move || {
            loop {
                let mut planned: PlannedBatch = reuse.try_recv().unwrap_or_default();
                let message = match reader.read_chunk(&mut planned.batch) {
                    Ok(false) => break,
                    Ok(true) => {
                        parser.parse_chunk(&mut planned.batch);
                        planner.plan(&mut planned);
                        Ok(planned)
                    }
                    Err(error) => Err(error),
                };
                // Nobody listens any more: the replay has ended.
                if send.send(message).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { planned, used, progress })
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The next batch that holds requests; `None` at the end. What went wrong is noted, and what was counted is added.
    pub(super) fn next_batch(&self, tally: &mut Tally, failures: &mut Vec<LogError>) -> Option<PlannedBatch> {
        loop {
            match self.planned.recv().ok()? {
                Ok(planned) => {
                    tally.add(planned.batch.tally());
                    if planned.batch.is_empty() {
                        self.give_back(planned);
                    } else {
                        return Some(planned);
                    }
                }
                Err(error) => failures.push(error),
            }
        }
    }

    /// Hands a batch back to be filled again.
    pub(super) fn give_back(&self, batch: PlannedBatch) {
        // Where there are enough already, this one is dropped.
        let _ = self.used.try_send(batch);
    }
}
