//! Giving back the disk that images take which nobody uses.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::{allocated, kind_of, names_in, os};
use crate::trees::NOW;
use crate::{Cache, Digest, DiskError, Progress};

/// Bytes of blobs that came and were never completed stay so long, in case somebody goes on with them.
const PARTIALS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How full the disk may get before images that nobody uses are removed, and how full it may be afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    high_percent: u8,
    low_percent: u8,
}

/// Watermarks that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarksError {
    /// More than there can be.
    AboveAll(u8),
    /// The low one above the high one.
    Crossed {
        /// The high one.
        high: u8,
        /// The low one.
        low: u8,
    },
}

/// How full a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of it that are in use.
    pub used: u64,
    /// Bytes that are in use or can be.
    pub total: u64,
}

/// What was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes of disk.
    pub bytes: u64,
    /// Blobs, and parts of them that nobody completed.
    pub blobs: u64,
    /// Images that were unpacked.
    pub trees: u64,
}

impl Watermarks {
    /// Watermarks in percent of the disk. A high one of 100 is never reached.
    ///
    /// # Errors
    /// When there cannot be such.
    pub fn new(high_percent: u8, low_percent: u8) -> Result<Self, WatermarksError> {
        if high_percent > 100 {
            return Err(WatermarksError::AboveAll(high_percent));
        }
        if low_percent > high_percent {
            return Err(WatermarksError::Crossed {
                high: high_percent,
                low: low_percent,
            });
        }
        Ok(Self {
            high_percent,
            low_percent,
        })
    }

    /// How many bytes have to go, if the disk is fuller than it may be.
    pub fn excess(self, usage: Usage) -> Option<u64> {
        let is_above = self.high_percent < 100 && usage.used > share(usage.total, self.high_percent);
        is_above.then(|| self.above_low(usage))
    }

    /// How many bytes there are above the low watermark: what has to go when the disk turned out to be full.
    pub fn above_low(self, usage: Usage) -> u64 {
        usage.used.saturating_sub(share(usage.total, self.low_percent))
    }
}

impl Default for Watermarks {
    /// 85 and 80 percent, as kubelets have them.
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
        }
    }
}

fn share(total: u64, percent: u8) -> u64 {
    u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

impl fmt::Display for WatermarksError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AboveAll(percent) => write!(formatter, "{percent} is more than 100 percent"),
            Self::Crossed { high, low } => {
                write!(
                    formatter,
                    "the low watermark of {low} percent is above the high one of {high}"
                )
            }
        }
    }
}

impl std::error::Error for WatermarksError {}

/// Something that may go.
struct Candidate {
    /// Those of a lower rank go first, whatever their age.
    rank: Rank,
    used_at: i64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The beginning of a blob.
    Partial,
    /// A layer that is in use nowhere but in images that are unpacked: it is needed only should one be unpacked again.
    Spare,
    /// An unpacked image, or a blob that would have to be pulled again.
    Needed,
}

enum What {
    Partial(Digest),
    Blob(Digest, u64),
    Tree(Digest),
}

