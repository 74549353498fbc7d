//! The JSON documents of OCI and Docker images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Platform, PullError};

/// Annotation by which an OCI layout names its images.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a registry is told that we understand.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Names content by digest and size.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub fn tag(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REF_NAME).map(String::as_str)
    }
}

/// A manifest or index, told apart by what it contains: umoci leaves the media type out, and registries
/// have been seen to send wrong ones.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Debug)]
pub(crate) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// The little of an image configuration that matters here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    #[serde(flatten)]
    pub platform: Platform,
    pub rootfs: RootFs,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<Digest>,
}

impl Document {
    /// Reads the document that `what` names in errors.
    pub fn parse(what: &str, json: &[u8]) -> Result<Self, PullError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            #[serde(default)]
            schema_version: u64,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let fields: Fields = serde_json::from_slice(json).map_err(|error| malformed(what, error))?;
        match (fields.manifests, fields.config, fields.layers) {
            _ if fields.schema_version == 1 => Err(PullError::Unsupported {
                what: what.to_owned(),
                reason: "it is in Docker's first format; push it again with a current tool".to_owned(),
            }),
            (Some(manifests), None, None) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => Ok(Self::Manifest(Manifest { config, layers })),
            _ => Err(malformed(
                what,
                "neither a manifest with config and layers nor an index",
            )),
        }
    }
}

impl Manifest {
    /// Refuses layers that cannot be unpacked, before anything is downloaded.
    pub fn check_layers(&self, what: &str) -> Result<(), PullError> {
        match self.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            None => Ok(()),
            Some(layer) => Err(PullError::Unsupported {
                what: what.to_owned(),
                reason: format!(
                    "layer {} is {:?}; only OCI and Docker layers as tar, tar+gzip and tar+zstd are unpacked",
                    layer.digest, layer.media_type
                ),
            }),
        }
    }
}

impl Config {
    pub fn parse(what: &str, json: &[u8]) -> Result<Self, PullError> {
        serde_json::from_slice(json).map_err(|error| malformed(what, error))
    }
}

/// Picks what runs on `host` from an index. An entry that names no platform is taken when nothing fits
/// and there is no other such entry.
pub(crate) fn choose<'a>(
    what: &str,
    entries: &'a [Descriptor],
    host: &Platform,
) -> Result<&'a Descriptor, PullError> {
    let fits = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| platform.runs_on(host))
    };
    if let Some(entry) = entries.iter().find(fits) {
        return Ok(entry);
    }
    let mut unnamed = entries.iter().filter(|entry| entry.platform.is_none());
    if let (Some(entry), None) = (unnamed.next(), unnamed.next()) {
        return Ok(entry);
    }
    let mut available: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref().map(Platform::to_string))
        .collect();
    available.dedup();
    Err(PullError::NoPlatform {
        what: what.to_owned(),
        wanted: host.clone(),
        available: match available.is_empty() {
            true => "images that name no platform".to_owned(),
            false => available.join(", "),
        },
    })
}

pub(crate) fn malformed(what: &str, reason: impl ToString) -> PullError {
    PullError::Malformed {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}

fn is_layer(media_type: &str) -> bool {
    const FORMATS: [(&str, &[&str]); 4] = [
        ("application/vnd.oci.image.layer.v1.tar", &["", "+gzip", "+zstd"]),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            &["", "+gzip", "+zstd"],
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar",
            &["", ".gzip", ".zstd"],
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
            &["", ".gzip", ".zstd"],
        ),
    ];
    FORMATS.iter().any(|(tar, suffixes)| {
        media_type
            .strip_prefix(tar)
            .is_some_and(|suffix| suffixes.contains(&suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(content: &str, platform: Option<&str>) -> serde_json::Value {
        let mut entry = json!({ "digest": Digest::of(content.as_bytes()), "size": 1 });
        if let Some(platform) = platform {
            let mut parts = platform.split('/');
            entry["platform"] = json!({ "os": parts.next(), "architecture": parts.next() });
            if let Some(variant) = parts.next() {
                entry["platform"]["variant"] = json!(variant);
            }
        }
        entry
    }

    fn chosen(entries: &[(&str, Option<&str>)], host: &Platform) -> Result<Digest, PullError> {
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, platform)| entry(name, *platform))
            .collect();
        let json = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        match Document::parse("index", json.as_bytes())? {
            Document::Index(entries) => choose("index", &entries, host).map(|entry| entry.digest),
            Document::Manifest(_) => panic!("an index was read as a manifest"),
        }
    }

    #[test]
    fn an_index_gives_the_image_of_the_platform() {
        let amd64 = Platform::linux("amd64");
        let arm64 = Platform::linux("arm64");
        let armv7 = Platform {
            variant: Some("v7".to_owned()),
            ..Platform::linux("arm")
        };
        let index = [
            ("attestation", Some("unknown/unknown")),
            ("windows", Some("windows/amd64")),
            ("amd64", Some("linux/amd64")),
            ("armv6", Some("linux/arm/v6")),
            ("armv7", Some("linux/arm/v7")),
            ("arm64", Some("linux/arm64/v8")),
        ];
        for (host, name) in [(&amd64, "amd64"), (&arm64, "arm64"), (&armv7, "armv7")] {
            assert_eq!(chosen(&index, host).expect(name), Digest::of(name.as_bytes()));
        }
        let error = chosen(&index[..2], &amd64).expect_err("no Linux");
        assert_eq!(
            error.to_string(),
            "index has no image for linux/amd64, only for unknown/unknown, windows/amd64; build it for linux/amd64 too"
        );
    }

    #[test]
    fn a_single_entry_without_platform_is_taken_and_two_are_not() {
        let host = Platform::linux("amd64");
        let one = [("other", Some("linux/s390x")), ("plain", None)];
        assert_eq!(chosen(&one, &host).expect("taken"), Digest::of(b"plain"));
        let two = [("plain", None), ("other", None)];
        assert!(matches!(chosen(&two, &host), Err(PullError::NoPlatform { .. })));
    }

    #[test]
    fn documents_that_are_both_or_neither_or_ancient_are_refused() {
        let blob = entry("x", None);
        for (json, ancient) in [
            (json!({ "schemaVersion": 2 }), false),
            (json!({ "manifests": [], "config": blob, "layers": [] }), false),
            (json!({ "manifests": [], "layers": [] }), false),
            (json!({ "config": blob }), false),
            (json!([1]), false),
            (
                json!({ "manifests": [{ "digest": "sha256:../x", "size": 1 }] }),
                false,
            ),
            (
                json!({ "manifests": [{ "digest": Digest::of(b""), "size": -1 }] }),
                false,
            ),
            (json!({ "schemaVersion": 1, "fsLayers": [] }), true),
        ] {
            let error = Document::parse("it", json.to_string().as_bytes()).expect_err("refused");
            assert_eq!(matches!(error, PullError::Unsupported { .. }), ancient, "{error}");
            assert_eq!(matches!(error, PullError::Malformed { .. }), !ancient, "{error}");
        }
    }

    #[test]
    fn only_layers_that_can_be_unpacked_pass() {
        for good in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert!(is_layer(good), "{good}");
        }
        for bad in [
            "",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ] {
            assert!(!is_layer(bad), "{bad}");
        }
    }
}
