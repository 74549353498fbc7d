//! Moves one blob from its source into the cache.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use holdfast_runtime::tokio;
use http_body_util::BodyExt;

use crate::blocking::blocking;
use crate::cache::{Acquired, Partial};
use crate::http::network;
use crate::registry::BlobResponse;
use crate::source::{Download, Source};
use crate::{Cache, Digest, DiskError, Progress, PullError};

/// So much is collected before it is hashed and written in one go; with one network buffer, this bounds
/// the memory of a transfer.
const BATCH_BYTES: usize = 256 << 10;
/// So much of a file is read at a time, between two chances to be cancelled.
const READ_BYTES: usize = 1 << 20;
/// How often we look whether another process has finished or given up the blob that we want too.
const BUSY_POLL: Duration = Duration::from_millis(50);

/// Makes the blob present in the cache. What an earlier attempt left is used; dropping the future leaves
/// what has come so far for the next.
pub(crate) async fn fetch(
    cache: &Cache,
    source: &Source,
    digest: Digest,
    size: u64,
    progress: &Progress,
) -> Result<(), PullError> {
    let Some(partial) = acquire(cache, digest, Some(size), progress).await? else {
        return Ok(());
    };
    let partial = check(partial, digest, progress).await?;
    let was_there = partial.len();
    match complete(partial, source, digest, size, progress).await {
        // The bad bytes may be those that were there. They are gone now.
        Err(PullError::DigestMismatch { .. }) if was_there > 0 => {}
        result => return result,
    }
    match acquire(cache, digest, Some(size), progress).await? {
        Some(partial) => complete(partial, source, digest, size, progress).await,
        None => Ok(()),
    }
}

/// Fetches what is missing and turns the partial file into the blob.
async fn complete(
    mut partial: Partial,
    source: &Source,
    digest: Digest,
    size: u64,
    progress: &Progress,
) -> Result<(), PullError> {
    let what = format!("blob {digest} of {}", source.place());
    if partial.len() > size {
        partial = clear(partial, digest, progress).await?;
    }
    if partial.len() < size {
        partial = match source.blob(digest, partial.len()).await? {
            Download::Body(response) => {
                if response.offset != partial.len() {
                    partial = clear(partial, digest, progress).await?;
                }
                receive(partial, response, digest, size, progress).await?
            }
            Download::File { file, path } => copy(partial, file, path, digest, size, progress).await?,
        };
    }
    let got = partial.len();
    if got != size {
        clear(partial, digest, progress).await?;
        let expected = size;
        return Err(PullError::SizeMismatch { what, expected, got });
    }
    commit(partial, digest, what)
        .await
        .inspect_err(|_| progress.set(digest, 0))
}

/// Puts a small document into the cache under its digest, which the caller has checked.
pub(crate) async fn store(
    cache: &Cache,
    digest: Digest,
    content: Bytes,
    progress: &Progress,
) -> Result<(), PullError> {
    let size = content.len() as u64;
    let Some(mut partial) = acquire(cache, digest, Some(size), progress).await? else {
        return Ok(());
    };
    let partial = blocking(move || {
        partial.clear()?;
        partial.append(&content)?;
        Ok::<_, DiskError>(partial)
    });
    commit(partial.await??, digest, format!("document {digest}")).await
}

/// Waits until the blob is there (`None`) or ours to write.
async fn acquire(
    cache: &Cache,
    digest: Digest,
    size: Option<u64>,
    progress: &Progress,
) -> Result<Option<Partial>, PullError> {
    loop {
        let cache = cache.clone();
        match blocking(move || cache.acquire(digest, size)).await?? {
            Acquired::Mine(partial) => {
                progress.bring(digest);
                return Ok(Some(partial));
            }
            Acquired::Present(here) => {
                progress.set(digest, here);
                return Ok(None);
            }
            // The progress of whoever writes it is ours as well.
            Acquired::Busy(here) => {
                progress.set(digest, here);
                tokio::time::sleep(BUSY_POLL).await;
            }
        }
    }
}

/// Hashes what an earlier attempt left.
async fn check(mut partial: Partial, digest: Digest, progress: &Progress) -> Result<Partial, PullError> {
    let mut buffer = Vec::new();
    loop {
        let (result, back, used) = blocking(move || {
            buffer.resize(READ_BYTES, 0);
            (partial.check_some(&mut buffer), partial, buffer)
        })
        .await?;
        (partial, buffer) = (back, used);
        progress.set(digest, partial.len());
        if !result? {
            return Ok(partial);
        }
    }
}

async fn clear(mut partial: Partial, digest: Digest, progress: &Progress) -> Result<Partial, PullError> {
    progress.set(digest, 0);
    let cleared = blocking(move || partial.clear().map(|()| partial)).await?;
    Ok(cleared?)
}

/// Writes a response body as it comes in.
async fn receive(
    mut partial: Partial,
    mut response: BlobResponse,
    digest: Digest,
    size: u64,
    progress: &Progress,
) -> Result<Partial, PullError> {
    let mut received = partial.len();
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    loop {
        // Whenever the network has nothing for us we write what we have: a source that trickles and is
        // cut off again and again must still get somewhere.
        let frame = match response.body.frame().now_or_never() {
            Some(frame) if batch_bytes < BATCH_BYTES => frame,
            ready => {
                partial = append(partial, std::mem::take(&mut batch)).await?;
                batch_bytes = 0;
                match ready {
                    Some(frame) => frame,
                    None => response.body.frame().await,
                }
            }
        };
        let bytes = match frame {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            end => {
                partial = append(partial, batch).await?;
                return match end {
                    Some(Err(error)) => Err(network(response.what, error)),
                    _ if partial.len() < size => {
                        let short = format!("it ended after {} of {size} bytes", partial.len());
                        Err(network(response.what, short))
                    }
                    _ => Ok(partial),
                };
            }
        };
        received += bytes.len() as u64;
        progress.set(digest, received);
        batch_bytes += bytes.len();
        batch.push(bytes);
        if received > size {
            // The caller sees more than there should be and throws it away.
            return append(partial, batch).await;
        }
    }
}

async fn append(mut partial: Partial, batch: Vec<Bytes>) -> Result<Partial, PullError> {
    if batch.is_empty() {
        return Ok(partial);
    }
    let appended = blocking(move || {
        for bytes in &batch {
            partial.append(bytes)?;
        }
        Ok::<_, DiskError>(partial)
    });
    Ok(appended.await??)
}

/// Copies the rest of a layout's file.
async fn copy(
    mut partial: Partial,
    mut file: File,
    path: PathBuf,
    digest: Digest,
    size: u64,
    progress: &Progress,
) -> Result<Partial, PullError> {
    let start = partial.len();
    file.seek(SeekFrom::Start(start))
        .map_err(|error| DiskError::new(&path, error))?;
    let mut buffer = Vec::new();
    loop {
        let path = path.clone();
        let step = blocking(move || {
            buffer.resize(READ_BYTES, 0);
            let count = file
                .read(&mut buffer)
                .map_err(|error| DiskError::new(path, error))?;
            partial.append(&buffer[..count])?;
            Ok::<_, DiskError>((count, partial, file, buffer))
        });
        let count;
        (count, partial, file, buffer) = step.await??;
        progress.set(digest, partial.len());
        if count == 0 || partial.len() > size {
            return Ok(partial);
        }
    }
}

async fn commit(partial: Partial, expected: Digest, what: String) -> Result<(), PullError> {
    let committed = blocking(move || partial.commit()).await??;
    committed.map_err(|got| PullError::DigestMismatch { what, expected, got })
}
