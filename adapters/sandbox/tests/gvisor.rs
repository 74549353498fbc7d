//! Actors in real gVisor sandboxes. Needs root, runsc, ip and nft.

#[path = "worker/network.rs"]
mod network;
mod worker;

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc;

use holdfast_sandbox::names::PAUSE;
use holdfast_sandbox::runsc::RunscError;
use holdfast_sandbox::{Activation, Fate, SandboxError, Scope, sweep};
use rustix::process::{Pid, Signal, kill_process};
use worker::{RUNSC, Worker, get};

fn sandbox_pid(activation: &Activation) -> Pid {
    let text = fs::read_to_string(activation.dirs.pidfile(PAUSE)).unwrap();
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

#[test]
fn memory_goes_on_after_a_checkpoint_and_a_restore_and_another() {
    let worker = Worker::new(1);
    let driver = worker.driver();
    let mut activation = worker.counter("memory");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    let first = worker.count();
    assert_eq!((first.count, first.actor.as_str()), (1, "memory"));

    for round in 1..=2 {
        let files = worker.inside(|| sandbox.checkpoint(Scope::Full)).unwrap();
        assert_eq!(files, ["checkpoint.img", "pages.img", "pages_meta.img"]);
        assert!(sandbox.exited().is_some());
        activation = worker.carry_over(&activation.dirs, || worker.counter("memory"));
        sandbox = worker
            .inside(|| driver.restore(&activation, Scope::Full))
            .unwrap();
        let counted = worker.count();
        assert_eq!((counted.count, &counted.nonce), (round + 1, &first.nonce));
    }
    sandbox.stop().unwrap();
}

#[test]
fn two_activations_leave_nothing_behind() {
    let worker = Worker::new(2);
    let driver = worker.driver();
    for actor in ["first", "second"] {
        let activation = worker.counter(actor);
        let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
        assert_eq!(worker.count().actor, actor);
        assert!(!worker.processes().is_empty(), "the check would see them");
        sandbox.stop().unwrap();
        sandbox.stop().unwrap();
        assert_eq!(worker.processes(), Vec::<String>::new());
        assert_eq!(worker.mounts(), Vec::<String>::new());
        assert_eq!(fs::read_dir(activation.dirs.runsc_state()).unwrap().count(), 0);
        let refused = get(worker.pod.address(), "/").unwrap_err();
        assert_eq!(
            refused.kind(),
            io::ErrorKind::ConnectionRefused,
            "an idle worker refuses at once"
        );
    }
    assert!(worker.packet_filter().is_some());
    assert!(worker.links().contains(&"ateom0".to_owned()));
    worker.remove_network();
    worker.remove_network();
    assert_eq!(worker.packet_filter(), None);
    assert_eq!(worker.links(), ["lo", "eth0"]);
    let netns = holdfast_sandbox::network::interior_netns(&worker.uid);
    assert!(!netns.exists());
}

#[test]
fn the_death_of_a_sandbox_is_told_at_once_and_a_checkpoint_of_it_is_refused() {
    let worker = Worker::new(3);
    let driver = worker.driver();
    let activation = worker.counter("killed");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    let (tell, told) = mpsc::channel();
    sandbox.on_exit(move |status| tell.send(status).unwrap());
    kill_process(sandbox_pid(&activation), Signal::KILL).unwrap();
    assert_eq!(told.recv().unwrap().signal(), Some(9));

    let error = worker.inside(|| sandbox.checkpoint(Scope::Full)).unwrap_err();
    assert_eq!(error.sandbox, Fate::Dead);
    assert!(
        matches!(error.cause, SandboxError::Runsc(RunscError::SandboxDied { .. })),
        "{error}"
    );
    assert!(error.cause.is_sandbox_failure());
    assert_eq!(
        worker.processes(),
        Vec::<String>::new(),
        "its remains are gone as well"
    );
    let again = worker.counter("killed");
    worker.inside(|| driver.run(&again)).unwrap().stop().unwrap();
}

#[test]
fn a_hung_sandbox_is_ended_like_any_other() {
    let worker = Worker::new(4);
    let driver = worker.driver();
    let activation = worker.counter("hung");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    kill_process(sandbox_pid(&activation), Signal::STOP).unwrap();
    sandbox.stop().unwrap();
    assert_eq!(worker.processes(), Vec::<String>::new());
}

#[test]
fn a_frozen_sandbox_answers_nobody_and_its_checkpoint_goes_on_when_restored() {
    let worker = Worker::new(5);
    let driver = worker.driver();
    let activation = worker.counter("frozen");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    let first = worker.count();
    worker
        .inside(|| sandbox.freeze().and_then(|()| sandbox.freeze()))
        .unwrap();
    assert!(worker.inside(frozen_probe).is_err());
    worker
        .inside(|| sandbox.thaw().and_then(|()| sandbox.thaw()))
        .unwrap();
    assert_eq!(worker.count().nonce, first.nonce);

    let before = worker.count().count;
    worker
        .inside(|| sandbox.freeze().map(|()| sandbox.checkpoint(Scope::Full)))
        .unwrap()
        .unwrap();
    let activation = worker.carry_over(&activation.dirs, || worker.counter("frozen"));
    let mut sandbox = worker
        .inside(|| driver.restore(&activation, Scope::Full))
        .unwrap();
    let after = worker.count();
    assert_eq!((after.count, after.nonce), (before + 1, first.nonce));
    sandbox.stop().unwrap();
}

/// A request that gives up soon: nobody will answer it.
fn frozen_probe() -> io::Result<usize> {
    use std::io::{Read, Write};
    let address = (holdfast_sandbox::network::ACTOR_ADDRESS, 80).into();
    let limit = std::time::Duration::from_millis(300);
    let mut stream = std::net::TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /peek HTTP/1.1\r\nHost: a\r\n\r\n")?;
    stream.read(&mut [0; 64])
}

#[test]
fn a_data_snapshot_keeps_files_and_forgets_memory_and_a_full_one_keeps_both() {
    let worker = Worker::new(6);
    let driver = worker.driver();
    let activation = worker.counter_with_data("data");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    let first = worker.count();
    let files = worker.inside(|| sandbox.checkpoint(Scope::Data)).unwrap();
    assert_eq!(files, [holdfast_sandbox::DURABLE_DIR_ARCHIVE]);

    let activation = worker.carry_over(&activation.dirs, || worker.counter_with_data("data"));
    let mut sandbox = worker
        .inside(|| driver.restore(&activation, Scope::Data))
        .unwrap();
    let second = worker.count();
    assert_eq!(second.count, first.count + 1);
    assert_ne!(second.nonce, first.nonce, "it started anew");

    let files = worker.inside(|| sandbox.checkpoint(Scope::Full)).unwrap();
    assert!(files.contains(&"durable-dir.tar".to_owned()) && files.contains(&"checkpoint.img".to_owned()));
    let activation = worker.carry_over(&activation.dirs, || worker.counter_with_data("data"));
    let mut sandbox = worker
        .inside(|| driver.restore(&activation, Scope::Full))
        .unwrap();
    let third = worker.count();
    assert_eq!((third.count, third.nonce), (second.count + 1, second.nonce));
    let on_disk = fs::read_to_string(activation.dirs.durable_dirs().join("data/count")).unwrap();
    assert!(on_disk.contains(&third.count.to_string()), "{on_disk}");
    sandbox.stop().unwrap();
}

#[test]
fn an_actor_without_data_has_no_data_snapshot_and_goes_on() {
    let worker = Worker::new(7);
    let driver = worker.driver();
    let activation = worker.counter("nodata");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    let error = worker.inside(|| sandbox.checkpoint(Scope::Data)).unwrap_err();
    assert_eq!(error.sandbox, Fate::Alive);
    assert!(
        error
            .to_string()
            .starts_with("no durable-dir volumes found for DATA snapshot"),
        "{error}"
    );
    assert_eq!(worker.count().count, 1);
    sandbox.stop().unwrap();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let worker = Worker::new(8);
    let driver = worker.driver();
    let activation = worker.counter("broken");
    fs::remove_file(activation.dirs.rootfs("main").join("counter")).unwrap();
    let error = worker.inside(|| driver.run(&activation)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("runsc run main failed") && text.contains("/counter"),
        "{text}"
    );
    assert_eq!(worker.processes(), Vec::<String>::new());

    let activation = worker.counter("broken");
    for file in ["checkpoint.img", "pages.img", "pages_meta.img"] {
        fs::write(activation.dirs.restore_state().join(file), "garbage").unwrap();
    }
    let error = worker
        .inside(|| driver.restore(&activation, Scope::Full))
        .unwrap_err();
    assert!(error.is_sandbox_failure(), "{error}");
    assert_eq!(worker.processes(), Vec::<String>::new());

    let nowhere = Activation {
        runsc: Some("/nonexistent/runsc".into()),
        ..worker.counter("broken")
    };
    let error = worker.inside(|| driver.run(&nowhere)).unwrap_err();
    assert!(
        !error.is_sandbox_failure() && error.to_string().contains("/nonexistent/runsc"),
        "{error}"
    );
}

#[test]
fn a_data_snapshot_of_another_kind_is_not_taken_for_an_empty_one() {
    let worker = Worker::new(11);
    let driver = worker.driver();
    let activation = worker.counter_with_data("foreign");
    fs::write(activation.dirs.restore_state().join("fs.img"), "x").unwrap();
    let error = worker
        .inside(|| driver.restore(&activation, Scope::Data))
        .unwrap_err();
    assert!(error.to_string().contains("holds no durable-dir.tar"), "{error}");
    assert!(!error.is_sandbox_failure());
}

#[test]
fn a_checkpoint_for_which_there_is_no_room_harms_nobody() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let worker = Worker::new(13);
    let disk = worker.layout.static_files().parent().unwrap().to_owned();
    mount("none", &disk, "tmpfs", MountFlags::empty(), Some(c"size=64m")).unwrap();
    let driver = worker.driver();
    let activation = worker.counter("full");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    assert_eq!(worker.count().count, 1);
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - (2 << 20)).unwrap();

    let error = worker.inside(|| sandbox.checkpoint(Scope::Full)).unwrap_err();
    assert_eq!(error.sandbox, Fate::Alive, "{error}");
    let is_full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
    assert!(
        matches!(&error.cause, SandboxError::Io { source, .. } if is_full(source)),
        "{error}"
    );
    assert_eq!(worker.count().count, 2);
    drop(file);
    fs::remove_file(ballast).unwrap();
    worker.inside(|| sandbox.checkpoint(Scope::Full)).unwrap();
    unmount(&disk, UnmountFlags::DETACH).unwrap();
}

