//! What a dead letter holds, for people.

use event::wire::{ExchangeAdmitted, ExchangeRequested, ExchangeSealed, LedgerCommand, UsageRecorded, Wire, split};
use serde_json::Value;

/// Bytes of an unreadable value that are shown.
const UNREADABLE_BYTES_MAX: usize = 4_096;

/// A value for people: as JSON where its schema is known.
pub(super) fn legible(value: &[u8]) -> Value {
    fn read<T: Wire>(value: &[u8]) -> Option<Value> {
        T::decode(value).ok().and_then(|record| serde_json::to_value(record).ok())
    }
    let decoded = match split(value).map(|(id, _)| id) {
        Ok(id) if ExchangeRequested::reads(id) => read::<ExchangeRequested>(value),
        Ok(id) if ExchangeAdmitted::reads(id) => read::<ExchangeAdmitted>(value),
        Ok(id) if ExchangeSealed::reads(id) => read::<ExchangeSealed>(value),
        Ok(id) if UsageRecorded::reads(id) => read::<UsageRecorded>(value),
        Ok(id) if LedgerCommand::reads(id) => read::<LedgerCommand>(value),
        _ => None,
    };
    match decoded {
        Some(mut decoded) => {
            bytes_to_text(&mut decoded);
            decoded
        }
        None => {
            let head = value.get(..UNREADABLE_BYTES_MAX).unwrap_or(value);
            serde_json::json!({"unreadable": hex(head), "bytes": value.len()})
        }
    }
}

/// Avro's bytes come as lists of numbers: shown as text, or in hex where they are none.
fn bytes_to_text(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if matches!(name.as_str(), "payload" | "fingerprint")
                    && let Some(bytes) = as_bytes(member)
                {
                    *member = String::from_utf8(bytes).unwrap_or_else(|error| hex(error.as_bytes())).into();
                } else {
                    bytes_to_text(member);
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(bytes_to_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn as_bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
