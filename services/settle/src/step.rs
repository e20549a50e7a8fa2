//! The decisions: what the books answer to what records ask for. Pure.

use std::error::Error;

use billing::{Account, Charge, Minor, PostingError, Tariffs, exchange_charge};
use event::envelope::public_headers;
use event::topic::{SETTLEMENT_PARKED, SETTLEMENT_POSTED};
use event::wire::{SettlementParked, SettlementPosted, Transfer, Wire};
use ledger::{Books, Parked, PostError, Posting, RowDraft};

use crate::command::{Asked, Item, What};
use crate::published::SEQUENCE_HEADER;

/// Any failure of deciding: a defect, never a refusal.
pub(crate) type Defect = Box<dyn Error + Send + Sync>;

/// Decides items in order: each is posted, parked, already done (a letter, if it was redone), or a dead letter.
///
/// # Errors
/// A defect of ours only (LED-1, a value that cannot be written): nothing of the batch may stand.
pub fn decide(items: &[Item], tariffs: &Tariffs, books: &mut Books) -> Result<(), Defect> {
    items.iter().try_for_each(|item| match &item.what {
        What::Dead { letter, .. } => {
            publish_letter(item, letter, books);
            Ok(())
        }
        What::Charge(asked) => charge(item, asked, tariffs, books),
    })
}

fn publish_letter(item: &Item, letter: &RowDraft, books: &mut Books) {
    let mut letter = letter.clone();
    let sequence = format!("{}:{}", books.partition(), books.next_sequence());
    letter.headers.extend(item.cause.iter().cloned());
    letter.headers.push((SEQUENCE_HEADER.to_owned(), sequence.into_bytes()));
    books.publish(letter);
}

fn charge(item: &Item, asked: &Asked, tariffs: &Tariffs, books: &mut Books) -> Result<(), Defect> {
    match books.content_of(&asked.key()) {
        Some(content) if content == asked.content => {
            if let Some(letter) = &item.already {
                publish_letter(item, letter, books);
            }
            return Ok(());
        }
        Some(_) => {
            let detail = format!("the key {} was used for another command", asked.command.idempotency_key);
            return park(item, asked, ("command_key_reused", detail), books);
        }
        None => books.remember(asked.key(), asked.content),
    }
    let Some((schedule, version)) = tariffs.at(&asked.currency, asked.command.at) else {
        return park(item, asked, ("no_tariff", format!("there is no schedule for {}", asked.currency)), books);
    };
    let volume = i128::from(books.volume(&asked.volume).units());
    let priced = Charge { tenant: &asked.command.tenant, payee: &asked.payee, gross: asked.gross, volume };
    let transfers = match exchange_charge(schedule, priced) {
        Ok(transfers) => transfers,
        Err(error @ PostingError::Fee(_)) => return park(item, asked, ("no_fee", error.to_string()), books),
        Err(error) => return Err(error.into()),
    };
    let posting = Posting {
        command_id: asked.command.command_id.clone(),
        exchange_id: asked.command.exchange_id.clone(),
        at: asked.command.at,
        transfers,
        gross: asked.gross,
        volume: asked.volume.clone(),
    };
    match books.post(&posting) {
        Ok(()) => publish_posted(item, asked, (&posting, version), books),
        Err(error @ PostError::BalanceOverflow) => park(item, asked, ("balance_overflow", error.to_string()), books),
        Err(error @ PostError::Unbalanced) => Err(error.into()),
    }
}

fn publish_posted(
    item: &Item,
    asked: &Asked,
    (posting, tariff_version): (&Posting, &str),
    books: &mut Books,
) -> Result<(), Defect> {
    let fees = Account::fees();
    let of_fees = posting.transfers.iter().filter(|transfer| transfer.credit_account == fees.as_str());
    let fee = of_fees.map(|transfer| transfer.amount).try_fold(Minor::ZERO, Minor::plus)?;
    let posted = SettlementPosted {
        command_id: asked.command.command_id.clone(),
        tenant: asked.command.tenant.clone(),
        exchange_id: asked.command.exchange_id.clone(),
        kind: asked.command.kind.clone(),
        at: asked.command.at,
        transfers: posting.transfers.iter().map(to_wire).collect(),
        fee_minor: fee.units(),
        tariff_version: tariff_version.to_owned(),
        sequence: i64::try_from(books.next_sequence())?,
        ledger_partition: i32::try_from(books.partition())?,
    };
    publish(item, asked, (SETTLEMENT_POSTED, posted.encode()?), books);
    Ok(())
}

