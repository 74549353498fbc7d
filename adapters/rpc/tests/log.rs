//! The log of a server. In a process of its own: who listens to the log is a matter of the whole process.

use std::sync::{Arc, Mutex};

use holdfast_rpc::atelet::ateom_herder_client::AteomHerderClient;
use holdfast_rpc::atelet::ateom_herder_server::{AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
};
use holdfast_rpc::{atelet, server};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Channel, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use tokio::sync::Notify;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Runs at once, never ends a checkpoint that it has begun, and cannot restore.
struct Node {
    begun: Arc<Notify>,
}

#[tonic::async_trait]
impl AteomHerder for Node {
    async fn run(&self, _: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        Ok(Response::new(RunResponse {}))
    }

    async fn checkpoint(
        &self,
        _: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        self.begun.notify_one();
        std::future::pending().await
    }

    async fn restore(&self, _: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        Err(Status::data_loss("snapshot corrupt"))
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_call_is_one_line_in_the_log_and_says_nothing_of_its_body() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut node = AteomHerderClient::new(Channel::new(listener.address().clone(), Transport::default()));
    let shutdown = Shutdown::new();
    let begun = Arc::new(Notify::new());
    let routes = Routes::new(AteomHerderServer::new(Node {
        begun: Arc::clone(&begun),
    }));
    let clock = Arc::new(SystemClock);
    let serving = server::serve(
        listener,
        routes,
        Transport::default(),
        clock,
        shutdown.triggered(),
    );
    let calls = async {
        let entry = atelet::EnvEntry {
            name: "TOKEN".to_owned(),
            value: "hunter2".to_owned(),
        };
        assert!(!format!("{entry:?}").contains("hunter2"));
        let container = atelet::Container {
            env: vec![entry],
            ..atelet::Container::default()
        };
        let spec = atelet::WorkloadSpec {
            containers: vec![container],
            ..atelet::WorkloadSpec::default()
        };
        node.run(RunRequest {
            spec: Some(spec),
            ..RunRequest::default()
        })
        .await
        .unwrap();
        node.restore(RestoreRequest::default()).await.unwrap_err();
        tokio::select! {
            biased;
            answer = node.checkpoint(CheckpointRequest::default()) => panic!("no answer was due: {answer:?}"),
            () = begun.notified() => {}
        }
        shutdown.trigger();
    };
    futures_util::future::join(serving, calls).await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("hunter2"), "{log}");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains(r#""message":"Handle RPC""#))
        .collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, parts) in lines.iter().zip([
        [r#""method":"/atelet.AteomHerder/Run""#, r#""code":"Ok""#],
        [
            r#""method":"/atelet.AteomHerder/Restore""#,
            r#""err":"rpc error: code = DataLoss desc = snapshot corrupt""#,
        ],
        [
            r#""method":"/atelet.AteomHerder/Checkpoint""#,
            r#""code":"Cancelled""#,
        ],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.contains(r#""elapsed-time":""#), "{line}");
    }
}
