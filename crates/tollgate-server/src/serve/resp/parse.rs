//! Requests, read in place: arrays of bulk strings, and lines for people with a terminal.
//!
//! Nothing is copied but the words of a line with quotes, and nothing is allocated because of a number that was only
//! announced: a command exists once all of its bytes are there.

/// The longest bulk string.
pub(super) const BULK_MAX: usize = 64 << 10;
/// The most words of a command.
pub(super) const WORDS_MAX: usize = 128;
/// The longest line.
const LINE_MAX: usize = 64 << 10;
/// The most bytes of a command.
pub(super) const COMMAND_MAX: usize = 256 << 10;
/// The longest that a number may be written, with its sign.
const DIGITS_MAX: usize = 20;

/// How large a command may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    words: usize,
    bulk: usize,
    /// Of whom this is asked: a part of the message when it is too much.
    whose: &'static str,
}

impl Bounds {
    /// Of those who may ask anything.
    pub(super) const ALL: Self = Self { words: WORDS_MAX, bulk: BULK_MAX, whose: "invalid" };

    /// Of those who have yet to say who they are: enough for that.
    pub(super) const STRANGERS: Self = Self { words: 10, bulk: 16 << 10, whose: "unauthenticated" };
}

/// What ends a connection, as its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProtocolError(pub(super) String);

fn wrong<T>(what: impl Into<String>) -> Result<T, ProtocolError> {
    Err(ProtocolError(format!("ERR Protocol error: {}", what.into())))
}

/// Where the words of a command lie; kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Spans {
    words: Vec<(usize, usize)>,
    /// The words of a line, without their quotes.
    line: Vec<u8>,
    is_line: bool,
}

/// The words of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a> {
    words: &'a [(usize, usize)],
    bytes: &'a [u8],
}

impl<'a> Command<'a> {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.words.len()
    }

    /// One of them, the name being the 0th; nothing for one that is not there.
    #[inline]
    pub(super) fn word(&self, index: usize) -> &'a [u8] {
        let word = self.words.get(index).and_then(|(from, to)| self.bytes.get(*from..*to));
        word.unwrap_or_default()
    }

    /// All from this one on.
    pub(super) fn words_from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let words = self.words.get(first..).unwrap_or_default();
        words.iter().map(move |(from, to)| bytes.get(*from..*to).unwrap_or_default())
    }
}

impl Spans {
    /// Reads the first command of the input, and says how many bytes it takes; `None` if it is not all there yet.
    ///
    /// # Errors
    /// If it can never become one.
    pub(super) fn read(&mut self, input: &[u8], bounds: Bounds) -> Result<Option<usize>, ProtocolError> {
        self.words.clear();
        self.is_line = false;
        let (is_line, most) = match input.first() {
            None => return Ok(None),
            Some(b'*') => (false, COMMAND_MAX),
            Some(_) => (true, LINE_MAX),
        };
        // No more is looked at, so that it makes no difference in how many parts it comes.
        let input = &input[..input.len().min(most)];
        let taken = if is_line { self.read_line(input) } else { self.read_array(input, bounds) }?;
        if taken.is_none() && input.len() == most {
            return wrong(if is_line { "too big inline request" } else { "too big a request" });
        }
        Ok(taken)
    }

    /// The command that was read. It may be empty: then nobody asks anything.
    pub(super) fn command<'a>(&'a self, input: &'a [u8]) -> Command<'a> {
        Command { words: &self.words, bytes: if self.is_line { &self.line } else { input } }
    }

    #[inline]
    fn read_array(&mut self, input: &[u8], bounds: Bounds) -> Result<Option<usize>, ProtocolError> {
        let (count, mut at) = match number(input, 1) {
            Number::Is(count, at) => (count, at),
            Number::Part => return Ok(None),
            Number::Wrong => return wrong("invalid multibulk length"),
        };
        // No words, as with a count below nothing, ask nothing.
        let count = usize::try_from(count).unwrap_or(0);
        if count > bounds.words {
            return wrong(format!("{} multibulk length", bounds.whose));
        }
        for _ in 0..count {
            match input.get(at) {
                None => return Ok(None),
                Some(b'$') => {}
                // Arrays in arrays as well.
                Some(other) => return wrong(format!("expected '$', got '{}'", shown(*other))),
            }
            let (length, from) = match number(input, at + 1) {
                Number::Is(length, from) => (length, from),
                Number::Part => return Ok(None),
                Number::Wrong => return wrong("invalid bulk length"),
            };
            let length = match usize::try_from(length) {
                Ok(length) if length <= bounds.bulk => length,
                Ok(length) if length <= BULK_MAX => return wrong(format!("{} bulk length", bounds.whose)),
                _ => return wrong("invalid bulk length"),
            };
            let to = from + length;
            match input.get(to..) {
                Some([b'\r', b'\n', ..]) => {}
                None | Some([] | [b'\r']) => return Ok(None),
                Some(_) => return wrong("a bulk string is longer than it was said to be"),
            }
            self.words.push((from, to));
            at = to + 2;
        }
        Ok(Some(at))
    }

