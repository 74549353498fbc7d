//! Where the programs that sandboxes are made with come from.

use std::path::Path;

use crate::{SnapshotUri, UriError};

/// Where a program comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssetPlace<'a> {
    /// A file of the node's machine, used where it is: `path:///usr/bin/runsc`.
    AsItIs(&'a Path),
    /// A file of the node's machine, copied: `file:///srv/runsc` or `/srv/runsc`.
    File(&'a Path),
    /// `http://` or `https://`.
    Web,
    /// `gs://bucket/object`, or any other scheme: the object store of the snapshots.
    Object(SnapshotUri),
}

/// Why a text is no such place, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetFault {
    /// Neither a path nor a URL.
    #[error("want an absolute path, or a URL with a scheme")]
    NoScheme,
    /// A file without an absolute path.
    #[error("want an absolute path after the scheme, as in file:///usr/bin/runsc")]
    NoPath,
    /// A web server without a name.
    #[error("want a host after the scheme, as in https://host.example/runsc")]
    NoHost,
    /// A bucket, and nothing in it.
    #[error("want an object in the bucket, as in gs://bucket/runsc")]
    NoObject,
    /// No object in an object store.
    #[error(transparent)]
    Object(#[from] UriError),
}

impl<'a> AssetPlace<'a> {
    /// Reads the URL of a program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &'a str) -> Result<Self, AssetFault> {
        let (scheme, rest) = match url.split_once("://") {
            Some(parts) => parts,
            None if url.starts_with('/') => return Ok(Self::File(Path::new(url))),
            None => return Err(AssetFault::NoScheme),
        };
        match scheme {
            "path" if rest.starts_with('/') => Ok(Self::AsItIs(Path::new(rest))),
            "file" if rest.starts_with('/') => Ok(Self::File(Path::new(rest))),
            "path" | "file" => Err(AssetFault::NoPath),
            "http" | "https" if rest.starts_with(['/', '?', '#']) || rest.is_empty() => {
                Err(AssetFault::NoHost)
            }
            "http" | "https" => Ok(Self::Web),
            "" => Err(AssetFault::NoScheme),
            _ => match SnapshotUri::parse(url)? {
                uri if uri.path().is_empty() => Err(AssetFault::NoObject),
                uri => Ok(Self::Object(uri)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_says_where_a_program_is() {
        let object = SnapshotUri::parse("gs://gvisor/releases/runsc").unwrap();
        for (url, place) in [
            (
                "path:///usr/bin/runsc",
                AssetPlace::AsItIs(Path::new("/usr/bin/runsc")),
            ),
            ("file:///srv/runsc", AssetPlace::File(Path::new("/srv/runsc"))),
            ("/srv/runsc", AssetPlace::File(Path::new("/srv/runsc"))),
            ("https://host.example/runsc", AssetPlace::Web),
            ("http://[::1]:80", AssetPlace::Web),
            ("gs://gvisor/releases/runsc", AssetPlace::Object(object)),
        ] {
            assert_eq!(AssetPlace::parse(url), Ok(place), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_place_is_named() {
        for (url, complaint) in [
            ("", "want an absolute path, or a URL"),
            ("runsc", "want an absolute path, or a URL"),
            ("://x", "want an absolute path, or a URL"),
            ("file://srv/runsc", "want an absolute path after the scheme"),
            ("path://", "want an absolute path after the scheme"),
            ("https:///runsc", "want a host"),
            ("http://", "want a host"),
            ("gs://x", "want an object in the bucket"),
            ("gs:///x", "missing bucket"),
            ("gs://b/../x", "invalid path segment"),
        ] {
            let error = AssetPlace::parse(url).expect_err(url).to_string();
            assert!(error.contains(complaint), "{url}: {error}");
        }
    }
}
