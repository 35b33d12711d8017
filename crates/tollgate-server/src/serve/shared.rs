//! The stores that nodes share, of whichever kind.

use std::fs;
use std::path::{Path, PathBuf};

use tollgate::concurrency::{Admission, Concurrency, PermitId, PermitRequest};
use tollgate::guard::Remote;
use tollgate::permit_store::{PermitStore, PermitUsage};
use tollgate::postgres::{PostgresOptions, PostgresStore};
use tollgate::redis::{RedisOptions, RedisStore};
use tollgate::shared::{RemoteStatus, TlsOptions, Unfit};
use tollgate::{Answer, Group, KeyHash, Limit, Nanos, Refund, Store, StoreConfig, StoreError};

use super::store::set;
use crate::cli::StoreOptions;

/// Does the same with whichever it is.
macro_rules! either {
    ($self:expr, $store:ident => $what:expr) => {
        match $self {
            Self::Redis($store) => $what,
            Self::Postgres($store) => $what,
        }
    };
}

/// A store on a server.
#[derive(Debug)]
pub(super) enum SharedStore {
    Redis(RedisStore),
    Postgres(PostgresStore),
}

impl SharedStore {
    /// The store at an address.
    ///
    /// # Errors
    /// What is wrong with it, or with the other options.
    pub(super) fn open(url: &str, options: &StoreOptions, config: &StoreConfig) -> Result<Self, String> {
        let prefix = options.store_prefix.as_ref().or(config.prefix.as_ref());
        let deadline = options.store_deadline.or(config.deadline.map(Into::into));
        let tls = tls(options, config)?;
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let mut postgres = PostgresOptions::new(url);
            if let Some(prefix) = prefix {
                postgres.schema.clone_from(prefix);
            }
            set(&mut postgres.deadline, deadline);
            set(&mut postgres.connect_timeout, config.connect_timeout.map(Into::into));
            postgres.tls = tls;
            return PostgresStore::new(&postgres)
                .map(Self::Postgres)
                .map_err(|error| format!("--store: {error}"));
        }
        let mut redis = RedisOptions::new(url);
        if let Some(prefix) = prefix {
            redis.prefix.clone_from(prefix);
        }
        set(&mut redis.deadline, deadline);
        set(&mut redis.connect_timeout, config.connect_timeout.map(Into::into));
        redis.tls = tls;
        let wrong = |error| format!("--store: {error}, or postgres://user@host:port/database");
        RedisStore::new(&redis).map(Self::Redis).map_err(wrong)
    }

    /// Its name in answers and metrics.
    pub(super) const fn backend(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Where it is, as it can be shown.
    pub(super) fn address(&self) -> &str {
        either!(self, store => store.address())
    }

    /// How long a decision may take.
    pub(super) fn deadline(&self) -> std::time::Duration {
        either!(self, store => store.deadline())
    }

    /// How it fares.
    pub(super) fn status(&self) -> RemoteStatus {
        either!(self, store => store.status())
    }

    /// What all nodes agree on under a name.
    pub(super) async fn agree(&self, name: &str, proposal: &str) -> Result<String, StoreError> {
        either!(self, store => store.agree(name, proposal).await)
    }

    /// Whether it can keep a limit.
    pub(super) fn supports(&self, limit: &Limit) -> Result<(), Unfit> {
        match self {
            Self::Redis(_) => RedisStore::supports(limit),
            Self::Postgres(_) => PostgresStore::supports(limit),
        }
    }
}

/// The certificates for the way to the store.
fn tls(options: &StoreOptions, config: &StoreConfig) -> Result<TlsOptions, String> {
    let read = |option: &str, file: Option<&Path>| {
        let read =
            |path: &Path| fs::read(path).map_err(|error| format!("{option} {}: {error}", path.display()));
        file.map(read).transpose()
    };
    let either = |option: &'_ Option<PathBuf>, setting: &'_ Option<String>| {
        option.clone().or_else(|| setting.as_ref().map(PathBuf::from))
    };
    let mut tls = TlsOptions::default();
    tls.authorities = read("--store-ca", either(&options.store_ca, &config.ca).as_deref())?;
    let certificate = read("--store-cert", either(&options.store_cert, &config.certificate).as_deref())?;
    let key = read("--store-key", either(&options.store_key, &config.key).as_deref())?;
    if certificate.is_some() != key.is_some() {
        return Err("--store-cert, --store-key: a certificate goes with its key".to_owned());
    }
    tls.client = certificate.zip(key);
    Ok(tls)
}

impl Remote for SharedStore {
    async fn probe(&self) -> Result<(), StoreError> {
        either!(self, store => store.probe().await)
    }
}

impl Store for SharedStore {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        either!(self, store => Store::acquire(store, groups).await)
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        either!(self, store => store.peek(groups).await)
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        either!(self, store => store.refund(refunds).await)
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        either!(self, store => store.reset(keys).await)
    }
}

impl PermitStore for SharedStore {
    async fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> Result<Admission, StoreError> {
        either!(self, store => PermitStore::acquire(store, key, limit, request).await)
    }

    async fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> Result<Option<Nanos>, StoreError> {
        either!(self, store => store.renew(key, limit, id).await)
    }

    async fn release(&self, key: KeyHash, id: PermitId) -> Result<bool, StoreError> {
        either!(self, store => store.release(key, id).await)
    }

    async fn usage(&self, key: KeyHash) -> Result<PermitUsage, StoreError> {
        either!(self, store => store.usage(key).await)
    }
}
