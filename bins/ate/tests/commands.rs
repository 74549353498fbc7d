//! Every command against a control plane, from the arguments to the exit code.

mod control;

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use control::{Plane, State};
use holdfast_rpc::ateapi::{Actor, Worker, actor};
use holdfast_rpc::status::{crash_actor, with_retry_after};
use tonic::Status;

fn actor(name: &str) -> Actor {
    Actor {
        actor_id: name.into(),
        version: 1,
        actor_template_namespace: "default".into(),
        actor_template_name: "counter".into(),
        status: actor::Status::Suspended.into(),
        atespace: "demo".into(),
        ..Actor::default()
    }
}

fn state() -> State {
    State {
        actors: vec![actor("one"), actor("two")],
        atespaces: vec!["demo".into()],
        ..State::default()
    }
}

/// Runs `ate` with the words of `line` against `endpoint`.
async fn ate(endpoint: &str, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ate"));
    command
        .env("ATE_ENDPOINT", endpoint)
        .args(line.split_whitespace());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_is_one_call_and_shows_what_came_of_it() {
    let worker = Worker {
        worker_namespace: "ns".into(),
        worker_pool: "p".into(),
        worker_pod: "w".into(),
        ..Worker::default()
    };
    let plane = Plane::start(
        State {
            workers: vec![worker],
            ..state()
        },
        "127.0.0.1:0",
    )
    .await;
    let table = |status: &str, version: u32| {
        let gap = " ".repeat("STATUS".len().max(status.len()) + 3 - status.len());
        let header_gap = " ".repeat("STATUS".len().max(status.len()) + 3 - "STATUS".len());
        format!(
            "ATESPACE   TEMPLATE NS   TEMPLATE   ID    STATUS{header_gap}ATEOM POD   ATEOM IP   VERSION\n\
             demo       default       counter    one   {status}{gap}<none>                 {version}\n"
        )
    };
    let endpoint = plane.address.to_string();
    for (line, call, shown) in [
        (
            "get actors one -a demo",
            "get demo/one",
            table("STATUS_SUSPENDED", 1),
        ),
        (
            "resume one -a demo",
            "resume demo/one",
            table("STATUS_RUNNING", 2),
        ),
        (
            "resume actor one -a demo --boot",
            "boot demo/one",
            table("STATUS_RUNNING", 3),
        ),
        (
            "pause actor one -a demo",
            "pause demo/one",
            table("STATUS_PAUSED", 4),
        ),
        (
            "suspend actor one -a demo",
            "suspend demo/one",
            table("STATUS_SUSPENDED", 5),
        ),
        (
            "revert actor one -a demo",
            "revert demo/one",
            table("STATUS_SUSPENDED", 6),
        ),
        (
            "delete actor one -a demo",
            "delete demo/one",
            "actor \"one\" deleted\n".into(),
        ),
        (
            "delete atespace demo",
            "delete atespace demo",
            "atespace \"demo\" deleted\n".into(),
        ),
        (
            "create atespace demo",
            "create atespace demo",
            "NAME\ndemo\n".into(),
        ),
        ("get atespace demo", "get atespace demo", "NAME\ndemo\n".into()),
        (
            "list atespaces -o json",
            "list atespaces",
            "{\n  \"atespaces\": [\n    {\n      \"name\": \"demo\"\n    }\n  ]\n}\n".into(),
        ),
        (
            "get workers",
            "list workers",
            "NAMESPACE   POOL   POD   STATUS   ASSIGNED ACTOR\nns          p      w     FREE     <none>\n"
                .into(),
        ),
    ] {
        let output = ate(&endpoint, line).await;
        assert_eq!(done(&output), shown, "{line}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        assert_eq!(plane.asked().last().unwrap(), call, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_is_created_from_a_template_with_a_selector() {
    let plane = Plane::start(state(), "127.0.0.1:0").await;
    let endpoint = plane.address.to_string();
    let shown = done(
        &ate(
            &endpoint,
            "create actor new -t default/counter -a demo -l tier=gpu -l zone=b -o yaml",
        )
        .await,
    );
    let expected = "\
actors:
- actorId: new
  actorTemplateName: counter
  actorTemplateNamespace: default
  atespace: demo
  status: STATUS_SUSPENDED
  version: \"1\"
  workerSelector:
    matchLabels:
      tier: gpu
      zone: b
";
    assert_eq!(shown, expected);
    done(&ate(&endpoint, "create actor plain -t default/counter -a demo").await);
    assert!(
        plane.asked()[1].contains("worker_selector: None"),
        "{:?}",
        plane.asked()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_has_a_line_for_each_thing_there_is_to_tell() {
    let plane = Plane::start(state(), "127.0.0.1:0").await;
    let endpoint = plane.address.to_string();
    let expected = "\
actor               demo/one
status              STATUS_SUSPENDED
fence               7
crashed during      resume
crash cause         snapshot corrupt
";
    assert_eq!(done(&ate(&endpoint, "explain one -a demo").await), expected);
    let json = done(&ate(&endpoint, "explain actor one -a demo -o json").await);
    assert!(
        json.contains("\n  \"fence\": \"7\"") && json.contains("\n  \"actor\": {"),
        "{json}"
    );
    assert_eq!(plane.asked(), ["explain demo/one", "explain demo/one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_are_listed_page_by_page() {
    let many = (0..2500).map(|n| actor(&format!("actor-{n:04}"))).collect();
    let plane = Plane::start(
        State {
            actors: many,
            ..State::default()
        },
        "127.0.0.1:0",
    )
    .await;
    let shown = done(&ate(&plane.address.to_string(), "get actors -A").await);
    assert_eq!(shown.lines().count(), 2501);
    assert!(shown.lines().last().unwrap().contains("actor-2499"));
    let pages = [
        "list \"\" 1000 after \"\"",
        "list \"\" 1000 after \"1000\"",
        "list \"\" 1000 after \"2000\"",
    ];
    assert_eq!(plane.asked(), pages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_followed_by_itself_is_not_asked_for_for_ever() {
    let plane = Plane::start(
        State {
            circular: true,
            ..state()
        },
        "127.0.0.1:0",
    )
    .await;
    let said = refused(&ate(&plane.address.to_string(), "get actors -a demo").await);
    assert!(said.contains("a page that is followed by itself"), "{said}");
    assert_eq!(plane.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_only_for_now_is_asked_again_with_a_note() {
    let soon = |status: Status| Some(with_retry_after(&status, Duration::from_millis(1)));
    let refusals = [
        Some(Status::aborted("another operation is in progress for this actor")),
        soon(Status::unavailable("this replica has stopped; ask another")),
        soon(Status::aborted("the lease was lost")),
    ];
    for line in [
        "resume one -a demo",
        "suspend one -a demo",
        "pause one -a demo",
        "revert one -a demo",
        "delete one -a demo",
    ] {
        let plane = Plane::start(
            State {
                refusals: refusals.clone().into(),
                ..state()
            },
            "127.0.0.1:0",
        )
        .await;
        let output = ate(&plane.address.to_string(), line).await;
        assert!(done(&output).contains("one"), "{line}");
        assert_eq!(plane.asked().len(), 4, "{line}");
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        let notes: Vec<_> = notes.lines().collect();
        assert_eq!(
            notes,
            [
                "another operation is in progress for this actor (Aborted); trying again in 200ms",
                "this replica has stopped; ask another (Unavailable); trying again in 300ms",
                "the lease was lost (Aborted); trying again in 450ms",
            ],
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_get_better_or_may_not_be_repeated_is_asked_once() {
    let no_worker = with_retry_after(
        &Status::failed_precondition("no free workers available"),
        Duration::from_secs(1),
    );
    for (line, status, said) in [
        (
            "resume one -a demo",
            no_worker,
            "error: no free workers available (FailedPrecondition)\n",
        ),
        (
            "resume one -a demo",
            Status::unavailable("gone"),
            "error: gone (Unavailable)\n",
        ),
        (
            "pause one -a demo",
            Status::internal(""),
            "error: Internal error (Internal)\n",
        ),
        (
            "delete one -a demo",
            Status::not_found("Actor one not found"),
            "error: Actor one not found (NotFound)\n",
        ),
        (
            "create atespace demo",
            Status::already_exists("Atespace demo already exists"),
            "error: Atespace demo already exists (AlreadyExists)\n",
        ),
    ] {
        let plane = Plane::start(
            State {
                refusals: [Some(status)].into(),
                ..state()
            },
            "127.0.0.1:0",
        )
        .await;
        assert_eq!(
            refused(&ate(&plane.address.to_string(), line).await),
            said,
            "{line}"
        );
        assert_eq!(plane.asked().len(), 1, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_second_attempt_to_delete_does_not_find_is_deleted() {
    let refusals = [
        Status::aborted("concurrent update conflict, please retry"),
        Status::not_found("Actor one not found"),
    ];
    let plane = Plane::start(
        State {
            refusals: refusals.map(Some).into(),
            ..state()
        },
        "127.0.0.1:0",
    )
    .await;
    let output = ate(&plane.address.to_string(), "delete one -a demo").await;
    assert_eq!(done(&output), "actor \"one\" deleted\n");
    assert_eq!(plane.asked(), ["delete demo/one"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atespace_that_does_not_exist_is_told_from_one_without_actors() {
    let plane = Plane::start(
        State {
            atespaces: vec!["empty".into()],
            ..State::default()
        },
        "127.0.0.1:0",
    )
    .await;
    let endpoint = plane.address.to_string();
    assert_eq!(
        done(&ate(&endpoint, "get actors -a empty").await).lines().count(),
        1
    );
    let said = refused(&ate(&endpoint, "get actors -a nope").await);
    assert_eq!(said, "error: Atespace nope not found (NotFound)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_come_too_late_is_not_waited_for() {
    let later = with_retry_after(&Status::aborted("busy"), Duration::from_secs(3600));
    let plane = Plane::start(
        State {
            refusals: [Some(later)].into(),
            ..state()
        },
        "127.0.0.1:0",
    )
    .await;
    let said = refused(&ate(&plane.address.to_string(), "resume one -a demo").await);
    assert_eq!(said, "error: busy (Aborted)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_left_after_the_timeout() {
    let plane = Plane::start(
        State {
            silent: true,
            ..state()
        },
        "127.0.0.1:0",
    )
    .await;
    let endpoint = plane.address.to_string();
    let said = refused(&ate(&endpoint, "resume one -a demo --timeout 50ms").await);
    let expected = format!(
        "error: no answer from {endpoint} within 50ms\n\
         hint: what was begun goes on; see how it ends with: ate get actor one --atespace demo\n"
    );
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_actor_comes_with_the_way_back() {
    let plane = Plane::start(
        State {
            refusals: [Some(crash_actor("actor one crashed"))].into(),
            ..state()
        },
        "127.0.0.1:0",
    )
    .await;
    let said = refused(&ate(&plane.address.to_string(), "resume one -a demo").await);
    let expected = "error: actor one crashed (DataLoss)\n\
                    hint: bring it back to its last good snapshot with: ate revert actor one --atespace demo\n";
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_not_taken_for_an_actor() {
    let plane = Plane::start(State::default(), "127.0.0.1:0").await;
    let said = refused(&ate(&plane.address.to_string(), "get actor one -a demo").await);
    assert!(said.contains("answered with an empty message"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_comes_with_a_hint() {
    // Bound and closed again: nobody else is given the port while this runs.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("none.sock").display());
    for endpoint in [format!("127.0.0.1:{port}"), socket] {
        let said = refused(&ate(&endpoint, "resume one -a demo").await);
        assert!(
            said.starts_with(&format!("error: cannot connect to {endpoint}: ")),
            "{said}"
        );
        assert!(
            said.ends_with("\nhint: is ateapi running? start one with: ate dev\n"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("api.sock").display());
    let _plane = Plane::start(state(), &socket).await;
    assert_eq!(done(&ate(&socket, "get atespaces").await), "NAME\ndemo\n");
}