fn park(item: &Item, asked: &Asked, (reason, detail): (&str, String), books: &mut Books) -> Result<(), Defect> {
    let command = &asked.command;
    let parked = SettlementParked {
        command_id: command.command_id.clone(),
        tenant: command.tenant.clone(),
        exchange_id: command.exchange_id.clone(),
        kind: command.kind.clone(),
        at: command.at,
        reason: reason.to_owned(),
        detail,
        transfers: command.transfers.clone(),
        sequence: i64::try_from(books.next_sequence())?,
        ledger_partition: i32::try_from(books.partition())?,
    };
    let value = parked.encode()?;
    books.park(parked_of(parked));
    publish(item, asked, (SETTLEMENT_PARKED, value), books);
    Ok(())
}

fn publish(item: &Item, asked: &Asked, (topic, value): (&str, Vec<u8>), books: &mut Books) {
    let command = &asked.command;
    let subject = command.exchange_id.as_ref().unwrap_or(&command.command_id);
    let public = public_headers(topic, &command.tenant, subject, item.traceparent.as_deref());
    let mut headers = item.cause.clone();
    headers.extend(public.into_iter().map(|(name, value)| (name, value.to_vec())));
    books.publish(RowDraft {
        source: item.source,
        topic: topic.to_owned(),
        target_partition: None,
        record_key: Some(command.tenant.clone().into_bytes()),
        value: Some(value),
        headers,
    });
}

pub(crate) fn parked_of(parked: SettlementParked) -> Parked {
    Parked {
        command_id: parked.command_id,
        tenant: parked.tenant,
        exchange_id: parked.exchange_id,
        at: parked.at,
        reason: parked.reason,
        detail: parked.detail,
    }
}

