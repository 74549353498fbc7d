//! Every flag wrong in turn: exit code 2, a message that names the flag, the value and what would be right,
//! and nothing half-made left behind.

use std::fs;
use std::net::TcpListener;
use std::process::Output;

use holdfast_tests::pki::Authority;
use holdfast_tests::refusals::{Bad, Good, Program, Walk};
use tempfile::TempDir;

const POOL: &str = "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool}
spec: {replicas: 3, ateomImage: ateom}
";

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: local, user: me}}]
clusters: [{name: local, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: me, user: {token: hunter2}}]
";

/// Neither the network nor the store is touched even if a bad flag passes.
const BASE: [Good<'_>; 3] = [
    ("--check", ""),
    ("--store", "embedded:store"),
    ("--manifests", "manifests"),
];

const BAD: [Bad<'_>; 93] = [
    ("--grpc-listen-addr", "", "the address is empty; write host:port"),
    ("--grpc-listen-addr", "localhost", "has no port; write host:port"),
    (
        "--grpc-listen-addr",
        "localhost:http",
        "is not a number from 0 to 65535",
    ),
    (
        "--grpc-listen-addr",
        "https://localhost:1",
        "scheme \"https\" is not supported",
    ),
    ("--grpc-listen-addr", "unix:", "a Unix socket needs a path"),
    (
        "--grpc-listen-addr",
        "999.1.1.1:80",
        "is neither a DNS name nor an IP address",
    ),
    (
        "--grpc-listen-addr",
        "-a.example:80",
        "is neither a DNS name nor an IP address",
    ),
    ("--grpc-listen-addr", "0.0.0.0:443", "say --insecure-plaintext"),
    (
        "--grpc-listen-addr",
        "0.0.0.0:0",
        "Serve TLS with --grpc-server-cred-bundle FILE",
    ),
    (
        "--grpc-listen-addr",
        "api.ate-system.svc:443",
        "listen on 127.0.0.1:8443 or unix:/path",
    ),
    ("--config", "none.yaml", "No such file"),
    ("--otlp-endpoint", "collector:4317", "want http://host:port"),
    ("--trace-sampler", "sometimes", "want always_on"),
    ("--metrics-listen-addr", "9090", "has no port; write host:port"),
    (
        "--metrics-listen-addr",
        "0.0.0.0:9090",
        "Listen on 127.0.0.1:9090, or say --insecure-metrics",
    ),
    ("--store", "", "is neither embedded:PATH nor redis://host:port"),
    (
        "--store",
        "store",
        "is neither embedded:PATH nor redis://host:port",
    ),
    (
        "--store",
        "file:store",
        "is neither embedded:PATH nor redis://host:port",
    ),
    ("--store", "embedded:", "has no path; write embedded:PATH"),
    (
        "--store",
        "embedded:manifests",
        "is a directory; name a file in it",
    ),
    (
        "--store",
        "embedded:none/store",
        "the directory none does not exist; make it",
    ),
    ("--store", "redis://", "is no host:port"),
    ("--store", "redis://db:0", "\"db:0\" is no host:port"),
    ("--store", "redis://999.1.1.1", "is no host:port"),
    (
        "--store",
        "redis://db/one",
        "database \"one\" is not a number from 0 to 2147483647",
    ),
    (
        "--store",
        "redis://db/99999999999",
        "is not a number from 0 to 2147483647",
    ),
    ("--store", "rediss://", "is no host:port"),
    ("--store", "redis://db:1,db:x", "\"db:x\" is no host:port"),
    ("--redis-cluster-address", "", "is no host:port"),
    ("--redis-cluster-address", "db:x", "\"db:x\" is no host:port"),
    (
        "--redis-cluster-address",
        "@env",
        "ATE_API_REDIS_ADDRESS is not set",
    ),
    ("--redis-ca-certs", "none", "--store names an embedded one"),
    ("--redis-tls-server-name", "db", "--store names an embedded one"),
    ("--redis-client-cert", "none", "--store names an embedded one"),
    (
        "--redis-use-iam-auth",
        "true",
        "IAM authentication is not supported",
    ),
    ("--redis-use-iam-auth", "", "IAM authentication is not supported"),
    ("--redis-wait-replicas", "11", "11 is not in 0..=10"),
    ("--redis-wait-replicas", "1", "--store names an embedded one"),
    ("--redis-start-timeout", "0", "must be 10ms or longer"),
    ("--manifests", "none", "cannot be read: No such file"),
    ("--kubeconfig", "none", "No such file"),
    ("--kubeconfig", "kubeconfig", "choose one"),
    ("--atelet-port", "0", "0 is not in 1..=65535"),
    ("--atelet-port", "grpc", "invalid digit"),
    (
        "--actor-workflow-deadline",
        "",
        "a duration is needed, such as 30s",
    ),
    ("--actor-workflow-deadline", "5", "5 has no unit; write 5s, 5m"),
    ("--actor-workflow-deadline", "0s", "must be 100ms or longer"),
    ("--actor-workflow-deadline", "99ms", "must be 100ms or longer"),
    (
        "--actor-workflow-deadline",
        "29s",
        "--lease-ttl 30s must not be longer than --actor-workflow-deadline 29s",
    ),
    ("--lease-ttl", "soon", "\"soon\" does not begin with a number"),
    ("--lease-ttl", "99ms", "must be 100ms or longer"),
    ("--lease-ttl", "-30s", "cannot be negative"),
    (
        "--lease-ttl",
        "10m",
        "--lease-ttl 10m must not be longer than --actor-workflow-deadline 5m",
    ),
    (
        "--replica-session-ttl",
        "6x",
        "unknown unit \"x\"; the units are h, m, s",
    ),
    ("--replica-session-ttl", "1us", "must be 30ms or longer"),
    (
        "--replica-session-ttl",
        "2562047h",
        "--replica-session-ttl 2562047h must be shorter than --lease-ttl 30s",
    ),
    ("--session-ttl", "1d", "unknown unit \"d\""),
    (
        "--session-ttl",
        "30s",
        "--heartbeat-interval 30s must be shorter than --session-ttl 30s",
    ),
    (
        "--session-ttl",
        "1m",
        "--heartbeat-interval 30s times --stale-after 3 (1m30s) must not be longer than --session-ttl 1m",
    ),
    ("--heartbeat-interval", "0", "must be 10ms or longer"),
    ("--heartbeat-interval", "1ns", "must be 10ms or longer"),
    (
        "--heartbeat-interval",
        "50s",
        "--heartbeat-interval 50s times --stale-after 3 (2m30s) must not be longer than --session-ttl 1m30s",
    ),
    ("--stale-after", "0", "0 is not in 1..=1000"),
    ("--stale-after", "three", "invalid digit"),
    (
        "--stale-after",
        "4",
        "--stale-after 4 (2m) must not be longer than --session-ttl 1m30s",
    ),
    ("--settle-after", "300y", "unknown unit \"y\""),
    ("--settle-after", "9999999h", "the longest duration is 292 years"),
    ("--settle-after", "1ns", "must be 10ms or longer"),
    ("--sweep-interval", "s", "does not begin with a number"),
    ("--sweep-interval", "1ns", "must be 10ms or longer"),
    ("--collect-after", "0", "must be 10ms or longer"),
    ("--log-format", "xml", "is no log format; use json or text"),
    ("--grpc-server-cred-bundle", "none", "none: No such file"),
    (
        "--grpc-server-cred-bundle",
        "manifests",
        "manifests: is not a file",
    ),
    (
        "--grpc-server-cred-bundle",
        "manifests/all.yaml",
        "has no CERTIFICATE",
    ),
    (
        "--workerpool-ca-certs",
        "none",
        "add --grpc-server-cred-bundle FILE",
    ),
    ("--auth-mode", "basic", "possible values: mtls, jwt"),
    (
        "--auth-mode",
        "jwt",
        "Name their issuer with --client-jwt-issuer URL",
    ),
    (
        "--client-jwt-issuer",
        "https://issuer",
        "Say --client-jwt-audience",
    ),
    (
        "--client-jwt-issuer",
        "@env",
        "the variable ATE_API_K8SJWT_ISSUER is not set",
    ),
    (
        "--client-jwt-audience",
        "api",
        "there is no --client-jwt-issuer whose tokens could be for it",
    ),
    (
        "--client-jwt-ca-cert",
        "none",
        "there is no --client-jwt-issuer that it could be of",
    ),
    ("--session-id-jwt-pool", "none", "none: No such file"),
    (
        "--session-id-jwt-pool",
        "manifests/all.yaml",
        "is no pool of authorities: JSON",
    ),
    ("--session-id-ca-pool", "none", "none: No such file"),
    (
        "--session-id-ca-pool",
        "manifests/all.yaml",
        "is no pool of authorities: JSON",
    ),
    (
        "--session-id-binding",
        "pod",
        "is no binding; use session, actor or none",
    ),
    ("--max-concurrent-calls", "0", "0 is not in 1..=1000000"),
    ("--max-concurrent-calls", "many", "invalid digit"),
    ("--atelet-ca-certs", "none", "none: No such file"),
    ("--atelet-ca-certs", "manifests/all.yaml", "has no CERTIFICATE"),
    ("--atelet-cred-bundle", "none", "none: No such file"),
    (
        "--atelet-server-name",
        "a b",
        "is neither a DNS name nor an IP address",
    ),
];

