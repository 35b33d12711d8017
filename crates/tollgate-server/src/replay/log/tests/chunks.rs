//! Lines: their ends, their numbers, their lengths, and how chunks are cut.

use std::io::{self, Read};

use super::super::{Format, FormatChoice, Options};
use super::{auto, from, line, options, with};

const MAX_LINE: usize = 65_536;

#[test]
fn line_ends_and_blank_lines() {
    let text =
        format!("\u{feff}{}\n \t\r\n{}\r\n\r\n{}", line("/a"), line("/b").trim_end(), line("/c").trim_end());
    let outcome = auto(text);
    assert_eq!(outcome.targets(), ["/a", "/b", "/c"]);
    assert_eq!(outcome.requests[1].user_agent.as_deref(), Some("agent"));
    assert_eq!((outcome.tally.lines, outcome.tally.blank, outcome.tally.bad), (6, 3, 0));
}

#[test]
fn empty_inputs() {
    for text in ["", "\u{feff}", "\n", "\r\n\r\n"] {
        let outcome = auto(text);
        assert_eq!((outcome.tally.entries, outcome.tally.bad, outcome.errors.len()), (0, 0, 0), "{text:?}");
    }
    assert_eq!(auto("").tally.lines, 0);
    assert_eq!(auto("\n\n").tally.blank, 2);
    assert!(from(&Options::default(), vec![]).formats.is_empty());
}

#[test]
fn a_byte_order_mark_is_only_one_at_the_start() {
    let outcome = auto(format!("\u{feff}{}\u{feff}{{}}", line("/a")));
    assert_eq!((outcome.tally.entries, outcome.tally.bad), (1, 1));
    assert_eq!(auto("\u{feff}{}").flaw().split(' ').next(), Some("no"));
}

#[test]
fn bad_lines_are_counted_and_the_first_ones_kept() {
    let bad: Vec<String> = (0..30).map(|index| format!("bad \x1b[31m{index}\0\n")).collect();
    let outcome = auto(format!("{}\n{}{}", line("/a"), bad.concat(), line("/b")));
    assert_eq!((outcome.tally.entries, outcome.tally.blank, outcome.tally.bad), (2, 1, 30));
    assert_eq!(outcome.tally.examples().len(), 10);
    let bad = &outcome.tally.examples()[1];
    assert_eq!((&*bad.input, bad.line), ("test.log", 4));
    assert_eq!(bad.to_string(), "test.log:4: no time in square brackets: bad .[31m1.");
}

#[test]
fn each_input_tells_its_format_by_its_first_line_that_can_be_read() {
    let json = r#"{"time":1431857103,"client":"1.2.3.4","method":"GET","path":"/json"}"#;
    let input = |text: String| -> Box<dyn Read + Send> { Box::new(io::Cursor::new(text.into_bytes())) };
    let outcome = from(
        &Options::default(),
        vec![
            ("a", input(format!("rubbish\n{{\"time\":1}}\n{}{json}\n", line("/clf")))),
            ("b", input(format!("\n  {json}\n{}", line("/clf")))),
            ("c", input("nothing\n{}\n".to_owned())),
        ],
    );
    assert_eq!(outcome.formats, [Some(Format::Combined), Some(Format::Json), None]);
    assert_eq!(outcome.targets(), ["/clf", "/json"]);
    let bad: Vec<_> = outcome.tally.examples().iter().map(|bad| (&*bad.input, bad.line)).collect();
    assert_eq!(bad, [("a", 1), ("a", 2), ("a", 4), ("b", 3), ("c", 1), ("c", 2)]);
    assert!(outcome.tally.examples()[5].reason.starts_with("no time"));
}

#[test]
fn the_format_may_be_found_out_late() {
    let text = format!("{}{}{}\n", "rubbish\n".repeat(300_000), line("/a"), line("/b"));
    let outcome = auto(text);
    assert_eq!(outcome.formats, [None, None, Some(Format::Combined)]);
    assert_eq!((outcome.tally.entries, outcome.tally.bad), (2, 300_000));
}

#[test]
fn a_chosen_format_is_kept_to() {
    let json = r#"{"time":1431857103,"client":"1.2.3.4","method":"GET","path":"/json"}"#;
    let text = format!("{json}\n{}", line("/clf"));
    let targets =
        |format| with(&options(FormatChoice::Always(format), &[]), text.as_str()).requests.remove(0).target;
    assert_eq!((targets(Format::Json).as_str(), targets(Format::Common).as_str()), ("/json", "/clf"));
}

#[test]
fn formats_have_names() {
    for format in [Format::Common, Format::Combined, Format::Json] {
        assert_eq!(format.to_string().parse(), Ok(FormatChoice::Always(format)));
    }
    assert_eq!("auto".parse(), Ok(FormatChoice::Auto));
    let error = "w3c".parse::<FormatChoice>().unwrap_err();
    assert_eq!(error.to_string(), "unknown log format `w3c`; choose auto, common, combined or json");
}

