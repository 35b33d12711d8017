//! The rows of a record, by period.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use tollgate_core::{KeyHash, Limit, LimitId, Timestamp};
use tollgate_policy::{Use, local_time};

use super::file::Line;

/// What one identity used of one limit in one period.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct UseRow {
    /// When the period ends, and the next one begins.
    pub end: Timestamp,
    /// When it began.
    pub start: Timestamp,
    /// Both as the limit's calendar shows them, by RFC 3339.
    pub local: (String, String),
    /// The policy's name.
    pub policy: String,
    /// The tier, if the policy has tiers.
    pub tier: Option<String>,
    /// The limit's own name, if it has one.
    pub limit_name: Option<String>,
    /// Who used it; `None` for those together for whom there was no room.
    pub identity: Option<String>,
    /// How much the period holds for this identity, with what was carried over into it.
    pub limit: u64,
    /// How much was used.
    pub used: u64,
}

/// All rows.
#[derive(Debug)]
pub(super) struct Book {
    /// Those that end first, first.
    periods: BTreeMap<PeriodId, Period>,
    rows: usize,
    rows_max: usize,
    /// The latest time at which anything was noted.
    latest: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeriodId {
    pub(super) end: Timestamp,
    pub(super) start: Timestamp,
    pub(super) limit: LimitId,
}

/// One period of one limit.
#[derive(Clone, Debug)]
pub(super) struct Period {
    pub(super) policy: String,
    pub(super) tier: Option<String>,
    pub(super) limit_name: Option<String>,
    pub(super) local: (String, String),
    rows: HashMap<Option<Box<str>>, Row>,
}

/// What one identity used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) key: KeyHash,
    pub(super) whole: u64,
    pub(super) used: u64,
}

/// A row, by what it is found.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) limit: LimitId,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) identity: Option<Box<str>>,
}

impl Entry {
    /// Where what a request used is noted.
    pub(super) fn of(now: Timestamp, one: &Use<'_>) -> Self {
        let stamp = if one.grant.stamp == Timestamp::EPOCH { now } else { one.grant.stamp };
        let (start, end) = match one.limit.limit() {
            Limit::FixedWindow(window) => window.windows().window(stamp),
            // Of no other kind uses are told.
            _ => (stamp, stamp),
        };
        Self { limit: one.limit.id(), start, end, identity: Some(one.name.into()) }
    }

    fn period(&self) -> PeriodId {
        PeriodId { end: self.end, start: self.start, limit: self.limit }
    }
}

impl Period {
    pub(super) fn new(
        policy: String,
        tier: Option<String>,
        limit_name: Option<String>,
        local: (String, String),
    ) -> Self {
        Self { policy, tier, limit_name, local, rows: HashMap::new() }
    }
}

impl Book {
    pub(super) fn new(rows_max: usize) -> Self {
        Self { periods: BTreeMap::new(), rows: 0, rows_max, latest: Timestamp::EPOCH }
    }

    pub(super) const fn latest(&self) -> Timestamp {
        self.latest
    }

    pub(super) const fn len(&self) -> usize {
        self.rows
    }

    /// All rows, in no order.
    pub(super) fn rows(&self) -> Vec<UseRow> {
        let mut rows = Vec::with_capacity(self.rows);
        for (id, period) in &self.periods {
            rows.extend(period.rows.iter().map(|(identity, row)| UseRow {
                end: id.end,
                start: id.start,
                local: period.local.clone(),
                policy: period.policy.clone(),
                tier: period.tier.clone(),
                limit_name: period.limit_name.clone(),
                identity: identity.as_deref().map(str::to_owned),
                limit: row.whole,
                used: row.used,
            }));
        }
        rows
    }

    /// The rows of periods that have not ended, each of an identity of its own.
    pub(super) fn under_way(&self, now: Timestamp) -> Vec<(Entry, Row)> {
        let under_way = self.periods.iter().filter(|(id, _)| id.end > now);
        let entries = under_way.flat_map(|(PeriodId { end, start, limit }, period)| {
            period.rows.iter().filter(|(identity, _)| identity.is_some()).map(|(identity, row)| {
                (Entry { limit: *limit, start: *start, end: *end, identity: identity.clone() }, *row)
            })
        });
        entries.collect()
    }

    /// Adds what was used; returns the line for it.
    pub(super) fn add(&mut self, now: Timestamp, one: &Use<'_>, units: u32) -> Line<'_> {
        let mut entry = Entry::of(now, one);
        self.latest = self.latest.max(now);
        self.make_room(&mut entry);
        let id = entry.period();
        let period = self.periods.entry(id).or_insert_with(|| {
            let limit = one.limit.limit();
            let local = (local_time(limit, id.start), local_time(limit, id.end));
            let limit_name = one.limit.name().map(str::to_owned);
            Period::new(one.policy.name().to_owned(), one.tier.map(str::to_owned), limit_name, local)
        });
        let used = |used: u64| {
            let used = used.saturating_add(units.into());
            Row { key: one.key, whole: one.whole, used }
        };
        let row = if let Some(row) = period.rows.get_mut(&entry.identity) {
            *row = used(row.used);
            *row
        } else {
            self.rows += 1;
            *period.rows.entry(entry.identity.clone()).or_insert(used(0))
        };
        Line { id, period, identity: entry.identity.map(|name| Cow::Owned(name.into())), row }
    }

    /// Sees to it that there is a row for an entry, or that it goes to those for whom there is none.
    fn make_room(&mut self, entry: &mut Entry) {
        let is_known =
            self.periods.get(&entry.period()).is_some_and(|period| period.rows.contains_key(&entry.identity));
        if is_known {
            return;
        }
        while self.rows >= self.rows_max {
            match self.periods.first_entry() {
                Some(first) if first.key().end <= self.latest => self.rows -= first.remove().rows.len(),
                _ => {
                    entry.identity = None;
                    return;
                }
            }
        }
    }

    /// Takes out what was given back, if the period is still under way; returns the line for it.
    pub(super) fn subtract<'b>(&'b mut self, entry: &'b Entry, units: u32) -> Option<Line<'b>> {
        let id = entry.period();
        let period = self.periods.get_mut(&id).filter(|_| id.end > self.latest)?;
        // Those for whom there was no room are among the others.
        let identity =
            if period.rows.contains_key(&entry.identity) { entry.identity.as_deref() } else { None };
        let row = period.rows.get_mut(&identity.map(Box::from))?;
        row.used = row.used.saturating_sub(units.into());
        let row = *row;
        Some(Line { id, period, identity: identity.map(Cow::Borrowed), row })
    }

    /// Sets a row that was read.
    pub(super) fn set(&mut self, id: PeriodId, period: Period, identity: Option<Box<str>>, row: Row) {
        let period = self.periods.entry(id).or_insert(period);
        if period.rows.insert(identity, row).is_none() {
            self.rows += 1;
        }
    }

    /// The lines of all rows.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        for (id, period) in &self.periods {
            for (identity, row) in &period.rows {
                let identity = identity.as_deref().map(Cow::Borrowed);
                lines.push_str(&Line { id: *id, period, identity, row: *row }.text());
            }
        }
        lines
    }
}
