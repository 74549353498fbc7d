//! The package sources of a Debian machine (sources.list(5)), and one more made like one it has.
//!
//! Where packages come from is the machine's business: nothing here knows the name of a server.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

/// One source of binary packages that is switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    uris: String,
    suites: Vec<String>,
    components: Vec<String>,
    /// As written: a file, fingerprints, or a whole key on lines of its own.
    signed_by: Option<String>,
}

/// Every source in `<apt>/sources.list` and `<apt>/sources.list.d`.
pub fn read(apt: &Path) -> Result<Vec<Source>> {
    let mut files = vec![apt.join("sources.list")];
    let directory = apt.join("sources.list.d");
    if directory.is_dir() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            files.push(entry?.path());
        }
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line_style,
            Some("sources") => deb822_style,
            _ => continue,
        };
        match fs::read_to_string(&file) {
            Ok(text) => sources.extend(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
    }
    Ok(sources)
}

/// A deb822 file for the main component of `suite`, from where the machine gets that of `like`.
/// `None` if it has `suite` already, or `like` from nowhere.
pub fn with_suite(sources: &[Source], like: &str, suite: &str) -> Option<String> {
    if sources.iter().any(|source| source.has(suite)) {
        return None;
    }
    let source = sources.iter().find(|source| source.has(like))?;
    let mut text = format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n",
        source.uris
    );
    if let Some(signed_by) = &source.signed_by {
        text.push_str(&format!("Signed-By: {signed_by}\n"));
    }
    Some(text)
}

impl Source {
    fn has(&self, suite: &str) -> bool {
        let named = |names: &[String], name: &str| names.iter().any(|candidate| candidate == name);
        named(&self.suites, suite) && named(&self.components, "main")
    }
}

/// Paragraphs of `Key: value`, where a line that begins with a blank continues the value before it.
fn deb822_style(text: &str) -> Vec<Source> {
    let text: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    text.split(|line| line.trim().is_empty())
        .filter_map(paragraph)
        .collect()
}

fn paragraph(lines: &[&str]) -> Option<Source> {
    let field = |name: &str| {
        let start = lines.iter().position(|line| {
            line.split_once(':')
                .is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
        })?;
        let mut value = lines[start].split_once(':')?.1.trim().to_owned();
        for line in lines[start + 1..]
            .iter()
            .take_while(|line| line.starts_with([' ', '\t']))
        {
            value.push('\n');
            value.push_str(line);
        }
        Some(value)
    };
    let words = |name: &str| {
        Some(
            field(name)?
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    let enabled = field("Enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
    (enabled && words("Types")?.iter().any(|kind| kind == "deb")).then_some(())?;
    Some(Source {
        uris: words("URIs")?.join(" "),
        suites: words("Suites")?,
        components: words("Components").unwrap_or_default(),
        signed_by: field("Signed-By"),
    })
}

/// Lines such as `deb [signed-by=FILE] URI SUITE COMPONENT…`.
fn one_line_style(text: &str) -> Vec<Source> {
    let lines = text
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(before, _comment)| before));
    lines.filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Source> {
    let rest = line
        .trim()
        .strip_prefix("deb")?
        .strip_prefix([' ', '\t'])?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(|value| value.replace(',', " ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
# Written by an installer.
Types: deb deb-src
URIs: http://mirror.example/debian
# In the middle of a paragraph.
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
";

    fn made(text: &str) -> Option<String> {
        with_suite(&deb822_style(text), "bookworm", "bookworm-backports")
    }

    #[test]
    fn the_new_source_is_like_the_one_the_release_comes_from() {
        let expected = "\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/archive.gpg
";
        assert_eq!(made(DEB822).as_deref(), Some(expected));
    }

    #[test]
    fn a_machine_that_has_the_suite_gets_no_second_source() {
        let once = format!("{DEB822}\n{}", made(DEB822).unwrap());
        assert_eq!(made(&once), None);
    }

    #[test]
    fn a_source_that_is_switched_off_or_has_only_source_packages_is_none() {
        assert_eq!(
            made(&DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb")),
            None
        );
        assert_eq!(
            made(&DEB822.replace("Types: deb deb-src", "Types: deb-src")),
            None
        );
        assert_eq!(made(&DEB822.replace("main contrib", "contrib")), None);
    }

    #[test]
    fn a_key_on_lines_of_its_own_is_carried_over() {
        let key = "Signed-By:\n -----BEGIN KEY-----\n .\n abc\n -----END KEY-----\n";
        let text = DEB822.replace("Signed-By: /usr/share/keyrings/archive.gpg\n", key);
        assert!(
            made(&text)
                .unwrap()
                .ends_with(&key.replace("Signed-By:\n", "Signed-By: \n"))
        );
    }

    #[test]
    fn lines_of_the_old_style_are_understood() {
        let text = "\
# deb http://off.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # mine
deb http://mirror.example/debian bookworm-updates main
";
        let made = with_suite(&one_line_style(text), "bookworm", "bookworm-backports").unwrap();
        assert!(made.contains("URIs: http://mirror.example/debian\n"), "{made}");
        assert!(made.contains("Signed-By: /k.gpg\n"), "{made}");
    }

    #[test]
    fn files_of_both_styles_are_read_and_others_are_not() {
        let apt = tempfile::tempdir().unwrap();
        let directory = apt.path().join("sources.list.d");
        assert_eq!(read(apt.path()).unwrap(), []);
        fs::create_dir(&directory).unwrap();
        fs::write(
            apt.path().join("sources.list"),
            "deb http://one.example/debian bookworm main\n",
        )
        .unwrap();
        fs::write(directory.join("two.sources"), DEB822).unwrap();
        fs::write(directory.join("three.sources.disabled"), DEB822).unwrap();
        let uris: Vec<_> = read(apt.path())
            .unwrap()
            .into_iter()
            .map(|source| source.uris)
            .collect();
        let expected = [
            "http://one.example/debian",
            "http://mirror.example/debian",
            "http://mirror.example/security",
        ];
        assert_eq!(uris, expected);
    }
}
