//! Single values, as protocol buffers write them in JSON.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::LazyLock;

use holdfast_core::id::Name;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Text, read without a copy in between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(pub(super) Name);

/// Most fields of most records are empty, and share this.
static EMPTY: LazyLock<Name> = LazyLock::new(Name::default);

impl Default for Text {
    fn default() -> Text {
        Text(EMPTY.clone())
    }
}

impl Text {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name, unless it is empty.
    pub(super) fn some(self) -> Option<Name> {
        (!self.is_empty()).then_some(self.0)
    }
}

impl From<&Name> for Text {
    fn from(name: &Name) -> Text {
        Text(name.clone())
    }
}

impl From<Option<&Name>> for Text {
    fn from(name: Option<&Name>) -> Text {
        name.map(Text::from).unwrap_or_default()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct AsText;
        impl Visitor<'_> for AsText {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                if text.is_empty() {
                    return Ok(Text::default());
                }
                Ok(Text(text.into()))
            }
        }
        deserializer.deserialize_str(AsText)
    }
}

/// A number of 64 bits: written as a decimal string, read as that or as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Int(pub(super) u64);

impl Int {
    pub(super) fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Int {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Int, D::Error> {
        struct AsInt;
        impl Visitor<'_> for AsInt {
            type Value = Int;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 18446744073709551615, or such a number as text")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Int, E> {
                Ok(Int(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Int, E> {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let number = if digits { text.parse().ok() } else { None };
                number
                    .map(Int)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(AsInt)
    }
}

/// A version or a fence, as [`Int`] has it, if somebody can have counted up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Count<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: TryFrom<u64, Error: fmt::Display>> Deserialize<'de> for Count<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count<T>, D::Error> {
        let Int(number) = Int::deserialize(deserializer)?;
        T::try_from(number).map(Count).map_err(de::Error::custom)
    }
}

/// An identity that has a text of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id<T>, D::Error> {
        struct AsId<T>(PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for AsId<T> {
            type Value = Id<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id<T>, E> {
                text.parse()
                    .map(Id)
                    .map_err(|error| E::custom(format_args!("{text:?} is no id: {error}")))
            }
        }
        deserializer.deserialize_str(AsId(PhantomData))
    }
}

/// An enum of the wire: a table of names and numbers.
pub(super) trait Named: Copy + PartialEq + 'static {
    /// What it is called in errors.
    const WHAT: &'static str;
    /// Every value with its name and number.
    const TABLE: &'static [(Self, &'static str, u64)];
}

/// A value of such an enum: written as its name, read as that or as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire<T>(pub(super) T);

impl<T: Named> Serialize for Wire<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = T::TABLE.iter().find(|(value, ..)| *value == self.0);
        let (_, name, _) = row.expect("the table of an enum has every value");
        serializer.serialize_str(name)
    }
}

impl<'de, T: Named> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wire<T>, D::Error> {
        struct AsWire<T>(PhantomData<T>);
        impl<T: Named> Visitor<'_> for AsWire<T> {
            type Value = Wire<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a {}", T::WHAT)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Wire<T>, E> {
                let row = T::TABLE.iter().find(|(.., known)| *known == number);
                let unknown = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
                row.map(|(value, ..)| Wire(*value)).ok_or_else(unknown)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wire<T>, E> {
                let row = T::TABLE.iter().find(|(_, known, _)| *known == text);
                let unknown = || E::invalid_value(de::Unexpected::Str(text), &self);
                row.map(|(value, ..)| Wire(*value)).ok_or_else(unknown)
            }
        }
        deserializer.deserialize_any(AsWire(PhantomData))
    }
}
