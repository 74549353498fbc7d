//! Every argument wrong in turn: exit code 2, nothing on standard output, and a message that names the
//! argument, the value and what would be right. No server is asked.

use std::net::TcpListener;
use std::process::Command;

use holdfast_tests::refusals::{Bad, Program, Walk};
use tempfile::TempDir;

const NAMES: &str = "lower case alphanumeric";

/// What is wrong with each option that says which world it is, besides these.
macro_rules! of_worlds {
    [$($bad:expr),* $(,)?] => {
        &[
            $($bad,)*
            ("--time", "5", "5 has no unit; write 5s"),
            ("--time", "1ms", "must be 1s or longer"),
            ("--time", "25h", "must be 24h or shorter"),
            ("--replicas", "0", MANY),
            ("--nodes", "1001", MANY),
            ("--workers", "x", MANY),
            ("--actors", "-1", MANY),
            ("--callers", "", MANY),
            (
                "--faults",
                "rain",
                "there is no fault \"rain\"; want all, none, or some of replica-dies",
            ),
            (
                "--shape",
                "triangle",
                "there is no shape \"triangle\"; want one of expire-in-flight",
            ),
            (
                "--protocol",
                "paxos",
                "there is no bug \"paxos\" in the museum; want one of",
            ),
        ]
    };
}

