use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_core::time::Instant;
use holdfast_runtime::tokio;
use holdfast_tests::pki::{Signer, TokenIssuer};
use serde_json::{Value, json};

use super::*;

const EPOCH_MS: u64 = 1_795_324_226_000;

/// Stands still until it is told otherwise.
#[derive(Default)]
struct Hand(AtomicU64);

impl Hand {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::from_micros(1_000_000 * (1 + self.0.load(Ordering::SeqCst)))
    }

    fn wall_ms(&self) -> u64 {
        EPOCH_MS + 1000 * self.0.load(Ordering::SeqCst)
    }
}

fn claims(issuer: &str, changed: &[(&str, Value)]) -> Value {
    let now = EPOCH_MS / 1000;
    let mut claims = json!({"iss": issuer, "aud": ["api"], "exp": now + 600, "iat": now, "nbf": now});
    for (name, value) in changed {
        claims[*name] = value.clone();
    }
    claims
}

fn verifier(issuers: &[&TokenIssuer], clock: &Arc<Hand>) -> Verifier {
    let urls: Vec<String> = issuers.iter().map(|issuer| issuer.url.clone()).collect();
    Verifier::new(&urls, "api".to_owned(), None, clock.clone()).unwrap()
}

#[tokio::test]
async fn keys_of_every_kind_are_believed_side_by_side_and_asked_for_once() {
    let (ec, rsa) = (Signer::ec("e"), Signer::rsa("r"));
    let issuer = TokenIssuer::start(&[&ec, &rsa]);
    issuer.publish_oddities();
    let other_key = Signer::ec("e");
    let other = TokenIssuer::start(&[&other_key]);
    let clock = Arc::new(Hand::default());
    let verifier = verifier(&[&issuer, &other], &clock);
    for _ in 0..3 {
        for signer in [&ec, &rsa] {
            verifier
                .verify(&signer.token(&claims(&issuer.url, &[])))
                .await
                .unwrap();
        }
        verifier
            .verify(&other_key.token(&claims(&other.url, &[])))
            .await
            .unwrap();
    }
    assert_eq!((issuer.asked(), other.asked()), (1, 1));
    // A key of one issuer says nothing for another.
    let stolen = verifier.verify(&other_key.token(&claims(&issuer.url, &[]))).await;
    assert_eq!(stolen.unwrap_err(), TokenError::Signature);
}

#[tokio::test]
async fn a_key_that_is_new_is_asked_for_at_once_and_one_that_is_unknown_not_all_the_time() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let issuer = TokenIssuer::start(&[&old]);
    let clock = Arc::new(Hand::default());
    let verifier = verifier(&[&issuer], &clock);
    verifier
        .verify(&old.token(&claims(&issuer.url, &[])))
        .await
        .unwrap();
    let unknown = |id: &str| TokenError::UnknownKey(id.to_owned());

    clock.pass(10);
    issuer.publish(&[&old, &new]);
    verifier
        .verify(&new.token(&claims(&issuer.url, &[])))
        .await
        .unwrap();
    assert_eq!(issuer.asked(), 2);
    let stranger = Signer::ec("stranger");
    for _ in 0..20 {
        let refused = verifier.verify(&stranger.token(&claims(&issuer.url, &[]))).await;
        assert_eq!(refused.unwrap_err(), unknown("stranger"));
    }
    assert_eq!(issuer.asked(), 2);
    clock.pass(10);
    verifier
        .verify(&stranger.token(&claims(&issuer.url, &[])))
        .await
        .unwrap_err();
    assert_eq!(issuer.asked(), 3);

    // A key that is withdrawn is believed in for five minutes more at most.
    issuer.publish(&[&new]);
    verifier
        .verify(&old.token(&claims(&issuer.url, &[])))
        .await
        .unwrap();
    clock.pass(301);
    let refused = verifier.verify(&old.token(&claims(&issuer.url, &[]))).await;
    assert_eq!(refused.unwrap_err(), unknown("old"));
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_and_nothing_of_it_repeated() {
    let (ec, rsa) = (Signer::ec("e"), Signer::rsa("r"));
    let issuer = TokenIssuer::start(&[&ec, &rsa]);
    let clock = Arc::new(Hand::default());
    let verifier = verifier(&[&issuer], &clock);
    let now = EPOCH_MS / 1000;
    let good = claims(&issuer.url, &[]);
    let with = |name: &str, value: Value| ec.token(&claims(&issuer.url, &[(name, value)]));
    let head = |alg: &str, kid: &str| ec.signed(&json!({"alg": alg, "kid": kid}), &good);
    let cut = |token: String| token[..token.len() - 2].to_owned();
    for (token, complaint) in [
        ("x".to_owned(), "malformed token: want 3 segments"),
        ("a.b.c.d".to_owned(), "malformed token: want 3 segments"),
        ("!.!.!".to_owned(), "malformed token: not base64url"),
        ("e30.e30.".to_owned(), "malformed token: unreadable header"),
        ("x".repeat(20_000), "malformed token: too long"),
        (
            ec.signed(&json!({"alg": "ES256", "kid": "e", "typ": "at+jwt"}), &good),
            "typ is not JWT",
        ),
        (head("none", "e"), "unsupported algorithm \"none\""),
        (head("HS256", "e"), "unsupported algorithm \"HS256\""),
        (head("ES256", ""), "token has no kid"),
        (head("ES256", "x"), "unknown key id \"x\""),
        (head("RS256", "e"), "signature does not match"),
        (head("ES256", "r"), "signature does not match"),
        (
            rsa.signed(&json!({"alg": "RS512", "kid": "r"}), &good),
            "signature does not match",
        ),
        (cut(ec.token(&good)), "signature does not match"),
        (
            with("iss", "https://other".into()),
            "unknown issuer \"https://other\"",
        ),
        (with("aud", "apis".into()), "token is not for audience \"api\""),
        (with("aud", Value::Null), "token is not for audience \"api\""),
        (with("exp", Value::Null), "token is expired"),
        (with("exp", (now - 301).into()), "token is expired"),
        (with("nbf", (now + 301).into()), "token is not valid yet"),
        (with("iat", (now + 301).into()), "token is not valid yet"),
    ] {
        let error = verifier.verify(&token).await.unwrap_err().to_string();
        assert!(error.contains(complaint), "{complaint}: {error}");
        assert!(error.len() < 100, "{error}");
    }
    for token in [
        with("aud", "api".into()),
        with("exp", (now - 299).into()),
        with("nbf", (now + 299).into()),
        with("exp", json!(1_795_324_826.5)),
        rsa.token(&good),
    ] {
        verifier.verify(&token).await.unwrap();
    }
}

