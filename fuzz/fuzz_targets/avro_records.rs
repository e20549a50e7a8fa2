//! Records from a log: whatever bytes a value holds, it is read or refused, and what was read comes back as it was.
#![no_main]

use std::fmt::Debug;

use event::wire::*;
use libfuzzer_sys::fuzz_target;

fn read<R: Wire + PartialEq + Debug>(bytes: &[u8]) {
    // The id is this record's, so that the body is reached.
    let framed = [&[0][..], &R::SCHEMA_ID.to_be_bytes(), bytes].concat();
    if let Ok(record) = R::decode(&framed) {
        let encoded = record.encode().expect("what was read can be written");
        assert_eq!(R::decode(&encoded).expect("and read again"), record);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = split(bytes);
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 12 {
        0 => read::<ExchangeRequested>(body),
        1 => read::<ExchangeAdmitted>(body),
        2 => read::<ExchangeRejected>(body),
        3 => read::<ExchangeSealed>(body),
        4 => read::<ExchangeAnswer>(body),
        5 => read::<ExchangeDelivered>(body),
        6 => read::<UsageRecorded>(body),
        7 => read::<LedgerCommand>(body),
        8 => read::<SettlementPosted>(body),
        9 => read::<AuditCheckpoint>(body),
        10 => read::<DedupEntry>(body),
        _ => read::<SignState>(body),
    }
});
