//! Middleware around an empty app of Actix.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use actix_governor::{Governor, GovernorConfigBuilder};
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpResponse, dev::Service, web};
use tokio::runtime::Runtime;
use tollgate::actix::RateLimit;
use tollgate::http::{HeaderOptions, HeaderStyle, ResetStyle};
use tollgate::{Gate, KeyPart, Limit, Quota};

use crate::{BURST, Contender};

/// An app, by what calls it: its own type cannot be named.
struct Actix<F> {
    name: &'static str,
    call: F,
}

impl<F: FnMut(&[u32])> Contender for Actix<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self, clients: &[u32]) {
        (self.call)(clients);
    }
}

/// Makes a contender of an app.
macro_rules! contender {
    ($name:expr, $app:expr) => {{
        let runtime = runtime();
        let app = $app.route("/", web::get().to(async || HttpResponse::Ok()));
        let app = runtime.block_on(init_service(app));
        let call = move |clients: &[u32]| {
            runtime.block_on(async {
                for client in clients {
                    let address = SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + client), 4711));
                    let request = TestRequest::get().peer_addr(address).to_request();
                    assert_eq!(app.call(request).await.unwrap().status(), StatusCode::OK);
                }
            });
        };
        Box::new(Actix { name: $name, call }) as Box<dyn Contender>
    }};
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn limits(headers: HeaderOptions) -> RateLimit<Arc<Gate>> {
    let limit = Limit::gcra_with_burst(Quota::per_second(1), BURST.into()).unwrap();
    RateLimit::new(Arc::new(Gate::per(KeyPart::Ip, limit))).headers(headers)
}

pub(crate) fn without_headers() -> Vec<Box<dyn Contender>> {
    let config = GovernorConfigBuilder::default().seconds_per_request(1).burst_size(BURST).finish().unwrap();
    vec![
        contender!("bare", App::new()),
        contender!("actix-governor", App::new().wrap(Governor::new(&config))),
        contender!("tollgate", App::new().wrap(limits(HeaderOptions::none()))),
    ]
}

pub(crate) fn with_headers() -> Vec<Box<dyn Contender>> {
    let mut builder = GovernorConfigBuilder::default();
    let config = builder.seconds_per_request(1).burst_size(BURST).use_headers().finish().unwrap();
    let three =
        |style| limits(HeaderOptions::none().with(style).with_x_reset(ResetStyle::Delta).hide_policy(true));
    vec![
        contender!("bare", App::new()),
        contender!("actix-governor", App::new().wrap(Governor::new(&config))),
        contender!("tollgate, x-ratelimit-*", App::new().wrap(three(HeaderStyle::XRateLimit))),
        contender!("tollgate, ratelimit-*", App::new().wrap(three(HeaderStyle::OlderDraft))),
    ]
}
