//! The watch over what tests leave behind.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use holdfast_tests::leftovers::Watch;
use holdfast_tests::process::Process;

#[test]
fn a_process_is_a_leftover_while_it_lives() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let marker = directory.path().to_string_lossy().into_owned();
    let watch = Watch::begin(&[&marker])?;
    let file = directory.path().join("followed").to_string_lossy().into_owned();
    std::fs::write(&file, "")?;
    let mut process = Process::spawn("tail", directory.path(), Command::new("tail").args(["-f", &file]))?;
    let leaked = process.wait_until("it to be seen", Duration::from_secs(10), |_| {
        let leaked = watch.leaked()?;
        Ok((!leaked.is_empty()).then_some(leaked))
    })?;
    assert_eq!(leaked, [format!("process {}: tail -f {file}", process.id())]);
    let error = format!("{:#}", watch.verify(Duration::ZERO).unwrap_err());
    assert!(error.contains(&leaked[0]), "{error}");
    process.kill()?;
    watch.verify(Duration::from_secs(10))
}

#[test]
fn a_namespace_with_a_link_a_mount_and_a_table_are_leftovers_until_removed() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make namespaces, links, mounts and firewall tables");
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let name = format!("hf{}", std::process::id());
    let mount = directory.path().join(&name);
    std::fs::create_dir(&mount)?;
    let mount = mount.to_string_lossy().into_owned();
    let watch = Watch::begin(&[&name])?;
    let leaked = make(&name, &mount).and_then(|()| watch.leaked());
    unmake(&name, &mount);

    let leaked = leaked?;
    for expected in [
        format!("network namespace {name}"),
        format!("link {name}"),
        format!("mount {mount} (tmpfs)"),
        format!("firewall table inet {name}"),
    ] {
        assert!(leaked.contains(&expected), "{expected} is not among {leaked:?}");
    }
    watch.verify(Duration::from_secs(10))
}

fn make(name: &str, mount: &str) -> Result<()> {
    run("ip", &["netns", "add", name])?;
    run(
        "ip",
        &[
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            &format!("{name}p"),
        ],
    )?;
    run("mount", &["-t", "tmpfs", "none", mount])?;
    run("nft", &["add", "table", "inet", name])
}

/// Removes what was made, however far that got: the watch then tells what was missed.
fn unmake(name: &str, mount: &str) {
    let _ = run("nft", &["delete", "table", "inet", name]);
    let _ = run("umount", &[mount]);
    let _ = run("ip", &["link", "delete", name]);
    let _ = run("ip", &["netns", "delete", name]);
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        error.trim()
    );
    Ok(())
}
