//! The stored form of a file, against bytes put together by hand.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use holdfast_objects::sparse::{DecodeError, Decoder, Encoder, Fill};
use holdfast_objects::{FileRecord, Sha256, SourceError};
use proptest::prelude::*;

const LIMIT: u64 = 1 << 30;
/// The start of every stored file: magic and version 2.
const HEAD: &[u8] = b"ATESPRSE\x02\x00\x00\x00";

/// A zstd frame of raw blocks, by RFC 8878, so that what is read does not come from the library that wrote it: magic,
/// a descriptor without content size or checksum, a window of 1 MiB, and blocks of type raw, the last one marked.
fn frame(plain: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3];
    let blocks: Vec<&[u8]> = if plain.is_empty() {
        vec![&[]]
    } else {
        plain.chunks(100_000).collect()
    };
    for (index, block) in blocks.iter().enumerate() {
        let last = u32::from(index + 1 == blocks.len());
        let header = last | (block.len() as u32) << 3;
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.extend_from_slice(block);
    }
    bytes
}

enum Piece<'a> {
    Number(i64),
    Bytes(&'a [u8]),
}
use Piece::{Bytes, Number};

fn plain(pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Number(number) => bytes.extend_from_slice(&number.to_le_bytes()),
            Bytes(more) => bytes.extend_from_slice(more),
        }
    }
    bytes
}

