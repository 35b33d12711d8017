//! Where state is: in a store that nodes share, or in memory that is kept on disk.

use tollgate_core::quota::parse_length;
use tollgate_core::{Consistency, Nanos, OnFailure};

use super::decode::{Decoder, Fields, shortened};
use super::sharing::sharing;
use super::tree::Node;

/// The settings of the store.
pub(super) const KNOWN: [&str; 18] = [
    "url",
    "prefix",
    "deadline",
    "connect_timeout",
    "health_check_interval",
    "ca",
    "certificate",
    "key",
    "key_seed",
    "nodes",
    "node",
    "consistency",
    "on_store_failure",
    "lease_percent",
    "lease_idle",
    "sync_interval",
    "data_dir",
    "flush_interval",
];

/// What a policy file says of where state is; what it says nothing of has a default. Text is as it stands in the file: addresses
/// and files are looked at when the store is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Where it is.
    pub url: Option<String>,
    /// What the names of all keys begin with.
    pub prefix: Option<String>,
    /// How long a decision may take.
    pub deadline: Option<Nanos>,
    /// How long an attempt to connect may take.
    pub connect_timeout: Option<Nanos>,
    /// How often a store that is not asked is looked after.
    pub health_check_interval: Option<Nanos>,
    /// The file with the certificates of those who vouch for it.
    pub ca: Option<String>,
    /// The file with the certificate by which nodes say who they are.
    pub certificate: Option<String>,
    /// The file with the key of that certificate.
    pub key: Option<String>,
    /// The secret that keys are hashed under, in hexadecimal digits.
    pub key_seed: Option<String>,
    /// How many nodes there are.
    pub nodes: Option<u32>,
    /// Which of them this is, from 0.
    pub node: Option<u32>,
    /// How limits count that do not say so themselves.
    pub consistency: Option<Consistency>,
    /// Who decides while the store is away, for limits that do not say so themselves.
    pub on_failure: Option<OnFailure>,
    /// How much of a limit all nodes together may hold ahead, in a hundred.
    pub lease_percent: Option<u32>,
    /// After how long what is held ahead goes back if nobody asks for it.
    pub lease_idle: Option<Nanos>,
    /// How often what was handed out before it was taken is settled.
    pub sync_interval: Option<Nanos>,
    /// The directory in which state in memory is kept.
    pub data_dir: Option<String>,
    /// How often what has changed is written there.
    pub flush_interval: Option<Nanos>,
}

pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Option<StoreConfig> {
    let mut fields = decoder.fields(node, "a map with `url:`")?;
    let sharing = sharing(decoder, &mut fields);
    let config = StoreConfig {
        url: text(decoder, &mut fields, "url"),
        prefix: text(decoder, &mut fields, "prefix"),
        deadline: length(decoder, &mut fields, "deadline"),
        connect_timeout: length(decoder, &mut fields, "connect_timeout"),
        health_check_interval: length(decoder, &mut fields, "health_check_interval"),
        ca: text(decoder, &mut fields, "ca"),
        certificate: text(decoder, &mut fields, "certificate"),
        key: text(decoder, &mut fields, "key"),
        key_seed: text(decoder, &mut fields, "key_seed"),
        nodes: number(decoder, &mut fields, "nodes", 1, u32::MAX),
        node: number(decoder, &mut fields, "node", 0, u32::MAX),
        consistency: sharing.consistency,
        on_failure: sharing.on_failure,
        lease_percent: number(decoder, &mut fields, "lease_percent", 1, 50),
        lease_idle: length(decoder, &mut fields, "lease_idle"),
        sync_interval: length(decoder, &mut fields, "sync_interval"),
        data_dir: text(decoder, &mut fields, "data_dir"),
        flush_interval: length(decoder, &mut fields, "flush_interval"),
    };
    if config.data_dir.is_some() && config.url.as_deref().is_some_and(|url| url != "memory") {
        decoder.hinted(
            &node.span,
            "`data_dir` keeps what is in memory, and this store is elsewhere".to_owned(),
            "leave out `url` or `data_dir`",
        );
    }
    decoder.finish(fields, &KNOWN);
    Some(config)
}

fn text(decoder: &mut Decoder, fields: &mut Fields<'_>, setting: &str) -> Option<String> {
    fields.take(setting).and_then(|node| decoder.text(node)).map(str::to_owned)
}

fn number(
    decoder: &mut Decoder,
    fields: &mut Fields<'_>,
    setting: &str,
    least: u32,
    most: u32,
) -> Option<u32> {
    let number = fields.take(setting).and_then(|node| decoder.number(node, least.into(), most.into()))?;
    u32::try_from(number).ok()
}

/// A length that is not nothing.
pub(super) fn length(decoder: &mut Decoder, fields: &mut Fields<'_>, setting: &str) -> Option<Nanos> {
    let node = fields.take(setting)?;
    let text = decoder.text(node)?;
    let length = parse_length(text).ok().filter(|length| !length.is_zero());
    if length.is_none() {
        decoder.hinted(
            &node.span,
            format!("`{}` is no length of time", shortened(text)),
            "write a number and a unit, as in `20ms`",
        );
    }
    length
}
