//! The store on a real PostgreSQL.
#![cfg(feature = "postgres")]
// Tests may panic.
#![allow(clippy::unwrap_used)]

#[path = "servers/postgres.rs"]
mod postgres;
mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use postgres::Postgres;
use stores::{ask, connected_to_postgres, patient_on_postgres, until};
use tokio::task::JoinSet;
use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, Nanos, Quota, Retry, Source};
use tollgate_store::postgres::{PostgresOptions, PostgresStore};
use tollgate_store::{Store, StoreError};

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
    assert_eq!(one.agree("seed", "first").await.unwrap(), "first");
    assert_eq!(other.agree("seed", "second").await.unwrap(), "first");
    Store::reset(&one, &[KeyHash(7)]).await.unwrap();
    assert_eq!(server.ask("select count(*) from tollgate.state"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_tasks_get_exactly_what_there_is() {
    let server = Postgres::start(&[]);
    let store = Arc::new(connected_to_postgres(patient_on_postgres(server.url())).await);
    for key in 0..20 {
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let mut admitted = 0;
                for _ in 0..10 {
                    admitted += u32::from(ask(&*store, &slow(100), key).await.unwrap().allowed);
                }
                admitted
            });
        }
        assert_eq!(tasks.join_all().await.into_iter().sum::<u32>(), 100);
    }
}

