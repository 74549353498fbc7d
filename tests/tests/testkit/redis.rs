//! The Redis server that tests start.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use holdfast_tests::redis::{Persistence, Reply, Server};

fn bytes(text: &str) -> Reply {
    Reply::Bytes(text.into())
}

#[test]
fn a_killed_server_refuses_and_comes_back_at_the_same_address_with_every_write() -> Result<()> {
    let mut server = Server::start(Persistence::EveryWrite)?;
    let address = server.address();
    assert_eq!(
        server.command(&["SET", "key", "value"])?,
        Reply::Status("OK".into())
    );
    server.kill()?;
    assert!(TcpStream::connect(address).is_err());
    server.restart()?;
    assert_eq!(server.address(), address);
    assert_eq!(server.command(&["GET", "key"])?, bytes("value"));
    Ok(())
}

#[test]
fn without_persistence_a_restart_loses_everything() -> Result<()> {
    let mut server = Server::start(Persistence::None)?;
    server.command(&["SET", "key", "value"])?;
    server.restart()?;
    assert_eq!(server.command(&["GET", "key"])?, Reply::Nil);
    Ok(())
}

#[test]
fn a_frozen_server_accepts_and_does_not_answer_until_thawed() -> Result<()> {
    let mut server = Server::start(Persistence::None)?;
    server.command(&["SET", "key", "value"])?;
    server.freeze()?;
    let mut silent = TcpStream::connect(server.address())?;
    std::io::Write::write_all(&mut silent, b"PING\r\n")?;
    silent.set_read_timeout(Some(Duration::from_millis(100)))?;
    assert!(silent.read(&mut [0; 8]).is_err());
    server.thaw()?;
    assert_eq!(server.command(&["GET", "key"])?, bytes("value"));
    Ok(())
}

#[test]
fn servers_do_not_share_data_and_end_with_their_owner() -> Result<()> {
    let first = Server::start(Persistence::None)?;
    let second = Server::start(Persistence::None)?;
    first.command(&["SET", "key", "value"])?;
    assert_eq!(second.command(&["GET", "key"])?, Reply::Nil);
    let address = first.address();
    drop(first);
    assert!(TcpStream::connect(address).is_err());
    Ok(())
}

#[test]
fn replies_of_every_kind_are_read() -> Result<()> {
    let server = Server::start(Persistence::None)?;
    assert_eq!(server.command(&["INCR", "n"])?, Reply::Integer(1));
    assert!(matches!(server.command(&["INCR"])?, Reply::Error(error) if error.starts_with("ERR")));
    assert_eq!(
        server.command(&["MGET", "n", "m"])?,
        Reply::Array(vec![bytes("1"), Reply::Nil])
    );
    Ok(())
}
