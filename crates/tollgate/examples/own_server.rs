//! A rate-limit server of your own, which any proxy can ask (`auth_request` of nginx, `forwardAuth` of Traefik): 200 is yes, 429 is
//! no. It has code of its own around decisions: an observer that counts by policy, a layer that lets internal traffic pass, and one
//! by which everything costs twice as much at night.
//!
//! ```text
//! cargo run --example own_server --features axum
//! curl -i -H 'x-forwarded-for: 203.0.113.7' 'http://127.0.0.1:3000/check'
//! curl -i -H 'x-forwarded-for: 10.1.2.3' 'http://127.0.0.1:3000/check'
//! curl 'http://127.0.0.1:3000/counts'
//! ```
//!
//! The first argument, if there is one, is the address to listen on; the second is when it is night, in hours UTC: `22-6`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::routing::get;
use tollgate::http::{Checking, RateLimitLayer, TrustedProxies};
use tollgate::plugin::{Check, Decided, Inner, Layer, Layered, Observer, Observers};
use tollgate::{Attributes, Clock, Config, Format, Gate, Networks, SystemClock};

const POLICIES: &str = "
policies:
  - { name: everyone, key: ip, limit: 10/minute }
  - { name: trial, key: ip, limit: 5/minute, shadow: true }
";

/// Counts what each policy says, as a shadow too.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, (u64, u64)>>);

impl Observer for Counts {
    fn after(&self, _: &Check<'_>, decided: &Decided<'_>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for policy in decided.said.verdict().iter().flat_map(|verdict| verdict.policies()) {
            let (admitted, denied) = counts.entry(policy.policy.name().to_owned()).or_default();
            *(if policy.admitted { admitted } else { denied }) += 1;
        }
    }
}

impl Counts {
    fn print(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().fold(String::new(), |mut page, (policy, (admitted, denied))| {
            let _ = writeln!(page, "{policy}: {admitted} admitted, {denied} denied");
            page
        })
    }
}

/// Lets requests from these networks pass without asking.
struct Internal(Networks);

impl Layer for Internal {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        if request.ip().is_some_and(|ip| self.0.contains(ip)) {
            return Checking::Passed;
        }
        inner.check(request, cost)
    }
}

/// Makes everything cost twice as much from one hour of the day to another.
struct Night(u64, u64, SystemClock);

impl Layer for Night {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        let Self(from, to, clock) = self;
        let hour = clock.now().as_secs() / 3_600 % 24;
        let is_night = if from < to { (*from..*to).contains(&hour) } else { hour >= *from || hour < *to };
        inner.check(request, if is_night { Some(cost.unwrap_or(1).saturating_mul(2)) } else { cost })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let night = arguments.next().unwrap_or_else(|| "22-6".to_owned());
    let (from, to) = night.split_once('-').ok_or("the second argument says when it is night, as in 22-6")?;

    let counts = Arc::new(Counts::default());
    let gate = Gate::new(Config::parse("policies", POLICIES, Format::Yaml, &[])?)
        .with_observers(Observers::new(Arc::clone(&counts)));
    let gate = Layered::new(gate, Night(from.parse()?, to.parse()?, SystemClock::new()))
        .layer(Internal(Networks::parse(["10.0.0.0/8", "192.168.0.0/16"])?));
    // The proxy that asks says who the client is.
    let limits = RateLimitLayer::new(gate).trusted_proxies(TrustedProxies::parse(["127.0.0.0/8"])?);
    let app = Router::new()
        .route("/check", get(async || "yes\n"))
        .layer(limits)
        .route("/counts", get(async move || counts.print()));

    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
