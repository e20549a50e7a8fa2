//! The read model over hand-made topics, on both databases, and every GET.

mod bundles;
mod edge;
mod model;
mod world;

use std::time::Duration;

use log::embedded::EmbeddedLog;
use log::{Log, Position};
use stage::Stop;

use crate::{View, follow, topics};

const PATIENCE: Duration = Duration::from_secs(30);

fn ends(log: &dyn Log) -> Vec<Position> {
    topics().iter().flat_map(|topic| log.ends(topic).unwrap()).collect()
}

/// Runs a follower beside `work`.
async fn followed<T>(log: &EmbeddedLog, view: &View, work: impl AsyncFnOnce() -> T) -> T {
    let stop = Stop::new();
    let follower = std::thread::spawn({
        let (log, view, stop) = (log.clone(), view.clone(), stop.clone());
        move || follow(&log, &view, &stop)
    });
    let result = work().await;
    stop.request();
    tokio::task::spawn_blocking(move || follower.join().unwrap().unwrap()).await.unwrap();
    result
}

async fn caught_up(log: &EmbeddedLog, view: &View) {
    assert!(view.progress.reach(&ends(log), PATIENCE).await, "the follower stands at {:?}", view.positions());
}
