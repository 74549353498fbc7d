//! What is passed on, and what is refused.

use super::*;

#[tokio::test]
async fn a_request_reaches_the_actors_worker_without_what_is_between_client_and_router() {
    let worker = Worker::echoing().await;
    let activator = Fake::at(worker.address);
    let router = Running::start(activator.clone(), Settings::default()).await;
    let request = format!(
        "GET /path?query HTTP/1.1\r\nHost: {HOST}:80\r\nX-Mine: 1\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         X-Forwarded-For: 10.0.0.1\r\nConnection: close, x-hop\r\n\r\n"
    );
    let response = router.ask(&request).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    let (_, seen) = response.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = seen.trim().lines().collect();
    lines.sort_unstable();
    let host = format!("host: {HOST}:80");
    let forwarded_host = format!("x-forwarded-host: {HOST}:80");
    let expected = [
        "GET /path?query HTTP/1.1",
        "connection: close",
        &host,
        "x-forwarded-for: 10.0.0.1, 127.0.0.1",
        &forwarded_host,
        "x-forwarded-proto: http",
        "x-mine: 1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(*activator.actors.lock().unwrap(), [ActorKey::new("team", "a")]);
}

#[tokio::test]
async fn a_response_comes_back_without_what_is_between_worker_and_router() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        let response = "HTTP/1.1 418 Teapot\r\nX-Mine: 1\r\nX-Hop: 1\r\nConnection: close, x-hop\r\n\
                        Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        stream.write_all(response.as_bytes()).await.unwrap();
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let response = router.get().await;
    assert!(response.starts_with("HTTP/1.1 418 "), "{response}");
    assert!(
        response.contains("x-mine: 1\r\n") && !response.contains("x-hop"),
        "{response}"
    );
    assert!(response.ends_with("3\r\nabc\r\n0\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn no_connection_to_a_worker_is_used_twice() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        stream.write_all(ok("once").as_bytes()).await.unwrap();
        // The worker would gladly go on.
        assert_eq!(rest(&mut stream).await, "");
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let mut client = router.connect().await;
    for request in 1..=3 {
        client
            .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let head = head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        client.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(worker.connections(), request);
    }
}

#[tokio::test]
async fn hosts_that_are_no_actors_get_404_with_what_would_be_right() {
    let nobody = Nobody::new();
    let activator = Fake::at(nobody.address);
    let router = Running::start(activator.clone(), Settings::default()).await;
    for (host, part) in [
        (
            "Host: localhost\r\n",
            "write <actor>.<atespace>.actors.resources.substrate.ate.dev",
        ),
        (
            "Host: A_b.team.actors.resources.substrate.ate.dev\r\n",
            "invalid actor_id",
        ),
        ("", "write <actor>.<atespace>"),
    ] {
        let response = router
            .ask(&format!("GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n"))
            .await;
        assert!(response.starts_with("HTTP/1.1 404 "), "{host}: {response}");
        assert!(response.contains(part), "{host}: {response}");
    }
    let twice = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    assert!(router.ask(&twice).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(activator.calls(), 0);
}

#[tokio::test]
async fn the_host_of_an_absolute_uri_counts_more_than_the_header() {
    let worker = Worker::echoing().await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let request = format!("GET http://{HOST}/x HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n");
    let response = router.ask(&request).await;
    assert!(response.contains("GET /x HTTP/1.1\r\n"), "{response}");
    assert!(response.contains(&format!("\r\nhost: {HOST}\r\n")), "{response}");
    assert!(!response.contains("elsewhere"), "{response}");
}

#[tokio::test]
async fn upgrades_and_tunnels_are_not_implemented() {
    let nobody = Nobody::new();
    let activator = Fake::at(nobody.address);
    let router = Running::start(activator.clone(), Settings::default()).await;
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"),
        format!("CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"),
    ] {
        let response = router.ask(&request).await;
        assert!(response.starts_with("HTTP/1.1 501 "), "{response}");
    }
    assert_eq!(activator.calls(), 0);
}

#[tokio::test]
async fn an_offer_to_go_on_in_http_2_is_passed_over() {
    let worker = Worker::echoing().await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    );
    let response = router.ask(&request).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(
        !response.contains("h2c") && !response.contains("http2-settings"),
        "{response}"
    );
}

#[tokio::test]
async fn a_worker_that_switches_protocols_unasked_is_a_bad_gateway() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.unwrap();
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let response = router.get().await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
}

#[tokio::test]
async fn a_client_that_waits_for_a_go_ahead_gets_it() {
    let worker = Worker::start(|mut stream| async move {
        let head = head(&mut stream).await;
        assert!(!head.contains("expect"), "{head}");
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream
            .write_all(ok(std::str::from_utf8(&body).unwrap()).as_bytes())
            .await
            .unwrap();
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let mut client = router.connect().await;
    let request = format!(
        "PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 100 "));
    client.write_all(b"body").await.unwrap();
    assert!(rest(&mut client).await.ends_with("\r\n\r\nbody"));
}
