//! Registries that are asked before others.

mod support;

use holdfast_images::{Mirror, Progress, PullError, PullOptions, Reference};
use holdfast_runtime::tokio;
use support::registry::{Behaviour, TestRegistry};
use support::{Bench, big_image, run};

/// A mirror below `mirrored/` and the registry that it is one of, both with the image of this name.
struct Pair {
    mirror: TestRegistry,
    registry: TestRegistry,
}

impl Pair {
    async fn start() -> Self {
        let (mirror, registry) = (TestRegistry::start().await, TestRegistry::start().await);
        let (image, _) = big_image();
        mirror.add(&image);
        registry.add(&image);
        Self { mirror, registry }
    }

    fn options(&self) -> PullOptions {
        let mirror: Mirror = format!("{}={}", self.registry.address, self.mirror.address)
            .parse()
            .expect("a mirror");
        PullOptions {
            mirrors: vec![mirror],
            ..PullOptions::default()
        }
    }

    async fn pull(&self, bench: &Bench, progress: &Progress) -> Result<(), PullError> {
        let reference: Reference = self.registry.reference().parse().expect("reference");
        bench
            .puller_with(self.options())
            .pull(&reference, progress)
            .await
            .map(drop)
    }
}

#[test]
fn a_mirror_is_asked_before_the_registry_which_hears_nothing() {
    let bench = Bench::new();
    run(async {
        let pair = Pair::start().await;
        pair.pull(&bench, &Progress::default()).await.expect("pull");
        assert!(!pair.mirror.blob_requests().is_empty());
        assert_eq!(pair.registry.requests().len(), 0);
    });
}

#[test]
fn what_a_mirror_does_not_have_or_spoils_comes_from_the_registry() {
    for broken in [
        Behaviour {
            status: Some(404),
            ..Behaviour::default()
        },
        Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        Behaviour {
            corrupt: true,
            ..Behaviour::default()
        },
    ] {
        let bench = Bench::new();
        run(async {
            let pair = Pair::start().await;
            pair.mirror.behave(broken);
            pair.pull(&bench, &Progress::default()).await.expect("pull");
            assert!(!pair.mirror.requests().is_empty() && !pair.registry.requests().is_empty());
        });
    }
}

#[test]
fn when_none_has_it_the_registry_has_the_last_word() {
    let bench = Bench::new();
    run(async {
        let pair = Pair::start().await;
        for (server, status) in [(&pair.mirror, 503), (&pair.registry, 404)] {
            server.behave(Behaviour {
                status: Some(status),
                ..Behaviour::default()
            });
        }
        let error = pair
            .pull(&bench, &Progress::default())
            .await
            .expect_err("nobody has it");
        assert!(matches!(error, PullError::NotFound { .. }), "{error}");
    });
}

/// A mirror that hangs must not hold every attempt: a stalled one is dropped, and the next asks the registry.
#[test]
fn an_attempt_after_one_that_hung_begins_with_the_next_source() {
    let bench = Bench::new();
    run(async {
        let pair = Pair::start().await;
        pair.mirror.behave(Behaviour {
            hang_after: Some(640_000),
            ..Behaviour::default()
        });
        let progress = Progress::default();
        let mut moves = progress.subscribe();
        tokio::select! {
            biased;
            result = pair.pull(&bench, &progress) => panic!("it should hang: {result:?}"),
            arrived = moves.wait_for(|counts| counts.done >= 640_000) => drop(arrived.expect("progress")),
        }
        let before = pair.mirror.requests().len();
        pair.pull(&bench, &progress).await.expect("pull");
        assert_eq!(
            pair.mirror.requests().len(),
            before,
            "the mirror was not asked again"
        );
        let rest = pair.registry.blob_requests();
        assert!(
            rest.iter().any(|request| request.range.is_some()),
            "it goes on where it was: {rest:?}"
        );
    });
}