fn to_wire(transfer: &billing::Transfer) -> Transfer {
    Transfer {
        debit_account: transfer.debit_account.clone(),
        credit_account: transfer.credit_account.clone(),
        currency: transfer.currency.clone(),
        minor: transfer.amount.units(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{COMMAND_KIND, content_hash, parse};
    use event::topic::LEDGER_COMMAND;
    use event::wire::LedgerCommand;
    use ledger::{GENESIS, Input};
    use log::Topic;
    use stage::testing::record;

    const OCTOBER_ENDS: i64 = 1_793_491_199_999;

    fn command(number: u64, minor: i64) -> LedgerCommand {
        LedgerCommand {
            command_id: format!("exchange_charge:ex_{number}"),
            tenant: "acme".into(),
            idempotency_key: format!("ex_{number}"),
            kind: COMMAND_KIND.into(),
            decided_in: format!("exchange.sealed.v1:0:{number}"),
            at: OCTOBER_ENDS,
            transfers: vec![Transfer {
                debit_account: "acme:main".into(),
                credit_account: "acme:agent-7".into(),
                currency: "USD".into(),
                minor,
            }],
            exchange_id: Some(format!("ex_{number}")),
            tariff_version: "t".into(),
            config_version: 1,
        }
    }

    fn items(commands: &[LedgerCommand]) -> Vec<Item> {
        let dead = Topic::new("settle.dead.v1");
        let of = |(offset, command): (u64, &LedgerCommand)| {
            let read = record(LEDGER_COMMAND, 0, offset, 0, "acme:main", command.encode().unwrap());
            parse(&read, Input::Command, &dead).unwrap()
        };
        (0..).zip(commands).map(of).collect()
    }

    fn decided(commands: &[LedgerCommand]) -> Books {
        let mut books = Books::new(0, 1, GENESIS);
        decide(&items(commands), &Tariffs::builtin(), &mut books).unwrap();
        books
    }

    fn posted(books: &Books, row: usize) -> SettlementPosted {
        SettlementPosted::decode(books.rows()[row].draft.value.as_deref().unwrap()).unwrap()
    }

    fn parked(books: &Books, row: usize) -> SettlementParked {
        SettlementParked::decode(books.rows()[row].draft.value.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn the_volume_before_an_exchange_sets_its_discount() {
        let books = decided(&[command(1, 99_999), command(2, 1), command(3, 10_000)]);
        // 308 without a discount, 293 from a volume of 1,000.00 on.
        assert_eq!(posted(&books, 2).fee_minor, 293);
        assert_eq!(posted(&decided(&[command(1, 99_999), command(3, 10_000)]), 1).fee_minor, 308);
    }

    #[test]
    fn a_month_begins_with_no_volume() {
        let mut later = command(2, 10_000);
        later.at = OCTOBER_ENDS + 1;
        assert_eq!(posted(&decided(&[command(1, 500_000), later]), 1).fee_minor, 308);
    }

    #[test]
    fn what_is_parked_adds_no_volume() {
        let mut foreign = command(1, 500_000);
        foreign.transfers[0].currency = "EUR".into();
        let books = decided(&[foreign, command(2, 10_000)]);
        assert_eq!(parked(&books, 0).reason, "no_tariff");
        assert_eq!(posted(&books, 1).fee_minor, 308);
    }

    #[test]
    fn a_repetition_inside_a_batch_has_no_effect() {
        let books = decided(&[command(1, 500), command(1, 500), command(2, 500)]);
        assert_eq!(books.rows().len(), 2);
        assert_eq!((posted(&books, 1).sequence, posted(&books, 1).command_id.as_str()), (2, "exchange_charge:ex_2"));
    }

    #[test]
    fn the_same_command_under_another_configuration_is_the_same() {
        let first = command(1, 500);
        let again = LedgerCommand { config_version: 2, tariff_version: "u".into(), ..first.clone() };
        assert_eq!(content_hash(&first), content_hash(&again));
        let mut others = vec![first.clone(); 5];
        others[0].decided_in = "exchange.sealed.v1:0:2".into();
        others[1].at += 1;
        others[2].exchange_id = None;
        others[3].transfers[0].minor = 501;
        others[4].transfers[0].credit_account = "acme:agent-8".into();
        for other in others {
            assert_ne!(content_hash(&first), content_hash(&other), "{other:?}");
        }
    }

    #[test]
    fn an_exchange_sealed_again_after_the_window_is_parked_and_not_paid() {
        let mut again = command(1, 500);
        again.decided_in = "exchange.sealed.v1:0:900".into();
        again.at += 36 * 86_400_000;
        let books = decided(&[command(1, 500), again]);
        assert_eq!(parked(&books, 1).reason, "command_key_reused");
    }

    #[test]
    fn a_command_of_a_wrong_form_is_a_dead_letter() {
        let changes: [fn(&mut LedgerCommand); 8] = [
            |command| command.kind = "gift".into(),
            |command| command.transfers.clear(),
            |command| command.transfers.push(command.transfers[0].clone()),
            |command| command.transfers[0].debit_account = "bolt:main".into(),
            |command| command.transfers[0].credit_account = "bolt:agent-7".into(),
            |command| command.transfers[0].credit_account = "acme:".into(),
            |command| command.transfers[0].minor = -1,
            |command| command.at = i64::MAX,
        ];
        for change in changes {
            let mut wrong = command(1, 500);
            change(&mut wrong);
            let items = items(&[wrong]);
            assert!(matches!(&items[0].what, What::Dead { reason: "invalid_command", .. }), "{items:?}");
        }
    }

    #[test]
    fn a_later_schema_waits_on_the_command_topic_and_is_a_dead_letter_on_redo() {
        let dead = Topic::new("settle.dead.v1");
        let later = record(LEDGER_COMMAND, 0, 0, 0, "acme:main", vec![0, 0, 0, 0, 99]);
        assert!(parse(&later, Input::Command, &dead).is_err());
        let item = parse(&later, Input::Redo, &dead).unwrap();
        assert!(matches!(item.what, What::Dead { reason: "unknown_schema", .. }));
    }

    #[test]
    fn a_dead_letter_that_is_redone_twice_moves_money_once_and_says_so() {
        let dead = Topic::new("settle.dead.v1");
        let redo = |offset| {
            let read = record("settle.redo.v1", 0, offset, 0, "acme:main", command(1, 500).encode().unwrap());
            parse(&read, Input::Redo, &dead).unwrap()
        };
        let mut books = Books::new(0, 1, GENESIS);
        decide(&[redo(0), redo(1)], &Tariffs::builtin(), &mut books).unwrap();
        assert_eq!(books.rows().len(), 2);
        assert_eq!(posted(&books, 0).command_id, "exchange_charge:ex_1");
        let letter = &books.rows()[1].draft;
        let header =
            |name: &str| letter.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        assert_eq!(letter.topic, "settle.dead.v1");
        assert_eq!(header("reason").as_deref(), Some(b"already_decided".as_ref()));
        assert_eq!(header("source").as_deref(), Some(b"settle.redo.v1:0:1".as_ref()));
    }

    #[test]
    fn the_same_input_gives_the_same_rows() {
        let commands = [command(1, 500), command(2, 70_000), command(1, 3)];
        assert_eq!(decided(&commands).head(), decided(&commands).head());
    }
}
