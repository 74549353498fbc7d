//! Arrows point down only: bins -> adapters -> core, sim -> core and adapters, model -> core, `ate` -> sim.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{assert_none, root};

/// Crates from outside that the core may use: none. One that joins them has to be `no_std`, free of clocks,
/// randomness and async, and a decision worth a record in docs/decisions.
const CORE_MAY_USE: [&str; 0] = [];

/// The command line, which plays the simulator too. What serves does not carry it about.
const COMMAND_LINE: &str = "bins/ate";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Core,
    Adapters,
    Bins,
    Sim,
    Model,
    Tests,
    Workloads,
    Fuzz,
    Xtask,
}

impl Layer {
    fn of(directory: &str) -> Option<Self> {
        Some(match directory.split('/').next()? {
            "core" => Self::Core,
            "adapters" => Self::Adapters,
            "bins" => Self::Bins,
            "sim" => Self::Sim,
            "model" => Self::Model,
            "tests" if directory == "tests/workloads" => Self::Workloads,
            "tests" => Self::Tests,
            "fuzz" => Self::Fuzz,
            "xtask" => Self::Xtask,
            _ => return None,
        })
    }

    /// What a crate of this layer may be built from.
    fn may_use(self) -> &'static [Self] {
        match self {
            Self::Core | Self::Workloads | Self::Xtask => &[],
            Self::Adapters => &[Self::Core, Self::Adapters],
            // What is checked is the core, and nothing that is not.
            Self::Model => &[Self::Core],
            // Its small world is also what bytes play.
            Self::Fuzz => &[Self::Core, Self::Adapters, Self::Model],
            Self::Bins | Self::Sim | Self::Tests => &[Self::Core, Self::Adapters],
        }
    }

    /// What its tests may use beyond that.
    fn tests_may_use(self) -> &'static [Self] {
        match self {
            Self::Core | Self::Model | Self::Workloads | Self::Xtask => &[],
            _ => &[Self::Tests],
        }
    }
}

/// One crate as its manifest has it.
struct Package {
    name: String,
    directory: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    /// The directory of a crate of this workspace.
    directory: Option<String>,
    for_tests: bool,
}

#[test]
fn dependencies_point_down() {
    let violations: Vec<_> = packages().iter().flat_map(wrong_dependencies).collect();
    assert_none("dependencies that point the wrong way", &violations);
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().expect("a string in cargo metadata").to_owned();
    let workspace = text(&metadata["workspace_root"]);
    let inside = |path: &str| {
        let relative = Path::new(path)
            .strip_prefix(&workspace)
            .expect("a path in the workspace");
        relative.to_str().expect("UTF-8").to_owned()
    };
    let packages = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let manifest = text(&package["manifest_path"]);
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            Package {
                name: text(&package["name"]),
                directory: inside(manifest.strip_suffix("/Cargo.toml").expect("a manifest")),
                dependencies: dependencies
                    .map(|dependency| Dependency {
                        name: text(&dependency["name"]),
                        directory: dependency["path"].as_str().map(inside),
                        for_tests: dependency["kind"] == "dev",
                    })
                    .collect(),
            }
        });
    packages.collect()
}

fn wrong_dependencies(package: &Package) -> Vec<String> {
    let Some(layer) = Layer::of(&package.directory) else {
        return vec![format!(
            "{} lies in {}, which is no layer",
            package.name, package.directory
        )];
    };
    let allowed = |dependency: &Dependency| match &dependency.directory {
        Some(directory) => Layer::of(directory).is_some_and(|used| {
            layer.may_use().contains(&used)
                || dependency.for_tests && layer.tests_may_use().contains(&used)
                || used == Layer::Sim && package.directory == COMMAND_LINE
        }),
        None if dependency.for_tests => layer != Layer::Workloads,
        None => match layer {
            Layer::Core => CORE_MAY_USE.contains(&dependency.name.as_str()),
            Layer::Workloads => false,
            // One crate decides whether tokio is the real one or the simulator's.
            _ => package.directory == "adapters/runtime" || !is_runtime(&dependency.name),
        },
    };
    let wrong = package
        .dependencies
        .iter()
        .filter(|dependency| !allowed(dependency));
    wrong
        .map(|dependency| format!("{} ({layer:?}) uses {}", package.name, dependency.name))
        .collect()
}

fn is_runtime(name: &str) -> bool {
    ["tokio", "madsim", "async-std", "smol"].contains(&name) || name.starts_with("madsim-")
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let uses = |directory: &str, name: &str, used: Option<&str>, for_tests| {
        let dependency = Dependency {
            name: name.into(),
            directory: used.map(str::to_owned),
            for_tests,
        };
        wrong_dependencies(&Package {
            name: "package".into(),
            directory: directory.into(),
            dependencies: vec![dependency],
        })
        .is_empty()
    };
    assert!(uses("adapters/store", "holdfast-core", Some("core"), false));
    assert!(uses("adapters/store", "holdfast-tests", Some("tests"), true));
    assert!(uses("adapters/runtime", "tokio", None, false));
    assert!(uses("core", "proptest", None, true));
    assert!(uses("model", "holdfast-core", Some("core"), false));
    assert!(uses("fuzz", "holdfast-model", Some("model"), false));
    assert!(uses("bins/ate", "holdfast-sim", Some("sim"), false));

    assert!(!uses("core", "holdfast-runtime", Some("adapters/runtime"), false));
    assert!(!uses("core", "holdfast-tests", Some("tests"), true));
    assert!(!uses("core", "rand", None, false));
    assert!(!uses("adapters/store", "ateapi", Some("bins/ateapi"), false));
    assert!(!uses("adapters/store", "holdfast-tests", Some("tests"), false));
    assert!(!uses("adapters/store", "holdfast-sim", Some("sim"), true));
    assert!(!uses("adapters/store", "tokio", None, false));
    assert!(!uses("bins/ateapi", "holdfast-sim", Some("sim"), false));
    assert!(!uses("sim", "ateapi", Some("bins/ateapi"), false));
    assert!(!uses("model", "holdfast-sim", Some("sim"), false));
    assert!(!uses("model", "holdfast-store", Some("adapters/store"), false));
    assert!(!uses("tests/workloads", "libc", None, false));
    assert!(!uses("xtask", "holdfast-core", Some("core"), false));
    assert!(!uses("elsewhere", "serde", None, false));
}
