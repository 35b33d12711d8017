//! Spans that wait to be sent. There is room for so many; those that come when it is taken are lost, and counted.
//!
//! The SDK's queue is bounded too, but does not tell what it drops. So spans are counted here on their way in and out, and none
//! comes to it that it would have no room for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

/// How long it is between two lines of the log that tell of spans that were lost.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// Of the whole process, as its log is.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many spans were lost: there was no room for them, or the collector did not take them.
pub(in crate::serve) fn lost() -> u64 {
    // Relaxed, here and below: counts, which order nothing else.
    LOST.load(Ordering::Relaxed)
}

/// How many spans wait.
#[derive(Debug)]
pub(super) struct Room {
    taken: AtomicUsize,
    most: usize,
}

impl Room {
    pub(super) const fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// Takes a place, if there is one.
    fn take(&self) -> bool {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.most {
            return true;
        }
        self.leave(1);
        LOST.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn leave(&self, places: usize) {
        self.taken.fetch_sub(places, Ordering::Relaxed);
    }
}

/// The way in.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    next: P,
    room: Arc<Room>,
}

impl<P> Bounded<P> {
    pub(super) const fn new(next: P, room: Arc<Room>) -> Self {
        Self { next, room }
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.room.take() {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// The way out.
#[derive(Debug)]
pub(super) struct Counted<E> {
    next: E,
    room: Arc<Room>,
    /// What was lost when that was told last, and when.
    told: Mutex<(u64, Option<Instant>)>,
}

impl<E> Counted<E> {
    pub(super) fn new(next: E, room: Arc<Room>) -> Self {
        Self { next, room, told: Mutex::default() }
    }

    /// Tells of what was lost, now and then.
    fn tell(&self, lost: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if lost > told.0 && told.1.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            tracing::warn!(
                target: "tollgate::otlp",
                spans = lost - told.0,
                "spans were lost, as the collector is away or too slow for so many: sample fewer by OTEL_TRACES_SAMPLER, or make the \
                 queue longer by OTEL_BSP_MAX_QUEUE_SIZE"
            );
            *told = (lost, Some(Instant::now()));
        }
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.room.leave(spans);
        let sent = self.next.export(batch).await;
        if sent.is_err() {
            LOST.fetch_add(spans as u64, Ordering::Relaxed);
        }
        self.tell(lost());
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
