//! Reads the members of a tar stream.
//!
//! The tar crate's own reader collects extension records of any size in memory and splits pax records at
//! line ends, which binary attributes contain. Here a record is bounded, and its length is what it says.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

/// Header blocks and pax or GNU records in front of one member may be so large together.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
const BLOCK: usize = 512;

/// The members of a tar stream in their order. Reads nothing ahead.
pub(super) struct Members<R> {
    input: R,
    /// Content of the current member that nobody has read.
    unread: u64,
    /// What fills its last block.
    padding: u64,
}

/// One member of a tar stream.
#[derive(Debug)]
pub(super) struct Member {
    pub name: Vec<u8>,
    /// What a link points to.
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Where the stored bytes belong, in order; between them are holes.
    pub segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    /// A device, a pipe or something we have never heard of, by its type byte.
    Other(u8),
}

/// Why there is no next member.
#[derive(Debug)]
pub(super) enum MemberError {
    /// The stream cannot be read, or not be decompressed.
    Read(io::Error),
    /// The stream is not a tar archive.
    Format(String),
    /// Extension records above the limit.
    ExtensionBytes { allowed: u64 },
}

impl Member {
    /// Bytes of the file that are not stored.
    pub fn holes(&self) -> u64 {
        let stored: u64 = self.segments.iter().map(|segment| segment.length).sum();
        self.size - stored
    }
}

