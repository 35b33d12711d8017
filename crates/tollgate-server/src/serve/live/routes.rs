//! The page and the stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;

use super::snapshot::{Point, Second};
use crate::serve::api::App;

/// The page, with all that it needs in it.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("page.html");
    page.replace("/* style */", include_str!("page.css")).replace("/* script */", include_str!("page.js"))
});

/// Nothing from elsewhere, and nobody may frame it.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                              connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The dashboard's own routes.
pub(in crate::serve) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(page)).route("/live", get(live))
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE.as_str()).into_response()
}

/// A stream of events: `history` once, with the numbers of the seconds that are remembered, and then a `second` each second.
async fn live(State(app): State<Arc<App>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (history, next) = app.live.look();
    let points: Vec<Point> = history.iter().map(|second| second.point).collect();
    // Texts and numbers can always be written.
    let mut first = VecDeque::from([event("history", &serde_json::to_string(&points).unwrap_or_default())]);
    first.extend(history.last().map(|second| event("second", &second.json)));
    let watching = Watching { first, next, draining: app.draining.subscribe() };
    Sse::new(unfold(watching, Watching::next)).keep_alive(KeepAlive::default())
}

fn event(name: &str, json: &str) -> Event {
    Event::default().event(name).data(json)
}

/// Somebody who looks.
struct Watching {
    /// What is sent at once.
    first: VecDeque<Event>,
    next: watch::Receiver<Second>,
    draining: watch::Receiver<bool>,
}

impl Watching {
    /// The next event; none once the server is about to stop.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if let Some(event) = self.first.pop_front() {
            return Some((Ok(event), self));
        }
        tokio::select! {
            changed = self.next.changed() => changed.ok()?,
            _ = self.draining.wait_for(|draining| *draining) => return None,
        }
        let event = event("second", &self.next.borrow_and_update().json);
        Some((Ok(event), self))
    }
}
