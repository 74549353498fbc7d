//! Byte streams: TCP and, outside the simulator, Unix sockets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
#[cfg(not(madsim))]
use tokio::net::{UnixListener, UnixStream};

use tokio_rustls::TlsStream;

use super::{Address, ServerTls};

/// One end of a connection.
pub struct Socket {
    stream: Stream,
    /// Simulated streams send a packet per flush even when there is nothing to send, and two HTTP/2
    /// peers then answer each other's empty packets for ever.
    unflushed: bool,
}

/// What carries the bytes; nothing above can tell the difference.
enum Stream {
    Tcp(TcpStream),
    #[cfg(not(madsim))]
    Unix(UnixStream),
    Tls(Box<TlsStream<Socket>>),
}

/// Who is at the other end of an accepted connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A TCP client.
    Tcp {
        /// The address the client reached us at.
        local: Option<SocketAddr>,
        /// The address of the client.
        remote: SocketAddr,
    },
    /// A process on this host.
    Unix,
}

impl Socket {
    /// Connects to `address`, resolving its name first.
    ///
    /// # Errors
    /// Those of the operating system, and `TimedOut` when no connection stands after `timeout`.
    pub async fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        let stream = async {
            match address {
                Address::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    #[cfg(not(madsim))]
                    super::keep_alive::set(&stream)?;
                    Ok(Stream::Tcp(stream))
                }
                #[cfg(not(madsim))]
                Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
                #[cfg(madsim)]
                Address::Unix(_) => Err(no_unix_sockets()),
            }
        };
        let stream = tokio::time::timeout(timeout, stream).await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {timeout:?}"),
            )
        })??;
        Ok(Self::over(stream))
    }

    pub(super) fn tls(stream: TlsStream<Socket>) -> Self {
        Self::over(Stream::Tls(Box::new(stream)))
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            unflushed: false,
        }
    }
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where it was to listen.
    pub address: Address,
    /// What the operating system says.
    pub source: io::Error,
}

/// A bound address that accepts connections. The file of a Unix socket is removed with it.
pub struct Listener {
    inner: Inner,
    address: Address,
    tls: Option<Arc<dyn ServerTls>>,
}

enum Inner {
    Tcp(TcpListener),
    #[cfg(not(madsim))]
    Unix(UnixListener),
}

impl Listener {
    /// Listens on `address`. A Unix socket that a dead server left behind is replaced.
    ///
    /// # Errors
    /// When the address is taken, not of this host, or may not be used.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        bind(address).await.map_err(|source| BindError {
            address: address.clone(),
            source,
        })
    }

    /// Where this listens, with the port that it really got.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Has [`serve`](super::serve) speak nothing but TLS here.
    #[must_use]
    pub fn secured(mut self, tls: Arc<dyn ServerTls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What is spoken on its connections, if it is TLS.
    pub(super) fn tls(&self) -> Option<Arc<dyn ServerTls>> {
        self.tls.clone()
    }

    /// The next connection, as it is accepted: TLS begins afterwards.
    ///
    /// # Errors
    /// Those of the operating system. None of them ends the listener: a later call may succeed.
    pub async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.inner {
            Inner::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr().ok();
                Ok((Socket::over(Stream::Tcp(stream)), Peer::Tcp { local, remote }))
            }
            #[cfg(not(madsim))]
            Inner::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::over(Stream::Unix(stream)), Peer::Unix))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // Gone already, or not ours to remove: the next server sees to it.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn bind(address: &Address) -> io::Result<Listener> {
    match address {
        Address::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port)).await?;
            let address = Address::from(listener.local_addr()?);
            Ok(Listener {
                inner: Inner::Tcp(listener),
                address,
                tls: None,
            })
        }
        #[cfg(not(madsim))]
        Address::Unix(path) => {
            remove_abandoned_socket(path)?;
            let inner = Inner::Unix(UnixListener::bind(path)?);
            Ok(Listener {
                inner,
                address: address.clone(),
                tls: None,
            })
        }
        #[cfg(madsim)]
        Address::Unix(_) => Err(no_unix_sockets()),
    }
}

/// Removes the socket at `path` if nobody listens on it. Anything else there is left for `bind` to
/// refuse: another server's socket, or a file that is no socket at all.
#[cfg(not(madsim))]
fn remove_abandoned_socket(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;

    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(madsim)]
fn no_unix_sockets() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the simulator has no Unix sockets; use a TCP address",
    )
}

macro_rules! delegate {
    ($socket:expr, $method:ident ( $($argument:expr),* )) => {
        match &mut $socket.stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            #[cfg(not(madsim))]
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        delegate!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        delegate!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(not(madsim))]
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = delegate!(self, poll_flush(context));
        if flushed.is_ready() {
            self.unflushed = false;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(context))
    }
}
