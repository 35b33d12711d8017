//! Asking a server that runs: `tollgate check`, `explain`, `usage` and `top`.
//!
//! * [`request`]: a request as people write it in a few words.
//! * [`check`], [`explain`], [`usage`], [`top`]: the commands.

mod check;
mod explain;
mod request;
mod top;
mod usage;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body, http};

use crate::cli::{fail, length, print_out};
use crate::text::paint::Style;
use crate::text::style;

pub(crate) use self::check::{CheckOptions, run as check};
pub(crate) use self::explain::{ExplainOptions, run as explain};
pub(crate) use self::top::{TopOptions, run as top};
pub(crate) use self::usage::{UsageOptions, run as usage};

/// The exit code of a denial. Errors have 1, and wrong options 2.
const DENIED: u8 = 3;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How a server is reached.
#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub(crate) struct ConnectionOptions {
    /// How long the server may take to answer
    #[arg(long, value_name = "LENGTH", default_value = "5s", value_parser = length)]
    timeout: Duration,

    /// The certificates of those who vouch for a server with TLS (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The certificate to show to a server that asks for one (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// A server.
#[derive(Debug)]
struct Server {
    agent: Agent,
    url: String,
    token: Option<String>,
}

/// Why there is no answer to show.
#[derive(Debug)]
struct Unanswered(String);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Server {
    fn new(url: &str, options: &ConnectionOptions) -> Result<Self, Unanswered> {
        let url = url.trim_end_matches('/').to_owned();
        let mut tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider()));
        if let Some(path) = &options.ca {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates("--ca", path)?)));
        } else if url.starts_with("https:") {
            return Err(Unanswered(
                "--ca: name the file of certificates by which the server is to be believed".to_owned(),
            ));
        }
        if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
            let chain = certificates("--cert", cert)?;
            let text = read("--key", key)?;
            let key = ureq::tls::PrivateKey::from_pem(&text)
                .map_err(|error| Unanswered(format!("--key {}: {error}", key.display())))?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(options.timeout))
            .timeout_send_request(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            // No proxy of the environment's: servers are asked where they are.
            .proxy(None)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(Self { agent: config.into(), url, token: None })
    }

    /// Says who asks.
    fn with_token(mut self, token: Option<&String>) -> Self {
        self.token = token.filter(|token| !token.is_empty()).cloned();
        self
    }

    /// Asks a question, and reads the answer, which may be a denial.
    fn ask(&self, path: &str, question: &Value) -> Result<Value, Unanswered> {
        let request = self.request(path).method("POST").header("content-type", "application/json");
        let mut response = self.run(path, request.body(question.to_string()))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.unanswered(&error))?;
        let answer: Value = serde_json::from_str(&text).map_err(|_| {
            Unanswered(format!("{}{path} answers something else than JSON: is it Tollgate?", self.url))
        })?;
        match answer["error"]["message"].as_str() {
            // A denial has such a part too.
            Some(message) if status != 200 && status != 429 => {
                Err(Unanswered(format!("{} refuses: {message}", self.url)))
            }
            _ => Ok(answer),
        }
    }

    /// The text of an answer.
    fn get(&self, path: &str) -> Result<String, Unanswered> {
        let mut response = self.run(path, self.request(path).method("GET").body(String::new()))?;
        let (status, body) = (response.status().as_u16(), response.body_mut());
        let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.unanswered(&error))?;
        if status == 200 {
            return Ok(text);
        }
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        let message = answer.as_ref().and_then(|answer| answer["error"]["message"].as_str());
        Err(Unanswered(match message {
            Some(message) => format!("{} refuses: {message}", self.url),
            None => {
                format!("{}{path} answers with status {status}: is it Tollgate's administration?", self.url)
            }
        }))
    }

    /// The lines of an answer that goes on and on.
    fn lines(&self, path: &str) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>, Unanswered> {
        let response = self.run(path, self.request(path).method("GET").body(String::new()))?;
        if response.status() != 200 {
            return Err(Unanswered(format!(
                "{}{path} answers with status {}",
                self.url,
                response.status().as_u16()
            )));
        }
        Ok(BufReader::new(response.into_body().into_reader()).lines())
    }

    fn request(&self, path: &str) -> http::request::Builder {
        let request = http::Request::builder().uri(format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn run(
        &self,
        path: &str,
        request: Result<http::Request<String>, http::Error>,
    ) -> Result<http::Response<Body>, Unanswered> {
        let request = request.map_err(|error| Unanswered(format!("{}{path}: {error}", self.url)))?;
        self.agent.run(request).map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &ureq::Error) -> Unanswered {
        Unanswered(format!("{} does not answer: {error}", self.url))
    }
}

/// Prints an answer, as it is or for people, and gives the exit code for it.
fn show(
    asked: Result<Value, Unanswered>,
    as_it_is: bool,
    render: impl FnOnce(&Value, Style) -> String,
) -> ExitCode {
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => return fail(error),
    };
    let text = if as_it_is { format!("{answer:#}\n") } else { render(&answer, style()) };
    let printed = print_out(text.as_bytes());
    if answer["allowed"] == false { ExitCode::from(DENIED) } else { printed }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Unanswered> {
    std::fs::read(path).map_err(|error| Unanswered(format!("{option} {}: {error}", path.display())))
}

fn certificates(option: &str, path: &Path) -> Result<Vec<Certificate<'static>>, Unanswered> {
    let text = read(option, path)?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Unanswered(format!("{option} {}: there is no certificate in it", path.display())));
    }
    Ok(certificates)
}
