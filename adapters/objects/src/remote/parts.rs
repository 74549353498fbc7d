//! A multipart upload that a later attempt goes on with, also in another process.
//!
//! What has been sent is noted beside the file. The next attempt compresses the file again, which gives the same bytes
//! or others: a part counts as sent only if all stored bytes up to its end have the digest that was noted with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartId, Result};

use super::{Backend, stored_name};
use crate::content::Version;
use crate::digest::Sha256;
use crate::dir::Dir;
use crate::ledger::{Ledger, Open, SentPart, Unfinished};
use crate::name::FileName;

/// How many parts are sent between two notes. What comes after the last is sent again after a kill.
const NOTED_EVERY: usize = 4;

/// One object that is sent in parts.
pub(super) struct Parts<'a> {
    store: Arc<dyn MultipartStore>,
    path: ObjectPath,
    notes: Notes<'a>,
    id: MultipartId,
    /// What an earlier attempt has sent, as far as it may still be the same.
    earlier: Vec<SentPart>,
    ids: BTreeMap<usize, String>,
    /// The digest of all bytes up to the end of each part.
    prefixes: Vec<Sha256>,
    next: usize,
    noted: usize,
    is_over: bool,
}

/// Where it is noted how far an upload has come.
#[derive(Clone, Copy)]
pub(super) struct Notes<'a> {
    pub ledger: &'a Mutex<Ledger>,
    pub dir: &'a Dir,
    pub name: &'a FileName,
    pub version: Version,
}

impl Notes<'_> {
    fn open(&self) -> Option<Open> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.find_open(self.name, self.version)
    }

    fn note(&self, open: Option<Open>) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.note_open(self.dir, self.name, open);
    }
}

impl<'a> Parts<'a> {
    /// The upload that an earlier attempt has begun, if it has.
    pub fn resume(store: &Arc<dyn MultipartStore>, path: &ObjectPath, notes: Notes<'a>) -> Option<Self> {
        let open = notes.open()?;
        let mut parts = Self::of(store, path, notes, open.upload);
        parts.noted = open.parts.len();
        parts.earlier = open.parts;
        Some(parts)
    }

    /// Begins an upload.
    pub async fn begin(store: &Arc<dyn MultipartStore>, path: &ObjectPath, notes: Notes<'a>) -> Result<Self> {
        let id = store.create_multipart(path).await?;
        let parts = Self::of(store, path, notes, id);
        parts.save(0);
        Ok(parts)
    }

    fn of(store: &Arc<dyn MultipartStore>, path: &ObjectPath, notes: Notes<'a>, id: MultipartId) -> Self {
        Self {
            store: store.clone(),
            path: path.clone(),
            notes,
            id,
            earlier: Vec::new(),
            ids: BTreeMap::new(),
            prefixes: Vec::new(),
            next: 0,
            noted: 0,
            is_over: false,
        }
    }

    /// Whether the next part may have been sent by an earlier attempt.
    pub fn may_be_sent(&self) -> bool {
        self.earlier.len() > self.next
    }

    /// Whether the next part was sent, where `prefix` is the digest of all bytes up to its end. It then is the next no
    /// more.
    pub fn is_sent(&mut self, prefix: Sha256) -> bool {
        match self.earlier.get(self.next) {
            Some(sent) if sent.prefix == prefix => {
                self.ids.insert(self.next, sent.id.clone());
                self.prefixes.push(prefix);
                self.next += 1;
                true
            }
            _ => {
                self.earlier.truncate(self.next);
                false
            }
        }
    }

    /// Sends the next part.
    pub fn send(&mut self, part: Bytes) -> impl Future<Output = Result<(usize, PartId)>> + Send + use<> {
        let (store, path, id, index) = (self.store.clone(), self.path.clone(), self.id.clone(), self.next);
        self.next += 1;
        async move {
            let sent = store.put_part(&path, &id, index, part.into()).await?;
            Ok((index, sent))
        }
    }

    /// A part has been sent.
    pub fn sent(&mut self, index: usize, part: PartId) {
        self.ids.insert(index, part.content_id);
        self.note();
    }

    /// All bytes up to the end of the next part that this was not said of have this digest.
    pub fn accounted(&mut self, prefix: Sha256) {
        if self.prefixes.len() < self.next {
            self.prefixes.push(prefix);
            self.note();
        }
    }

    /// Makes the object appear, once every part has been sent.
    pub async fn complete(&mut self) -> Result<()> {
        let parts = self.ids.values().cloned();
        let parts = parts.map(|content_id| PartId { content_id }).collect();
        let completed = self.store.complete_multipart(&self.path, &self.id, parts).await;
        match &completed {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => self.forget(),
            // Something may be wrong with the parts of an earlier attempt: they are not trusted twice.
            Err(_) if !self.earlier.is_empty() => self.forget(),
            Err(_) => {}
        }
        completed.map(drop)
    }

    /// Nobody goes on with this upload: it is complete, or the store does not know it any more.
    pub fn forget(&mut self) {
        self.is_over = true;
        self.notes.note(None);
    }

    fn known(&self) -> usize {
        let sent = self
            .ids
            .keys()
            .enumerate()
            .take_while(|(at, index)| at == *index)
            .count();
        sent.min(self.prefixes.len())
    }

    fn note(&mut self) {
        let known = self.known();
        if known >= self.noted + NOTED_EVERY {
            self.noted = known;
            self.save(known);
        }
    }

    fn save(&self, known: usize) {
        let parts = self.ids.values().zip(&self.prefixes).take(known);
        let parts = parts.map(|(id, prefix)| SentPart {
            prefix: *prefix,
            id: id.clone(),
        });
        self.notes.note(Some(Open {
            version: self.notes.version,
            upload: self.id.clone(),
            parts: parts.collect(),
        }));
    }
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        let known = self.known();
        if !self.is_over && known > self.noted {
            self.save(known);
        }
    }
}

impl Backend {
    /// Gives up uploads that nobody goes on with any more: the store keeps, and bills, their parts otherwise. Best
    /// effort; what cannot be given up is left to a lifecycle rule of the bucket.
    pub async fn give_up(&self, unfinished: Unfinished) {
        for (name, upload) in unfinished.uploads {
            let given_up = async {
                let place = self.place(&unfinished.uri).ok()?;
                let path = place.path(&stored_name(&name));
                let parts = place.parts.as_ref()?;
                Some(parts.abort_multipart(&path, &upload).await)
            };
            if let Some(Err(error)) = given_up.await {
                tracing::debug!(uri = %unfinished.uri, %name, %error, "cannot give up an unfinished upload; a lifecycle rule of the bucket has to");
            }
        }
    }
}
