//! Where a snapshot is kept: `scheme://bucket/path`.

use std::fmt;
use std::str::FromStr;

/// The prefix of a snapshot in an object store, for instance `gs://bucket/counters/a1/2026-06-30T12:00:00Z-ABC`.
///
/// As in the original the scheme says nothing: which service is asked is a matter of the backend. Unlike there,
/// `.` and `..` segments are refused, so that a prefix can never name anything outside of itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotUri {
    text: String,
    bucket: String,
    path: String,
}

impl SnapshotUri {
    /// The longest prefix accepted, in bytes. Object keys end at 1024 bytes; the longest file name and its suffix
    /// must still fit behind the prefix.
    pub const MAX_LEN: usize = 768;

    /// Reads a prefix as it comes over the wire. The error's text is the one compat.md 7.2 asks for.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        Self::read(text).map_err(|fault| UriError {
            prefix: text.to_owned(),
            fault,
        })
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The prefix inside the bucket, without slashes at its ends.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn read(text: &str) -> Result<Self, UriFault> {
        if text.len() > Self::MAX_LEN {
            return Err(UriFault::TooLong(text.len()));
        }
        if text.chars().any(|c| c.is_control()) {
            return Err(UriFault::ControlCharacter);
        }
        let hierarchical = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => rest,
            Some((scheme, _)) if !scheme.contains('/') => return Err(UriFault::Scheme(scheme.to_owned())),
            _ => text,
        };
        let authority_and_path = hierarchical.strip_prefix("//").ok_or(UriFault::NoBucket)?;
        let end = authority_and_path
            .find(['/', '?', '#'])
            .unwrap_or(authority_and_path.len());
        let (authority, path) = authority_and_path.split_at(end);
        let bucket = authority.rsplit('@').next().unwrap_or_default();
        if bucket.is_empty() {
            return Err(UriFault::NoBucket);
        }
        if authority.contains('@') || path.contains(['?', '#']) {
            return Err(UriFault::MoreThanPath);
        }
        if !is_bucket(bucket) {
            return Err(UriFault::Bucket(bucket.to_owned()));
        }
        let path = decode_percent(path)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let path = path.strip_suffix('/').unwrap_or(path);
        for segment in path.split('/') {
            let empty_is_fine = path.is_empty();
            let relative = matches!(segment, "." | "..");
            if relative || (segment.is_empty() && !empty_is_fine) || segment.chars().any(char::is_control) {
                return Err(UriFault::Segment(segment.to_owned()));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            bucket: bucket.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl FromStr for SnapshotUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

impl fmt::Display for SnapshotUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SnapshotUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// A snapshot prefix that cannot be used, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid snapshot URI prefix {prefix:?}: {fault}")]
pub struct UriError {
    /// The prefix as it was given.
    pub prefix: String,
    /// What is wrong with it.
    pub fault: UriFault,
}

/// What is wrong with a snapshot prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriFault {
    /// Nothing stands between `//` and the path.
    #[error("missing bucket")]
    NoBucket,
    /// There is a user, a query or a fragment.
    #[error("must contain only a scheme, bucket, and path")]
    MoreThanPath,
    /// The scheme is not one.
    #[error("invalid scheme {0:?}")]
    Scheme(String),
    /// The bucket has a character, or a length, that no service allows.
    #[error(
        "invalid bucket {0:?}: want 1 to 222 letters, digits, dots, hyphens or underscores, the first a letter or digit"
    )]
    Bucket(String),
    /// A segment is empty, `.`, `..`, or has control characters.
    #[error("invalid path segment {0:?}")]
    Segment(String),
    /// A `%` is not followed by two hex digits, or the bytes are not UTF-8.
    #[error("invalid percent encoding")]
    PercentEncoding,
    /// Control characters are never part of a URI.
    #[error("control characters are not allowed")]
    ControlCharacter,
    /// Longer than any object key may be.
    #[error("{0} bytes are too many, want at most {max}", max = SnapshotUri::MAX_LEN)]
    TooLong(usize),
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn is_bucket(text: &str) -> bool {
    text.len() <= 222
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn decode_percent(path: &str) -> Result<String, UriFault> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let mut byte = [0];
        let digits = tail.get(..2).ok_or(UriFault::PercentEncoding)?;
        hex::decode_to_slice(digits, &mut byte).map_err(|_| UriFault::PercentEncoding)?;
        bytes.push(byte[0]);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| UriFault::PercentEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        SnapshotUri::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn bucket_and_path_are_taken_apart_and_the_scheme_is_free() {
        for (text, bucket, path) in [
            (
                "gs://b/a1/2026-06-30T12:00:00+02:00-ABC",
                "b",
                "a1/2026-06-30T12:00:00+02:00-ABC",
            ),
            ("s3://b.c-d/x/", "b.c-d", "x"),
            ("weird+scheme://b", "b", ""),
            ("//b/x", "b", "x"),
            ("file://b/a%20b", "b", "a b"),
        ] {
            let uri = SnapshotUri::parse(text).expect(text);
            assert_eq!((uri.bucket(), uri.path()), (bucket, path), "{text}");
            assert_eq!(uri.to_string(), text);
        }
    }

    #[test]
    fn the_texts_of_the_original_are_kept() {
        for prefix in [
            "",
            "bucket/path",
            "gs:bucket/path",
            "gs:///path",
            "a1-2026-06-30T12",
            "gs://user@/x",
        ] {
            assert_eq!(
                fault(prefix),
                format!("invalid snapshot URI prefix {prefix:?}: missing bucket")
            );
        }
        for prefix in ["gs://user@b/x", "gs://b/x?y=z", "gs://b/x#y", "gs://b?x"] {
            assert_eq!(
                fault(prefix),
                format!(
                    "invalid snapshot URI prefix {prefix:?}: must contain only a scheme, bucket, and path"
                )
            );
        }
    }

    #[test]
    fn nothing_leaves_the_bucket() {
        for path in [
            "..", "../x", "x/../y", "x/..", "%2e%2e/x", "x/%2E%2E", ".", "x//y", "x//", "x/%00", "x/%0a",
        ] {
            let text = format!("gs://b/{path}");
            assert!(fault(&text).contains("invalid path segment"), "{text}");
        }
        assert!(fault("gs://../x").contains("invalid bucket"));
        assert!(fault("gs://b:80/x").contains("invalid bucket"));
        assert!(fault("gs://b/%zz").contains("percent"));
        assert!(fault("gs://b/%f").contains("percent"));
        assert!(fault("1x://b/x").contains("invalid scheme"));
        assert!(fault("gs://b/\u{7f}").contains("control"));
        assert!(fault(&format!("gs://b/{}", "x".repeat(800))).contains("too many"));
    }

    #[test]
    fn an_encoded_slash_cannot_smuggle_a_segment() {
        assert!(fault("gs://b/x%2f..%2fy").contains("invalid path segment"));
    }
}
