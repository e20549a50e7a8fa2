//! What a record asks for: read, checked, and ready to be decided. Pure.

use billing::{Account, Minor};
use event::envelope::TRACEPARENT;
use event::time::Timestamp;
use event::wire::{LedgerCommand, Wire, WireError};
use ledger::{AccountKey, CommandKey, ContentHash, Headers, Input, Needs, RowDraft, Source, VolumeKey};
use log::{Record, Topic};
use sha2::{Digest, Sha256};
use stage::dead_letter::{ALREADY_DECIDED, CAUSE_HEADER, CAUSE_TOPIC_HEADER, cause_of};
use stage::value::{UnknownSchema, read};
use stage::{DeadLetter, Reject, StepError};

/// The only kind of command so far: the price of an exchange.
pub const COMMAND_KIND: &str = "exchange_charge";

/// A record that was read, ready to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub source: Source,
    pub what: What,
    /// The headers that every row of this record carries.
    pub(crate) cause: Headers,
    pub(crate) traceparent: Option<Vec<u8>>,
    /// A redo only: the letter that says that this very command was decided before. On the command topic a repetition has
    /// no trace but the offset, and audit names it; a dead letter that went back twice is no fault, and everybody sees it.
    pub(crate) already: Option<Box<RowDraft>>,
}

/// What a record asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Charge(Box<Asked>),
    /// It can never succeed; the dead letter is ready.
    Dead {
        reason: &'static str,
        letter: Box<RowDraft>,
    },
}

/// A charge whose form is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(crate) command: LedgerCommand,
    pub(crate) content: ContentHash,
    pub(crate) payee: String,
    pub(crate) gross: Minor,
    pub(crate) currency: String,
    pub(crate) volume: VolumeKey,
}

impl Asked {
    pub(crate) fn key(&self) -> CommandKey {
        CommandKey { tenant: self.command.tenant.clone(), idempotency_key: self.command.idempotency_key.clone() }
    }
}

/// Reads a record. What is wrong with it for ever becomes a dead letter.
///
/// # Errors
/// `Wait` with the reason: a schema of a later version on the command topic.
pub fn parse(record: &Record, input: Input, dead: &Topic) -> Result<Item, String> {
    let source = Source { input, offset: record.offset };
    let mut cause: Headers = vec![(CAUSE_HEADER.to_owned(), cause_of(record, 0).into_bytes())];
    let unknown = match input {
        Input::Command => UnknownSchema::Wait,
        Input::Redo => {
            cause.push((CAUSE_TOPIC_HEADER.to_owned(), record.topic.as_str().as_bytes().to_vec()));
            UnknownSchema::Reject
        }
    };
    let decoded = read(record, LedgerCommand::decode, WireError::is_unknown_schema, unknown);
    let what = match decoded.and_then(|command| asked(command).map_err(StepError::Reject)) {
        Ok(asked) => What::Charge(Box::new(asked)),
        Err(StepError::Reject(reject)) => {
            What::Dead { reason: reject.reason, letter: Box::new(dead_letter(record, &reject, dead, source)) }
        }
        Err(StepError::Wait(why)) => return Err(why),
        Err(StepError::Fault(fault)) => return Err(fault.to_string()),
    };
    let already = match (&what, input) {
        (What::Charge(asked), Input::Redo) => {
            let reject = Reject {
                reason: ALREADY_DECIDED,
                detail: format!("{} was decided before", asked.command.command_id),
                tenant: asked.command.tenant.clone(),
            };
            Some(Box::new(dead_letter(record, &reject, dead, source)))
        }
        _ => None,
    };
    Ok(Item { source, what, cause, traceparent: record.header(TRACEPARENT).map(<[u8]>::to_vec), already })
}

