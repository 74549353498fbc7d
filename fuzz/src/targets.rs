//! One file per target: what it reads, and what must hold for every input.

pub mod actor_host;
pub mod actor_log;
pub mod address;
pub mod call_metadata;
pub mod core_ids;
pub mod core_node;
pub mod core_replica;
pub mod core_world;
pub mod docker_config;
pub mod duration;
pub mod image_layout;
pub mod image_reference;
pub mod image_unpack;
pub mod manifests;
pub mod node_report;
pub mod page_token;
pub mod pods_ledger;
pub mod redis_url;
pub mod sandbox_names;
pub mod served_object;
pub mod snapshot_manifest;
pub mod snapshot_uri;
pub mod sparse_file;
pub mod status_details;
pub mod store_key;
pub mod store_record;
