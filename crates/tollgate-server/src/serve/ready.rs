//! Whether requests should be sent here.

use std::fmt;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tollgate::OnFailure;

use super::api::App;

/// What becomes of requests that are sent here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// The store decides.
    Ready,
    /// This node decides as it is configured to, and lacks something meanwhile.
    Degraded(&'static str),
    /// They are refused, or the server is about to stop.
    Unready(String),
}

impl Readiness {
    /// Asks the store, if there is one to be asked.
    pub(super) async fn of(app: &App) -> Self {
        if *app.draining.borrow() {
            return Self::Unready("stopping".to_owned());
        }
        if app.gate.store().durability().is_some_and(|durability| durability.trouble.is_some()) {
            return Self::Degraded("states cannot be written to disk, and this node decides from memory");
        }
        let Some(guard) = app.gate.store().guard() else { return Self::Ready };
        if guard.check().await.is_ok() {
            return Self::Ready;
        }
        let set = app.gate.policies();
        let mut enforced = set
            .policies()
            .filter(|policy| policy.is_enabled() && !policy.is_shadow() && !set.is_shadow())
            .map(|policy| (Some(policy.name()), policy.sharing().on_failure))
            .peekable();
        // Where there is no policy, limits come with requests, and go by the store's own choice.
        let other = enforced.peek().is_none().then_some((None, None));
        let refuses = |choice: Option<OnFailure>| guard.decides_alone(choice) == OnFailure::Deny;
        match enforced.chain(other).find(|(_, choice)| refuses(*choice)) {
            None => Self::Degraded("the store is away, and this node decides without it"),
            Some((Some(policy), _)) => Self::Unready(format!(
                "the store is away, and requests under the policy {policy} are refused until it is back"
            )),
            Some((None, _)) => {
                Self::Unready("the store is away, and requests are refused until it is back".to_owned())
            }
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        !matches!(self, Self::Unready(_))
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Degraded(why) => write!(f, "degraded: {why}"),
            Self::Unready(why) => write!(f, "unready: {why}"),
        }
    }
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, format!("{self}\n")).into_response()
    }
}
