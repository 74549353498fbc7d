//! As much of ASN.1's DER as certificates and requests for them need. Whatever stands in outside bytes, reading
//! them ends in a part of them or in nothing.

pub const SEQUENCE: u8 = 0x30;
pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_ID: u8 = 0x06;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;

/// The tag of a constructed value that is known by its place.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The tag of a plain value that is known by its place.
pub const fn context_plain(number: u8) -> u8 {
    0x80 | number
}

/// Reads values one after the other.
#[derive(Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

/// One value.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// What kind.
    pub tag: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// All of it, tag and length included.
    pub whole: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The only value in these bytes, if it is of this kind.
    pub fn only(bytes: &'a [u8], tag: u8) -> Option<Value<'a>> {
        let mut reader = Reader(bytes);
        let value = reader.next(tag)?;
        reader.0.is_empty().then_some(value)
    }

    /// The next value, if it is of this kind; nothing is read otherwise.
    pub fn next(&mut self, tag: u8) -> Option<Value<'a>> {
        let mut rest = *self;
        let value = rest.any().filter(|value| value.tag == tag)?;
        *self = rest;
        Some(value)
    }

    /// The next value of any kind.
    pub fn any(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of several bytes are not used in what is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Value { tag, content, whole })
    }
}

impl<'a> Value<'a> {
    /// Reads what is in it.
    pub fn inside(&self) -> Reader<'a> {
        Reader(self.content)
    }

    /// The bits of a bit string that has whole bytes.
    pub fn bits(&self) -> Option<&'a [u8]> {
        match self.content.split_first() {
            Some((0, bits)) if self.tag == BIT_STRING => Some(bits),
            _ => None,
        }
    }
}

/// A value of this kind that consists of these parts.
pub fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            let digits = &digits[zeros..];
            // A usize has eight bytes at most.
            bytes.push(0x80 | digits.len() as u8);
            bytes.extend(digits);
        }
    }
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// A bit string of whole bytes.
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_however_long_it_is() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; length];
            let bytes = value(OCTET_STRING, &[&content]);
            let read = Reader::only(&bytes, OCTET_STRING).unwrap();
            assert_eq!((read.content, read.whole), (&content[..], &bytes[..]), "{length}");
            for cut in [0, 1, bytes.len() - 1] {
                assert!(
                    Reader::only(&bytes[..cut], OCTET_STRING).is_none(),
                    "{length} cut to {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x01, 0x00],
            &[0x30, 0x00, 0x00],
        ] {
            assert!(Reader::only(bytes, SEQUENCE).is_none(), "{bytes:?}");
        }
        assert!(Reader::only(&[0x02, 0x00], SEQUENCE).is_none());
    }
}
