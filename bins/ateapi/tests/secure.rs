//! A real replica behind TLS: who is let in, what identities it mints and for whom, and what it never says.

mod rig;

use std::fs;
use std::path::Path;
use std::process::Command;

use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::session_identity_client::SessionIdentityClient;
use holdfast_rpc::ateapi::{CreateAtespaceRequest, ListAtespacesRequest, MintCertRequest, MintJwtRequest};
use holdfast_rpc::atelet::RunRequest;
use holdfast_rpc::atelet::ateom_herder_client::AteomHerderClient;
use holdfast_rpc::holdfast_v1::nodes_client::NodesClient;
use holdfast_rpc::trailer::ELAPSED;
use holdfast_runtime::net::{Address, Channel, Transport};
use holdfast_runtime::tokio;
use holdfast_security::{ClientCertificates, ClientOptions, ServerFiles};
use holdfast_tests::pki::{Authority, Signer, TokenIssuer, certificate_request};
use holdfast_tests::process::{Process, binary};
use holdfast_tests::redis::{Persistence, Server};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use rig::{Host, Node, PATIENCE};

const AUDIENCE: &str = "api.ate-system.svc";

fn claims(issuer: &TokenIssuer, more: &Value) -> Value {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut claims = json!({"iss": issuer.url, "aud": [AUDIENCE], "exp": now + 3600, "iat": now});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn channel(host: &Host, endpoint: &str, bundle: Option<&str>, token: Option<&str>) -> Channel {
    let options = ClientOptions {
        ca_certs: Some(host.path().join("ca")),
        cred_bundle: bundle.map(|name| host.path().join(name)),
        token_file: token.map(|token| host.put("token", token)),
        ..ClientOptions::default()
    };
    let address: Address = endpoint.parse().unwrap();
    Channel::secured(address, Transport::default(), options.open().unwrap())
}

#[track_caller]
fn assert_is<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, message));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_jwt_every_call_has_a_token_that_is_believed_or_is_told_what_is_wrong_with_it() {
    let host = Host::new();
    let authority = Authority::new("servers");
    host.put("ca", &authority.certificates());
    host.put("bundle", &authority.bundle(&["127.0.0.1"]));
    let (ec, rsa) = (Signer::ec("e"), Signer::rsa("r"));
    let (first, second) = (TokenIssuer::start(&[&ec]), TokenIssuer::start(&[&rsa]));
    let issuers = format!("{},{}", first.url, second.url);
    let (mut replica, endpoint) = host.start(&[
        "--grpc-server-cred-bundle=bundle",
        "--auth-mode=jwt",
        &format!("--client-jwt-issuer={issuers}"),
        &format!("--client-jwt-audience={AUDIENCE}"),
    ]);

    for token in [
        ec.token(&claims(&first, &json!({}))),
        rsa.token(&claims(&second, &json!({}))),
    ] {
        let mut control = ControlClient::new(channel(&host, &endpoint, None, Some(&token)));
        let answer = control.list_atespaces(ListAtespacesRequest {}).await.unwrap();
        assert!(answer.metadata().contains_key(ELAPSED));
    }
    let mut anonymous = ControlClient::new(channel(&host, &endpoint, None, None));
    let refused = anonymous
        .list_atespaces(ListAtespacesRequest {})
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "missing bearer token")
    );
    assert!(
        !refused.metadata().contains_key(ELAPSED),
        "who is not let in is not measured"
    );

    let ask = async |header: &'static str| {
        let mut request = Request::new(ListAtespacesRequest {});
        request
            .metadata_mut()
            .insert("authorization", header.parse().unwrap());
        let mut control = ControlClient::new(channel(&host, &endpoint, None, None));
        control.list_atespaces(request).await
    };
    for header in ["", "Bearer", "Bearer ", "bearer x", "Basic x", "x"] {
        assert_is(ask(header).await, Code::Unauthenticated, "missing bearer token");
    }
    let malformed = "invalid bearer token: malformed token: want 3 segments";
    assert_is(ask("Bearer x").await, Code::Unauthenticated, malformed);
    let token = ec.token(&claims(&first, &json!({"aud": "other"})));
    let mut control = ControlClient::new(channel(&host, &endpoint, None, Some(&token)));
    let meant = format!("invalid bearer token: token is not for audience \"{AUDIENCE}\"");
    assert_is(
        control.list_atespaces(ListAtespacesRequest {}).await,
        Code::Unauthenticated,
        &meant,
    );

    // The command line has the same options.
    host.put("token", &rsa.token(&claims(&second, &json!({}))));
    let line = "--ca-certs ca --token-file token create atespace demo";
    assert_eq!(
        String::from_utf8_lossy(&host.ate(&endpoint, line).stdout),
        "NAME\ndemo\n"
    );
    let refused = host.ate(&endpoint, "--ca-certs ca get atespaces");
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "error: missing bearer token (Unauthenticated)\n"
    );
    let log = replica.log();
    assert_eq!(
        log.matches("Handle RPC").count(),
        3,
        "only those that were let in: {log}"
    );
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn identities_are_minted_for_the_worker_that_the_session_is_on_and_for_nobody_else() {
    let host = Host::new();
    let authority = Authority::new("servers");
    let workers = Authority::new("workers");
    let (sessions, signer) = (Authority::new("sessions"), Signer::ec("s"));
    host.put("ca", &authority.certificates());
    host.put("bundle", &authority.bundle(&["127.0.0.1"]));
    host.put("workers", &workers.certificates());
    host.put("jwt-pool", &signer.pool());
    host.put("ca-pool", &sessions.pool());
    let key = Signer::rsa("k");
    let issuer = TokenIssuer::start(&[&key]);
    let flags = |binding: &str| {
        [
            "--grpc-server-cred-bundle=bundle".to_owned(),
            "--workerpool-ca-certs=workers".to_owned(),
            format!("--client-jwt-issuer={}", issuer.url),
            format!("--client-jwt-audience={AUDIENCE}"),
            "--session-id-jwt-pool=jwt-pool".to_owned(),
            "--session-id-ca-pool=ca-pool".to_owned(),
            format!("--session-id-binding={binding}"),
        ]
    };
    let started = flags("session");
    let started: Vec<&str> = started.iter().map(String::as_str).collect();
    let (mut replica, endpoint) = host.start(&started);

    let (node, _booted) = Node::start().await;
    let plain = channel(&host, &endpoint, None, None);
    NodesClient::new(plain.clone())
        .heartbeat(node.report())
        .await
        .unwrap();
    let mut control = ControlClient::new(plain.clone());
    control
        .create_atespace(CreateAtespaceRequest { name: "demo".into() })
        .await
        .unwrap();
    rig::run(&mut control, "one").await;

    let pod = |namespace: &str, name: &str, uid: &str| {
        key.token(&claims(
            &issuer,
            &json!({"kubernetes.io": {"namespace": namespace, "pod": {"name": name, "uid": uid}}}),
        ))
    };
    let jwt = async |token: &str, session: &str, audience: &[&str]| {
        let mut request = Request::new(MintJwtRequest {
            audience: audience.iter().map(|one| (*one).to_owned()).collect(),
            app_id: "app".to_owned(),
            user_id: "ann".to_owned(),
            session_id: session.to_owned(),
        });
        if !token.is_empty() {
            let header = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", header);
        }
        SessionIdentityClient::new(plain.clone()).mint_jwt(request).await
    };
    let own = pod("team", "w-0", "u-0");
    let minted = jwt(&own, "one", &["https://a"]).await.unwrap().into_inner();
    assert!(!format!("{minted:?}").contains(&minted.session_jwt));
    assert_eq!(minted.session_jwt.split('.').count(), 3);
    assert_is(
        jwt("", "one", &["a"]).await,
        Code::Unauthenticated,
        "Need authorization header",
    );
    assert_is(
        jwt("x.y.z", "one", &["a"]).await,
        Code::Unauthenticated,
        "Unauthenticated",
    );
    let audience = "internal server error: at least one audience must be requested";
    assert_is(jwt(&own, "one", &[]).await, Code::Internal, audience);
    let denied = |session: &str| {
        format!(
            "session \"{session}\" is no actor on the worker that asks for it, as far as its credentials tell"
        )
    };
    for (token, session) in [
        (own.clone(), "two"),
        (own.clone(), ""),
        (pod("team", "w-0", "u-1"), "one"),
        (pod("team", "w-1", "u-0"), "one"),
        (pod("other", "w-0", "u-0"), "one"),
        (
            key.token(&claims(&issuer, &json!({"sub": "system:serviceaccount:team:a"}))),
            "one",
        ),
    ] {
        assert_is(
            jwt(&token, session, &["a"]).await,
            Code::PermissionDenied,
            &denied(session),
        );
    }
    let climbing = jwt(&own, "../one", &["a"]).await.unwrap_err();
    assert_eq!(climbing.code(), Code::InvalidArgument, "{climbing:?}");

    let cert = async |bundle: Option<&str>, session: &str, request: &[u8]| {
        let bundle = bundle.map(|uri| {
            host.put("client", &workers.bundle(&[uri]));
            "client"
        });
        let mut client = SessionIdentityClient::new(channel(&host, &endpoint, bundle, None));
        let request = MintCertRequest {
            app_id: "app".to_owned(),
            user_id: "ann".to_owned(),
            session_id: session.to_owned(),
            certificate_signing_request: request.to_vec(),
        };
        client.mint_cert(request).await
    };
    let (team, request) = ("spiffe://cluster.local/ns/team/sa/bot", certificate_request());
    let chain = cert(Some(team), "one", &request).await.unwrap().into_inner();
    assert_eq!(chain.session_certificates.len(), 1);
    let unverified = cert(None, "one", &request).await;
    assert_is(
        unverified,
        Code::Unauthenticated,
        "could not verify peer certificate",
    );
    let required = "app_id, user_id, and session_id are required";
    assert_is(
        cert(Some(team), "", &request).await,
        Code::InvalidArgument,
        required,
    );
    assert_is(
        cert(Some(team), "one", b"x").await,
        Code::Internal,
        "Failed to parse CSR",
    );
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_is(
        cert(Some(team), "one", &forged).await,
        Code::Internal,
        "Failed to verify CSR signature",
    );
    for uri in [
        "spiffe://cluster.local/ns/other/sa/bot",
        "spiffe://cluster.local/ns/team/sa/bot/pod/w-1",
        "spiffe://cluster.local/sa/bot",
    ] {
        assert_is(
            cert(Some(uri), "one", &request).await,
            Code::PermissionDenied,
            &denied("one"),
        );
    }

    // Pools are read again for each identity.
    host.put("jwt-pool", "{}");
    host.put("ca-pool", "{}");
    let unreadable = "internal server error: Failed to load session JWT pool";
    assert_is(jwt(&own, "one", &["a"]).await, Code::Internal, unreadable);
    assert_is(
        cert(Some(team), "one", &request).await,
        Code::Internal,
        "Failed to load session CA",
    );
    host.put("jwt-pool", &Signer::rsa("t").pool());
    jwt(&own, "one", &["a"]).await.unwrap();
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn control_plane_and_nodes_talk_to_nobody_but_each_other() {
    let host = Host::new();
    let (planes, nodes) = (Authority::new("control planes"), Authority::new("nodes"));
    host.put("planes", &planes.certificates());
    host.put("nodes", &nodes.certificates());
    let plane = host.put("plane", &planes.bundle(&["127.0.0.1"]));
    let own = host.put(
        "node",
        &nodes.bundle(&["127.0.0.1", "spiffe://x/ns/ate-system/sa/atelet"]),
    );
    let key = Signer::ec("k");
    let issuer = TokenIssuer::start(&[&key]);
    let token = host.put("token", &key.token(&claims(&issuer, &json!({}))));
    let (mut replica, endpoint) = host.start(&[
        "--grpc-server-cred-bundle=plane",
        "--workerpool-ca-certs=nodes",
        "--require-client-certs",
        "--auth-mode=jwt",
        &format!("--client-jwt-issuer={}", issuer.url),
        &format!("--client-jwt-audience={AUDIENCE}"),
        "--atelet-ca-certs=nodes",
        "--atelet-cred-bundle=plane",
    ]);

    // Orders to a node that takes them from control planes only.
    let clients = (host.path().join("planes"), ClientCertificates::Required);
    let (node, mut booted) = Node::secured(ServerFiles::open(own.clone(), Some(clients)).unwrap()).await;
    let options = ClientOptions {
        ca_certs: Some(host.path().join("planes")),
        cred_bundle: Some(own.clone()),
        token_file: Some(token),
        ..ClientOptions::default()
    };
    let address: Address = endpoint.parse().unwrap();
    let channel = Channel::secured(address, Transport::default(), options.open().unwrap());
    NodesClient::new(channel.clone())
        .heartbeat(node.report())
        .await
        .unwrap();
    let mut control = ControlClient::new(channel);
    let demo = CreateAtespaceRequest { name: "demo".into() };
    control.create_atespace(demo).await.unwrap();
    rig::run(&mut control, "one").await;
    assert_eq!(booted.recv().await.as_deref(), Some(rig::SECRET_VALUE));

    // A node daemon as it ships reports with its certificate and its token, and is reached by nobody without one.
    fs::create_dir(host.path().join("objects")).unwrap();
    let mut daemon = Command::new(binary("atelet").unwrap());
    daemon
        .env_clear()
        .env("ATE_STORAGE_BACKEND", "file")
        .env("ATE_STORAGE_ROOT", host.path().join("objects"))
        .current_dir(host.path())
        .args(["--node-name=node-2", "--listen=127.0.0.1:0", "--sandbox=process"])
        .args(["--grpc-server-cred-bundle=node", "--client-ca-certs=planes"])
        .args([
            "--control-plane-ca-certs=planes",
            "--control-plane-cred-bundle=node",
        ])
        .args(["--control-plane-token-file=token", "--control-plane", &endpoint])
        .arg("--base-dir")
        .arg(host.path().join("base"));
    let mut daemon = Process::spawn("atelet", host.path(), &mut daemon).unwrap();
    let reporting = |process: &Process| {
        let log = process.log();
        Ok(log.contains("reporting to the control plane").then_some(()))
    };
    daemon
        .wait_until("a report that was answered", PATIENCE, reporting)
        .unwrap();
    let log = daemon.log();
    let served = log.lines().find_map(rig::serving).expect("where it serves");
    let ask = async |bundle: Option<&Path>| {
        let options = ClientOptions {
            ca_certs: Some(host.path().join("nodes")),
            cred_bundle: bundle.map(Path::to_owned),
            ..ClientOptions::default()
        };
        let address: Address = served.parse().unwrap();
        let channel = Channel::secured(address, Transport::default(), options.open().unwrap());
        let asked = AteomHerderClient::new(channel).run(RunRequest::default()).await;
        asked.unwrap_err().code()
    };
    assert_eq!(ask(Some(&plane)).await, Code::InvalidArgument, "it is looked at");
    for bundle in [None, Some(own.as_path())] {
        assert_eq!(ask(bundle).await, Code::Unavailable);
    }
    assert!(daemon.terminate(PATIENCE).unwrap().success(), "{}", daemon.log());
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

/// Everything that must not be found in a log, planted where it would come from.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_most_talkative_log_has_no_secret_in_it() {
    let host = Host::new();
    let authority = Authority::new("servers");
    let bundle = authority.bundle(&["127.0.0.1"]);
    host.put("ca", &authority.certificates());
    host.put("bundle", &bundle);
    let (key, signer) = (Signer::ec("k"), Signer::ec("s"));
    let issuer = TokenIssuer::start(&[&key]);
    let (jwt_pool, ca_pool) = (signer.pool(), Authority::new("sessions").pool());
    host.put("jwt-pool", &jwt_pool);
    host.put("ca-pool", &ca_pool);
    let redis = Server::start(Persistence::None).unwrap();
    redis
        .command(&["CONFIG", "SET", "requirepass", "hunter2-of-redis"])
        .unwrap();
    let store = format!("redis://:hunter2-of-redis@{}", redis.address());
    let mut command = host.command(&[
        "--store",
        &store,
        "--grpc-server-cred-bundle=bundle",
        "--auth-mode=jwt",
        &format!("--client-jwt-issuer={}", issuer.url),
        &format!("--client-jwt-audience={AUDIENCE}"),
        "--session-id-jwt-pool=jwt-pool",
        "--session-id-ca-pool=ca-pool",
        "--session-id-binding=none",
    ]);
    command.env("RUST_LOG", "trace");
    let (mut replica, endpoint) = host.started(&mut command);
    let token = key.token(&claims(&issuer, &json!({"kubernetes.io": {"namespace": "team"}})));
    let trusted = channel(&host, &endpoint, None, Some(&token));
    let mut control = ControlClient::new(trusted.clone());
    control
        .create_atespace(CreateAtespaceRequest { name: "demo".into() })
        .await
        .unwrap();
    let (node, mut booted) = Node::start().await;
    NodesClient::new(trusted).heartbeat(node.report()).await.unwrap();
    rig::run(&mut control, "one").await;
    assert_eq!(
        booted.recv().await.as_deref(),
        Some(rig::SECRET_VALUE),
        "it has been on its way"
    );
    let mut request = Request::new(MintJwtRequest {
        audience: vec!["a".to_owned()],
        ..MintJwtRequest::default()
    });
    // Others do not mark their tokens as sensitive.
    let header = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let plain = channel(&host, &endpoint, None, None);
    let minted = SessionIdentityClient::new(plain)
        .mint_jwt(request)
        .await
        .unwrap()
        .into_inner()
        .session_jwt;
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );

    let log = replica.log();
    assert!(log.contains("\"level\":\"TRACE\""), "not talkative: {log}");
    let private = bundle.lines().nth(1).unwrap();
    let pooled = |pool: &str| {
        let (_, rest) = pool.split_once("SigningKeyPKCS8\":\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    for (what, secret) in [
        ("the password of the store", "hunter2-of-redis".to_owned()),
        ("a value of a Secret", rig::SECRET_VALUE.to_owned()),
        ("the server's key", private.to_owned()),
        ("the key of session tokens", pooled(&jwt_pool)),
        ("the key of session certificates", pooled(&ca_pool)),
        ("a caller's token", signature(&token)),
        ("a session's token", signature(&minted)),
    ] {
        assert!(secret.len() > 8);
        let found = log.lines().find(|line| line.contains(&secret));
        assert!(
            found.is_none(),
            "{what} is in the log: {}",
            found.unwrap_or_default()
        );
    }
}
