//! Who may give this node orders, and how it reaches the control plane: the flags, and what they amount to.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::BoolishValueParser;
use holdfast_node::Security;
use holdfast_runtime::net::{Address, ServerTls};
use holdfast_security::{ClientCertificates, ClientError, ClientOptions, FileError, ServerFiles};

/// The flags.
#[derive(Debug, Args)]
pub struct SecurityFlags {
    /// Serve TLS with this credential bundle: a PEM file of one PRIVATE KEY (PKCS #8) and CERTIFICATEs, leaf
    /// first. It is read again when it changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_GRPC_SERVER_CRED_BUNDLE")]
    grpc_server_cred_bundle: Option<PathBuf>,

    /// Whose certificates give the right to order this node about: a PEM file of authorities, read again when
    /// it changes. Clients without one are refused
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CLIENT_CA_CERTS")]
    client_ca_certs: Option<PathBuf>,

    /// Speak TLS with the control plane, whose certificate is of whom the system trusts; each of the next three
    /// says so, too
    #[arg(long, env = "HOLDFAST_CONTROL_PLANE_TLS", value_parser = BoolishValueParser::new())]
    control_plane_tls: bool,

    /// Who may have signed the certificate of the control plane: a PEM file of authorities, read again when it
    /// changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONTROL_PLANE_CA_CERTS")]
    control_plane_ca_certs: Option<PathBuf>,

    /// What the control plane is shown: a credential bundle, read again when it changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONTROL_PLANE_CRED_BUNDLE")]
    control_plane_cred_bundle: Option<PathBuf>,

    /// The name that the certificate of the control plane is for [default: the host of its address]
    #[arg(long, value_name = "NAME", env = "HOLDFAST_CONTROL_PLANE_SERVER_NAME")]
    control_plane_server_name: Option<String>,

    /// A bearer token for the control plane, read again when the file changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONTROL_PLANE_TOKEN_FILE")]
    control_plane_token_file: Option<PathBuf>,
}

/// What is wrong with these flags.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error(
        "{flag} {address}: other hosts can reach this address, and nothing there would be encrypted or authenticated. \
         Serve TLS with --grpc-server-cred-bundle FILE and --client-ca-certs FILE, listen on 127.0.0.1:8085 or \
         unix:/path, or say --insecure-plaintext if you trust everyone on this network"
    )]
    Exposed { flag: &'static str, address: Address },
    #[error(
        "{flag} {address}: other hosts can reach this address, and whoever does could order this node about. Say whose \
         certificates give the right to, with --client-ca-certs FILE"
    )]
    Anybody { flag: &'static str, address: Address },
    #[error("--insecure-plaintext: --grpc-server-cred-bundle says to serve TLS; leave one of them out")]
    PlaintextAndTls,
    #[error(
        "--client-ca-certs {}: without TLS nobody shows a certificate; add --grpc-server-cred-bundle FILE", .0.display()
    )]
    NoTls(PathBuf),
    #[error("{flag}: {source}")]
    File { flag: &'static str, source: FileError },
    #[error(
        "--control-plane-token-file: without TLS the token could be read by others on the way; add \
         --control-plane-ca-certs FILE or --control-plane-tls"
    )]
    TokenInPlaintext,
    #[error(
        "--control-plane-ca-certs, --control-plane-cred-bundle, --control-plane-server-name, --control-plane-token-file: {0}"
    )]
    ControlPlane(ClientError),
}

impl SecurityFlags {
    /// Checks them together, and reads every file once.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn plan(
        self,
        (flag, listen): (&'static str, &Address),
        control_planes: &[Address],
        plaintext: bool,
    ) -> Result<Security, SecurityError> {
        let server = self.server((flag, listen), plaintext)?;
        let options = ClientOptions {
            tls: self.control_plane_tls,
            ca_certs: self.control_plane_ca_certs,
            cred_bundle: self.control_plane_cred_bundle,
            server_name: self.control_plane_server_name,
            token_file: self.control_plane_token_file,
            skip_verify: false,
        };
        let is_exposed = !options.speaks_tls() && !control_planes.iter().all(Address::is_local);
        if options.token_file.is_some() && is_exposed && !plaintext {
            return Err(SecurityError::TokenInPlaintext);
        }
        Ok(Security {
            server,
            control_planes: options.open().map_err(SecurityError::ControlPlane)?,
        })
    }

    fn server(
        &self,
        (flag, listen): (&'static str, &Address),
        plaintext: bool,
    ) -> Result<Option<Arc<dyn ServerTls>>, SecurityError> {
        let address = listen.clone();
        let Some(bundle) = self.grpc_server_cred_bundle.clone() else {
            if !plaintext && !listen.is_local() {
                return Err(SecurityError::Exposed { flag, address });
            }
            return match self.client_ca_certs.clone() {
                Some(path) => Err(SecurityError::NoTls(path)),
                None => Ok(None),
            };
        };
        if plaintext {
            return Err(SecurityError::PlaintextAndTls);
        }
        let clients = self
            .client_ca_certs
            .clone()
            .map(|path| (path, ClientCertificates::Required));
        if clients.is_none() && !listen.is_local() {
            return Err(SecurityError::Anybody { flag, address });
        }
        let server = ServerFiles::open(bundle.clone(), clients).map_err(|source| SecurityError::File {
            flag: if source.path == bundle {
                "--grpc-server-cred-bundle"
            } else {
                "--client-ca-certs"
            },
            source,
        })?;
        Ok(Some(Arc::new(server)))
    }
}
