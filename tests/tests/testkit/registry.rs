//! The registry that misbehaves on demand.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use holdfast_tests::http::{self, Connection, Response};
use holdfast_tests::registry::{Fault, Registry, Times};
use holdfast_tests::wait;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
/// Long enough that only a fault can make the client wait for it.
const LONG: Duration = Duration::from_secs(3600);

struct Served {
    registry: Registry,
    blob: Vec<u8>,
    blob_digest: String,
    manifest_digest: String,
    _layout: TempDir,
}

fn add_blob(layout: &Path, bytes: &[u8]) -> Result<String> {
    let hex = hex::encode(Sha256::digest(bytes));
    fs::write(layout.join("blobs/sha256").join(&hex), bytes)?;
    Ok(format!("sha256:{hex}"))
}

/// A layout with one manifest, tagged `v1`, and one blob of 300 000 bytes.
fn serve() -> Result<Served> {
    let layout = tempfile::tempdir()?;
    fs::create_dir_all(layout.path().join("blobs/sha256"))?;
    fs::write(
        layout.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    let blob: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let blob_digest = add_blob(layout.path(), &blob)?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "layers": [{ "mediaType": "application/octet-stream", "digest": blob_digest, "size": blob.len() }],
    });
    let manifest = manifest.to_string();
    let manifest_digest = add_blob(layout.path(), manifest.as_bytes())?;
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": media_type, "digest": manifest_digest, "size": manifest.len(),
        "annotations": { "org.opencontainers.image.ref.name": "v1" },
    }]});
    fs::write(layout.path().join("index.json"), index.to_string())?;
    Ok(Served {
        registry: Registry::serve(layout.path())?,
        blob,
        blob_digest,
        manifest_digest,
        _layout: layout,
    })
}

impl Served {
    fn get(&self, path: &str) -> Result<Response> {
        http::get(self.registry.authority().parse()?, "registry", path, SOON)
    }

    fn blob_path(&self) -> String {
        format!("/v2/some/repository/blobs/{}", self.blob_digest)
    }

