//! What there is to be asked over HTTP, told to programs: documents of the OpenAPI.
//!
//! A document is a file beside this one, written by hand, and served as it is. `tests/openapi.rs` holds it to the routes and to
//! what they answer; a further document needs a line there.

use axum::Router;
use axum::http::header;
use axum::routing::get;

/// The API of `tollgate serve`.
pub(super) const HTTP_API: &str = include_str!("openapi.json");

/// Serves a document at a path.
pub(super) fn at<S: Clone + Send + Sync + 'static>(path: &str, document: &'static str) -> Router<S> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    Router::new().route(path, get(move || async move { (headers, document) }))
}
