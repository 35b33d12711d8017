//! An Actix Web app whose routes are limited by policies.
//!
//! ```text
//! cargo run --example actix_app --features actix
//! curl -i http://127.0.0.1:3000/hello
//! curl -i -X POST http://127.0.0.1:3000/login      # six times
//! ```
//!
//! The first argument, if there is one, is the address to listen on.

use std::sync::Arc;

use actix_web::{App, HttpMessage, HttpRequest, HttpServer, web};
use tollgate::actix::RateLimit;
use tollgate::{Config, Format, Gate, Verdict};

const POLICIES: &str = "
policies:
  - name: login
    match: { method: POST, path: /login }
    key: ip
    algorithm: fixed_window
    limit: 5/minute
  - name: everyone
    key: ip
    limit: 100/minute
";

/// A handler can see what was decided.
async fn hello(request: HttpRequest) -> String {
    let extensions = request.extensions();
    let verdict = extensions.get::<Arc<Verdict>>();
    match verdict.and_then(|verdict| verdict.deciding()) {
        Some(tightest) => format!("hello; {} more of these\n", tightest.remaining()),
        None => "hello; as often as you like\n".to_owned(),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Made once: each worker gets a clone, and all clones share their state.
    let limits = RateLimit::new(Gate::new(Config::parse("policies", POLICIES, Format::Yaml, &[])?))
        .skip_paths(["/healthz"])
        .share_verdict();
    let app = move || {
        App::new()
            .wrap(limits.clone())
            .route("/hello", web::get().to(hello))
            .route("/login", web::post().to(async || "welcome\n"))
            .route("/healthz", web::get().to(async || "ok\n"))
    };
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let server = HttpServer::new(app).workers(2).bind(&address)?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await?;
    Ok(())
}
