use std::path::Path;

use holdfast_images::{Cache, Digest, PullOptions};
use holdfast_runtime::clock::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const LAYER_BYTES: usize = 1 << 20;

/// A registry with one image, of whose only layer it sends the half and then no more.
async fn registry() -> String {
    let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
    let layer = vec![7; LAYER_BYTES];
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(&layer), "size": LAYER_BYTES }],
    });
    let manifest = manifest.to_string().into_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (config, layer, manifest) = (config.clone(), layer.clone(), manifest.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while let Ok(count @ 1..) = socket.read_buf(&mut request).await {
                    let text = String::from_utf8_lossy(&request).into_owned();
                    if count == 0 || !text.ends_with("\r\n\r\n") {
                        continue;
                    }
                    request.clear();
                    let (body, sent) = if text.contains("/manifests/") {
                        (&manifest, manifest.len())
                    } else if text.contains(&Digest::of(&layer).to_string()) {
                        (&layer, LAYER_BYTES / 2)
                    } else {
                        (&config, config.len())
                    };
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = socket.write_all(head.as_bytes()).await;
                    let _ = socket.write_all(&body[..sent]).await;
                }
            });
        }
    });
    format!("{address}/app:v1")
}

fn images(directory: &Path) -> Arc<Images> {
    let cache = Cache::open(directory).unwrap();
    let puller = Puller::new(cache, PullOptions::default());
    Arc::new(Images::new(
        puller,
        Arc::new(SystemClock),
        Duration::from_secs(30),
    ))
}

fn files_below(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_no_file_and_no_handle() {
    let directory = tempfile::tempdir().unwrap();
    let images = images(directory.path());
    let image: Name = registry().await.as_str().into();
    let before = (files_below(directory.path()), open_files());
    for _ in 0..3 {
        let pulling = {
            let (images, image) = (images.clone(), image.clone());
            tokio::spawn(async move { images.pull(&image, |_| {}).await })
        };
        while images
            .under_way()
            .iter()
            .all(|pull| pull.bytes < LAYER_BYTES as u64 / 2)
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(files_below(directory.path()) > before.0);
        // As the machine does: the pull is told to end, and then that nobody wants it any more.
        pulling.abort();
        images.abandon(&image).await;
        assert_eq!(files_below(directory.path()), before.0);
        assert!(images.under_way().is_empty());
    }
    // The server's half of a connection ends a moment after ours.
    while open_files() > before.1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_pull_that_only_stalled_keeps_what_it_has_for_the_next_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let images = images(directory.path());
    let image: Name = registry().await.as_str().into();
    let pulling = {
        let (images, image) = (images.clone(), image.clone());
        tokio::spawn(async move { images.pull(&image, |_| {}).await })
    };
    while images
        .under_way()
        .iter()
        .all(|pull| pull.bytes < LAYER_BYTES as u64 / 2)
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    pulling.abort();
    assert!(pulling.await.unwrap_err().is_cancelled());
    assert!(images.under_way().is_empty());
    assert!(files_below(&directory.path().join("partial")) > 0);
}

/// The machine's own table says when a pull is given up; what is told of it has to be understood here.
#[test]
fn the_end_of_a_pull_that_nobody_wants_is_recognised() {
    use holdfast_core::pull::{Event, TABLE};
    use holdfast_core::table::Kind as _;
    let abandoned = |moved: &holdfast_core::table::Moved| {
        moved.record == TABLE.record() && moved.event == Event::Abandon.name()
    };
    assert_eq!(
        TABLE
            .transitions()
            .iter()
            .filter(|moved| abandoned(moved))
            .count(),
        2
    );
}
