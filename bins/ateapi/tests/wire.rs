//! What a replica as it ships answers to requests that make no sense, and to those that end badly: the
//! original's codes and words, which routers, users and tests compare.

mod rig;

use std::collections::BTreeMap;

use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::session_identity_client::SessionIdentityClient;
use holdfast_rpc::ateapi::{ActorRef, actor::Status as ActorStatus};
use holdfast_rpc::ateapi::{
    CreateActorRequest, CreateAtespaceRequest, DebugClearRequest, DeleteActorRequest, DeleteAtespaceRequest,
    GetActorRequest, GetAtespaceRequest, ListActorsRequest, ListAtespacesRequest, ListWorkersRequest,
    MintCertRequest, MintJwtRequest, PauseActorRequest, ResumeActorRequest, Selector, SuspendActorRequest,
    UpdateActorRequest,
};
use holdfast_rpc::holdfast_v1::HeartbeatRequest;
use holdfast_rpc::holdfast_v1::nodes_client::NodesClient;
use holdfast_rpc::status::{Reason, reasons, retry_after};
use holdfast_rpc::trailer::ELAPSED;
use holdfast_runtime::net::{Address, Channel, Transport};
use holdfast_runtime::tokio;
use tonic::{Code, Request, Status};

use rig::{Host, Node, PATIENCE, named};

const NAME_RULE: &str = "must start and end with a lower case alphanumeric character, and consist only of lower \
                         case alphanumeric characters or '-'";
const KEY_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                        with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                        validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                          '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                          'my_value',  or '12345', regex used for validation is \
                          '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn plain(endpoint: &str) -> Channel {
    let address: Address = endpoint.parse().unwrap();
    Channel::new(address, Transport::default())
}

fn at(atespace: &str, name: &str) -> Option<ActorRef> {
    Some(ActorRef {
        atespace: atespace.to_owned(),
        name: name.to_owned(),
    })
}

fn labels(pairs: &[(&str, &str)]) -> Option<Selector> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Some(Selector {
        match_labels: pairs.collect::<BTreeMap<_, _>>(),
    })
}

/// A request that is right but for what a row of a table changes.
fn create(change: impl FnOnce(&mut CreateActorRequest)) -> CreateActorRequest {
    let mut request = CreateActorRequest {
        actor_ref: named("new"),
        actor_template_namespace: "team".to_owned(),
        actor_template_name: "counter".to_owned(),
        worker_selector: None,
    };
    change(&mut request);
    request
}

/// What was answered, and what should have been.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn row<T>(&mut self, what: &str, answer: Result<T, Status>, code: Code, text: &str) {
        match answer {
            Ok(_) => self.0.push(format!("{what}: accepted; want {code:?}: {text}")),
            Err(status) if status.code() == code && status.message() == text => {
                // Success and failure are both measured.
                if !status.metadata().contains_key(ELAPSED) {
                    self.0.push(format!("{what}: has no {ELAPSED}"));
                }
            }
            Err(status) => {
                let (is, said) = (status.code(), status.message());
                self.0
                    .push(format!("{what}:\n  is   {is:?}: {said}\n  want {code:?}: {text}"));
            }
        }
    }
}

