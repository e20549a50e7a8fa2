//! Every topic by name: the one place that says what exists, how it is divided and how long it is kept.

/// Requests as they came, from ingest and from producers of the tenants' own.
pub const REQUESTED: &str = "exchange.requested.v1";
/// Admissions and replays, on their way to the chain.
pub const ADMITTED: &str = "exchange.admitted.v1";
/// Refusals after acceptance, kept like receipts.
pub const REJECTED: &str = "exchange.rejected.v1";
/// Countersigned exchanges.
pub const SEALED: &str = "exchange.sealed.v1";
/// Answers to waiting HTTP requests; one partition for each ingest slot.
pub const ANSWER: &str = "exchange.answer.v1";
/// Outcomes of deliveries.
pub const DELIVERED: &str = "exchange.delivered.v1";
/// Usage of each exchange.
pub const USAGE_RECORDED: &str = "usage.recorded.v1";
/// Usage so far by tenant, meter and month.
pub const USAGE_TOTAL: &str = "usage.total.v1";
/// What is owed.
pub const LEDGER_COMMAND: &str = "ledger.command.v1";
/// Money that moved.
pub const SETTLEMENT_POSTED: &str = "settlement.posted.v1";
/// What is owed and waits for a decision.
pub const SETTLEMENT_PARKED: &str = "settlement.parked.v1";
/// The books by tenant and hour.
pub const AUDIT_CHECKPOINT: &str = "audit.checkpoint.v1";
/// Public keys.
pub const SIGNING_KEY: &str = "signing_key.v1";
/// Tenants, API keys (hashed), producers.
pub const TENANT_CONFIG: &str = "tenant.config.v1";
/// Changelog of the relay: how far each outbox partition is published.
pub const RELAY_POSITION: &str = "relay.position.v1";

/// The topics that tell what became of every request, in the order of the flow: what audit counts and view shows. Dead
/// letters tell the rest, and the redo topics how they came back.
pub const STORY: &[&str] = &[
    REQUESTED,
    ADMITTED,
    REJECTED,
    SEALED,
    DELIVERED,
    USAGE_RECORDED,
    USAGE_TOTAL,
    LEDGER_COMMAND,
    SETTLEMENT_POSTED,
    SETTLEMENT_PARKED,
];

/// The steps that read with a group, each with its input. The step is also the consumer group.
pub const STEPS: &[Step] = &[
    Step { name: "canonicalise", input: REQUESTED, state: Some("canonicalise.state.v1") },
    Step { name: "sign", input: ADMITTED, state: Some("sign.state.v1") },
    Step { name: "meter", input: SEALED, state: Some("meter.state.v1") },
    Step { name: "meter.tally", input: USAGE_RECORDED, state: Some("meter.tally.state.v1") },
    Step { name: "settle", input: LEDGER_COMMAND, state: Some(RELAY_POSITION) },
    Step { name: "forward", input: SEALED, state: Some("forward.state.v1") },
];

/// A step, what it reads and where its state is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    pub input: &'static str,
    pub state: Option<&'static str>,
}

impl Step {
    /// Records that can never succeed (R9).
    pub fn dead_topic(&self) -> String {
        format!("{}.dead.v1", self.name)
    }

    /// Dead letters on their way back; only this step reads it.
    pub fn redo_topic(&self) -> String {
        format!("{}.redo.v1", self.name)
    }
}

/// The step of that name.
pub fn step(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

/// The dead-letter topic of every step.
pub fn dead_topics() -> impl Iterator<Item = String> {
    STEPS.iter().map(Step::dead_topic)
}

/// The redo topic of every step.
pub fn redo_topics() -> impl Iterator<Item = String> {
    STEPS.iter().map(Step::redo_topic)
}

/// How long records stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The receipts themselves, and what the books are closed from.
    Forever,
    /// Longer than the oldest backup that may be restored (R12).
    Days(u32),
    /// The newest record of each key.
    Newest,
    /// The newest record of each key, while it is younger than the dedup window and a slack.
    NewestWithinWindow,
}

/// One line of the table of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub name: String,
    /// `None`: as many as the profile says.
    pub partitions: Option<u32>,
    pub keep: Keep,
    /// Stamped by the log on append (R2).
    pub log_append_time: bool,
}

/// Answer slots, fixed when the topics are made (docs/contracts/program.md).
pub const ANSWER_SLOTS: u32 = 64;

/// Every topic of the pipeline.
pub fn layouts() -> Vec<Layout> {
    let fixed: &[(&str, Option<u32>, Keep)] = &[
        (REQUESTED, None, Keep::Days(45)),
        (ADMITTED, None, Keep::Days(45)),
        (REJECTED, None, Keep::Forever),
        (SEALED, None, Keep::Forever),
        (ANSWER, Some(ANSWER_SLOTS), Keep::Days(1)),
        (DELIVERED, None, Keep::Forever),
        (USAGE_RECORDED, None, Keep::Forever),
        (USAGE_TOTAL, None, Keep::Newest),
        (LEDGER_COMMAND, None, Keep::Forever),
        (SETTLEMENT_POSTED, None, Keep::Forever),
        (SETTLEMENT_PARKED, None, Keep::Forever),
        (AUDIT_CHECKPOINT, None, Keep::Newest),
        (SIGNING_KEY, Some(1), Keep::Newest),
        (TENANT_CONFIG, Some(1), Keep::Newest),
    ];
    let mut layouts: Vec<Layout> = fixed
        .iter()
        .map(|(name, partitions, keep)| Layout {
            name: (*name).to_owned(),
            partitions: *partitions,
            keep: *keep,
            log_append_time: *name == REQUESTED,
        })
        .collect();
    for step in STEPS {
        if let Some(state) = step.state {
            let keep =
                if matches!(step.name, "canonicalise" | "sign") { Keep::NewestWithinWindow } else { Keep::Newest };
            layouts.push(Layout { name: state.to_owned(), partitions: None, keep, log_append_time: false });
        }
        for name in [step.dead_topic(), step.redo_topic()] {
            let log_append_time = name == "canonicalise.redo.v1";
            layouts.push(Layout { name, partitions: None, keep: Keep::Days(45), log_append_time });
        }
    }
    layouts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no exchange's story is told by: answers, books, keys, configuration and changelogs.
    const BESIDE: &[&str] = &[ANSWER, AUDIT_CHECKPOINT, SIGNING_KEY, TENANT_CONFIG];

    #[test]
    fn every_topic_tells_the_story_or_is_known_not_to() {
        let told: Vec<String> =
            STORY.iter().map(|name| (*name).to_owned()).chain(dead_topics()).chain(redo_topics()).collect();
        for layout in layouts() {
            let is_state = STEPS.iter().any(|step| step.state == Some(layout.name.as_str()));
            let is_beside = is_state || BESIDE.contains(&layout.name.as_str());
            assert!(told.contains(&layout.name) != is_beside, "{} is neither or both", layout.name);
        }
        let names: Vec<String> = layouts().into_iter().map(|layout| layout.name).collect();
        assert!(told.iter().all(|name| names.contains(name)));
    }
}
