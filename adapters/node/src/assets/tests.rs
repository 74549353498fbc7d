use super::*;
use ::tokio;
use holdfast_objects::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const CONTENT: &[u8] = b"#!/bin/sh\n";

struct Room {
    directory: tempfile::TempDir,
    assets: Assets,
}

fn room(sandboxes: Sandboxes) -> Room {
    let directory = tempfile::tempdir().unwrap();
    let objects = directory.path().join("objects/bucket");
    fs::create_dir_all(&objects).unwrap();
    fs::write(objects.join("runsc"), CONTENT).unwrap();
    fs::write(directory.path().join("runsc"), CONTENT).unwrap();
    let backend = Backend::new(Config::file(directory.path().join("objects")).unwrap());
    let files = directory.path().join("static-files");
    let assets = Assets::open(files, sandboxes, "amd64".into(), Arc::new(backend)).unwrap();
    Room { directory, assets }
}

fn gvisor() -> Room {
    room(Sandboxes::Gvisor { runsc: None })
}

fn runsc(url: impl Into<String>, sha256: impl Into<String>) -> BTreeMap<String, Asset> {
    let asset = Asset {
        url: url.into(),
        sha256: sha256.into(),
    };
    [(RUNSC.to_owned(), asset)].into()
}

fn sha256() -> String {
    hex::encode(Sha256::digest(CONTENT))
}

/// Serves one answer on loopback.
async fn web(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = socket.read(&mut request).await.unwrap();
        socket.write_all(answer).await.unwrap();
    });
    format!("http://{address}/runsc")
}

#[tokio::test]
async fn from_wherever_it_comes_it_is_stored_under_its_digest_and_executable() {
    for place in ["file", "path", "object", "web"] {
        let room = gvisor();
        let here = room.directory.path().join("runsc").display().to_string();
        let url = match place {
            "file" => format!("file://{here}"),
            "path" => here,
            "object" => "gs://bucket/runsc".to_owned(),
            _ => web(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n#!/bin/sh\n").await,
        };
        let paths = room
            .assets
            .ensure(&runsc(url, sha256().to_uppercase()))
            .await
            .unwrap();
        let path = &paths[RUNSC];
        assert_eq!(
            *path,
            room.directory
                .path()
                .join(format!("static-files/runsc-{}", sha256()))
        );
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
        // What is there needs no source any more.
        let again = room
            .assets
            .ensure(&runsc("gs://nowhere/x", sha256()))
            .await
            .unwrap();
        assert_eq!(again, paths, "{place}");
    }
}

#[tokio::test]
async fn a_file_that_is_used_in_place_is_checked_and_checked_again_when_it_changes() {
    let room = gvisor();
    let file = room.directory.path().join("runsc");
    let wanted = runsc(format!("path://{}", file.display()), sha256());
    assert_eq!(room.assets.ensure(&wanted).await.unwrap()[RUNSC], file);
    fs::write(&file, b"something longer than before").unwrap();
    let error = room.assets.ensure(&wanted).await.unwrap_err();
    assert!(error.to_string().contains("sha256 mismatch"), "{error}");
}

#[tokio::test]
async fn what_differs_from_its_digest_is_not_kept() {
    let room = gvisor();
    let other = "0".repeat(64);
    let error = room
        .assets
        .ensure(&runsc("gs://bucket/runsc", &other))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "asset runsc: gs://bucket/runsc: sha256 mismatch; got={} want={other}",
            sha256()
        )
    );
    let files = fs::read_dir(room.directory.path().join("static-files")).unwrap();
    assert_eq!(files.count(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_an_asset_is_named() {
    let room = gvisor();
    let not_found = web(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let busy = web(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    for (url, sha, part, code) in [
        (
            "gs://bucket/runsc",
            "abc",
            "invalid runsc sha256 hash: want 64 hex chars, got 3",
            Code::InvalidArgument,
        ),
        (
            "runsc",
            &*sha256(),
            "want an absolute path",
            Code::FailedPrecondition,
        ),
        (
            "path://usr/bin/runsc",
            &sha256(),
            "want an absolute path",
            Code::FailedPrecondition,
        ),
        (
            "path:///no/such/file",
            &sha256(),
            "No such file",
            Code::FailedPrecondition,
        ),
        (
            "file:///no/such/file",
            &sha256(),
            "No such file",
            Code::FailedPrecondition,
        ),
        (
            "gs://bucket/nothing",
            &sha256(),
            "not found",
            Code::FailedPrecondition,
        ),
        (&not_found, &sha256(), "404", Code::FailedPrecondition),
        (&busy, &sha256(), "503", Code::Unavailable),
    ] {
        let error = room.assets.ensure(&runsc(url, sha)).await.unwrap_err();
        assert!(error.to_string().contains(part), "{url}: {error}");
        assert_eq!(error.code(), code, "{url}: {error}");
    }
}

#[tokio::test]
async fn a_configured_runsc_is_used_and_plain_processes_need_nothing() {
    let own = PathBuf::from("/opt/runsc");
    let configured = room(Sandboxes::Gvisor {
        runsc: Some(own.clone()),
    });
    let nowhere = runsc("gs://nowhere/x", "");
    assert_eq!(configured.assets.ensure(&nowhere).await.unwrap()[RUNSC], own);
    assert_eq!(
        configured.assets.ensure(&BTreeMap::new()).await.unwrap()[RUNSC],
        own
    );
    let plain = room(Sandboxes::Process);
    assert!(plain.assets.ensure(&nowhere).await.unwrap().is_empty());
    let none = gvisor().assets.ensure(&runsc("", "")).await.unwrap();
    assert!(none.is_empty(), "an asset without a url is not needed");
}

#[tokio::test]
async fn unfinished_downloads_of_an_earlier_run_are_removed() {
    let room = gvisor();
    let directory = room.directory.path().join("static-files");
    let (left, kept) = (directory.join("runsc-ab-download-x"), directory.join("runsc-ab"));
    fs::write(&left, b"").unwrap();
    fs::write(&kept, b"").unwrap();
    let backend = room.assets.backend.clone();
    Assets::open(directory, Sandboxes::Process, "amd64".into(), backend).unwrap();
    assert!(!left.exists() && kept.exists());
}
