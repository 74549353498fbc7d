//! Proof that the core does without the standard library.
//!
//! It is compiled against a sysroot that has `core` and `alloc` and no `std`: whatever asks for `std`, also
//! in a dependency, does not compile. (A target such as `wasm32-unknown-unknown` would prove less: it has a
//! `std` that compiles and fails when it is called.)

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::step::{Step, root};

const LIBRARIES: [&str; 3] = ["core", "alloc", "compiler_builtins"];
const WASM: &str = "wasm32-unknown-unknown";

/// The check of the core without `std`, after the sysroot for it is laid out in `target/`.
pub fn step() -> Result<Step> {
    let host = ask("--print=host-tuple")?;
    let from = ask("--print=sysroot")?;
    let libraries = Path::new("lib/rustlib").join(&host).join("lib");
    let sysroot = root().join("target/no-std-sysroot");
    lay_out(&Path::new(&from).join(&libraries), &sysroot.join(&libraries))?;
    let sysroot = sysroot.canonicalize()?;
    // With an explicit target the flags reach the core and its dependencies, not what runs at build time.
    let step = Step::cargo("check --package holdfast-core --target").args([host]);
    Ok(step.env("RUSTFLAGS", format!("--sysroot={}", sysroot.display())))
}

/// The check of the core on a 32-bit machine without an operating system, where the toolchain has one.
pub fn wasm_step() -> Option<Step> {
    let directory = Step::new("rustc")
        .args(["--print=target-libdir", "--target", WASM])
        .answer()?;
    Path::new(directory.trim())
        .is_dir()
        .then(|| Step::cargo("check --package holdfast-core --target").args([WASM]))
}

fn lay_out(from: &Path, to: &Path) -> Result<()> {
    // Anew every time: the toolchain may have changed.
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    let mut found = 0;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name
            .to_str()
            .and_then(|name| name.strip_prefix("lib")?.split_once('-'));
        if stem.is_some_and(|(library, _hash)| LIBRARIES.contains(&library)) {
            symlink(entry.path(), to.join(&name))?;
            found += 1;
        }
    }
    ensure!(
        found >= LIBRARIES.len(),
        "the toolchain lacks one of {LIBRARIES:?} in {}",
        from.display()
    );
    Ok(())
}

fn ask(option: &str) -> Result<String> {
    let answer = Step::new("rustc").args([option]).answer();
    Ok(answer
        .with_context(|| format!("rustc {option} has no answer"))?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sysroot_has_core_and_alloc_and_no_std() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        for library in [
            "core",
            "alloc",
            "compiler_builtins",
            "std",
            "rustc_std_workspace_core",
        ] {
            fs::write(from.join(format!("lib{library}-0123.rlib")), "").unwrap();
        }
        lay_out(&from, &to).unwrap();
        lay_out(&from, &to).unwrap();
        let names = fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(
            names,
            [
                "liballoc-0123.rlib",
                "libcompiler_builtins-0123.rlib",
                "libcore-0123.rlib"
            ]
        );
        fs::remove_file(from.join("libcore-0123.rlib")).unwrap();
        assert!(lay_out(&from, &to).is_err());
    }
}
