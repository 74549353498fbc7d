//! Logs: one line per event, for machines as JSON with the keys of the original, for people as text.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::{Clock, SystemClock};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A JSON object per line: `time`, `level`, `msg`, and the event's own fields.
    Json,
    /// Text, in colour on a terminal.
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err(format!("\"{text}\" is no log format; use json or text")),
        }
    }
}

/// Sends this process's logs to standard error. What is logged is chosen by `RUST_LOG`, `info` unless it
/// is set. A line that cannot be written is lost, and nothing else. A second call changes nothing.
pub fn init(format: LogFormat) {
    let (filter, fault) = filter(std::env::var_os(EnvFilter::DEFAULT_ENV).as_deref());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would tell of a line that could not be written by `eprintln!`, whose own failure is a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Json => builder.event_format(JsonLines).try_init(),
        LogFormat::Text => {
            let is_plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stderr().is_terminal();
            builder.with_ansi(!is_plain).with_target(false).try_init()
        }
    };
    if let Some(fault) = fault {
        tracing::warn!("{fault}");
    }
}

/// What is logged, and what is wrong with the wish.
fn filter(wish: Option<&OsStr>) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new("info");
    let Some(wish) = wish.filter(|wish| !wish.is_empty()) else {
        return (default(), None);
    };
    let parsed = wish
        .to_str()
        .ok_or_else(|| "not UTF-8".to_owned())
        .and_then(|text| EnvFilter::try_new(text).map_err(|error| error.to_string()));
    match parsed {
        Ok(filter) => (filter, None),
        Err(why) => {
            let name = EnvFilter::DEFAULT_ENV;
            let fault =
                format!("{name}={wish:?} is not understood ({why}); logging at info. Try {name}=debug");
            (default(), Some(fault))
        }
    }
}

struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level();
        let time = rfc3339(SystemClock.wall_ms());
        write!(writer, "{{\"time\":\"{time}\",\"level\":\"{level}\"")?;
        let mut fields = Fields {
            writer: writer.by_ref(),
            value: String::new(),
            has_message: false,
            outcome: Ok(()),
        };
        event.record(&mut fields);
        if !fields.has_message {
            fields.text("msg", "");
        }
        fields.outcome?;
        writer.write_str("}\n")
    }
}

/// Fields of one line, written as they come: there is a line for every call, and none is worth a tree.
struct Fields<'a> {
    writer: Writer<'a>,
    /// A value that is not text yet.
    value: String,
    has_message: bool,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn key<'a>(&mut self, field: &'a Field) -> &'a str {
        if field.name() == "message" {
            self.has_message = true;
            "msg"
        } else {
            field.name()
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        if self.outcome.is_ok() {
            self.outcome =
                quoted(&mut self.writer, ',', key).and_then(|()| quoted(&mut self.writer, ':', value));
        }
    }

    fn number(&mut self, key: &str, value: fmt::Arguments<'_>) {
        if self.outcome.is_ok() {
            self.outcome = quoted(&mut self.writer, ',', key).and_then(|()| write!(self.writer, ":{value}"));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let key = self.key(field);
        let mut text = std::mem::take(&mut self.value);
        text.clear();
        if let Err(error) = write!(text, "{value:?}") {
            self.outcome = Err(error);
        }
        self.text(key, &text);
        self.value = text;
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let key = self.key(field);
        self.text(key, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let key = self.key(field);
        self.number(key, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let key = self.key(field);
        self.number(key, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        let key = self.key(field);
        self.number(key, format_args!("{value}"));
    }
}

/// `before`, and the text as a string of JSON.
fn quoted(writer: &mut impl Write, before: char, text: &str) -> fmt::Result {
    writer.write_char(before)?;
    writer.write_char('"')?;
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        // What has to be escaped is one byte, whatever is around it.
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        writer.write_str(&text[plain..at])?;
        plain = at + 1;
        match byte {
            b'"' => writer.write_str("\\\"")?,
            b'\\' => writer.write_str("\\\\")?,
            b'\n' => writer.write_str("\\n")?,
            b'\r' => writer.write_str("\\r")?,
            b'\t' => writer.write_str("\\t")?,
            other => write!(writer, "\\u{other:04x}")?,
        }
    }
    writer.write_str(&text[plain..])?;
    writer.write_char('"')
}

/// Milliseconds since the epoch as `2026-11-22T05:10:26.123Z`.
pub fn rfc3339(epoch_ms: u64) -> String {
    let (days, of_day) = (epoch_ms / 86_400_000, epoch_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// The Gregorian date so many days after 1970-01-01, by counting whole years and months.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_324_226_123, "2026-11-22T05:10:26.123Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn whatever_a_text_holds_it_is_read_back_from_its_line() {
        for text in [
            "",
            "plain",
            "a \"quoted\" \\ one",
            "two\nlines\r\n\tand \u{1}\u{1f}",
            "größer 🪝 \u{7f}",
        ] {
            let mut line = String::new();
            quoted(&mut line, ':', text).unwrap();
            let read: String = serde_json::from_str(line.strip_prefix(':').unwrap()).unwrap();
            assert_eq!(read, text);
            assert!(!line.contains(['\n', '\r']), "{line}");
        }
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_told_and_the_default_taken() {
        for wish in [None, Some(""), Some("debug"), Some("holdfast_node=trace,warn")] {
            assert_eq!(filter(wish.map(OsStr::new)).1, None, "{wish:?}");
        }
        let (taken, fault) = filter(Some(OsStr::new("holdfast=loud")));
        let fault = fault.unwrap();
        assert!(
            fault.contains("RUST_LOG=\"holdfast=loud\" is not understood"),
            "{fault}"
        );
        assert_eq!(taken.to_string(), "info");
    }

    #[test]
    fn formats_are_named_or_refused_with_the_choice() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!(
            "xml".parse::<LogFormat>(),
            Err("\"xml\" is no log format; use json or text".into())
        );
    }
}
