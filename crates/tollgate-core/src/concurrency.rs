//! At most so many at once: permits that are held, and a line of those who wait for one.
//!
//! A permit is a lease. Its holder renews it while it works and releases it when it is done; a holder that is gone does neither, and
//! its permit comes back by itself. Whoever finds none left may stand in line: places are kept for a while and are kept longer by
//! asking again, so nobody waits behind somebody who has left. Nobody overtakes the line.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::time::{Nanos, Timestamp};

/// The longest that a permit can be held without being renewed: a day.
pub const MAX_TTL: Nanos = Nanos::from_secs(86_400);

/// The most permits and places in line of one key: each is looked at by each step. Beyond them nobody gets a permit.
pub const MAX_HOLDERS: usize = 16_384;

/// At most so many units held at once, each for at most so long unless it is renewed.
///
/// ```
/// use tollgate_core::concurrency::{Admission, Concurrency, Holders, PermitId, PermitRequest};
/// use tollgate_core::{Nanos, Timestamp};
///
/// let limit = Concurrency::new(1, Nanos::from_secs(30))?;
/// let (mut holders, now) = (Holders::default(), Timestamp::from_secs(1_000));
/// let ask = |id| PermitRequest::new(PermitId(id));
///
/// assert!(limit.acquire(&mut holders, now, &ask(1)).is_granted());
/// assert!(!limit.acquire(&mut holders, now, &ask(2)).is_granted());
/// // The first holder is not heard of again.
/// let later = now.saturating_add(Nanos::from_secs(30));
/// assert!(limit.acquire(&mut holders, later, &ask(2)).is_granted());
/// # Ok::<(), tollgate_core::concurrency::ConcurrencyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concurrency {
    most: u32,
    ttl: Nanos,
}

/// Why there can be no such limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConcurrencyError {
    /// Permits would be held for no time.
    #[error(
        "a permit that lasts for no time holds nothing: let it last for as long as a holder may be silent, such as 30 s"
    )]
    NoTime,
    /// Permits would be held for too long.
    #[error("a permit of {0} outlasts its holder by too long: let it last for a day at most, and renew it")]
    TooLong(Nanos),
}

/// A permit's name: whoever knows it can renew and release it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitId(pub u128);

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitRequest {
    /// Under which name. To ask again under the name of a permit that is held changes nothing and is granted, so an answer that was
    /// lost can be asked for again.
    pub id: PermitId,
    /// How many units.
    pub units: NonZeroU32,
    /// For how long a place in line is kept if there is no permit now. Nothing: no place is taken, and one that was is given up.
    pub patience: Nanos,
}

impl PermitRequest {
    /// One unit, without standing in line.
    pub const fn new(id: PermitId) -> Self {
        Self { id, units: NonZeroU32::MIN, patience: Nanos::ZERO }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The permit is held for so long, unless it is renewed.
    Granted {
        /// How long.
        lasts: Nanos,
    },
    /// There is no permit now.
    Full {
        /// How many units are wanted by those before in line.
        ahead: u64,
        /// After how long there will be one if nobody renews and nobody before in line takes it; it may be sooner. `None` if it can
        /// never be: more is asked for than there is.
        retry_after: Option<Nanos>,
    },
}

impl Admission {
    /// Whether the permit is held now.
    pub const fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

/// Who holds permits of one key, and who waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    held: Vec<Entry>,
    /// In the order in which they came.
    line: Vec<Entry>,
}

/// A permit that is held, or a place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    id: PermitId,
    units: u32,
    until: Timestamp,
}

impl Concurrency {
    /// At most `most` units at once, each permit for `ttl` unless it is renewed. 0 units: nobody gets a permit.
    ///
    /// # Errors
    /// If permits would last for no time, or for more than [`MAX_TTL`].
    pub const fn new(most: u32, ttl: Nanos) -> Result<Self, ConcurrencyError> {
        if ttl.is_zero() {
            return Err(ConcurrencyError::NoTime);
        }
        if ttl.as_nanos() > MAX_TTL.as_nanos() {
            return Err(ConcurrencyError::TooLong(ttl));
        }
        Ok(Self { most, ttl })
    }

    /// How many units there are.
    pub const fn most(&self) -> u32 {
        self.most
    }

    /// For how long a permit is held that is not renewed.
    pub const fn ttl(&self) -> Nanos {
        self.ttl
    }

