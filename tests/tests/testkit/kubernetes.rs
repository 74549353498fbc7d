//! The API server does what a real one does, as far as clients can tell.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_tests::http::{self, Connection};
use holdfast_tests::kubernetes::{ApiServer, Crd};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

const CRD: &str = "
spec:
  group: example.dev
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions:
  - name: v1
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1}
              colour: {type: string, enum: [red, blue], default: red}
          status:
            type: object
            properties: {phase: {type: string}}
";

fn pod(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "team", "name": name, "labels": {"app": app}},
        "spec": {}, "status": {},
    })
}

fn thing(size: i64) -> Value {
    json!({
        "apiVersion": "example.dev/v1", "kind": "Thing",
        "metadata": {"namespace": "team", "name": "one"}, "spec": {"size": size, "weight": 3},
    })
}

fn address(api: &ApiServer) -> SocketAddr {
    let directory = tempfile::tempdir().unwrap();
    let path = api.kubeconfig(directory.path()).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("http://").unwrap();
    rest.split_once('\'').unwrap().0.parse().unwrap()
}

fn get(api: &ApiServer, target: &str) -> (u16, Value) {
    let response = http::get(address(api), "api", target, WITHIN).unwrap();
    (response.status, response.json().unwrap())
}

fn send(api: &ApiServer, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let mut connection = Connection::open(address(api), WITHIN).unwrap();
    let body = body.to_string();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.send((head + &body).as_bytes()).unwrap();
    let response = connection.receive().unwrap();
    (response.status, response.json().unwrap())
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// What a watch is told until its time is over.
fn watch(api: &ApiServer, query: &str) -> Vec<Value> {
    let target = format!("/api/v1/pods?watch=true&timeoutSeconds=1&{query}");
    let response = http::get(address(api), "api", &target, WITHIN).unwrap();
    let text = response.text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn told(events: &[Value]) -> Vec<(&str, &str)> {
    events
        .iter()
        .map(|event| {
            (
                event["type"].as_str().unwrap(),
                event["object"]["metadata"]["name"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn lists_come_in_pages_and_by_labels_and_a_page_of_a_forgotten_list_is_refused() {
    let api = ApiServer::start().unwrap();
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
        api.create(pod(name, app)).unwrap();
    }
    let (_, first) = get(
        &api,
        "/api/v1/namespaces/team/pods?limit=2&labelSelector=app%20in%20(x,z)",
    );
    assert_eq!(names(&first), ["a", "c"]);
    let next = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = get(
        &api,
        &format!("/api/v1/pods?limit=2&labelSelector=app%3Dx&continue={next}"),
    );
    assert_eq!(
        (names(&second), &second["metadata"]["continue"]),
        (vec!["d"], &json!(""))
    );
    assert_eq!(
        names(&get(&api, "/api/v1/namespaces/other/pods").1),
        Vec::<&str>::new()
    );
    api.forget_history();
    let (status, refused) = get(&api, &format!("/api/v1/pods?limit=2&continue={next}"));
    assert_eq!((status, &refused["reason"]), (410, &json!("Expired")));
}

#[test]
fn a_watch_tells_what_happened_since_a_version_and_how_far_it_has_come() {
    let api = ApiServer::start().unwrap();
    api.create(pod("a", "x")).unwrap();
    let (_, list) = get(&api, "/api/v1/pods");
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    api.create(pod("b", "x")).unwrap();
    api.change("Pod", "team", "a", |pod| {
        pod["metadata"]["labels"]["app"] = json!("y")
    })
    .unwrap();
    api.delete("Pod", "team", "b").unwrap();
    let all = watch(&api, &format!("resourceVersion={version}"));
    assert_eq!(told(&all), [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]);
    let selected = watch(&api, &format!("resourceVersion={version}&labelSelector=app%3Dx"));
    assert_eq!(
        told(&selected),
        [("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]
    );

    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "s"}});
    let latest = all[2]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    let newest = api.create(secret).unwrap()["metadata"]["resourceVersion"].clone();
    let idle = watch(
        &api,
        &format!("resourceVersion={latest}&allowWatchBookmarks=true"),
    );
    assert_eq!(told(&idle), [("BOOKMARK", "")]);
    assert_eq!(idle[0]["object"]["metadata"]["resourceVersion"], newest);

    api.forget_history();
    let forgotten = watch(&api, &format!("resourceVersion={version}"));
    assert_eq!(
        (&forgotten[0]["type"], &forgotten[0]["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
}

#[test]
fn custom_resources_get_their_defaults_lose_what_is_unknown_and_keep_their_rules() {
    let api = ApiServer::start().unwrap();
    let things = "/apis/example.dev/v1/namespaces/team/things";
    assert_eq!(get(&api, things).0, 404);
    api.install(Crd::read(CRD).unwrap());
    let (status, created) = send(&api, "POST", things, &thing(2));
    assert_eq!(
        (status, &created["spec"]),
        (201, &json!({"size": 2, "colour": "red"}))
    );
    assert_eq!(send(&api, "POST", things, &thing(2)).0, 409);
    let (status, refused) = send(&api, "PUT", &format!("{things}/one"), &thing(0));
    assert_eq!(
        (status, refused["message"].as_str().unwrap()),
        (422, "spec.size: must be at least 1")
    );
}

#[test]
fn a_write_that_is_behind_conflicts_and_status_is_written_apart() {
    let api = ApiServer::start().unwrap();
    api.install(Crd::read(CRD).unwrap());
    let created = api.create(thing(2)).unwrap();
    let one = "/apis/example.dev/v1/namespaces/team/things/one";
    let mut change = created.clone();
    change["spec"]["size"] = json!(3);
    change["status"] = json!({"phase": "Ready"});
    let (_, changed) = send(&api, "PUT", one, &change);
    assert_eq!(
        (&changed["spec"]["size"], &changed["status"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(changed["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(send(&api, "PUT", one, &change).1["reason"], "Conflict");
    change["metadata"]["resourceVersion"] = Value::Null;
    change["spec"]["size"] = json!(9);
    let (_, changed) = send(&api, "PUT", &format!("{one}/status"), &change);
    assert_eq!(
        (&changed["spec"]["size"], &changed["status"]["phase"]),
        (&json!(3), &json!("Ready"))
    );
}

#[test]
fn it_goes_away_and_comes_back_with_everything() {
    let api = ApiServer::start().unwrap();
    api.create(pod("a", "x")).unwrap();
    api.go_away();
    assert!(http::get(address(&api), "api", "/api/v1/pods", WITHIN).is_err());
    api.come_back();
    assert_eq!(names(&get(&api, "/api/v1/pods").1), ["a"]);
}
