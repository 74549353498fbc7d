//! Logging in, and not telling strangers.

mod support;

use holdfast_images::{Credentials, Login, Progress, PullError, PullOptions};
use support::registry::{Auth, Behaviour, TestRegistry};
use support::{Bench, big_image, pull, pull_with, run};

#[test]
fn a_token_is_fetched_and_renewed_when_it_runs_out() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        registry.behave(Behaviour {
            auth: Auth::Bearer { uses: 1 },
            ..Behaviour::default()
        });
        let options = PullOptions {
            credentials: login(&registry),
            ..PullOptions::default()
        };
        pull_with(&bench, &registry, options, &Progress::default())
            .await
            .expect("pull");
        let requests = registry.requests();
        let tokens: Vec<_> = requests
            .iter()
            .filter(|request| request.path == "/token")
            .collect();
        assert!(tokens.len() > 1, "{requests:?}");
        for token in tokens {
            assert_eq!(token.authorization.as_deref(), Some("Basic dXNlcjpwYXNzd29yZA=="));
        }
    });
}

#[test]
fn a_password_is_given_to_who_asks_and_its_lack_is_told() {
    let bench = Bench::new();
    run(async {
        let registry = TestRegistry::start().await;
        let (image, _) = big_image();
        registry.add(&image);
        registry.behave(Behaviour {
            auth: Auth::Basic,
            ..Behaviour::default()
        });
        let error = pull(&bench, &registry).await.expect_err("no login");
        assert!(matches!(error, PullError::Unauthorized { .. }), "{error}");
        assert!(!error.retryable());
        let options = PullOptions {
            credentials: login(&registry),
            ..PullOptions::default()
        };
        pull_with(&bench, &registry, options, &Progress::default())
            .await
            .expect("pull");
    });
}

fn login(registry: &TestRegistry) -> Credentials {
    let mut credentials = Credentials::default();
    let login = Login::Password {
        user: "user".to_owned(),
        password: "password".to_owned(),
    };
    credentials.insert(&registry.address.to_string(), login);
    credentials
}

#[test]
fn a_redirect_is_followed_without_the_authorization() {
    let bench = Bench::new();
    run(async {
        let (registry, storage) = (TestRegistry::start().await, TestRegistry::start().await);
        let (image, _) = big_image();
        registry.add(&image);
        storage.add(&image);
        registry.behave(Behaviour {
            auth: Auth::Bearer { uses: 100 },
            redirect_blobs_to: Some(storage.address),
            ..Behaviour::default()
        });
        pull(&bench, &registry).await.expect("pull");
        let seen = storage.blob_requests();
        assert_eq!(seen.len(), image.blobs.len());
        assert!(
            seen.iter().all(|request| request.authorization.is_none()),
            "{seen:?}"
        );

        // And a failure there does not tell the signed query.
        let bench = Bench::new();
        storage.behave(Behaviour {
            status: Some(503),
            ..Behaviour::default()
        });
        let error = pull(&bench, &registry).await.expect_err("unavailable");
        assert!(
            error.retryable() && !error.to_string().contains("secret"),
            "{error}"
        );
    });
}
