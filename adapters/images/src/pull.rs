//! From a reference to an image in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_references::{Location, is_loopback};
use holdfast_runtime::tokio::sync::OnceCell;

use crate::blocking::blocking;
use crate::http::{Http, Trust};
use crate::layout::Layout;
use crate::manifest::{self, Config, Descriptor, Document, Manifest};
use crate::registry::{PlainHttp, Registry};
use crate::source::{Source, Tagged};
use crate::{
    Cache, Credentials, Digest, Image, LocalhostReplacement, Mirror, Platform, Progress, PullError,
    Reference, Watermarks, transfer,
};

/// Layers that are fetched at the same time.
const PARALLEL_BLOBS: usize = 3;
/// An index may name indexes; nobody nests them deeper than this.
const MAX_INDEX_DEPTH: usize = 4;
/// The name under which the default registry really answers.
const DEFAULT_REGISTRY_SERVER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// How images are pulled.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// What the images have to run on.
    pub platform: Platform,
    /// Registries, as references name them, that may be asked without TLS. Those on this very machine
    /// always may.
    pub plain_http: BTreeSet<String>,
    /// What to ask instead of registries on this very machine; plain HTTP is allowed there.
    pub localhost_replacement: Option<LocalhostReplacement>,
    /// What to ask before other registries, in this order.
    pub mirrors: Vec<Mirror>,
    /// Logins.
    pub credentials: Credentials,
    /// Whether references may name directories of this machine.
    pub layouts: Layouts,
    /// How much may be pulled.
    pub limits: PullLimits,
    /// When images that nobody uses make room for others.
    pub watermarks: Watermarks,
}

impl Default for PullOptions {
    /// Images for this machine, from registries with TLS or on this machine, without logging in.
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            plain_http: BTreeSet::new(),
            localhost_replacement: None,
            mirrors: Vec::new(),
            credentials: Credentials::default(),
            layouts: Layouts::Refused,
            limits: PullLimits::default(),
            watermarks: Watermarks::default(),
        }
    }
}

/// Whether references may name OCI layouts. Who may write a reference may then have the daemon read
/// images, though nothing else, anywhere on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layouts {
    /// They may.
    Allowed,
    /// They may not.
    Refused,
}

/// How much may be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullLimits {
    /// Bytes of a manifest, index or configuration, which are read into memory.
    pub document_bytes: u64,
    /// Bytes of all layers of an image, compressed.
    pub image_bytes: u64,
    /// Layers of an image.
    pub layers: usize,
}

impl Default for PullLimits {
    /// 4 MiB, 64 GiB and 256.
    fn default() -> Self {
        Self {
            document_bytes: 4 << 20,
            image_bytes: 64 << 30,
            layers: 256,
        }
    }
}

/// Pulls images into a cache.
#[derive(Clone)]
pub struct Puller(Arc<Inner>);

struct Inner {
    cache: Cache,
    options: PullOptions,
    trust: Arc<Trust>,
}

impl Puller {
    /// A puller into `cache`.
    pub fn new(cache: Cache, options: PullOptions) -> Self {
        Self(Arc::new(Inner {
            cache,
            options,
            trust: Arc::default(),
        }))
    }

    /// Makes the image present in the cache, complete and checked.
    ///
    /// This waits for as long as the source takes: whoever calls it watches `progress` and drops the
    /// future when nothing moves any more. What has arrived stays in the cache, and the next call goes on
    /// from there. What is in the cache already costs nothing; a pinned image that is there completely
    /// needs no source at all.
    ///
    /// # Errors
    /// See [`PullError`]. Nothing of a failed pull is used except bytes that the next one checks again.
    pub async fn pull(&self, reference: &Reference, progress: &Progress) -> Result<Image, PullError> {
        let sources = self.sources(reference)?;
        let first = progress.source() % sources.len();
        let in_turn = (0..sources.len()).map(|turn| (first + turn) % sources.len());
        let mut failed = None;
        for at in in_turn {
            // Should this attempt be dropped because nothing moves, the next begins with another source.
            progress.set_source(at + 1);
            match self.pull_from(&sources[at], reference, progress).await {
                Err(error) if error.is_of_source() && sources.len() > 1 => {
                    tracing::warn!(%reference, source = sources[at].place(), %error, "this source does not have it; asking the next");
                    // What the registry itself says counts most, and it comes last.
                    if failed.is_none() || at + 1 == sources.len() {
                        failed = Some(error);
                    }
                }
                pulled => return pulled,
            }
        }
        Err(failed.unwrap_or(PullError::Interrupted))
    }

