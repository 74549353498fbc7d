//! Stories: what the machines do, and when, in files that read like one. See `README.md` beside this.

mod atelet;
mod commands;
mod given;
#[path = "../stage/mod.rs"]
mod stage;
mod story;
mod words;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use story::File;
use world::World;

macro_rules! files {
    ($($name:ident),* $(,)?) => {
        /// Every file of stories.
        const FILES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )*
    };
}

files![
    crash, deadlines, delete, fences, lapses, leases, nodes, pause, placement, pulls, reconciler, resume,
    revert, sessions, shutdown, suspend, workers,
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Replaces a file at once: other tests may be reading it.
fn write(path: &str, text: &str) {
    let draft = folder().join(format!(".{path}"));
    fs::write(&draft, text).expect("the folder can be written");
    fs::rename(draft, folder().join(path)).expect("the file can be replaced");
}

fn parse(name: &str) -> File {
    File::parse(&read(&format!("{name}.txt"))).unwrap_or_else(|why| panic!("{name}.txt: {why}"))
}

/// Plays a file's stories. With `REWRITE` set, what happens is written down as what was expected.
fn play(name: &str) {
    let played = parse(name).play(&mut World::new());
    assert!(
        played.broken.is_empty(),
        "{name}.txt:\n{}",
        played.broken.join("\n")
    );
    if std::env::var_os("REWRITE").is_some() {
        write(&format!("{name}.txt"), &played.text);
    } else {
        assert!(
            played.surprises.is_empty(),
            "{name}.txt:\n{}",
            played.surprises.join("\n")
        );
    }
}

#[test]
fn every_file_of_stories_is_played() {
    let entries = fs::read_dir(folder()).expect("the folder of this test");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found: BTreeSet<String> = names
        .filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned()))
        .collect();
    let played: BTreeSet<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, played);
}

/// The rows of the README's table: where the rule stands, the file, and the story.
fn table() -> Vec<(String, String, String)> {
    let readme = read("README.md");
    let rows = readme.lines().filter(|line| line.contains(".txt) | "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [source, file, story] = cells[..] else {
            panic!("not three cells: {row}")
        };
        let file = file.split(['[', ']']).nth(1).unwrap_or(file);
        (source.to_owned(), file.to_owned(), story.to_owned())
    })
    .collect()
}

#[test]
fn the_table_lists_every_story_and_nothing_else() {
    let mut told = Vec::new();
    for name in FILES {
        told.extend(
            parse(name)
                .headings()
                .into_iter()
                .map(|story| (story.source, (*name).to_owned(), story.title)),
        );
    }
    told.sort();
    if std::env::var_os("REWRITE").is_some() {
        let readme = read("README.md");
        let (head, _) = readme
            .split_once("|---|---|---|\n")
            .expect("a table in README.md");
        let row = |(source, file, story): &(String, String, String)| {
            format!("| {source} | [{file}]({file}.txt) | {story} |\n")
        };
        let rows: String = told.iter().map(row).collect();
        write("README.md", &format!("{head}|---|---|---|\n{rows}"));
    } else {
        let listed = table();
        let missing: Vec<_> = told.iter().filter(|row| !listed.contains(row)).collect();
        let stale: Vec<_> = listed.iter().filter(|row| !told.contains(row)).collect();
        assert!(
            listed == told,
            "not listed: {missing:?}; not told: {stale:?}; REWRITE=1 brings the table up to date"
        );
    }
}

#[test]
fn every_story_cites_a_section_of_the_protocol() {
    let protocol = fs::read_to_string(folder().join("../../../docs/protocol.md")).expect("docs/protocol.md");
    let sections: BTreeSet<&str> = protocol
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
        .collect();
    for name in FILES {
        for story in parse(name).headings() {
            let mut sources = story.source.split(" · ");
            let section = sources.next().unwrap_or_default();
            assert!(
                sections.contains(section),
                "{name}.txt, {:?}: no section {section:?}",
                story.title
            );
            for scenario in sources {
                let is_id = scenario.len() == 3
                    && scenario
                        .strip_prefix('S')
                        .is_some_and(|n| n.parse::<u8>().is_ok());
                assert!(
                    is_id,
                    "{name}.txt, {:?}: {scenario:?} is no scenario",
                    story.title
                );
            }
        }
    }
}

#[test]
fn a_story_that_is_told_wrong_is_noticed_and_told_right_when_rewritten() {
    let wrong =
        "== the pull starts\n# x\ngiven pulls\n1 wants image\n----\n   0.001  pulls   attempt 1 at image\n";
    let played = File::parse(wrong).unwrap().play(&mut World::new());
    assert_eq!((played.surprises.len(), played.broken.len()), (1, 0));
    let played = File::parse(&played.text).unwrap().play(&mut World::new());
    assert_eq!(
        (played.surprises.len(), played.text),
        (0, wrong.replace("0.001", "0.000"))
    );
}

#[test]
fn a_command_that_nobody_knows_is_no_story() {
    let played = File::parse("== x\ndance\n----\nnothing\n")
        .unwrap()
        .play(&mut World::new());
    assert_eq!(played.broken.len(), 1);
    assert!(
        File::parse("== x\nget demo/a\n\n----\n").is_err(),
        "a blank line ends the commands"
    );
}
