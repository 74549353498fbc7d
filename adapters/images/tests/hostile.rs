//! Layers that mean harm. None of them may reach outside, exceed its limits or go unnoticed.

mod support;

use holdfast_images::{Limit, Refusal, UnpackError, UnpackLimits};
use support::{Bench, Tar, gzip};

/// Unpacks beside a file that must survive and returns the error.
fn refused(layers: &[Vec<u8>], limits: &UnpackLimits) -> UnpackError {
    let bench = Bench::new();
    let outside = bench.directory.path().join("outside");
    std::fs::create_dir(&outside).expect("directory");
    std::fs::write(outside.join("victim"), "untouched").expect("write");
    let error = bench.unpack(layers, limits).expect_err("refused");
    let left: Vec<_> = std::fs::read_dir(&outside).expect("list").collect();
    assert_eq!(left.len(), 1, "{error}");
    assert_eq!(
        std::fs::read(outside.join("victim")).expect("read"),
        b"untouched",
        "{error}"
    );
    error
}

fn refusal(tar: Tar) -> Refusal {
    match refused(&[tar.finish()], &UnpackLimits::default()) {
        UnpackError::Refused { refusal, .. } => refusal,
        other => panic!("{other}"),
    }
}

fn limit(layers: &[Vec<u8>], limits: &UnpackLimits) -> Limit {
    match refused(layers, limits) {
        UnpackError::Limit { limit, .. } => limit,
        other => panic!("{other}"),
    }
}

#[test]
fn names_that_climb_out_are_refused() {
    for name in ["../outside/x", "a/../../outside/x", "..", "a/..", "/../x"] {
        assert_eq!(refusal(Tar::new().file(name, "")), Refusal::Escapes, "{name}");
        assert_eq!(
            refusal(Tar::new().directory(name, 0o755)),
            Refusal::Escapes,
            "{name}"
        );
    }
}

#[test]
fn absolute_names_stay_in_the_root() {
    let bench = Bench::new();
    let victim = bench.directory.path().join("victim");
    let name = victim.display().to_string();
    bench
        .unpack(&[Tar::new().file(&name, "x").finish()], &UnpackLimits::default())
        .expect("unpack");
    assert!(!victim.exists());
    assert!(bench.rootfs().join(name.trim_start_matches('/')).is_file());
}

#[test]
fn writing_through_a_link_that_leads_out_is_refused() {
    for target in ["../outside", "../../../../../../etc", "a/../../outside", ".."] {
        let through = |tar: Tar| {
            refusal(
                Tar::new()
                    .directory("a", 0o755)
                    .symlink("out", target)
                    .file("b", "")
                    .pipe(tar),
            )
        };
        assert_eq!(
            through(Tar::new().file("out/victim", "x")),
            Refusal::Escapes,
            "{target}"
        );
        assert_eq!(
            through(Tar::new().directory("out/victim", 0o755)),
            Refusal::Escapes,
            "{target}"
        );
        assert_eq!(
            through(Tar::new().symlink("out/victim", "x")),
            Refusal::Escapes,
            "{target}"
        );
        assert_eq!(
            through(Tar::new().hardlink("out/victim", "b")),
            Refusal::Escapes,
            "{target}"
        );
        assert_eq!(
            through(Tar::new().hardlink("mine", "out/victim")),
            Refusal::Escapes,
            "{target}"
        );
        assert_eq!(
            through(Tar::new().whiteout("out/.wh.victim")),
            Refusal::Escapes,
            "{target}"
        );
        assert_eq!(
            through(Tar::new().whiteout("out/.wh..wh..opq")),
            Refusal::Escapes,
            "{target}"
        );
    }
}

#[test]
fn an_absolute_link_means_the_root_of_the_image() {
    let bench = Bench::new();
    let outside = bench.directory.path().join("outside");
    std::fs::create_dir(&outside).expect("directory");
    let name = outside.display().to_string();
    let tar = Tar::new()
        .symlink("out", &name)
        .file("out/x", "")
        .whiteout("out/.wh.y");
    bench
        .unpack(&[tar.finish()], &UnpackLimits::default())
        .expect("unpack");
    assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 0);
    assert!(
        bench
            .rootfs()
            .join(name.trim_start_matches('/'))
            .join("x")
            .is_file()
    );
}

