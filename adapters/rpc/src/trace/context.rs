//! Which trace something is part of, as it travels: `traceparent` of W3C Trace Context, version 00.

use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// The header that has it.
pub const TRACEPARENT: &str = "traceparent";

/// A span, and the trace that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Not zero.
    pub trace: u128,
    /// Not zero.
    pub span: u64,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// A text that is no context: it is passed over, as the recommendation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoContext;

impl FromStr for Context {
    type Err = NoContext;

    /// Reads version 00, and of later ones what 00 has.
    fn from_str(text: &str) -> Result<Context, NoContext> {
        let mut parts = text.split('-');
        let (version, trace) = (hex(parts.next(), 2)?, hex(parts.next(), 32)?);
        let (span, flags) = (hex(parts.next(), 16)?, hex(parts.next(), 2)?);
        let has_more = parts.next().is_some();
        if version == 0xff || (version == 0 && has_more) || trace == 0 || span == 0 {
            return Err(NoContext);
        }
        Ok(Context {
            trace,
            span: u64::try_from(span).map_err(|_| NoContext)?,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// So many lower case hexadecimal digits.
fn hex(part: Option<&str>, digits: usize) -> Result<u128, NoContext> {
    let part = part.filter(|part| part.len() == digits).ok_or(NoContext)?;
    if !part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(NoContext);
    }
    u128::from_str_radix(part, 16).map_err(|_| NoContext)
}

/// The context that a call came with.
pub fn extract(headers: &HeaderMap) -> Option<Context> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.parse().ok()
}

/// Sends the context of what is being done with a call.
pub fn inject(metadata: &mut MetadataMap) {
    if let Some(context) = super::current()
        && let Ok(value) = context.to_string().parse()
    {
        metadata.insert(TRACEPARENT, value);
    }
}
