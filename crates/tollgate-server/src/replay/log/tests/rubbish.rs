//! Whatever comes, nothing panics and every line is accounted for.

use super::super::{Format, FormatChoice, Options};
use super::{Outcome, auto, line, options, with};

/// xorshift64*, of Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

const JSON: &str = r#"{"time":"2015-05-17T10:05:03.5Z","client":"[::1]:80","user":"\u00e9\ud83d\ude00","request":{"method":"GET","url":"http://h?\"","headers":{"x":["a\\b",{}]}},"status":200,"x":[1.5e3,true,null]}
"#;

/// Bytes that mean something to one of the formats.
const MEANING: &[u8] = b"{}[]\",:\\ \n\r\0-+.eEuxT/01258:\xff\xc3\xef\xbb\xbf";

fn all() -> [Options; 4] {
    let fields = ["key=request.headers.x", "deep=x", "user=user"];
    [
        options(FormatChoice::Auto, &fields),
        options(FormatChoice::Always(Format::Common), &fields),
        options(FormatChoice::Always(Format::Combined), &fields),
        options(FormatChoice::Always(Format::Json), &fields),
    ]
}

/// What holds of every outcome, besides what reading it asserts itself.
fn check(outcome: &Outcome) {
    for request in &outcome.requests {
        assert!(!request.client.is_empty() && !request.method.is_empty() && !request.target.is_empty());
        assert!(request.user.as_deref() != Some("") && request.user_agent.as_deref() != Some(""));
    }
    for bad in outcome.tally.examples() {
        assert!(bad.excerpt.chars().count() <= 80 && !bad.excerpt.chars().any(char::is_control));
    }
}

#[test]
fn random_bytes() {
    let mut random = Random(0x7011_6A7E);
    for options in all() {
        for _ in 0..20 {
            let text: Vec<u8> = (0..20_000).map(|_| random.byte()).collect();
            check(&with(&options, text));
            // These get further.
            let text: Vec<u8> = (0..20_000).map(|_| MEANING[random.below(MEANING.len())]).collect();
            check(&with(&options, text));
        }
    }
}

#[test]
fn good_lines_with_a_few_bytes_changed() {
    let mut random = Random(0xBAD_11E5);
    let agent = line(r#"http://[::1]?\"\x41 \\"#);
    let clf = "host:80 1.2.3.4:5 - Bob B [31/Dec/2016:23:59:60 -0130] \"GET  /\\x22 HTTP/1.1\" 200 - \"\" \"\\\"\"\n";
    for options in all() {
        let mut text = Vec::new();
        for _ in 0..6_000 {
            let start = text.len();
            text.extend_from_slice([agent.as_str(), clf, JSON][random.below(3)].as_bytes());
            for _ in 0..random.below(4) {
                let at = start + random.below(text.len() - start);
                match random.below(4) {
                    0 => text[at] = random.byte(),
                    1 => text[at] = MEANING[random.below(MEANING.len())],
                    2 => drop(text.remove(at)),
                    _ => text.insert(at, random.byte()),
                }
            }
        }
        let outcome = with(&options, text);
        assert!(outcome.tally.entries > 0 && outcome.tally.bad > 0);
        check(&outcome);
    }
}

#[test]
fn lines_cut_off_anywhere() {
    let clf = line("/a");
    let mut read = 0;
    for good in [clf.trim_end(), JSON.trim_end()] {
        assert_eq!(auto(good).tally.entries, 1);
        for end in 1..good.len() {
            read += auto(&good.as_bytes()[..end]).tally.entries;
        }
    }
    // Only where the size or the referrer has just ended, and after the space that follows, is it a whole line.
    assert_eq!(read, 4);
}

#[test]
fn random_bytes_after_each_magic_number() {
    let mut random = Random(0x6219);
    for magic in [
        &b"\x1f\x8b\x08\0\0\0\0\0\0\0"[..],
        b"\x1f\x8b",
        b"\x28\xb5\x2f\xfd",
        b"\x28\xb5\x2f\xfd\x20\xff",
        b"\x5f\x2a\x4d\x18",
    ] {
        for _ in 0..60 {
            let rest: Vec<u8> = (0..random.below(5_000)).map(|_| random.byte()).collect();
            check(&auto([magic, &rest].concat()));
        }
    }
}

#[test]
fn invalid_utf_8_is_kept() {
    let text = b"1.2.3.4 - b\xffb [17/May/2015:10:05:03 +0000] \"GET /\xc3\x28\0 HTTP/1.1\" 200 5 \"-\" \"\xf0\x9f\"\n";
    let request = auto(text).only();
    assert_eq!(request.user.as_deref(), Some(r"b\xffb"));
    assert_eq!(request.target, r"/\xc3(\x00");
    assert_eq!(request.user_agent.as_deref(), Some(r"\xf0\x9f"));
}
