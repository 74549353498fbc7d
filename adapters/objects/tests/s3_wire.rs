//! The S3 protocol as it goes over the wire, against a server that is not ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use holdfast_objects::{Backend, Config, Manifest, Progress, SnapshotError, SnapshotUri};
use holdfast_runtime::tokio;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "AKHOLDFAST";
const SECRET: &str = "a-secret-for-tests";

async fn listen<F>(serve: F) -> String
where
    F: Fn(TcpStream) + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            serve(socket);
        }
    });
    format!("http://{address}")
}

/// An S3 server over a directory, with one bucket.
async fn s3(root: &TempDir) -> String {
    fs::create_dir(root.path().join("bucket")).expect("a bucket");
    let files = s3s_fs::FileSystem::new(root.path()).expect("a file system");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    listen(move |socket| {
        let service = service.clone();
        tokio::spawn(async move {
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await
        });
    })
    .await
}

/// A server that gives everybody the same answer.
async fn stubborn(status: u16, body: &'static str) -> String {
    listen(move |socket| {
        let answer = service_fn(move |_| async move {
            hyper::Response::builder()
                .status(status)
                .body(Full::new(Bytes::from_static(body.as_bytes())))
        });
        tokio::spawn(async move {
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), answer)
                .await
        });
    })
    .await
}

fn backend(endpoint: &str, secret: &str) -> Backend {
    let vars = [
        ("ATE_STORAGE_BACKEND", "s3"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_S3_USE_PATH_STYLE", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Backend::new(Config::from_vars(vars).expect("a configuration"))
}

fn uri(bucket: &str) -> SnapshotUri {
    format!("s3://{bucket}/a1/2026-06-30T12:00:00+02:00-ABC")
        .parse()
        .expect("a prefix")
}

fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory)
        .expect("lists")
        .map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().expect("text"),
                fs::read(entry.path()).expect("reads"),
            )
        })
        .collect()
}

/// A small file and one of several parts, which does not compress.
fn checkpoint() -> (TempDir, Manifest) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("checkpoint.img"), "state").expect("writes");
    let mut state = 88_172_645_463_325_252u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let pages: Vec<u8> = (0..20 * 131_072).flat_map(|_| word()).collect();
    fs::write(directory.path().join("pages.img"), pages).expect("writes");
    let names = ["checkpoint.img", "pages.img"].map(|name| name.parse().expect("a name"));
    (
        directory,
        Manifest {
            sandbox_class: "gvisor".into(),
            snapshot_files: names.into(),
            ..Manifest::default()
        },
    )
}

#[tokio::test]
async fn a_snapshot_of_several_parts_goes_to_s3_and_back() {
    let root = tempfile::tempdir().expect("a directory");
    let backend = backend(&s3(&root).await, SECRET);
    let (source, plan) = checkpoint();
    let whole = content(source.path());
    let uri = uri("bucket");
    assert!(matches!(
        backend.read_manifest(&uri).await,
        Err(SnapshotError::NotFound { .. })
    ));

    let manifest = backend
        .upload(&uri, source.path(), &plan, &Progress::default())
        .await
        .expect("uploads");
    assert_eq!(backend.read_manifest(&uri).await.expect("reads"), manifest);
    let again = backend
        .upload(&uri, source.path(), &plan, &Progress::default())
        .await
        .expect("is done");
    assert_eq!(again, manifest);
    let dest = tempfile::tempdir().expect("a directory");
    backend
        .download(&uri, &manifest, dest.path(), &Progress::default())
        .await
        .expect("downloads");
    assert!(content(dest.path()) == whole, "the content differs");

    fs::write(source.path().join("checkpoint.img"), "other").expect("writes");
    let error = backend
        .upload(&uri, source.path(), &plan, &Progress::default())
        .await
        .expect_err("occupied");
    assert!(matches!(error, SnapshotError::Occupied { .. }), "{error}");

    backend.delete(&uri).await.expect("removes");
    backend.delete(&uri).await.expect("is done");
    assert!(matches!(
        backend.read_manifest(&uri).await,
        Err(SnapshotError::NotFound { .. })
    ));
    let left = content_names(&root.path().join("bucket"));
    assert!(left.is_empty(), "{left:?}");
}

/// The programs of sandboxes are larger than one answer of the store may be.
#[tokio::test]
async fn one_object_of_several_ranges_is_read_whole() {
    let root = tempfile::tempdir().expect("a directory");
    let backend = backend(&s3(&root).await, SECRET);
    let program: Vec<u8> = (0..9u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(root.path().join("bucket/runsc"), &program).expect("writes");
    let uri: SnapshotUri = "s3://bucket/runsc".parse().expect("a prefix");
    let read: Vec<Bytes> = backend.read_object(uri).try_collect().await.expect("reads");
    assert!(read.concat() == program, "the content differs");
    let absent: SnapshotUri = "s3://bucket/absent".parse().expect("a prefix");
    let error = backend
        .read_object(absent)
        .try_collect::<Vec<Bytes>>()
        .await
        .expect_err("is not there");
    assert!(matches!(error, SnapshotError::NotFound { .. }), "{error}");
}

/// Files, however deep.
fn content_names(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)
        .expect("lists")
        .map(|entry| entry.expect("an entry"))
    {
        match entry.path().is_dir() {
            true => names.extend(content_names(&entry.path())),
            false => names.push(entry.path().display().to_string()),
        }
    }
    names
}

#[tokio::test]
async fn a_wrong_secret_is_denied_and_not_shown() {
    let root = tempfile::tempdir().expect("a directory");
    let backend = backend(&s3(&root).await, "a-wrong-secret");
    let (source, plan) = checkpoint();
    let error = backend
        .upload(&uri("bucket"), source.path(), &plan, &Progress::default())
        .await
        .expect_err("denied");
    assert!(matches!(error, SnapshotError::Denied { .. }), "{error}");
    assert!(
        !format!("{error} {error:?} {backend:?}").contains("a-wrong-secret"),
        "{error:?}"
    );
}

#[tokio::test]
async fn answers_of_the_store_are_classified_by_their_status() {
    let ask = async |status, body| {
        let error = backend(&stubborn(status, body).await, SECRET)
            .read_manifest(&uri("bucket"))
            .await;
        error.expect_err("an error status")
    };
    let no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";
    assert!(matches!(
        ask(404, no_bucket).await,
        SnapshotError::NoBucket { .. }
    ));
    assert!(matches!(
        ask(404, "<Error><Code>NoSuchKey</Code></Error>").await,
        SnapshotError::NotFound { .. }
    ));
    assert!(matches!(ask(403, "").await, SnapshotError::Denied { .. }));
    assert!(matches!(ask(401, "").await, SnapshotError::Denied { .. }));
    assert!(matches!(ask(400, "").await, SnapshotError::Rejected { .. }));
    assert!(matches!(ask(429, "").await, SnapshotError::Retryable { .. }));
}
