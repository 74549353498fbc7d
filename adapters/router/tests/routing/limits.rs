//! What runs out: time, room, patience, and the router's own life.

use super::*;

use tokio::sync::Notify;

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let nobody = Nobody::new();
    let activator = Fake::at(nobody.address);
    let settings = Settings {
        max_head_bytes: 8 << 10,
        ..Settings::default()
    };
    let router = Running::start(activator.clone(), settings).await;
    let filler = "x".repeat(9 << 10);
    let response = router
        .ask(&format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Filler: {filler}\r\n\r\n"
        ))
        .await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    assert_eq!(activator.calls(), 0);
}

#[tokio::test]
async fn a_client_that_sends_no_whole_head_is_disconnected() {
    let settings = Settings {
        head_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let nobody = Nobody::new();
    let router = Running::start(Fake::at(nobody.address), settings).await;
    for beginning in ["", "GET / HTTP/1.1\r\nHost:"] {
        let mut client = router.connect().await;
        client.write_all(beginning.as_bytes()).await.unwrap();
        let response = rest(&mut client).await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 408 "),
            "{response}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_never_answers_is_a_gateway_timeout() {
    let worker = Worker::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let settings = Settings {
        stall_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let router = Running::start(Fake::at(worker.address), settings).await;
    let response = router.get().await;
    assert!(response.starts_with("HTTP/1.1 504 "), "{response}");
    assert_eq!(worker.connections(), 1, "and is not asked a second time");
}

#[tokio::test]
async fn a_response_that_stalls_is_cut() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            .await
            .unwrap();
        assert_eq!(rest(&mut stream).await, "");
    })
    .await;
    let settings = Settings {
        stall_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let router = Running::start(Fake::at(worker.address), settings).await;
    let response = router.get().await;
    assert!(response.ends_with("\r\n\r\nhalf"), "{response}");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_worker() {
    let (asked, freed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&asked), Arc::clone(&freed));
    let worker = Worker::start(move |mut stream| {
        let (asked, freed) = signals.clone();
        async move {
            head(&mut stream).await;
            asked.notify_one();
            rest(&mut stream).await;
            freed.notify_one();
        }
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let mut client = router.connect().await;
    client
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    asked.notified().await;
    drop(client);
    freed.notified().await;
}

/// A worker that holds its answer back until told.
async fn held() -> (Worker, Arc<Notify>, Arc<Notify>) {
    let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&asked), Arc::clone(&release));
    let worker = Worker::start(move |mut stream| {
        let (asked, release) = signals.clone();
        async move {
            head(&mut stream).await;
            asked.notify_one();
            release.notified().await;
            let _ = stream.write_all(ok("at last").as_bytes()).await;
        }
    })
    .await;
    (worker, asked, release)
}

#[tokio::test]
async fn stopping_lets_requests_in_progress_end_and_takes_no_new_ones() {
    let (worker, asked, release) = held().await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let idle = router.connect().await;
    let mut client = router.connect().await;
    client
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    asked.notified().await;
    router.stop.trigger();
    // Refused as soon as the listener is gone; until then the kernel takes connections for it.
    while TcpStream::connect(router.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!router.server.is_finished());
    release.notify_one();
    assert!(rest(&mut client).await.ends_with("at last"));
    router.server.await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn stopping_cuts_what_does_not_end() {
    let (worker, asked, _release) = held().await;
    let settings = Settings {
        drain_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let router = Running::start(Fake::at(worker.address), settings).await;
    let mut client = router.connect().await;
    client
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    asked.notified().await;
    router.stop.trigger();
    router.server.await.unwrap();
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn stopping_tells_those_who_wait_for_an_actor_so_at_once() {
    let asked = Arc::new(Notify::new());
    let signal = Arc::clone(&asked);
    let activator = Fake::new(move |_, _| {
        signal.notify_one();
        std::future::pending()
    });
    let settings = Settings {
        activation_budget: Duration::from_secs(3600),
        drain_timeout: Duration::from_secs(3600),
        ..Settings::default()
    };
    let router = Running::start(activator, settings).await;
    let mut client = router.connect().await;
    client
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    asked.notified().await;
    router.stop.trigger();
    let response = rest(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(
        response.ends_with("the router is stopping; the request has not been given to actor team/a\n"),
        "{response}"
    );
    router.server.await.unwrap();
}
