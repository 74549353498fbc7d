//! The stored form of a snapshot's files.

use std::fs::File;
use std::io::{Read, Seek};

use holdfast_objects::FileRecord;
use holdfast_objects::sparse::{Decoder, Encoder, Fill};

use crate::feed::Feed;

const LIMIT_BYTES: u64 = 1 << 20;

/// The first byte says in which pieces the rest arrives. No file grows beyond its limit, the pieces do not
/// matter, and what was decoded is encoded, and decoded again, to the same content.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let piece = usize::from(feed.byte()) + 1;
    let stored = feed.rest();
    let in_pieces = decode(stored.chunks(piece), None);
    let at_once = decode([stored].into_iter(), None);
    assert_eq!(in_pieces.is_some(), at_once.is_some(), "the pieces matter");
    let (Some(mut file), Some(mut whole)) = (in_pieces, at_once) else {
        return;
    };
    let content = content(&mut file);
    assert_eq!(content, self::content(&mut whole));
    let (object, record) = encode(file);
    assert_eq!(record.size, content.len() as u64);
    let mut again = decode(object.chunks(piece), Some(record)).expect("our own object");
    assert_eq!(self::content(&mut again), content);
}

fn decode<'a>(mut pieces: impl Iterator<Item = &'a [u8]>, expected: Option<FileRecord>) -> Option<File> {
    let file = tempfile::tempfile().expect("a file");
    let target = file.try_clone().expect("a file");
    let mut decoder = Decoder::new(target, expected, LIMIT_BYTES).expect("a decoder");
    let outcome = pieces.try_for_each(|piece| decoder.push(piece));
    let outcome = outcome.and_then(|()| decoder.finish());
    let length = file.metadata().expect("metadata").len();
    assert!(length <= LIMIT_BYTES, "{length} bytes");
    outcome.is_ok().then_some(file)
}

fn encode(file: File) -> (Vec<u8>, FileRecord) {
    let mut encoder = Encoder::new(file).expect("an encoder");
    let mut object = Vec::new();
    loop {
        let mut part = Vec::with_capacity(64 * 1024);
        let fill = encoder.fill(&mut part).expect("a readable file");
        object.append(&mut part);
        if let Fill::Last(record) = fill {
            return (object, record);
        }
    }
}

fn content(file: &mut File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().expect("a file");
    file.read_to_end(&mut content).expect("a file");
    content
}