impl Cache {
    /// How full the disk is that the cache is on.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn usage(&self) -> Result<Usage, DiskError> {
        let stat = rustix::fs::fstatvfs(self.blobs()).map_err(|errno| DiskError::new(self.path(), errno))?;
        // As df counts: blocks that only root may use are neither in use nor to be had.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(Usage {
            used: used.saturating_mul(stat.f_frsize),
            total: used.saturating_add(stat.f_bavail).saturating_mul(stat.f_frsize),
        })
    }

    /// Removes what nobody uses until `bytes` are free again: first what was never completed, then layers of images
    /// that are unpacked, then what was used longest ago. Never removed are images that a container runs on, or that
    /// are being pulled, unpacked or laid out, and what was used less than `min_age` ago. Blocks; `stop` makes it
    /// return soon.
    ///
    /// # Errors
    /// At the first thing that cannot be read or removed.
    pub fn collect(&self, bytes: u64, min_age: Duration, stop: &AtomicBool) -> Result<Collected, DiskError> {
        let mut collected = Collected {
            bytes: self.sweep_unpacking()?,
            ..Collected::default()
        };
        let now = self.disk_time()?;
        let is_older = |used_at: i64, age: Duration| {
            let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            now.saturating_sub(used_at) >= age
        };
        let mut candidates = self.candidates()?;
        candidates.retain(|candidate| is_older(candidate.used_at, min_age));
        candidates.sort_by_key(|candidate| (candidate.rank, candidate.used_at));
        for candidate in candidates {
            let is_stale = candidate.rank == Rank::Partial && is_older(candidate.used_at, PARTIALS_KEPT);
            if stop.load(Ordering::Relaxed) || (collected.bytes >= bytes && !is_stale) {
                break;
            }
            self.give_back(&candidate.what, &mut collected)?;
        }
        Ok(collected)
    }

    /// Removes what a pull has brought that nobody wants any more: all of it, except what is in `keep`, in another
    /// image that is unpacked, or in use by another pull. Returns whether nothing is left that is still being written:
    /// a pull that was dropped a moment ago may be writing its last bytes, so whoever dropped it asks again then.
    ///
    /// # Errors
    /// At the first file that cannot be removed.
    pub fn discard(&self, progress: &Progress, keep: &BTreeSet<Digest>) -> Result<bool, DiskError> {
        let brought = progress.brought();
        let busy = self.discard_partials(&brought)?;
        let mut kept = keep.clone();
        for digest in self.tree_names()? {
            kept.extend(
                self.tree_state(digest)?
                    .into_iter()
                    .flat_map(|state| state.layers),
            );
        }
        for digest in brought {
            if !self.is_pinned(digest) && !kept.contains(&digest) {
                self.remove(digest)?;
            }
        }
        Ok(busy.is_empty())
    }

    fn give_back(&self, what: &What, collected: &mut Collected) -> Result<(), DiskError> {
        match what {
            What::Partial(digest) => {
                let size = self.partial_size(*digest)?;
                if self.discard_partials(&[*digest].into())?.is_empty() {
                    collected.blobs += 1;
                    collected.bytes += size;
                }
            }
            What::Blob(digest, size) if !self.is_pinned(*digest) => {
                self.remove(*digest)?;
                collected.blobs += 1;
                collected.bytes += size;
            }
            What::Blob(..) => {}
            What::Tree(digest) => {
                // Somebody may have taken it since it was looked at.
                if self.tree_state(*digest)?.is_some_and(|state| !state.is_in_use)
                    && let Some(freed) = self.remove_tree(*digest)?
                {
                    collected.trees += 1;
                    collected.bytes += freed;
                }
            }
        }
        Ok(())
    }

    fn candidates(&self) -> Result<Vec<Candidate>, DiskError> {
        let mut candidates = Vec::new();
        let mut unpacked = BTreeSet::new();
        for digest in self.tree_names()? {
            let Some(state) = self.tree_state(digest)? else {
                continue;
            };
            unpacked.extend(state.layers);
            if !state.is_in_use {
                candidates.push(Candidate {
                    rank: Rank::Needed,
                    used_at: state.used_at,
                    what: What::Tree(digest),
                });
            }
        }
        for (digest, stat) in self.listed(self.blobs())? {
            let is_spare = unpacked.contains(&digest);
            candidates.push(Candidate {
                rank: if is_spare { Rank::Spare } else { Rank::Needed },
                used_at: stat.st_mtime,
                what: What::Blob(digest, allocated(&stat)),
            });
        }
        for (digest, stat) in self.listed(self.partials())? {
            candidates.push(Candidate {
                rank: Rank::Partial,
                used_at: stat.st_mtime,
                what: What::Partial(digest),
            });
        }
        Ok(candidates)
    }

    fn listed(&self, directory: &OwnedFd) -> Result<Vec<(Digest, Stat)>, DiskError> {
        let disk = |errno: Errno| DiskError::new(self.path(), errno);
        let mut listed = Vec::new();
        for name in names_in(directory).map_err(disk)? {
            let digest = String::from_utf8(name.clone())
                .ok()
                .map(|hex| format!("sha256:{hex}"));
            let Some(digest) = digest.and_then(|text| text.parse().ok()) else {
                continue;
            };
            match rustix::fs::statat(directory.as_fd(), os(&name), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if kind_of(&stat) == FileType::RegularFile => listed.push((digest, stat)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(disk(errno)),
            }
        }
        Ok(listed)
    }

    fn partial_size(&self, digest: Digest) -> Result<u64, DiskError> {
        match rustix::fs::statat(self.partials(), digest.hex(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(allocated(&stat)),
            Err(Errno::NOENT) => Ok(0),
            Err(errno) => Err(DiskError::new(self.path(), errno)),
        }
    }

    /// What time it is by the disk's own clock, which stamped everything that is compared with it.
    fn disk_time(&self) -> Result<i64, DiskError> {
        const CLOCK: &str = "clock";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let read = || -> Result<i64, Errno> {
            let file = rustix::fs::openat(self.partials(), CLOCK, flags, Mode::RUSR | Mode::WUSR)?;
            rustix::fs::futimens(&file, &NOW)?;
            Ok(rustix::fs::fstat(&file)?.st_mtime)
        };
        read().map_err(|errno| DiskError::new(self.path(), errno))
    }
}
