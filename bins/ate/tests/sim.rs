//! `ate sim` as one types it: what it says, what it leaves behind, and how it ends.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use holdfast_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn sim(directory: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ate"));
    command
        .arg("sim")
        .args(line.split_whitespace())
        .current_dir(directory);
    command
}

fn run(directory: &Path, line: &str) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = sim(directory, line).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "", "{line}");
    (status.code(), String::from_utf8(stdout).unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_is_played_by_many_threads_comes_to_what_one_comes_to() {
    let directory = tempfile::tempdir().unwrap();
    let document = |jobs: u32| {
        let line = format!("run --seeds 12 --time 20s --digest --json --jobs {jobs}");
        let (code, text) = run(directory.path(), &line);
        assert_eq!(code, Some(0), "{text}");
        let mut document = json(&text);
        assert_eq!(document["speed"]["jobs"], jobs);
        document.as_object_mut().unwrap().remove("speed");
        document
    };
    let one = document(1);
    assert_eq!(one, document(3));
    assert_eq!(one["plans"]["held"], 12);
    assert_eq!(one["interrupted"], false);
    let made = one["coverage"]["transitions"]["made"].as_u64().unwrap();
    let all = one["coverage"]["transitions"]["all"].as_u64().unwrap();
    assert!(made > 20 && made < all, "{made} of {all}");
    assert!(!directory.path().join("violations").exists());
}

#[test]
fn a_plan_that_is_written_down_is_played_again_to_the_same_end() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (code, plan) = run(directory, "plan 3 --time 20s --faults disk-full,node-dies");
    assert_eq!(code, Some(0));
    std::fs::write(directory.join("three.json"), plan).unwrap();
    let from_file = run(directory, "replay three.json --lines 5");
    assert_eq!(from_file.0, Some(0), "{}", from_file.1);
    let lines: Vec<&str> = from_file.1.lines().collect();
    assert_eq!((lines.len(), lines[6]), (7, "it holds"), "{lines:#?}");
    let from_seed = run(
        directory,
        "replay 3 --time 20s --faults disk-full,node-dies --lines 5",
    );
    assert_eq!(from_seed, from_file);
    let other = run(directory, "replay 4 --time 20s --lines 5");
    assert_ne!(other.1, from_file.1);

    let (code, text) = run(directory, "run --plan three.json --plan . --json");
    let document = json(&text);
    assert_eq!((code, &document["plans"]["held"]), (Some(0), &2.into()), "{text}");
    let (code, text) = run(directory, "shrink three.json");
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "it holds: there is nothing to shrink\n")
    );
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
}

#[test]
fn once_interrupted_it_says_what_it_has_come_to() {
    let directory = tempfile::tempdir().unwrap();
    let child = sim(directory.path(), "run --seeds 1000000 --time 20s --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    // It handles the signal from its first moment on: that is when it ignores no default any more.
    let status = format!("/proc/{}/status", child.id());
    wait::until("it handles SIGINT", std::time::Duration::from_secs(60), || {
        let status = std::fs::read_to_string(&status)?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask.unwrap_or("0").trim(), 16)?;
        Ok((mask & (1 << 1) != 0).then_some(()))
    })
    .unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let document = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(document["interrupted"], true);
    assert_eq!(document["plans"]["wanted"], 1_000_000);
    assert!(document["plans"]["played"].as_u64().unwrap() < 1_000_000);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("press Ctrl-C again"), "{said}");
}

#[test]
fn the_frontier_is_measured_drawn_and_nowhere_inside_the_formula() {
    let directory = tempfile::tempdir().unwrap();
    let (code, text) = run(directory.path(), "frontier --ttl 30s --json --svg frontier.svg");
    assert_eq!(code, Some(0));
    let document = json(&text);
    let points = document["points"].as_array().unwrap();
    let ours = |point: &&Value| point["counts_from_answer"] == false && point["drift_ppm"] == 10_000;
    let measured: Vec<u64> = points
        .iter()
        .filter(ours)
        .map(|point| point["measured_us"].as_u64().unwrap())
        .collect();
    assert!(measured.len() > 5);
    assert!(
        measured
            .iter()
            .all(|pause| (1_001_900..1_002_000).contains(pause)),
        "{measured:?}"
    );
    let svg = std::fs::read_to_string(directory.path().join("frontier.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("TTL 30 s"));
    let (code, text) = run(directory.path(), "frontier --ttl 30s");
    assert_eq!(code, Some(0));
    assert!(text.contains("\n30s   1.00 %   999.0 ms"), "{text}");
}

#[test]
fn a_known_bug_is_found_kept_played_again_and_told_as_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (code, text) = run(
        directory,
        "run --protocol lease-for-everybody --seeds 20 --keep 1 --json",
    );
    assert_eq!(code, Some(1), "{text}");
    let document = json(&text);
    let found = &document["violations"][0];
    let (invariant, at) = (found["invariant"].as_str().unwrap(), &found["at_us"]);
    let again = found["replay"].as_str().unwrap();
    let again = again.strip_prefix("ate sim ").unwrap();
    let (code, text) = run(directory, again);
    let last = text.lines().last().unwrap();
    assert_eq!(code, Some(1));
    let seconds = at.as_u64().unwrap() as f64 / 1e6;
    assert!(
        last.starts_with(&format!("{invariant} at {seconds:.6}s: ")),
        "{last}"
    );
    // The same plan holds without it.
    let (code, text) = run(directory, again.split(" --").next().unwrap());
    assert_eq!(code, Some(0), "{text}");

    let story = again.replace("replay", "story");
    let (code, text) = run(directory, &story);
    assert_eq!(code, Some(1));
    assert_eq!(text.lines().next(), Some(last));
    let page = std::fs::read_to_string(directory.join("story.html")).unwrap();
    assert!(page.contains("<html"));
    let out = sim(directory, &format!("{story} --from 24h --out none.html")).output();
    let out = out.unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing happens in that part of the run"), "{said}");
    assert!(!directory.join("none.html").exists());
}

#[test]
fn the_museum_says_who_had_which_bug_and_how_soon_it_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (code, list) = run(directory.path(), "museum --list");
    assert_eq!(code, Some(0));
    assert!(list.lines().count() > 30, "{list}");
    assert!(list.contains("\nlease-for-everybody "), "{list}");
    let (code, text) = run(
        directory.path(),
        "museum lease-for-everybody told-twice --starts 1 --json",
    );
    assert_eq!(code, Some(0), "{text}");
    let document = json(&text);
    let names = document["exhibits"].as_array().unwrap().iter().map(|exhibit| {
        assert!(
            exhibit["found"]["median_plans"].as_u64().unwrap() > 0,
            "{exhibit}"
        );
        exhibit["name"].as_str().unwrap()
    });
    assert_eq!(names.collect::<Vec<_>>(), ["lease-for-everybody", "told-twice"]);
    // One plan is too few for some bug or other.
    let (code, text) = run(directory.path(), "museum --starts 1 --most 1");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not found from seed 0 on"), "{text}");
}
