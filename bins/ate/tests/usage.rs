//! Every argument wrong in turn: exit code 2, nothing on standard output, and a message that names the
//! argument, the value and what would be right. No server is asked.

use std::process::{Command, Output};

/// The arguments, and what must be said about them.
const WRONG: [(&[&str], &[&str]); 55] = [
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
    (
        &["get", "actors", "-a", "A_B"],
        &["'A_B' for '--atespace <ATESPACE>'", "lower case alphanumeric"],
    ),
    (&["get", "actors", "-a", ""], &["--atespace <ATESPACE>"]),
    (
        &["get", "actors", "x.y", "-a", "demo"],
        &["'x.y' for '[NAME]'", "lower case alphanumeric"],
    ),
    (&["get", "atespaces", "-x"], &["unexpected argument '-x'"]),
    (
        &["get", "atespaces", "UP"],
        &["'UP' for '[NAME]'", "lower case alphanumeric"],
    ),
    (&["get", "workers", "one"], &["unexpected argument 'one'"]),
    (&["create", "pod", "x"], &["unrecognized subcommand 'pod'"]),
    (&["create", "atespace"], &["<NAME>"]),
    (&["create", "atespace", "-bad"], &["unexpected argument '-b'"]),
    (
        &["create", "atespace", LONG],
        &[LONG, "no more than 63 characters"],
    ),
    (&["create", "actor", "-t", "ns/t", "-a", "demo"], &["<NAME>"]),
    (
        &["create", "actor", "x", "-a", "demo"],
        &["--template <NAMESPACE/NAME>"],
    ),
    (
        &["create", "actor", "x", "-t", "ns/t"],
        &["--atespace <ATESPACE>"],
    ),
    (
        &["create", "actor", "x:y", "-t", "ns/t", "-a", "demo"],
        &["'x:y' for '<NAME>'"],
    ),
    (
        &["create", "actor", "x", "-t", "t", "-a", "demo"],
        &["'t' for '--template <NAMESPACE/NAME>'", "default/counter"],
    ),
    (
        &["create", "actor", "x", "-t", "ns/", "-a", "demo"],
        &["'ns/' for '--template <NAMESPACE/NAME>'"],
    ),
    (
        &["create", "actor", "x", "-t", "a/b/c", "-a", "demo"],
        &["'a/b/c' for '--template <NAMESPACE/NAME>'"],
    ),
    (
        &["create", "actor", "x", "-t", "ns/t", "-a", "demo", "-l", "k"],
        &["'k' for '--worker-selector <KEY=VALUE>'", "tier=gpu"],
    ),
    (
        &["create", "actor", "x", "-t", "ns/t", "-a", "demo", "-l", ".k=v"],
        &["'.k=v'", "label key \".k\""],
    ),
    (
        &["create", "actor", "x", "-t", "ns/t", "-a", "demo", "-l", "k=v/w"],
        &["'k=v/w'", "label value \"v/w\""],
    ),
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
    (&["resume", "x"], &["--atespace <ATESPACE>"]),
    (&["resume", "-a", "demo"], &["<NAME>"]),
    (
        &["suspend", "pod", "x", "-a", "demo"],
        &["unexpected word 'pod'", "can only be actor"],
    ),
    (&["pause", "actor", "x", "y", "-a", "demo"], &["'y'"]),
    (&["explain", "x"], &["--atespace <ATESPACE>"]),
    (&["dev"], &["--manifests <DIR>"]),
    (
        &["dev", "--manifests", "m", "--listen", "x"],
        &["'x' for '--listen <ADDRESS>'", "host:port"],
    ),
    (
        &["dev", "--manifests", "m", "--listen", "999.1.1.1:80"],
        &[
            "'999.1.1.1:80' for '--listen <ADDRESS>'",
            "neither a DNS name nor an IP address",
        ],
    ),
    (
        &["dev", "--manifests", "m", "--http", "0.0.0.0:80"],
        &[
            "--http 0.0.0.0:80: other hosts can reach this address",
            "--insecure-plaintext",
        ],
    ),
    (
        &["dev", "--manifests", "m", "--http", ":y"],
        &["':y' for '--http <ADDRESS>'", "0 to 65535"],
    ),
    (
        &["dev", "--manifests", "m", "--join", "x"],
        &["'x' for '--join <ADDRESS,...>'", "host:port"],
    ),
    (
        &["dev", "--manifests", "m", "--workers", "0"],
        &["'0' for '--workers <N>'", "1..=256"],
    ),
    (
        &["dev", "--manifests", "m", "--sandbox", "vm"],
        &["'vm' for '--sandbox <SANDBOX>'", "runsc, process"],
    ),
    (
        &["dev", "--manifests", "m", "--pod-network", "10.88"],
        &["'10.88' for '--pod-network <IPV4>'"],
    ),
    (
        &["dev", "--manifests", "m", "--lease-ttl", "5"],
        &["'5' for '--lease-ttl <DURATION>'", "write 5s"],
    ),
    (
        &["dev", "--manifests", "m", "--pull-stall", "x"],
        &["'x' for '--pull-stall <DURATION>'"],
    ),
    (
        &["dev", "--manifests", "m", "--settle-after", "0"],
        &["'0' for '--settle-after <DURATION>'"],
    ),
    (
        &["revert", "X", "-a", "demo"],
        &["'X' for '<NAME>", "lower case alphanumeric"],
    ),
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
        &["get", "workers", "-o", "xml"],
        &["'xml' for '--output <OUTPUT>'", "table, json, yaml"],
    ),
    (
        &["get", "workers", "--timeout", "5"],
        &["'5' for '--timeout <DURATION>'", "5 has no unit; write 5s"],
    ),
    (
        &["get", "workers", "--timeout", "0s"],
        &["'0s' for '--timeout <DURATION>'", "longer than zero"],
    ),
    (
        &["completion", "tcsh"],
        &["'tcsh' for '<SHELL>'", "bash, zsh, fish"],
    ),
];

const ENDPOINTS: [(&str, &str); 5] = [
    ("", "the address is empty"),
    ("localhost", "has no port; write host:port"),
    ("localhost:http", "is not a number from 0 to 65535"),
    ("https://localhost:1", "scheme \"https\" is not supported"),
    ("unix:", "a Unix socket needs a path"),
];

const LONG: &str = "a-name-that-has-sixty-four-characters-which-is-one-more-than-max";
const ELEVEN: &str = "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1";

fn ate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ate"));
    command.args(arguments).env("ATE_ENDPOINT", "unix:there-is-none");
    command
}

#[track_caller]
fn assert_refused(output: &Output, expected: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "standard output is for results");
    for text in expected {
        assert!(said.contains(text), "{text:?} is not in:\n{said}");
    }
    assert!(!said.contains('\x1b'), "no colours where no terminal is");
}

#[test]
fn every_wrong_argument_is_named_with_its_value_and_what_would_be_right() {
    for (arguments, expected) in WRONG {
        println!("ate {}", arguments.join(" "));
        assert_refused(&ate(arguments).output().unwrap(), expected);
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused_wherever_it_comes_from() {
    for (endpoint, expected) in ENDPOINTS {
        let flag = ate(&["get", "workers", "--endpoint", endpoint]).output().unwrap();
        assert_refused(&flag, &["'--endpoint <ENDPOINT>'", expected]);
        let variable = ate(&["get", "workers"])
            .env("ATE_ENDPOINT", endpoint)
            .output()
            .unwrap();
        assert_refused(&variable, &["'--endpoint <ENDPOINT>'", expected]);
    }
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
        assert!(!shown(&["dev", "--help"]).contains(flag), "{flag}");
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
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
