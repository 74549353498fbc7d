//! What breaks a connection whose peer is gone without a word, as a pod is whose network went with it: who waits
//! for an answer there has nothing to send that would show it.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How often a silent peer is asked whether it is there.
const EVERY: Duration = Duration::from_secs(5);
/// After how many such questions without an answer the connection is broken.
const TRIES: u32 = 3;

/// Has the kernel ask, and break the connection.
pub(super) fn set(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(stream, EVERY)?;
    sockopt::set_tcp_keepintvl(stream, EVERY)?;
    sockopt::set_tcp_keepcnt(stream, TRIES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_silent_peer_is_asked_three_times_within_twenty_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        let (idle, interval) = (
            sockopt::tcp_keepidle(&stream).unwrap(),
            sockopt::tcp_keepintvl(&stream).unwrap(),
        );
        let tries = sockopt::tcp_keepcnt(&stream).unwrap();
        assert_eq!(tries, 3);
        assert!(idle + interval * tries <= Duration::from_secs(20));
    }
}
