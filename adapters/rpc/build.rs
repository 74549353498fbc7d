//! Generates the messages, clients and servers of `proto/`, without protoc.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FILES: [&str; 8] = [
    "ateapi.proto",
    "atelet.proto",
    "ateom.proto",
    "holdfast/v1/admin.proto",
    "holdfast/v1/node_control.proto",
    "holdfast/v1/nodes.proto",
    "holdfast/v1/report.proto",
    "holdfast/v1/worker_control.proto",
];

/// Messages that hold secrets write their own `Debug`.
const SECRETIVE: [&str; 2] = [".ateapi.MintJWTResponse", ".atelet.EnvEntry"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .skip_debug(SECRETIVE)
        .compile_fds(descriptors.clone())?;
    // Comments are for those who read the source, not for every process that offers reflection.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