/// A line of exactly that length without its end.
fn long(length: usize) -> String {
    let rest = line("/").len() - 1;
    line(&format!("/{}", "a".repeat(length - rest))).trim_end().to_owned()
}

#[test]
fn the_longest_line() {
    for end in ["\n", "\r\n", ""] {
        let outcome = auto(format!("{}{}{end}", line("/a"), long(MAX_LINE)));
        assert_eq!((outcome.tally.entries, outcome.tally.bad), (2, 0), "{end:?}");
        let outcome = auto(format!("{}{}{end}", line("/a"), long(MAX_LINE + 1)));
        assert_eq!((outcome.tally.entries, outcome.tally.bad), (1, 1), "{end:?}");
        let bad = &outcome.tally.examples()[0];
        assert_eq!((bad.line, bad.reason.as_str()), (2, "longer than 65536 bytes"));
        assert_eq!(bad.excerpt.chars().count(), 80);
    }
}

/// Lines of all lengths meet every border of a chunk, with reads of all sizes, and none is lost or doubled.
#[test]
fn chunks_are_cut_at_line_ends() {
    for seed in 1..=6u64 {
        let mut random = super::rubbish::Random(seed);
        let (mut text, mut wanted, mut bad) = (String::new(), Vec::new(), 0);
        while text.len() < 5 << 20 {
            let length = match random.below(40) {
                0 => MAX_LINE - 2 + random.below(5),
                1 => MAX_LINE + random.below(3 << 20),
                2..6 => 100 + random.below(60_000),
                _ => 100 + random.below(300),
            };
            let one = long(length);
            if length > MAX_LINE {
                bad += 1;
            } else {
                wanted.push(length);
            }
            // A carriage return just where a long line is cut off does not make it a short one.
            let mut one = one.into_bytes();
            if one.len() > MAX_LINE + 10 {
                one[MAX_LINE..MAX_LINE + 2].copy_from_slice(b"\r\r");
            }
            text += &String::from_utf8(one).unwrap();
            text += if random.below(2) == 0 { "\n" } else { "\r\n" };
        }
        let source = Uneven { text: text.into_bytes(), at: 0, random };
        let outcome = from(&Options::default(), vec![("a", Box::new(source))]);
        let rest = line("/").trim_end().len();
        let lengths: Vec<usize> =
            outcome.requests.iter().map(|request| request.target.len() - 1 + rest).collect();
        assert_eq!(lengths, wanted);
        assert_eq!(outcome.tally.bad, bad);
        assert!(outcome.tally.examples().iter().all(|bad| bad.reason == "longer than 65536 bytes"));
    }
}

/// Gives out a text in pieces of any size, with interruptions.
struct Uneven {
    text: Vec<u8>,
    at: usize,
    random: super::rubbish::Random,
}

impl Read for Uneven {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = match self.random.below(4) {
            0 => return Err(io::ErrorKind::Interrupted.into()),
            1 => 1 + self.random.below(10),
            _ => 1 + self.random.below(200_000),
        };
        let length = most.min(into.len()).min(self.text.len() - self.at);
        into[..length].copy_from_slice(&self.text[self.at..][..length]);
        self.at += length;
        Ok(length)
    }
}

/// A line of 1 GiB, which is never in memory.
#[test]
fn a_huge_line_is_one_bad_line() {
    let huge = io::repeat(b'x').take(1 << 30);
    let text = format!("\n{}", line("/after")).into_bytes();
    let source = io::Cursor::new(line("/before").into_bytes()).chain(huge).chain(io::Cursor::new(text));
    let outcome = from(&Options::default(), vec![("a", Box::new(source))]);
    assert_eq!(outcome.targets(), ["/before", "/after"]);
    assert_eq!((outcome.tally.lines, outcome.tally.bad), (3, 1));
    assert_eq!(outcome.tally.examples()[0].reason, "longer than 65536 bytes");
    assert_eq!(outcome.formats.len(), 2);
}

#[test]
fn a_failing_disk_is_said_with_its_line() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let text = format!("{}{}half a li", line("/a"), line("/b"));
    let broken = io::Cursor::new(text.into_bytes()).chain(Failing);
    let outcome = from(
        &Options::default(),
        vec![
            ("a.log", Box::new(broken)),
            ("b.log", Box::new(Failing)),
            ("c.log", Box::new(io::Cursor::new(line("/c").into_bytes()))),
        ],
    );
    assert_eq!(outcome.targets(), ["/a", "/b", "/c"]);
    assert_eq!(outcome.tally.lines, 3);
    assert_eq!(
        outcome.errors,
        ["cannot read a.log beyond line 2: Input/output error", "cannot read b.log: Input/output error"]
    );
}
