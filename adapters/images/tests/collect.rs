//! What is given back of the cache, and what never is.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast_images::{
    Cache, Digest, Image, Progress, PullOptions, Sharing, Tree, UnpackLimits, Usage, Watermarks,
    WatermarksError,
};
use holdfast_runtime::tokio;
use support::registry::{Behaviour, TestRegistry};
use support::{Bench, Tar, TestImage, big_image, gzip, pull_with, run};

static NEVER: AtomicBool = AtomicBool::new(false);
const ALL: u64 = u64::MAX;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An image of one layer with one file, which nothing else has.
fn image(bench: &Bench, name: &str) -> Image {
    let layout = bench.directory.path().join(format!("layout-{name}"));
    let layer = gzip(&Tar::new().file(name, name.repeat(10_000)).finish());
    TestImage::new(&[layer]).write_layout(&layout);
    bench.pull(&format!("oci:{}:v1", layout.display())).expect("pull")
}

fn unpacked(image: &Image) -> Tree {
    run(image.unpacked(&UnpackLimits::default())).expect("unpack")
}

fn cache_path(bench: &Bench, inside: &str) -> PathBuf {
    bench.directory.path().join("cache").join(inside)
}

fn tree_path(bench: &Bench, image: &Image) -> PathBuf {
    let hex = image.digest().to_string().replace("sha256:", "");
    cache_path(bench, "trees").join(hex)
}

fn count(bench: &Bench, inside: &str) -> usize {
    fs::read_dir(cache_path(bench, inside))
        .expect("directory")
        .count()
}

/// Has a file look as if it was last used so long ago.
fn age(path: &Path, by: Duration) {
    let then = fs::metadata(path).expect("there").modified().expect("time") - by;
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_times(FileTimes::new().set_modified(then)).expect("set");
}

fn age_all_blobs(bench: &Bench, by: Duration) {
    for blob in fs::read_dir(cache_path(bench, "blobs/sha256")).expect("blobs") {
        age(&blob.expect("blob").path(), by);
    }
}

fn is_whole(image: &Image, at: &Path) -> bool {
    image.unpack(at, &UnpackLimits::default(), &NEVER).is_ok()
}

async fn hanging_registry(image: &TestImage) -> TestRegistry {
    let registry = TestRegistry::start().await;
    registry.add(image);
    registry.behave(Behaviour {
        hang_after: Some(640_000),
        ..Behaviour::default()
    });
    registry
}

#[test]
fn layers_of_unpacked_images_go_first_and_then_what_was_used_longest_ago() {
    let bench = Bench::new();
    let (old, new) = (image(&bench, "old"), image(&bench, "new"));
    for image in [&old, &new] {
        drop(unpacked(image));
    }
    age(&tree_path(&bench, &old).join("lease"), 2 * DAY);
    let blobs = count(&bench, "blobs/sha256");

    let collected = bench.cache.collect(1, Duration::ZERO, &NEVER).expect("collect");
    assert_eq!((collected.blobs, collected.trees), (1, 0), "one layer is enough");
    assert!(collected.bytes > 0);
    assert_eq!(count(&bench, "blobs/sha256"), blobs - 1);

    // Documents are younger than a day, and the other layer is spare; then only trees are older than that.
    let collected = bench.cache.collect(ALL, DAY, &NEVER).expect("collect");
    assert_eq!((collected.blobs, collected.trees), (0, 1));
    assert!(!tree_path(&bench, &old).exists() && tree_path(&bench, &new).exists());

    bench.cache.collect(ALL, Duration::ZERO, &NEVER).expect("collect");
    assert_eq!(
        (
            count(&bench, "trees"),
            count(&bench, "blobs/sha256"),
            count(&bench, "unpacking")
        ),
        (0, 0, 0)
    );
}