#[test]
fn a_link_is_never_written_through_when_it_is_the_last_component() {
    let bench = Bench::new();
    let victim = bench.directory.path().join("victim");
    std::fs::write(&victim, "untouched").expect("write");
    let tar = Tar::new()
        .symlink("out", "../victim")
        .file("out", "x")
        .symlink("dir", "..")
        .directory("dir", 0o777);
    bench
        .unpack(&[tar.finish()], &UnpackLimits::default())
        .expect("unpack");
    assert_eq!(std::fs::read(&victim).expect("read"), b"untouched");
    assert!(
        bench
            .rootfs()
            .join("dir")
            .symlink_metadata()
            .expect("metadata")
            .is_dir()
    );
}

#[test]
fn hard_links_reach_nothing_outside() {
    assert_eq!(
        refusal(Tar::new().hardlink("a", "../outside/victim")),
        Refusal::Escapes
    );
    assert_eq!(
        refusal(Tar::new().hardlink("a", "/etc/hostname")),
        Refusal::LinkTargetMissing
    );
    assert_eq!(refusal(Tar::new().hardlink("a", "b")), Refusal::LinkTargetMissing);
    assert_eq!(
        refusal(Tar::new().directory("d", 0o755).hardlink("a", "d")),
        Refusal::BadLink
    );
    // What is in the way of the link is what holds its target.
    assert_eq!(
        refusal(Tar::new().file("d/f", "").hardlink("d", "d/f")),
        Refusal::LinkTargetMissing
    );
}

#[test]
fn devices_pipes_and_unknown_types_are_refused() {
    for kind in [b'3', b'4', b'6', b'V'] {
        let tar = Tar::new().member(kind, "thing", "", 0o644, b"");
        assert_eq!(refusal(tar), Refusal::Kind(kind));
    }
}

#[test]
fn whiteouts_of_the_root_or_of_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        assert_eq!(refusal(Tar::new().whiteout(name)), Refusal::BadWhiteout, "{name}");
    }
}

#[test]
fn links_in_circles_and_names_below_files_are_refused() {
    assert_eq!(
        refusal(Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "")),
        Refusal::LinkLoop
    );
    assert_eq!(
        refusal(Tar::new().file("f", "").file("f/x", "")),
        Refusal::ParentNotDirectory
    );
    assert_eq!(refusal(Tar::new().symlink("a", "")), Refusal::BadLink);
    assert_eq!(refusal(Tar::new().file("", "")), Refusal::BadName);
    let nul = Tar::new().pax(&[("path", b"a\0b")]).file("x", "");
    assert_eq!(refusal(nul), Refusal::BadName);
}

#[test]
fn each_limit_is_enforced_and_named() {
    let default = UnpackLimits::default();
    let file = |bytes: usize| Tar::new().file("f", vec![0; bytes]).finish();
    let bytes = UnpackLimits {
        bytes: 1 << 20,
        ..default
    };
    assert_eq!(limit(&[gzip(&file(2 << 20))], &bytes), Limit::Bytes);
    assert_eq!(
        limit(&[file(600 << 10), file(600 << 10)], &bytes),
        Limit::Bytes,
        "all layers count"
    );
    let file_bytes = UnpackLimits {
        file_bytes: 1 << 20,
        ..default
    };
    assert_eq!(limit(&[file((1 << 20) + 1)], &file_bytes), Limit::FileBytes);
    let entries = UnpackLimits {
        entries: 3,
        ..default
    };
    let four = Tar::new()
        .file("a", "")
        .file("b", "")
        .file("c", "")
        .file("d", "")
        .finish();
    assert_eq!(limit(&[four], &entries), Limit::Entries);
    assert_eq!(
        limit(&[Tar::new().file("a/b/c/d", "").finish()], &entries),
        Limit::Entries,
        "implied ones count"
    );
    let path = UnpackLimits {
        path_bytes: 50,
        ..default
    };
    let deep = format!("{}/{}", "a".repeat(30), "b".repeat(30));
    assert_eq!(
        limit(&[Tar::new().file(&deep, "").finish()], &path),
        Limit::PathBytes
    );
    assert_eq!(
        limit(&[Tar::new().symlink("a", &deep).finish()], &path),
        Limit::PathBytes
    );
}

