use std::sync::Arc;
use std::time::Duration;

use holdfast_tests::pki::{Authority, Signer, certificate_request};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::jwks::KeySet;
use crate::jwt::Token;
use crate::pool;

const NOW_MS: u64 = 1_795_324_226_000;

fn session() -> Session {
    Session {
        app: "team.counter".to_owned(),
        user: "demo".to_owned(),
        session: "one".to_owned(),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_token_says_what_the_original_says_and_is_signed_by_the_first_authority() {
    for signer in [Signer::ec("k1"), Signer::rsa("k2")] {
        let authority = pool::jwt(file(&signer.pool()).path()).unwrap();
        let placed = [("atespace".to_owned(), "demo".into())].into_iter().collect();
        let audience = ["https://a".to_owned(), "b".to_owned()];
        let token = session().token(&audience, placed, &authority, NOW_MS).unwrap();

        let keys = KeySet::read(json!({"keys": [signer.published()]}).to_string().as_bytes()).unwrap();
        for meant in &audience {
            Token::read(&token).unwrap().verify(&keys, meant, NOW_MS).unwrap();
        }
        let part = |index: usize| -> Value {
            let part = token.split('.').nth(index).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            part(0).as_object().unwrap().len(),
            2,
            "alg and kid, and nothing else"
        );
        let mut claims = part(1);
        let id = claims["jti"].take();
        assert_eq!(id.as_str().unwrap().len(), 26);
        let now = NOW_MS / 1000;
        let expected = json!({
            "iss": "https://broker.agentic-substrate-session-id-broker.svc",
            "sub": "apps/team.counter/users/demo/sessions/one",
            "aud": audience, "exp": now + 900, "nbf": now - 300, "iat": now, "jti": null,
            "ate.dev": {"appID": "team.counter", "userID": "demo", "sessionID": "one", "atespace": "demo"},
        });
        assert_eq!(claims, expected);
    }
}

#[test]
fn an_authority_whose_key_is_not_for_its_algorithm_signs_nothing() {
    let pool = Signer::ec("k").pool().replace("ES256", "RS256");
    let authority = pool::jwt(file(&pool).path()).unwrap();
    let error = session()
        .token(&["a".to_owned()], Map::new(), &authority, NOW_MS)
        .unwrap_err();
    assert_eq!(error, "its key cannot sign RS256");
}

#[test]
fn a_certificate_is_believed_in_by_those_who_believe_in_its_authority() {
    for authority in [Authority::new("sessions"), Authority::rsa("sessions")] {
        let signing = pool::certificates(file(&authority.pool()).path()).unwrap();
        let chain = session()
            .certificate(&certificate_request(), &signing, NOW_MS)
            .unwrap();
        assert_eq!(chain.len(), 1, "the root is not sent along");
        let leaf = CertificateDer::from(chain[0].clone());
        let read = Certificate::read(&leaf).unwrap();
        assert_eq!(
            read.uris,
            ["spiffe://substrate-session.local/app/team.counter/user/demo/session/one"]
        );
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().into()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap();
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verify = |seconds| verifier.verify_client_cert(&leaf, &[], at(seconds));
        let now = NOW_MS / 1000;
        for (seconds, holds) in [
            (now, true),
            (now - 300, true),
            (now - 301, false),
            (now + 900, true),
            (now + 901, false),
        ] {
            assert_eq!(verify(seconds).is_ok(), holds, "{:?}", verify(seconds).err());
        }
    }
}

#[test]
fn a_request_that_was_changed_or_is_none_gets_no_certificate() {
    let authority = Authority::new("sessions");
    let signing = pool::certificates(file(&authority.pool()).path()).unwrap();
    let mint = |request: &[u8]| session().certificate(request, &signing, NOW_MS).err();
    let request = certificate_request();
    assert_eq!(mint(&request), None);
    assert_eq!(mint(b""), Some(CertificateError::Malformed));
    assert_eq!(mint(&authority.der()), Some(CertificateError::Malformed));
    // Whatever byte is another one, what was signed is not what is there.
    for index in 0..request.len() {
        let mut changed = request.clone();
        changed[index] ^= 1;
        assert_ne!(mint(&changed), None, "byte {index}");
    }
    for length in 0..request.len() {
        assert_ne!(mint(&request[..length]), None, "{length} bytes");
    }
}

#[test]
fn no_part_of_a_session_reaches_beyond_its_slashes() {
    for (part, is_fine) in [
        ("a", true),
        ("", true),
        ("ann@example.com", true),
        ("a b", true),
        ("..", false),
        (".", false),
        ("a/b", false),
        ("a\\b", false),
        ("a\n", false),
    ] {
        let mut who = session();
        who.user = part.to_owned();
        assert_eq!(who.is_well_formed(), is_fine, "{part:?}");
    }
    let mut who = session();
    who.user = "ä b?#%".to_owned();
    assert_eq!(
        who.uri(),
        "spiffe://substrate-session.local/app/team.counter/user/%C3%A4%20b%3F%23%25/session/one"
    );
}

#[test]
fn years_have_two_digits_until_they_need_four() {
    let text = |seconds| String::from_utf8(time(seconds)).unwrap();
    assert_eq!(text(0), "\u{17}\r700101000000Z");
    assert_eq!(text(2_524_607_999), "\u{17}\r491231235959Z");
    assert_eq!(text(2_524_608_000), "\u{18}\u{f}20500101000000Z");
}

#[test]
fn a_pool_that_cannot_sign_is_refused_without_showing_what_is_in_it() {
    let (ca, jwt) = (Authority::new("a").pool(), Signer::ec("k").pool());
    let other = Authority::new("b").pool();
    let root = |pool: &str| {
        let pool: Value = serde_json::from_str(pool).unwrap();
        pool["CAs"][0]["RootCertificateDER"].as_str().unwrap().to_owned()
    };
    let swapped = ca.replace(&root(&ca), &root(&other));
    for (pool, complaint) in [
        ("{", "is no pool of authorities: JSON, line 1"),
        ("{}", "is no pool of authorities"),
        ("{\"CAs\": []}", "has no CAs"),
        ("{\"CAs\": [{}]}", "has no SigningKeyPKCS8"),
        (&swapped, "has no certificate for its key"),
    ] {
        let error = pool::certificates(file(pool).path()).err().unwrap().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    for (pool, complaint) in [
        ("{\"Authorities\": []}", "has no Authorities"),
        (
            "{\"Authorities\": [{\"ID\": \"k\"}]}",
            "authority \"k\" has no SigningKeyPKCS8",
        ),
        (
            &jwt.replace("PKCS8\":\"M", "PKCS8\":\"N"),
            "has a key of an unknown kind",
        ),
        (&jwt.replace("PKCS8\":\"M", "PKCS8\":\"!"), "is not base64"),
    ] {
        let error = pool::jwt(file(pool).path()).err().unwrap().to_string();
        assert!(error.contains(complaint), "{error}");
        assert!(!error.contains("MIG"), "{error}");
    }
}
