//! Where an exchange is and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::id::ExchangeId;
use log::{Log, Position};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use view::View;

use super::books::require_topics;
use super::{Trouble, model, print};

/// How long an answer waits for what was just written.
pub(crate) const FRESH_WAIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One topic that was looked through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Looked {
    pub(crate) topic: String,
    /// records taken in
    pub(crate) records: u64,
    /// records that the read model has not taken in yet
    pub(crate) behind: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WhyAnswer {
    pub(crate) exchange_id: String,
    /// `{tenant, exchange, entries}`
    pub(crate) found: Option<Value>,
    pub(crate) looked_at: Vec<Looked>,
}

/// Everything known about an exchange, once the read model has come to the ends of this moment or `fresh` is over.
pub(crate) async fn why(
    log: Arc<dyn Log>,
    view: &View,
    exchange_id: &str,
    fresh: Duration,
) -> Result<WhyAnswer, Trouble> {
    if ExchangeId::parse(exchange_id).is_err() {
        return Err(Trouble::bad_question(format!("`{exchange_id}` is no exchange id: it is {}", ExchangeId::RULE))
            .try_this("the answer to a request names it, and so does its Location header"));
    }
    let ends = tokio::task::spawn_blocking(move || {
        require_topics(log.as_ref())?;
        let mut ends = Vec::new();
        for topic in view::topics() {
            ends.extend(log.ends(&topic)?);
        }
        Ok::<_, Trouble>(ends)
    });
    let ends = ends.await.map_err(|error| Trouble::new("the look at the log was cut short").because(&error))??;
    let asked = Instant::now();
    let mut looked_at = looked(&ends, &view.positions());
    while looked_at.iter().any(|looked| looked.behind > 0) && asked.elapsed() < fresh {
        tokio::time::sleep(LOOK_EVERY).await;
        looked_at = looked(&ends, &view.positions());
    }
    let known = view.why(exchange_id).await.map_err(|error| model::trouble(&error))?;
    let found = known.map(serde_json::to_value).transpose();
    let found = found.map_err(|error| Trouble::new("what was found cannot be written").because(&error))?;
    Ok(WhyAnswer { exchange_id: exchange_id.to_owned(), found, looked_at })
}

fn looked(ends: &[Position], at: &[Position]) -> Vec<Looked> {
    let mut topics: Vec<Looked> = Vec::new();
    for end in ends {
        let same = |position: &&Position| position.topic == end.topic && position.partition == end.partition;
        let offset = at.iter().find(same).map_or(0, |position| position.offset);
        let (records, behind) = (offset.min(end.offset), end.offset.saturating_sub(offset));
        match topics.iter_mut().find(|looked| looked.topic == end.topic.as_str()) {
            Some(looked) => {
                looked.records += records;
                looked.behind += behind;
            }
            None => topics.push(Looked { topic: end.topic.to_string(), records, behind }),
        }
    }
    topics
}

impl WhyAnswer {
    fn behind(&self) -> u64 {
        self.looked_at.iter().map(|looked| looked.behind).sum()
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let mut text = match &self.found {
            Some(found) => told_found(found),
            None => self.told_nothing(),
        };
        if self.behind() > 0 {
            text.push_str(&format!(
                "\nThe read model is {} records behind: what is newer is not shown.\n",
                self.behind()
            ));
        }
        text
    }

    fn told_nothing(&self) -> String {
        let mut rows = vec![print::row(["looked at", "records", "not yet read"])];
        for looked in &self.looked_at {
            rows.push(print::row([&looked.topic, &looked.records.to_string(), &looked.behind.to_string()]));
        }
        format!("{} is nowhere: no record names it.\n\n{}", self.exchange_id, print::table(&rows))
    }
}

/// A member of a JSON object as text; strings without their quotes.
fn member(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn told_found(found: &Value) -> String {
    let of = |path: &str| member(found, path);
    let mut text = format!(
        "exchange  {}\nstatus    {}\ntenant    {}\ntrace     {}\nadmitted  {}\n\n",
        of("/exchange/exchange_id"),
        of("/exchange/status"),
        of("/tenant"),
        of("/exchange/trace_id"),
        of("/exchange/at"),
    );
    let mut rows = vec![print::row(["time", "topic", "partition", "offset", "cause", "what it says"])];
    for hop in list(found, "/exchange/positions") {
        let cells = ["/at", "/topic", "/partition", "/offset", "/cause", "/note"];
        rows.push(cells.iter().map(|path| member(hop, path)).collect());
    }
    text.push_str(&print::table(&rows));
    text.push('\n');
    text.push_str(&told_outcome(found));
    text
}

fn told_outcome(found: &Value) -> String {
    let of = |path: &str| member(found, path);
    let is = |path: &str| found.pointer(path).is_some_and(|value| !value.is_null());
    let mut text = String::new();
    if is("/exchange/receipt") {
        let (hash, hop, chain) =
            (of("/exchange/receipt/receipt_hash"), of("/exchange/receipt/hop"), of("/exchange/receipt/chain"));
        text.push_str(&format!("receipt   {hash}, hop {hop} of chain {chain}\n"));
    }
    if is("/exchange/refusal") {
        let (status, code, detail) =
            (of("/exchange/refusal/status"), of("/exchange/refusal/code"), of("/exchange/refusal/detail"));
        text.push_str(&format!("refusal   {status} {code}: {detail}\n"));
    }
    if is("/exchange/usage") {
        let (vex, fu, month) = (of("/exchange/usage/vex"), of("/exchange/usage/fu"), of("/exchange/usage/month"));
        text.push_str(&format!("usage     {vex} exchange, {fu} units, {month}\n"));
    }
    if is("/exchange/settlement") {
        let (state, command) = (of("/exchange/settlement/state"), of("/exchange/settlement/command_id"));
        text.push_str(&format!("payment   {state} ({command})\n"));
    }
    for entry in list(found, "/entries") {
        let of = |path: &str| member(entry, path);
        let amount = format!("{} {}", of("/amount/minor"), of("/amount/currency"));
        text.push_str(&format!("posting   {amount} from {} to {}\n", of("/debit_account"), of("/credit_account")));
    }
    for delivery in list(found, "/exchange/deliveries") {
        let of = |path: &str| member(delivery, path);
        let outcome = if of("/delivered") == "true" { "delivered" } else { "given up" };
        let attempts = list(delivery, "/attempts").len();
        text.push_str(&format!("delivery  {outcome} to {} after {attempts} attempts\n", of("/host")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Topic;
    use serde_json::json;

    fn at(topic: &str, partition: u32, offset: u64) -> Position {
        Position { topic: Topic::new(topic), partition, offset }
    }

    #[test]
    fn what_was_looked_at_is_counted_by_topic() {
        let ends = [at("a", 0, 5), at("a", 1, 3), at("b", 0, 2)];
        let looked = looked(&ends, &[at("a", 0, 4), at("b", 0, 9)]);
        let of = |topic: &str, records, behind| Looked { topic: topic.into(), records, behind };
        assert_eq!(looked, [of("a", 4, 4), of("b", 2, 0)]);
    }

    #[test]
    fn an_exchange_is_told_with_its_hops_and_its_money() {
        let found = json!({
            "tenant": "acme",
            "exchange": {
                "exchange_id": "x", "trace_id": "t", "status": "sealed", "at": "2026-01-01T00:00:00.000Z",
                "receipt": {"receipt_hash": "sha256:00", "hop": 1, "chain": "x"}, "refusal": null,
                "usage": {"vex": 1, "fu": 3, "month": "2026-01"},
                "settlement": {"state": "posted", "command_id": "c"},
                "deliveries": [{"delivered": true, "host": "h", "attempts": [{}, {}]}],
                "positions": [{"topic": "exchange.sealed.v1", "partition": 2, "offset": 7, "at": "then", "cause": "2:6:0", "note": "sealed"}],
            },
            "entries": [{"debit_account": "acme:main", "credit_account": "acme:p", "amount": {"currency": "USD", "minor": "1250"}}],
        });
        let told = WhyAnswer { exchange_id: "x".into(), found: Some(found), looked_at: Vec::new() }.told();
        for part in [
            "exchange.sealed.v1  2          7",
            "hop 1 of chain x",
            "1 exchange, 3 units",
            "posting   1250 USD from acme:main to acme:p",
            "delivered to h after 2 attempts",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }
}
