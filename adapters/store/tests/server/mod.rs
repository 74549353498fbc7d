//! A real `redis-server` on a port of its own, for as long as a test needs it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running server; killed on drop.
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Which of its ports is the one of its address.
    port: &'static str,
    options: Vec<String>,
    directory: TempDir,
}

impl Server {
    /// Starts a server with these further options.
    pub fn start(options: &[&str]) -> Server {
        Server::start_on("--port", options)
    }

    /// Starts a server that speaks TLS only.
    pub fn start_secure(options: &[&str]) -> Server {
        Server::start_on("--tls-port", &[&["--port", "0"], options].concat())
    }

    fn start_on(port: &'static str, options: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        // The port is free now and may be taken a moment later: try another one then.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut child = spawn(address, port, &options, &directory);
            if wait(&mut child, address) {
                return Server {
                    child,
                    address,
                    port,
                    options,
                    directory,
                };
            }
        }
        panic!(
            "no redis-server could be started; see {}",
            directory.path().display()
        );
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was, after [`Server::kill`].
    pub fn restart(&mut self) {
        self.child = spawn(self.address, self.port, &self.options, &self.directory);
        assert!(
            wait(&mut self.child, self.address),
            "the port was taken in between"
        );
    }

    /// A connection for what no store would do.
    pub fn raw(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(address: SocketAddr, port: &str, options: &[String], directory: &TempDir) -> Child {
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    Command::new("redis-server")
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            port,
            &address.port().to_string(),
        ])
        .args(options)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(log)
        .spawn()
        .expect("redis-server is installed")
}

/// Whether the server came up; otherwise it is gone.
fn wait(child: &mut Child, address: SocketAddr) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
