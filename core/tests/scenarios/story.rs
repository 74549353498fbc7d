//! The form of a file of stories: `command`, `----`, what then happens.
//!
//! A crate for this form exists (`datadriven`). Its commands are words without `/` and arguments without
//! order, and it drops the comments in which our stories cite their rules; what is left of it is this page.

use std::fmt::Write;

/// A file of stories, line by line, so that it can be written again.
pub struct File {
    items: Vec<Item>,
}

enum Item {
    /// Blank lines and comments.
    Text(String),
    /// `== what the story shows`.
    Title(String),
    /// Commands with their line numbers, and what is expected to happen.
    Block(Vec<(usize, String)>, Vec<String>),
}

/// A story: what it shows, and where its rule stands (the first comment below the title).
pub struct Heading {
    pub title: String,
    pub source: String,
}

/// Whoever plays a story.
pub trait Player {
    /// A new story begins; nothing of the one before is left.
    fn begin(&mut self);
    /// Plays one command, and says line by line what happened.
    fn play(&mut self, command: &str) -> Result<Vec<String>, String>;
}

impl File {
    /// Reads a file of stories.
    pub fn parse(text: &str) -> Result<File, String> {
        let mut items = Vec::new();
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim_end()));
        while let Some((number, line)) = lines.next() {
            if let Some(title) = line.strip_prefix("== ") {
                items.push(Item::Title(title.into()));
            } else if line.is_empty() || line.starts_with('#') {
                items.push(Item::Text(line.into()));
            } else {
                let mut commands = vec![(number, line.to_owned())];
                loop {
                    match lines.next() {
                        Some((_, "----")) => break,
                        Some((number, line)) if !line.is_empty() => commands.push((number, line.into())),
                        _ => return Err(format!("line {number}: no ---- ends these commands")),
                    }
                }
                let expected = lines.by_ref().map(|(_, line)| line.to_owned());
                items.push(Item::Block(
                    commands,
                    expected.take_while(|line| !line.is_empty()).collect(),
                ));
                items.push(Item::Text(String::new()));
            }
        }
        Ok(File { items })
    }

    /// The stories of the file.
    pub fn headings(&self) -> Vec<Heading> {
        let mut headings: Vec<Heading> = Vec::new();
        for item in &self.items {
            match (item, headings.last_mut()) {
                (Item::Title(title), _) => headings.push(Heading {
                    title: title.clone(),
                    source: String::new(),
                }),
                (Item::Text(text), Some(heading)) if heading.source.is_empty() => {
                    heading.source = text.trim_start_matches(['#', ' ']).into();
                }
                _ => {}
            }
        }
        headings
    }

    /// Plays every story.
    pub fn play(&self, player: &mut dyn Player) -> Played {
        let mut played = Played::default();
        for item in &self.items {
            match item {
                Item::Text(line) => played.note(line),
                Item::Title(title) => {
                    player.begin();
                    played.note(&format!("== {title}"));
                }
                Item::Block(commands, expected) => {
                    let mut happened = Vec::new();
                    for (number, command) in commands {
                        played.note(command);
                        match player.play(command) {
                            Ok(lines) => happened.extend(lines),
                            Err(why) => played.broken.push(format!("line {number}: {command}\n    {why}")),
                        }
                    }
                    if happened.is_empty() {
                        happened.push("nothing".into());
                    }
                    played.note("----");
                    for line in &happened {
                        played.note(line);
                    }
                    if happened != *expected {
                        let (number, command) = &commands[0];
                        let surprise =
                            format!("line {number}: {command}\n{}", difference(expected, &happened));
                        played.surprises.push(surprise);
                    }
                }
            }
        }
        played.text.truncate(played.text.trim_end().len());
        played.text.push('\n');
        played
    }
}

/// How a file's stories went.
#[derive(Default)]
pub struct Played {
    /// The file, with what happened in place of what was expected.
    pub text: String,
    /// What went otherwise than told.
    pub surprises: Vec<String>,
    /// Commands that could not be played.
    pub broken: Vec<String>,
}

impl Played {
    fn note(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// Both, as far as they differ: `-` was expected, `+` happened.
fn difference(expected: &[String], happened: &[String]) -> String {
    let mut text = String::new();
    let same = expected.iter().zip(happened).take_while(|(a, b)| a == b).count();
    for (mark, lines) in [
        (' ', &expected[..same]),
        ('-', &expected[same..]),
        ('+', &happened[same..]),
    ] {
        for line in lines {
            let _ = writeln!(text, "    {mark} {line}");
        }
    }
    text
}