/// A directory with manifests that are right, and room for a store.
struct Host {
    dir: TempDir,
    program: Program,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let program = Program {
            file: env!("CARGO_BIN_EXE_ateapi").into(),
            command: ateapi::command(),
            directory: dir.path().to_owned(),
            environment: vec![],
        };
        fs::write(dir.path().join("kubeconfig"), KUBECONFIG).unwrap();
        let host = Host { dir, program };
        host.declare(POOL);
        host
    }

    fn declare(&self, text: &str) {
        fs::write(self.dir.path().join("manifests/all.yaml"), text).unwrap();
    }

    #[track_caller]
    fn refuses(&self, line: &[&str], expected: &[&str]) {
        self.program.refuses_line(line, &[], expected);
    }

    /// What comes of these flags, and of these variables.
    fn run(&self, line: &[&str], variables: &[(&str, &str)]) -> Output {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        self.program.run(&line, variables).output
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_flag_wrong_in_turn_is_named_with_its_value_and_what_would_be_right() {
    Host::new().program.refuses(&[Walk {
        path: &[],
        base: &BASE,
        bad: &BAD,
    }]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let host = Host::new();
    let store = ["--manifests", "manifests"];
    host.refuses(&store, &["--store <STORE>|--redis-cluster-address <HOST:PORT>"]);
    let both = ["--store", "embedded:store", "--redis-cluster-address", "db:1"];
    host.refuses(&[&store[..], &both].concat(), &["cannot be used with"]);
    host.refuses(
        &["--store", "embedded:store"],
        &["say --manifests DIRECTORY, or --kubeconfig FILE, or run in a pod"],
    );
    host.refuses(&["serve"], &["unexpected argument 'serve'"]);
    let every = [
        "--store",
        "embedded:s",
        "--manifests",
        "manifests",
        "--grpc-listen-addr",
        ":443",
    ];
    host.refuses(
        &every,
        &["--grpc-listen-addr 0.0.0.0:443", "say --insecure-plaintext"],
    );
}

#[test]
fn flags_of_tls_need_a_store_that_speaks_it_and_files_that_can_be_read() {
    let host = Host::new();
    let manifests = ["--check", "--manifests", "manifests"];
    let plain = ["--store", "redis://db", "--redis-client-cert", "client.pem"];
    host.refuses(
        &[&manifests[..], &plain].concat(),
        &[
            "--redis-client-cert client.pem: is for TLS",
            "write rediss:// there",
        ],
    );
    let missing = ["--redis-cluster-address", "db:1", "--redis-ca-certs", "none.pem"];
    host.refuses(
        &[&manifests[..], &missing].concat(),
        &["--redis-ca-certs", "none.pem: cannot be read: No such file"],
    );
    fs::write(host.dir.path().join("empty.pem"), "").unwrap();
    let empty = ["--store", "rediss://db", "--redis-ca-certs", "empty.pem"];
    host.refuses(
        &[&manifests[..], &empty].concat(),
        &["empty.pem: has no certificate in it"],
    );
    let iam = ["--redis-cluster-address", "db:1", "--redis-use-iam-auth", "true"];
    host.refuses(
        &[&manifests[..], &iam].concat(),
        &["--redis-use-iam-auth", "say false"],
    );
}

#[test]
fn what_the_original_takes_from_its_environment_is_taken_from_there() {
    let host = Host::new();
    let line = [
        "--check",
        "--manifests",
        "manifests",
        "--redis-cluster-address=@env",
        "--redis-use-iam-auth=@env",
        "--redis-client-cert=@env",
    ];
    let variables = [
        ("ATE_API_REDIS_ADDRESS", "db:6379"),
        ("ATE_API_REDIS_USE_IAM_AUTH", "false"),
        ("ATE_API_REDIS_CLIENT_CERT", ""),
    ];
    let output = host.run(&line, &variables);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = host.run(&line, &variables[1..]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--redis-cluster-address @env: ATE_API_REDIS_ADDRESS is not set"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_is_said_of_security_has_to_go_together() {
    let host = Host::new();
    let authority = Authority::new("servers");
    let put = |name: &str, text: &str| fs::write(host.dir.path().join(name), text).unwrap();
    put("bundle", &authority.bundle(&["127.0.0.1"]));
    put("ca", &authority.certificates());
    let base = ["--check", "--store", "embedded:store", "--manifests", "manifests"];
    let bundle = "--grpc-server-cred-bundle=bundle";
    for (flags, expected) in [
        (
            &[bundle, "--insecure-plaintext"][..],
            "--insecure-plaintext: --grpc-server-cred-bundle says to serve TLS",
        ),
        (
            &["--require-client-certs", bundle],
            "--require-client-certs: whose? Name their authorities with --workerpool-ca-certs FILE",
        ),
        (
            &[bundle, "--workerpool-ca-certs=none"],
            "--workerpool-ca-certs: none: No such file",
        ),
        (
            &["--client-jwt-issuer=issuer", "--client-jwt-audience=a"],
            "--client-jwt-issuer: \"issuer\": has no scheme; write https://HOST[/PATH]",
        ),
        (
            &[
                "--client-jwt-issuer=https://issuer",
                "--client-jwt-audience=a",
                "--client-jwt-ca-cert=none",
            ],
            "--client-jwt-ca-cert: none: No such file",
        ),
        (&["--atelet-cred-bundle=ca"], "ca: has no PRIVATE KEY"),
    ] {
        host.refuses(&[&base[..], flags].concat(), &[expected]);
    }
    for flags in [
        &[bundle, "--grpc-listen-addr=:443"][..],
        &[bundle, "--workerpool-ca-certs=ca", "--require-client-certs"],
        &[
            "--auth-mode=jwt",
            "--client-jwt-issuer=http://127.0.0.1:1,https://issuer",
            "--client-jwt-audience=a",
            "--client-jwt-ca-cert=ca",
        ],
        // As the original's manifests say that something is not there.
        &[
            "--workerpool-ca-certs=",
            "--session-id-jwt-pool=",
            "--session-id-ca-pool=",
            "--client-jwt-issuer=",
            "--client-jwt-audience=",
        ],
        &[
            "--atelet-ca-certs=ca",
            "--atelet-cred-bundle=bundle",
            "--atelet-server-name=node",
        ],
    ] {
        let output = host.run(&[&base[..], flags].concat(), &[]);
        assert_eq!(output.status.code(), Some(0), "{flags:?}: {}", stderr(&output));
    }
    let from_environment = [("ATE_API_K8SJWT_ISSUER", "http://127.0.0.1:1")];
    let flags = ["--client-jwt-issuer=@env", "--client-jwt-audience=a"];
    let output = host.run(&[&base[..], &flags].concat(), &from_environment);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_password_is_never_repeated() {
    let host = Host::new();
    for value in [
        "redis://ann:hunter2@db:x",
        "redis://ann:hunter2%@db",
        "rediss://ann:hunter2@db:x",
        "ann:hunter2@db",
    ] {
        for flag in ["--store", "--redis-cluster-address"] {
            let output = host.run(&["--manifests", "manifests", flag, value], &[]);
            assert_eq!(output.status.code(), Some(2));
            assert!(stderr(&output).contains(flag), "{}", stderr(&output));
            assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
        }
        let help = host.run(&["--help"], &[("HOLDFAST_STORE", value)]);
        assert!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"));
    }
}

#[test]
fn manifests_that_cannot_be_used_are_named_by_file_and_line() {
    let host = Host::new();
    let line: Vec<&str> = BASE
        .iter()
        .flat_map(|(name, value)| [*name, *value])
        .filter(|word| !word.is_empty())
        .collect();
    host.declare(&POOL.replace("replicas: 3", "replicas: many"));
    host.refuses(&line, &["--manifests manifests: manifests/all.yaml:4:", "many"]);
    host.refuses(&line[1..], &["manifests/all.yaml:4:"]);

    let twice = POOL.replace("replicas: 3", "replicas: many");
    host.declare(&twice.replace("ateomImage", "image"));
    host.refuses(
        &line,
        &["--manifests manifests: ", " faults\n  manifests/all.yaml:4:"],
    );

    let pinned = format!("image@sha256:{}", "0".repeat(64));
    let template = |image: &str, location: &str, golden: &str| {
        format!(
            "apiVersion: ate.dev/v1alpha1\nkind: ActorTemplate\nmetadata: {{name: t}}\nspec:\n  pauseImage: '{image}'\n  \
             snapshotsConfig: {{location: '{location}'}}\nstatus: {{goldenSnapshot: '{golden}'}}\n"
        )
    };
    let good = "gs://b/x";
    for (image, location, golden, expected) in [
        (
            "x:1",
            good,
            good,
            "5:15: ActorTemplate default/t: spec.pauseImage: \"x:1\": All images must be pinned",
        ),
        (
            "x@md5:abc",
            good,
            good,
            "spec.pauseImage: \"x@md5:abc\": digest \"md5:abc\" is not",
        ),
        (
            &pinned,
            "file:///x",
            good,
            "6:31: ActorTemplate default/t: spec.snapshotsConfig.location: \"file:///x\": missing bucket",
        ),
        (
            &pinned,
            "file://b/../../../esc",
            good,
            "invalid path segment \"..\"",
        ),
        (
            &pinned,
            good,
            "nothing",
            "7:26: ActorTemplate default/t: status.goldenSnapshot: \"nothing\": missing bucket",
        ),
    ] {
        host.declare(&template(image, location, golden));
        host.refuses(&line, &["manifests/all.yaml:", expected]);
    }
    host.declare(&template(&pinned, good, good));
    assert_eq!(host.run(&line, &[]).status.code(), Some(0));
}

#[test]
fn what_is_right_is_said_to_be_and_nothing_is_made() {
    let host = Host::new();
    let base = ["--store", "embedded:store", "--manifests", "manifests", "--check"];
    for flags in [
        &[][..],
        &["--insecure-plaintext", "--grpc-listen-addr", ":443"],
        &["--grpc-listen-addr", "unix:/run/ateapi.sock"],
        &[
            "--actor-workflow-deadline",
            "1h30m",
            "--lease-ttl",
            "250ms",
            "--log-format",
            "text",
        ],
    ] {
        let output = host.run(&[&base[..], flags].concat(), &[]);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"OK\n"[..]),
            "{}",
            stderr(&output)
        );
        assert!(!host.dir.path().join("store").exists());
    }
    // Nobody listens there, and nobody is asked.
    let kubernetes = [
        "--check",
        "--store",
        "embedded:store",
        "--kubeconfig",
        "kubeconfig",
    ];
    assert_eq!(host.run(&kubernetes, &[]).status.code(), Some(0));
    let redis = [
        "--check",
        "--manifests",
        "manifests",
        "--redis-cluster-address",
        "localhost:1",
    ];
    assert_eq!(host.run(&redis, &[]).status.code(), Some(0));
    let from_environment = [
        ("HOLDFAST_STORE", "redis://db"),
        ("HOLDFAST_MANIFESTS", "manifests"),
        ("HOLDFAST_INSECURE_PLAINTEXT", "1"),
        ("HOLDFAST_GRPC_LISTEN_ADDR", ":443"),
    ];
    assert_eq!(host.run(&["--check"], &from_environment).status.code(), Some(0));
}

#[test]
fn a_file_that_is_no_store_is_found_by_looking_and_left_as_it_is() {
    let host = Host::new();
    let line = ["--store", "embedded:store", "--manifests", "manifests", "--check"];
    for (content, expected) in [
        ("", "--store: store: is empty"),
        ("not a database", "--store: store: cannot be used as a store"),
    ] {
        fs::write(host.dir.path().join("store"), content).unwrap();
        host.refuses(&line, &[expected]);
        let after = fs::read_to_string(host.dir.path().join("store")).unwrap();
        assert_eq!(after, content);
    }
}

#[test]
fn settings_come_from_flags_then_the_environment_then_a_file_and_errors_say_which() {
    let host = Host::new();
    let config = |text: &str| fs::write(host.dir.path().join("ateapi.yaml"), text).unwrap();
    let good = "store: embedded:store # here\nmanifests: manifests\ninsecure-plaintext: false\n";
    config(good);
    let line = ["--config", "ateapi.yaml", "--check"];
    assert_eq!(host.run(&line, &[]).status.code(), Some(0));
    assert_eq!(
        host.run(&["--check"], &[("HOLDFAST_CONFIG", "ateapi.yaml")])
            .status
            .code(),
        Some(0)
    );
    config(&format!("{good}lease-ttl: 10m\n"));
    host.refuses(
        &line,
        &[
            "--lease-ttl 10m must not be longer than",
            "--lease-ttl is from ateapi.yaml:4",
        ],
    );
    assert_eq!(
        host.run(&line, &[("HOLDFAST_LEASE_TTL", "20s")]).status.code(),
        Some(0)
    );
    assert_eq!(
        host.run(&[&line[..], &["--lease-ttl", "20s"]].concat(), &[])
            .status
            .code(),
        Some(0)
    );
    let output = host.run(&line, &[("HOLDFAST_LEASE_TTL", "soon")]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("--lease-ttl is from the environment: HOLDFAST_LEASE_TTL"),
        "{said}"
    );
    // The other name of a store, on the command line, takes the place of the one in the file.
    let address = ["--redis-cluster-address", "db:1"];
    config(good);
    assert_eq!(
        host.run(&[&line[..], &address].concat(), &[]).status.code(),
        Some(0)
    );
    config(&format!("{good}lease-time: 10s\n"));
    host.refuses(
        &line,
        &["ateapi.yaml:4: there is no setting \"lease-time\"; want one of grpc-listen-addr"],
    );
}

#[test]
fn an_error_names_its_flag_and_each_of_its_causes_once() {
    let host = Host::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let base = ["--store", "embedded:store", "--manifests", "manifests"];
    let output = host.run(&[&base[..], &["--grpc-listen-addr", &address]].concat(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: --grpc-listen-addr: cannot listen on {address}: Address already in use (os error 98)\n"
    );
    assert_eq!(stderr(&output), expected);

    fs::write(host.dir.path().join("store"), "").unwrap();
    let output = host.run(&[&base[..], &["--grpc-listen-addr", "127.0.0.1:0"]].concat(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error: --store: store: is empty"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_says_what_each_flag_means_by_default() {
    let host = Host::new();
    let help = String::from_utf8(host.run(&["--help"], &[]).stdout).unwrap();
    for text in [
        "127.0.0.1:8443",
        "[default: 5m]",
        "[default: 30s]",
        "[default: a fifth of --lease-ttl]",
        "HOLDFAST_LEASE_TTL",
        "250ms",
        "Exit codes",
    ] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
    let version = host.run(&["--version"], &[]);
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        format!("ateapi {}\n", env!("CARGO_PKG_VERSION"))
    );
}