/// Each argument of each command, wrong.
const WALKS: [Walk<'_>; 26] = [
    Walk {
        path: &[],
        base: &[("<COMMAND>", "get"), ("<KIND>", "workers")],
        bad: &[
            ("--endpoint", "", "the address is empty"),
            ("--endpoint", "localhost", "has no port; write host:port"),
            ("--endpoint", "localhost:http", "is not a number from 0 to 65535"),
            ("--endpoint", "localhost:0", "nobody listens on port 0"),
            (
                "--endpoint",
                "999.1.1.1:80",
                "is neither a DNS name nor an IP address",
            ),
            (
                "--endpoint",
                "https://localhost:1",
                "scheme \"https\" is not supported",
            ),
            ("--endpoint", "unix:", "a Unix socket needs a path"),
            ("--ca-certs", "none", "none: No such file"),
            ("--cred-bundle", "none", "none: No such file"),
            (
                "--server-name",
                "a b",
                "\"a b\" is neither a DNS name nor an IP address",
            ),
            ("--token-file", "none", "none: No such file"),
            ("--output", "xml", "table, json, yaml"),
            ("--timeout", "5", "5 has no unit; write 5s"),
            ("--timeout", "0s", "longer than zero"),
        ],
    },
    Walk {
        path: &["dev"],
        // Without a PATH there is no runsc, which ends what would pass.
        base: &[("--manifests", "manifests"), ("--sandbox", "runsc")],
        bad: &[
            ("--manifests", "none", "cannot be read: No such file"),
            ("--data-dir", "/dev/null", "is not a directory"),
            ("--data-dir", TOO_DEEP, "is too long"),
            ("--listen", "x", "host:port"),
            ("--listen", "999.1.1.1:80", "neither a DNS name nor an IP address"),
            ("--listen", "0.0.0.0:80", "other hosts can reach this address"),
            ("--http", ":y", "0 to 65535"),
            ("--http", "0.0.0.0:80", "--insecure-plaintext"),
            ("--join", "x", "host:port"),
            ("--join", "a:0", "nobody listens on port 0"),
            ("--workers", "0", "1..=256"),
            ("--workers", "257", "1..=256"),
            ("--sandbox", "vm", "runsc, process"),
            ("--runsc", "/no/such/runsc", "No such file"),
            ("--runsc", "/etc/passwd", "is not executable"),
            ("--pod-network", "10.88", "invalid IPv4 address"),
            ("--pod-network", "10.88.3.0", "write 10.88.0.0"),
            ("--lease-ttl", "5", "write 5s"),
            ("--lease-ttl", "1ns", "must be 150ms or longer"),
            (
                "--lease-ttl",
                "10m",
                "--lease-ttl 10m must not be longer than workflow.deadline, which no flag sets, (5m)",
            ),
            ("--pull-stall", "x", "does not begin with a number"),
            (
                "--node-session-ttl",
                "1s",
                "must be shorter than --node-session-ttl 1s less drift and margin",
            ),
            ("--pull-stall", "1ns", "must be 10ms or longer"),
            (
                "--pull-stall",
                "5m",
                "--pull-stall 5m must be shorter than workflow.deadline, which no flag sets, (5m)",
            ),
            ("--settle-after", "0", "must be 10ms or longer"),
            ("--collect-after", "1ns", "must be 10ms or longer"),
        ],
    },
    Walk {
        path: &["sim", "run"],
        base: &[("--seeds", "1"), ("--shrink", "")],
        bad: of_worlds![
            ("--seeds", "0", "0 is not in 1.."),
            ("--seed", "x", "invalid digit"),
            ("--plan", "no.json", "no.json cannot be read: No such file"),
            ("--plan", "manifests", "no plan in there"),
            ("--jobs", "0", "1..=1024"),
            ("--out", "", "a value is required"),
            ("--keep", "many", "invalid digit"),
            ("--runs", "x", "invalid digit"),
        ],
    },
    sim_plan(
        &["sim", "plan"],
        of_worlds![("<PLAN>", "no.json", "no.json cannot be read: No such file"),],
    ),
    sim_plan(
        &["sim", "replay"],
        of_worlds![
            ("<PLAN>", "no.json", "no.json cannot be read: No such file"),
            ("--lines", "x", "invalid digit"),
        ],
    ),
    sim_plan(
        &["sim", "story"],
        of_worlds![
            ("<PLAN>", "no.json", "no.json cannot be read: No such file"),
            ("--out", "", "a value is required"),
            ("--from", "5", "5 has no unit; write 5s"),
            ("--to", "0s", "longer than zero"),
            ("--entries", "x", "invalid digit"),
        ],
    ),
    Walk {
        path: &["sim", "museum"],
        base: &[("--list", "")],
        bad: &[
            (
                "<NAME>",
                "paxos",
                "there is no bug \"paxos\" in the museum; want one of",
            ),
            ("--starts", "0", "1..=1000"),
            ("--most", "1001", "1..=1000"),
            ("--jobs", "0", "1..=1024"),
        ],
    },
    sim_plan(
        &["sim", "shrink"],
        of_worlds![
            ("<PLAN>", "no.json", "no.json cannot be read: No such file"),
            ("--runs", "x", "invalid digit"),
            (
                "--near",
                "stale",
                "no plans are made to come near \"stale\"; want one of",
            ),
            ("--out", "", "a value is required"),
        ],
    ),
    Walk {
        path: &["sim", "search"],
        base: &[("<BOUND>", "verdict"), ("--runs", "1")],
        bad: &[
            (
                "<BOUND>",
                "stale",
                "no plans are made to come near \"stale\"; want one of",
            ),
            ("--seed", "x", "invalid digit"),
            ("--runs", "0", "0 is not in 1.."),
            ("--out", "", "a value is required"),
        ],
    },
    Walk {
        path: &["sim", "frontier"],
        base: &[("--ttl", "1s")],
        bad: &[
            ("--ttl", "1", "1 has no unit; write 1s"),
            ("--ttl", "1ms", "must be 300ms or longer"),
            ("--svg", "", "a value is required"),
        ],
    },
    Walk {
        path: &["bench", "run"],
        base: &[("--template", "demo/counter"), ("--timeout", "1s")],
        bad: &[
            ("--mix", "resume", "write KIND=WEIGHT"),
            (
                "--mix",
                "restart=1",
                "there is no call \"restart\"; want one of create, delete",
            ),
            ("--mix", "get=0", "from 1 to 1000000"),
            ("--mix", "get=1,get=1", "get is given twice"),
            ("--clients", "0", "1..=10000"),
            ("--rate", "0", "1..=1000000"),
            ("--connections", "0", "1..=1000"),
            ("--for", "10", "10 has no unit; write 10s"),
            ("--for", "0s", "longer than zero"),
            ("--count", "0", "0 is not in 1.."),
            ("--warm-up", "soon", "does not begin with a number"),
            ("--template", "counter", "default/counter"),
            ("--actors", "0", "1..=10000000"),
            ("--running", "many", "invalid digit"),
            ("--atespace", "A_B", NAMES),
            ("--prefix", "", "must not be empty"),
            ("--prefix", "A_", NAMES),
            (
                "--prefix",
                "a-prefix-that-has-forty-one-characters-a-",
                "no more than 40 characters",
            ),
            ("--process", "0", "0 is not in 1.."),
        ],
    },
    Walk {
        path: &["bench", "node"],
        base: &[("--pool", "demo/pool"), ("--listen", "unix:/dev/null/no")],
        bad: &[
            ("--listen", "localhost", "has no port; write host:port"),
            ("--pool", "pool", "default/counter"),
            ("--workers", "0", "1..=1000000"),
            ("--nodes", "0", "1..=10000"),
            ("--takes", "5", "5 has no unit; write 5s"),
        ],
    },
    Walk {
        path: &["bench", "clean"],
        base: &[],
        bad: &[
            ("--atespace", "A_B", NAMES),
            ("--prefix", "", "must not be empty"),
        ],
    },
    Walk {
        path: &["worker"],
        // What would pass ends at once.
        base: &[
            ("--pod-uid", "good"),
            ("--base-dir", "/dev/null/no"),
            ("--sandbox", "process"),
            ("--idle-exit", "1ns"),
        ],
        bad: &[
            ("--pod-uid", "../escape", "pod UID"),
            ("--base-dir", "relx", "must be absolute"),
            ("--sandbox", "docker", "[possible values: gvisor, process]"),
            ("--pod-ip", "10.0.0", "invalid IP address"),
            ("--idle-exit", "soon", "does not begin with a number"),
            ("--drain-timeout", "5", "5 has no unit"),
        ],
    },
    Walk {
        path: &["create", "actor"],
        base: &[("<NAME>", "x"), ("--template", "ns/t"), ("--atespace", "demo")],
        bad: &[
            ("<NAME>", "x:y", NAMES),
            ("--template", "t", "default/counter"),
            ("--template", "ns/", "default/counter"),
            ("--template", "a/b/c", "default/counter"),
            ("--template", "Ns/t", "default/counter"),
            ("--atespace", "A_B", NAMES),
            ("--worker-selector", "k", "tier=gpu"),
            ("--worker-selector", ".k=v", "label key \".k\""),
            ("--worker-selector", "k=v/w", "label value \"v/w\""),
        ],
    },
    Walk {
        path: &["create", "atespace"],
        base: &[("<NAME>", "x")],
        bad: &[
            ("<NAME>", LONG, "no more than 63 characters"),
            ("<NAME>", "", NAMES),
        ],
    },
    Walk {
        path: &["get", "actors"],
        base: &[("--atespace", "demo")],
        bad: &[
            ("<NAME>", "x.y", NAMES),
            ("--atespace", "A_B", NAMES),
            ("--atespace", "", NAMES),
        ],
    },
    Walk {
        path: &["get", "atespaces"],
        base: &[],
        bad: &[("<NAME>", "UP", NAMES)],
    },
    Walk {
        path: &["get", "workers"],
        base: &[],
        bad: &[],
    },
    one_actor(&["resume"]),
    one_actor(&["suspend"]),
    one_actor(&["pause"]),
    one_actor(&["revert"]),
    one_actor(&["explain"]),
    one_actor(&["delete"]),
    Walk {
        path: &["completion"],
        base: &[("<SHELL>", "bash")],
        bad: &[("<SHELL>", "tcsh", "bash, zsh, fish")],
    },
];

