//! The way to the API server: from a kubeconfig, or from inside the cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// How long the API server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long it may say nothing on a connection: longer than a watch is kept.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// Where the API server is, and who asks.
#[derive(Clone, Debug)]
pub enum Access {
    /// As this file says.
    Kubeconfig(Box<Kubeconfig>, PathBuf),
    /// By the service account of this pod.
    InCluster,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read, or is no kubeconfig.
    #[error("{}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<KubeconfigError>,
    },
    /// The file names no cluster that it has, or no user.
    #[error("{}: its current context cannot be used: {cause}", .path.display())]
    Context {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<KubeconfigError>,
    },
    /// This is no pod, or it has no service account.
    #[error("the service account of this pod cannot be used: {0}")]
    InCluster(#[from] Box<InClusterError>),
    /// Certificates or tokens cannot be used.
    #[error("the API server cannot be asked: {0}")]
    Client(#[from] Box<kube::Error>),
}

impl Access {
    /// What a file says. Whether it can be used is seen when it is.
    ///
    /// # Errors
    /// If it cannot be read, or is no kubeconfig.
    pub fn kubeconfig(path: &Path) -> Result<Access, AccessError> {
        let file = |cause| AccessError::File {
            path: path.to_owned(),
            cause: Box::new(cause),
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(file)?;
        Ok(Access::Kubeconfig(Box::new(kubeconfig), path.to_owned()))
    }

    /// Whether this process has been started by Kubernetes.
    pub fn is_in_cluster() -> bool {
        std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// A client of the API server. Nothing is asked yet.
    ///
    /// # Errors
    /// If address, certificates or tokens cannot be used.
    pub async fn client(self) -> Result<Client, AccessError> {
        let mut config = match self {
            Access::Kubeconfig(kubeconfig, path) => {
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(*kubeconfig, &options).await;
                config.map_err(|cause| AccessError::Context {
                    path,
                    cause: Box::new(cause),
                })?
            }
            Access::InCluster => Config::incluster().map_err(Box::new)?,
        };
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.read_timeout = Some(READ_WITHIN);
        Ok(Client::try_from(config).map_err(Box::new)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: local, user: me}}]
clusters: [{name: local, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {token: very-secret}}]
";

    fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn a_kubeconfig_leads_to_a_client_without_anything_being_asked() {
        let (_dir, path) = write(KUBECONFIG);
        let access = Access::kubeconfig(&path).unwrap();
        assert!(!format!("{access:?}").contains("very-secret"));
        access.client().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_told_with_its_path() {
        let (dir, path) = write("clusters: 7\n");
        let error = Access::kubeconfig(&path).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        let nowhere = dir.path().join("none");
        let error = Access::kubeconfig(&nowhere).unwrap_err().to_string();
        assert!(error.starts_with(&nowhere.display().to_string()), "{error}");
        let (_dir, path) = write(&KUBECONFIG.replace("current-context: here", "current-context: elsewhere"));
        let error = Access::kubeconfig(&path)
            .unwrap()
            .client()
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("current context cannot be used"), "{error}");
    }
}
