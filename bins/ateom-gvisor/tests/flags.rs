//! Every flag wrong in turn: exit code 2, a message that names the flag, the value and what would be right,
//! and nothing half-made left behind.

use holdfast_tests::refusals::{Bad, Program, Walk};

const BAD: [Bad<'_>; 17] = [
    ("--pod-uid", "../escape", "pod UID"),
    ("--pod-uid", "A", "pod UID"),
    ("--pod-uid", "", "pod UID"),
    ("--base-dir", "relx", "must be absolute"),
    ("--base-dir", "", "must be absolute"),
    ("--base-dir", "/dev/null", "is not a directory"),
    ("--sandbox", "docker", "[possible values: gvisor, process]"),
    ("--pod-ip", "10.0.0", "invalid IP address"),
    ("--pod-ip", "999.1.1.1", "invalid IP address"),
    ("--idle-exit", "0", "must be longer than zero"),
    ("--idle-exit", "soon", "does not begin with a number"),
    ("--idle-exit", "5", "5 has no unit"),
    ("--drain-timeout", "soon", "does not begin with a number"),
    ("--drain-timeout", "5", "5 has no unit"),
    ("--otlp-endpoint", "collector:4317", "want http://host:port"),
    ("--trace-sampler", "sometimes", "want always_on"),
    ("--log-format", "xml", "is no log format; use json or text"),
];

#[test]
fn every_flag_wrong_in_turn_is_named_with_its_value_and_what_would_be_right() {
    let directory = tempfile::tempdir().unwrap();
    let base_dir = directory.path().join("base").display().to_string();
    let program = Program {
        file: env!("CARGO_BIN_EXE_ateom-gvisor").into(),
        command: ateom_gvisor::command(),
        directory: directory.path().to_owned(),
        environment: vec![],
    };
    // What would pass ends at once.
    let base = [
        ("--pod-uid", "good"),
        ("--base-dir", base_dir.as_str()),
        ("--sandbox", "process"),
        ("--idle-exit", "1ns"),
    ];
    program.refuses(&[Walk {
        path: &[],
        base: &base,
        bad: &BAD,
    }]);
}

#[test]
fn an_error_tells_each_of_its_causes_once() {
    let directory = tempfile::tempdir().unwrap();
    let base_dir = directory.path().join("base").display().to_string();
    std::fs::create_dir(&base_dir).unwrap();
    std::fs::write(format!("{base_dir}/ateoms"), "").unwrap();
    let program = Program {
        file: env!("CARGO_BIN_EXE_ateom-gvisor").into(),
        command: ateom_gvisor::command(),
        directory: directory.path().to_owned(),
        environment: vec![],
    };
    let line = [
        "--pod-uid",
        "good",
        "--base-dir",
        &base_dir,
        "--sandbox",
        "process",
    ];
    let ran = program.run(&line.map(str::to_owned), &[]);
    assert_eq!(ran.output.status.code(), Some(1));
    let said = ran.said();
    let error = said.lines().last().unwrap();
    assert!(error.starts_with("error: worker directory: "), "{said}");
    assert_eq!(error.matches("(os error ").count(), 1, "{said}");
}
