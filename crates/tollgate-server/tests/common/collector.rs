//! A collector of OpenTelemetry, as far as a test needs one: it takes what is exported over HTTP, and keeps it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    HistogramDataPoint, Metric, NumberDataPoint, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_mins(1);

/// What has come.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) spans: Vec<Span>,
    /// Those that came last, by name.
    pub(crate) metrics: BTreeMap<String, Metric>,
    /// Of who sends them.
    pub(crate) resource: BTreeMap<String, String>,
    /// How often anything was sent, taken or not.
    pub(crate) asked: usize,
    pub(crate) headers: HeaderMap,
    /// What it answers with, if not that it takes what is sent.
    refusal: Option<StatusCode>,
}

type Shared = Arc<(Mutex<Kept>, Condvar)>;

/// A collector on a free port, for as long as the test runs.
pub(crate) struct Collector {
    pub(crate) url: String,
    kept: Shared,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::serving("http", |listener, routes| async { axum::serve(listener, routes).await.unwrap() })
    }

    /// The same under TLS.
    pub(crate) fn start_tls(config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::serving("https", |listener, routes| async {
            axum::serve(TlsListener(listener, acceptor), routes).await.unwrap();
        })
    }

    fn serving<F>(scheme: &str, serve: impl FnOnce(TcpListener, Router) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let kept = Shared::default();
        let routes = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(Arc::clone(&kept));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            serve(TcpListener::from_std(listener).unwrap(), routes).await;
        });
        Self { url, kept, runtime: Some(runtime) }
    }

    /// From now on, answers with this status and keeps nothing; or takes everything again.
    pub(crate) fn refuse(&self, refusal: Option<StatusCode>) {
        self.kept.0.lock().unwrap().refusal = refusal;
    }

    /// Waits until something can be found in what has come.
    pub(crate) fn until<T>(&self, what: &str, mut find: impl FnMut(&Kept) -> Option<T>) -> T {
        let began = Instant::now();
        let mut kept = self.kept.0.lock().unwrap();
        loop {
            if let Some(found) = find(&kept) {
                return found;
            }
            let left = PATIENCE.saturating_sub(began.elapsed());
            assert!(!left.is_zero(), "{what} did not come: {kept:#?}");
            kept = self.kept.1.wait_timeout(kept, left).unwrap().0;
        }
    }
}

/// A listener that speaks TLS, with one client at a time while they shake hands.
struct TlsListener(TcpListener, TlsAcceptor);

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Tests that are tasks themselves may not wait for its end.
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Kept {
    /// Notes that something has come; false if it is not wanted.
    fn came(&mut self, headers: &HeaderMap) -> Result<(), StatusCode> {
        self.asked += 1;
        self.headers.clone_from(headers);
        assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
        self.refusal.map_or(Ok(()), Err)
    }

    /// The sum of a metric's points that have these attributes.
    pub(crate) fn sum(&self, metric: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        let points = self.points(metric).into_iter().filter(|point| {
            let own = texts(&point.attributes);
            attributes.iter().all(|(key, value)| own.get(*key).is_some_and(|own| own == value))
        });
        let values: Vec<f64> = points
            .map(|point| match point.value.unwrap() {
                number_data_point::Value::AsDouble(value) => value,
                number_data_point::Value::AsInt(value) => panic!("{metric}: {value}"),
            })
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    fn points(&self, metric: &str) -> Vec<NumberDataPoint> {
        match self.metrics.get(metric).and_then(|metric| metric.data.as_ref()) {
            Some(Data::Sum(sum)) => sum.data_points.clone(),
            Some(Data::Gauge(gauge)) => gauge.data_points.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn histogram(&self, metric: &str) -> Option<HistogramDataPoint> {
        match self.metrics.get(metric)?.data.as_ref()? {
            Data::Histogram(histogram) => histogram.data_points.first().cloned(),
            _ => None,
        }
    }
}

/// Attributes as texts.
pub(crate) fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| text(pair.value.as_ref().unwrap().value.as_ref().unwrap());
    attributes.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

async fn traces(State(kept): State<Shared>, headers: HeaderMap, body: Bytes) -> Result<(), StatusCode> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut all = kept.0.lock().unwrap();
    let came = all.came(&headers);
    if came.is_ok() {
        for resource in request.resource_spans {
            all.resource = texts(&resource.resource.unwrap().attributes);
            all.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    kept.1.notify_all();
    came
}

async fn metrics(State(kept): State<Shared>, headers: HeaderMap, body: Bytes) -> Result<(), StatusCode> {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let mut all = kept.0.lock().unwrap();
    let came = all.came(&headers);
    if came.is_ok() {
        for resource in request.resource_metrics {
            all.resource = texts(&resource.resource.unwrap().attributes);
            let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            all.metrics.extend(metrics.map(|metric| (metric.name.clone(), metric)));
        }
    }
    kept.1.notify_all();
    came
}
