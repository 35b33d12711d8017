//! Who may ask the administration.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tollgate::{KeyedLimiter, Quota};

use super::Admin;
use crate::cli::AdminOptions;
use crate::serve::api::refusal;
use crate::serve::net::Peer;

/// How many wrong tokens an address may try.
const WRONG_A_MINUTE: u32 = 20;
/// The shortest token: shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Who may ask.
#[derive(Debug)]
pub(super) struct Access {
    /// What they have to know; without it, whoever can reach the address.
    token: Option<Token>,
    /// Whether they have shown a certificate before they come here.
    is_mutual: bool,
    /// The wrong tokens of each address.
    wrong: KeyedLimiter<IpAddr>,
}

/// A secret.
struct Token(Vec<u8>);

/// Says nothing of the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Who asks, for the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody who knows the token.
    Token(IpAddr),
    /// Somebody with a certificate.
    Certificate,
    /// Somebody on this machine, where no token is asked for.
    Local,
}

impl Who {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Certificate => "certificate",
            Self::Local => "local",
        }
    }
}

/// Why there is no administration.
#[derive(Debug, thiserror::Error)]
pub(in crate::serve) enum AccessError {
    #[error(
        "--admin {0}: others than this machine can reach this address, and anyone of them could change policies; give a token with \
         --admin-token or --admin-token-file, ask for certificates with --tls-client-ca, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    #[error("--admin-token-file {}: {error}", path.display())]
    Unread { path: PathBuf, error: std::io::Error },
    #[error(
        "--admin-token: a token has at least {TOKEN_BYTES_MIN} visible characters; `openssl rand -hex 32` makes one"
    )]
    Weak,
}

impl Access {
    pub(super) fn new(
        options: &AdminOptions,
        address: SocketAddr,
        is_mutual: bool,
    ) -> Result<Self, AccessError> {
        let token = match (&options.admin_token, &options.admin_token_file) {
            // An empty variable is no token.
            (Some(token), _) if !token.is_empty() => Some(token.clone()),
            (_, Some(path)) => {
                let read = std::fs::read_to_string(path);
                Some(read.map_err(|error| AccessError::Unread { path: path.clone(), error })?)
            }
            _ => None,
        };
        let token = token.map(|token| token.trim().to_owned());
        if token.as_ref().is_some_and(|token| {
            token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic())
        }) {
            return Err(AccessError::Weak);
        }
        if token.is_none() && !is_mutual && !address.ip().is_loopback() {
            return Err(AccessError::Open(address));
        }
        let wrong = KeyedLimiter::new(Quota::per_minute(WRONG_A_MINUTE));
        Ok(Self { token: token.map(|token| Token(token.into_bytes())), is_mutual, wrong })
    }

    // The answer is made here and handed out at once: boxing it would only add a step.
    #[allow(clippy::result_large_err)]
    fn admit(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Who, Response> {
        // A page in a browser of this machine could reach the address too, also under a name that leads here.
        if headers.contains_key(header::ORIGIN)
            || headers.get("sec-fetch-site").is_some_and(|site| site != "none")
        {
            let message = "the administration is not for web pages";
            return Err(refusal(StatusCode::FORBIDDEN, "FORBIDDEN", message));
        }
        let Some(Token(token)) = &self.token else {
            if self.is_mutual {
                return Ok(Who::Certificate);
            }
            if headers.get(header::HOST).is_some_and(is_name_of_elsewhere) {
                let message =
                    "ask by an address, as in http://127.0.0.1, or give the server a token by --admin-token";
                return Err(refusal(StatusCode::FORBIDDEN, "FORBIDDEN", message));
            }
            return Ok(Who::Local);
        };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_bearer = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let given = if is_bearer { &given[7..] } else { &[] };
        // Looked at first, so that who has tried too often learns nothing more.
        if !self.wrong.peek(&peer, 1).allowed {
            let message = "too many wrong tokens came from this address; wait a minute";
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS", message));
        }
        if bool::from(token.ct_eq(given)) {
            return Ok(Who::Token(peer));
        }
        if !given.is_empty() {
            let _ = self.wrong.check(&peer);
        }
        let message = "send the token of --admin-token, as in `Authorization: Bearer …`";
        let mut response = refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(response)
    }
}

