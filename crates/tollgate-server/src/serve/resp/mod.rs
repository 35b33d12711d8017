//! The Redis protocol, so that every client of Redis can ask.
//!
//! * [`parse`]: requests, read in place.
//! * [`reply`]: answers in both versions of the protocol.
//! * [`session`]: what a client has said, and what its commands come to; [`commands`] lists them.
//! * [`throttle`]: `CL.THROTTLE` and its like; [`policy`]: our own verbs, by the policy file.
//! * [`desk`]: where questions are answered.
//! * [`connection`]: one connection.

mod commands;
mod connection;
mod desk;
mod parse;
mod permit;
mod policy;
mod reply;
mod session;
mod throttle;

use std::sync::Arc;

use self::desk::Desk;
pub(super) use self::desk::Tally;
use super::api::App;
use super::net::Listener;

/// What is said to those for whom there is no place, in Redis's words.
pub(super) const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// Serves until the server drains and all that was under way is answered. Clients have to know the password, if there is one.
pub(super) async fn serve(listener: Listener, app: Arc<App>, password: Option<&str>) {
    let draining = app.draining.subscribe();
    let desk = Arc::new(Desk::new(app, Arc::clone(listener.seats()), password));
    let serve = |arrived| {
        let desk = Arc::clone(&desk);
        async move { connection::serve(&desk, arrived).await }
    };
    listener.serve(draining, serve).await;
}
