//! A process that joins right after its topics were made.

use std::time::Duration;

use countersign_log::kafka::hostile::{Exit, Machine, Simulation};

use crate::step::Topics;
use crate::story::{GROUP, read_state};

const PATIENCE: Duration = Duration::from_secs(900);

/// Answers how it ends to join as soon as the topics have been seen once, while some brokers have not heard of them yet.
pub(crate) fn join_early(seed: u64) -> Exit {
    let simulation = Simulation::new(seed, None);
    let topics = Topics::new();
    for (topic, read_by) in [(&topics.input, Some(GROUP)), (&topics.state, None)] {
        simulation.create_topic(topic, 1, read_by);
        simulation.hear_late(topic, Duration::from_secs(3));
    }
    let process = simulation.process(&Machine::default());
    let id = process.id();
    std::thread::scope(|scope| {
        let topics = &topics;
        scope.spawn(move || {
            process.run(|log| {
                for topic in [&topics.input, &topics.state] {
                    while log.partitions(topic)?.is_none() {}
                }
                read_state(log.as_ref(), topics, 1, &parking_lot::Mutex::default())
            });
        });
        let deadline = simulation.elapsed() + PATIENCE;
        loop {
            simulation.sleep(Duration::from_secs(1));
            match simulation.exit_of(id) {
                Some(exit) => return exit,
                None if simulation.elapsed() > deadline => simulation.kill(id),
                None => {}
            }
        }
    })
}
