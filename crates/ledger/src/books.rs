//! The part of the books that a batch may touch, in memory: decisions are made on it in pure code.

use std::collections::{BTreeMap, BTreeSet};

use billing::{Minor, Transfer, debits_equal_credits};

use crate::outbox::{OutboxRow, RowDraft, RowHash, row_hash};

/// SHA-256 over what a command asks for: the same key with the same content is the same command.
pub type ContentHash = [u8; 32];

/// Commands are told apart by the tenant's key, for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandKey {
    pub tenant: String,
    pub idempotency_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    pub account: String,
    pub currency: String,
}

/// The gross of a tenant in a currency and calendar month (UTC, `YYYY-MM`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeKey {
    pub tenant: String,
    pub currency: String,
    pub month: String,
}

/// What a batch will look at: loaded before it is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub commands: BTreeSet<CommandKey>,
    pub accounts: BTreeSet<AccountKey>,
    pub volumes: BTreeSet<VolumeKey>,
}

impl Needs {
    /// These and those.
    pub fn extend(&mut self, other: Self) {
        self.commands.extend(other.commands);
        self.accounts.extend(other.accounts);
        self.volumes.extend(other.volumes);
    }
}

/// Both sides of an account, as moved by one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    pub debits: Minor,
    pub credits: Minor,
}

impl Sides {
    const EMPTY: Self = Self { debits: Minor::ZERO, credits: Minor::ZERO };
}

/// Money that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    pub command_id: String,
    pub exchange_id: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    pub transfers: Vec<Transfer>,
    /// What the transfers must add up to (LED-1).
    pub gross: Minor,
    /// Whose volume grows by the gross.
    pub volume: VolumeKey,
}

/// What is owed and waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub command_id: String,
    pub tenant: String,
    pub exchange_id: Option<String>,
    pub at: i64,
    /// Stable code.
    pub reason: String,
    pub detail: String,
}

/// Why a posting was not taken; the books are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// An account or a volume would no longer fit 64 bits.
    #[error("an account would no longer fit 64 bits")]
    BalanceOverflow,
    /// LED-1 does not hold: a defect of ours, and no money moves on a defect.
    #[error("LED-1: debits do not equal credits")]
    Unbalanced,
}

/// A posting with the place that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostedEntry {
    pub(crate) sequence: u64,
    pub(crate) part: u32,
    pub(crate) exchange_id: Option<String>,
    pub(crate) command_id: String,
    pub(crate) at: i64,
    pub(crate) transfer: Transfer,
}

/// The books of one partition while a batch is decided.
#[derive(Debug)]
pub struct Books {
    partition: u32,
    next_sequence: u64,
    head: RowHash,
    pub(crate) known: BTreeMap<CommandKey, ContentHash>,
    pub(crate) balances: BTreeMap<AccountKey, Sides>,
    pub(crate) volumes: BTreeMap<VolumeKey, Minor>,
    pub(crate) decided: Vec<(CommandKey, ContentHash)>,
    pub(crate) entries: Vec<PostedEntry>,
    pub(crate) parked: Vec<(u64, Parked)>,
    pub(crate) rows: Vec<OutboxRow>,
    pub(crate) touched_accounts: BTreeSet<AccountKey>,
    pub(crate) touched_volumes: BTreeSet<VolumeKey>,
}

