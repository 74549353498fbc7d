//! Real connections: who is believed, who is not, and what happens when files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_rpc::gate::{Doorkeeper, Gate};
use holdfast_rpc::server::{Observers, serve_behind};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Listener, PeerCertificates, Security, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_security::caller::Caller;
use holdfast_security::{ClientCertificates, ClientOptions, ServerFiles};
use holdfast_tests::pki::Authority;
use http::request::Parts;
use tempfile::TempDir;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Says in its refusal who is there, which is what a test can see.
struct Mirror;

#[tonic::async_trait]
impl Doorkeeper for Mirror {
    async fn admit(&self, call: &Parts) -> Result<(), Status> {
        let shown = call.extensions.get::<PeerCertificates>();
        let caller = shown.map(Caller::of_certificate);
        let token = call
            .headers
            .get("authorization")
            .map(|value| value.to_str().unwrap());
        let namespace = caller.map(|caller| caller.map(|caller| caller.namespace));
        Err(Status::permission_denied(format!("{namespace:?} {token:?}")))
    }
}

struct Rig {
    dir: TempDir,
    authority: Authority,
    address: Address,
    shutdown: Shutdown,
}

impl Rig {
    /// A server on this host whose clients are known by the authority `clients`, if they have to be.
    async fn start(clients: Option<(&Authority, ClientCertificates)>) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("servers");
        let rig = |address, shutdown| Rig {
            dir,
            authority,
            address,
            shutdown,
        };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let rig = rig(listener.address().clone(), Shutdown::new());
        rig.put("ca", &rig.authority.certificates());
        let bundle = rig.put("bundle", &rig.authority.bundle(&["127.0.0.1", "old.example"]));
        let clients =
            clients.map(|(authority, wanted)| (rig.put("clients", &authority.certificates()), wanted));
        let server = ServerFiles::open(bundle, clients).unwrap();
        let listener = listener.secured(Arc::new(server));
        let (_, health) = tonic_health::server::health_reporter();
        let gate = Gate {
            doorkeeper: Some(Arc::new(Mirror)),
            ..Gate::default()
        };
        let (clock, stop) = (Arc::new(SystemClock), rig.shutdown.clone());
        tokio::spawn(async move {
            serve_behind(
                gate,
                Observers::default(),
                listener,
                Routes::new(health),
                Transport::default(),
                clock,
                stop.triggered(),
            )
            .await;
        });
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        // As the kubelet does it: never half of a file.
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
        self.path(name)
    }

    fn trusting(&self) -> ClientOptions {
        ClientOptions {
            ca_certs: Some(self.path("ca")),
            ..ClientOptions::default()
        }
    }

    async fn ask(&self, options: ClientOptions) -> Status {
        self.ask_by(options.open().unwrap()).await
    }

    async fn ask_by(&self, security: Security) -> Status {
        let channel = Channel::secured(self.address.clone(), Transport::default(), security);
        let asked = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await;
        asked.unwrap_err()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

#[track_caller]
fn assert_is(status: &Status, code: Code, text: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{text} in {status:?}");
}

#[tokio::test]
async fn a_server_is_who_its_certificate_says_or_is_not_talked_to() {
    let rig = Rig::start(None).await;
    let seen = "Some(None) None";
    assert_is(&rig.ask(rig.trusting()).await, Code::PermissionDenied, seen);
    let named = |name: &str| ClientOptions {
        server_name: Some(name.to_owned()),
        ..rig.trusting()
    };
    assert_is(&rig.ask(named("old.example")).await, Code::PermissionDenied, seen);
    assert_is(
        &rig.ask(named("new.example")).await,
        Code::Unavailable,
        "not valid for name",
    );
    let stranger = rig.put("stranger", &Authority::new("servers").certificates());
    let options = ClientOptions {
        ca_certs: Some(stranger),
        ..ClientOptions::default()
    };
    assert_is(
        &rig.ask(options).await,
        Code::Unavailable,
        "TLS handshake: invalid peer certificate",
    );
    let blind = ClientOptions {
        skip_verify: true,
        ..ClientOptions::default()
    };
    assert_is(&rig.ask(blind).await, Code::PermissionDenied, seen);
    // Who speaks plaintext is not answered in plaintext.
    assert_is(
        &rig.ask(ClientOptions::default()).await,
        Code::Unavailable,
        "call to 127.0.0.1",
    );
}

#[tokio::test]
async fn certificates_authorities_and_tokens_are_replaced_under_way() {
    let clients = Authority::new("clients");
    let rig = Rig::start(Some((&clients, ClientCertificates::Required))).await;
    let options = ClientOptions {
        cred_bundle: Some(rig.put("client", &clients.bundle(&["spiffe://x/ns/old/sa/a"]))),
        token_file: Some(rig.put("token", "first\n")),
        ..rig.trusting()
    };
    let security = options.open().unwrap();
    let ask = || rig.ask_by(security.clone());
    assert_is(
        &ask().await,
        Code::PermissionDenied,
        "Some(Some(\"old\")) Some(\"Bearer first\")",
    );

    rig.put("token", "second");
    rig.put("client", &clients.bundle(&["spiffe://x/ns/new/sa/a"]));
    assert_is(
        &ask().await,
        Code::PermissionDenied,
        "Some(Some(\"new\")) Some(\"Bearer second\")",
    );

    // The server has another authority now; its clients do not know yet, and then they do.
    let next = Authority::new("next");
    rig.put("bundle", &next.bundle(&["127.0.0.1"]));
    assert_is(&ask().await, Code::Unavailable, "invalid peer certificate");
    rig.put("ca", &next.certificates());
    assert_is(&ask().await, Code::PermissionDenied, "\"new\"");

    // What is broken changes nothing.
    rig.put("bundle", "-----BEGIN NONSENSE-----\n");
    rig.put("clients", "");
    rig.put("token", "");
    assert_is(&ask().await, Code::PermissionDenied, "Bearer second");
    rig.put("clients", &Authority::new("others").certificates());
    rig.put("bundle", &next.bundle(&["127.0.0.1"]));
    assert_is(&ask().await, Code::Unavailable, "call to 127.0.0.1");
}

#[tokio::test]
async fn a_certificate_that_is_shown_is_verified_and_one_that_is_required_is_required() {
    let clients = Authority::new("clients");
    for (wanted, without) in [
        (ClientCertificates::Verified, Code::PermissionDenied),
        (ClientCertificates::Required, Code::Unavailable),
    ] {
        let rig = Rig::start(Some((&clients, wanted))).await;
        assert_eq!(rig.ask(rig.trusting()).await.code(), without, "{wanted:?}");
        let showing = |authority: &Authority| ClientOptions {
            cred_bundle: Some(rig.put("client", &authority.bundle(&["spiffe://x/ns/team/sa/a"]))),
            ..rig.trusting()
        };
        assert_is(
            &rig.ask(showing(&clients)).await,
            Code::PermissionDenied,
            "Some(Some(\"team\"))",
        );
        let stranger = Authority::new("clients");
        assert_eq!(
            rig.ask(showing(&stranger)).await.code(),
            Code::Unavailable,
            "{wanted:?}"
        );
    }
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_dialled() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let refused = |options: ClientOptions| options.open().err().unwrap().to_string();
    let file = |path: &Path| ClientOptions {
        ca_certs: Some(path.to_owned()),
        ..ClientOptions::default()
    };
    assert!(refused(file(&missing)).contains("missing: No such file"));
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    assert!(refused(file(&empty)).ends_with("has no CERTIFICATE"));
    let token = ClientOptions {
        token_file: Some(empty),
        ..ClientOptions::default()
    };
    assert!(refused(token).ends_with("is empty; a token is needed"));
    let named = ClientOptions {
        skip_verify: true,
        server_name: Some("a b".to_owned()),
        ..ClientOptions::default()
    };
    assert_eq!(refused(named), "\"a b\" is neither a DNS name nor an IP address");
}
