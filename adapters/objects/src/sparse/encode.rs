//! A file on disk to stored bytes.

use std::fs::File;
use std::io;

use zstd::stream::raw::{CParameter, Encoder as Zstd, InBuffer, Operation, OutBuffer};

use super::{LEVEL, MAGIC, TERMINATOR, VERSION};
use crate::content::{STEP, SourceError, Version, next_extent, read_whole};
use crate::digest::Hasher;
use crate::manifest::FileRecord;

/// Turns one file into its stored form, a buffer at a time, and takes the digest of its content on the way.
pub struct Encoder {
    file: File,
    /// Size and time of the last change when the encoder was made: they must still hold when it ends.
    version: Version,
    state: State,
    zstd: Zstd<'static>,
    /// Plaintext on its way into the compressor.
    plain: Vec<u8>,
    plain_taken: usize,
    hasher: Hasher,
}

/// How far a call of [`Encoder::fill`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The buffer is full; there may be more.
    Part,
    /// The stream has ended; this is the content that was in it.
    Last(FileRecord),
}

enum State {
    Head,
    /// Looking for data from here on; everything before is behind us.
    Gap(u64),
    /// Inside of a populated extent.
    Extent {
        at: u64,
        end: u64,
    },
    /// All plaintext is in the compressor.
    Closing,
    Closed,
}

impl Encoder {
    /// Starts on `file`, from its beginning whatever its offset is.
    pub fn new(file: File) -> io::Result<Self> {
        let mut zstd = Zstd::new(LEVEL)?;
        zstd.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self {
            version: Version::of(&file)?,
            file,
            state: State::Head,
            zstd,
            plain: Vec::with_capacity(STEP + 24),
            plain_taken: 0,
            hasher: Hasher::default(),
        })
    }

    /// The logical size of the file.
    pub fn size(&self) -> u64 {
        self.version.size
    }

    /// Up to which offset the file has been read.
    pub fn position(&self) -> u64 {
        match self.state {
            State::Head => 0,
            State::Gap(at) | State::Extent { at, .. } => at,
            State::Closing | State::Closed => self.version.size,
        }
    }

    /// Appends stored bytes to `part` up to its capacity. The concatenation of all parts is the object.
    pub fn fill(&mut self, part: &mut Vec<u8>) -> Result<Fill, SourceError> {
        if !self.fill_on(part)? {
            return Ok(Fill::Part);
        }
        if Version::of(&self.file)? != self.version {
            return Err(SourceError::Changed);
        }
        let sha256 = self.hasher.clone().finish();
        Ok(Fill::Last(FileRecord {
            size: self.version.size,
            sha256,
            stored: None,
        }))
    }

    fn fill_on(&mut self, part: &mut Vec<u8>) -> Result<bool, SourceError> {
        if matches!(self.state, State::Head) {
            part.extend_from_slice(MAGIC);
            part.extend_from_slice(&VERSION.to_le_bytes());
            self.put_number(self.version.size as i64);
            self.state = State::Gap(0);
        }
        while part.len() < part.capacity() {
            if self.plain_taken < self.plain.len() {
                self.compress(part)?;
                continue;
            }
            self.plain.clear();
            self.plain_taken = 0;
            match self.state {
                State::Closed => return Ok(true),
                State::Closing => self.close(part)?,
                _ => self.read_on()?,
            }
        }
        Ok(matches!(self.state, State::Closed))
    }

    /// Puts the next piece of plaintext into `plain`.
    fn read_on(&mut self) -> Result<(), SourceError> {
        match self.state {
            State::Gap(from) => match next_extent(&self.file, from, self.version.size)? {
                Some(extent) => {
                    self.hasher.update_zeros(extent.start - from);
                    self.put_number(extent.start as i64);
                    self.put_number((extent.end - extent.start) as i64);
                    self.state = State::Extent {
                        at: extent.start,
                        end: extent.end,
                    };
                }
                None => {
                    self.hasher.update_zeros(self.version.size - from);
                    self.put_number(TERMINATOR);
                    self.state = State::Closing;
                }
            },
            State::Extent { at, end } => {
                let wanted = (end - at).min(STEP as u64) as usize;
                self.plain.resize(wanted, 0);
                read_whole(&self.file, &mut self.plain, at)?;
                self.hasher.update(&self.plain);
                let at = at + wanted as u64;
                self.state = if at == end {
                    State::Gap(at)
                } else {
                    State::Extent { at, end }
                };
            }
            State::Head | State::Closing | State::Closed => {}
        }
        Ok(())
    }

    fn compress(&mut self, part: &mut Vec<u8>) -> io::Result<()> {
        let mut input = InBuffer::around(&self.plain[self.plain_taken..]);
        let filled = part.len();
        self.zstd
            .run(&mut input, &mut OutBuffer::around_pos(part, filled))?;
        self.plain_taken += input.pos();
        Ok(())
    }

    fn close(&mut self, part: &mut Vec<u8>) -> io::Result<()> {
        let filled = part.len();
        let left = self.zstd.finish(&mut OutBuffer::around_pos(part, filled), true)?;
        if left == 0 {
            self.state = State::Closed;
        }
        Ok(())
    }

    fn put_number(&mut self, number: i64) {
        self.plain.extend_from_slice(&number.to_le_bytes());
    }
}