#[test]
fn links_cannot_be_stacked_past_the_limits_of_a_path() {
    let deep = "d/".repeat(200);
    let tar = Tar::new()
        .pax(&[("path", deep.as_bytes())])
        .directory("x", 0o755)
        .pax(&[("linkpath", deep.as_bytes())])
        .symlink("l", "x")
        .pax(&[("path", format!("l/{deep}").as_bytes())])
        .directory("x", 0o755);
    assert_eq!(limit(&[tar.finish()], &UnpackLimits::default()), Limit::PathDepth);
    let long_name = Tar::new()
        .pax(&[("path", "n".repeat(256).as_bytes())])
        .file("x", "");
    assert_eq!(
        limit(&[long_name.finish()], &UnpackLimits::default()),
        Limit::NameBytes
    );
}

#[test]
fn extension_records_are_not_collected_without_bound() {
    let record = vec![b'x'; 2 << 20];
    for kind in [b'L', b'K', b'x', b'g'] {
        let tar = Tar::new().member(kind, "ext", "", 0, &record).file("a", "");
        assert_eq!(
            limit(&[tar.finish()], &UnpackLimits::default()),
            Limit::ExtensionBytes
        );
    }
    // Nor many small ones for one member.
    let many = (0..2_000).fold(Tar::new(), |tar, _| tar.member(b'g', "ext", "", 0, &[b'x'; 600]));
    assert_eq!(
        limit(&[many.file("a", "").finish()], &UnpackLimits::default()),
        Limit::ExtensionBytes
    );
}

#[test]
fn a_hole_counts_like_what_it_stands_for() {
    let mut header = tar::Header::new_gnu();
    header.set_path("hole").expect("path");
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    let size = format!("{:011o}\0", 4_u64 << 30);
    header
        .as_gnu_mut()
        .expect("GNU")
        .realsize
        .copy_from_slice(size.as_bytes());
    header.set_cksum();
    let mut tar = Tar::new();
    tar.raw(header.as_bytes());
    let limits = UnpackLimits {
        bytes: 1 << 30,
        ..UnpackLimits::default()
    };
    assert_eq!(limit(&[tar.finish()], &limits), Limit::Bytes);
}

#[test]
fn broken_archives_are_malformed_and_never_a_panic() {
    let good = Tar::new().file("a", vec![1; 2000]).file("b", "x").finish();
    let mut bad_sum = good.clone();
    bad_sum[0] ^= 1;
    let mut garbage_gzip = gzip(&good);
    let middle = garbage_gzip.len() / 2;
    garbage_gzip.truncate(middle);
    let pax = |records: &[u8]| {
        Tar::new()
            .member(b'x', "pax", "", 0, records)
            .file("a", "")
            .finish()
    };
    for layer in [
        good[..1000].to_vec(),
        good[..700].to_vec(),
        bad_sum,
        garbage_gzip,
        b"hello".to_vec(),
        pax(b"99 path=a\n"),
        pax(b"0 path=a\n"),
        pax(b"5 a\n"),
        pax(b"18446744073709551616 path=a\n"),
        pax(b"x"),
        pax(b"10 size=x\n"),
        pax(b"22 GNU.sparse.major=1\n"),
        Tar::new()
            .pax(&[("size", b"18446744073709551615")])
            .file("a", "")
            .finish(),
    ] {
        let limits = UnpackLimits {
            file_bytes: u64::MAX,
            bytes: u64::MAX,
            ..UnpackLimits::default()
        };
        let error = refused(&[layer], &limits);
        assert!(matches!(error, UnpackError::Malformed { .. }), "{error}");
    }
}

trait Pipe {
    fn pipe(self, next: Tar) -> Tar;
}

impl Pipe for Tar {
    /// The members of both.
    fn pipe(mut self, next: Tar) -> Tar {
        let mut bytes = next.finish();
        bytes.truncate(bytes.len() - 1024);
        self.raw(&bytes);
        self
    }
}
