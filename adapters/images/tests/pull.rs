//! Pulling from a registry that behaves, and from one that does not.

mod support;

use std::sync::atomic::AtomicBool;

use holdfast_images::{Digest, Platform, Progress, PullError, PullLimits, PullOptions, UnpackLimits};
use holdfast_runtime::tokio;
use serde_json::json;
use support::registry::{Behaviour, Seen, TestRegistry};
use support::{Bench, Tar, TestImage, big_image, descriptor, gzip, pull, pull_with, run};

fn requests_for(registry: &TestRegistry, blob: Digest) -> Vec<Seen> {
    let mut requests = registry.blob_requests();
    requests.retain(|request| request.path.ends_with(&blob.to_string()));
    requests
}

#[test]
fn an_image_comes_complete_and_costs_nothing_the_second_time() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        let progress = Progress::default();
        let pulled = pull_with(&bench, &registry, PullOptions::default(), &progress)
            .await
            .expect("pull");
        assert_eq!(pulled.digest(), image.digest());
        assert!(pulled.reference().is_pinned());
        let counts = progress.counts();
        assert_eq!(Some(counts.done), counts.total);
        assert_eq!(
            counts.done,
            image.blobs.iter().map(|blob| blob.len() as u64).sum::<u64>()
        );
        let before = registry.requests().len();

        let again = bench
            .puller()
            .pull(pulled.reference(), &Progress::default())
            .await;
        assert_eq!(again.expect("pull").digest(), image.digest());
        assert_eq!(
            registry.requests().len(),
            before,
            "a pinned image in the cache needs no registry"
        );

        pull(&bench, &registry).await.expect("pull by tag");
        let manifests = registry.requests().len() - before;
        assert_eq!(
            manifests, 2,
            "a tag is looked up again: the greeting and the manifest"
        );
        let report = pulled.unpack(&bench.rootfs(), &UnpackLimits::default(), &AtomicBool::new(false));
        assert_eq!(report.expect("unpack").entries, 2);
    });
}

#[test]
fn a_cut_blob_goes_on_where_it_was_cut() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, layer) = big_image();
        registry.add(&image);
        registry.behave(Behaviour {
            cut_after: Some(400_000),
            ..Behaviour::default()
        });
        let progress = Progress::default();
        for _ in 0..2 {
            let before = progress.counts().activity;
            let error = pull_with(&bench, &registry, PullOptions::default(), &progress)
                .await
                .expect_err("cut");
            assert!(error.retryable(), "{error}");
            assert!(progress.counts().activity > before, "{:?}", progress.counts());
        }
        registry.behave(Behaviour::default());
        pull(&bench, &registry).await.expect("pull");
        let starts: Vec<_> = requests_for(&registry, layer).iter().map(start_of).collect();
        // The last chunk before a cut may be lost on the way.
        assert_eq!(starts[0], 0);
        assert!((300_000..=400_000).contains(&starts[1]), "{starts:?}");
        assert!((600_000..=800_000).contains(&starts[2]), "{starts:?}");
        assert_eq!(starts.len(), 3);
    });
}

/// Where in the blob a request starts.
fn start_of(request: &Seen) -> u64 {
    let Some(range) = &request.range else {
        return 0;
    };
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'));
    start.and_then(|start| start.parse().ok()).expect("an open range")
}

#[test]
fn a_dropped_pull_leaves_its_bytes_for_the_next_one() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, layer) = big_image();
        registry.add(&image);
        registry.behave(Behaviour {
            hang_after: Some(640_000),
            ..Behaviour::default()
        });
        let progress = Progress::default();
        let mut moves = progress.subscribe();
        let hanging = pull_with(&bench, &registry, PullOptions::default(), &progress);
        let arrived = moves.wait_for(|counts| counts.done >= 640_000);
        tokio::select! {
            biased;
            result = hanging => panic!("it should hang: {result:?}"),
            arrived = arrived => drop(arrived.expect("progress")),
        }
        registry.all_connections_closed().await;
        registry.behave(Behaviour::default());
        pull_with(&bench, &registry, PullOptions::default(), &progress)
            .await
            .expect("pull");
        registry.all_connections_closed().await;
        let starts: Vec<_> = requests_for(&registry, layer).iter().map(start_of).collect();
        assert!(
            starts.len() == 2 && (300_000..=640_000).contains(&starts[1]),
            "{starts:?}"
        );
    });
}

