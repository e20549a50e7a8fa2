//! The bodies of the answers (docs/contracts/http.md): times in RFC 3339, money as `{"currency","minor"}` with the
//! integer as a string.

use event::time::Timestamp;
use event::wire::Transfer;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::read::Hop;

/// A time as the contract writes it.
pub(crate) fn time(millis: i64) -> String {
    Timestamp::from_millis(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

pub(crate) fn transfers(transfers: &[Transfer]) -> Vec<Value> {
    transfers
        .iter()
        .map(|transfer| {
            json!({
                "debit_account": transfer.debit_account, "credit_account": transfer.credit_account,
                "amount": {"currency": transfer.currency, "minor": transfer.minor.to_string()},
            })
        })
        .collect()
}

/// An amount; negative where an account owes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MoneyView {
    /// ISO 4217
    #[schema(example = "USD")]
    pub currency: String,
    /// minor units, an integer as a string
    #[schema(example = "1250")]
    pub minor: String,
}

impl MoneyView {
    pub(crate) fn new(currency: &str, minor: i128) -> Self {
        Self { currency: currency.to_owned(), minor: minor.to_string() }
    }
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Durable, not decided yet.
    Accepted,
    /// Countersigned: the receipt is there.
    Sealed,
    /// Refused for good; a replay gets the same refusal.
    Refused,
    /// Among the dead letters, until an operator replays it.
    Dead,
}

impl Status {
    pub(crate) const ALL: [(Self, &'static str, i64); 4] = [
        (Self::Accepted, "accepted", crate::rows::ACCEPTED),
        (Self::Dead, "dead", crate::rows::DEAD),
        (Self::Refused, "refused", crate::rows::REFUSED),
        (Self::Sealed, "sealed", crate::rows::SEALED),
    ];

    pub(crate) fn of_standing(standing: i64) -> Self {
        Self::ALL.iter().find(|(_, _, known)| *known == standing).map_or(Self::Accepted, |(status, _, _)| *status)
    }

    /// What the command line prints.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _, _)| *known == self).map_or("accepted", |(_, name, _)| name)
    }
}

/// Everything known about one exchange.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ExchangeView {
    pub exchange_id: String,
    pub trace_id: String,
    pub status: Status,
    /// when it was admitted; while it is not decided, when the request came
    pub at: String,
    /// the receipt (docs/contracts/receipt.md section 3), once sealed
    #[schema(value_type = Option<Object>)]
    pub receipt: Option<Value>,
    /// `{status, code, detail, errors, decided_by}`, once refused
    #[schema(value_type = Option<Object>)]
    pub refusal: Option<Value>,
    /// `{vex, fu, month}`, once metered
    #[schema(value_type = Option<Object>)]
    pub usage: Option<Value>,
    /// outcomes of deliveries with their attempts
    #[schema(value_type = Vec<Object>)]
    pub deliveries: Vec<Value>,
    /// `{command_id, state: owed|parked|posted, ...}`, for a priced exchange
    #[schema(value_type = Option<Object>)]
    pub settlement: Option<Value>,
    /// where its records lie, in the order of their times
    pub positions: Vec<Hop>,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExchangeLine {
    pub exchange_id: String,
    pub trace_id: String,
    pub status: Status,
    pub at: String,
}

/// A page of exchanges, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExchangesView {
    pub exchanges: Vec<ExchangeLine>,
}

/// A page of a trace's receipts, in the order they were sealed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ReceiptsView {
    pub trace_id: String,
    #[schema(value_type = Vec<Object>)]
    pub receipts: Vec<Value>,
}

/// One meter of one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MeterView {
    /// vex or fu
    pub meter: String,
    pub total: i64,
    /// exchanges counted
    pub exchanges: i64,
    /// latest admission counted; null where there is none
    pub as_of: Option<String>,
}

/// Usage of one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsageView {
    #[schema(example = "2026-11")]
    pub month: String,
    pub meters: Vec<MeterView>,
}

/// One currency of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BalanceView {
    /// credits less debits, as posted
    pub posted: MoneyView,
    /// credits less debits of what is owed and not decided yet
    pub pending: MoneyView,
    /// posted less the debits among the pending
    pub available: MoneyView,
    /// credits less debits of what waits for somebody's decision
    pub parked: MoneyView,
}

/// An account with all its currencies, from one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountView {
    pub account: String,
    pub balances: Vec<BalanceView>,
}

/// A page of a tenant's accounts, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountsView {
    pub accounts: Vec<AccountView>,
}

/// The balance of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountBalance {
    pub account: String,
    /// what was booked for exchanges admitted up to then; null: everything
    pub at: Option<String>,
    pub balances: Vec<BalanceView>,
}

/// One posted transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EntryView {
    pub exchange_id: Option<String>,
    pub command_id: String,
    pub kind: String,
    /// admission of the exchange
    pub at: String,
    pub debit_account: String,
    pub credit_account: String,
    pub amount: MoneyView,
    pub ledger_partition: i64,
    /// gapless within the ledger partition
    pub sequence: i64,
    /// which of the posting's transfers this is, from 0
    pub line: i64,
}

/// A page of posted transfers, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EntriesView {
    pub entries: Vec<EntryView>,
}
