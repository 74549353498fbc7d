//! What an earlier cluster has left in the data directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::check::Places;

/// Refuses to begin with a new store where there are snapshots: whoever made them had a store that knew them,
/// and it is gone.
///
/// # Errors
/// If it is so, with how to go on.
pub fn check(places: &Places) -> Result<()> {
    let what = match places.store.metadata() {
        Ok(metadata) if metadata.len() > 0 => return Ok(()),
        Ok(_) => "is empty",
        Err(error) if error.kind() == ErrorKind::NotFound => "is not there",
        Err(error) => return Err(error).with_context(|| places.store.display().to_string()),
    };
    let snapshots: Vec<String> = [places.objects.clone(), places.node.join("actors")]
        .iter()
        .filter(|dir| holds_something(dir))
        .map(|dir: &PathBuf| dir.display().to_string())
        .collect();
    if snapshots.is_empty() {
        return Ok(());
    }
    let (store, node) = (places.store.display(), places.node.display());
    bail!(
        "{store} {what}, and a new store does not know the actors whose snapshots are in {}; put the store back from a \
         backup, or, to begin without those actors, move {} and {node} away",
        snapshots.join(" and "),
        places.objects.display()
    );
}

fn holds_something(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_gone_is_missed_only_where_there_are_snapshots() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let places = Places {
            store: at("store.redb"),
            node: at("node"),
            objects: at("objects"),
        };
        assert!(check(&places).is_ok(), "nothing has been there yet");
        fs::create_dir_all(at("objects")).unwrap();
        fs::create_dir_all(at("node/images")).unwrap();
        assert!(check(&places).is_ok(), "no actor has left anything");
        for snapshots in ["objects/bucket", "node/actors/team"] {
            fs::create_dir_all(at(snapshots)).unwrap();
            let error = check(&places).unwrap_err().to_string();
            assert!(error.contains("store.redb is not there, and"), "{error}");
            fs::write(at("store.redb"), "").unwrap();
            let error = check(&places).unwrap_err().to_string();
            assert!(error.contains("store.redb is empty, and"), "{error}");
            let parent = at(snapshots).parent().unwrap().display().to_string();
            assert!(error.contains(&parent), "{error}");
            fs::write(at("store.redb"), "something").unwrap();
            assert!(
                check(&places).is_ok(),
                "whether it is a store is for the store to say"
            );
            fs::remove_file(at("store.redb")).unwrap();
            fs::remove_dir(at(snapshots)).unwrap();
        }
    }
}
