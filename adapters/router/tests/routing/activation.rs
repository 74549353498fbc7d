//! Actors that do not run yet, or not where they were.

use super::*;

use tokio::sync::{Notify, mpsc};

#[tokio::test]
async fn fifty_requests_for_one_actor_are_one_activation() {
    const REQUESTS: usize = 50;
    let worker = Worker::echoing().await;
    let address = worker.address;
    let gate = Arc::new(Notify::new());
    let closed = Arc::clone(&gate);
    let activator = Fake::new(move |_, _| {
        let gate = Arc::clone(&closed);
        async move {
            gate.notified().await;
            Ok(Route { address })
        }
    });
    let settings = Settings {
        max_requests: REQUESTS,
        ..Settings::default()
    };
    let router = Arc::new(Running::start(activator.clone(), settings).await);
    let (done, mut responses) = mpsc::unbounded_channel();
    for _ in 0..=REQUESTS {
        let (router, done) = (Arc::clone(&router), done.clone());
        tokio::spawn(async move { done.send(router.get().await) });
    }
    // The one for which there is no room is answered at once; by then all the others have come in.
    let refused = responses.recv().await.unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("limit of 50 requests"),
        "{refused}"
    );
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    gate.notify_one();
    for _ in 0..REQUESTS {
        let response = responses.recv().await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    assert_eq!((activator.calls(), worker.connections()), (1, REQUESTS));

    gate.notify_one();
    let response = router.get().await;
    assert!(
        response.starts_with("HTTP/1.1 200 "),
        "there is room again: {response}"
    );
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again() {
    let worker = Worker::echoing().await;
    let address = worker.address;
    let activator = Fake::new(move |call, _| async move {
        match call {
            0 => Err(failure(
                Code::Aborted,
                "another operation is in progress for this actor",
            )),
            1 => Err(failure(Code::Unavailable, "starting")),
            2 => Err(RouteFailure {
                retry_after: Some(Duration::ZERO),
                ..failure(Code::ResourceExhausted, "busy")
            }),
            _ => Ok(Route { address }),
        }
    });
    let patient = Settings {
        first_pause: Duration::from_millis(1),
        ..Settings::default()
    };
    let router = Running::start(activator.clone(), patient).await;
    assert!(router.get().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(activator.calls(), 4);
}

#[tokio::test]
async fn failures_that_do_not_pass_are_answered_with_the_status_of_their_code() {
    for (code, status) in [
        (Code::NotFound, 404),
        (Code::FailedPrecondition, 503),
        (Code::DeadlineExceeded, 504),
        (Code::PermissionDenied, 403),
        (Code::Unauthenticated, 401),
        (Code::ResourceExhausted, 429),
        (Code::Internal, 500),
        (Code::DataLoss, 500),
        (Code::Unknown, 500),
    ] {
        let activator = Fake::new(move |_, _| async move { Err(failure(code, "Actor a is what it is")) });
        let router = Running::start(activator.clone(), Settings::default()).await;
        let response = router.get().await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{code:?}: {response}"
        );
        assert!(
            response.ends_with("\r\n\r\nActor a is what it is\n"),
            "{code:?}: {response}"
        );
        assert_eq!(activator.calls(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn when_time_is_up_the_client_hears_why_and_when_to_come_back() {
    let retry_after = Some(Duration::from_millis(1500));
    let busy = RouteFailure {
        retry_after,
        ..failure(Code::Aborted, "another operation is in progress")
    };
    let activator = Fake::new(move |_, _| {
        let busy = busy.clone();
        async move { Err(busy) }
    });
    let router = Running::start(activator.clone(), impatient()).await;
    let response = router.get().await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nretry-after: 2\r\n"), "{response}");
    assert!(
        response.contains("another operation is in progress; tried again until time was up"),
        "{response}"
    );
    assert_eq!(
        activator.calls(),
        1,
        "it is not asked before the time that it named"
    );
}

#[tokio::test]
async fn an_activator_that_hangs_is_not_waited_for_longer_than_the_budget() {
    let activator = Fake::new(|_, _| std::future::pending());
    let router = Running::start(activator, impatient()).await;
    let response = router.get().await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(
        response.contains("actor team/a is still being resumed"),
        "{response}"
    );
}

#[tokio::test]
async fn a_worker_that_cannot_be_connected_to_is_asked_for_again_with_that_hint() {
    let nobody = Nobody::new();
    let gone = nobody.address;
    let worker = Worker::echoing().await;
    let address = worker.address;
    let activator = Fake::new(move |_, stale| async move {
        let address = if stale == Some(gone) { address } else { gone };
        Ok(Route { address })
    });
    let patient = Settings {
        first_pause: Duration::from_millis(1),
        ..Settings::default()
    };
    let router = Running::start(activator.clone(), patient).await;
    assert!(router.get().await.starts_with("HTTP/1.1 200 "));
    assert_eq!((activator.calls(), worker.connections()), (2, 1));
}

#[tokio::test]
async fn a_worker_that_can_never_be_connected_to_is_a_503_once_time_is_up() {
    let nobody = Nobody::new();
    let activator = Fake::at(nobody.address);
    let router = Running::start(activator.clone(), impatient()).await;
    let response = router.get().await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nretry-after: 1\r\n"), "{response}");
    assert!(response.contains("its worker cannot be reached"), "{response}");
    assert!(activator.calls() > 1);
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_repeated() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
    })
    .await;
    let activator = Fake::at(worker.address);
    let router = Running::start(activator.clone(), Settings::default()).await;
    let response = router.get().await;
    assert!(
        response.starts_with("HTTP/1.1 502 ") && response.contains("was not repeated"),
        "{response}"
    );
    assert_eq!((activator.calls(), worker.connections()), (1, 1));
}

#[tokio::test]
async fn a_request_of_which_half_was_sent_is_not_repeated() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        stream.read_exact(&mut [0; 4]).await.unwrap();
    })
    .await;
    let activator = Fake::at(worker.address);
    let router = Running::start(activator.clone(), Settings::default()).await;
    let request =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf");
    let response = router.ask(&request).await;
    assert!(
        response.starts_with("HTTP/1.1 502 ") && response.contains("was not repeated"),
        "{response}"
    );
    assert_eq!((activator.calls(), worker.connections()), (1, 1));
}

#[tokio::test]
async fn a_response_that_breaks_off_breaks_off_for_the_client_too() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            .await
            .unwrap();
    })
    .await;
    let activator = Fake::at(worker.address);
    let router = Running::start(activator.clone(), Settings::default()).await;
    let response = router.get().await;
    assert!(
        response.starts_with("HTTP/1.1 200 ") && response.contains("content-length: 8"),
        "{response}"
    );
    assert!(response.ends_with("\r\n\r\nhalf"), "{response}");
    assert_eq!((activator.calls(), worker.connections()), (1, 1));
}
