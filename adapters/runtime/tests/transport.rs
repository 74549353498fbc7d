//! The transport on real sockets, with the gRPC health service as the service.
#![cfg(not(madsim))]

use std::sync::Arc;
use std::time::Duration;

use holdfast_runtime::net::{Address, Channel, DeadlineLayer, Listener, Transport, deadline, serve};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::Layer;

/// Answers at once, except to the service names that ask for something else.
#[derive(Clone)]
struct Probe {
    /// Tells that a call has reached its handler, with the peer that it came from.
    entered: mpsc::UnboundedSender<Option<std::net::SocketAddr>>,
    /// Tells that a handler was dropped before it answered.
    dropped: mpsc::UnboundedSender<()>,
    /// Lets the calls to `held` answer.
    release: Arc<Notify>,
}

struct TellsWhenDropped(Option<mpsc::UnboundedSender<()>>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        if let Some(dropped) = self.0.take() {
            let _ = dropped.send(());
        }
    }
}

#[tonic::async_trait]
impl Health for Probe {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let mut guard = TellsWhenDropped(Some(self.dropped.clone()));
        let _ = self.entered.send(request.remote_addr());
        match request.get_ref().service.as_str() {
            "held" => self.release.notified().await,
            "stuck" => std::future::pending().await,
            _ => {}
        }
        guard.0 = None;
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = futures_util::stream::BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// One message, then silence.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        use futures_util::StreamExt;
        let first = futures_util::stream::iter([Ok(HealthCheckResponse { status: 1 })]);
        Ok(Response::new(
            first.chain(futures_util::stream::pending()).boxed(),
        ))
    }
}

struct Server {
    address: Address,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
    entered: mpsc::UnboundedReceiver<Option<std::net::SocketAddr>>,
    dropped: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
}

impl Server {
    async fn start(address: &str, transport: Transport) -> Self {
        let listener = Listener::bind(&address.parse().unwrap()).await.unwrap();
        let address = listener.address().clone();
        let (entered_sender, entered) = mpsc::unbounded_channel();
        let (dropped_sender, dropped) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let probe = Probe {
            entered: entered_sender,
            dropped: dropped_sender,
            release: Arc::clone(&release),
        };
        let shutdown = Shutdown::new();
        let service = DeadlineLayer.layer(Routes::new(HealthServer::new(probe)));
        let task = tokio::spawn(serve(listener, service, transport, shutdown.triggered()));
        Self {
            address,
            shutdown,
            task,
            entered,
            dropped,
            release,
        }
    }

