//! Stored bytes to a file on disk. The bytes are not to be trusted: every number in them is checked before it is
//! used, nothing is allocated at their word, and nothing is accepted that differs from what was recorded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

use super::{MAGIC, TERMINATOR, VERSION, WINDOW_LOG_MAX};
use crate::content::STEP;
use crate::digest::{Hasher, Sha256};
use crate::manifest::FileRecord;

/// The granularity in which zeros of a plain stream become holes.
const BLOCK: usize = 64 * 1024;

/// Writes one file from its stored form, which arrives in pieces of any size.
///
/// Reads the sparse format and, as the original does, plain zstd. The file is complete, and its content verified,
/// only when [`Decoder::finish`] has said so.
pub struct Decoder {
    zstd: Zstd<'static>,
    /// Bytes held back until they tell which form this is.
    head: Vec<u8>,
    sink: Sink,
    target: Target,
    /// Inside of a zstd frame: the stream must not end here.
    mid_frame: bool,
    plain: Vec<u8>,
    expected: Option<FileRecord>,
}

/// The stored bytes are not what was written, or the file cannot be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A later format.
    #[error("unsupported sparse snapshot format version {0} (this build supports 2)")]
    Version(u32),
    /// The stream gives a negative size.
    #[error("negative sparse file size {0}")]
    NegativeSize(i64),
    /// The file would be larger than allowed.
    #[error("a file of {size} bytes or more, the limit is {limit}")]
    TooLarge {
        /// What it would have at least.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The file is not as large as recorded.
    #[error("a file of {found} bytes, {expected} were recorded")]
    Size {
        /// The size recorded in the manifest.
        expected: u64,
        /// The size found, or where reading stopped because it is larger.
        found: u64,
    },
    /// An extent outside of the file.
    #[error("sparse extent out of range (off={offset} len={length} size={size})")]
    ExtentOutOfRange {
        /// Where it starts.
        offset: i64,
        /// Its length.
        length: i64,
        /// The size of the file.
        size: u64,
    },
    /// An extent before the end of the one before it.
    #[error("sparse extent out of order (off={offset}, the one before ends at {end})")]
    ExtentOutOfOrder {
        /// Where it starts.
        offset: u64,
        /// Where the previous one ended.
        end: u64,
    },
    /// More extents than a file of this size can have.
    #[error("too many sparse extents for a file of {size} bytes")]
    TooManyExtents {
        /// The size of the file.
        size: u64,
    },
    /// The stream ends too early.
    #[error("the stream ends too early")]
    Truncated,
    /// Something follows the end.
    #[error("the stream goes on after its end")]
    Trailing,
    /// The compressed data is damaged.
    #[error("damaged zstd stream: {0}")]
    Zstd(#[source] io::Error),
    /// The stored bytes are fewer or more than recorded.
    #[error("{found} stored bytes, {expected} were recorded")]
    StoredSize {
        /// Recorded in the manifest.
        expected: u64,
        /// Found, or where reading stopped because there are more.
        found: u64,
    },
    /// A digest differs from the one recorded.
    #[error("sha256 mismatch of the {what}: got={found} want={expected}")]
    Digest {
        /// `stored bytes` or `content`.
        what: &'static str,
        /// Recorded in the manifest.
        expected: Sha256,
        /// Found.
        found: Sha256,
    },
    /// The file cannot be written. This says nothing about the snapshot.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
}

impl Decoder {
    /// Writes to `file`, which must be empty. No file of more than `limit` bytes is made, and when `expected` is
    /// given, none whose content differs from it. Memory: the window the stream asks for, at most 32 MiB, and a few buffers.
    pub fn new(file: File, expected: Option<FileRecord>, limit: u64) -> io::Result<Self> {
        let mut zstd = Zstd::new()?;
        zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        let hasher = expected.map(|_| Hasher::default());
        Ok(Self {
            zstd,
            head: Vec::with_capacity(MAGIC.len() + 4),
            sink: Sink::Undecided,
            target: Target {
                file,
                hasher,
                expected_size: expected.map(|record| record.size),
                limit,
            },
            mid_frame: false,
            plain: vec![0; STEP],
            expected,
        })
    }

    /// Takes the next piece. After an error the decoder is of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if !matches!(self.sink, Sink::Undecided) {
            return self.inflate(bytes);
        }
        let missing = self
            .head
            .capacity()
            .saturating_sub(self.head.len())
            .min(bytes.len());
        let (head, rest) = bytes.split_at(missing);
        self.head.extend_from_slice(head);
        if self.head.len() >= MAGIC.len() + 4 {
            self.decide()?;
            self.inflate(rest)?;
        }
        Ok(())
    }

    /// Ends the stream: nothing may be missing, nothing may differ from what was recorded.
    pub fn finish(mut self) -> Result<(), DecodeError> {
        if matches!(self.sink, Sink::Undecided) {
            self.decide()?;
        }
        if self.mid_frame {
            return Err(DecodeError::Truncated);
        }
        let size = self.sink.finish(&mut self.target)?;
        let Some(expected) = self.expected else {
            return Ok(());
        };
        if size != expected.size {
            return Err(DecodeError::Size {
                expected: expected.size,
                found: size,
            });
        }
        match self.target.hasher {
            Some(hasher) => same_digest("content", expected.sha256, hasher.finish()),
            None => Ok(()),
        }
    }

    /// Which form this is, by its first bytes; anything without the magic is plain zstd.
    fn decide(&mut self) -> Result<(), DecodeError> {
        let head = std::mem::take(&mut self.head);
        if !head.starts_with(MAGIC) {
            self.sink = Sink::Plain {
                block: Vec::with_capacity(BLOCK),
                written: 0,
                started: false,
            };
            return self.inflate(&head);
        }
        let version = head[MAGIC.len()..]
            .try_into()
            .map_err(|_| DecodeError::Truncated)?;
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        self.sink = Sink::Sparse(Extents::default());
        Ok(())
    }

    fn inflate(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut input = InBuffer::around(bytes);
        loop {
            let left = bytes.len() - input.pos();
            if left > 0 && !self.mid_frame && self.sink.has_ended() {
                return Err(DecodeError::Trailing);
            }
            if left == 0 && !self.mid_frame {
                return Ok(());
            }
            let mut output = OutBuffer::around(&mut self.plain[..]);
            let hint = self
                .zstd
                .run(&mut input, &mut output)
                .map_err(DecodeError::Zstd)?;
            let produced = output.pos();
            // Zero only when a frame is complete, its checksum verified and all of it handed out.
            self.mid_frame = hint != 0;
            self.sink.write(&self.plain[..produced], &mut self.target)?;
            if produced < self.plain.len() && input.pos() == bytes.len() {
                return Ok(());
            }
        }
    }
}

