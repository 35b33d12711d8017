//! Why a policy applies to a request, or why it does not: for people.

use std::fmt;

use tollgate_core::Timestamp;

use crate::attribute::{Attribute, Attributes};
use crate::path::{PathTree, Pattern, normalized};
use crate::policy::Policy;
use crate::set::PolicySet;

/// Why a policy applies to a request, or why it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It applies.
    Applies,
    /// It is switched off.
    SwitchedOff,
    /// It is for other methods.
    Method {
        /// Those that it is for.
        wanted: Vec<String>,
    },
    /// It is for other paths.
    Path {
        /// The patterns that it is for.
        wanted: Vec<String>,
    },
    /// A further condition does not hold.
    Condition {
        /// What is looked at: an attribute, `ip`, or `when`.
        of: String,
        /// What would do.
        wanted: Vec<String>,
    },
    /// It is not active at this time.
    NotNow,
    /// The request lacks what the policy counts by.
    Lacks {
        /// What that is.
        part: String,
    },
    /// Another policy applies in its place.
    ReplacedBy {
        /// The name of that.
        policy: String,
    },
}

/// As the end of a sentence that begins with the policy's name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applies => f.write_str("applies"),
            Self::SwitchedOff => f.write_str("is switched off"),
            Self::Method { wanted } | Self::Path { wanted } => write!(f, "is for {}", wanted.join(", ")),
            Self::Condition { of, wanted } => write!(f, "asks for {of}: {}", wanted.join(", ")),
            Self::NotNow => f.write_str("is not active at this time"),
            Self::Lacks { part } => write!(f, "counts by {part}, which the request lacks"),
            Self::ReplacedBy { policy } => write!(f, "is replaced by {policy}"),
        }
    }
}

impl PolicySet {
    /// Why each policy applies to a request at `now`, or why it does not, in the order of [`policies`](Self::policies).
    ///
    /// ```
    /// use tollgate_core::{KeySeed, Timestamp};
    /// use tollgate_policy::{Config, PolicySet, Reason, Request};
    ///
    /// let policies = PolicySet::new(Config::example(), KeySeed::new([7; 16]));
    /// let request = Request::new("GET", "/api/auth/login").with_ip("203.0.113.7".parse()?);
    /// let login = policies.index_of("login").unwrap_or_default();
    /// assert_eq!(policies.explain(&request, Timestamp::EPOCH)[login], Reason::Method { wanted: vec!["POST".to_owned()] });
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn explain(&self, request: &(impl Attributes + ?Sized), now: Timestamp) -> Vec<Reason> {
        let path = normalized(request.path());
        let matching = self.matching(request, now, None);
        let applying: Vec<usize> = self.plan(request, now, None).parts().map(|(index, ..)| index).collect();
        let is_one = |index: usize| matching.parts().any(|(other, ..)| other == index);
        self.policies()
            .enumerate()
            .map(|(index, policy)| {
                if applying.contains(&index) {
                    return Reason::Applies;
                }
                if is_one(index) {
                    let replaces = |other: &&Policy| {
                        other.replaces_all() || other.replaces().any(|name| name == policy.name())
                    };
                    let by = matching.policies().find(replaces).map(|other| other.name().to_owned());
                    return Reason::ReplacedBy { policy: by.unwrap_or_default() };
                }
                self.objection(policy, request, &path, now)
            })
            .collect()
    }

    /// Why a policy does not match a request.
    fn objection(
        &self,
        policy: &Policy,
        request: &(impl Attributes + ?Sized),
        path: &str,
        now: Timestamp,
    ) -> Reason {
        if !policy.enabled {
            return Reason::SwitchedOff;
        }
        if !policy.paths.is_empty() && !policy.paths.iter().any(|pattern| is_like(pattern, path)) {
            return Reason::Path { wanted: policy.paths().map(str::to_owned).collect() };
        }
        if !policy.takes_method(request, path) {
            return Reason::Method { wanted: policy.methods().map(str::to_owned).collect() };
        }
        if let Some(condition) = policy.conditions.iter().find(|condition| !condition.holds(request, path)) {
            let secret = condition.attribute().is_some_and(Attribute::is_secret);
            let of = match condition {
                crate::condition::Condition::When(_) => "when".to_owned(),
                other => other.attribute().map_or_else(|| "ip".to_owned(), ToString::to_string),
            };
            let wanted = if secret { vec!["a secret".to_owned()] } else { condition.values() };
            return Reason::Condition { of, wanted };
        }
        if policy.schedule.as_ref().is_some_and(|schedule| !schedule.is_active(now)) {
            return Reason::NotNow;
        }
        Reason::Lacks { part: self.lacking(policy, request, path).unwrap_or_default() }
    }
}

fn is_like(pattern: &Pattern, path: &str) -> bool {
    let mut tree = PathTree::<()>::default();
    tree.entry(pattern);
    let mut is_like = false;
    tree.matches(path, &mut |()| is_like = true);
    is_like
}

#[cfg(test)]
mod tests {
    use tollgate_core::KeySeed;

    use super::*;
    use crate::attribute::Request;
    use crate::config::{Config, Format};

    #[test]
    fn every_reason_is_told() {
        let text = r#"policies:
  - { name: plain, key: ip, limit: 5/minute }
  - { name: off, enabled: false, key: ip, limit: 5/minute }
  - { name: path, match: { path: /a/** }, key: ip, limit: 5/minute }
  - { name: method, match: { method: [PUT, POST] }, key: ip, limit: 5/minute }
  - { name: where, match: { where: { header:x-plan: gold } }, key: ip, limit: 5/minute }
  - { name: secret, match: { where: { api_key: k-canary } }, key: ip, limit: 5/minute }
  - { name: network, match: { ip: 10.0.0.0/8 }, key: ip, limit: 5/minute }
  - { name: night, schedule: { zone: UTC, hours: "01:00-02:00" }, key: ip, limit: 5/minute }
  - { name: keyed, key: [ip, user], limit: 5/minute }
  - { name: replaced, key: ip, limit: 5/minute }
  - { name: better, key: ip, limit: 5/minute, replaces: replaced }
"#;
        let config =
            Config::parse("test", text, Format::Yaml, &[]).unwrap_or_else(|problems| panic!("{problems}"));
        let set = PolicySet::new(config, KeySeed::new([7; 16]));
        let request = Request::new("GET", "/b").with_ip([203, 0, 113, 7].into());
        // Noon.
        let reasons = set.explain(&request, Timestamp::from_secs(43_200));
        let told: Vec<String> = set
            .policies()
            .zip(&reasons)
            .map(|(policy, reason)| format!("{} {reason}", policy.name()))
            .collect();
        assert_eq!(
            told,
            [
                "plain applies",
                "off is switched off",
                "path is for /a/**",
                "method is for PUT, POST",
                "where asks for header:x-plan: gold",
                "secret asks for api_key: a secret",
                "network asks for ip: 10.0.0.0/8",
                "night is not active at this time",
                "keyed counts by user, which the request lacks",
                "replaced is replaced by better",
                "better applies",
            ]
        );
    }
}