#[test]
fn a_registry_that_ignores_ranges_starts_over_cleanly() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, layer) = big_image();
        registry.add(&image);
        let cut_after = Some(400_000);
        registry.behave(Behaviour {
            cut_after,
            ..Behaviour::default()
        });
        pull(&bench, &registry).await.expect_err("cut");
        registry.behave(Behaviour {
            ignore_range: true,
            ..Behaviour::default()
        });
        pull(&bench, &registry).await.expect("pull");
        assert!(
            requests_for(&registry, layer)[1].range.is_some(),
            "it was asked for a range"
        );
    });
}

#[test]
fn corrupt_bytes_are_never_kept() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        registry.behave(Behaviour {
            corrupt: true,
            ..Behaviour::default()
        });
        let error = pull(&bench, &registry).await.expect_err("corrupt");
        assert!(matches!(error, PullError::DigestMismatch { .. }), "{error}");
        assert!(error.retryable());
        registry.behave(Behaviour::default());
        let image = pull(&bench, &registry).await.expect("pull");
        let unpacked = image.unpack(&bench.rootfs(), &UnpackLimits::default(), &AtomicBool::new(false));
        unpacked.expect("unpack");
    });
}

#[test]
fn bytes_that_rot_in_a_partial_file_are_fetched_anew() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, layer) = big_image();
        registry.add(&image);
        let partial = bench.directory.path().join("cache/partial").join(layer.hex());
        std::fs::write(&partial, b"this is not how it starts").expect("write");
        pull(&bench, &registry).await.expect("pull");
        let starts: Vec<_> = requests_for(&registry, layer).iter().map(start_of).collect();
        assert_eq!(
            starts,
            [25, 0],
            "the rest first, and when that makes no sense all of it"
        );
    });
}

#[test]
fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        let wanted = Digest::of(b"something else");
        registry.put(&format!("/v2/app/manifests/{wanted}"), image.manifest.clone());
        let reference = format!("{}/app@{wanted}", registry.address)
            .parse()
            .expect("reference");
        let error = bench
            .puller()
            .pull(&reference, &Progress::default())
            .await
            .expect_err("refused");
        match error {
            PullError::DigestMismatch { expected, got, .. } => {
                assert_eq!((expected, got), (wanted, image.digest()));
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn sizes_that_lie_are_refused() {
    for lie in [-1_i64, 1] {
        let bench = Bench::new();
        run(async {
            let registry = TestRegistry::start().await;
            let layer = Tar::new().file("a", "b").finish();
            let size = i64::try_from(layer.len()).expect("small") + lie;
            let image = TestImage::with_manifest(&[layer], |manifest| {
                manifest["layers"][0]["size"] = json!(size);
            });
            registry.add(&image);
            let error = pull(&bench, &registry).await.expect_err("a lie");
            match error {
                // More than promised is the image's fault; less may be the network's.
                PullError::SizeMismatch { .. } => assert_eq!(lie, -1),
                PullError::Network { .. } => assert_eq!(lie, 1),
                other => panic!("{other}"),
            }
        });
    }
}

#[test]
fn an_index_leads_to_the_image_of_this_platform() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        let mut ours = descriptor(
            "application/vnd.docker.distribution.manifest.v2+json",
            &image.manifest,
        );
        ours["platform"] = json!({ "os": "linux", "architecture": Platform::host().architecture });
        let mut other = descriptor("application/vnd.docker.distribution.manifest.v2+json", b"other");
        other["platform"] = json!({ "os": "linux", "architecture": "mips" });
        let index = json!({ "schemaVersion": 2, "manifests": [other, ours] }).to_string();
        registry.put("/v2/app/manifests/v1", index.clone());
        let pulled = pull(&bench, &registry).await.expect("pull");
        assert_eq!(pulled.digest(), image.digest());
        assert_eq!(pulled.reference().digest(), Some(Digest::of(index.as_bytes())));

        let platform = Platform::linux("riscv64");
        let options = PullOptions {
            platform,
            ..PullOptions::default()
        };
        let error = pull_with(&bench, &registry, options, &Progress::default())
            .await
            .expect_err("no such image");
        assert!(matches!(error, PullError::NoPlatform { .. }), "{error}");
    });
}

#[test]
fn docker_manifests_and_manifests_without_media_type_are_read() {
    let layer = gzip(&Tar::new().file("a", "b").finish());
    let docker = TestImage::with_manifest(std::slice::from_ref(&layer), |manifest| {
        manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
        manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    });
    let umoci = TestImage::with_manifest(std::slice::from_ref(&layer), |manifest| {
        manifest.as_object_mut().expect("object").remove("mediaType");
    });
    for image in [docker, umoci] {
        let bench = Bench::new();
        run(async {
            let registry = TestRegistry::start().await;
            registry.add(&image);
            assert_eq!(
                pull(&bench, &registry).await.expect("pull").digest(),
                image.digest()
            );
        });
    }
}

