//! The manifests in `deploy/` start the programs that there are, and allow what they ask for.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use holdfast_tests::kubernetes::documents;
use holdfast_tests::pki::Authority;
use holdfast_tests::process::binary;
use serde_json::Value;
use tempfile::TempDir;

const README: &str = include_str!("../../../deploy/README.md");
const CONTROL_PLANE: &str = include_str!("../../../deploy/ateapi.yaml");
const NODE: &str = include_str!("../../../deploy/atelet.yaml");
const WORKERS: &str = include_str!("../../../deploy/workers.yaml");
const REST: [&str; 3] = [
    include_str!("../../../deploy/namespace.yaml"),
    include_str!("../../../deploy/rbac.yaml"),
    include_str!("../../../deploy/tenant.yaml"),
];

/// The only object of a kind.
fn of_kind(yaml: &str, kind: &str) -> Value {
    let mut found: Vec<Value> = documents(yaml).unwrap();
    found.retain(|document| document["kind"] == kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// The files of the Secret that a container has, as the README beside the manifests says.
fn credentials(pod: &Value) -> TempDir {
    let secret = pod["spec"]["volumes"].as_array().unwrap().iter();
    let secret = secret
        .filter_map(|volume| volume["secret"]["secretName"].as_str())
        .next();
    let row = README
        .split_once(&format!("| `{}` |", secret.unwrap()))
        .unwrap()
        .1;
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("all");
    // What is left of the first row, and those whose first cell is empty.
    let rows = row.lines().take_while(|line| !line.starts_with("| `"));
    for row in rows {
        let Some(file) = row.split('`').nth(1) else { break };
        let text = match file {
            "bundle.pem" => authority.bundle(&["api.ate-system.svc", "atelet.ate-system.svc"]),
            _ => authority.certificates(),
        };
        std::fs::write(directory.path().join(file), text).unwrap();
    }
    directory
}

/// What a program says to the arguments of its container, with variables put in, when it only checks them.
fn checked(program: &mut Command, pod: &Value) -> Output {
    let container = &pod["spec"]["containers"][0];
    let directory = credentials(pod);
    let variables = [
        ("$(NODE_NAME)", "node-1"),
        ("$(POD_IP)", "10.0.0.1"),
        ("$(POD_UID)", "uid-1"),
        ("/run/holdfast", directory.path().to_str().unwrap()),
    ];
    for argument in texts(&container["args"]) {
        let whole = variables
            .iter()
            .fold(argument, |text, (name, value)| text.replace(name, value));
        assert!(!whole.contains("$("), "{whole}");
        program.arg(whole);
    }
    program.arg("--check").output().unwrap()
}

#[test]
fn the_control_plane_starts_with_what_its_deployment_says() {
    let deployment = of_kind(CONTROL_PLANE, "Deployment");
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(deployment["metadata"]["name"], "ate-api-server-deployment");
    assert_eq!(container["name"], "ate-api-server");
    let service = of_kind(CONTROL_PLANE, "Service");
    assert_eq!(
        (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]),
        (&"api".into(), &443.into())
    );
    assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
    let mut program = Command::new(env!("CARGO_BIN_EXE_ateapi"));
    program.env_clear().env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let output = checked(&mut program, pod);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_node_daemon_is_found_where_the_control_plane_looks_for_it() {
    let daemon = of_kind(NODE, "DaemonSet");
    assert_eq!(daemon["metadata"]["namespace"], "ate-system");
    let pod = &daemon["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["app"], "atelet");
    let container = &pod["spec"]["containers"][0];
    let args = texts(&container["args"]);
    assert!(args.contains(&"--port=8085".to_owned()) && container["ports"][0]["hostPort"] == 8085);
    let mut program = Command::new(binary("atelet").unwrap());
    let output = checked(program.env_clear(), pod);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn workers_are_found_by_their_pool_and_serve_under_the_uid_of_their_pod() {
    let deployment = of_kind(WORKERS, "Deployment");
    let pod = &deployment["spec"]["template"];
    assert_eq!(
        pod["metadata"]["labels"],
        deployment["spec"]["selector"]["matchLabels"]
    );
    assert!(pod["metadata"]["labels"]["ate.dev/worker-pool"].is_string());
    let ateom = &pod["spec"]["containers"][0];
    // The kubelet counts the runs of the container that is called so.
    assert_eq!(
        (&ateom["name"], &ateom["args"][0]),
        (&"ateom".into(), &"--pod-uid=$(POD_UID)".into())
    );
    assert_eq!(
        (
            &ateom["env"][0]["name"],
            &ateom["env"][0]["valueFrom"]["fieldRef"]["fieldPath"]
        ),
        (&"POD_UID".into(), &"metadata.uid".into())
    );
    let path = &pod["spec"]["volumes"][0]["hostPath"]["path"];
    assert_eq!(path, &ateom["volumeMounts"][0]["mountPath"]);
}

#[test]
fn nothing_may_be_written_and_secrets_are_a_matter_of_tenants() {
    let [_, cluster, tenant] = REST.map(|yaml| documents(yaml).unwrap());
    for document in cluster.iter().chain(&tenant) {
        for rule in document["rules"].as_array().into_iter().flatten() {
            let verbs: BTreeSet<String> = texts(&rule["verbs"]).into_iter().collect();
            assert!(
                verbs
                    .iter()
                    .all(|verb| matches!(verb.as_str(), "get" | "list" | "watch")),
                "{rule}"
            );
            let is_of_secrets = texts(&rule["resources"]).contains(&"secrets".to_owned());
            assert_eq!(is_of_secrets, document["kind"] == "Role", "{rule}");
            assert!(
                !is_of_secrets || verbs == BTreeSet::from(["get".to_owned()]),
                "{rule}"
            );
        }
    }
}
