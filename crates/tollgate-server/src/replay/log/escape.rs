//! Backslash escapes, as the servers and JSON write them.

use memchr::memchr;

/// Appends `raw` to `out` with its escapes resolved.
///
/// One table serves both: Apache writes `\"`, `\\` and C's letters, nginx writes `\xHH`, JSON adds `\/` and
/// `\uHHHH`; none gives another meaning to what the others write. nginx with its default escaping also puts `\xHH`
/// into hand-made JSON, where no parser of JSON would take it. A backslash before anything else stays.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let (byte, length) = match *rest {
            [b'b', ..] => (8, 1),
            [b't', ..] => (b'\t', 1),
            [b'n', ..] => (b'\n', 1),
            [b'v', ..] => (11, 1),
            [b'f', ..] => (12, 1),
            [b'r', ..] => (b'\r', 1),
            [byte @ (b'"' | b'\\' | b'/'), ..] => (byte, 1),
            [b'x', high, low, ..] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'\\', 0),
            },
            [b'u', ..] => match unicode(rest) {
                Some((letter, length)) => {
                    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &rest[length..];
                    continue;
                }
                None => (b'\\', 0),
            },
            _ => (b'\\', 0),
        };
        out.push(byte);
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
}

/// The character at the start of `text`, which begins with the `u` of `\uHHHH`, and how many bytes it takes. Half a
/// surrogate pair is U+FFFD.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let first = unit(text)?;
    if let Some(letter) = char::from_u32(first) {
        return Some((letter, 5));
    }
    let pair =
        text[5..].strip_prefix(b"\\").and_then(unit).filter(|second| (0xDC00..0xE000).contains(second));
    match pair {
        Some(second) if first < 0xDC00 => {
            let letter = char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00));
            Some((letter.unwrap_or(char::REPLACEMENT_CHARACTER), 11))
        }
        _ => Some((char::REPLACEMENT_CHARACTER, 5)),
    }
}

/// The UTF-16 unit of `uHHHH`.
fn unit(text: &[u8]) -> Option<u32> {
    let [b'u', digits @ ..] = text.get(..5)? else {
        return None;
    };
    digits.iter().try_fold(0, |value, letter| Some(value << 4 | u32::from(digit(*letter)?)))
}

/// The value of a hexadecimal digit.
pub(super) fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[track_caller]
    fn check(raw: &[u8], wanted: &[u8]) {
        let mut out = b"before ".to_vec();
        unescape(raw, &mut out);
        assert_eq!(out[7..].escape_ascii().to_string(), wanted.escape_ascii().to_string());
    }

    #[test]
    fn resolves_what_servers_and_json_write() {
        check(b"", b"");
        check(b"plain", b"plain");
        check(br#"a\"b\\c\/d"#, br#"a"b\c/d"#);
        check(br"\b\t\n\v\f\r", b"\x08\t\n\x0b\x0c\r");
        check(br"\x16\x03\xFf", b"\x16\x03\xff");
        check(br"caf\u00e9 \u20AC", "café €".as_bytes());
        check(br"\ud83d\ude00!", "😀!".as_bytes());
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        check(br"\ud83d", "\u{fffd}".as_bytes());
        check(br"\ude00x", "\u{fffd}x".as_bytes());
        check(br"\ud83d\u0041", "\u{fffd}A".as_bytes());
        check(br"\ud83d\ud83d\ude00", "\u{fffd}😀".as_bytes());
        check(br"\ude00\ude00", "\u{fffd}\u{fffd}".as_bytes());
    }

    #[test]
    fn keeps_what_is_no_escape() {
        check(br"\", br"\");
        check(br"\q\", br"\q\");
        check(br"\x1", br"\x1");
        check(br"\xg0\u12", br"\xg0\u12");
        check(br"\u00g0", br"\u00g0");
    }
}
