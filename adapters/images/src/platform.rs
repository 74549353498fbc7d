//! What an image runs on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An operating system and an architecture, in Go's names as all image tools write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `GOOS`, for us always `linux`.
    #[serde(default)]
    pub os: String,
    /// `GOARCH`, for example `amd64` or `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// The generation of an ARM architecture, for example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on the given `GOARCH`.
    pub fn linux(architecture: impl Into<String>) -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// Linux on the architecture this program was built for.
    pub fn host() -> Self {
        Self::linux(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            same => same,
        })
    }

    /// Whether an image for `self` runs on `host`. A variant counts only when both sides name one:
    /// `arm64` is written with and without `v8`.
    pub(crate) fn runs_on(&self, host: &Self) -> bool {
        let variants_agree = match (&self.variant, &host.variant) {
            (Some(image), Some(host)) => image == host,
            _ => true,
        };
        self.os == host.os && self.architecture == host.architecture && variants_agree
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}
