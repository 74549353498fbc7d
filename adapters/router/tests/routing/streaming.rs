//! Bodies that are larger than anything that may be held of them.

use super::*;

use std::sync::atomic::AtomicU64;

const BODY: u64 = 256 << 20;
/// Far more than the socket buffers of both connections, far less than the body.
const HELD: u64 = 64 << 20;
const CHUNK: usize = 16 << 10;

/// How much has gone in on one side and come out on the other, and the most that was ever in between.
#[derive(Default)]
struct Between {
    sent: AtomicU64,
    received: AtomicU64,
    most: AtomicU64,
}

impl Between {
    /// Writes `BODY` bytes as fast as they are taken.
    async fn feed(&self, stream: &mut TcpStream) {
        let chunk = [b'x'; CHUNK];
        for _ in 0..BODY / CHUNK as u64 {
            stream.write_all(&chunk).await.unwrap();
            let sent = self.sent.fetch_add(CHUNK as u64, Ordering::SeqCst) + CHUNK as u64;
            self.most
                .fetch_max(sent - self.received.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// Reads all of it, and lets the others run in between, so that whoever would take more does.
    async fn drain(&self, stream: &mut TcpStream) {
        let mut chunk = [0; CHUNK];
        while self.received.load(Ordering::SeqCst) < BODY {
            tokio::task::yield_now().await;
            let length = stream.read(&mut chunk).await.unwrap();
            assert_ne!(length, 0, "the body ended early");
            self.received.fetch_add(length as u64, Ordering::SeqCst);
        }
    }

    fn assert_little_was_held(&self) {
        assert_eq!(self.sent.load(Ordering::SeqCst), BODY);
        assert_eq!(self.received.load(Ordering::SeqCst), BODY);
        let most = self.most.load(Ordering::SeqCst);
        assert!(most < HELD, "{most} bytes were held at once");
    }
}

#[tokio::test]
async fn a_large_upload_is_passed_on_as_fast_as_the_worker_takes_it() {
    let between = Arc::new(Between::default());
    let received = Arc::clone(&between);
    let worker = Worker::start(move |mut stream| {
        let received = Arc::clone(&received);
        async move {
            head(&mut stream).await;
            received.drain(&mut stream).await;
            stream.write_all(ok("thanks").as_bytes()).await.unwrap();
        }
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let mut client = router.connect().await;
    let head =
        format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY}\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    between.feed(&mut client).await;
    assert!(rest(&mut client).await.ends_with("thanks"));
    between.assert_little_was_held();
}

#[tokio::test]
async fn a_large_download_is_passed_on_as_fast_as_the_client_takes_it() {
    let between = Arc::new(Between::default());
    let sent = Arc::clone(&between);
    let worker = Worker::start(move |mut stream| {
        let sent = Arc::clone(&sent);
        async move {
            head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            sent.feed(&mut stream).await;
        }
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let mut client = router.connect().await;
    client
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    head(&mut client).await;
    between.drain(&mut client).await;
    between.assert_little_was_held();
}

#[tokio::test]
async fn bodies_go_both_ways_at_once() {
    let worker = Worker::start(|mut stream| async move {
        head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        for _ in 0..3 {
            // A chunk of the request, echoed as a chunk of the response.
            let mut chunk = [0; 9];
            stream.read_exact(&mut chunk).await.unwrap();
            stream.write_all(&chunk).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let router = Running::start(Fake::at(worker.address), Settings::default()).await;
    let mut client = router.connect().await;
    let request =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    for word in ["ping", "pong", "last"] {
        client
            .write_all(format!("4\r\n{word}\r\n").as_bytes())
            .await
            .unwrap();
        if word == "ping" {
            assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        }
        let mut chunk = [0; 9];
        client.read_exact(&mut chunk).await.unwrap();
        assert_eq!(chunk, *format!("4\r\n{word}\r\n").as_bytes());
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(rest(&mut client).await, "0\r\n\r\n");
}