    /// Reads a line of words with spaces between them, as people type it.
    fn read_line(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(end) = memchr::memchr(b'\n', input) else { return Ok(None) };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.is_line = true;
        self.line.clear();
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok(Some(end + 1));
            }
            if self.words.len() == WORDS_MAX {
                return wrong("too many words in a line");
            }
            let from = self.line.len();
            let Some(after) = unquoted(rest, &mut self.line) else {
                return wrong("unbalanced quotes in request");
            };
            self.words.push((from, self.line.len()));
            rest = after;
        }
    }
}

/// A byte as it can stand in an answer.
fn shown(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '?' }
}

/// A number before the end of a line.
enum Number {
    /// Which, and where the next line begins.
    Is(i64, usize),
    /// It is not all there.
    Part,
    Wrong,
}

#[inline]
fn number(input: &[u8], from: usize) -> Number {
    let rest = input.get(from..).unwrap_or_default();
    let (is_negative, digits) = match rest.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, rest),
    };
    let mut value: i64 = 0;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return match &digits[index..] {
                _ if index == 0 => Number::Wrong,
                [b'\r', b'\n', ..] => {
                    let next = from + usize::from(is_negative) + index + 2;
                    Number::Is(if is_negative { -value } else { value }, next)
                }
                [b'\r'] => Number::Part,
                _ => Number::Wrong,
            };
        }
        if index == DIGITS_MAX {
            return Number::Wrong;
        }
        match value.checked_mul(10).and_then(|value| value.checked_add(i64::from(digit))) {
            Some(longer) => value = longer,
            None => return Number::Wrong,
        }
    }
    Number::Part
}

/// Appends the first word of a line, and returns what follows it; `None` if its quotes do not match.
fn unquoted<'a>(line: &'a [u8], to: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = line;
    loop {
        match rest {
            [] => return Some(rest),
            [byte, ..] if byte.is_ascii_whitespace() => return Some(rest),
            [b'"', inner @ ..] => return after_quote(double_quoted(inner, to)?),
            [b'\'', inner @ ..] => return after_quote(single_quoted(inner, to)?),
            [byte, after @ ..] => {
                to.push(*byte);
                rest = after;
            }
        }
    }
}

