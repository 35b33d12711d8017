//! Where logs come from: files, compressed or not, whole or broken.

use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::super::{Batch, FormatChoice, Options, Parser, Progress, Reader, Tally};
use super::{Outcome, auto, drain, from, line, options};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
}

/// A log of so many lines, which are all different.
fn log(lines: usize) -> String {
    (0..lines).map(|index| line(&format!("/{index}/{}", index * 7919 % 1009))).collect()
}

/// The first requests of [`log`], without gap.
#[track_caller]
fn check_first(outcome: &Outcome, at_least: usize) {
    let wanted = log(outcome.requests.len());
    let found: String = outcome.targets().into_iter().map(line).collect();
    assert!(found == wanted, "the requests are not the first ones of the log");
    assert!(outcome.requests.len() >= at_least, "only {} requests", outcome.requests.len());
    assert_eq!(outcome.tally.bad, 0, "{:?}", outcome.tally.examples());
}

#[test]
fn gzip_of_one_and_more_members() {
    let text = log(20_000);
    check_first(&auto(gzip(&text)), 20_000);
    // The members break in the middle of a line; one is empty; zeros follow.
    let (start, end) = text.split_at(text.len() / 2 + 3);
    let members = [gzip(start), gzip(""), gzip(end), vec![0; 1000]].concat();
    let outcome = auto(members);
    check_first(&outcome, 20_000);
    assert_eq!((outcome.requests.len(), outcome.errors.len()), (20_000, 0));
    assert_eq!(auto(gzip("")).tally.lines, 0);
}

#[test]
fn zstd_of_one_and_more_frames() {
    let text = log(20_000);
    check_first(&auto(zstd(&text)), 20_000);
    let (start, end) = text.split_at(text.len() / 2 + 3);
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 5, 0, 0, 0][..], b"12345"].concat();
    let frames = [skippable.clone(), zstd(start), skippable, zstd(""), zstd(end)].concat();
    let outcome = auto(frames);
    check_first(&outcome, 20_000);
    assert_eq!((outcome.requests.len(), outcome.errors.len()), (20_000, 0));
}

#[test]
fn a_truncated_gzip_counts_up_to_there() {
    let data = gzip(&log(20_000));
    let outcome = auto(&data[..data.len() / 2]);
    check_first(&outcome, 8_000);
    let wanted = format!(
        "test.log is broken gzip data near byte {} beyond line {}: the data ends too soon; the lines before it were read",
        data.len() / 2,
        outcome.requests.len()
    );
    assert_eq!(outcome.errors, [wanted]);
    for length in [2, 9, 15, data.len() - 1] {
        let outcome = auto(&data[..length]);
        assert!(outcome.errors[0].contains("the data ends too soon"), "{length}: {:?}", outcome.errors);
    }
}

#[test]
fn a_truncated_zstd_counts_up_to_there() {
    let data = zstd(&log(20_000));
    let outcome = auto(&data[..data.len() / 2]);
    check_first(&outcome, 6_000);
    assert_eq!(outcome.errors.len(), 1);
    assert!(outcome.errors[0].starts_with("test.log is broken zstd data near byte "), "{:?}", outcome.errors);
    assert!(outcome.errors[0].contains(": the data ends too soon; "), "{:?}", outcome.errors);
    for length in [4, 5, 8, data.len() - 1] {
        let outcome = auto(&data[..length]);
        assert!(outcome.errors[0].contains("the data ends too soon"), "{length}: {:?}", outcome.errors);
    }
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 200, 0, 0, 0][..], b"12345"].concat();
    assert!(auto(skippable).errors[0].contains("the data ends too soon"));
}

#[test]
fn a_damaged_gzip_counts_up_to_there() {
    let mut data = gzip(&log(20_000));
    let middle = data.len() / 2;
    data[middle..middle + 64].fill(0xFF);
    let outcome = auto(data);
    assert!(outcome.tally.entries >= 7_000, "{}", outcome.tally.entries);
    assert_eq!(outcome.errors.len(), 1);
    assert!(outcome.errors[0].contains("broken gzip data near byte "), "{:?}", outcome.errors);
}

#[test]
fn a_gzip_with_a_wrong_checksum_or_rubbish_behind_it_is_broken() {
    let text = log(100);
    let mut data = gzip(&text);
    let checksum = data.len() - 8;
    data[checksum] ^= 1;
    let outcome = auto(data);
    check_first(&outcome, 100);
    assert!(outcome.errors[0].contains("beyond line 100: "), "{:?}", outcome.errors);

    let outcome = auto([gzip(&text), b"rubbish that is no gzip member".to_vec()].concat());
    check_first(&outcome, 100);
    assert_eq!(outcome.errors.len(), 1);
    let outcome = auto([zstd(&text), b"rubbish that is no zstd frame".to_vec()].concat());
    check_first(&outcome, 100);
    assert_eq!(outcome.errors.len(), 1);
}

#[test]
fn a_frame_that_wants_too_much_memory_is_refused() {
    // A frame header with a window of 2 GiB.
    let outcome = auto([0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 1, 0, 0]);
    assert_eq!(outcome.errors.len(), 1);
    assert!(outcome.errors[0].contains("broken zstd data"), "{:?}", outcome.errors);
}

