//! Certificates for servers and clients of a test, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const SETTINGS: &str = "[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
[leaf]
basicConstraints = critical, CA:FALSE
subjectAltName = ${ENV::ALT}
";

/// An authority, and what it has signed.
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("settings"), SETTINGS).unwrap();
        let authority = Authority { directory };
        authority.make("ca", &["-extensions", "authority"], "DNS:unused");
        authority
    }

    /// A key and a certificate for these names, such as `DNS:redis.example`: the files of both.
    pub fn sign(&self, file: &str, names: &str) -> (PathBuf, PathBuf) {
        let signed = ["-extensions", "leaf", "-CA", "ca.pem", "-CAkey", "ca.key"];
        self.make(file, &signed, names);
        (
            self.path(&format!("{file}.key")),
            self.path(&format!("{file}.pem")),
        )
    }

    /// A key and a certificate in one file, as clients have them.
    pub fn bundle(&self, file: &str) -> PathBuf {
        let (key, certificate) = self.sign(file, "DNS:client");
        let both = [key, certificate].map(|part| std::fs::read_to_string(part).unwrap());
        let bundle = self.path(&format!("{file}-bundle.pem"));
        std::fs::write(&bundle, both.concat()).unwrap();
        bundle
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, file: &str) -> PathBuf {
        let directory: &Path = self.directory.path();
        directory.join(file)
    }

    fn make(&self, file: &str, more: &[&str], names: &str) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-config", "settings", "-days", "2", "-nodes"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", &format!("/CN={file}")])
            .args(["-keyout", &format!("{file}.key"), "-out", &format!("{file}.pem")])
            .args(more)
            .env("ALT", names)
            .current_dir(self.directory.path())
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}
