//! The store on a real PostgreSQL.
#![cfg(feature = "postgres")]
// Tests may panic.
#![allow(clippy::unwrap_used)]

mod servers;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/stores.rs"]
mod stores;

use postgres::Postgres;
use stores::{ask, connected_to_postgres, patient_on_postgres};
use tollgate_core::{KeyHash, Limit, Quota, Source};
use tollgate_store::Store;

/// One a day: nothing comes back while a test runs.
fn slow(burst: u64) -> Limit {
    Limit::gcra_with_burst(Quota::per_day(1), burst).unwrap()
}

#[tokio::test]
async fn two_nodes_share_a_limit() {
    let server = Postgres::start(&[]);
    let one = connected_to_postgres(patient_on_postgres(server.url())).await;
    let other = connected_to_postgres(patient_on_postgres(server.url_of_socket())).await;
    let limit = slow(3);
    assert!(ask(&one, &limit, 7).await.unwrap().allowed);
    let answer = ask(&other, &limit, 7).await.unwrap();
    assert_eq!(answer.outcomes[0].decision.remaining, 1);
    assert_eq!(answer.outcomes[0].source, Source::Postgres);
    let key = "00000000-0000-0000-0000-000000000007";
    assert_eq!(server.ask("select key from tollgate.state"), key);
    Store::reset(&one, &[KeyHash(7)]).await.unwrap();
    assert_eq!(server.ask("select count(*) from tollgate.state"), "0");
}
