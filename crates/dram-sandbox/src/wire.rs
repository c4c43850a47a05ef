//! Serialises bytes as JSON strings, one character per byte: compact, and exact for bytes that are not UTF-8.

use crate::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

fn to_text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn to_bytes<E: Error>(text: &str) -> Result<Vec<u8>, E> {
    let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| E::custom("a character beyond one byte"));
    text.chars().map(byte).collect()
}

pub(crate) mod bytes {
    use super::{Deserialize, Deserializer, Serialize, Serializer, String, Vec, to_bytes, to_text};
    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to_text(bytes).serialize(to)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        to_bytes(&String::deserialize(from)?)
    }
}

pub(crate) mod list {
    use super::{Deserialize, Deserializer, Serializer, String, Vec, to_bytes, to_text};
    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|item| to_text(item)))
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Vec::<String>::deserialize(from)?.iter().map(|item| to_bytes(item)).collect()
    }
}