    /// Grants a permit, if there are units that nobody holds and nobody before in line waits for.
    pub fn acquire(&self, holders: &mut Holders, now: Timestamp, request: &PermitRequest) -> Admission {
        holders.settle(now);
        if let Some(entry) = holders.held.iter().find(|entry| entry.id == request.id) {
            return Admission::Granted { lasts: entry.until.since(now) };
        }
        let place = holders.line.iter().position(|entry| entry.id == request.id);
        let ahead = units(&holders.line[..place.unwrap_or(holders.line.len())]);
        let wanted = u64::from(request.units.get());
        let entry =
            |lasts| Entry { id: request.id, units: request.units.get(), until: now.saturating_add(lasts) };
        if wanted > u64::from(self.most) {
            holders.leave(place);
            return Admission::Full { ahead, retry_after: None };
        }
        let free = u64::from(self.most).saturating_sub(units(&holders.held));
        let is_crowded = place.is_none() && holders.len() >= MAX_HOLDERS;
        if ahead + wanted <= free && !is_crowded {
            holders.leave(place);
            holders.held.push(entry(self.ttl));
            return Admission::Granted { lasts: self.ttl };
        }
        match place {
            _ if request.patience.is_zero() => holders.leave(place),
            Some(place) => holders.line[place] = entry(request.patience),
            None if is_crowded => {}
            None => holders.line.push(entry(request.patience)),
        }
        let missing = (ahead + wanted).saturating_sub(free);
        Admission::Full { ahead, retry_after: Some(holders.returned(missing, now)) }
    }

    /// Holds a permit for as long again. Says for how long that is; `None` if it is not held: it was released, or lapsed.
    pub fn renew(&self, holders: &mut Holders, now: Timestamp, id: PermitId) -> Option<Nanos> {
        holders.settle(now);
        let entry = holders.held.iter_mut().find(|entry| entry.id == id)?;
        entry.until = now.saturating_add(self.ttl);
        Some(self.ttl)
    }

    /// Those in line whose turn it is: each of them would be granted a permit.
    pub fn due<'h>(&self, holders: &'h Holders) -> impl Iterator<Item = PermitId> + use<'h> {
        let free = u64::from(self.most).saturating_sub(units(&holders.held));
        let mut taken = 0;
        holders.line.iter().map_while(move |entry| {
            taken += u64::from(entry.units);
            (taken <= free).then_some(entry.id)
        })
    }
}

impl Holders {
    /// Gives a permit back, or a place in line up. Says whether there was one that had not lapsed.
    pub fn release(&mut self, now: Timestamp, id: PermitId) -> bool {
        self.settle(now);
        let before = self.len();
        self.held.retain(|entry| entry.id != id);
        self.line.retain(|entry| entry.id != id);
        self.len() < before
    }

    /// How many units are held.
    pub fn in_use(&self, now: Timestamp) -> u64 {
        units(self.held.iter().filter(|entry| entry.until > now))
    }

    /// How many units are waited for.
    pub fn awaited(&self, now: Timestamp) -> u64 {
        units(self.line.iter().filter(|entry| entry.until > now))
    }

    /// Whether there is a permit or a place in line of this name, which may have lapsed since it was last looked at.
    pub fn contains(&self, id: PermitId) -> bool {
        self.held.iter().any(|entry| entry.id == id) || self.is_waiting(id)
    }

    /// Whether there is a place in line of this name, which may have lapsed since it was last looked at.
    pub fn is_waiting(&self, id: PermitId) -> bool {
        self.line.iter().any(|entry| entry.id == id)
    }

    /// How many places in line there are, with such as have lapsed since they were last looked at.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// How many permits and places in line there are, with such as have lapsed since they were last looked at.
    pub fn len(&self) -> usize {
        self.held.len() + self.line.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out what has lapsed.
    ///
    /// What would last for longer than anything can lies in a future that a clock was set back from: it lasts from now.
    pub fn settle(&mut self, now: Timestamp) {
        let latest = now.saturating_add(MAX_TTL);
        for list in [&mut self.held, &mut self.line] {
            list.retain_mut(|entry| {
                entry.until = entry.until.min(latest);
                entry.until > now
            });
        }
    }

    fn leave(&mut self, place: Option<usize>) {
        if let Some(place) = place {
            self.line.remove(place);
        }
    }

    /// After how long so many more units are back if nobody renews.
    fn returned(&self, wanted: u64, now: Timestamp) -> Nanos {
        let mut ends: Vec<(Timestamp, u32)> =
            self.held.iter().map(|entry| (entry.until, entry.units)).collect();
        ends.sort_unstable();
        let mut back = 0;
        let enough = ends.iter().find(|(_, units)| {
            back += u64::from(*units);
            back >= wanted
        });
        // Not enough is held: then those in line have to leave first, or to be served.
        let last = ends.last().map_or(now, |(until, _)| *until);
        enough.map_or(last, |(until, _)| *until).since(now)
    }
}

fn units<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> u64 {
    entries.into_iter().map(|entry| u64::from(entry.units)).sum()
}

/// 32 hexadecimal digits.
impl fmt::Display for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Why a text names no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a permit is named by 32 hexadecimal digits")]
pub struct ParsePermitIdError;

impl FromStr for PermitId {
    type Err = ParsePermitIdError;

    fn from_str(text: &str) -> Result<Self, ParsePermitIdError> {
        let is_hexadecimal = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hexadecimal.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(ParsePermitIdError)
    }
}
