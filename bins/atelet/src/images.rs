//! How images are pulled and kept: the flags for that, and what they amount to.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use holdfast_images::{
    CloudLogins, Credentials, CredentialsError, Layouts, LocalhostReplacement, Mirror, PullOptions,
    Watermarks, WatermarksError,
};

/// Everything about images that can be said.
#[derive(Debug, clap::Args)]
pub struct ImageFlags {
    /// What to ask instead of registries on this very machine: host[:port][/path]
    #[arg(long, value_name = "HOST", env = "HOLDFAST_LOCALHOST_REGISTRY_REPLACEMENT", value_parser = replacement)]
    pub localhost_registry_replacement: Option<LocalhostReplacement>,

    /// Where to look for images of a registry first: REGISTRY=host[:port][/path], separated by commas. Several for one
    /// registry are asked in order, then the registry itself
    #[arg(
        long,
        value_name = "MIRROR",
        env = "HOLDFAST_REGISTRY_MIRROR",
        value_delimiter = ',',
        value_parser = mirror
    )]
    pub registry_mirror: Vec<Mirror>,

    /// Registries that may be asked without TLS, separated by commas, as image references name them
    #[arg(
        long,
        value_name = "HOST",
        env = "HOLDFAST_INSECURE_REGISTRY",
        value_delimiter = ',',
        value_parser = registry
    )]
    pub insecure_registry: Vec<String>,

    /// A Docker config.json with logins for registries. Credential helpers that it names are run
    #[arg(long, value_name = "FILE", env = "HOLDFAST_REGISTRY_CONFIG")]
    pub registry_config: Option<PathBuf>,

    /// Let image references name OCI layouts on this machine's disk (oci:path:tag)
    #[arg(long, env = "HOLDFAST_ALLOW_IMAGE_LAYOUTS", value_parser = BoolishValueParser::new())]
    pub allow_image_layouts: bool,

    /// Log in to registries of Google Cloud (gcr.io, pkg.dev and those below) as this machine's service account
    #[arg(
        long,
        value_name = "BOOL",
        env = "HOLDFAST_GCP_AUTH_FOR_IMAGE_PULLS",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new()
    )]
    pub gcp_auth_for_image_pulls: bool,

    /// How full the disk may get, in percent, before images that nobody uses are removed. At 100 they never are
    #[arg(long, value_name = "PERCENT", env = "HOLDFAST_IMAGE_GC_HIGH_THRESHOLD", default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub image_gc_high_threshold: u8,

    /// How full the disk may be, in percent, when enough of them are removed
    #[arg(long, value_name = "PERCENT", env = "HOLDFAST_IMAGE_GC_LOW_THRESHOLD", default_value_t = 80, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub image_gc_low_threshold: u8,
}

/// What is wrong with flags about images that are well-formed one by one.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error("--registry-config: {0}")]
    Logins(CredentialsError),
    #[error("--image-gc-low-threshold: {0}")]
    Watermarks(WatermarksError),
}

/// How images are pulled and kept.
///
/// # Errors
/// The first flag that is wrong.
pub fn plan(flags: ImageFlags) -> Result<PullOptions, ImagesError> {
    let mut credentials = match &flags.registry_config {
        Some(path) => Credentials::from_docker_config(path).map_err(ImagesError::Logins)?,
        None => Credentials::default(),
    };
    if flags.gcp_auth_for_image_pulls {
        credentials = credentials.with_cloud(CloudLogins::google());
    }
    let watermarks = Watermarks::new(flags.image_gc_high_threshold, flags.image_gc_low_threshold);
    Ok(PullOptions {
        plain_http: flags.insecure_registry.into_iter().collect(),
        localhost_replacement: flags.localhost_registry_replacement,
        mirrors: flags.registry_mirror,
        credentials,
        layouts: if flags.allow_image_layouts {
            Layouts::Allowed
        } else {
            Layouts::Refused
        },
        watermarks: watermarks.map_err(ImagesError::Watermarks)?,
        ..PullOptions::default()
    })
}

fn registry(text: &str) -> Result<String, String> {
    match holdfast_images::check_host(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(format!(
            "{problem}; write it as image references do, without a scheme"
        )),
    }
}

fn replacement(text: &str) -> Result<LocalhostReplacement, String> {
    text.parse()
        .map_err(|error: holdfast_images::ReferenceError| error.problem.to_string())
}

fn mirror(text: &str) -> Result<Mirror, String> {
    text.parse()
        .map_err(|error: holdfast_images::MirrorError| error.to_string())
}
