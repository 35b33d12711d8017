//! One rule.

use std::fmt;

use tollgate_core::Nanos;

use super::Level;

/// What a rule says of the descriptors that lead to it.
#[derive(Debug, Default)]
pub struct Rule {
    pub(crate) key: String,
    /// Which values; all, if there is none.
    pub(crate) value: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) rate: Option<(u32, Unit)>,
    pub(crate) is_unlimited: bool,
    pub(crate) mode: Mode,
    /// Whether all values that are like a pattern are counted together.
    pub(crate) shares_threshold: bool,
    pub(crate) told_apart: ToldApart,
    /// The names of limits that are left out where this one applies.
    pub(crate) replaces: Vec<String>,
    pub(crate) metadata: Option<MetadataValue>,
    pub(crate) children: Level,
}

/// How a rule that is over its limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It denies.
    #[default]
    Enforced,
    /// It only watches.
    Shadow,
    /// It denies if all in this mode are over.
    Quota,
}

/// Which values metrics tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToldApart {
    /// Those that the rule asks for.
    #[default]
    Asked,
    /// Its own, whatever they are.
    Own,
    /// Those of all entries that lead to it.
    All,
}

impl Rule {
    /// The limit's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How many requests there may be in each unit, if they are limited.
    pub const fn rate(&self) -> Option<(u32, Unit)> {
        self.rate
    }

    pub(crate) const fn limits(&self) -> bool {
        self.rate.is_some()
    }

    /// Whether it says that nothing limits its descriptors.
    pub const fn is_unlimited(&self) -> bool {
        self.is_unlimited
    }

    /// Whether it decides, counts and is told of, but never denies.
    pub const fn is_shadow(&self) -> bool {
        matches!(self.mode, Mode::Shadow)
    }

    /// Whether its metrics tell the values of entries apart that it does not ask for: an import says that ours do not.
    #[cfg(feature = "expressions")]
    pub(crate) const fn tells_values_apart(&self) -> bool {
        !matches!(self.told_apart, ToldApart::Asked)
    }

    /// Whether it denies only if all rules of which this holds do.
    pub const fn is_quota(&self) -> bool {
        matches!(self.mode, Mode::Quota)
    }

    /// What is handed back to who asks.
    pub const fn metadata(&self) -> Option<&MetadataValue> {
        self.metadata.as_ref()
    }

    /// Whether its value is a pattern.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.value.as_deref().is_some_and(|value| value.contains('*'))
    }
}

/// For how long a rule counts. Windows begin with the epoch's: a week on Thursday, a month is 30 days, a year 365.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    /// All of them, the shortest first, as files write them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("second", Self::Second),
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
    ];

    /// How long it is.
    pub const fn period(self) -> Nanos {
        const DAY_S: u64 = 86_400;
        Nanos::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => DAY_S,
            Self::Week => 7 * DAY_S,
            Self::Month => 30 * DAY_S,
            Self::Year => 365 * DAY_S,
        })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, unit)| unit == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// A value of a rule's metadata, as the file has it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum MetadataValue {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<MetadataValue>),
    Map(Vec<(String, MetadataValue)>),
}
