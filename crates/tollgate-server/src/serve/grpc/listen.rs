//! Connections, and their end.

use std::sync::Arc;
use std::time::Duration;

use http::Request;

use super::routes::Routes;
use crate::cli::HeaderNames;
use crate::serve::api::App;
use crate::serve::net::Listener;
use crate::serve::net::http::Http;
use crate::serve::ready::Readiness;

/// The most requests under way on one connection.
const STREAMS_MAX: u32 = 1_024;

/// How often those who watch this server's health are told of a change, where a store can be away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub(in crate::serve) struct GrpcFace {
    listener: Listener,
    routes: Arc<Routes>,
    app: Arc<App>,
}

impl GrpcFace {
    /// # Errors
    /// If the descriptors of the services do not fit together.
    pub(in crate::serve) async fn new(
        listener: Listener,
        app: &Arc<App>,
        headers: Option<HeaderNames>,
    ) -> Result<Self, String> {
        let routes = Arc::new(Routes::new(Arc::clone(app), headers).await?);
        Ok(Self { listener, routes, app: Arc::clone(app) })
    }

    /// Answers until the server is told to stop, and then until all requests under way are answered.
    pub(in crate::serve) async fn serve(self) {
        let Self { listener, routes, app } = self;
        let draining = app.draining.subscribe();
        let http = Arc::new(Http::only_two(STREAMS_MAX));
        let serve = |arrived| {
            let routes = Arc::clone(&routes);
            let answer = move |request: Request<_>, _| {
                let routes = Arc::clone(&routes);
                async move { routes.answer(request).await }
            };
            Arc::clone(&http).serve(arrived, answer)
        };
        let mut stopping = draining.clone();
        let tell = async {
            let (mut look, mut was_ready) = (tokio::time::interval(LOOK_EVERY), true);
            let told = async {
                // If nobody is left to say it, the server has ended.
                let _ = stopping.wait_for(|draining| *draining).await;
            };
            tokio::pin!(told);
            loop {
                tokio::select! {
                    () = &mut told => break,
                    _ = look.tick(), if !app.gate.store().is_local() => {
                        let is_ready = Readiness::of(&app).await.is_ready();
                        if is_ready != was_ready {
                            routes.tell(is_ready).await;
                            was_ready = is_ready;
                        }
                    }
                }
            }
            routes.stop_serving().await;
        };
        tokio::join!(listener.serve(draining, serve), tell);
    }
}