fn sparse(pieces: &[Piece<'_>]) -> Vec<u8> {
    [HEAD, &frame(&plain(pieces))].concat()
}

fn decode_in(
    pieces: &[&[u8]],
    expected: Option<FileRecord>,
    limit: u64,
) -> Result<(File, Vec<u8>), DecodeError> {
    let file = tempfile::tempfile().expect("a file");
    let mut decoder = Decoder::new(file.try_clone().expect("a handle"), expected, limit).expect("a decoder");
    for piece in pieces {
        decoder.push(piece)?;
    }
    decoder.finish()?;
    let mut content = vec![0; file.metadata().expect("stat").len() as usize];
    file.read_exact_at(&mut content, 0).expect("reads");
    Ok((file, content))
}

fn decode(stored: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decode_in(&[stored], None, LIMIT).map(|(_, content)| content)
}

fn encode(file: File) -> Result<(Vec<u8>, FileRecord), SourceError> {
    encode_in_parts(file, 1 << 20)
}

fn encode_in_parts(file: File, part_len: usize) -> Result<(Vec<u8>, FileRecord), SourceError> {
    let mut encoder = Encoder::new(file).expect("an encoder");
    let mut stored = Vec::new();
    loop {
        let mut part = Vec::with_capacity(part_len);
        let fill = encoder.fill(&mut part)?;
        stored.extend_from_slice(&part);
        match fill {
            Fill::Part => assert_eq!(part.len(), part.capacity(), "only the last part is short"),
            Fill::Last(record) => return Ok((stored, record)),
        }
    }
}

/// A file with data at the given places, and holes elsewhere.
fn file_of(size: u64, extents: &[(u64, &[u8])]) -> File {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(size).expect("a size");
    for (offset, data) in extents {
        file.write_all_at(data, *offset).expect("writes");
    }
    file
}

fn content_of(size: u64, extents: &[(u64, &[u8])]) -> Vec<u8> {
    let mut content = vec![0; size as usize];
    for (offset, data) in extents {
        content[*offset as usize..][..data.len()].copy_from_slice(data);
    }
    content
}

#[test]
fn extents_land_where_they_belong_and_the_rest_is_holes() {
    let size = 1 << 20;
    let stored = sparse(&[
        Number(size),
        Number(65536),
        Number(5),
        Bytes(b"hello"),
        Number(size - 3),
        Number(3),
        Bytes(b"end"),
        Number(-1),
    ]);
    let (file, content) = decode_in(&[&stored], None, LIMIT).expect("decodes");
    assert_eq!(
        content,
        content_of(1 << 20, &[(65536, b"hello"), ((1 << 20) - 3, b"end")])
    );
    let allocated = file.metadata().expect("stat").blocks() * 512;
    assert!(
        allocated <= 64 * 1024,
        "{allocated} bytes on disk for two small extents"
    );
}

#[test]
fn an_empty_file_is_a_size_and_an_end() {
    assert_eq!(decode(&sparse(&[Number(0), Number(-1)])).expect("decodes"), b"");
    assert_eq!(
        decode(&sparse(&[Number(0), Number(0), Number(0), Number(-1)])).expect("an empty extent"),
        b""
    );
    let (stored, record) = encode(file_of(0, &[])).expect("encodes");
    assert_eq!(decode(&stored).expect("decodes"), b"");
    assert_eq!((record.size, record.sha256), (0, Sha256::of(b"")));
}

#[test]
fn what_is_written_is_the_documented_plaintext() {
    let data = [7; 4096];
    let size = 5 * 65536;
    let (stored, record) = encode(file_of(size, &[(65536, &data), (3 * 65536, &data)])).expect("encodes");
    assert_eq!(&stored[..12], HEAD);
    let written = zstd::decode_all(&stored[12..]).expect("one zstd stream");
    let expected = plain(&[
        Number(size as i64),
        Number(65536),
        Number(4096),
        Bytes(&data),
        Number(3 * 65536),
        Number(4096),
        Bytes(&data),
        Number(-1),
    ]);
    assert_eq!(written, expected);
    assert_eq!(stored[12..16], [0x28, 0xb5, 0x2f, 0xfd]);
    assert_ne!(
        stored[16] & 0b100,
        0,
        "the frame carries a checksum, which the original's reader verifies"
    );
    assert_eq!(
        record.sha256,
        Sha256::of(&content_of(size, &[(65536, &data), (3 * 65536, &data)]))
    );
}

#[test]
fn plain_zstd_is_read_too_and_its_zeros_become_holes() {
    let mut content = vec![0; 300_000];
    content[200_000] = 1;
    content.extend_from_slice(b"tail");
    let stored = [frame(&content[..100]), frame(&content[100..])].concat();
    let (file, found) = decode_in(&[&stored], None, LIMIT).expect("decodes");
    assert_eq!(found, content);
    assert!(file.metadata().expect("stat").blocks() * 512 <= 3 * 65536);
    assert_eq!(decode(&frame(&[0; 70_000])).expect("decodes"), [0; 70_000]);
    assert_eq!(decode(&frame(b"")).expect("decodes"), b"");
}

#[test]
fn pieces_may_be_cut_anywhere() {
    let stored = sparse(&[Number(10), Number(2), Number(3), Bytes(b"abc"), Number(-1)]);
    let bytes: Vec<&[u8]> = stored.chunks(1).collect();
    let (_, content) = decode_in(&bytes, None, LIMIT).expect("decodes");
    assert_eq!(content, b"\0\0abc\0\0\0\0\0");
}

#[test]
fn every_wrong_number_is_refused_by_name() {
    let text = |stored: Vec<u8>| decode(&stored).expect_err("refused").to_string();
    let mut later = sparse(&[Number(0), Number(-1)]);
    later[8] = 3;
    assert_eq!(
        text(later),
        "unsupported sparse snapshot format version 3 (this build supports 2)"
    );
    assert_eq!(text(sparse(&[Number(-5)])), "negative sparse file size -5");
    let extent = |offset, length| {
        sparse(&[
            Number(10),
            Number(offset),
            Number(length),
            Bytes(&[1; 32]),
            Number(-1),
        ])
    };
    for (offset, length) in [
        (11, 0),
        (8, 3),
        (0, 11),
        (0, -1),
        (-2, 4),
        (i64::MAX, 1),
        (1, i64::MAX),
        (i64::MIN, 1),
    ] {
        assert_eq!(
            text(extent(offset, length)),
            format!("sparse extent out of range (off={offset} len={length} size=10)")
        );
    }
    let backwards = [
        Number(10),
        Number(4),
        Number(2),
        Bytes(b"ab"),
        Number(5),
        Number(1),
        Bytes(b"c"),
        Number(-1),
    ];
    assert_eq!(
        text(sparse(&backwards)),
        "sparse extent out of order (off=5, the one before ends at 6)"
    );
}

#[test]
fn a_small_object_cannot_keep_the_reader_busy_or_fill_the_disk() {
    let empties: Vec<Piece<'_>> = std::iter::once(Number(3))
        .chain((0..8).map(|_| Number(0)))
        .chain([Number(-1)])
        .collect();
    assert!(matches!(
        decode(&sparse(&empties)),
        Err(DecodeError::TooManyExtents { size: 3 })
    ));
    assert!(matches!(
        decode(&sparse(&[Number(i64::MAX), Number(-1)])),
        Err(DecodeError::TooLarge { .. })
    ));
    let bomb = zstd::encode_all(&vec![0; 4 << 20][..], 1).expect("compresses");
    let refused = decode_in(&[&bomb], None, 1 << 20).map(drop);
    assert!(
        matches!(refused, Err(DecodeError::TooLarge { limit: 1_048_576, .. })),
        "{refused:?}"
    );
    // A frame that asks for a window of 1 GiB.
    let mut greedy = sparse(&[Number(0), Number(-1)]);
    greedy[17] = 20 << 3;
    assert!(matches!(decode(&greedy), Err(DecodeError::Zstd(_))));
}

#[test]
fn a_stream_that_ends_early_or_late_is_refused() {
    let stored = sparse(&[Number(4), Number(0), Number(4), Bytes(b"abcd"), Number(-1)]);
    for len in 0..stored.len() {
        assert!(decode(&stored[..len]).is_err(), "cut at {len}");
    }
    for tail in [&b"\0"[..], b"junk", &frame(b""), &frame(b"x")] {
        let refused = decode(&[&stored[..], tail].concat());
        assert!(
            matches!(refused, Err(DecodeError::Trailing)),
            "{tail:?}: {refused:?}"
        );
    }
    let more = sparse(&[Number(1), Number(-1), Number(0)]);
    assert!(matches!(decode(&more), Err(DecodeError::Trailing)));
    let no_terminator = sparse(&[Number(4), Number(0), Number(4), Bytes(b"abcd")]);
    assert!(matches!(decode(&no_terminator), Err(DecodeError::Truncated)));
    assert!(matches!(decode(b""), Err(DecodeError::Truncated)));
    assert!(matches!(decode(HEAD), Err(DecodeError::Truncated)));
}

/// What the sparse format does not show by itself: the end of the compressed stream.
#[test]
fn a_compressed_stream_that_ends_early_is_refused_even_after_the_last_byte_of_content() {
    let (stored, _) = encode(file_of(4096, &[(0, b"x")])).expect("encodes");
    for missing in 1..=4 {
        let refused = decode(&stored[..stored.len() - missing]);
        assert!(
            matches!(refused, Err(DecodeError::Truncated)),
            "without the last {missing} bytes: {refused:?}"
        );
    }
    let plain = zstd::encode_all(&b"plain content"[..], 1).expect("compresses");
    for len in 0..plain.len() {
        assert!(decode(&plain[..len]).is_err(), "plain, cut at {len}");
    }
    assert_eq!(decode(&plain).expect("decodes"), b"plain content");
}

/// S26: whatever bit rots in the store, it does not reach the sandbox.
#[test]
fn no_flipped_bit_changes_the_content_that_is_accepted() {
    let data: Vec<u8> = (0..200u8).collect();
    let (stored, record) = encode(file_of(8192, &[(4096, &data)])).expect("encodes");
    let mut accepted = Vec::new();
    for bit in 0..stored.len() * 8 {
        let mut altered = stored.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        if let Ok((_, content)) = decode_in(&[&altered], Some(record), LIMIT) {
            assert_eq!(Sha256::of(&content), record.sha256, "bit {bit}");
            accepted.push(bit);
        }
    }
    assert!(
        accepted.iter().all(|bit| (16 * 8..18 * 8).contains(bit)),
        "only hints in the frame's header: {accepted:?}"
    );
}

#[test]
fn sizes_and_digests_are_compared_in_both_directions() {
    let (stored, record) = encode(file_of(100, &[(0, b"x")])).expect("encodes");
    let with = |change: fn(&mut FileRecord)| {
        let mut expected = record;
        change(&mut expected);
        decode_in(&[&stored], Some(expected), LIMIT).map(drop)
    };
    assert!(with(|_| {}).is_ok());
    assert!(matches!(
        with(|r| r.size = 99),
        Err(DecodeError::Size {
            expected: 99,
            found: 100
        })
    ));
    assert!(matches!(
        with(|r| r.size = 101),
        Err(DecodeError::Size {
            expected: 101,
            found: 100
        })
    ));
    assert!(matches!(
        with(|r| r.sha256 = Sha256::of(b"")),
        Err(DecodeError::Digest { what: "content", .. })
    ));
    let plain = frame(b"abc");
    let short = FileRecord {
        size: 2,
        sha256: Sha256::of(b"ab"),
        stored: None,
    };
    assert!(matches!(
        decode_in(&[&plain], Some(short), LIMIT),
        Err(DecodeError::Size {
            expected: 2,
            found: 3
        })
    ));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("f");
    fs::write(&path, vec![1; 400_000]).expect("writes");
    let start = || {
        let mut encoder = Encoder::new(File::open(&path).expect("opens")).expect("an encoder");
        assert!(matches!(
            encoder.fill(&mut Vec::with_capacity(12)),
            Ok(Fill::Part)
        ));
        encoder
    };
    let finish = |mut encoder: Encoder| encoder.fill(&mut Vec::with_capacity(1 << 20));
    let encoder = start();
    File::options()
        .write(true)
        .open(&path)
        .and_then(|f| f.set_len(100))
        .expect("cuts");
    assert!(matches!(finish(encoder), Err(SourceError::Changed)));
    let encoder = start();
    File::options()
        .append(true)
        .open(&path)
        .and_then(|f| io::Write::write_all(&mut &f, b"more"))
        .expect("grows");
    assert!(matches!(finish(encoder), Err(SourceError::Changed)));
    assert!(matches!(finish(start()), Ok(Fill::Last(_))));
}

fn extents() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..5000),
        (any::<u8>(), 1..200_000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::vec((0..2_000_000u64, data), 0..6)
}