/// Whether a host is neither an address nor this machine's own name: then somebody's name server has led a browser here.
fn is_name_of_elsewhere(host: &HeaderValue) -> bool {
    let host = host.to_str().unwrap_or_default();
    let is_address = host.parse::<SocketAddr>().is_ok()
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    !is_address && host.split(':').next() != Some("localhost")
}

/// Lets in who may ask, and notes the others.
pub(super) async fn check(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Arc<Peer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = peer.address.ip();
    match admin.access.admit(peer, request.headers()) {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refused) => {
            let who = peer.to_string();
            let what = format!("{} {}", request.method(), request.uri().path());
            admin.app.audit.administered(&who, &what, &Value::Null, refused.status().as_str());
            refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(token: Option<&str>) -> AdminOptions {
        AdminOptions {
            admin: crate::cli::ListenAddress::Off,
            admin_token: token.map(str::to_owned),
            admin_token_file: None,
            changes: None,
            audit_log: None,
            audit_sample: 0.0,
        }
    }

    const TOKEN: &str = "0123456789abcdef0123";
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_open_address_needs_a_token() {
        let public: SocketAddr = "0.0.0.0:8082".parse().unwrap();
        let local: SocketAddr = "[::1]:8082".parse().unwrap();
        assert!(matches!(Access::new(&options(None), public, false), Err(AccessError::Open(_))));
        assert!(matches!(Access::new(&options(Some("")), public, false), Err(AccessError::Open(_))));
        assert!(matches!(Access::new(&options(Some("short")), public, false), Err(AccessError::Weak)));
        assert!(Access::new(&options(Some(TOKEN)), public, false).is_ok());
        assert!(Access::new(&options(None), local, false).is_ok());
    }

    #[test]
    fn the_token_has_to_be_right_and_cannot_be_guessed() {
        let access = Access::new(&options(Some(TOKEN)), "127.0.0.1:8082".parse().unwrap(), false).unwrap();
        let ask = |authorization: Option<String>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = authorization {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            access.admit(PEER, &headers).map_err(|response| response.status().as_u16())
        };
        assert_eq!(ask(Some(format!("Bearer {TOKEN}"))), Ok(Who::Token(PEER)));
        assert_eq!(ask(Some(format!("bearer {TOKEN}"))), Ok(Who::Token(PEER)));
        for wrong in [None, Some(TOKEN.to_owned()), Some(format!("Basic {TOKEN}")), Some("Bearer".to_owned())]
        {
            assert_eq!(ask(wrong), Err(401));
        }
        for attempt in 0..WRONG_A_MINUTE {
            assert_eq!(ask(Some(format!("Bearer {attempt}"))), Err(401));
        }
        // Also the right one, by now.
        assert_eq!(ask(Some(format!("Bearer {TOKEN}"))), Err(429));
    }

    #[test]
    fn web_pages_are_refused() {
        let access = Access::new(&options(None), "127.0.0.1:8082".parse().unwrap(), false).unwrap();
        let ask = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            access.admit(PEER, &headers).is_ok()
        };
        for host in ["127.0.0.1:8082", "[::1]:8082", "localhost:8082", "localhost", "::1", "10.0.0.1"] {
            assert!(ask("host", host), "{host}");
        }
        for (name, value) in [
            ("host", "evil.example"),
            ("host", "localhost.evil.example:8082"),
            ("origin", "http://127.0.0.1:8082"),
            ("origin", "null"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert!(!ask(name, value), "{name}: {value}");
        }
    }
}
