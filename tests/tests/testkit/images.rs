//! The images that tests and the demo run.

use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_tests::http;
use holdfast_tests::images::{Ballast, Images};
use holdfast_tests::registry::Registry;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_same_programs_and_ballast_make_the_same_images() -> Result<()> {
    let (first, second) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (first, second) = (Images::build(first.path())?, Images::build(second.path())?);
    assert_eq!(first.counter.digest(), second.counter.digest());
    assert_ne!(first.counter.digest(), first.pause.digest());

    let noise = |images: &Images, seed| images.add_large("large", 100_000, Ballast::Noise { seed });
    assert_eq!(noise(&first, 1)?.digest(), noise(&second, 1)?.digest());
    assert_ne!(noise(&first, 1)?.digest(), noise(&first, 2)?.digest());
    Ok(())
}

#[test]
fn noise_crosses_the_network_and_zeros_do_not() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let images = Images::build(directory.path())?;
    let registry = Registry::serve(images.layout())?;
    let layer_bytes = |tag: &str| -> Result<u64> {
        let path = format!("/v2/holdfast/{tag}/manifests/{tag}");
        let manifest = http::get(registry.authority().parse()?, "registry", &path, SOON)?.json()?;
        manifest["layers"][0]["size"]
            .as_u64()
            .with_context(|| format!("no layer: {manifest}"))
    };
    let counter = layer_bytes("counter")?;
    images.add_large("noise", 1_000_000, Ballast::Noise { seed: 7 })?;
    images.add_large("zeros", 1_000_000, Ballast::Zeros)?;
    assert!(layer_bytes("noise")? >= counter + 1_000_000);
    assert!(layer_bytes("zeros")? < counter + 10_000);
    Ok(())
}

#[test]
fn the_registry_serves_an_image_by_its_pinned_reference() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let images = Images::build(directory.path())?;
    let registry = Registry::serve(images.layout())?;
    let reference = images.served_by(&registry, &images.counter)?;
    assert!(reference.is_pinned());
    let digest = reference.digest().context("no digest")?;
    let path = format!("/v2/holdfast/counter/manifests/{digest}");
    assert_eq!(
        http::get(registry.authority().parse()?, "registry", &path, SOON)?.status,
        200
    );
    Ok(())
}