/// Lines whose parts are right one by one, and what must be said about them.
const MISFITS: [(&[&str], &[&str]); 25] = [
    (&[], &["Usage: ate", "create", "completion"]),
    (&["frobnicate"], &["unrecognized subcommand 'frobnicate'"]),
    (&["get"], &["Usage: ate get", "actors", "atespaces", "workers"]),
    (&["get", "pods"], &["unrecognized subcommand 'pods'"]),
    (&["get", "actors"], &["--atespace <ATESPACE>|--all-atespaces"]),
    (
        &["get", "actors", "-a", "demo", "-A"],
        &["'--atespace <ATESPACE>' cannot be used with", "'--all-atespaces'"],
    ),
    (&["get", "actors", "x"], &["--atespace <ATESPACE>"]),
    (
        &["get", "actors", "x", "-A"],
        &["'[NAME]' cannot be used with '--all-atespaces'"],
    ),
    (&["get", "workers", "one"], &["unexpected argument 'one'"]),
    (&["create", "pod", "x"], &["unrecognized subcommand 'pod'"]),
    (&["create", "atespace", "-bad"], &["unexpected argument '-b'"]),
    (
        &[
            "create", "actor", "x", "-t", "ns/t", "-a", "demo", "-l", "k=v,k=w",
        ],
        &["--worker-selector", "k=v and k=w", "Usage: ate create actor"],
    ),
    (
        &["create", "actor", "x", "-t", "ns/t", "-a", "demo", "-l", ELEVEN],
        &["--worker-selector", "11", "limit of 10"],
    ),
    (
        &["suspend", "pod", "x", "-a", "demo"],
        &["unexpected word 'pod'", "can only be actor"],
    ),
    (&["pause", "actor", "x", "y", "-a", "demo"], &["'y'"]),
    (
        &["delete", "x"],
        &[
            "--atespace <ATESPACE> is required",
            "'x'",
            "Usage: ate delete [actor] <NAME> --atespace",
        ],
    ),
    (
        &["delete", "pod", "x"],
        &["unexpected word 'pod'", "actor or atespace"],
    ),
    (
        &["delete", "atespace", "x", "-a", "demo"],
        &["leave --atespace out", "'x'"],
    ),
    (
        &[
            "dev",
            "--manifests",
            "manifests",
            "--sandbox",
            "process",
            "--runsc",
            "/bin/sh",
        ],
        &["--runsc: plain processes need no runsc"],
    ),
    (
        &[
            "dev",
            "--manifests",
            "manifests",
            "--join",
            "a:1",
            "--listen",
            "b:1",
        ],
        &["'--join <ADDRESS,...>' cannot be used with '--listen <ADDRESS>'"],
    ),
    (
        &[
            "bench",
            "node",
            "--pool",
            "a/b",
            "--workers",
            "4097",
            "--nodes",
            "1",
        ],
        &["--nodes 1 for --workers 4097: a node has at most 4096 workers"],
    ),
    (&["sim"], &["Usage: ate sim", "run", "replay", "frontier"]),
    (
        &["sim", "run", "--plan", "a.json", "--seed", "1"],
        &["'--plan <FILE>' cannot be used with '--seed <FROM>'"],
    ),
    (
        &["sim", "run", "--runs", "5"],
        &["required arguments were not provided", "--shrink"],
    ),
    (
        &["sim", "replay", "a.json", "--standard"],
        &[
            "a.json is a file with a plan",
            "leave the options of a world out",
            "Usage: ate sim replay",
        ],
    ),
];

