//! What a server tells of itself: its services (gRPC reflection) and their health.

use tonic::service::Routes;
pub use tonic_health::ServingStatus;
pub use tonic_health::server::HealthReporter;

use crate::FILE_DESCRIPTOR_SET;

const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// `routes` with reflection (v1 and v1alpha) and `grpc.health.v1` for `services`, each by its full name,
/// for example `ateapi::control_server::SERVICE_NAME`. All of them begin as serving; the reporter
/// changes that.
///
/// # Errors
/// When a descriptor set cannot be read, which is a fault in the build.
pub async fn introspected(
    routes: Routes,
    services: &[&str],
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let described = |own_name: &'static str| {
        let names = services.iter().copied().chain([HEALTH, own_name]);
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        names.fold(builder, tonic_reflection::server::Builder::with_service_name)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in services {
        reporter
            .set_service_status(*service, ServingStatus::Serving)
            .await;
    }
    let routes = routes
        .add_service(described(REFLECTION).build_v1()?)
        .add_service(described(REFLECTION_ALPHA).build_v1alpha()?)
        .add_service(health);
    Ok((routes, reporter))
}
