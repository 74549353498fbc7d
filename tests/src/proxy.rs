//! A way to a server that misbehaves on demand, whatever is spoken on it: each connection to the proxy becomes
//! one to the server, and what the server sends, or is sent, suffers the fault of the hour.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

/// What goes wrong while it lasts. Bytes are counted from the moment of injection, over all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing goes through any more; connections stay open.
    Hang,
    /// So many bytes per second go through.
    Trickle(u64),
    /// After so many bytes every connection is cut, the new ones included.
    CutAfter(u64),
    /// This byte of what the server sends is another one.
    CorruptAnswer(u64),
}

/// A running proxy on a free port of loopback. Ends, with all its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    fault: Mutex<Option<Fault>>,
    /// Bytes since the fault began, to the client and to the server.
    passed: [AtomicU64; 2],
    ending: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToClient,
    ToServer,
}

const GLANCE: Duration = Duration::from_millis(10);
const CHUNK_BYTES: usize = 16 << 10;

impl Proxy {
    /// A way to `server`.
    pub fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            fault: Mutex::default(),
            passed: Default::default(),
            ending: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self {
            shared,
            address,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this goes wrong, on open connections as well, instead of what went wrong before.
    pub fn inject(&self, fault: Fault) {
        for passed in &self.shared.passed {
            passed.store(0, Ordering::SeqCst);
        }
        *lock(&self.shared.fault) = Some(fault);
    }

    /// Nothing goes wrong any more; what hung goes on.
    pub fn heal(&self) {
        *lock(&self.shared.fault) = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the accept; if that fails, it is not waiting.
        let _ = TcpStream::connect(self.address);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        // A server that is away is one that refuses: the client is cut off.
        let Ok(server) = TcpStream::connect(shared.server) else {
            continue;
        };
        let pairs = [
            (&client, &server, Way::ToServer),
            (&server, &client, Way::ToClient),
        ];
        for (from, to, way) in pairs {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                break;
            };
            let shared = Arc::clone(shared);
            thread::spawn(move || {
                carry(&from, &to, way, &shared);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
        let mut open = lock(&shared.open);
        open.retain(|stream| stream.peer_addr().is_ok());
        open.extend([client, server]);
    }
}

/// Carries bytes until either side has ended, or is cut.
fn carry(mut from: &TcpStream, mut to: &TcpStream, way: Way, shared: &Shared) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let bytes = &mut chunk[..read];
        let mut sent = 0;
        while sent < bytes.len() {
            if shared.ending.load(Ordering::SeqCst) {
                return;
            }
            let fault = *lock(&shared.fault);
            let passed = &shared.passed[way as usize];
            let so_far = passed.load(Ordering::SeqCst);
            let left = (bytes.len() - sent) as u64;
            let now = match fault {
                Some(Fault::Hang) => 0,
                Some(Fault::Trickle(bytes_per_s)) => (bytes_per_s / 100).clamp(1, left),
                Some(Fault::CutAfter(limit)) if so_far + left > limit => return,
                _ => left,
            };
            if now == 0 || matches!(fault, Some(Fault::Trickle(_))) {
                thread::sleep(GLANCE);
            }
            let part = &mut bytes[sent..sent + usize::try_from(now).unwrap_or(0)];
            let corrupted = match (fault, way) {
                (Some(Fault::CorruptAnswer(at)), Way::ToClient) => at.checked_sub(so_far),
                _ => None,
            };
            if let Some(byte) = corrupted
                .and_then(|at| usize::try_from(at).ok())
                .and_then(|at| part.get_mut(at))
            {
                *byte ^= 0x20;
            }
            if to.write_all(part).is_err() {
                return;
            }
            sent += part.len();
            passed.fetch_add(now, Ordering::SeqCst);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