pub(crate) fn same_digest(what: &'static str, expected: Sha256, found: Sha256) -> Result<(), DecodeError> {
    if expected == found {
        Ok(())
    } else {
        Err(DecodeError::Digest {
            what,
            expected,
            found,
        })
    }
}

/// The file being written, and what it must become.
struct Target {
    file: File,
    hasher: Option<Hasher>,
    expected_size: Option<u64>,
    limit: u64,
}

impl Target {
    /// Refuses a file that is, or is going to be, of this size or more.
    fn admit(&self, size: u64) -> Result<(), DecodeError> {
        match self.expected_size {
            Some(expected) if size > expected => Err(DecodeError::Size {
                expected,
                found: size,
            }),
            _ if size > self.limit => Err(DecodeError::TooLarge {
                size,
                limit: self.limit,
            }),
            _ => Ok(()),
        }
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), DecodeError> {
        self.file.write_all_at(bytes, offset).map_err(DecodeError::Write)
    }

    fn hash(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    fn hash_hole(&mut self, length: u64) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update_zeros(length);
        }
    }
}

/// Where the plaintext goes.
enum Sink {
    Undecided,
    Sparse(Extents),
    Plain {
        block: Vec<u8>,
        written: u64,
        started: bool,
    },
}

impl Sink {
    fn has_ended(&self) -> bool {
        matches!(self, Sink::Sparse(extents) if extents.at == At::End)
    }

