//! Who waits for which answer (ARCHITECTURE.md, "Answer").
//!
//! A nonce per request leads from the answer's record to the one who waits. Nobody waiting is normal: the client has
//! gone, or this process was restarted; the answer is in the log for whoever asks again.

use std::collections::HashMap;
use std::sync::Arc;

use event::envelope::Reply;
use event::wire::{ExchangeAnswer, Wire as _};
use log::Record;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Everyone who waits on this slot.
#[derive(Debug)]
pub(crate) struct Waiting {
    slot: u32,
    by_nonce: Mutex<HashMap<String, oneshot::Sender<ExchangeAnswer>>>,
}

/// One who waits; dropping it is how a client goes away.
#[derive(Debug)]
pub(crate) struct Ticket {
    nonce: String,
    answer: oneshot::Receiver<ExchangeAnswer>,
    waiting: Arc<Waiting>,
}

impl Waiting {
    pub(crate) fn new(slot: u32) -> Self {
        Self { slot, by_nonce: Mutex::default() }
    }

    /// Begins to wait: before the request is written, or its answer could come first.
    pub(crate) fn register(self: &Arc<Self>) -> Ticket {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let (sender, answer) = oneshot::channel();
        self.by_nonce.lock().insert(nonce.clone(), sender);
        Ticket { nonce, answer, waiting: Arc::clone(self) }
    }

    /// Takes one record of the slot's partition to whom it is for.
    pub(crate) fn deliver(&self, record: &Record) {
        let Some(value) = &record.value else { return };
        let answer = match ExchangeAnswer::decode(value) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(offset = record.offset, %error, "an answer cannot be read; its client gets 202");
                return;
            }
        };
        if let Some(sender) = self.by_nonce.lock().remove(&answer.nonce) {
            // The client may have gone in this very moment.
            let _ = sender.send(answer);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.by_nonce.lock().len()
    }
}

impl Ticket {
    /// The header that leads the answer here.
    pub(crate) fn reply(&self) -> Reply {
        Reply { slot: self.waiting.slot, nonce: self.nonce.clone() }
    }

    /// The answer; `None` only where the process is ending.
    pub(crate) async fn answer(&mut self) -> Option<ExchangeAnswer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.by_nonce.lock().remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(nonce: &str) -> Record {
        let answer = ExchangeAnswer {
            nonce: nonce.into(),
            exchange_id: "ex_1".into(),
            tenant: "acme".into(),
            status: 201,
            replayed: false,
            code: None,
            body: b"{}".to_vec(),
        };
        let value = Some(answer.encode().unwrap().into());
        let topic = log::Topic::new(ExchangeAnswer::TOPIC);
        Record { topic, partition: 0, offset: 0, time_ms: 0, key: None, value, headers: Vec::new() }
    }

    #[tokio::test]
    async fn an_answer_finds_the_one_who_waits_and_nobody_else() {
        let waiting = Arc::new(Waiting::new(7));
        let mut first = waiting.register();
        let second = waiting.register();
        assert_ne!(first.reply(), second.reply());
        waiting.deliver(&record(&first.nonce));
        waiting.deliver(&record("unknown"));
        assert_eq!(first.answer().await.unwrap().exchange_id, "ex_1");
        assert_eq!(waiting.count(), 1);
    }

    #[test]
    fn a_client_that_goes_away_leaves_nothing_behind() {
        let waiting = Arc::new(Waiting::new(0));
        let ticket = waiting.register();
        let late = record(&ticket.nonce);
        drop(ticket);
        assert_eq!(waiting.count(), 0);
        waiting.deliver(&late);
    }

    #[test]
    fn a_record_that_is_no_answer_harms_nothing() {
        let waiting = Waiting::new(0);
        let mut damaged = record("n");
        damaged.value = Some(bytes::Bytes::from_static(b"nonsense"));
        waiting.deliver(&damaged);
        damaged.value = None;
        waiting.deliver(&damaged);
    }
}
