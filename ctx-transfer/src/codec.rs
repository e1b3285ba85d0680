//! A context as CBOR (RFC 8949): maps with integer keys, in rising order, in deterministic encoding; unknown keys are kept.
//! docs/context.cddl is the grammar.

use baton_sad::{ClusterId, Name, NodeId, SaError, Sender};
use ciborium::Value;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::context::{Context, Kind, Unknown};
use crate::sa_codec;

/// Octets of one encoded context at most.
pub const MAX_CONTEXT: usize = 1 << 20;
/// Maps and arrays inside each other at most.
const MAX_DEPTH: usize = 16;
/// SAs, and policies, of one context at most.
const MAX_ENTRIES: usize = 64;

pub(crate) mod key {
    pub(crate) const NAME: i64 = 1;
    pub(crate) const KIND: i64 = 2;
    pub(crate) const CLUSTER: i64 = 3;
    pub(crate) const NODE: i64 = 4;
    pub(crate) const TAKEN_AT: i64 = 5;
    pub(crate) const SAS: i64 = 6;
    pub(crate) const POLICIES: i64 = 7;
}

/// Why octets are no context.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not CBOR.
    #[error("it is not CBOR: {0}")]
    Cbor(String),
    /// More octets than a context can have.
    #[error("it has {0} octets; a context has at most {MAX_CONTEXT}")]
    TooLarge(usize),
    /// A field is missing.
    #[error("{map} lacks field {field}")]
    Missing {
        /// Of which map.
        map: &'static str,
        /// Its key.
        field: i64,
    },
    /// A field has another type or an impossible value.
    #[error("field {field} of {map} is not {expected}")]
    Field {
        /// Of which map.
        map: &'static str,
        /// Its key.
        field: i64,
        /// What it should be.
        expected: &'static str,
    },
    /// A map's keys are not integers in rising order.
    #[error("the keys of {0} are not integers in rising order")]
    Keys(&'static str),
    /// Not a map.
    #[error("{0} is not a map")]
    NotAMap(&'static str),
    /// The fields make no SA.
    #[error("an SA in it cannot be: {0}")]
    Sa(#[from] SaError),
}

impl Context {
    /// The context as CBOR. The octets hold keys and are wiped when dropped.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        let mut value = self.to_value();
        // Room for all at once, so that no copy is left behind by growth.
        let mut octets = Zeroizing::new(Vec::with_capacity(64 * 1024));
        let written = ciborium::into_writer(&value, &mut *octets);
        wipe(&mut value);
        written.map_err(|error| CodecError::Cbor(error.to_string()))?;
        if octets.len() > MAX_CONTEXT {
            return Err(CodecError::TooLarge(octets.len()));
        }
        Ok(octets)
    }

    /// Reads exactly one context.
    ///
    /// # Errors
    /// [`CodecError`]; nothing is guessed or repaired.
    pub fn decode(octets: &[u8]) -> Result<Self, CodecError> {
        if octets.len() > MAX_CONTEXT {
            return Err(CodecError::TooLarge(octets.len()));
        }
        let mut rest = octets;
        let mut value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
            .map_err(|error| CodecError::Cbor(error.to_string()))?;
        if !rest.is_empty() {
            wipe(&mut value);
            return Err(CodecError::Cbor(format!("{} octets follow it", rest.len())));
        }
        let context = Self::from_value(&value);
        wipe(&mut value);
        context
    }

    fn to_value(&self) -> Value {
        let sas = self.sas.iter().map(sa_codec::sa_to_value).collect();
        let policies = self.policies.iter().map(sa_codec::policy_to_value).collect();
        map(
            vec![
                (key::NAME, Value::Text(self.name.as_str().to_owned())),
                (key::KIND, Value::from(u8::from(self.kind == Kind::Move))),
                (key::CLUSTER, Value::from(self.origin.cluster.get())),
                (key::NODE, Value::from(self.origin.node.get())),
                (key::TAKEN_AT, Value::from(self.taken_at)),
                (key::SAS, Value::Array(sas)),
                (key::POLICIES, Value::Array(policies)),
            ],
            &self.unknown,
        )
    }

    fn from_value(value: &Value) -> Result<Self, CodecError> {
        let mut fields = Fields::new("the context", value)?;
        let name = Name::new(fields.text(key::NAME)?)?;
        let kind = match fields.unsigned(key::KIND, 1)? {
            0 => Kind::Copy,
            _ => Kind::Move,
        };
        let origin = sender(fields.unsigned(key::CLUSTER, (1 << 56) - 1)?, fields.node(key::NODE)?);
        let taken_at = fields.unsigned(key::TAKEN_AT, u64::MAX)?;
        let sas = fields.list(key::SAS, 1..=MAX_ENTRIES, "1 to 64 SAs")?;
        let sas = sas.iter().map(sa_codec::sa_from_value).collect::<Result<_, _>>()?;
        let policies = fields.list(key::POLICIES, 0..=MAX_ENTRIES, "at most 64 policies")?;
        let policies = policies.iter().map(sa_codec::policy_from_value).collect::<Result<_, _>>()?;
        Ok(Self { kind, name, origin, taken_at, sas, policies, unknown: fields.unknown() })
    }
}

pub(crate) fn sender(cluster: u64, node: NodeId) -> Sender {
    Sender { cluster: ClusterId::new(cluster), node }
}

/// A map of known and unknown fields, keys rising.
pub(crate) fn map(known: Vec<(i64, Value)>, unknown: &Unknown) -> Value {
    let mut fields = known;
    fields.extend(unknown.0.iter().cloned());
    fields.sort_by_key(|(key, _)| *key);
    Value::Map(fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
}

/// Overwrites every octet string in a value: it may be a key.
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::Bytes(octets) => octets.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| wipe(value)),
        Value::Tag(_, inner) => wipe(inner),
        _ => {}
    }
}

