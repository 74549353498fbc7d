//! What containers print, as JSON lines on the worker's own output, each labelled with its actor.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::activation::Output;
use crate::names::{ActorRef, Label};

const LABELS: &str = "labels";
const LINE_LIMIT_BYTES: u64 = 64 * 1024;

/// Where the lines of all containers go, one at a time.
pub type Destination = Arc<Mutex<dyn Write + Send>>;

/// Tells the wall-clock time.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Labels the output of one actor's containers.
#[derive(Clone)]
pub struct Tagger {
    labels: Map<String, Value>,
    destination: Destination,
    now: Now,
}

impl Tagger {
    /// A tagger for `actor`, with its atespace when that is known; `now` stamps what has no time.
    pub fn new(actor: &ActorRef, destination: Destination, now: Now) -> Self {
        let mut labels = Map::new();
        let mut label = |name: &str, value: &str| labels.insert(format!("ate.dev/{name}"), value.into());
        label("actor_id", actor.actor_id());
        label("actor_template_name", actor.template_name());
        label("actor_template_namespace", actor.template_namespace());
        if let Some(atespace) = actor.atespace() {
            label("atespace", atespace);
        }
        Self {
            labels,
            destination,
            now,
        }
    }

    /// Writes an event in the actor's life, as `Actor started`.
    pub fn event(&self, message: &str) {
        self.write(self.entry(message.as_bytes(), (self.now)()));
    }

    /// One labelled line. A JSON object keeps what it says; other text becomes its `message`.
    fn entry(&self, line: &[u8], now: SystemTime) -> Value {
        let mut entry = match serde_json::from_slice(line) {
            Ok(Value::Object(entry)) => entry,
            _ => Map::from_iter([("message".to_owned(), String::from_utf8_lossy(line).into())]),
        };
        entry.entry("time").or_insert_with(|| rfc3339(now).into());
        match entry.get_mut(LABELS) {
            Some(Value::Object(labels)) => labels.extend(self.labels.clone()),
            _ => drop(entry.insert(LABELS.to_owned(), self.labels.clone().into())),
        }
        Value::Object(entry)
    }

    fn write(&self, entry: Value) {
        let mut line = entry.to_string();
        line.push('\n');
        let mut destination = self
            .destination
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // A worker whose own output is gone has nowhere to complain either, and actors must go on.
        let _ = destination
            .write_all(line.as_bytes())
            .and_then(|()| destination.flush());
    }

    fn copy(&self, from: impl io::Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match io::Read::take(&mut from, LINE_LIMIT_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = line.trim_ascii_end();
            if !text.is_empty() {
                self.write(self.entry(text, (self.now)()));
            }
        }
    }
}

impl Output for Tagger {
    fn open(&self, container: &Label) -> io::Result<OwnedFd> {
        let (reader, writer) = io::pipe()?;
        let mut tagger = self.clone();
        tagger
            .labels
            .insert("ate.dev/container_name".to_owned(), container.as_str().into());
        // Ends when the last process that holds the other end is gone.
        std::thread::Builder::new()
            .name("actor-log".into())
            .spawn(move || tagger.copy(reader))?;
        Ok(writer.into())
    }
}

impl fmt::Debug for Tagger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tagger")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// RFC 3339 in UTC with nanoseconds. A time before 1970 is shown as 1970.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date in the proleptic Gregorian calendar, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z",
        since.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn tagger() -> (Tagger, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let actor = ActorRef::parse("ns", "tmpl", "a1").unwrap().within(Some("team"));
        (
            Tagger::new(&actor.unwrap(), written.clone(), Arc::new(|| UNIX_EPOCH)),
            written,
        )
    }

    fn labels() -> Value {
        json!({"ate.dev/actor_id": "a1", "ate.dev/actor_template_name": "tmpl",
               "ate.dev/actor_template_namespace": "ns", "ate.dev/atespace": "team"})
    }

    #[test]
    fn text_becomes_a_message_and_json_keeps_what_it_says() {
        let (tagger, _) = tagger();
        let now = UNIX_EPOCH + Duration::new(1_000_000_000, 5);
        let text = tagger.entry(b"hello", now);
        assert_eq!(
            text,
            json!({"time": "2001-09-09T01:46:40.000000005Z", "message": "hello", "labels": labels()})
        );
        let own = br#"{"time":"t","level":"warn","labels":{"mine":1,"ate.dev/actor_id":"forged"}}"#;
        let mut expected = labels();
        expected["mine"] = json!(1);
        assert_eq!(
            tagger.entry(own, now),
            json!({"time": "t", "level": "warn", "labels": expected})
        );
        assert_eq!(tagger.entry(br#"{"labels":"x"}"#, now)["labels"], labels());
        assert_eq!(tagger.entry(b"[1]", now)["message"], "[1]");
        assert_eq!(tagger.entry(b"\xff", now)["message"], "\u{fffd}");
    }

    #[test]
    fn lines_of_a_pipe_are_labelled_with_their_container_and_empty_ones_dropped() {
        let (tagger, written) = tagger();
        let mut tagged = tagger.clone();
        tagged
            .labels
            .insert("ate.dev/container_name".into(), "main".into());
        tagged.copy(&b"one\n\n \ntwo\r\nno newline"[..]);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let entries: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let messages: Vec<_> = entries
            .iter()
            .map(|entry| entry["message"].as_str().unwrap())
            .collect();
        assert_eq!(messages, ["one", "two", "no newline"]);
        assert!(
            entries
                .iter()
                .all(|entry| entry["labels"]["ate.dev/container_name"] == "main")
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_not_kept_in_memory() {
        let (tagger, written) = tagger();
        tagger.copy(io::Read::take(io::repeat(b'x'), LINE_LIMIT_BYTES * 2 + 1));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn dates_are_right_around_leap_days_and_year_ends() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
