//! What errors mean to whoever asked.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// What a failure means to whoever asked; `schema` is where everything is.
pub(super) fn told(error: &Error, schema: &str) -> StoreError {
    let text = text(error);
    let Some(code) = error.code() else { return StoreError::Unavailable(text) };
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreError::Unavailable(read_only(&text));
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return StoreError::Defect(format!(
            "{text}; the owner of the database may run: create schema if not exists \"{schema}\"; grant usage, create on \
             schema \"{schema}\" to <user>; and if the tables are there already: grant select, insert, update, delete on \
             all tables in schema \"{schema}\" to <user>"
        ));
    }
    // By their classes: the connection broke; there is not enough of something; somebody has stopped it; the system failed; and
    // transactions that met, which did nothing.
    match &code.code()[..2] {
        "08" | "53" | "57" | "58" | "40" => StoreError::Unavailable(text),
        // The server said what is wrong, and it will not pass by itself.
        _ => StoreError::Defect(text),
    }
}

/// What is wrong with a server that takes no changes.
pub(super) fn read_only(text: &str) -> String {
    format!(
        "the server is a standby, or set to be read-only: {text}; name its primary as well, as in postgres://one,other/database"
    )
}

/// Whether the server said that it did nothing, and that it would do it another time.
pub(super) fn did_nothing(error: &Error) -> bool {
    let met = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| met.contains(code))
}

/// Whether another connection may do better than the one that said this.
pub(super) fn is_lost(error: &Error) -> bool {
    // It ended, or is about to (57P01 and its like), or its server has become a standby.
    error
        .code()
        .is_none_or(|code| *code == SqlState::READ_ONLY_SQL_TRANSACTION || code.code().starts_with("57P"))
}

/// The words of an error, and of what it is because of.
pub(super) fn text(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
        return format!("{}{hint} [{}]", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
