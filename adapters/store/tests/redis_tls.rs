//! TLS to a real `redis-server`, and everything about it that can be wrong.

mod certificates;
#[allow(dead_code, reason = "other tests use more of them")]
mod samples;
#[allow(dead_code, reason = "other tests do more with it")]
mod server;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use certificates::Authority;
use holdfast_core::effect::{StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_store::Store;
use holdfast_store::redis::{Config, Redis, Tls, Url};
use samples::{actor, put};
use server::Server;

/// A server that says it is `redis.example` on 127.0.0.1, and asks for certificates or does not.
fn server(authority: &Authority, clients: &str) -> Server {
    let (key, certificate) = authority.sign("server", "DNS:redis.example,IP:127.0.0.1");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (key, certificate, ca) = (text(&key), text(&certificate), text(&authority.certificate()));
    Server::start_secure(&[
        "--tls-key-file",
        &key,
        "--tls-cert-file",
        &certificate,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        clients,
    ])
}

fn store(server: &Server, tls: Tls) -> Redis {
    let url: Url = format!("rediss://{}", server.address()).parse().unwrap();
    Redis::new(Config {
        tls,
        ..Config::from(url)
    })
}

fn trusting(authority: &Authority) -> Tls {
    Tls {
        ca_certs: Some(authority.certificate()),
        ..Tls::default()
    }
}

#[track_caller]
fn refused(answer: Result<(), StoreError>, why: &str) {
    match answer {
        Err(StoreError::Refused(text)) => assert!(text.contains(why) && text.contains("rediss://"), "{text}"),
        other => panic!("{why}: {other:?}"),
    }
}

#[tokio::test]
async fn operations_and_events_go_through_tls_under_the_name_that_the_certificate_has() {
    let authority = Authority::new();
    let server = server(&authority, "no");
    for name in [None, Some("redis.example")] {
        let tls = Tls {
            server_name: name.map(str::to_owned),
            ..trusting(&authority)
        };
        let store = store(&server, tls);
        store.ping().await.unwrap();
        let mut watch = store.watch();
        let heard = tokio::time::timeout(std::time::Duration::from_secs(60), watch.next());
        assert_eq!(heard.await.expect("nothing is heard"), Some(StoreEvent::Resync));
    }
    let store = store(&server, trusting(&authority));
    store.execute(put(&actor("a"), None, None)).await.unwrap();
    let Ok(StoreReply::Actor(Some(_))) = store.execute(StoreOp::GetActor(actor("a").key)).await else {
        panic!("nothing was written")
    };
}

#[tokio::test]
async fn a_server_that_nobody_we_trust_has_signed_is_refused() {
    let server = server(&Authority::new(), "no");
    let stranger = Authority::new();
    let store = store(&server, trusting(&stranger));
    refused(store.ping().await, "--redis-ca-certs");
}

#[tokio::test]
async fn a_server_under_another_name_is_refused() {
    let authority = Authority::new();
    let server = server(&authority, "no");
    let tls = Tls {
        server_name: Some("other.example".into()),
        ..trusting(&authority)
    };
    refused(store(&server, tls).ping().await, "--redis-tls-server-name");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_ours_gets_it_or_turns_us_away() {
    let authority = Authority::new();
    let server = server(&authority, "yes");
    refused(
        store(&server, trusting(&authority)).ping().await,
        "--redis-client-cert",
    );
    let stranger = Authority::new();
    let strangers = Tls {
        client_cert: Some(stranger.bundle("client")),
        ..trusting(&authority)
    };
    refused(store(&server, strangers).ping().await, "--redis-client-cert");
    let ours = Tls {
        client_cert: Some(authority.bundle("client")),
        ..trusting(&authority)
    };
    store(&server, ours).ping().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_renewed_in_place_is_used_by_the_next_connection() {
    let authority = Authority::new();
    let mut server = server(&authority, "yes");
    let bundle = authority.bundle("client");
    let tls = Tls {
        client_cert: Some(bundle.clone()),
        ..trusting(&authority)
    };
    let store = store(&server, tls);
    store.ping().await.unwrap();
    std::fs::copy(Authority::new().bundle("client"), &bundle).unwrap();
    store.ping().await.unwrap();
    server.kill();
    server.restart();
    let asked = async {
        loop {
            match store.ping().await {
                Err(StoreError::Unavailable(_)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                answer => return answer,
            }
        }
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await;
    refused(answer.expect("it is not found again"), "--redis-client-cert");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_from_one_that_does() {
    // A real one answers so as soon as there is a line's end in what it takes for a command, which is a matter of chance.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("rediss://{}", plain.local_addr().unwrap())
        .parse()
        .unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = plain.accept() {
            let _ = stream.write_all(b"-ERR unknown command\r\n");
        }
    });
    let authority = Authority::new();
    let store = Redis::new(Config {
        tls: trusting(&authority),
        ..Config::from(url)
    });
    refused(store.ping().await, "does the server speak TLS on this port?");
}
