//! Images on the disk of a node: unpacked once, and in use for as long as a container runs on them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::SNAPSHOT;
use crate::rig::{Rig, a1, gone};

fn trees(rig: &Rig) -> Vec<PathBuf> {
    let trees = fs::read_dir(rig.path("base/images/trees")).unwrap();
    trees.map(|tree| tree.unwrap().path()).collect()
}

fn programs(rig: &Rig) -> Vec<u64> {
    let bundles = rig.path("base/actors/team-a/ns:counter:a1/bundles");
    let inode = |file: &str| fs::metadata(bundles.join(file)).unwrap().ino();
    vec![inode("pause/rootfs/pause"), inode("main/rootfs/app")]
}

#[tokio::test]
async fn a_wake_up_reads_no_layer_and_gets_the_files_of_the_boot() {
    let (mut rig, _ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    let before = programs(&rig);
    assert_eq!(trees(&rig).len(), 2, "one for pause, one for the container");
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    for layer in fs::read_dir(rig.path("base/images/blobs/sha256")).unwrap() {
        let layer = layer.unwrap().path();
        // Documents are read with every pull; what is no JSON is a layer.
        if !fs::read(&layer).unwrap().starts_with(b"{") {
            fs::remove_file(layer).unwrap();
        }
    }
    rig.kill_node().await;
    rig.start_node().await;
    fs::remove_dir_all(rig.path("layout/blobs")).unwrap();
    rig.restore(a1(3), SNAPSHOT).await.unwrap();
    assert_eq!(programs(&rig), before);
}

#[tokio::test]
async fn an_image_is_in_use_until_the_actor_that_runs_on_it_sleeps() {
    let (rig, _ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    let links = |tree: &PathBuf| fs::metadata(tree.join("lease")).unwrap().nlink();
    let all = trees(&rig);
    assert_eq!(all.iter().map(links).collect::<Vec<_>>(), [2, 2]);
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    gone(&rig.path("base/actors/team-a/ns:counter:a1/bundles/main")).await;
    gone(&rig.path("base/actors/team-a/ns:counter:a1/bundles/pause")).await;
    assert_eq!(all.iter().map(links).collect::<Vec<_>>(), [1, 1]);
}
