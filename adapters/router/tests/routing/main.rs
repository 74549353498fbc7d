//! The router on loopback, between raw clients and raw workers.

mod activation;
mod limits;
mod messages;
mod streaming;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use holdfast_core::failure::Code;
use holdfast_core::id::ActorKey;
use holdfast_router::{Activator, Route, RouteFailure, Settings, serve};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Listener};
use holdfast_runtime::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

const HOST: &str = "a.team.actors.resources.substrate.ate.dev";

/// Answers each call by its number and the hint that came with it.
type Answers = dyn Fn(usize, Option<SocketAddr>) -> Pin<Box<dyn Future<Output = Result<Route, RouteFailure>> + Send>>
    + Send
    + Sync;

struct Fake {
    calls: AtomicUsize,
    actors: Mutex<Vec<ActorKey>>,
    answers: Box<Answers>,
}

#[async_trait]
impl Activator for Fake {
    async fn resume(&self, actor: &ActorKey, stale: Option<SocketAddr>) -> Result<Route, RouteFailure> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.actors.lock().unwrap().push(actor.clone());
        (self.answers)(call, stale).await
    }
}

impl Fake {
    fn new<F>(answers: impl Fn(usize, Option<SocketAddr>) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<Route, RouteFailure>> + Send + 'static,
    {
        Arc::new(Fake {
            calls: AtomicUsize::new(0),
            actors: Mutex::default(),
            answers: Box::new(move |call, stale| Box::pin(answers(call, stale))),
        })
    }

    fn at(address: SocketAddr) -> Arc<Self> {
        Fake::new(move |_, _| async move { Ok(Route { address }) })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn failure(code: Code, message: &str) -> RouteFailure {
    RouteFailure {
        code,
        message: message.to_owned(),
        retry_after: None,
    }
}

/// Settings with short waits, for what is meant to run out.
fn impatient() -> Settings {
    Settings {
        activation_budget: Duration::from_millis(300),
        first_pause: Duration::from_millis(1),
        ..Settings::default()
    }
}

struct Running {
    address: SocketAddr,
    stop: Shutdown,
    server: JoinHandle<()>,
}

impl Running {
    async fn start(activator: Arc<dyn Activator>, settings: Settings) -> Self {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Address::Tcp { host, port } = listener.address().clone() else {
            panic!("a TCP address")
        };
        let address = SocketAddr::new(host.parse().unwrap(), port);
        let stop = Shutdown::new();
        let stopped = stop.triggered();
        let server = tokio::spawn(serve(
            listener,
            activator,
            Arc::new(SystemClock),
            settings,
            stopped,
        ));
        Running {
            address,
            stop,
            server,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` on a connection of its own and gives all that comes back.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    /// A GET of the actor.
    async fn get(&self) -> String {
        self.ask(&format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        ))
        .await
    }
}

/// A worker that treats each connection as `serve` does, and counts them.
struct Worker {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Worker {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Worker { address, connections }
    }

    /// Answers each request with its own head as the body.
    async fn echoing() -> Self {
        Worker::start(|mut stream| async move {
            let head = head(&mut stream).await;
            let _ = stream.write_all(ok(&head).as_bytes()).await;
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens, and nobody will: it is taken.
struct Nobody {
    address: SocketAddr,
    _taken: TcpSocket,
}

impl Nobody {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Nobody {
            address: socket.local_addr().unwrap(),
            _taken: socket,
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Everything up to the empty line.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Everything until the connection ends, however it ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(text).unwrap()
}
