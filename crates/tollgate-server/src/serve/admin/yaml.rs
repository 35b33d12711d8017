//! JSON in the one spelling of it that YAML does not know.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// The same text, where it is JSON with characters as JSON escapes those that lie beyond the first plane: as a pair of
/// surrogates (`\ud83d\ude00`). They stand for themselves then. Everything else of JSON is YAML already.
pub(super) fn of_json(text: &str) -> Cow<'_, str> {
    let has_pairs = text.contains(r"\ud") || text.contains(r"\uD");
    if !has_pairs || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let (mut yaml, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, escape)) = rest.find('\\').map(|at| rest.split_at(at)) {
        yaml.push_str(before);
        let length = if let Some(character) = pair(escape) {
            yaml.push(character);
            12
        } else {
            // Whichever it is, it does not start in its second character: `\\` is one escape.
            let length = escape.len().min(2);
            yaml.push_str(escape.get(..length).unwrap_or(escape));
            length
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    yaml.push_str(rest);
    Cow::Owned(yaml)
}

/// The character that a text starts with as a pair of surrogates.
fn pair(text: &str) -> Option<char> {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix(r"\u")?.get(..4)?, 16).ok();
    let units = [unit(text)?, unit(text.get(6..)?)?];
    char::decode_utf16(units).next()?.ok().filter(|character| character.len_utf16() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stand_for_themselves_and_the_rest_stays() {
        let smile = "\u{1f600}";
        for (json, yaml) in [
            (r#"{"a":"\ud83d\ude00"}"#, format!(r#"{{"a":"{smile}"}}"#)),
            (r#"{"a":"x\uD83D\uDE00\n\\ud83d\ude00"}"#, format!(r#"{{"a":"x{smile}\n\\ud83d\ude00"}}"#)),
            (r#"{"a":"\ud83d\ude00\ud83d\ude00ä"}"#, format!(r#"{{"a":"{smile}{smile}ä"}}"#)),
            (r#"{"a":"\ud7ff\u0041"}"#, r#"{"a":"\ud7ff\u0041"}"#.to_owned()),
            (r"a: \ud83d\ude00", r"a: \ud83d\ude00".to_owned()),
            (r#"{"a":"b"}"#, r#"{"a":"b"}"#.to_owned()),
        ] {
            assert_eq!(of_json(json), yaml, "{json}");
        }
    }
}