    fn client(&self) -> HealthClient<Channel> {
        HealthClient::new(Channel::new(self.address.clone(), Transport::default()))
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

async fn ask(client: &HealthClient<Channel>, service: &str) -> Result<i32, Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    client
        .clone()
        .check(request)
        .await
        .map(|response| response.get_ref().status)
}

#[tokio::test]
async fn a_call_is_answered_and_the_handler_sees_who_called() {
    let mut server = Server::start("127.0.0.1:0", Transport::default()).await;
    let client = server.client();
    assert_eq!(ask(&client, "").await.unwrap(), 1);
    let peer = server.entered.recv().await.unwrap().unwrap();
    assert!(peer.ip().is_loopback());
    assert_eq!(ask(&client, "").await.unwrap(), 1);
    let same_peer = server.entered.recv().await.unwrap().unwrap();
    assert_eq!(peer, same_peer, "the second call made a connection of its own");
    server.stop().await;
}

#[tokio::test]
async fn callers_who_find_no_connection_share_the_attempt_to_make_one() {
    let mut server = Server::start("127.0.0.1:0", Transport::default()).await;
    let client = server.client();
    let calls = (0..20).map(|_| ask(&client, ""));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    let first = server.entered.recv().await.unwrap();
    for _ in 1..20 {
        assert_eq!(server.entered.recv().await.unwrap(), first);
    }
    server.stop().await;
}

#[tokio::test]
async fn names_are_resolved() {
    let server = Server::start("localhost:0", Transport::default()).await;
    let Address::Tcp { port, .. } = server.address else {
        panic!("a TCP listener")
    };
    let address = Address::Tcp {
        host: "localhost".to_owned(),
        port,
    };
    let client = HealthClient::new(Channel::new(address, Transport::default()));
    assert_eq!(ask(&client, "").await.unwrap(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_until_it_is_back() {
    let server = Server::start("127.0.0.1:0", Transport::default()).await;
    let address = server.address.clone();
    let client = server.client();
    ask(&client, "").await.unwrap();
    server.stop().await;

    let error = ask(&client, "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(error.message().contains(&address.to_string()), "{error:?}");

    let server = Server::start(&address.to_string(), Transport::default()).await;
    assert_eq!(ask(&client, "").await.unwrap(), 1);
    server.stop().await;
}

#[tokio::test]
async fn unix_sockets_carry_calls_and_an_abandoned_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ateom.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead server leaves its socket behind");

    let address = format!("unix://{}", path.display());
    let server = Server::start(&address, Transport::default()).await;
    assert_eq!(ask(&server.client(), "").await.unwrap(), 1);

    let second = Listener::bind(&server.address)
        .await
        .err()
        .expect("the address is taken");
    assert_eq!(second.source.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(ask(&server.client(), "").await.unwrap(), 1);
    server.stop().await;
    assert!(!path.exists(), "one that has ended removes its own");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert!(Listener::bind(&Address::Unix(path.clone())).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

#[tokio::test]
async fn a_peer_that_gives_no_sign_of_life_is_given_up_by_the_client() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::from(silent.local_addr().unwrap());
    let transport = Transport {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..Transport::default()
    };
    let client = HealthClient::new(Channel::new(address, transport));
    let error = ask(&client, "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_peer_that_gives_no_sign_of_life_is_given_up_by_the_server() {
    let transport = Transport {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..Transport::default()
    };
    let server = Server::start("127.0.0.1:0", transport).await;
    let mut silent = tokio::net::TcpStream::connect(server.address.to_string())
        .await
        .unwrap();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    silent
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    silent.write_all(&empty_settings).await.unwrap();
    let mut rest = Vec::new();
    // Ends, with or without a reset, because the server hangs up.
    let _ = silent.read_to_end(&mut rest).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_complains_about_pings_is_no_longer_pinged_often() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let transport = Transport {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..Transport::default()
    };
    let client = HealthClient::new(Channel::new(address, transport));
    let complaint = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let call = connection.accept().await.unwrap().unwrap();
        connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
        std::future::poll_fn(|context| connection.poll_closed(context))
            .await
            .unwrap();
        drop(call);
    };
    let (answer, ()) = futures_util::future::join(ask(&client, ""), complaint).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);

    // Nobody accepts the next connection, so pings would find no answer and fail the call.
    let answer = deadline(Duration::from_millis(300), ask(&client, "")).await;
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_server_that_stops_lets_calls_in_flight_finish() {
    let mut server = Server::start("127.0.0.1:0", Transport::default()).await;
    let client = server.client();
    let call = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, "held").await }
    });
    server.entered.recv().await.unwrap();
    server.shutdown.trigger();
    // Once the port refuses, the server has begun to stop.
    while tokio::net::TcpStream::connect(server.address.to_string())
        .await
        .is_ok()
    {}
    assert!(!server.task.is_finished());
    server.release.notify_one();
    assert_eq!(call.await.unwrap().unwrap(), 1);
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_server_that_stops_cuts_calls_that_take_too_long() {
    let transport = Transport {
        drain_timeout: Duration::from_millis(20),
        ..Transport::default()
    };
    let mut server = Server::start("127.0.0.1:0", transport).await;
    let client = server.client();
    let call = tokio::spawn(async move { ask(&client, "stuck").await });
    server.entered.recv().await.unwrap();
    server.shutdown.trigger();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    server.dropped.recv().await.expect("the handler was dropped");
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_stops_waiting_stops_the_handler() {
    let mut server = Server::start("127.0.0.1:0", Transport::default()).await;
    let client = server.client();
    tokio::select! {
        biased;
        answer = ask(&client, "stuck") => panic!("no answer was due: {answer:?}"),
        _ = server.entered.recv() => {}
    }
    server.dropped.recv().await.expect("the handler was dropped");
    assert_eq!(
        ask(&client, "").await.unwrap(),
        1,
        "the connection outlives the call"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_outlives_its_limit_is_given_up() {
    let server = Server::start("127.0.0.1:0", Transport::default()).await;
    let client = server.client();
    let error = deadline(Duration::from_millis(20), ask(&client, "stuck"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(
        deadline(Duration::from_secs(60), ask(&client, "")).await.unwrap(),
        1
    );
    server.stop().await;
}

fn with_timeout(service: &str, timeout: &'static str) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    request
        .metadata_mut()
        .insert("grpc-timeout", timeout.parse().unwrap());
    request
}

#[tokio::test]
async fn the_deadline_that_a_remote_caller_sends_is_kept_by_the_server() {
    let mut server = Server::start("127.0.0.1:0", Transport::default()).await;
    let mut client = server.client();

    let error = client.check(with_timeout("stuck", "300m")).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    server.dropped.recv().await.expect("the handler was dropped");

    client.check(with_timeout("", "1H")).await.unwrap();
    let error = client.check(with_timeout("", "soon")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    let mut stream = client.watch(with_timeout("", "1S")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    server.stop().await;
}