#[test]
fn other_compressions_are_named() {
    for (data, wanted) in [
        (
            &b"\xFD7zXZ\0rest"[..],
            "cannot read a.log: it is xz data; decompress it first, for example `xz -dc a.log |",
        ),
        (b"BZh91AY", "cannot read a.log: it is bzip2 data;"),
        (b"PK\x03\x04", "cannot read a.log: it is zip data;"),
    ] {
        let outcome = from(&Options::default(), vec![("a.log", Box::new(Cursor::new(data.to_vec())))]);
        assert!(outcome.errors[0].starts_with(wanted), "{:?}", outcome.errors);
    }
}

#[test]
fn a_pipe_may_give_its_first_bytes_one_by_one() {
    struct OneByOne(Cursor<Vec<u8>>);
    impl Read for OneByOne {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = into.len().min(1);
            self.0.read(&mut into[..length])
        }
    }
    for data in [gzip(&log(3)), zstd(&log(3)), log(3).into_bytes()] {
        let outcome = from(&Options::default(), vec![("a", Box::new(OneByOne(Cursor::new(data))))]);
        check_first(&outcome, 3);
    }
    assert_eq!(auto("ab").flaw(), "no time in square brackets");
}

/// A directory of this test's own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tollgate-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, data).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_in_their_order() {
    let folder = Folder::new("order");
    let text = log(3_000);
    let (first, second) = text.split_at(text.find(&line("/1000/368")).unwrap());
    // The names say nothing about what is in them.
    let paths = [folder.write("b.log", &gzip(first)), folder.write("a.zst", second.as_bytes())];
    let options = options(FormatChoice::Auto, &[]);
    let reader = Reader::open(&paths, &options).unwrap();
    let progress: Progress = reader.progress();
    let size: u64 = paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!((progress.bytes_read(), progress.bytes_total()), (0, Some(size)));
    let outcome = drain(reader, &options);
    check_first(&outcome, 3_000);
    assert_eq!(progress.bytes_read(), size);
    assert_eq!(outcome.formats.len(), 2);
}

#[test]
fn what_cannot_be_read_is_said_at_once() {
    let folder = Folder::new("missing");
    let good = folder.write("good.log", b"");
    let open = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        Reader::open(&paths, &Options::default()).map(|_| ()).map_err(|error| error.to_string())
    };
    let good = good.to_str().unwrap();
    assert_eq!(open(&[good]), Ok(()));
    assert_eq!(open(&[]), Ok(()));
    assert_eq!(
        open(&[good, "no/such/access.log"]).unwrap_err(),
        "cannot read no/such/access.log: No such file or directory"
    );
    let directory = folder.0.to_str().unwrap();
    assert_eq!(
        open(&[directory]).unwrap_err(),
        format!(
            "cannot read {directory}: it is a directory; name the files in it, for example {directory}/*"
        )
    );
    assert_eq!(open(&["-"]), Ok(()));
    assert_eq!(
        open(&["-", good, "-"]).unwrap_err(),
        "standard input can be read only once: give `-` a single time"
    );
    let reader = Reader::open(&[PathBuf::from("-"), PathBuf::from(good)], &Options::default()).unwrap();
    assert_eq!(reader.progress().bytes_total(), None);
}

#[test]
fn a_file_that_has_gone_is_said_when_its_turn_comes() {
    let folder = Folder::new("gone");
    let paths = [folder.write("a.log", log(1).as_bytes()), folder.write("b.log", b"")];
    let options = Options::default();
    let reader = Reader::open(&paths, &options).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let outcome = drain(reader, &options);
    check_first(&outcome, 1);
    assert_eq!(outcome.errors, [format!("cannot read {}: No such file or directory", paths[1].display())]);
}

/// Reading, parsing and deciding on three threads, with batches going round.
#[test]
fn the_steps_can_run_on_threads_of_their_own() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let options = Options::default();
    let data = Box::new(Cursor::new(gzip(&log(30_000))));
    let waiting = [super::super::reader::Source::test("a", data)].into_iter().collect();
    let mut reader = sendable(Reader::new(waiting, None, &options));
    let mut parser: Parser = sendable(reader.parser());
    let (to_parse, texts) = std::sync::mpsc::channel::<Batch>();
    let (to_decide, parsed) = std::sync::mpsc::channel::<Batch>();
    let (give_back, free) = std::sync::mpsc::channel();
    for _ in 0..3 {
        give_back.send(Batch::default()).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for mut batch in free {
                match reader.read_chunk(&mut batch) {
                    Ok(true) => to_parse.send(batch).unwrap(),
                    Ok(false) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(move || {
            for mut batch in texts {
                parser.parse_chunk(&mut batch);
                to_decide.send(batch).unwrap();
            }
        });
        let mut tally = Tally::new(10);
        for batch in parsed {
            assert_eq!(&**batch.input(), "a");
            tally.add(batch.tally());
            let _ = give_back.send(batch);
        }
        assert_eq!((tally.lines, tally.entries), (30_000, 30_000));
    });
}
