//! The same work on every core, with the results in the order of the jobs and little of either in memory.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::failure::{Doing as _, Failure};

const WORKERS_MAX: usize = 64;
/// Jobs, and results, that wait for each worker.
const WAITING_MAX: usize = 2;

/// Does `work` with each job and gives the results to `take`, in order, until it answers false.
///
/// Jobs go round the workers and results come back in the same round, so that no more than a few are ever held.
pub(super) fn in_order<J: Send + 'static, R: Send + 'static>(
    jobs: impl Iterator<Item = J> + Send + 'static,
    work: impl Fn(J) -> R + Send + Sync + 'static,
    mut take: impl FnMut(R) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let workers = workers();
    let work = Arc::new(work);
    let (mut given, mut results, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..workers {
        let (give, jobs) = sync_channel(WAITING_MAX);
        let (done, result) = sync_channel(WAITING_MAX);
        let work = Arc::clone(&work);
        threads.push(spawn("verify-worker", move || labour(&jobs, &done, &*work))?);
        given.push(give);
        results.push(result);
    }
    threads.push(spawn("verify-reader", move || deal(jobs, &given))?);
    for result in results.iter().cycle() {
        let Ok(result) = result.recv() else { break };
        if !take(result)? {
            // The threads are left to themselves: the reader may be waiting for a stdin that never ends.
            return Ok(());
        }
    }
    drop(results);
    threads.into_iter().try_for_each(|thread| {
        thread.join().map_err(|_| Failure::new("a thread of the verifier panicked; nothing is known about the rest"))
    })
}

/// Does `work` with pieces of what is in memory already and answers all results in order. This thread works too.
pub(super) fn on_all<J: Sync, R: Send>(jobs: &[J], piece: usize, work: impl Fn(&[J]) -> Vec<R> + Sync) -> Vec<R> {
    let pieces: Vec<&[J]> = jobs.chunks(piece.max(1)).collect();
    let next = AtomicUsize::new(0);
    let labour = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else { return done };
            done.push((index, work(piece)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let worker = || std::thread::Builder::new().name("verify-worker".to_owned());
        // A thread that cannot be started is one that does not help: the others do its share.
        let others = (1..workers().min(pieces.len())).filter_map(|_| worker().spawn_scoped(scope, labour).ok());
        let others: Vec<_> = others.collect();
        let mut done = labour();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).doing("a thread cannot be started")
}

fn deal<J>(jobs: impl Iterator<Item = J>, workers: &[SyncSender<J>]) {
    for (job, worker) in jobs.zip(workers.iter().cycle()) {
        if worker.send(job).is_err() {
            return;
        }
    }
}

fn labour<J, R>(jobs: &Receiver<J>, done: &SyncSender<R>, work: &impl Fn(J) -> R) {
    for job in jobs {
        if done.send(work(job)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_however_long_each_takes() {
        let mut taken = Vec::new();
        let work = |job: u64| {
            // Uneven work, so that the workers finish in another order.
            (0..(job % 7) * 10_000).fold(job, |sum, step| sum.rotate_left(1) ^ step);
            job
        };
        in_order(0..1_000, work, |job| {
            taken.push(job);
            Ok(true)
        })
        .unwrap();
        assert!(taken.into_iter().eq(0..1_000));
    }

    #[test]
    fn an_endless_supply_ends_where_enough_was_taken() {
        let mut last = 0;
        in_order(
            0_u64..,
            |job| job,
            |job| {
                last = job;
                Ok(job < 100)
            },
        )
        .unwrap();
        assert_eq!(last, 100);
    }

    #[test]
    fn no_job_is_no_result_and_a_panic_is_told() {
        in_order(0..0_u64, |job| job, |_| panic!("there is none")).unwrap();
        let failed = in_order(0..10_u64, |job| assert_ne!(job, 5), |()| Ok(true));
        assert!(failed.is_err());
    }

    #[test]
    fn pieces_are_done_side_by_side_and_come_back_in_order() {
        let jobs: Vec<u32> = (0..1_000).collect();
        let threads = std::sync::Mutex::new(std::collections::BTreeSet::new());
        // Each of the first pieces waits until as many are at work as there are workers.
        let together = std::sync::Barrier::new(workers());
        let done = on_all(&jobs, 7, |piece| {
            let is_new = threads.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
            if is_new {
                together.wait();
            }
            piece.iter().map(|job| job * 2).collect()
        });
        assert!(done.into_iter().eq((0..1_000).map(|job| job * 2)));
        assert_eq!(threads.into_inner().unwrap().len(), workers());
        assert!(on_all(&jobs[..0], 7, |piece| piece.to_vec()).is_empty());
    }
}