#[tokio::test]
async fn one_hit_of_a_common_limit_needs_no_function_and_a_denial_writes_nothing() {
    let server = Postgres::start(&[]);
    let store = connected_to_postgres(patient_on_postgres(server.url())).await;
    server.ask("drop function tollgate.decide");
    let per_day = |count| Quota::per_day(count);
    let limits =
        [slow(2), Limit::leaky_bucket(2, per_day(2)).unwrap(), Limit::token_bucket(2, per_day(2)).unwrap()];
    for (key, limit) in (7..).zip(&limits) {
        for left in [1, 0] {
            let answer = ask(&store, limit, key).await.unwrap();
            assert!(answer.allowed && answer.outcomes[0].decision.remaining == left, "{limit}: {answer:?}");
        }
    }
    let rows = || {
        server.ask("select array_agg(s order by key), array_agg((xmin, xmax, ctid)) from tollgate.state s")
    };
    let before = rows();
    for (key, limit) in (7..).zip(&limits) {
        let answer = ask(&store, limit, key).await.unwrap();
        let decision = &answer.outcomes[0].decision;
        assert!(!answer.allowed && decision.remaining == 0, "{limit}: {answer:?}");
        let Retry::After(wait) = decision.retry_after else { panic!("{limit}: {answer:?}") };
        assert!(wait > Nanos::from_secs(3_600) && wait <= Nanos::from_secs(86_400), "{limit}: {answer:?}");
    }
    assert_eq!(rows(), before);
    // Others need it.
    assert!(ask(&store, &Limit::fixed_window(per_day(3)), 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_alone_and_together_with_others_is_the_same_key() {
    const BURST: u64 = 1_000;
    let server = Postgres::start(&[]);
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(connected_to_postgres(patient_on_postgres(server.url())).await));
    }
    let mut tasks = JoinSet::new();
    for task in 0..32_u128 {
        let store = Arc::clone(&stores[usize::from(task % 2 == 0)]);
        tasks.spawn(async move {
            let (limit, mut admitted) = (slow(BURST), 0);
            for step in 0..50 {
                let hits = [1, 100 + step].map(|key| Hit::new(LimitId(1), KeyHash(key), &limit));
                // What is asked at the same time is of one key here, and of many there.
                let answer = match task % 4 {
                    0 | 1 => ask(&*store, &limit, 1).await.unwrap(),
                    2 => store.acquire(&[Group::all(&hits)]).await.unwrap(),
                    _ => ask(&*store, &limit, 100 + 50 * task + step).await.unwrap(),
                };
                admitted += u64::from(task % 4 < 3 && answer.allowed);
            }
            admitted
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<u64>(), BURST);
    assert_eq!(server.ask("select sum(deadlocks) from pg_stat_database"), "0");
}

#[tokio::test]
async fn tables_of_the_first_version_go_on_with_what_they_hold() {
    let server = Postgres::start(&[]);
    let store = connected_to_postgres(patient_on_postgres(server.url())).await;
    assert!(ask(&store, &slow(3), 7).await.unwrap().allowed);
    drop(store);
    server.ask(
        "update tollgate.state set numbers = array[word / 1000, word % 1000]; alter table tollgate.state drop column word, \
         alter column numbers set not null; update tollgate.version set version = 1",
    );
    let store = connected_to_postgres(patient_on_postgres(server.url())).await;
    assert_eq!(server.ask("select version from tollgate.version"), "2");
    for left in [1, 0] {
        assert_eq!(ask(&store, &slow(3), 7).await.unwrap().outcomes[0].decision.remaining, left);
    }
    assert!(!ask(&store, &slow(3), 7).await.unwrap().allowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_in_any_order_never_wait_for_each_other() {
    const EACH: u64 = 100;
    let server = Postgres::start(&[]);
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(connected_to_postgres(patient_on_postgres(server.url())).await));
    }
    let mut tasks = JoinSet::new();
    for task in 0..32_u128 {
        let store = Arc::clone(&stores[usize::from(task % 2 == 0)]);
        tasks.spawn(async move {
            let limit = slow(30_000);
            for step in 0..u128::from(EACH) {
                // Each of the same three keys first, in both directions; and one of its own, so that rows come and go.
                let mut keys = [1, 2, 3, 100 + step];
                keys.rotate_left(usize::try_from(step % 4).unwrap());
                if task % 3 == 0 {
                    keys.reverse();
                }
                let hits = keys.map(|key| Hit::new(LimitId(1), KeyHash(key), &limit));
                assert!(store.acquire(&[Group::all(&hits)]).await.unwrap().allowed);
            }
        });
    }
    tasks.join_all().await;
    let limit = slow(30_000);
    let hits = [1, 2, 3].map(|key| Hit::new(LimitId(1), KeyHash(key), &limit).with_cost(0));
    let left = stores[0].peek(&[Group::all(&hits)]).await.unwrap();
    for outcome in left.outcomes {
        assert_eq!(outcome.decision.remaining, 30_000 - 32 * EACH);
    }
    assert_eq!(server.ask("select sum(deadlocks) from pg_stat_database"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_the_same_time_make_the_tables_once() {
    let server = Postgres::start(&[]);
    let mut options = patient_on_postgres(server.url());
    options.schema = "user".to_owned();
    let stores: Vec<_> = (0..8).map(|_| PostgresStore::new(&options).unwrap()).collect();
    for store in &stores {
        until(async || store.status().is_connected).await;
        assert_eq!(store.status().trouble, None);
    }
    assert!(ask(&stores[0], &slow(1), 1).await.unwrap().allowed);
    assert!(!ask(&stores[7], &slow(1), 1).await.unwrap().allowed);
    assert_eq!(server.ask("select version from \"user\".version"), "2");
    // A program that is older than the tables says so, and leaves them alone.
    server.ask("update \"user\".version set version = 7");
    let older = PostgresStore::new(&options).unwrap();
    until(async || older.status().trouble.is_some()).await;
    let Err(StoreError::Defect(why)) = ask(&older, &slow(1), 1).await else { panic!() };
    assert!(why.contains("version 7") && why.contains("older"), "{why}");
}

#[tokio::test]
async fn what_is_not_allowed_is_said_and_what_would_help() {
    let server = Postgres::start(&[]);
    server.ask("create role limited login password 'secret'; create role guarded login password 'secret'");
    let hba = server.data().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{rules}")).unwrap();
    server.ask("select pg_reload_conf()");
    let refused = async |url: String| {
        let store = PostgresStore::new(&patient_on_postgres(url)).unwrap();
        until(async || store.status().trouble.is_some()).await;
        (ask(&store, &slow(3), 7).await.unwrap_err(), store)
    };

    let (error, _) = refused(server.url_of("guarded:wrong")).await;
    let StoreError::Defect(why) = &error else { panic!("{error}") };
    assert!(why.contains("password") && !why.contains("wrong"), "{why}");

    let (error, store) = refused(server.url_of("limited")).await;
    let StoreError::Defect(why) = &error else { panic!("{error}") };
    assert!(why.contains("permission denied") && why.contains("grant usage, create on schema"), "{why}");
    // What is said helps.
    server.ask("create schema if not exists tollgate; grant usage, create on schema tollgate to limited");
    until(async || ask(&store, &slow(3), 7).await.is_ok()).await;
    // The tables are its own, and another's rights end there.
    server.ask("revoke insert, update on tollgate.state from limited");
    let error = ask(&store, &slow(3), 7).await.unwrap_err();
    assert!(matches!(&error, StoreError::Defect(why) if why.contains("grant select, insert")), "{error}");

    let (error, _) = refused(server.url().replace("/postgres", "/nothing")).await;
    assert!(matches!(&error, StoreError::Defect(why) if why.contains("does not exist")), "{error}");
}

#[tokio::test]
async fn a_server_that_takes_no_changes_is_away() {
    let server = Postgres::start(&[]);
    let store = connected_to_postgres(patient_on_postgres(server.url())).await;
    assert!(ask(&store, &slow(3), 7).await.unwrap().allowed);
    server.ask("alter system set default_transaction_read_only to on");
    server.ask("select pg_reload_conf()");
    // Some have not read their settings yet.
    until(async || match ask(&store, &slow(30_000), 8).await {
        Err(StoreError::Unavailable(why)) => why.contains("read-only"),
        other => other.is_err(),
    })
    .await;
    until(async || !store.status().is_connected).await;
    server.ask("alter system reset default_transaction_read_only");
    server.ask("select pg_reload_conf()");
    until(async || ask(&store, &slow(3), 7).await.is_ok()).await;
}

#[tokio::test]
async fn rows_say_until_when_they_matter_and_are_removed_after_that() {
    let server = Postgres::start(&[]);
    let mut options = patient_on_postgres(server.url());
    options.sweep_interval = Duration::from_millis(50);
    let store = connected_to_postgres(options).await;
    let quick = Limit::gcra(Quota::new(10, Nanos::from_millis(100)).unwrap());
    for key in 0..500 {
        assert!(ask(&store, &quick, key).await.unwrap().allowed);
    }
    assert!(ask(&store, &slow(3), 1_000).await.unwrap().allowed);
    // A day for one, and a second more.
    let lasting = "select count(*) from tollgate.state where key = '00000000-0000-0000-0000-0000000003e8' \
        and expires - tollgate.clock() between 86300000000 and 86401000100";
    assert_eq!(server.ask(lasting), "1");
    until(async || server.ask("select count(*) from tollgate.state") == "1").await;
    assert_eq!(ask(&store, &slow(3), 1_000).await.unwrap().outcomes[0].decision.remaining, 1);
}

#[test]
fn what_cannot_be_kept_or_understood_is_said() {
    let count = |count, nanos| Quota::new(count, Nanos::new(nanos)).unwrap();
    for (limit, why) in [
        (Limit::fixed_window(count(1, 1_500)), "microseconds"),
        (Limit::sliding_log(count(20_000, 1_000_000_000)).unwrap(), "10000"),
        (Limit::gcra(count(9_007_199_254_740_881, 60_000_000_000)), "exact"),
    ] {
        assert!(PostgresStore::supports(&limit).unwrap_err().to_string().contains(why), "{limit}");
    }
    let mut odd = PostgresOptions::new("postgres://u:secret@h/d");
    odd.schema = "tollgate:".to_owned();
    let urls =
        ["postgres://", "postgres://u:secret@/d", "postgres://h/d", "postgres://u:secret@h/d?sslmode=prefer"];
    let all = urls.map(PostgresOptions::new).into_iter().chain([odd]);
    let errors: HashSet<String> =
        all.filter_map(|options| PostgresStore::new(&options).err()).map(|error| error.to_string()).collect();
    assert_eq!(errors.len(), 5, "{errors:?}");
    assert!(!errors.iter().any(|error| error.contains("secret")), "{errors:?}");
}

#[cfg(feature = "postgres-tls")]
#[tokio::test]
async fn a_server_with_tls_knows_who_asks_and_is_known() {
    use std::os::unix::fs::PermissionsExt;

    let authority = servers::Authority::new();
    let [ca, certificate, key] = authority.paths();
    // The server insists that its key is its own.
    let read = |path: &String| std::fs::read(path).unwrap();
    let (authorities, client) = (read(&ca), (read(&certificate), read(&key)));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    for path in [&ca, &certificate, &key] {
        postgres::own(path.as_ref());
    }
    let files = [("ssl_ca_file", &ca), ("ssl_cert_file", &certificate), ("ssl_key_file", &key)];
    let files = files.map(|(setting, path)| format!("{setting}={path}"));
    let server = Postgres::start(&[&["ssl=on"], &files.each_ref().map(String::as_str)[..]].concat());
    let hba = server.data().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    let strict = "hostssl all limits all trust clientcert=verify-ca\nhost all limits all reject";
    std::fs::write(&hba, format!("{strict}\n{rules}")).unwrap();
    server.ask("create role limits login superuser; select pg_reload_conf()");

    let url = server.url_of("limits").replace("127.0.0.1", "localhost");
    let mut options = patient_on_postgres(url);
    options.tls.authorities = Some(authorities);
    options.tls.client = Some(client);
    let store = connected_to_postgres(options.clone()).await;
    assert!(ask(&store, &slow(1), 1).await.unwrap().allowed);
    assert_eq!(server.ask("select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'tollgate'"), "t");

    let mut unknown = options.clone();
    unknown.tls.client = None;
    let mut unvouched = options.clone();
    (unvouched.tls.authorities, unvouched.url) = (None, format!("{}?sslmode=verify-full", options.url));
    let mut plain = options;
    plain.tls = tollgate_store::postgres::TlsOptions::default();
    for options in [unknown, unvouched, plain] {
        let store = PostgresStore::new(&options).unwrap();
        until(async || store.status().trouble.is_some()).await;
        assert!(!store.status().is_connected, "{options:?}");
    }
}
