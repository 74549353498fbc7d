//! What texts in manifests may look like. Each rule says what would be right.

use holdfast_core::catalog::Selector;
use holdfast_core::id::Name;
use holdfast_core::name;
use holdfast_references::{AssetPlace, Reference, SnapshotUri, UriError, UriFault};

type Verdict = Result<(), String>;

pub(crate) fn anything(_: &str) -> Verdict {
    Ok(())
}

pub(crate) fn not_empty(text: &str) -> Verdict {
    check(!text.is_empty(), "must not be empty")
}

pub(crate) fn dns_label(text: &str) -> Verdict {
    check(
        name::is_dns_label(text),
        "Name must be a valid DNS label: 1 to 63 lower-case letters, digits and '-', first and last not '-'",
    )
}

pub(crate) fn dns_subdomain(text: &str) -> Verdict {
    check(
        name::is_dns_subdomain(text),
        "must be a valid DNS subdomain: at most 253 lower-case letters, digits, '-' and '.', with a letter or \
         digit at both ends of each part",
    )
}

/// The rule of the CRD, in its words, and then all that the node daemon would find wrong.
pub(crate) fn image(text: &str) -> Verdict {
    check(
        text.contains('@'),
        "All images must be pinned (changing the image invalidates snapshots): write name@sha256:<digest>",
    )?;
    match text.parse::<Reference>() {
        Ok(reference) => check(reference.is_pinned(), "must end in @sha256:<digest>"),
        Err(error) => Err(error.problem.to_string()),
    }
}

/// Behind it stand the atespace and the name of a snapshot, and all of it is what the node daemon reads.
pub(crate) fn snapshot_location(text: &str) -> Verdict {
    let longest = format!("/{:x<width$}", "", width = name::SNAPSHOT_PATH_MAX - 1);
    match SnapshotUri::parse(&format!("{}{longest}", text.strip_suffix('/').unwrap_or(text))) {
        Ok(_) => Ok(()),
        Err(UriError {
            fault: UriFault::TooLong(_),
            ..
        }) => Err(format!(
            "leaves no room for the atespace and the name of a snapshot behind it; want at most {} bytes",
            SnapshotUri::MAX_LEN - longest.len()
        )),
        Err(error) => Err(no_prefix(&error.fault)),
    }
}

pub(crate) fn snapshot_prefix(text: &str) -> Verdict {
    SnapshotUri::parse(text)
        .map(drop)
        .map_err(|error| no_prefix(&error.fault))
}

fn no_prefix(fault: &UriFault) -> String {
    format!("{fault}; write <scheme>://<bucket>/<path>, such as gs://snapshots/counter")
}

pub(crate) fn asset_url(text: &str) -> Verdict {
    AssetPlace::parse(text)
        .map(drop)
        .map_err(|fault| fault.to_string())
}

pub(crate) fn env_name(text: &str) -> Verdict {
    check(
        !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'='),
        "must be one or more printable ASCII characters other than '='",
    )
}

pub(crate) fn secret_key(text: &str) -> Verdict {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    check(
        !text.is_empty() && text.bytes().all(allowed),
        "must be one or more letters, digits, '-', '.' and '_'",
    )
}

pub(crate) fn http_path(text: &str) -> Verdict {
    let fault = "must be a URL path: '/' first, at most 1024 characters of A-Z a-z 0-9 -._~!$&'()*+,;=:@/ and \
                 %XX with two hexadecimal digits; no query, no fragment";
    let mut bytes = text.bytes();
    let mut allowed = text.len() <= 1024 && bytes.next() == Some(b'/');
    while let Some(byte) = bytes.next() {
        allowed &= match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|b| b.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
        };
    }
    check(allowed, fault)
}

pub(crate) fn mount_path(text: &str) -> Verdict {
    let clean = text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
            && !rest.bytes().any(|b| b == b':' || b < b' ' || b == 0x7f)
    });
    check(
        clean && text.chars().count() <= 4096,
        "MountPath must be a clean absolute Unix path: must start with '/', not be '/', and contain no ':', '..', \
         '.', '//', trailing '/', or control characters; at most 4096 characters",
    )
}

pub(crate) fn sha256(text: &str) -> Verdict {
    check(
        text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')),
        "must be 64 lower-case hexadecimal digits",
    )
}

/// The key of a label.
pub(crate) fn label_key(key: &str) -> Verdict {
    label(key, "")
}

/// The value of a label.
pub(crate) fn label_value(value: &str) -> Verdict {
    label("key", value)
}

fn label(key: &str, value: &str) -> Verdict {
    let pair = Selector {
        match_labels: [(Name::from(key), Name::from(value))].into(),
    };
    name::check_selector(&pair).map_err(|failure| {
        let (_, rule) = failure
            .message
            .rsplit_once("\": ")
            .unwrap_or(("", &failure.message));
        rule.to_owned()
    })
}

/// The known name that `name` may be a slip of.
pub(crate) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<String> {
    let slips = |known: &&str| distance(&name.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let nearest = known.min_by_key(slips)?;
    (slips(&nearest) <= 1 + nearest.len() / 4).then(|| nearest.to_owned())
}

/// How many characters must be put in, left out or changed to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

fn check(holds: bool, rule: impl Into<String>) -> Verdict {
    if holds { Ok(()) } else { Err(rule.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["pauseImage", "containers", "volumes"];
        let nearest = |name| nearest(name, known.into_iter());
        assert_eq!(nearest("pauseimage").as_deref(), Some("pauseImage"));
        assert_eq!(nearest("continers").as_deref(), Some("containers"));
        assert_eq!(nearest("volume").as_deref(), Some("volumes"));
        assert_eq!(nearest("image"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn distances_count_single_edits() {
        for (one, other, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("abc", "abd", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), edits, "{one} {other}");
        }
    }
}
