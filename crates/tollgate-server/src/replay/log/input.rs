//! Where the bytes of a log come from, and their decompression.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How an input is compressed. Found out by its first bytes; its name plays no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// A compression that is known, but not read.
pub(super) struct Unsupported {
    pub(super) kind: &'static str,
    /// The command that decompresses it to standard output.
    pub(super) tool: &'static str,
}

/// An input, decompressed.
pub(super) enum Decoder {
    Plain(Raw),
    /// `None` only for the moment in which one member gives way to the next.
    Gzip(Option<GzDecoder<BufReader<Raw>>>),
    Zstd(Box<Zstd>),
}

/// How much compressed data is read at once.
const BUFFER: usize = 64 << 10;

/// How much is decompressed at once. When the data turns out to be corrupt, this much before that place is lost.
const GZIP_STEP: usize = 32 << 10;

impl Decoder {
    /// Looks at the first bytes of `raw`.
    pub(super) fn new(mut raw: Raw) -> io::Result<Result<Self, Unsupported>> {
        let head = raw.look()?;
        Ok(match *head {
            [0x1F, 0x8B, ..] => Ok(Self::Gzip(Some(GzDecoder::new(BufReader::with_capacity(BUFFER, raw))))),
            // The second is a frame to be skipped, which the parallel compressor begins with.
            [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Ok(Self::Zstd(Box::new(Zstd {
                frame: FrameDecoder::new(),
                source: BufReader::with_capacity(BUFFER, raw),
                failure: None,
            }))),
            [0xFD, b'7', b'z', b'X'] => Err(Unsupported { kind: "xz", tool: "xz -dc" }),
            [b'B', b'Z', b'h', b'1'..=b'9'] => Err(Unsupported { kind: "bzip2", tool: "bzip2 -dc" }),
            [b'P', b'K', 3, 4] => Err(Unsupported { kind: "zip", tool: "unzip -p" }),
            _ => Ok(Self::Plain(raw)),
        })
    }

    pub(super) fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// How many compressed bytes were used, and whether reading them failed, so that an error is the system's and not
    /// the data's.
    pub(super) fn position(&self) -> (u64, bool) {
        let source = match self {
            Self::Plain(raw) => return (raw.position, raw.failed),
            Self::Gzip(Some(member)) => member.get_ref(),
            Self::Gzip(None) => return (0, false),
            Self::Zstd(zstd) => &zstd.source,
        };
        (source.get_ref().position - source.buffer().len() as u64, source.get_ref().failed)
    }
}

impl Read for Decoder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(raw) => raw.read(into),
            Self::Gzip(member) => read_gzip(member, into),
            Self::Zstd(zstd) => zstd.read(into),
        }
    }
}

fn read_gzip(slot: &mut Option<GzDecoder<BufReader<Raw>>>, into: &mut [u8]) -> io::Result<usize> {
    let step = into.len().min(GZIP_STEP);
    while let Some(member) = slot {
        let length = member.read(&mut into[..step]).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => too_short(),
            _ => error,
        })?;
        if length > 0 || step == 0 {
            return Ok(length);
        }
        // The member has ended. Zeros may follow, to fill the block of a tape, or another member.
        let source = member.get_mut();
        loop {
            let buffer = source.fill_buf()?;
            if buffer.is_empty() {
                return Ok(0);
            }
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            let only_zeros = zeros == buffer.len();
            source.consume(zeros);
            if !only_zeros {
                break;
            }
        }
        *slot = slot.take().map(|member| GzDecoder::new(member.into_inner()));
    }
    Ok(0)
}

/// Zstandard frames, one after the other.
pub(super) struct Zstd {
    frame: FrameDecoder,
    source: BufReader<Raw>,
    /// What went wrong, while there is still decoded data to give out before it is said.
    failure: Option<io::Error>,
}

impl Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.frame.can_collect() > 0 {
                return self.frame.read(into);
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            let step = if self.frame.is_finished() { self.next_frame() } else { self.next_block() };
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(failure) => {
                    self.failure = Some(failure);
                    self.finish();
                }
            }
        }
    }

    /// Begins the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.frame.init(&mut self.source) {
            Ok(()) => Ok(true),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                if skipped == length { Ok(true) } else { Err(too_short()) }
            }
            Err(error) => Err(damage(error)),
        }
    }

    fn next_block(&mut self) -> io::Result<bool> {
        self.frame
            .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
            .map(|_| true)
            .map_err(damage)
    }

    /// Ends a frame that broke, so that the decoder gives out what it holds back for later references: up to a whole
    /// window, which can be the whole of a small file.
    fn finish(&mut self) {
        /// An empty last block, and a checksum, which is not looked at.
        const END: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

        if !self.frame.is_finished() {
            // It cannot fail; and if it did, what is held back would be lost, which is no reason to stop.
            let _ = self.frame.decode_blocks(&END[..], BlockDecodingStrategy::UptoBlocks(1));
        }
    }
}

/// An error of the zstd decoder. That the data has ended lies deep within it, and reads badly there.
fn damage(error: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::UnexpectedEof
        {
            return too_short();
        }
        cause = error.source();
    }
    io::Error::other(error)
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the data ends too soon")
}

/// The bytes of an input as they are, counted.
pub(super) struct Raw {
    source: Box<dyn Read + Send>,
    /// The first bytes, which were looked at; those from `head_at` on are still to be read.
    head: [u8; 4],
    head_len: usize,
    head_at: usize,
    position: u64,
    failed: bool,
    /// The count over all inputs.
    total: Arc<AtomicU64>,
}

impl Raw {
    pub(super) fn new(source: Box<dyn Read + Send>, total: Arc<AtomicU64>) -> Self {
        Self { source, head: [0; 4], head_len: 0, head_at: 0, position: 0, failed: false, total }
    }

    /// The first bytes, four if there are as many. A pipe may hand them over one by one.
    fn look(&mut self) -> io::Result<&[u8]> {
        while self.head_len < self.head.len() {
            match self.source.read(&mut self.head[self.head_len..]) {
                Ok(0) => break,
                Ok(length) => self.head_len += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.head[..self.head_len])
    }
}

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = if self.head_at < self.head_len {
            let length = (&self.head[self.head_at..self.head_len]).read(into)?;
            self.head_at += length;
            length
        } else {
            self.source.read(into).inspect_err(|error| {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
            })?
        };
        self.position += length as u64;
        // Relaxed: only shown to a person, nothing depends on its order with other memory.
        self.total.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}
