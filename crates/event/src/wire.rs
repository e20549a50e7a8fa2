//! Avro in the Confluent wire format: 0x00, the schema id as 4 bytes big-endian, the body (docs/contracts/topics.md).
//!
//! Ids are pinned in `schemas/ids.json`; the schemas themselves lie in `schemas/<topic>/<n>.avsc`.

mod records;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use records::*;

/// Why a value could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not the Confluent framing at all.
    #[error("the value is not in the Confluent wire format")]
    NotFramed,
    /// A schema that this version does not know: on internal topics, wait for the deploy (R9).
    #[error("schema id {0} is not known here")]
    UnknownSchema(u32),
    #[error("the body does not match schema {0}")]
    Malformed(u32, #[source] Box<apache_avro::Error>),
    #[error("the body of schema {0} is followed by other bytes")]
    Trailing(u32),
}

impl WireError {
    pub fn is_unknown_schema(&self) -> bool {
        matches!(self, Self::UnknownSchema(_))
    }
}

/// A record with a schema of its own.
pub trait Wire: Serialize + DeserializeOwned + 'static {
    /// The pinned id of the newest schema.
    const SCHEMA_ID: u32;
    /// The topic (or changelog) whose values these are.
    const TOPIC: &'static str;

    /// Of a version that this build knows.
    #[doc(hidden)]
    fn codec(id: u32) -> Option<&'static Codec>;

    /// The value's bytes.
    fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(256);
        out.push(0);
        out.extend_from_slice(&Self::SCHEMA_ID.to_be_bytes());
        let newest = Self::codec(Self::SCHEMA_ID).ok_or(WireError::UnknownSchema(Self::SCHEMA_ID))?;
        newest
            .writer
            .write_ser(&mut out, self)
            .map_err(|error| WireError::Malformed(Self::SCHEMA_ID, Box::new(error)))?;
        Ok(out)
    }

    /// Whether a value with this schema id is one of these records, in whatever version.
    fn reads(id: u32) -> bool {
        Self::codec(id).is_some()
    }

    /// Reads a value back, also one of an older version; every byte must belong to it.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (id, mut body) = split(bytes)?;
        let codec = Self::codec(id).ok_or(WireError::UnknownSchema(id))?;
        let value = codec.reader.read_deser(&mut body).map_err(|error| WireError::Malformed(id, Box::new(error)))?;
        if body.is_empty() { Ok(value) } else { Err(WireError::Trailing(id)) }
    }
}

/// Schema id and body of a framed value.
pub fn split(bytes: &[u8]) -> Result<(u32, &[u8]), WireError> {
    match bytes.split_first_chunk::<5>() {
        Some(([0, a, b, c, d], body)) => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        _ => Err(WireError::NotFramed),
    }
}

/// Reader and writer of one schema, resolved once.
#[doc(hidden)]
pub struct Codec {
    writer: GenericDatumWriter<'static>,
    reader: GenericDatumReader<'static>,
}

impl Codec {
    /// # Panics
    /// If a schema compiled into this binary does not parse, which the test `every_schema_parses` rules out.
    #[expect(clippy::expect_used, reason = "the schemas are compiled in and every one is parsed by a test")]
    fn of(schema_text: &str) -> Self {
        let schema: &'static Schema =
            Box::leak(Box::new(Schema::parse_str(schema_text).expect("a compiled-in schema parses")));
        Self {
            writer: GenericDatumWriter::builder(schema)
                .validate(false)
                .human_readable(false)
                .build()
                .expect("resolves"),
            reader: GenericDatumReader::builder(schema).human_readable(false).build().expect("resolves"),
        }
    }
}

macro_rules! bind {
    ($($record:ident, $topic:literal, $newest:literal => $version:literal $(, $older:literal => $older_version:literal)*;)*) => {
        $(impl super::Wire for $record {
            const SCHEMA_ID: u32 = $newest;
            const TOPIC: &'static str = $topic;

            fn codec(id: u32) -> Option<&'static super::Codec> {
                match id {
                    $newest => {
                        static CODEC: std::sync::LazyLock<super::Codec> = std::sync::LazyLock::new(|| {
                            super::Codec::of(include_str!(concat!("../../../../schemas/", $topic, "/", $version, ".avsc")))
                        });
                        Some(&CODEC)
                    }
                    $($older => {
                        static CODEC: std::sync::LazyLock<super::Codec> = std::sync::LazyLock::new(|| {
                            super::Codec::of(include_str!(concat!("../../../../schemas/", $topic, "/", $older_version, ".avsc")))
                        });
                        Some(&CODEC)
                    })*
                    _ => None,
                }
            }
        })*

        /// Id, topic and text of every schema that is read, record by record, the newest of each first.
        pub const SCHEMAS: &[(u32, &str, &str)] = &[
            $(
                ($newest, $topic, include_str!(concat!("../../../../schemas/", $topic, "/", $version, ".avsc"))),
                $(($older, $topic, include_str!(concat!("../../../../schemas/", $topic, "/", $older_version, ".avsc"))),)*
            )*
        ];
    };
}
use bind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_parses_and_is_pinned() {
        let pinned: std::collections::BTreeMap<u32, String> =
            serde_json::from_str(include_str!("../../../schemas/ids.json")).unwrap();
        assert_eq!(pinned.len(), SCHEMAS.len());
        for (id, topic, text) in SCHEMAS {
            drop(Codec::of(text));
            assert!(pinned[id].starts_with(&format!("{topic}/")), "{id}: {}", pinned[id]);
        }
    }

    fn requested() -> ExchangeRequested {
        ExchangeRequested {
            tenant: "acme".into(),
            idempotency_key: "key-0".into(),
            payload: b"{\"a\":1}".to_vec(),
            payload_type: "passthrough".into(),
            target_type: None,
            trace_id: Some("trace-1".into()),
            expected_prev_receipt_hash: None,
            amount: Some(WireAmount { currency: "EUR".into(), minor: 1250, payee: "agent-7".into() }),
            forward_url: None,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_went() {
        let bytes = requested().encode().unwrap();
        assert_eq!(&bytes[..5], [0, 0, 0, 0, 1]);
        assert_eq!(ExchangeRequested::decode(&bytes).unwrap(), requested());
    }

    #[test]
    fn damage_is_an_error_and_not_a_panic() {
        let bytes = requested().encode().unwrap();
        assert!(matches!(ExchangeRequested::decode(b""), Err(WireError::NotFramed)));
        assert!(matches!(ExchangeRequested::decode(&[1, 0, 0, 0, 1, 0]), Err(WireError::NotFramed)));
        assert!(matches!(ExchangeRequested::decode(&[0, 0, 0, 0, 99]), Err(WireError::UnknownSchema(99))));
        for cut in 5..bytes.len() {
            assert!(ExchangeRequested::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(ExchangeRequested::decode(&longer), Err(WireError::Trailing(1))));
    }
}
