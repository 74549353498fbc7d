//! What an actor prints, on its way to the log of its worker.

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use holdfast_sandbox::Output;
use holdfast_sandbox::logs::Tagger;
use holdfast_sandbox::names::{ActorRef, Label};
use serde_json::Value;

/// Hands everything that was written to it over when the last writer is gone.
struct Collected(Vec<u8>, Sender<Vec<u8>>);

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        // Nobody listens any more only if the run has failed already.
        let _ = self.1.send(std::mem::take(&mut self.0));
    }
}

/// Each line of the log is one JSON object, and no actor passes for another.
pub fn run(data: &[u8]) {
    let actor = ActorRef::parse("ns", "template", "a1").expect("a name");
    let actor = actor.within(Some("team-a")).expect("a name");
    let container = Label::container("main").expect("a name");
    let (sender, receiver) = channel();
    let destination = Arc::new(Mutex::new(Collected(Vec::new(), sender)));
    let tagger = Tagger::new(&actor, destination, Arc::new(|| UNIX_EPOCH));
    let mut stdout = io::PipeWriter::from(tagger.open(&container).expect("a pipe"));
    drop(tagger);
    stdout.write_all(data).expect("a reader");
    drop(stdout);
    let log = receiver.recv().expect("the log");
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let entry: Value = serde_json::from_slice(line).expect("a line of JSON");
        let labels = &entry["labels"];
        assert_eq!(labels["ate.dev/actor_id"], "a1");
        assert_eq!(labels["ate.dev/atespace"], "team-a");
        assert_eq!(labels["ate.dev/actor_template_name"], "template");
        assert_eq!(labels["ate.dev/container_name"], "main");
        assert!(entry.get("time").is_some());
    }
}