/// The fields of a map, taken one by one; what is left over is unknown.
pub(crate) struct Fields<'a> {
    map: &'static str,
    fields: Vec<(i64, &'a Value)>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'static str, value: &'a Value) -> Result<Self, CodecError> {
        let Value::Map(entries) = value else { return Err(CodecError::NotAMap(map)) };
        let mut fields: Vec<(i64, &Value)> = Vec::with_capacity(entries.len().min(64));
        for (key, value) in entries {
            let key =
                key.as_integer().and_then(|key| i64::try_from(key).ok()).ok_or(CodecError::Keys(map))?;
            if fields.last().is_some_and(|(last, _)| *last >= key) {
                return Err(CodecError::Keys(map));
            }
            fields.push((key, value));
        }
        Ok(Self { map, fields })
    }

    fn wrong(&self, field: i64, expected: &'static str) -> CodecError {
        CodecError::Field { map: self.map, field, expected }
    }

    pub(crate) fn take(&mut self, field: i64) -> Result<&'a Value, CodecError> {
        self.optional(field).ok_or(CodecError::Missing { map: self.map, field })
    }

    pub(crate) fn optional(&mut self, field: i64) -> Option<&'a Value> {
        let index = self.fields.iter().position(|(key, _)| *key == field)?;
        Some(self.fields.remove(index).1)
    }

    pub(crate) fn text(&mut self, field: i64) -> Result<&'a str, CodecError> {
        self.take(field)?.as_text().ok_or(self.wrong(field, "text"))
    }

    pub(crate) fn octets(&mut self, field: i64) -> Result<&'a [u8], CodecError> {
        Ok(self.take(field)?.as_bytes().ok_or(self.wrong(field, "an octet string"))?.as_slice())
    }

    pub(crate) fn flag(&mut self, field: i64) -> Result<bool, CodecError> {
        self.take(field)?.as_bool().ok_or(self.wrong(field, "true or false"))
    }

    pub(crate) fn unsigned(&mut self, field: i64, limit: u64) -> Result<u64, CodecError> {
        unsigned(self.take(field)?, limit).ok_or(self.wrong(field, "an unsigned integer in its range"))
    }

    pub(crate) fn node(&mut self, field: i64) -> Result<NodeId, CodecError> {
        let number = self.unsigned(field, 255)? as u8;
        NodeId::new(number).ok_or(self.wrong(field, "a node id from 1 to 255"))
    }

    pub(crate) fn list(
        &mut self,
        field: i64,
        count: std::ops::RangeInclusive<usize>,
        expected: &'static str,
    ) -> Result<&'a [Value], CodecError> {
        let items = self.take(field)?.as_array().filter(|items| count.contains(&items.len()));
        Ok(items.ok_or(self.wrong(field, expected))?.as_slice())
    }

    pub(crate) fn unknown(self) -> Unknown {
        Unknown(self.fields.into_iter().map(|(key, value)| (key, value.clone())).collect())
    }
}

pub(crate) fn unsigned(value: &Value, limit: u64) -> Option<u64> {
    u64::try_from(value.as_integer()?).ok().filter(|number| *number <= limit)
}