#[test]
fn an_image_that_a_container_runs_on_is_never_removed_not_even_after_a_restart() {
    let bench = Bench::new();
    let used = image(&bench, "used");
    let bundle = bench.directory.path().join("bundle");
    fs::create_dir(&bundle).expect("bundle");
    let tree = unpacked(&used);
    tree.lay_out(
        &bundle.join("rootfs"),
        &bundle.join("lease"),
        Sharing::Links,
        &NEVER,
    )
    .expect("lay out");
    drop(tree);
    age(&tree_path(&bench, &used).join("lease"), 30 * DAY);

    let after_a_restart = Cache::open(&bench.directory.path().join("cache")).expect("open");
    for cache in [&bench.cache, &after_a_restart] {
        assert_eq!(
            cache.collect(ALL, Duration::ZERO, &NEVER).expect("collect").trees,
            0
        );
        assert!(tree_path(&bench, &used).join("rootfs/used").exists());
    }
    fs::remove_dir_all(&bundle).expect("the container is gone");
    assert_eq!(
        after_a_restart
            .collect(ALL, Duration::ZERO, &NEVER)
            .expect("collect")
            .trees,
        1
    );
}

#[test]
fn what_is_being_taken_or_was_just_used_is_not_removed() {
    let bench = Bench::new();
    let image = image(&bench, "a");
    let tree = unpacked(&image);
    age(&tree_path(&bench, &image).join("lease"), 30 * DAY);
    assert_eq!(
        bench
            .cache
            .collect(ALL, Duration::ZERO, &NEVER)
            .expect("collect")
            .trees,
        0
    );
    assert!(tree_path(&bench, &image).exists(), "somebody holds it");
    drop(tree);

    let rootfs = bench.rootfs();
    unpacked(&image)
        .lay_out(
            &rootfs,
            &bench.directory.path().join("lease"),
            Sharing::Links,
            &NEVER,
        )
        .expect("lay out");
    fs::remove_dir_all(rootfs).expect("gone");
    fs::remove_file(bench.directory.path().join("lease")).expect("gone");
    let minute = Duration::from_secs(60);
    assert_eq!(
        bench.cache.collect(ALL, minute, &NEVER).expect("collect").trees,
        0,
        "used a moment ago"
    );
    assert_eq!(
        bench
            .cache
            .collect(ALL, Duration::ZERO, &NEVER)
            .expect("collect")
            .trees,
        1
    );
}

#[test]
fn nothing_is_removed_that_need_not_be() {
    let bench = Bench::new();
    let image = image(&bench, "a");
    drop(unpacked(&image));
    age_all_blobs(&bench, DAY);
    let collected = bench.cache.collect(0, Duration::ZERO, &NEVER).expect("collect");
    assert_eq!(collected, holdfast_images::Collected::default());
    let stopped = bench
        .cache
        .collect(ALL, Duration::ZERO, &AtomicBool::new(true))
        .expect("collect");
    assert_eq!(stopped, collected);
    assert!(is_whole(&image, &bench.rootfs()));
}

#[test]
fn an_image_whose_layers_are_gone_is_not_pulled_again_while_it_is_unpacked() {
    let bench = Bench::new();
    let first = image(&bench, "a");
    drop(unpacked(&first));
    let collected = bench.cache.collect(1, Duration::ZERO, &NEVER).expect("collect");
    assert_eq!((collected.blobs, collected.trees), (1, 0));
    let layer = count(&bench, "blobs/sha256");
    let again = image(&bench, "a");
    assert_eq!(
        count(&bench, "blobs/sha256"),
        layer,
        "the layer did not come back"
    );
    drop(unpacked(&again));

    bench.cache.collect(ALL, Duration::ZERO, &NEVER).expect("collect");
    assert!(
        run(first.unpacked(&UnpackLimits::default()))
            .expect_err("gone")
            .needs_pull()
    );
    drop(unpacked(&image(&bench, "a")));
}