#[test]
fn errors_tell_apart_what_is_missing_and_what_is_down() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let error = pull(&bench, &registry).await.expect_err("no such image");
        assert!(matches!(error, PullError::NotFound { .. }), "{error}");
        assert!(!error.retryable());

        registry.behave(Behaviour {
            status: Some(502),
            ..Behaviour::default()
        });
        let error = pull(&bench, &registry).await.expect_err("down");
        assert!(
            matches!(error, PullError::Status { status: 502, .. }) && error.retryable(),
            "{error}"
        );

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("listen");
        let nobody = listener.local_addr().expect("address");
        drop(listener);
        let reference = format!("{nobody}/app:v1").parse().expect("reference");
        let error = bench
            .puller()
            .pull(&reference, &Progress::default())
            .await
            .expect_err("refused");
        assert!(
            matches!(error, PullError::Network { .. }) && error.retryable(),
            "{error}"
        );
    });
}

#[test]
fn limits_stop_a_pull_before_its_layers_come() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        let default = PullLimits::default();
        for limits in [
            PullLimits {
                image_bytes: 1_000_000,
                ..default
            },
            PullLimits { layers: 1, ..default },
            PullLimits {
                document_bytes: 100,
                ..default
            },
        ] {
            let options = PullOptions {
                limits,
                ..PullOptions::default()
            };
            let error = pull_with(&bench, &registry, options, &Progress::default())
                .await
                .expect_err("too large");
            assert!(
                matches!(error, PullError::TooLarge { .. }) && !error.retryable(),
                "{error}"
            );
        }
        assert_eq!(registry.blob_requests(), []);
    });
}

#[test]
fn localhost_is_replaced_where_that_is_configured() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        let options = PullOptions {
            localhost_replacement: Some(registry.address.to_string().parse().expect("replacement")),
            ..PullOptions::default()
        };
        let reference = "localhost:1/app:v1".parse().expect("reference");
        let pulled = bench
            .puller_with(options)
            .pull(&reference, &Progress::default())
            .await;
        assert_eq!(pulled.expect("pull").digest(), image.digest());
    });
}

#[test]
fn two_pulls_of_one_image_fetch_it_once() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, layer) = big_image();
        registry.add(&image);
        let (first, second) = tokio::join!(pull(&bench, &registry), pull(&bench, &registry));
        first.and(second).expect("both");
        assert_eq!(requests_for(&registry, layer).len(), 1);
    });
}

#[test]
fn what_a_pull_left_can_be_discarded() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        registry.behave(Behaviour {
            cut_after: Some(400_000),
            ..Behaviour::default()
        });
        let progress = Progress::default();
        pull_with(&bench, &registry, PullOptions::default(), &progress)
            .await
            .expect_err("cut");
        let partial = bench.directory.path().join("cache/partial");
        let count = || std::fs::read_dir(&partial).expect("list").count();
        assert!(count() > 0);
        let busy = bench.cache.discard_partials(&progress.blobs()).expect("discard");
        assert_eq!(busy, [].into());
        assert_eq!(count(), 0);
    });
}

#[test]
fn a_blob_that_rots_in_the_cache_is_found_and_pulled_again() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, layer) = big_image();
        registry.add(&image);
        let pulled = pull(&bench, &registry).await.expect("pull");
        let blob = bench
            .directory
            .path()
            .join("cache/blobs/sha256")
            .join(layer.hex());
        let mut content = std::fs::read(&blob).expect("read");
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&blob, content).expect("write");
        let unpack = |image: &holdfast_images::Image, name: &str| {
            let rootfs = bench.directory.path().join(name);
            image.unpack(&rootfs, &UnpackLimits::default(), &AtomicBool::new(false))
        };
        let error = unpack(&pulled, "first").expect_err("rotten");
        assert!(error.needs_pull(), "{error}");
        let again = bench
            .puller()
            .pull(pulled.reference(), &Progress::default())
            .await
            .expect("pull");
        unpack(&again, "second").expect("unpack");
    });
}

#[test]
fn layouts_are_refused_unless_they_are_allowed() {
    let bench = Bench::new();
    let (image, _) = big_image();
    image.write_layout(&bench.directory.path().join("layout"));
    let name = format!("oci:{}:v1", bench.directory.path().join("layout").display());
    let reference = name.parse().expect("reference");
    let puller = holdfast_images::Puller::new(bench.cache.clone(), PullOptions::default());
    let error = run(async { puller.pull(&reference, &Progress::default()).await }).expect_err("refused");
    assert!(
        matches!(&error, PullError::Refused { what, .. } if *what == name),
        "{error}"
    );
    bench.pull(&name).expect("allowed");
}