    async fn pull_from(
        &self,
        source: &Source,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<Image, PullError> {
        progress.restart();
        let (root, digest, manifest) = self.resolve(source, reference, progress).await?;
        let what = format!("manifest {digest} of {}", source.place());
        manifest.check_layers(&what)?;
        let image_bytes = self.check_limits(&what, &manifest)?;

        let config = (manifest.config.digest, manifest.config.size);
        let layers = manifest.layers.iter().map(|layer| (layer.digest, layer.size));
        let blobs: BTreeMap<_, _> = layers.chain([config]).collect();
        // From here on nothing of the image is collected until it is complete; what is here already counts as used.
        let _pins = self.0.cache.pin(blobs.keys().copied().chain([root, digest]));
        let is_unpacked = self
            .note_use(blobs.keys().copied().chain([root, digest]), digest)
            .await?;
        // Nobody needs the layers of what is unpacked.
        let is_wanted = |digest: &Digest| !is_unpacked || *digest == manifest.config.digest;
        let wanted = || blobs.iter().filter(|(digest, _)| is_wanted(digest));
        progress.expect(
            wanted().map(|(digest, _)| *digest),
            wanted().map(|(_, size)| size).sum(),
        );
        // A spoiled configuration is found and removed here, a spoiled layer when it is unpacked.
        self.cached_document(manifest.config.digest).await?;
        let mut fetched = BTreeSet::new();
        let in_order = [config]
            .into_iter()
            .chain(manifest.layers.iter().map(|layer| (layer.digest, layer.size)))
            .filter(|(digest, _)| is_wanted(digest) && fetched.insert(*digest))
            .collect::<Vec<_>>();
        let fetch = |(digest, size)| transfer::fetch(&self.0.cache, source, digest, size, progress);
        stream::iter(in_order.into_iter().map(fetch))
            .buffer_unordered(PARALLEL_BLOBS)
            .try_collect::<()>()
            .await?;

        self.check_config(&manifest.config, &what).await?;
        Ok(Image {
            cache: self.0.cache.clone(),
            reference: reference.clone().pinned(root),
            digest,
            layers: manifest.layers.iter().map(|layer| layer.digest).collect(),
            bytes: image_bytes,
        })
    }

    /// The cache that it pulls into.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// When images that nobody uses make room for others.
    pub fn watermarks(&self) -> Watermarks {
        self.0.options.watermarks
    }

    /// Takes note that these blobs are used now. Returns whether the image of this manifest is unpacked.
    async fn note_use(
        &self,
        blobs: impl Iterator<Item = Digest>,
        manifest: Digest,
    ) -> Result<bool, PullError> {
        let (cache, blobs) = (self.0.cache.clone(), blobs.collect::<Vec<_>>());
        let noted = blocking(move || {
            blobs.into_iter().try_for_each(|blob| cache.touch(blob))?;
            cache.has_tree(manifest)
        });
        Ok(noted.await??)
    }

    /// Where the image may be, in the order in which they are asked. There is one at least.
    fn sources(&self, reference: &Reference) -> Result<Vec<Source>, PullError> {
        let options = &self.0.options;
        let (host, repository) = match reference.location() {
            Location::Registry { host, repository } => (host, repository),
            Location::Layout { path } => return Ok(vec![self.layout(reference, path.clone())?]),
        };
        let local = is_loopback(host);
        let replacement = options.localhost_replacement.as_ref().filter(|_| local);
        if let Some(replacement) = replacement {
            let (authority, repository) = replacement.resolve(repository);
            return Ok(vec![self.registry(authority, repository, PlainHttp::Allowed)]);
        }
        let mirrors = options
            .mirrors
            .iter()
            .filter_map(|mirror| mirror.resolve(host, repository));
        let all = mirrors.chain([(host.clone(), repository.clone())]);
        let registry = |(authority, repository): (String, String)| {
            let plain_http = match is_loopback(&authority) || options.plain_http.contains(&authority) {
                true => PlainHttp::Allowed,
                false => PlainHttp::Refused,
            };
            self.registry(authority, repository, plain_http)
        };
        Ok(all.map(registry).collect())
    }

    fn registry(&self, authority: String, repository: String, plain_http: PlainHttp) -> Source {
        let (default_registry, server) = DEFAULT_REGISTRY_SERVER;
        Source::Registry(Box::new(Registry {
            http: Http::new(self.0.trust.clone()),
            authority: match authority == default_registry {
                true => server.to_owned(),
                false => authority.clone(),
            },
            repository,
            plain_http,
            credentials: self.0.options.credentials.clone(),
            host: authority,
            login: OnceCell::new(),
            origin: OnceCell::new(),
            authorization: Mutex::new(None),
        }))
    }

    fn layout(&self, reference: &Reference, path: PathBuf) -> Result<Source, PullError> {
        match self.0.options.layouts {
            Layouts::Allowed => Ok(Source::Layout(Layout(path))),
            Layouts::Refused => Err(PullError::Refused {
                what: reference.to_string(),
                reason: "images from directories are not allowed here; push the image to a registry",
            }),
        }
    }

    /// Digest of what the reference names, digest of the manifest for our platform, and that manifest.
    async fn resolve(
        &self,
        source: &Source,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<(Digest, Digest, Manifest), PullError> {
        let options = &self.0.options;
        let limit = options.limits.document_bytes;
        let (root, mut content) = match reference.digest() {
            Some(digest) => (digest, self.document(source, digest, None, progress).await?),
            None => match source.tagged(reference.tag(), &options.platform, limit).await? {
                Tagged::Digest(digest) => (digest, self.document(source, digest, None, progress).await?),
                Tagged::Content(content) => {
                    let digest = Digest::of(&content);
                    progress.stir(content.len() as u64);
                    transfer::store(&self.0.cache, digest, content.clone(), progress).await?;
                    (digest, content)
                }
            },
        };
        let mut digest = root;
        for _ in 0..MAX_INDEX_DEPTH {
            let what = format!("{digest} of {}", source.place());
            match Document::parse(&what, &content)? {
                Document::Manifest(manifest) => return Ok((root, digest, manifest)),
                Document::Index(entries) => {
                    let entry = manifest::choose(&what, &entries, &options.platform)?;
                    digest = entry.digest;
                    content = self.document(source, digest, Some(entry.size), progress).await?;
                }
            }
        }
        let what = format!("{root} of {}", source.place());
        Err(manifest::malformed(
            &what,
            format!("more than {MAX_INDEX_DEPTH} indexes in each other"),
        ))
    }

    /// A manifest or index, from the cache or else from the source.
    async fn document(
        &self,
        source: &Source,
        digest: Digest,
        size: Option<u64>,
        progress: &Progress,
    ) -> Result<Bytes, PullError> {
        let limit = self.0.options.limits.document_bytes;
        if let Some(content) = self.cached_document(digest).await? {
            return Ok(content);
        }
        let content = source.document(digest, limit).await?;
        progress.stir(content.len() as u64);
        let what = || format!("manifest {digest} of {}", source.place());
        let got = Digest::of(&content);
        if got != digest {
            return Err(PullError::DigestMismatch {
                what: what(),
                expected: digest,
                got,
            });
        }
        let length = content.len() as u64;
        match size {
            Some(expected) if expected != length => Err(PullError::SizeMismatch {
                what: what(),
                expected,
                got: length,
            }),
            _ => {
                transfer::store(&self.0.cache, digest, content.clone(), progress).await?;
                Ok(content)
            }
        }
    }

    async fn cached_document(&self, digest: Digest) -> Result<Option<Bytes>, PullError> {
        let (cache, limit) = (self.0.cache.clone(), self.0.options.limits.document_bytes);
        let content = blocking(move || cache.read_blob(digest, limit)).await??;
        Ok(content.map(Bytes::from))
    }

    /// The size of the image, if that is within the limits.
    fn check_limits(&self, what: &str, manifest: &Manifest) -> Result<u64, PullError> {
        let limits = &self.0.options.limits;
        let too_large = |what: String, amount: u64, unit, limit: u64| PullError::TooLarge {
            what,
            amount,
            unit,
            limit,
        };
        if manifest.layers.len() > limits.layers {
            let (count, limit) = (manifest.layers.len() as u64, limits.layers as u64);
            return Err(too_large(what.to_owned(), count, "layers", limit));
        }
        let config = &manifest.config;
        if config.size > limits.document_bytes {
            let what = format!("configuration {} of {what}", config.digest);
            return Err(too_large(what, config.size, "bytes", limits.document_bytes));
        }
        let sizes = manifest.layers.iter().map(|layer| layer.size);
        let bytes = sizes.fold(0, u64::saturating_add);
        match bytes > limits.image_bytes {
            true => Err(too_large(
                format!("image of {what}"),
                bytes,
                "bytes",
                limits.image_bytes,
            )),
            false => Ok(bytes),
        }
    }

    /// An image for another platform is let pass with a warning: build tools often write a wrong one, and
    /// a program that really cannot run says so itself.
    async fn check_config(&self, config: &Descriptor, what: &str) -> Result<(), PullError> {
        let what = format!("configuration {} of {what}", config.digest);
        let content = self.cached_document(config.digest).await?;
        let content = content.ok_or_else(|| manifest::malformed(&what, "it changed while it was pulled"))?;
        let config = Config::parse(&what, &content)?;
        let wanted = &self.0.options.platform;
        if !config.platform.runs_on(wanted) {
            tracing::warn!(image = what, platform = %config.platform, %wanted, "the image says it is for another platform");
        }
        Ok(())
    }
}