/// A dead letter for a record whose reading panicked (R9).
pub(crate) fn panicked(record: &Record, input: Input, dead: &Topic) -> Item {
    let reject =
        Reject { reason: "panicked", detail: "reading the record panicked twice".to_owned(), tenant: "-".to_owned() };
    let source = Source { input, offset: record.offset };
    let mut cause: Headers = vec![(CAUSE_HEADER.to_owned(), cause_of(record, 0).into_bytes())];
    if input == Input::Redo {
        cause.push((CAUSE_TOPIC_HEADER.to_owned(), record.topic.as_str().as_bytes().to_vec()));
    }
    let what = What::Dead { reason: reject.reason, letter: Box::new(dead_letter(record, &reject, dead, source)) };
    Item { source, what, cause, traceparent: None, already: None }
}

fn dead_letter(record: &Record, reject: &Reject, dead: &Topic, source: Source) -> RowDraft {
    let emit = DeadLetter { record, reject }.emit_to(dead);
    RowDraft {
        source,
        topic: emit.topic.as_str().to_owned(),
        target_partition: emit.partition,
        record_key: emit.key.map(|bytes| bytes.to_vec()),
        value: emit.value.map(|bytes| bytes.to_vec()),
        headers: emit.headers.into_iter().map(|(name, value)| (name, value.to_vec())).collect(),
    }
}

/// Checks the form of a command: one transfer, from the tenant's paying account to another account of the tenant.
fn asked(command: LedgerCommand) -> Result<Asked, Reject> {
    let refused = |detail: String| Reject { reason: "invalid_command", detail, tenant: command.tenant.clone() };
    if command.kind != COMMAND_KIND {
        return Err(refused(format!("the kind {} is not known", command.kind)));
    }
    let [transfer] = command.transfers.as_slice() else {
        return Err(refused(format!("a charge is one transfer, not {}", command.transfers.len())));
    };
    if transfer.debit_account != Account::main_of(&command.tenant).as_str() {
        return Err(refused(format!("a charge is not paid by {}", transfer.debit_account)));
    }
    let payee = transfer.credit_account.strip_prefix(&format!("{}:", command.tenant)).map(str::to_owned);
    let Some(payee) = payee.filter(|payee| Account::payee_of(&command.tenant, payee).is_ok()) else {
        return Err(refused(format!("{} is no account of the tenant", transfer.credit_account)));
    };
    if transfer.minor < 0 {
        return Err(refused("a charge is not negative".to_owned()));
    }
    let month = Timestamp::from_millis(command.at).map_err(|error| refused(error.to_string()))?.month().to_string();
    let (gross, currency) = (Minor::new(transfer.minor), transfer.currency.clone());
    let volume = VolumeKey { tenant: command.tenant.clone(), currency: currency.clone(), month };
    let content = content_hash(&command);
    Ok(Asked { command, content, payee, gross, currency, volume })
}

/// What makes two commands of one key the same: what they ask for and which fact they follow from, not under which
/// configuration they were written.
pub fn content_hash(command: &LedgerCommand) -> ContentHash {
    let mut hash = Sha256::new();
    hash.update(b"countersign/command/v1\0");
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for text in [&command.tenant, &command.idempotency_key, &command.kind, &command.decided_in] {
        part(text.as_bytes());
    }
    part(&command.at.to_be_bytes());
    match &command.exchange_id {
        Some(exchange_id) => part(exchange_id.as_bytes()),
        None => part(b""),
    }
    for transfer in &command.transfers {
        part(transfer.debit_account.as_bytes());
        part(transfer.credit_account.as_bytes());
        part(transfer.currency.as_bytes());
        part(&transfer.minor.to_be_bytes());
    }
    hash.finalize().into()
}

/// What the books must have loaded before these items are decided.
pub fn needs<'a>(items: impl IntoIterator<Item = &'a Item>) -> Needs {
    let mut needs = Needs::default();
    for item in items {
        let What::Charge(asked) = &item.what else { continue };
        needs.commands.insert(asked.key());
        let fees = Account::fees();
        let named = asked.command.transfers.iter().flat_map(|one| [&one.debit_account, &one.credit_account]);
        for account in named.map(String::as_str).chain([fees.as_str()]) {
            needs.accounts.insert(AccountKey { account: account.to_owned(), currency: asked.currency.clone() });
        }
        needs.volumes.insert(asked.volume.clone());
    }
    needs
}
