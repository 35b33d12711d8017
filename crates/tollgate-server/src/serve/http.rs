//! HTTP, as far as it is no matter of routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use tower::Service;

use super::api::{App, refusal};
use super::direct;
use super::net::http::{Http, within};
use super::net::plain::Plain;
use super::net::{Listener, Peer};

/// The most requests at once on a connection of HTTP/2.
const STREAMS_MAX: u32 = 128;

/// How long a request may take to come and to be answered.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Answers until the server is told to stop, and then until all requests under way are answered. Handlers find a [`Peer`]
/// among the extensions of requests.
pub(super) async fn serve(listener: Listener, app: Arc<App>, routes: Router) {
    let draining = app.draining.subscribe();
    let asked = Arc::clone(&app);
    let plain =
        move |plain: &Plain<'_>, last, answer: &mut Vec<u8>| direct::answer(&asked, plain, last, answer);
    let http = Arc::new(Http::new(STREAMS_MAX).with_plain(Box::new(plain)));
    let serve = |arrived| {
        let (routes, app) = (routes.clone(), Arc::clone(&app));
        let answer = move |mut request: Request<_>, peer: Arc<Peer>| {
            request.extensions_mut().insert(peer);
            let (mut routes, app) = (routes.clone(), Arc::clone(&app));
            async move {
                let Some(Ok(response)) = within(REQUEST_MAX, routes.call(request.map(Body::new))).await
                else {
                    app.metrics.undecided();
                    let message = format!("the request did not come within {} s", REQUEST_MAX.as_secs());
                    let mut refusal = refusal(StatusCode::REQUEST_TIMEOUT, "TOO_SLOW", message);
                    refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    return refusal;
                };
                response
            }
        };
        Arc::clone(&http).serve(arrived, answer)
    };
    listener.serve(draining, serve).await;
}