    fn write(&mut self, mut bytes: &[u8], target: &mut Target) -> Result<(), DecodeError> {
        match self {
            Sink::Undecided => Ok(()),
            Sink::Sparse(extents) => extents.write(bytes, target),
            Sink::Plain {
                block,
                written,
                started,
            } => {
                *started = true;
                target.admit(*written + (block.len() + bytes.len()) as u64)?;
                target.hash(bytes);
                while !bytes.is_empty() {
                    let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
                    block.extend_from_slice(head);
                    bytes = rest;
                    if block.len() == BLOCK {
                        flush(block, written, target)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The size of the finished file.
    fn finish(self, target: &mut Target) -> Result<u64, DecodeError> {
        match self {
            Sink::Sparse(extents) if extents.at == At::End => Ok(extents.size),
            Sink::Plain {
                mut block,
                mut written,
                started: true,
            } => {
                flush(&mut block, &mut written, target)?;
                target.file.set_len(written).map_err(DecodeError::Write)?;
                Ok(written)
            }
            _ => Err(DecodeError::Truncated),
        }
    }
}

fn flush(block: &mut Vec<u8>, written: &mut u64, target: &Target) -> Result<(), DecodeError> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    if block[..] != ZEROS[..block.len()] {
        target.put(block, *written)?;
    }
    *written += block.len() as u64;
    block.clear();
    Ok(())
}

/// The plaintext of the sparse format.
#[derive(Default)]
struct Extents {
    at: At,
    /// Bytes of a number that is not complete yet.
    number: [u8; 8],
    number_len: usize,
    size: u64,
    /// Where the last extent ended: data and holes are complete up to here.
    end: u64,
    count: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Offset,
    Length {
        offset: i64,
    },
    Data {
        left: u64,
    },
    End,
}

impl Extents {
    fn write(&mut self, mut bytes: &[u8], target: &mut Target) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::End => return Err(DecodeError::Trailing),
                At::Data { left } => self.data(bytes, left, target)?,
                At::Size | At::Offset | At::Length { .. } => self.number(bytes, target)?,
            };
        }
        Ok(())
    }

    fn data<'a>(&mut self, bytes: &'a [u8], left: u64, target: &mut Target) -> Result<&'a [u8], DecodeError> {
        let (data, rest) = bytes.split_at(left.min(bytes.len() as u64) as usize);
        target.hash(data);
        target.put(data, self.end)?;
        self.end += data.len() as u64;
        self.at = match left - data.len() as u64 {
            0 => At::Offset,
            left => At::Data { left },
        };
        Ok(rest)
    }

    fn number<'a>(&mut self, bytes: &'a [u8], target: &mut Target) -> Result<&'a [u8], DecodeError> {
        let (digits, rest) = bytes.split_at(bytes.len().min(8 - self.number_len));
        self.number[self.number_len..][..digits.len()].copy_from_slice(digits);
        self.number_len += digits.len();
        if self.number_len == 8 {
            self.number_len = 0;
            self.at = self.take(i64::from_le_bytes(self.number), target)?;
        }
        Ok(rest)
    }

    /// What follows a complete number.
    fn take(&mut self, number: i64, target: &mut Target) -> Result<At, DecodeError> {
        match self.at {
            At::Size => {
                self.size = u64::try_from(number).map_err(|_| DecodeError::NegativeSize(number))?;
                target.admit(self.size)?;
                if let Some(expected) = target.expected_size.filter(|expected| *expected != self.size) {
                    return Err(DecodeError::Size {
                        expected,
                        found: self.size,
                    });
                }
                target.file.set_len(self.size).map_err(DecodeError::Write)?;
                Ok(At::Offset)
            }
            At::Offset if number == TERMINATOR => {
                target.hash_hole(self.size - self.end);
                Ok(At::End)
            }
            At::Offset => Ok(At::Length { offset: number }),
            At::Length { offset } => self.extent(offset, number, target),
            at @ (At::Data { .. } | At::End) => Ok(at),
        }
    }

    fn extent(&mut self, offset: i64, length: i64, target: &mut Target) -> Result<At, DecodeError> {
        let out_of_range = DecodeError::ExtentOutOfRange {
            offset,
            length,
            size: self.size,
        };
        let (Ok(from), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Err(out_of_range);
        };
        if from > self.size || length > self.size - from {
            return Err(out_of_range);
        }
        // Writers yield extents in ascending order. Without that rule a small object could have the same range
        // written over and over; without a bound on their number it could consist of empty ones for ever.
        if from < self.end {
            return Err(DecodeError::ExtentOutOfOrder {
                offset: from,
                end: self.end,
            });
        }
        self.count += 1;
        if self.count > self.size.max(1) {
            return Err(DecodeError::TooManyExtents { size: self.size });
        }
        target.hash_hole(from - self.end);
        self.end = from;
        Ok(if length == 0 {
            At::Offset
        } else {
            At::Data { left: length }
        })
    }
}