macro_rules! refused {
    ($table:ident, $client:ident, $($method:ident($request:expr) => $code:ident, $text:expr;)+) => {$(
        let answer = $client.$method($request).await;
        $table.row(stringify!($method($request)), answer, Code::$code, &$text);
    )+};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_malformed_request_has_the_code_and_the_words_of_the_original() {
    let host = Host::new();
    let (mut replica, endpoint) = host.start(&[]);
    let mut control = ControlClient::new(plain(&endpoint)).max_encoding_message_size(64 << 20);
    for name in ["demo", "full"] {
        let request = CreateAtespaceRequest {
            name: name.to_owned(),
        };
        control.create_atespace(request).await.unwrap();
    }
    control
        .create_actor(create(|request| request.actor_ref = named("taken")))
        .await
        .unwrap();
    let (long, upper) = ("a".repeat(64), "A".to_owned());
    let eleven: Vec<String> = (0..11).map(|n| format!("k{n}")).collect();
    let eleven: Vec<(&str, &str)> = eleven.iter().map(|key| (key.as_str(), "")).collect();
    let mut table = Table::default();

    refused! {table, control,
        create_actor(CreateActorRequest::default()) => InvalidArgument, "actor_template_namespace is required";
        create_actor(create(|r| r.actor_template_name.clear())) => InvalidArgument, "actor_template_name is required";
        create_actor(create(|r| r.actor_ref = None)) => InvalidArgument, "actor_id is required";
        create_actor(create(|r| r.actor_ref = at("", &long))) => InvalidArgument,
            "invalid actor_id: must be no more than 63 characters";
        create_actor(create(|r| r.actor_ref = at("", &upper))) => InvalidArgument, format!("invalid actor_id: {NAME_RULE}");
        create_actor(create(|r| r.actor_ref = at("", "-a"))) => InvalidArgument, format!("invalid actor_id: {NAME_RULE}");
        create_actor(create(|r| r.actor_ref = at("", "a:b"))) => InvalidArgument, format!("invalid actor_id: {NAME_RULE}");
        create_actor(create(|r| r.actor_ref = at("", "a"))) => InvalidArgument, "atespace is required";
        create_actor(create(|r| r.actor_ref = at(&long, "a"))) => InvalidArgument,
            "invalid atespace: must be no more than 63 characters";
        create_actor(create(|r| r.actor_ref = at("a_b", "a"))) => InvalidArgument, format!("invalid atespace: {NAME_RULE}");
        create_actor(create(|r| r.worker_selector = labels(&eleven))) => InvalidArgument,
            "worker_selector has 11 match_labels entries, exceeding the limit of 10";
        create_actor(create(|r| r.worker_selector = labels(&[("bad key", "")]))) => InvalidArgument,
            format!("invalid worker_selector label key \"bad key\": {KEY_RULE}");
        create_actor(create(|r| r.worker_selector = labels(&[("", "")]))) => InvalidArgument,
            format!("invalid worker_selector label key \"\": name part must be non-empty; {KEY_RULE}");
        create_actor(create(|r| r.worker_selector = labels(&[(&long, "")]))) => InvalidArgument,
            format!("invalid worker_selector label key \"{long}\": name part must be no more than 63 bytes");
        create_actor(create(|r| r.worker_selector = labels(&[("/a", "")]))) => InvalidArgument,
            "invalid worker_selector label key \"/a\": prefix part must be non-empty";
        create_actor(create(|r| r.worker_selector = labels(&[("a", "bad value")]))) => InvalidArgument,
            format!("invalid worker_selector label value \"bad value\" for key \"a\": {VALUE_RULE}");
        create_actor(create(|r| r.worker_selector = labels(&[("a", &long)]))) => InvalidArgument,
            format!("invalid worker_selector label value \"{long}\" for key \"a\": must be no more than 63 bytes");
        create_actor(create(|r| r.actor_template_name = "none".into())) => FailedPrecondition,
            "ActorTemplate team/none not found";
        create_actor(create(|r| r.actor_ref = at("none", "a"))) => FailedPrecondition, "Atespace none not found";
        create_actor(create(|r| r.actor_ref = named("taken"))) => AlreadyExists, "Actor taken already exists";

        get_actor(GetActorRequest { actor_ref: None }) => InvalidArgument, "id is required";
        get_actor(GetActorRequest { actor_ref: at("", "a") }) => InvalidArgument, "atespace is required";
        get_actor(GetActorRequest { actor_ref: at("demo", "none") }) => NotFound, "Actor none not found";
        get_actor(GetActorRequest { actor_ref: at("demo", "a:b") }) => NotFound, "Actor a:b not found";

        update_actor(UpdateActorRequest::default()) => InvalidArgument, "actor_id is required";
        update_actor(UpdateActorRequest { actor_ref: at("", "a"), worker_selector: None }) => InvalidArgument,
            "atespace is required";
        update_actor(UpdateActorRequest { actor_ref: at("A", "a"), worker_selector: None }) => InvalidArgument,
            format!("invalid atespace: {NAME_RULE}");
        update_actor(UpdateActorRequest { actor_ref: named("taken"), worker_selector: labels(&[("a", "?")]) }) =>
            InvalidArgument, format!("invalid worker_selector label value \"?\" for key \"a\": {VALUE_RULE}");
        update_actor(UpdateActorRequest { actor_ref: named("none"), worker_selector: None }) => NotFound,
            "Actor none not found";

        delete_actor(DeleteActorRequest { actor_ref: None }) => InvalidArgument, "actor_id is required";
        delete_actor(DeleteActorRequest { actor_ref: at("", "A") }) => InvalidArgument, format!("invalid actor_id: {NAME_RULE}");
        delete_actor(DeleteActorRequest { actor_ref: at("", "a") }) => InvalidArgument, "atespace is required";
        delete_actor(DeleteActorRequest { actor_ref: named("none") }) => NotFound, "Actor none not found";

        resume_actor(ResumeActorRequest { actor_ref: None, boot: false }) => InvalidArgument, "id is required";
        resume_actor(ResumeActorRequest { actor_ref: at("", "a"), boot: true }) => InvalidArgument, "atespace is required";
        resume_actor(ResumeActorRequest { actor_ref: named("none"), boot: false }) => NotFound, "Actor none not found";
        resume_actor(ResumeActorRequest { actor_ref: named("taken"), boot: false }) => FailedPrecondition,
            "no free workers available";
        suspend_actor(SuspendActorRequest { actor_ref: None }) => InvalidArgument, "id is required";
        suspend_actor(SuspendActorRequest { actor_ref: at("", "a") }) => InvalidArgument, "atespace is required";
        suspend_actor(SuspendActorRequest { actor_ref: named("none") }) => NotFound, "Actor none not found";
        pause_actor(PauseActorRequest { actor_ref: None }) => InvalidArgument, "id is required";
        pause_actor(PauseActorRequest { actor_ref: at("", "a") }) => InvalidArgument, "atespace is required";
        pause_actor(PauseActorRequest { actor_ref: named("none") }) => NotFound, "Actor none not found";

        list_actors(ListActorsRequest { atespace: "A".into(), ..ListActorsRequest::default() }) => InvalidArgument,
            format!("invalid atespace: {NAME_RULE}");
        list_actors(ListActorsRequest { page_size: -1, ..ListActorsRequest::default() }) => InvalidArgument,
            "page_size cannot be negative";
        list_actors(ListActorsRequest { page_size: 1001, ..ListActorsRequest::default() }) => InvalidArgument,
            "page_size 1001 exceeds maximum page size 1000";

        create_atespace(CreateAtespaceRequest::default()) => InvalidArgument, "name is required";
        create_atespace(CreateAtespaceRequest { name: long.clone() }) => InvalidArgument,
            "invalid atespace: must be no more than 63 characters";
        create_atespace(CreateAtespaceRequest { name: "a.b".into() }) => InvalidArgument, format!("invalid atespace: {NAME_RULE}");
        create_atespace(CreateAtespaceRequest { name: "demo".into() }) => AlreadyExists, "Atespace demo already exists";
        get_atespace(GetAtespaceRequest::default()) => InvalidArgument, "name is required";
        get_atespace(GetAtespaceRequest { name: "A".into() }) => InvalidArgument, format!("invalid atespace: {NAME_RULE}");
        get_atespace(GetAtespaceRequest { name: "none".into() }) => NotFound, "Atespace none not found";
        delete_atespace(DeleteAtespaceRequest::default()) => InvalidArgument, "name is required";
        delete_atespace(DeleteAtespaceRequest { name: "A".into() }) => InvalidArgument, format!("invalid atespace: {NAME_RULE}");
        delete_atespace(DeleteAtespaceRequest { name: "none".into() }) => NotFound, "Atespace none not found";
        delete_atespace(DeleteAtespaceRequest { name: "demo".into() }) => FailedPrecondition, "Atespace demo is not empty";

        debug_clear(DebugClearRequest {}) => PermissionDenied,
            "DebugClear erases every record and is not offered here; start ateapi with --enable-debug-clear";
        create_atespace(CreateAtespaceRequest { name: "a".repeat(5 << 20) }) => ResourceExhausted,
            format!("grpc: received message larger than max ({} vs. 4194304)", (5 << 20) + 5);
    }
    let mut identity = SessionIdentityClient::new(plain(&endpoint));
    refused! {table, identity,
        mint_jwt(MintJwtRequest::default()) => Unauthenticated, "Need authorization header";
        mint_cert(MintCertRequest::default()) => Unauthenticated, "unexpected peer transport credentials";
    }
    assert!(table.0.is_empty(), "{}", table.0.join("\n"));
    // None of it has left a trace.
    let actors = control
        .list_actors(ListActorsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(actors.actors.len(), 1);
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_crash_on_a_node_reaches_the_caller_with_its_reason_and_has_a_way_out() {
    let host = Host::new();
    let (mut replica, endpoint) = host.start(&[]);
    let (node, _booted) = Node::start().await;
    let channel = plain(&endpoint);
    NodesClient::new(channel.clone())
        .heartbeat(node.report())
        .await
        .unwrap();
    let mut control = ControlClient::new(channel);
    control
        .create_atespace(CreateAtespaceRequest {
            name: "demo".to_owned(),
        })
        .await
        .unwrap();
    let running = rig::run(&mut control, "one").await;
    assert_eq!(
        (running.status(), running.ateom_pod_name.as_str()),
        (ActorStatus::Running, "w-0")
    );

    let suspend = SuspendActorRequest {
        actor_ref: named("one"),
    };
    let crash = control.suspend_actor(suspend.clone()).await.unwrap_err();
    assert_eq!(
        (crash.code(), crash.message()),
        (Code::DataLoss, "actor one crashed")
    );
    assert_eq!(reasons(&crash), [Reason::CrashActor]);
    assert!(crash.metadata().contains_key(ELAPSED));

    let get = GetActorRequest {
        actor_ref: named("one"),
    };
    let crashed = control.get_actor(get).await.unwrap().into_inner().actor.unwrap();
    assert_eq!(crashed.status, 7);
    assert!(
        !crashed.in_progress_snapshot.is_empty(),
        "for those who investigate"
    );
    let cleared = [
        &crashed.ateom_pod_namespace,
        &crashed.ateom_pod_name,
        &crashed.ateom_pod_ip,
    ];
    assert_eq!(cleared, ["", "", ""]);
    assert_eq!(
        (crashed.ateom_pod_uid.as_str(), crashed.worker_pool_name.as_str()),
        ("", "")
    );
    let workers = control
        .list_workers(ListWorkersRequest {})
        .await
        .unwrap()
        .into_inner()
        .workers;
    assert_eq!(
        (workers.len(), workers[0].actor_id.as_str()),
        (1, ""),
        "the worker is free"
    );

    let mut table = Table::default();
    refused! {table, control,
        resume_actor(ResumeActorRequest { actor_ref: named("one"), boot: false }) => FailedPrecondition,
            "can not resume crashed actor one";
        suspend_actor(suspend.clone()) => FailedPrecondition, "can not suspend crashed actor one";
        pause_actor(PauseActorRequest { actor_ref: named("one") }) => FailedPrecondition, "can not pause crashed actor one";
    }
    assert!(table.0.is_empty(), "{}", table.0.join("\n"));
    control
        .delete_actor(DeleteActorRequest {
            actor_ref: named("one"),
        })
        .await
        .unwrap();
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_above_the_bound_are_sent_away_and_nodes_are_heard_all_the_same() {
    let host = Host::new();
    let (mut replica, endpoint) = host.start(&["--max-concurrent-calls=1"]);
    let (node, mut booted) = Node::start().await;
    let channel = plain(&endpoint);
    NodesClient::new(channel.clone())
        .heartbeat(node.report())
        .await
        .unwrap();
    let mut control = ControlClient::new(channel.clone());
    control
        .create_atespace(CreateAtespaceRequest {
            name: "demo".to_owned(),
        })
        .await
        .unwrap();
    let mut other = control.clone();
    let stuck = tokio::spawn(async move { rig::run(&mut other, "stuck").await });
    booted.recv().await.unwrap();

    let refused = control.list_atespaces(ListAtespacesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let expected =
        "this server has 1 calls in hand and takes no more; try again later, or ask another replica";
    assert_eq!(refused.message(), expected);
    assert!(retry_after(&refused).is_some());
    NodesClient::new(channel)
        .heartbeat(Request::new(node.report()))
        .await
        .unwrap();

    stuck.abort();
    let left = async || {
        while control
            .clone()
            .list_atespaces(ListAtespacesRequest {})
            .await
            .is_err()
        {}
    };
    tokio::time::timeout(PATIENCE, left())
        .await
        .expect("the place of a caller who has left is free");
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn debug_clear_deletes_everything_where_an_operator_has_allowed_it() {
    let host = Host::new();
    let (mut replica, endpoint) = host.start(&["--enable-debug-clear"]);
    let (node, _booted) = Node::start().await;
    let channel = plain(&endpoint);
    NodesClient::new(channel.clone())
        .heartbeat(node.report())
        .await
        .unwrap();
    let mut control = ControlClient::new(channel.clone());
    let demo = CreateAtespaceRequest {
        name: "demo".to_owned(),
    };
    control.create_atespace(demo.clone()).await.unwrap();
    rig::run(&mut control, "one").await;
    let asleep = create(|request| request.actor_ref = named("two"));
    control.create_actor(asleep).await.unwrap();

    control.debug_clear(DebugClearRequest {}).await.unwrap();
    let actors = control.list_actors(ListActorsRequest::default()).await.unwrap();
    assert!(actors.into_inner().actors.is_empty());
    let atespaces = control.list_atespaces(ListAtespacesRequest {}).await.unwrap();
    assert!(atespaces.into_inner().atespaces.is_empty());
    let freed = async {
        loop {
            let workers = control.list_workers(ListWorkersRequest {}).await.unwrap();
            let workers = workers.into_inner().workers;
            if workers.iter().all(|worker| worker.actor_id.is_empty()) {
                return;
            }
        }
    };
    let freed = tokio::time::timeout(PATIENCE, freed).await;
    freed.expect("the replica hears that nobody is on its workers any more");

    // Life goes on: the node is heard again, and what is made now is there.
    let again = HeartbeatRequest {
        sequence: 2,
        ..node.report()
    };
    NodesClient::new(channel).heartbeat(again).await.unwrap();
    control.create_atespace(demo).await.unwrap();
    rig::run(&mut control, "one").await;
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}