    /// Asks for the blob, and leaves its body unread.
    fn ask_for_blob(&self, within: Duration) -> Result<Connection> {
        let mut connection = Connection::open(self.registry.authority().parse()?, within)?;
        connection.send(format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", self.blob_path()).as_bytes())?;
        Ok(connection)
    }
}

#[test]
fn it_serves_manifests_by_tag_and_digest_and_blobs_whole_and_in_part() -> Result<()> {
    let served = serve()?;
    assert_eq!(served.get("/v2/")?.status, 200);
    let by_tag = served.get("/v2/some/repository/manifests/v1")?;
    assert_eq!(
        by_tag.header("docker-content-digest"),
        Some(served.manifest_digest.as_str())
    );
    assert_eq!(
        by_tag.header("content-type"),
        Some("application/vnd.oci.image.manifest.v1+json")
    );
    let by_digest = served.get(&format!("/v2/other/manifests/{}", served.manifest_digest))?;
    assert_eq!(by_digest.body, by_tag.body);
    assert_eq!(
        served.get("/v2/x/tags/list")?.json()?["tags"],
        serde_json::json!(["v1"])
    );
    assert_eq!(served.get(&served.blob_path())?.body, served.blob);

    for (range, part) in [("bytes=299990-", 299_990..300_000), ("bytes=10-19", 10..20)] {
        let mut connection = Connection::open(served.registry.authority().parse()?, SOON)?;
        let path = served.blob_path();
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nrange: {range}\r\n\r\n").as_bytes())?;
        let response = connection.receive()?;
        assert_eq!(
            (response.status, response.body.as_slice()),
            (206, &served.blob[part.clone()])
        );
        let content_range = format!("bytes {}-{}/300000", part.start, part.end - 1);
        assert_eq!(response.header("content-range"), Some(content_range.as_str()));
    }
    Ok(())
}

#[test]
fn what_it_does_not_have_is_not_found() -> Result<()> {
    let served = serve()?;
    let unknown = format!("sha256:{}", "0".repeat(64));
    for path in [
        format!("/v2/x/blobs/{unknown}"),
        format!("/v2/x/manifests/{unknown}"),
        "/v2/x/manifests/v2".into(),
        "/v2/x/blobs/sha256:../../index.json".into(),
        "/v2/x/manifests/sha256:..".into(),
        "/".into(),
    ] {
        let response = served.get(&path)?;
        assert_eq!(response.status, 404, "{path}");
        assert!(response.json()?["errors"][0]["code"].is_string());
    }
    Ok(())
}

#[test]
fn a_hung_answer_stops_at_its_byte_and_goes_on_when_healed() -> Result<()> {
    let served = serve()?;
    let fault = served
        .registry
        .inject(&served.blob_digest, Fault::HangAfter(1000), Times::Always);
    let mut connection = served.ask_for_blob(SOON)?;
    connection.receive_head()?;
    assert_eq!(connection.receive_some(1000)?, served.blob[..1000]);
    // The others are not affected.
    assert_eq!(served.get("/v2/x/manifests/v1")?.status, 200);
    assert_eq!(served.registry.bytes_served("/blobs/"), 1000);
    served.registry.heal(fault);
    assert_eq!(connection.receive_some(299_000)?, served.blob[1000..]);
    Ok(())
}

#[test]
fn a_reset_answer_ends_in_an_error_and_a_closed_one_in_silence() -> Result<()> {
    let served = serve()?;
    served
        .registry
        .inject("/blobs/", Fault::ResetAfter(1000), Times::Once);
    let mut connection = served.ask_for_blob(SOON)?;
    let head = connection.receive_head();
    // What was sent before a reset may or may not be seen; the reset is.
    let error = head.and_then(|_| connection.receive_some(300_000)).unwrap_err();
    let kind = error
        .downcast_ref::<io::Error>()
        .context("not an I/O error")?
        .kind();
    assert_eq!(kind, io::ErrorKind::ConnectionReset);

    served
        .registry
        .inject("/blobs/", Fault::CloseAfter(1000), Times::Once);
    let mut connection = served.ask_for_blob(SOON)?;
    connection.receive_head()?;
    assert_eq!(connection.receive_some(300_000)?, served.blob[..1000]);

    assert_eq!(
        served.get(&served.blob_path())?.body,
        served.blob,
        "both befall one answer only"
    );
    Ok(())
}

#[test]
fn a_corrupt_answer_differs_in_one_byte() -> Result<()> {
    let served = serve()?;
    served
        .registry
        .inject("/blobs/", Fault::Corrupt(123_456), Times::Always);
    let body = served.get(&served.blob_path())?.body;
    let different: Vec<_> = (0..served.blob.len())
        .filter(|&index| body[index] != served.blob[index])
        .collect();
    assert_eq!((body.len(), different), (served.blob.len(), vec![123_456]));
    Ok(())
}

#[test]
fn a_status_takes_the_place_of_the_answer() -> Result<()> {
    let served = serve()?;
    served
        .registry
        .inject("/manifests/", Fault::Status(503), Times::Once);
    assert_eq!(served.get("/v2/x/manifests/v1")?.status, 503);
    assert_eq!(served.get("/v2/x/manifests/v1")?.status, 200);
    let statuses: Vec<_> = served
        .registry
        .served("/manifests/")
        .iter()
        .map(|served| served.status)
        .collect();
    assert_eq!(statuses, [503, 200]);
    Ok(())
}

#[test]
fn a_throttled_answer_takes_at_least_its_time() -> Result<()> {
    let served = serve()?;
    served
        .registry
        .inject("/blobs/", Fault::Rate(1_000_000), Times::Always);
    let start = Instant::now();
    assert_eq!(served.get(&served.blob_path())?.body, served.blob);
    // The last piece is paused after, not before: one twentieth of a second less than 0.3 s.
    assert!(start.elapsed() >= Duration::from_millis(250));
    Ok(())
}

#[test]
fn a_delayed_answer_comes_when_healed() -> Result<()> {
    let served = serve()?;
    let fault = served
        .registry
        .inject("/blobs/", Fault::Delay(LONG), Times::Always);
    let mut connection = served.ask_for_blob(SOON)?;
    wait::until("the request to arrive", SOON, || {
        Ok(served.registry.served("/blobs/").pop())
    })?;
    assert_eq!(served.registry.bytes_served("/blobs/"), 0);
    served.registry.heal(fault);
    assert_eq!(connection.receive()?.body, served.blob);
    Ok(())
}

#[test]
fn dropping_it_ends_the_connections_that_hang() -> Result<()> {
    let served = serve()?;
    served.registry.inject("", Fault::HangAfter(10), Times::Always);
    let mut connection = served.ask_for_blob(SOON)?;
    connection.receive_head()?;
    assert_eq!(connection.receive_some(10)?.len(), 10);
    drop(served);
    assert_eq!(connection.receive_some(1)?, b"");
    Ok(())
}
