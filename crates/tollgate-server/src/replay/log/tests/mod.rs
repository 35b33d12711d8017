//! Whole logs, from their bytes to the requests.

mod chunks;
mod clf;
mod inputs;
mod json;
mod rubbish;
mod time;

use std::io::{Cursor, Read};

use super::reader::Source;
use super::{Batch, FieldNames, Format, FormatChoice, Options, Reader, Tally};

/// A request, with its fields as printable text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    time_ns: u64,
    client: String,
    user: Option<String>,
    method: String,
    target: String,
    status: Option<u16>,
    bytes: Option<u64>,
    user_agent: Option<String>,
    attributes: Vec<Option<String>>,
}

/// Everything that came out of some inputs.
#[derive(Debug, Default)]
struct Outcome {
    requests: Vec<Request>,
    tally: Tally,
    errors: Vec<String>,
    /// The format of each chunk.
    formats: Vec<Option<Format>>,
}

impl Outcome {
    /// The only request.
    #[track_caller]
    fn only(self) -> Request {
        let [request] = <[Request; 1]>::try_from(self.requests)
            .unwrap_or_else(|requests| panic!("not one request but {requests:?}, {:?}", self.tally));
        request
    }

    /// What is wrong with the only line.
    #[track_caller]
    fn flaw(self) -> String {
        assert_eq!((self.requests.len(), self.tally.bad), (0, 1), "{:?}", self.requests);
        self.tally.examples()[0].reason.clone()
    }

    fn targets(&self) -> Vec<&str> {
        self.requests.iter().map(|request| request.target.as_str()).collect()
    }
}

fn options(format: FormatChoice, fields: &[&str]) -> Options {
    Options { format, fields: FieldNames::parse(fields).unwrap(), ..Options::default() }
}

/// Reads one input that tells its format.
fn auto(text: impl Into<Vec<u8>>) -> Outcome {
    with(&Options::default(), text)
}

fn with(options: &Options, text: impl Into<Vec<u8>>) -> Outcome {
    from(options, vec![("test.log", Box::new(Cursor::new(text.into())))])
}

fn from(options: &Options, inputs: Vec<(&str, Box<dyn Read + Send>)>) -> Outcome {
    let waiting = inputs.into_iter().map(|(name, source)| Source::test(name, source)).collect();
    drain(Reader::new(waiting, None, options), options)
}

fn drain(mut reader: Reader, options: &Options) -> Outcome {
    let attributes = options.fields.attribute_names().len();
    let mut parser = reader.parser();
    let mut batch = Batch::new();
    let mut outcome = Outcome { tally: Tally::new(options.examples_max), ..Outcome::default() };
    loop {
        match reader.read_chunk(&mut batch) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                outcome.errors.push(error.to_string());
                continue;
            }
        }
        parser.parse_chunk(&mut batch);
        let tally = batch.tally();
        assert_eq!(tally.lines, tally.entries + tally.blank + tally.bad);
        assert_eq!(tally.entries, batch.len() as u64);
        assert_eq!(batch.is_empty(), batch.entries().next().is_none());
        outcome.tally.add(tally);
        outcome.formats.push(batch.format());
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\\"", "\"");
        outcome.requests.extend(batch.entries().map(|entry| Request {
            time_ns: entry.time_ns,
            client: text(entry.client),
            user: entry.user.map(text),
            method: text(entry.method),
            target: text(entry.target),
            status: entry.status,
            bytes: entry.bytes,
            user_agent: entry.user_agent.map(text),
            attributes: (0..attributes).map(|index| entry.attribute(index).map(text)).collect(),
        }));
    }
    outcome
}

/// A line that can be read, whose target is `target`.
fn line(target: &str) -> String {
    format!("1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET {target} HTTP/1.1\" 200 5 \"-\" \"agent\"\n")
}