fn built(extents: &[(u64, Vec<u8>)], tail: u64) -> (File, Vec<u8>) {
    let extents: Vec<(u64, &[u8])> = extents
        .iter()
        .map(|(offset, data)| (*offset, &data[..]))
        .collect();
    let size = extents
        .iter()
        .map(|(offset, data)| offset + data.len() as u64)
        .max()
        .unwrap_or(0)
        + tail;
    (file_of(size, &extents), content_of(size, &extents))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_file_survives_the_round_trip(
        extents in extents(),
        tail in 0..100_000u64,
        part_len in 12..40_000usize,
        piece_len in 1..30_000usize,
    ) {
        let (file, content) = built(&extents, tail);
        let (stored, record) = encode_in_parts(file, part_len).expect("encodes");
        prop_assert_eq!(record.size, content.len() as u64);
        prop_assert_eq!(record.sha256, Sha256::of(&content));
        let pieces: Vec<&[u8]> = stored.chunks(piece_len).collect();
        let (_, found) = decode_in(&pieces, Some(record), LIMIT).expect("decodes");
        prop_assert!(found == content, "the content came back altered");
        let (_, unchecked) = decode_in(&pieces, None, LIMIT).expect("decodes");
        prop_assert!(unchecked == content, "the content came back altered");
    }

    #[test]
    fn altered_streams_never_panic_and_never_yield_other_content(
        extents in extents(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let (file, content) = built(&extents, 10);
        let (stored, record) = encode(file).expect("encodes");
        let mut altered = stored.clone();
        for (index, byte, kind) in cuts {
            let at = index.index(altered.len());
            match kind {
                0 => altered[at] = byte,
                1 => altered.insert(at, byte),
                2 if altered.len() > 1 => drop(altered.remove(at)),
                _ => altered.truncate(at.max(1)),
            }
        }
        let _any_answer_but_a_panic = decode_in(&[&altered], None, 8 << 20);
        if let Ok((_, found)) = decode_in(&[&altered], Some(record), LIMIT) {
            prop_assert!(found == content, "other content was accepted");
        }
    }

    #[test]
    fn noise_inside_a_valid_frame_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400), small in any::<bool>()) {
        let mut pieces = plain(&[Number(if small { 100 } else { 1 << 19 })]);
        pieces.extend_from_slice(&noise);
        let stored = [HEAD, &frame(&pieces)].concat();
        if let Ok(content) = decode(&stored) {
            prop_assert!(content.len() <= 1 << 19);
        }
        let _ = decode(&noise);
        let _ = decode(&[HEAD, &noise[..]].concat());
    }
}
