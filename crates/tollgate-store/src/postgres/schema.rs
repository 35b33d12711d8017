//! The tables and functions in the database, which are made and renewed by the program itself.

use tokio_postgres::{Client, Error};

use super::error::told;
use crate::store::StoreError;

/// What leads from each version to the next one. A change of the functions alone is a step without words.
const STEPS: [&str; 2] = [include_str!("schema.sql"), include_str!("words.sql")];

/// The functions of the last version.
const FUNCTIONS: [&str; 3] =
    [include_str!("functions.sql"), include_str!("decide.sql"), include_str!("permits.sql")];

/// What nodes lock that do this at the same time: nothing but a number that nobody else is likely to have.
const LOCK: i64 = 0x746f_6c6c_6761_7465;

/// The oldest server on which all of this works.
const OLDEST: i32 = 140_000;

/// The schema's name, which the texts here call `tollgate`, put in.
pub(super) fn named(text: &str, schema: &str) -> String {
    text.replace("tollgate.", &format!("\"{schema}\"."))
}

/// Whether a schema can have this name without anything being read into it.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && name.len() <= 63
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Sees to it that everything is there, in the version of this program.
pub(super) async fn ready(client: &mut Client, schema: &str) -> Result<(), StoreError> {
    let told = |error: Error| told(&error, schema);
    let server: i32 = client
        .query_one("select current_setting('server_version_num')::int", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(told)?;
    if server < OLDEST {
        let (has, needs) = (server / 10_000, OLDEST / 10_000);
        return Err(StoreError::Defect(format!(
            "the server is PostgreSQL {has}, and the oldest that will do is {needs}"
        )));
    }
    if version(client, schema).await.map_err(told)? == STEPS.len() {
        return Ok(());
    }
    let transaction = client.transaction().await.map_err(told)?;
    // Until the end of the transaction.
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(told)?;
    let found = version(&transaction, schema).await.map_err(told)?;
    if found > STEPS.len() {
        let ours = STEPS.len();
        return Err(StoreError::Defect(format!(
            "the tables in the schema {schema} are of version {found}, and this program knows {ours}: it is older than another \
             that uses them"
        )));
    }
    if found < STEPS.len() {
        let run = async |text: &str| transaction.batch_execute(&named(text, schema)).await.map_err(told);
        let is_there =
            transaction.query_one("select to_regnamespace($1) is not null", &[&quoted(schema)]).await;
        if !is_there.and_then(|row| row.try_get(0)).map_err(told)? {
            run(&format!("create schema {}", quoted(schema))).await?;
        }
        if found == 0 {
            run("create table tollgate.version (version int not null); insert into tollgate.version values (0)").await?;
        }
        for text in STEPS[found..].iter().chain(&FUNCTIONS) {
            run(text).await?;
        }
        run(&format!("update tollgate.version set version = {}", STEPS.len())).await?;
        tracing::info!(target: "tollgate::store", schema, version = STEPS.len(), "the tables were made, or renewed");
    }
    transaction.commit().await.map_err(told)
}

/// The version of what is there; 0 if nothing is.
async fn version(client: &impl tokio_postgres::GenericClient, schema: &str) -> Result<usize, Error> {
    let table = format!("{}.version", quoted(schema));
    let is_there: bool =
        client.query_one("select to_regclass($1) is not null", &[&table]).await?.try_get(0)?;
    if !is_there {
        return Ok(0);
    }
    let version: i32 =
        client.query_one(&named("select version from tollgate.version", schema), &[]).await?.try_get(0)?;
    Ok(usize::try_from(version).unwrap_or(0))
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for name in ["tollgate", "_", "shop_2", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "tollgate:", "2x", "Shop", "a\"b", "a b", "ü", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(
            named("select tollgate.decide('tollgate.state')", "shop"),
            "select \"shop\".decide('\"shop\".state')"
        );
    }
}
