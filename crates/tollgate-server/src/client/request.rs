//! A request as people write it in a few words: `POST /api/auth/login 203.0.113.7 header:x-tenant=acme`.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// What words can be, for the help of commands.
pub(super) const WORDS: &str = "The request, in words: an address, a METHOD, a /path, or else an API key; or NAME=VALUE with `ip`, \
                                `method`, `path`, `user`, `api_key`, `header:NAME`, `query:NAME`, `cookie:NAME`, `claim:NAME`, or \
                                the name of another attribute";

/// The question that a server is asked about a request.
pub(super) fn question(words: &[String], cost: Option<u32>) -> Result<Value, String> {
    let mut question = Map::new();
    for word in words {
        let (name, value) = part(word)?;
        let (group, name) = match name.split_once(':') {
            Some(("header", name)) => ("headers", name),
            Some(("query", name)) => ("query", name),
            Some(("cookie", name)) => ("cookies", name),
            Some(("claim", name)) => ("claims", name),
            _ if ["method", "path", "ip", "user", "api_key"].contains(&name) => ("", name),
            _ => ("attributes", name),
        };
        let place = if group.is_empty() {
            &mut question
        } else {
            let Value::Object(place) = question.entry(group).or_insert_with(|| json!({})) else { continue };
            place
        };
        if place.insert(name.to_owned(), value.into()).is_some() {
            return Err(format!("{word}: the request has a {name} already"));
        }
    }
    if let Some(cost) = cost {
        question.insert("cost".to_owned(), cost.into());
    }
    Ok(question.into())
}

/// What a word is: the name of an attribute, and its value.
fn part(word: &str) -> Result<(&str, &str), String> {
    // A path may have a query with `=`, an address has none.
    if word.starts_with('/') {
        return Ok(("path", word));
    }
    if let Some((name, value)) = word.split_once('=') {
        if name.is_empty() {
            return Err(format!("{word}: write NAME=VALUE"));
        }
        if name == "ip" && value.parse::<IpAddr>().is_err() {
            return Err(format!("{word}: this is no address, as 203.0.113.7 or 2001:db8::1 is"));
        }
        return Ok((name, value));
    }
    if word.parse::<IpAddr>().is_ok() {
        return Ok(("ip", word));
    }
    if word.len() <= 10 && word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(("method", word));
    }
    if word.is_empty() {
        return Err("an empty word says nothing of a request".to_owned());
    }
    Ok(("api_key", word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Value, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        question(&words, None)
    }

    #[test]
    fn words_are_told_apart() {
        assert_eq!(
            asked(
                "POST /login?next=/a 2001:db8::1 k-123 header:x-tenant=acme query:q=a=b plan=gold user=ann"
            ),
            Ok(json!({
                "method": "POST", "path": "/login?next=/a", "ip": "2001:db8::1", "api_key": "k-123", "user": "ann",
                "headers": { "x-tenant": "acme" }, "query": { "q": "a=b" }, "attributes": { "plan": "gold" },
            }))
        );
        assert_eq!(asked("GETS-9"), Ok(json!({ "api_key": "GETS-9" })));
        assert_eq!(question(&[], Some(7)), Ok(json!({ "cost": 7 })));
        for (wrong, said) in [
            ("ip=here", "no address"),
            ("=x", "NAME=VALUE"),
            ("10.0.0.1 10.0.0.2", "has a ip already"),
            ("", "empty word"),
        ] {
            assert!(asked(wrong).is_err_and(|error| error.contains(said)), "{wrong}");
        }
    }
}
