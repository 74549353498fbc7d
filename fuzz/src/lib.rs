//! Fuzz targets over every parser of outside bytes, and over the machines of the core.
//!
//! ```text
//! corpus/<target>/* --> targets::<target>::run(bytes): returns, or panics and has found a bug
//!        ^    ^
//!        |    +-- tests/replay.rs: every file, and mutations of it, on every `cargo test`
//!        +------- fuzz_targets/<target>.rs: libFuzzer, for as long as one likes (feature `libfuzzer`)
//! ```
//!
//! A target states what holds for *every* input: it never panics, never reads or writes where it should
//! not, and what it accepts it writes back the same. An input that breaks this is a bug; once mended, it
//! stays in the corpus.
//!
//! `cargo xtask fuzz` plays all of them for a while, without sanitizers and on any toolchain; `cargo fuzz run
//! <target> --features libfuzzer` plays one on and on, with cargo-fuzz and a nightly toolchain. By hand, what is
//! found goes to the directory that comes first:
//!
//! ```text
//! export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing"
//! export CARGO_PROFILE_DEV_OPT_LEVEL=1
//! mkdir -p target/found
//! cargo run -p holdfast-fuzz --features libfuzzer --target x86_64-unknown-linux-gnu --bin manifests -- \
//!   -max_total_time=60 -timeout=5 target/found fuzz/corpus/manifests
//! ```

pub mod feed;
pub mod mutate;
pub mod targets;
pub mod world;

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its module, its binary and its directory in the corpus.
    pub name: &'static str,
    /// Takes the bytes. A panic is a bug in what it tests.
    pub run: fn(&[u8]),
    /// How many mutations of a corpus file are worth their time in a replay.
    pub effort: Effort,
}

/// What one run of a target costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Microseconds: it only looks at the bytes.
    Parse,
    /// Up to some milliseconds: it works with files, or plays a scenario.
    Play,
}

macro_rules! table {
    ($($name:ident: $effort:ident,)*) => {
        /// Every target, by name.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: targets::$name::run,
            effort: Effort::$effort,
        }),*];
    };
}

table! {
    actor_host: Parse,
    actor_log: Play,
    address: Parse,
    call_metadata: Parse,
    core_ids: Parse,
    core_node: Play,
    core_replica: Play,
    core_world: Play,
    docker_config: Play,
    duration: Parse,
    image_layout: Play,
    image_reference: Parse,
    image_unpack: Play,
    manifests: Play,
    node_report: Parse,
    page_token: Parse,
    pods_ledger: Play,
    redis_url: Parse,
    sandbox_names: Parse,
    served_object: Play,
    snapshot_manifest: Parse,
    snapshot_uri: Parse,
    sparse_file: Play,
    status_details: Parse,
    store_key: Parse,
    store_record: Parse,
}

#[cfg(feature = "libfuzzer")]
#[doc(hidden)]
pub use libfuzzer_sys;

/// The entry point of a coverage-guided binary for one target.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! fuzz_binary {
    ($target:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::targets::$target::run(data));
    };
}
