//! What holds for every layer, honest or not.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use holdfast_images::UnpackLimits;
use proptest::prelude::*;
use support::{Bench, Tar};

/// One entry of a layer over a small tree of directories `a`, `b` and files `x`, `y`.
#[derive(Clone, Debug)]
enum Change {
    File(String),
    Directory(String),
    Whiteout(String),
    Opaque(String),
}

fn directory() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..3).prop_map(|parts| parts.join("/"))
}

fn path(last: &'static [&'static str]) -> impl Strategy<Value = String> {
    (directory(), prop::sample::select(last)).prop_map(|(directory, last)| join(&directory, last))
}

fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        directory => format!("{directory}/{name}"),
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => path(&["x", "y"]).prop_map(Change::File),
        1 => path(&["a", "b"]).prop_map(Change::Directory),
        2 => path(&["a", "b", "x", "y"]).prop_map(Change::Whiteout),
        1 => directory().prop_map(Change::Opaque),
    ]
}

fn layer_of(changes: &[Change], content: &str) -> Vec<u8> {
    let write = |tar: Tar, change: &Change| match change {
        Change::File(path) => tar.file(path, content),
        Change::Directory(path) => tar.directory(path, 0o755),
        Change::Opaque(path) => tar.whiteout(&join(path, ".wh..wh..opq")),
        Change::Whiteout(path) => {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            tar.whiteout(&join(directory, &format!(".wh.{name}")))
        }
    };
    changes.iter().fold(Tar::new(), write).finish()
}

/// The specification: first a layer's whiteouts hide what is below, then its entries are added. Files map
/// to their content, directories to nothing.
fn apply(tree: &mut BTreeMap<String, Option<String>>, changes: &[Change], content: &str) {
    for change in changes {
        match change {
            Change::Whiteout(path) => {
                let below = format!("{path}/");
                tree.retain(|other, _| other != path && !other.starts_with(&below));
            }
            Change::Opaque(path) => {
                let below = join(path, "");
                tree.retain(|other, _| !other.starts_with(&below));
            }
            Change::File(_) | Change::Directory(_) => {}
        }
    }
    for change in changes {
        let (path, file) = match change {
            Change::File(path) => (path, Some(content.to_owned())),
            Change::Directory(path) => (path, None),
            Change::Whiteout(_) | Change::Opaque(_) => continue,
        };
        for (slash, _) in path.match_indices('/') {
            tree.insert(path[..slash].to_owned(), None);
        }
        tree.insert(path.clone(), file);
    }
}

fn read_tree(root: &Path, below: &str, found: &mut BTreeMap<String, Option<String>>) {
    for entry in std::fs::read_dir(root.join(below)).expect("list") {
        let entry = entry.expect("entry");
        let path = join(below, &entry.file_name().into_string().expect("text"));
        if entry.file_type().expect("type").is_dir() {
            found.insert(path.clone(), None);
            read_tree(root, &path, found);
        } else {
            let content = std::fs::read_to_string(entry.path()).expect("read");
            found.insert(path, Some(content));
        }
    }
}

/// Few enough names that links are often gone through, and enough ways out.
fn wild_layer() -> impl Strategy<Value = Vec<u8>> {
    let names = vec![
        "a",
        "a/b",
        "a/victim",
        "a/outside/victim",
        "b",
        "b/a/victim",
        "b/.wh.victim",
        "a/.wh..wh..opq",
    ];
    let targets = vec![
        "..",
        "../outside",
        "../../outside",
        "a/..",
        "a",
        "../outside/victim",
        "b/victim",
        "/",
    ];
    let kind = prop::sample::select(b"01225".to_vec());
    let member = (kind, prop::sample::select(names), prop::sample::select(targets));
    prop::collection::vec(member, 1..10).prop_map(|members| {
        let write = |tar: Tar, (kind, name, link): (u8, &str, &str)| tar.member(kind, name, link, 0o777, b"");
        members.into_iter().fold(Tar::new(), write).finish()
    })
}

proptest! {
    #[test]
    fn layers_become_what_the_specification_says_in_whatever_order_their_entries_come(
        layers in prop::collection::vec(prop::collection::vec(change(), 0..8), 1..4)
    ) {
        let bench = Bench::new();
        let mut expected = BTreeMap::new();
        let mut archives = Vec::new();
        for (number, changes) in layers.iter().enumerate() {
            apply(&mut expected, changes, &number.to_string());
            archives.push(layer_of(changes, &number.to_string()));
        }
        bench.unpack(&archives, &UnpackLimits::default()).expect("unpack");
        let mut found = BTreeMap::new();
        read_tree(&bench.rootfs(), "", &mut found);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn nothing_in_any_layer_reaches_outside(layers in prop::collection::vec(wild_layer(), 1..3)) {
        let bench = Bench::new();
        let outside = bench.directory.path().join("outside");
        std::fs::create_dir(&outside).expect("directory");
        std::fs::write(outside.join("victim"), "untouched").expect("write");
        // Most are refused, some are not: either is fine, getting out is not.
        let _ = bench.unpack(&layers, &UnpackLimits::default());
        let mut found = BTreeMap::new();
        read_tree(&outside, "", &mut found);
        prop_assert_eq!(found, BTreeMap::from([("victim".to_owned(), Some("untouched".to_owned()))]));
        let beside = std::fs::read_dir(bench.directory.path()).expect("list").count();
        prop_assert_eq!(beside, 4, "cache, layout, outside and the root, and nothing else");
    }

    #[test]
    fn no_damage_to_an_archive_makes_unpacking_panic(at in 0_usize..4096, with in any::<u8>(), cut in 0_usize..6000) {
        let mut layer = Tar::new()
            .pax(&[("path", b"long"), ("size", b"600")])
            .file("a", vec![1; 600])
            .symlink("l", "a")
            .hardlink("h", "a")
            .finish();
        let at = at % layer.len();
        layer[at] = with;
        layer.truncate(cut.max(1));
        let _ = Bench::new().unpack(&[layer], &UnpackLimits::default());
    }
}