#[test]
fn what_a_killed_start_left_in_the_root_file_systems_is_not_in_the_way_of_the_next() {
    let worker = Worker::new(12);
    let driver = worker.driver();
    let activation = worker.counter("filestore");
    // The very same bundles, as a worker has them that tries again.
    let lives = worker.inside(|| driver.run(&activation)).unwrap();
    let left = [PAUSE, "main"].map(|name| activation.dirs.rootfs(name).join(".gvisor.filestore.pause"));
    assert!(
        left.iter().all(|file| file.exists()),
        "this is how runsc calls it"
    );
    kill_process(sandbox_pid(&activation), Signal::KILL).unwrap();
    drop(lives);
    assert!(left.iter().all(|file| file.exists()), "and nobody takes it away");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    assert_eq!(worker.count().count, 1);
    sandbox.stop().unwrap();
}

#[test]
fn what_a_lost_worker_left_running_is_found_and_ended() {
    let worker = Worker::new(9);
    let driver = worker.driver();
    let activation = worker.counter("lost");
    // Dropping the handle is what the death of a worker amounts to.
    drop(worker.inside(|| driver.run(&activation)).unwrap());
    assert!(!worker.processes().is_empty());
    sweep(&activation.dirs).unwrap();
    assert_eq!(worker.processes(), Vec::<String>::new());
    assert_eq!(fs::read_dir(activation.dirs.runsc_state()).unwrap().count(), 0);
}

#[test]
fn the_installed_runsc_is_known_in_full() {
    use holdfast_sandbox::runsc::{Feature, Runtime};
    let runtime = Runtime::detect(RUNSC.as_ref(), worker::reaper()).unwrap();
    assert!(runtime.version() >= 20240501);
    assert!(runtime.has(Feature::NetDisconnectOk) || runtime.has(Feature::AllowConnectedOnSave));
    assert!(runtime.has(Feature::CheckpointCompression) && runtime.has(Feature::RestoreDirect));
    let again = Runtime::detect(RUNSC.as_ref(), worker::reaper()).unwrap();
    assert!(std::sync::Arc::ptr_eq(&runtime, &again), "asked once");
}