impl Books {
    /// Empty books that go on after the row with this hash; `next_sequence` counts from 1.
    pub fn new(partition: u32, next_sequence: u64, head: RowHash) -> Self {
        Self {
            partition,
            next_sequence,
            head,
            known: BTreeMap::new(),
            balances: BTreeMap::new(),
            volumes: BTreeMap::new(),
            decided: Vec::new(),
            entries: Vec::new(),
            parked: Vec::new(),
            rows: Vec::new(),
            touched_accounts: BTreeSet::new(),
            touched_volumes: BTreeSet::new(),
        }
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The sequence that the next published row gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The hash of the last row published.
    pub fn head(&self) -> RowHash {
        self.head
    }

    /// The rows of this batch so far.
    pub fn rows(&self) -> &[OutboxRow] {
        &self.rows
    }

    /// What a command key was first used for, if it was.
    pub fn content_of(&self, key: &CommandKey) -> Option<ContentHash> {
        self.known.get(key).copied()
    }

    /// From now on this key is used up.
    pub fn remember(&mut self, key: CommandKey, content: ContentHash) {
        if self.known.insert(key.clone(), content).is_none() {
            self.decided.push((key, content));
        }
    }

    /// Gross so far.
    pub fn volume(&self, key: &VolumeKey) -> Minor {
        self.volumes.get(key).copied().unwrap_or(Minor::ZERO)
    }

    /// Both sides of an account, as far as this partition has moved it.
    pub fn sides(&self, key: &AccountKey) -> Sides {
        self.balances.get(key).copied().unwrap_or(Sides::EMPTY)
    }

    /// Posts all of it or nothing. The row that tells of it must be published next: it carries the same sequence.
    ///
    /// # Errors
    /// `BalanceOverflow` where the posting belongs parked, `Unbalanced` where LED-1 does not hold.
    pub fn post(&mut self, posting: &Posting) -> Result<(), PostError> {
        if debits_equal_credits(&posting.transfers, posting.gross) != Ok(true) {
            return Err(PostError::Unbalanced);
        }
        let mut moved: BTreeMap<AccountKey, Sides> = BTreeMap::new();
        for transfer in &posting.transfers {
            for (account, is_debit) in [(&transfer.debit_account, true), (&transfer.credit_account, false)] {
                let key = AccountKey { account: account.clone(), currency: transfer.currency.clone() };
                let before = moved.get(&key).copied().unwrap_or_else(|| self.sides(&key));
                let side = if is_debit { before.debits } else { before.credits };
                let side = side.plus(transfer.amount).map_err(|_| PostError::BalanceOverflow)?;
                let after = if is_debit { Sides { debits: side, ..before } } else { Sides { credits: side, ..before } };
                moved.insert(key, after);
            }
        }
        let volume = self.volume(&posting.volume).plus(posting.gross).map_err(|_| PostError::BalanceOverflow)?;

        self.touched_accounts.extend(moved.keys().cloned());
        self.balances.extend(moved);
        self.touched_volumes.insert(posting.volume.clone());
        self.volumes.insert(posting.volume.clone(), volume);
        let sequence = self.next_sequence;
        self.entries.extend((0..).zip(&posting.transfers).map(|(part, transfer)| PostedEntry {
            sequence,
            part,
            exchange_id: posting.exchange_id.clone(),
            command_id: posting.command_id.clone(),
            at: posting.at,
            transfer: transfer.clone(),
        }));
        Ok(())
    }

    /// Sets aside. The row that tells of it must be published next: it carries the same sequence.
    pub fn park(&mut self, parked: Parked) {
        self.parked.push((self.next_sequence, parked));
    }

    /// Puts a record into the outbox and answers its sequence.
    pub fn publish(&mut self, draft: RowDraft) -> u64 {
        let sequence = self.next_sequence;
        self.head = row_hash(&self.head, sequence, &draft);
        self.rows.push(OutboxRow { sequence, draft, row_hash: self.head });
        self.next_sequence += 1;
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{GENESIS, Input, Source};

    fn volume() -> VolumeKey {
        VolumeKey { tenant: "acme".into(), currency: "USD".into(), month: "2026-11".into() }
    }

    fn posting(units: i64) -> Posting {
        let transfer = Transfer {
            debit_account: "acme:main".into(),
            credit_account: "acme:agent-7".into(),
            currency: "USD".into(),
            amount: Minor::new(units),
        };
        Posting {
            command_id: "c-1".into(),
            exchange_id: None,
            at: 0,
            transfers: vec![transfer],
            gross: Minor::new(units),
            volume: volume(),
        }
    }

    fn account(name: &str) -> AccountKey {
        AccountKey { account: name.into(), currency: "USD".into() }
    }

    #[test]
    fn a_posting_moves_both_sides_and_the_volume() {
        let mut books = Books::new(0, 1, GENESIS);
        books.post(&posting(7)).unwrap();
        books.post(&posting(5)).unwrap();
        assert_eq!(books.sides(&account("acme:main")).debits, Minor::new(12));
        assert_eq!(books.sides(&account("acme:agent-7")).credits, Minor::new(12));
        assert_eq!(books.volume(&volume()), Minor::new(12));
    }

    #[test]
    fn an_overflow_leaves_the_books_as_they_were() {
        let mut books = Books::new(0, 1, GENESIS);
        books.post(&posting(i64::MAX)).unwrap();
        assert_eq!(books.post(&posting(1)), Err(PostError::BalanceOverflow));
        assert_eq!(books.sides(&account("acme:main")).debits, Minor::new(i64::MAX));
        assert_eq!(books.entries.len(), 1);
    }

    #[test]
    fn what_breaks_led_1_is_not_posted() {
        let mut books = Books::new(0, 1, GENESIS);
        let mut lossy = posting(7);
        lossy.gross = Minor::new(8);
        assert_eq!(books.post(&lossy), Err(PostError::Unbalanced));
        assert!(books.entries.is_empty() && books.touched_accounts.is_empty());
    }

    #[test]
    fn rows_are_gapless_and_chained() {
        let mut books = Books::new(3, 9, [1; 32]);
        let draft = RowDraft {
            source: Source { input: Input::Command, offset: 0 },
            topic: "t".into(),
            target_partition: None,
            record_key: None,
            value: None,
            headers: vec![],
        };
        assert_eq!(books.publish(draft.clone()), 9);
        assert_eq!(books.publish(draft.clone()), 10);
        assert_eq!(books.rows()[0].row_hash, row_hash(&[1; 32], 9, &draft));
        assert_eq!(books.head(), row_hash(&books.rows()[0].row_hash, 10, &draft));
    }

    #[test]
    fn a_key_keeps_its_first_content() {
        let mut books = Books::new(0, 1, GENESIS);
        let key = CommandKey { tenant: "acme".into(), idempotency_key: "k".into() };
        assert_eq!(books.content_of(&key), None);
        books.remember(key.clone(), [1; 32]);
        assert_eq!(books.content_of(&key), Some([1; 32]));
        assert_eq!(books.decided.len(), 1);
    }
}