const MANY: &str = "want a number from 1 to 1000";
const LONG: &str = "a-name-that-has-sixty-four-characters-which-is-one-more-than-max";
const ELEVEN: &str = "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1";
const TOO_DEEP: &str = "/a-data-directory/that-lies/so-deep-that-no/socket-below-it/could-have-a-path";

const fn sim_plan(path: &'static [&'static str], bad: &'static [Bad<'static>]) -> Walk<'static> {
    Walk {
        path,
        base: &[("<PLAN>", "1")],
        bad,
    }
}

const fn one_actor(path: &'static [&'static str]) -> Walk<'static> {
    Walk {
        path,
        base: &[("<NAME>", "x"), ("--atespace", "demo")],
        bad: &[("<NAME>", "X", NAMES), ("--atespace", "A_B", NAMES)],
    }
}

fn ate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ate"));
    command.args(arguments).env("ATE_ENDPOINT", "unix:there-is-none");
    command
}

/// `ate` in a directory with manifests that are right. No server is asked.
fn program(directory: &TempDir) -> Program {
    std::fs::create_dir(directory.path().join("manifests")).unwrap();
    Program {
        file: env!("CARGO_BIN_EXE_ate").into(),
        command: ate::command(),
        directory: directory.path().to_owned(),
        environment: vec![("ATE_ENDPOINT", "unix:there-is-none".into())],
    }
}

#[test]
fn every_argument_wrong_in_turn_is_named_with_its_value_and_what_would_be_right() {
    let directory = tempfile::tempdir().unwrap();
    program(&directory).refuses(&WALKS);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let program = program(&directory);
    for (line, expected) in MISFITS {
        program.refuses_line(line, &[], expected);
    }
}

#[test]
fn an_error_names_its_flag_and_each_of_its_causes_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let program = program(&directory);
    let data = directory.path().join("data").display().to_string();
    let line = [
        "dev",
        "--manifests",
        "manifests",
        "--data-dir",
        &data,
        "--sandbox",
        "process",
        "--http",
        &address,
    ];
    let ran = program.run(&line.map(str::to_owned), &[]);
    assert_eq!(ran.output.status.code(), Some(1));
    let said = ran.said();
    let error = said
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_default();
    let expected = match rustix::process::geteuid().is_root() {
        true => format!("error: --http: cannot listen on {address}: Address already in use (os error 98)"),
        false => {
            "error: ate dev makes a network for each worker, which takes root; run it with sudo".to_owned()
        }
    };
    assert_eq!(error, expected, "{said}");
}

#[test]
fn help_and_version_are_no_failures() {
    for (arguments, expected) in [
        (&["--help"][..], "Usage: ate"),
        (
            &["resume", "--help"],
            "ate resume [actor] <NAME> --atespace <ATESPACE>",
        ),
        (&["create", "actor", "--help"], "NAMESPACE/NAME"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = ate(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(expected),
            "{arguments:?}"
        );
    }
}

#[test]
fn what_means_nothing_is_not_shown() {
    let shown = |arguments: &[&str]| {
        let output = ate(arguments).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for flag in ["--endpoint", "--output", "--timeout"] {
        for asks_nobody in [&["dev", "--help"][..], &["sim", "run", "--help"]] {
            assert!(!shown(asks_nobody).contains(flag), "{flag}");
        }
        assert!(shown(&["resume", "--help"]).contains(flag), "{flag}");
    }
    assert!(
        !shown(&[]).contains("worker\n") && !shown(&[]).contains("  worker "),
        "{}",
        shown(&[])
    );
}

#[test]
fn completion_scripts_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ate(&["completion", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8_lossy(&output.stdout);
        for word in [
            "create",
            "get",
            "resume",
            "suspend",
            "pause",
            "revert",
            "delete",
            "atespace",
            "completion",
            "sim",
            "frontier",
            "bench",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