impl From<io::Error> for MemberError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// What extension records say about the member that follows them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Members<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            unread: 0,
            padding: 0,
        }
    }

    /// The stream below.
    pub fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Reads content of the current member; 0 bytes at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.unread).map_or(buffer.len(), |unread| unread.min(buffer.len()));
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread -= count as u64;
        Ok(count)
    }

    /// The next member, skipping what is left of the current one.
    pub fn next(&mut self) -> Result<Option<Member>, MemberError> {
        let rest = self.unread.saturating_add(self.padding);
        self.skip(rest)?;
        (self.unread, self.padding) = (0, 0);
        let mut extensions = Extensions::default();
        let mut allowed = MAX_EXTENSION_BYTES;
        let mut extended = false;
        loop {
            let Some(block) = self.block()? else {
                return match extended {
                    true => Err(format_error("it ends after an extension record")),
                    false => Ok(None),
                };
            };
            let header = Header::from_byte_slice(&block);
            check_sum(header)?;
            let kind = header.entry_type();
            if !is_extension(kind) {
                return self.member(header, extensions, allowed).map(Some);
            }
            extended = true;
            let record = self.record(header, &mut allowed)?;
            match kind {
                EntryType::GNULongName => extensions.name = Some(until_nul(record)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(record)),
                EntryType::XHeader => extensions.add_pax(&record)?,
                // Defaults for the whole archive; nothing in them concerns us.
                _ => {}
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        extensions: Extensions,
        allowed: u64,
    ) -> Result<Member, MemberError> {
        let name = extensions
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions
            .link
            .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
            .unwrap_or_default();
        let kind = match header.entry_type() {
            // The oldest archives write directories as files.
            EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::Hardlink,
            other => Kind::Other(other.as_byte()),
        };
        let stored = match (kind, extensions.size) {
            // Only files have content; some archives repeat the size of a link's target.
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => header.entry_size().map_err(format_error)?,
            _ => 0,
        };
        let (size, segments) = match header.entry_type() {
            EntryType::GNUSparse => self.sparse_map(header, stored, allowed)?,
            _ => {
                let all = Segment {
                    offset: 0,
                    length: stored,
                };
                (stored, vec![all])
            }
        };
        self.unread = stored;
        self.padding = padding(stored);
        Ok(Member {
            name,
            link,
            kind,
            mode: header.mode().map_err(format_error)?,
            size,
            segments,
        })
    }

    /// The map of an old GNU sparse file: four entries in the header, then blocks of more.
    fn sparse_map(
        &mut self,
        header: &Header,
        stored: u64,
        mut allowed: u64,
    ) -> Result<(u64, Vec<Segment>), MemberError> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| format_error("a sparse file without a GNU header"))?;
        let size = gnu.real_size().map_err(format_error)?;
        let mut segments = Vec::new();
        let (mut end, mut total) = (0_u64, 0_u64);
        let mut add = |entries: &[tar::GnuSparseHeader]| -> Result<(), MemberError> {
            for entry in entries.iter().filter(|entry| !entry.is_empty()) {
                let offset = entry.offset().map_err(format_error)?;
                let length = entry.length().map_err(format_error)?;
                let next = offset
                    .checked_add(length)
                    .filter(|next| offset >= end && *next <= size);
                end = next.ok_or_else(|| format_error("a sparse file whose parts overlap or exceed it"))?;
                // Each part is below `size` and they do not overlap, so the sum is too.
                total += length;
                // An empty part only marks the end of the file.
                if length > 0 {
                    segments.push(Segment { offset, length });
                }
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            take(&mut allowed, BLOCK as u64)?;
            self.input.read_exact(block.as_mut_bytes())?;
            add(&block.sparse)?;
            more = block.is_extended();
        }
        match total == stored {
            true => Ok((size, segments)),
            false => Err(format_error(
                "a sparse file with more or less content than its map",
            )),
        }
    }

    /// The next header block; `None` at the end of the archive.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, MemberError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..])? {
                // Some writers leave out the zero blocks that should end an archive.
                0 if filled == 0 => return Ok(None),
                0 => return Err(MemberError::Read(io::ErrorKind::UnexpectedEof.into())),
                count => filled += count,
            }
        }
        Ok(block.iter().any(|byte| *byte != 0).then_some(block))
    }

    fn record(&mut self, header: &Header, allowed: &mut u64) -> Result<Vec<u8>, MemberError> {
        let size = header.entry_size().map_err(format_error)?;
        take(allowed, size.saturating_add(BLOCK as u64))?;
        let mut record = Vec::new();
        let count = (&mut self.input).take(size).read_to_end(&mut record)?;
        if (count as u64) < size {
            return Err(MemberError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        self.skip(padding(size))?;
        Ok(record)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), MemberError> {
        let skipped = io::copy(&mut (&mut self.input).take(bytes), &mut io::sink())?;
        match skipped == bytes {
            true => Ok(()),
            false => Err(MemberError::Read(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Extensions {
    /// Reads pax records: each is its own length in decimal, a space, `key=value` and a line end.
    fn add_pax(&mut self, mut records: &[u8]) -> Result<(), MemberError> {
        while !records.is_empty() {
            let (key, value, rest) =
                pax_record(records).ok_or_else(|| format_error("a broken pax record"))?;
            // An empty value takes the record back.
            let value = (!value.is_empty()).then_some(value);
            match key {
                b"path" => self.name = value.map(<[u8]>::to_vec),
                b"linkpath" => self.link = value.map(<[u8]>::to_vec),
                b"size" => self.size = value.map(pax_number).transpose()?,
                // Their content is not what the file should have: it starts with the map.
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(format_error(
                        "a sparse file in pax format, which is not supported",
                    ));
                }
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }
}

fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn pax_number(value: &[u8]) -> Result<u64, MemberError> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format_error("a pax record with a size that is no number"))
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
    )
}

fn check_sum(header: &Header) -> Result<(), MemberError> {
    let bytes = header.as_bytes();
    // The sum is taken as if its own field were spaces.
    let others = bytes[..148].iter().chain(&bytes[156..]);
    let sum = others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
    match header.cksum() {
        Ok(expected) if expected == sum => Ok(()),
        _ => Err(format_error("a header with a wrong checksum")),
    }
}

fn take(allowed: &mut u64, bytes: u64) -> Result<(), MemberError> {
    *allowed = allowed.checked_sub(bytes).ok_or(MemberError::ExtensionBytes {
        allowed: MAX_EXTENSION_BYTES,
    })?;
    Ok(())
}

fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn format_error(reason: impl ToString) -> MemberError {
    MemberError::Format(reason.to_string())
}
