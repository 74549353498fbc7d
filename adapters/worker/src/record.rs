//! What a worker has activated, on disk: written before a sandbox starts and removed after it is gone, so
//! that a later incarnation finds what an earlier one left running.

use std::fs;
use std::io;
use std::path::PathBuf;

use holdfast_sandbox::layout::ActorDirs;
use serde::{Deserialize, Serialize};

#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    actor_dir: PathBuf,
}

impl Record {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is recorded, if anything is.
    pub(crate) fn read(&self) -> io::Result<Option<ActorDirs>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        };
        let content: Content = serde_json::from_slice(&text).map_err(|error| {
            let advice = format!("{error}; remove the file when no sandbox of this worker is left");
            self.fault(io::Error::new(io::ErrorKind::InvalidData, advice))
        })?;
        Ok(Some(ActorDirs::recorded(content.actor_dir)))
    }

    /// Records `dirs`, at once or not at all.
    pub(crate) fn write(&self, dirs: &ActorDirs) -> io::Result<()> {
        let content = Content {
            actor_dir: dirs.root().to_owned(),
        };
        let draft = self.path.with_extension("json.draft");
        let text = serde_json::to_vec(&content).map_err(|error| self.fault(error.into()))?;
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &self.path))
            .map_err(|error| self.fault(error))
    }

    /// Forgets it; it is fine when there is nothing.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fault(error)),
            _ => Ok(()),
        }
    }

    fn fault(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::layout::Layout;
    use holdfast_sandbox::names::ActorRef;

    #[test]
    fn a_record_is_read_back_until_it_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let record = Record::at(base.path().join("activation.json"));
        assert_eq!(record.read().unwrap(), None);
        let dirs = Layout::new("/base").actor(&ActorRef::parse("ns", "t", "a").unwrap());
        record.write(&dirs).unwrap();
        assert_eq!(record.read().unwrap(), Some(dirs));
        record.remove().unwrap();
        record.remove().unwrap();
        assert_eq!(record.read().unwrap(), None);
    }

    #[test]
    fn a_torn_record_is_an_error_that_names_the_file() {
        let base = tempfile::tempdir().unwrap();
        let record = Record::at(base.path().join("activation.json"));
        fs::write(&record.path, "{\"actor").unwrap();
        assert!(record.read().unwrap_err().to_string().contains("activation.json"));
    }
}
