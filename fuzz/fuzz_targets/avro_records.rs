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
    if let Ok((id, body)) = split(bytes) {
        assert_eq!([&[0][..], &id.to_be_bytes(), body].concat(), bytes, "a frame is its id and its body");
    }
    // As it came, whoever it claims to be for.
    let _ = (ExchangeRequested::decode(bytes), ExchangeSealed::decode(bytes), TenantConfig::decode(bytes));
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 19 {
        0 => read::<ExchangeRequested>(body),
        1 => read::<ExchangeAdmitted>(body),
        2 => read::<ExchangeRejected>(body),
        3 => read::<ExchangeSealed>(body),
        4 => read::<ExchangeAnswer>(body),
        5 => read::<ExchangeDelivered>(body),
        6 => read::<UsageRecorded>(body),
        7 => read::<UsageTotal>(body),
        8 => read::<LedgerCommand>(body),
        9 => read::<SettlementPosted>(body),
        10 => read::<SettlementParked>(body),
        11 => read::<AuditCheckpoint>(body),
        12 => read::<SigningKey>(body),
        13 => read::<TenantConfig>(body),
        14 => read::<DedupEntry>(body),
        15 => read::<SignState>(body),
        16 => read::<RelayPosition>(body),
        17 => read::<PendingDelivery>(body),
        _ => read::<Tally>(body),
    }
});
