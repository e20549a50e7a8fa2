//! Lines of receipts, as many as there are: checked on every core, put in their chains one after the other.

use std::sync::Arc;

use indicatif::ProgressBar;
use proof::{Chains, Claimed, Failure as Failed, KeyRing, Link, Verdict, Verifier};

use super::cores::in_order;
use super::input::{Block, Lines};
use crate::commands::send::progress_bar;
use crate::failure::Failure;

/// The verdict on a stream, and how many chains it holds.
pub(super) struct Streamed {
    pub(super) verdict: Verdict,
    pub(super) chains: usize,
}

/// A block whose receipts were each checked by themselves.
struct Checked {
    outcomes: Vec<Result<Link, Failed>>,
    bytes: u64,
}

/// Ends at the first receipt that fails; memory is for its chains alone.
pub(super) fn verify(lines: Lines, ring: &KeyRing) -> Result<Streamed, Failure> {
    let progress = progress_bar(lines.bytes);
    let verifier = Arc::new(Verifier::new(ring.clone()));
    let mut order = Order::default();
    let work = move |block: Result<Block, Failure>| block.map(|block| check(&verifier, &block));
    in_order(lines, work, |checked| Ok(order.take(checked?, &progress)))?;
    progress.finish_and_clear();
    Ok(order.told())
}

/// The same on this thread alone, where other documents keep the other cores busy.
pub(super) fn verify_here(lines: Lines, ring: &KeyRing) -> Result<Streamed, Failure> {
    let verifier = Verifier::new(ring.clone());
    let (mut order, progress) = (Order::default(), ProgressBar::hidden());
    for block in lines {
        if !order.take(check(&verifier, &block?), &progress) {
            break;
        }
    }
    Ok(order.told())
}

fn check(verifier: &Verifier, block: &Block) -> Checked {
    let batch: Vec<Claimed<'_>> = block.lines().map(|receipt| Claimed { receipt, payload: None }).collect();
    Checked { outcomes: verifier.check(&batch), bytes: block.bytes }
}

#[derive(Default)]
struct Order {
    chains: Chains,
    receipts: usize,
    failed: Option<Failed>,
}

impl Order {
    /// Whether to go on.
    fn take(&mut self, checked: Checked, progress: &ProgressBar) -> bool {
        for outcome in checked.outcomes {
            self.receipts += 1;
            if let Err(failure) = outcome.and_then(|link| self.chains.follow(link)) {
                self.failed = Some(failure);
                return false;
            }
        }
        progress.inc(checked.bytes);
        progress.set_message(format!("{} receipts, {} chains", self.receipts, self.chains.len()));
        true
    }

    fn told(self) -> Streamed {
        let outcome = match self.failed {
            Some(failure) => Err((self.receipts.checked_sub(1), failure)),
            None => Ok(()),
        };
        Streamed { verdict: Verdict::new(outcome, self.receipts, "given"), chains: self.chains.len() }
    }
}