/// A closing quote ends a word.
fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], to: &mut Vec<u8>) -> Option<&'a [u8]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    loop {
        match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
                to.push(digit(*high)? << 4 | digit(*low)?);
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                to.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                to.push(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], to: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                to.push(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                to.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All commands of an input, and what ends it.
    fn read(input: &[u8]) -> (Vec<Vec<Vec<u8>>>, Result<usize, ProtocolError>) {
        let (mut spans, mut commands, mut at) = (Spans::default(), Vec::new(), 0);
        loop {
            match spans.read(&input[at..], Bounds::ALL) {
                Ok(Some(taken)) => {
                    let command = spans.command(&input[at..]);
                    commands.push(command.words_from(0).map(<[u8]>::to_vec).collect());
                    at += taken;
                }
                Ok(None) => return (commands, Ok(input.len() - at)),
                Err(error) => return (commands, Err(error)),
            }
        }
    }

    fn words(input: &[u8]) -> Vec<String> {
        let (commands, end) = read(input);
        assert_eq!((commands.len(), end), (1, Ok(0)));
        commands[0].iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn arrays_and_lines() {
        assert_eq!(words(b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n"), ["ECHO", "a\r\n"]);
        assert_eq!(words(b"*1\r\n$0\r\n\r\n"), [""]);
        assert_eq!(words(b"  ECHO  a b\r\n"), ["ECHO", "a", "b"]);
        assert_eq!(words(b"ECHO \"a b\\x41\\n\\q\" 'it\\'s' x\n"), ["ECHO", "a bA\nq", "it's", "x"]);
        assert_eq!(words(b"ECHO \"\" ''\n"), ["ECHO", "", ""]);
        // Nobody asks anything.
        for input in [&b"\r\n"[..], b"\n", b"  \r\n", b"*0\r\n", b"*-1\r\n"] {
            assert_eq!(words(input), [""; 0], "{}", input.escape_ascii());
        }
    }

    #[test]
    fn what_cannot_become_a_command_is_said() {
        for (input, said) in [
            (&b"*x\r\n"[..], "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*1\n", "invalid multibulk length"),
            (b"*129\r\n", "invalid multibulk length"),
            (b"*99999999999999999999", "invalid multibulk length"),
            (b"*00000000000000000000000001", "invalid multibulk length"),
            (b"*1\r\n+OK\r\n", "expected '$', got '+'"),
            (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
            (b"*1\r\n\r\n", "expected '$', got '?'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$65537\r\n", "invalid bulk length"),
            (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
            (b"*1\r\n$3\r\nPING\r\n", "a bulk string is longer than it was said to be"),
            (b"ECHO \"a\r\n", "unbalanced quotes in request"),
            (b"ECHO 'a'b\r\n", "unbalanced quotes in request"),
        ] {
            let error = ProtocolError(format!("ERR Protocol error: {said}"));
            assert_eq!(read(input), (Vec::new(), Err(error)), "{}", input.escape_ascii());
        }
        let long = vec![b'x'; 1_000_000];
        let error = ProtocolError("ERR Protocol error: too big inline request".to_owned());
        assert_eq!(read(&long), (Vec::new(), Err(error)));
        let many = [&b"a ".repeat(129)[..], b"\n"].concat();
        assert!(read(&many).1.is_err());
    }

    #[test]
    fn a_command_is_bounded_as_a_whole_and_strangers_say_less() {
        let mut input = b"*128\r\n".to_vec();
        for _ in 0..10 {
            input.extend_from_slice(b"$60000\r\n");
            input.resize(input.len() + 60_000, b'x');
            input.extend_from_slice(b"\r\n");
        }
        assert!(read(&input).1.unwrap_err().0.contains("too big a request"));
        for (input, whose) in [
            (&b"*11\r\n"[..], "unauthenticated multibulk length"),
            (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
        ] {
            assert!(matches!(Spans::default().read(input, Bounds::ALL), Ok(None)));
            let error = Spans::default().read(input, Bounds::STRANGERS).unwrap_err();
            assert_eq!(error.0, format!("ERR Protocol error: {whose}"));
        }
    }

    /// Bytes that are a request more often than chance has it.
    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
            2 => prop::collection::vec(any::<u8>(), 0..20),
            2 => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..5).prop_map(|words| {
                let mut command = format!("*{}\r\n", words.len()).into_bytes();
                for word in words {
                    command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                    command.extend_from_slice(&word);
                    command.extend_from_slice(b"\r\n");
                }
                command
            }),
            1 => "[*$:+0-9a-z \"'\\\\\r\n-]{0,12}".prop_map(String::into_bytes),
            1 => Just(b"echo \"a\\x00\" 'b'\r\n".to_vec()),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike_however_they_come(input in likely(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let (whole, end) = read(&input);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.push(input.len());
            cuts.sort_unstable();
            let (mut buffer, mut commands, mut spans, mut from) = (Vec::new(), Vec::new(), Spans::default(), 0);
            let mut last = Ok(0);
            'parts: for to in cuts {
                buffer.extend_from_slice(&input[from..to]);
                from = to;
                loop {
                    match spans.read(&buffer, Bounds::ALL) {
                        Ok(Some(taken)) => {
                            prop_assert!(taken > 0 && taken <= buffer.len());
                            let command = spans.command(&buffer);
                            commands.push(command.words_from(0).map(<[u8]>::to_vec).collect::<Vec<_>>());
                            buffer.drain(..taken);
                        }
                        Ok(None) => {
                            last = Ok(buffer.len());
                            break;
                        }
                        Err(error) => {
                            last = Err(error);
                            break 'parts;
                        }
                    }
                }
            }
            prop_assert_eq!((commands, last), (whole, end));
        }
    }
}
