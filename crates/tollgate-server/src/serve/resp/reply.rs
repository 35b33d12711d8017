//! Answers, as both versions of the protocol write them.

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// RESP2, with which every connection begins.
    #[default]
    Two,
    /// RESP3, by `HELLO 3`.
    Three,
}

/// What a connection is answered, in order.
#[derive(Debug, Default)]
pub(super) struct Replies(pub(super) Vec<u8>);

impl Replies {
    /// `OK` and its like.
    pub(super) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error, whose first word says its kind. Whatever a client wrote in it stays on its line.
    pub(super) fn error(&mut self, text: &str) {
        self.0.push(b'-');
        let shown = text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        self.0.extend(shown);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(super) fn integer(&mut self, number: i64) {
        // Most numbers of an answer have one digit.
        if let Ok(digit @ 0..=9) = u8::try_from(number) {
            self.0.extend_from_slice(&[b':', b'0' + digit, b'\r', b'\n']);
        } else {
            self.line(b':', itoa::Buffer::new().format(number).as_bytes());
        }
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.line(b'$', itoa::Buffer::new().format(bytes.len()).as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Nothing.
    pub(super) fn null(&mut self, protocol: Protocol) {
        self.0.extend_from_slice(match protocol {
            Protocol::Two => b"$-1\r\n",
            Protocol::Three => b"_\r\n",
        });
    }

    /// The head of so many values.
    pub(super) fn array(&mut self, length: usize) {
        self.line(b'*', itoa::Buffer::new().format(length).as_bytes());
    }

    /// The head of so many pairs of a key and a value. RESP2 has them as an array.
    pub(super) fn map(&mut self, protocol: Protocol, pairs: usize) {
        match protocol {
            Protocol::Two => self.array(pairs * 2),
            Protocol::Three => self.line(b'%', itoa::Buffer::new().format(pairs).as_bytes()),
        }
    }

    /// A text for people. RESP3 says that it is one.
    pub(super) fn text(&mut self, protocol: Protocol, text: &str) {
        match protocol {
            Protocol::Two => self.bulk(text.as_bytes()),
            Protocol::Three => {
                self.line(b'=', itoa::Buffer::new().format(text.len() + 4).as_bytes());
                self.0.extend_from_slice(b"txt:");
                self.0.extend_from_slice(text.as_bytes());
                self.0.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Five numbers: what the commands that throttle answer.
    #[inline]
    pub(super) fn five(&mut self, numbers: [i64; 5]) {
        self.0.extend_from_slice(b"*5\r\n");
        for number in numbers {
            self.integer(number);
        }
    }

    #[inline]
    fn line(&mut self, mark: u8, text: &[u8]) {
        self.0.push(mark);
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_own_marks() {
        let written = |protocol| {
            let mut replies = Replies::default();
            replies.map(protocol, 1);
            replies.bulk(b"a\r\nb");
            replies.null(protocol);
            replies.text(protocol, "t");
            replies.five([0, -1, 10, 9, i64::MIN]);
            String::from_utf8(replies.0).unwrap()
        };
        let five = "*5\r\n:0\r\n:-1\r\n:10\r\n:9\r\n:-9223372036854775808\r\n";
        assert_eq!(written(Protocol::Two), format!("*2\r\n$4\r\na\r\nb\r\n$-1\r\n$1\r\nt\r\n{five}"));
        assert_eq!(written(Protocol::Three), format!("%1\r\n$4\r\na\r\nb\r\n_\r\n=5\r\ntxt:t\r\n{five}"));
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let mut replies = Replies::default();
        replies.error("ERR unknown command 'a\r\n+OK'");
        assert_eq!(replies.0, b"-ERR unknown command 'a  +OK'\r\n");
    }
}
