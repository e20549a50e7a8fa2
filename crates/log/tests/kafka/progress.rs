//! Progress reaches the ends, though markers and aborted records lie behind the last record of a transactional input.

use std::time::{Duration, Instant};

use countersign_log::{Batch, Group, Log, Polled};

use crate::broker;
use crate::copier::{Copier, PATIENCE, append, output, values};

#[test]
fn a_group_that_has_read_everything_is_seen_to_have() {
    let state_dir = tempfile::tempdir().unwrap();
    let log = broker::open(state_dir.path());
    let (first, mut second) = (Copier::new(&log), Copier::new(&log));
    second.member.inputs = vec![first.output.clone()];
    log.apply(&[], &[Group { name: second.member.group.clone(), inputs: second.member.inputs.clone() }]).unwrap();
    append(&log, first.input(), 0..4);
    let mut writer = first.join(&log);
    let mut batch = Batch::default();
    while batch.records.len() < 4 {
        writer.poll(Duration::from_millis(20), &mut batch).unwrap();
    }
    for record in &batch.records {
        first.copy(writer.as_mut(), std::slice::from_ref(record)).unwrap();
    }
    writer.emit(&output(&first.output, b"dropped")).unwrap();
    writer.recover().unwrap();

    let mut reader = second.join(&log);
    let deadline = Instant::now() + PATIENCE;
    let mut read = 0;
    loop {
        let mut batch = Batch::default();
        let polled = reader.poll(Duration::from_millis(20), &mut batch).unwrap();
        assert!(matches!(polled, Polled::Records { .. }), "{polled:?}");
        read += batch.records.len();
        if !batch.records.is_empty() {
            second.copy(reader.as_mut(), &batch.records).unwrap();
        }
        let progress = log.progress(&second.member.group, &first.output).unwrap();
        if progress == log.ends(&first.output).unwrap() {
            break;
        }
        assert!(Instant::now() < deadline, "{progress:?} never reaches {:?}", log.ends(&first.output).unwrap());
    }
    assert_eq!((read, values(&log, &second.output)), (4, vec![0, 1, 2, 3]));
    assert_eq!(second.count(reader.as_ref()), 4);
}