#[tokio::test]
async fn keys_outlive_an_issuer_that_does_not_answer_but_not_for_ever() {
    let key = Signer::ec("k");
    let issuer = TokenIssuer::start(&[&key]);
    let clock = Arc::new(Hand::default());
    let mut verifier = verifier(&[&issuer], &clock);
    let token = |seconds: u64| {
        let until = EPOCH_MS / 1000 + seconds + 600;
        key.token(&claims(&issuer.url, &[("exp", until.into())]))
    };
    verifier.verify(&token(0)).await.unwrap();
    // From now on there is nothing where it was.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    verifier.issuers[0].url = format!("http://{nowhere}");
    let moved = |seconds: u64| {
        let until = EPOCH_MS / 1000 + seconds + 600;
        key.token(&claims(&format!("http://{nowhere}"), &[("exp", until.into())]))
    };
    clock.pass(3600);
    verifier.verify(&moved(3600)).await.unwrap();
    clock.pass(1);
    let error = verifier.verify(&moved(3601)).await.unwrap_err().to_string();
    assert!(
        error.starts_with("while getting the keys of issuer http://127.0.0.1"),
        "{error}"
    );
}

#[test]
fn only_the_api_server_of_this_cluster_is_shown_our_token() {
    let clock: Arc<dyn Clock> = Arc::new(Hand::default());
    let authority = holdfast_tests::pki::Authority::new("cluster");
    let dir = tempfile::tempdir().unwrap();
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    std::fs::write(&ca, authority.certificates()).unwrap();
    std::fs::write(&token, "secret\n").unwrap();
    let shown = |issuer: &str, url: &str| {
        let mut issuer = Issuer::new(issuer, Some(&ca), &clock).unwrap();
        issuer.token = token.clone();
        issuer.shown_to(&url.parse().unwrap()).unwrap().is_some()
    };
    let cluster = "https://kubernetes.default.svc.cluster.local";
    assert!(shown(
        cluster,
        &format!("{cluster}/.well-known/openid-configuration")
    ));
    assert!(shown(cluster, "https://10.0.0.1:6443/openid/v1/jwks"));
    assert!(!shown(cluster, "http://10.0.0.1:6443/openid/v1/jwks"));
    assert!(!shown(cluster, "https://10.0.0.1:6443/keys"));
    assert!(!shown(cluster, &format!("{cluster}.evil.example/x")));
    assert!(!shown(
        "https://issuer.example",
        "https://issuer.example/openid/v1/jwks"
    ));
}

#[test]
fn an_issuer_that_could_never_be_asked_is_refused() {
    let clock: Arc<dyn Clock> = Arc::new(Hand::default());
    for url in [
        "",
        "issuer",
        "issuer.example/x",
        "ftp://issuer",
        "https://issuer?x=y",
        "https://",
    ] {
        assert!(Issuer::new(url, None, &clock).is_err(), "{url}");
    }
}
