//! Names that become path components, checked before they do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The prefix of a LOCAL snapshot: one directory name under the actor's local checkpoints.
///
/// 1 to 255 bytes; no `/`, no control characters, not starting with a dot (so neither `.` nor `..`). The original
/// refuses only the empty prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalName(String);

/// The name of one file of a snapshot, as ateom reports it and the manifest lists it.
///
/// 1 to 200 bytes, of ASCII letters, digits and `._-+=@,`; not starting with a dot, and not `manifest.json`. What
/// is left of the 255 bytes of a path component is room for suffixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// A name that must not become a path component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not usable as the prefix of a LOCAL snapshot.
    #[error(
        "invalid snapshot prefix {0:?}: want 1 to 255 bytes without slashes or control characters, not starting with a dot"
    )]
    Local(String),
    /// Not usable as the name of a snapshot's file.
    #[error(
        "invalid snapshot file name {0:?}: want 1 to 200 ASCII letters, digits or any of ._-+=@, not starting with a dot, not manifest.json"
    )]
    File(String),
}

impl FromStr for LocalName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=255).contains(&text.len());
        let safe = !text.starts_with('.') && !text.chars().any(|c| c == '/' || c.is_control());
        if fits && safe {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Local(text.to_owned()))
        }
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=200).contains(&text.len());
        let safe = !text.starts_with('.')
            && text != crate::MANIFEST_NAME
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-+=@,".contains(c));
        if fits && safe {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::File(text.to_owned()))
        }
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text_newtype!(LocalName);
text_newtype!(FileName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_original_are_accepted() {
        for name in ["checkpoint.img", "pages.img", "pages_meta.img", "a-B_1+2=3@4,5"] {
            assert_eq!(name.parse::<FileName>().expect(name).as_str(), name);
        }
        let prefix = "a1-2026-06-30T12:00:00+02:00-ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        assert_eq!(prefix.parse::<LocalName>().expect(prefix).as_str(), prefix);
    }

    /// S80: what comes over the socket must not choose where the daemon reads or writes.
    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            "../x",
            ".hidden",
            "a\0b",
            "a\nb",
        ] {
            assert!(name.parse::<FileName>().is_err(), "{name:?}");
            assert!(name.parse::<LocalName>().is_err(), "{name:?}");
        }
        assert!("manifest.json".parse::<FileName>().is_err());
        assert!("a b".parse::<FileName>().is_err());
        assert!("x".repeat(201).parse::<FileName>().is_err());
        assert!("x".repeat(256).parse::<LocalName>().is_err());
    }
}
