//! The bytes of a layer: hashed as they are read from the cache, then decompressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use crate::Digest;

const READ_BYTES: usize = 128 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The decoder holds a window of up to 2 to this power, 64 MiB: twice what any usual level writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// A compressed layer on its way from the cache.
pub(super) struct Blob(BufReader<Hashing>);

struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Blob {
    pub fn new(file: File) -> Self {
        let hasher = Sha256::new();
        Self(BufReader::with_capacity(READ_BYTES, Hashing { file, hasher }))
    }

    /// The tar stream in the layer. Its first bytes say how it is compressed; media types have been seen
    /// to say something else.
    pub fn decompress(&mut self) -> io::Result<Box<dyn Read + '_>> {
        let start = self.0.fill_buf()?;
        if start.starts_with(&GZIP_MAGIC) {
            return Ok(Box::new(MultiGzDecoder::new(&mut self.0)));
        }
        if start.starts_with(&ZSTD_MAGIC) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut self.0)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            return Ok(Box::new(decoder));
        }
        Ok(Box::new(&mut self.0))
    }

    /// The digest of the whole blob, or `None` when told to stop on the way.
    pub fn digest(self, stop: &AtomicBool) -> io::Result<Option<Digest>> {
        let mut hashing = self.0.into_inner();
        let mut buffer = vec![0; READ_BYTES];
        while hashing.read(&mut buffer)? > 0 {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
        Ok(Some(Digest::from_hasher(hashing.hasher)))
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
