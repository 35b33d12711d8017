//! The way to the collector. Only threads of the SDK's go it, so that it may wait; decisions never do.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::settings::Signal;

/// How much of an answer is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// One signal's way.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    /// Whether the last that was sent did not arrive.
    is_failing: AtomicBool,
}

impl Client {
    /// # Errors
    /// What is wrong with the certificates.
    pub(super) fn new(signal: Signal, endpoint: &str) -> Result<Self, String> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(signal.timeout()))
            .max_redirects(0)
            // No proxy of the environment's: the collector is asked where it is.
            .proxy(None)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if endpoint.starts_with("https:") {
            let roots = match signal.certificate() {
                Some((variable, path)) => certificates(&variable, &path)?,
                None => of_the_system()?,
            };
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider()))
                .root_certs(RootCerts::Specific(Arc::new(roots)));
            config = config.tls_config(tls.build());
        }
        let agent = config.build().into();
        Ok(Self { agent, endpoint: endpoint.to_owned(), is_failing: AtomicBool::new(false) })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(head, body.as_ref()))?;
        let (head, mut body) = answer.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(head, Bytes::from(body)))
    }

    /// Says when the collector goes away and when it comes back, and not each time.
    fn note(&self, sent: &Result<Response<Bytes>, ureq::Error>) {
        let endpoint = &self.endpoint;
        let trouble = match sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers with status {}", answer.status().as_u16())),
            Err(error) => Some(error.to_string()),
        };
        // Relaxed: what is told is told by itself.
        let was_failing = self.is_failing.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(error) if !was_failing => tracing::warn!(
                target: "tollgate::otlp",
                %endpoint,
                %error,
                "the collector does not take telemetry: look whether it listens there for OTLP over HTTP; decisions go on without it"
            ),
            None if was_failing => {
                tracing::info!(target: "tollgate::otlp", %endpoint, "the collector takes telemetry again");
            }
            _ => (),
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request);
        self.note(&sent);
        Ok(sent?)
    }
}

fn certificates(variable: &str, path: &str) -> Result<Vec<Certificate<'static>>, String> {
    let text = fs::read(path).map_err(|error| format!("{variable}: {path}: {error}"))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("{variable}: {path}: there is no certificate in it; name a file in PEM"));
    }
    Ok(certificates)
}

/// Those that the system believes.
fn of_the_system() -> Result<Vec<Certificate<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err("OTLP: the system has no certificates by which the collector could be believed; name a file of them in \
                    OTEL_EXPORTER_OTLP_CERTIFICATE"
            .to_owned());
    }
    Ok(found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}