#[test]
fn beginnings_that_nobody_completed_go_before_anything_else_and_after_a_day_in_any_case() {
    let bench = Bench::new();
    let image = image(&bench, "a");
    let partial = |name: &str| {
        let path = cache_path(&bench, "partial")
            .join(Digest::of(name.as_bytes()).to_string().replace("sha256:", ""));
        fs::write(&path, name.repeat(5000)).expect("partial");
        path
    };
    let (stale, recent) = (partial("stale"), partial("recent"));
    age(&stale, 2 * DAY);
    bench.cache.collect(0, Duration::ZERO, &NEVER).expect("collect");
    assert!(!stale.exists() && recent.exists());
    let collected = bench.cache.collect(1, Duration::ZERO, &NEVER).expect("collect");
    assert_eq!(collected.blobs, 1);
    assert!(!recent.exists() && is_whole(&image, &bench.rootfs()));
}

/// A pull is in the middle of its second layer while everything else is collected.
#[test]
fn what_a_pull_has_brought_so_far_is_not_collected_under_it() {
    let bench = Bench::new();
    let (image, _) = big_image();
    run(async {
        let registry = hanging_registry(&image).await;
        let progress = Progress::default();
        let pulling = pull_with(&bench, &registry, PullOptions::default(), &progress);
        let mut pulling = std::pin::pin!(pulling);
        let mut seen = progress.subscribe();
        tokio::select! {
            biased;
            _ = &mut pulling => panic!("it hangs"),
            _ = seen.wait_for(|counts| counts.done >= 640_000) => {}
        }
        let before = count(&bench, "blobs/sha256");
        bench.cache.collect(ALL, Duration::ZERO, &NEVER).expect("collect");
        assert_eq!(count(&bench, "blobs/sha256"), before);
        assert_eq!(count(&bench, "partial"), 2, "the partial file, and the clock");
    });
}

#[test]
fn a_pull_that_nobody_wants_any_more_leaves_nothing_but_what_others_use() {
    let bench = Bench::new();
    let (image, _) = big_image();
    let neighbour = self::image(&bench, "neighbour");
    let before = count(&bench, "blobs/sha256");
    run(async {
        let registry = hanging_registry(&image).await;
        let progress = Progress::default();
        {
            let pulling = pull_with(&bench, &registry, PullOptions::default(), &progress);
            let mut pulling = std::pin::pin!(pulling);
            let mut seen = progress.subscribe();
            tokio::select! {
                biased;
                _ = &mut pulling => panic!("it hangs"),
                _ = seen.wait_for(|counts| counts.done >= 640_000) => {}
            }
        }
        assert!(count(&bench, "blobs/sha256") > before);
        while !bench.cache.discard(&progress, &BTreeSet::new()).expect("discard") {
            tokio::task::yield_now().await;
        }
        assert_eq!(count(&bench, "blobs/sha256"), before);
        assert_eq!(count(&bench, "partial"), 0);
    });
    assert!(is_whole(&neighbour, &bench.rootfs()));
}

#[test]
fn watermarks_say_how_much_has_to_go() {
    let usage = |used| Usage { used, total: 1000 };
    let marks = Watermarks::new(85, 80).expect("marks");
    assert_eq!(marks, Watermarks::default());
    for (used, excess) in [(0, None), (850, None), (851, Some(51)), (1000, Some(200))] {
        assert_eq!(marks.excess(usage(used)), excess, "{used}");
    }
    assert_eq!(marks.above_low(usage(840)), 40);
    assert_eq!(Watermarks::new(100, 50).expect("marks").excess(usage(1000)), None);
    assert_eq!(Watermarks::new(101, 50), Err(WatermarksError::AboveAll(101)));
    assert_eq!(
        Watermarks::new(50, 51),
        Err(WatermarksError::Crossed { high: 50, low: 51 })
    );
    let now = Bench::new().cache.usage().expect("usage");
    assert!(now.used <= now.total && now.total > 0);
}
