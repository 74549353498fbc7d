//! The same transport on simulated sockets: nodes that die, links that are cut.
#![cfg(madsim)]

use std::net::IpAddr;
use std::time::Duration;

use holdfast_runtime::clock::{Clock, SystemClock, sleep_until};
use holdfast_runtime::net::{Address, Channel, DeadlineLayer, Listener, Transport, deadline, serve};
use holdfast_runtime::tokio;
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::Layer;

struct Slow;

#[tonic::async_trait]
impl Health for Slow {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let seconds = request.get_ref().service.parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = futures_util::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(futures_util::stream::empty()))
    }
}

const SERVER: &str = "10.0.0.1";
const CLIENT: &str = "10.0.0.2";

fn node(ip: &str) -> NodeHandle {
    Handle::current()
        .create_node()
        .ip(ip.parse::<IpAddr>().unwrap())
        .build()
}

fn server() -> NodeHandle {
    Handle::current()
        .create_node()
        .ip(SERVER.parse::<IpAddr>().unwrap())
        .init(|| async {
            let listener = Listener::bind(&"0.0.0.0:80".parse().unwrap()).await.unwrap();
            let service = DeadlineLayer.layer(Routes::new(HealthServer::new(Slow)));
            serve(listener, service, Transport::default(), std::future::pending()).await;
        })
        .build()
}

async fn ask(client: &HealthClient<Channel>, seconds: u64) -> Result<i32, Status> {
    let request = HealthCheckRequest {
        service: seconds.to_string(),
    };
    client
        .clone()
        .check(request)
        .await
        .map(|response| response.get_ref().status)
}

async fn story() -> u64 {
    let server = server();
    let client_node = node(CLIENT);
    let server_id = server.id();
    client_node
        .spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let address: Address = format!("{SERVER}:80").parse().unwrap();
            let client = HealthClient::new(Channel::new(address, Transport::default()));
            assert_eq!(
                ask(&client, 40).await.unwrap(),
                1,
                "keepalive outlasts a slow call"
            );

            let late = deadline(Duration::from_secs(2), ask(&client, 5))
                .await
                .unwrap_err();
            assert_eq!(late.code(), Code::DeadlineExceeded);

            let mut request = Request::new(HealthCheckRequest {
                service: "5".to_owned(),
            });
            request
                .metadata_mut()
                .insert("grpc-timeout", "1S".parse().unwrap());
            let late = client.clone().check(request).await.unwrap_err();
            assert_eq!(late.code(), Code::DeadlineExceeded);

            let network = NetSim::current();
            let cut_at = SystemClock.now();
            network.clog_node(server_id);
            let cut_off = ask(&client, 0).await.unwrap_err();
            assert_eq!(cut_off.code(), Code::Unavailable, "{cut_off:?}");
            assert!(SystemClock.now().since(cut_at) <= Duration::from_secs(16));
            network.unclog_node(server_id);
            ask(&client, 0).await.unwrap();

            Handle::current().kill(server_id);
            assert_eq!(ask(&client, 0).await.unwrap_err().code(), Code::Unavailable);
            Handle::current().restart(server_id);
            tokio::time::sleep(Duration::from_secs(1)).await;
            ask(&client, 0).await.unwrap();

            let deadline = SystemClock.now().plus(Duration::from_secs(7));
            sleep_until(&SystemClock, deadline).await;
            assert!(SystemClock.now() >= deadline);
            SystemClock.now().as_micros()
        })
        .await
        .unwrap()
}

fn run(seed: u64) -> u64 {
    std::thread::spawn(move || {
        Runtime::with_seed_and_config(seed, madsim::Config::default()).block_on(story())
    })
    .join()
    .unwrap()
}

#[test]
fn calls_survive_cuts_and_deaths_and_every_seed_repeats_exactly() {
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
