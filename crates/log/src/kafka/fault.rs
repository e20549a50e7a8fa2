//! What an error of librdkafka means for the caller. Decided here and nowhere else.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::{Cause, Fault};

/// What was being done when it failed: the same error means different things before and after the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    /// Making a client.
    Client,
    /// Metadata, offsets, topics: questions that can be asked again.
    Ask,
    /// Reading records.
    Read,
    /// `init_transactions`.
    Init,
    /// In an open transaction, before its end was asked for: nothing of it can have been committed.
    Transaction,
    /// The end of a transaction was asked for.
    Commit,
    /// Writing one record outside any transaction.
    Append,
}

/// Another session has our producers' names, or our slot.
pub(super) const FENCED: &str = "fenced";
/// The group knows our slot under another id; whose that is, `Claim` tells.
pub(super) const FENCED_MEMBER: &str = "fenced_member";
/// A topic is not there.
pub(super) const TOPIC_MISSING: &str = "topic_missing";

/// An error of a client, with what it says of the open transaction.
#[derive(Debug)]
pub(super) struct ClientError {
    pub(super) error: KafkaError,
    /// `None`: it says nothing.
    pub(super) verdict: Option<Verdict>,
}

/// What librdkafka says of an error in a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// The same call may be made again.
    Retriable,
    /// The transaction cannot be committed any more, and has not been.
    RequiresAbort,
    Fatal,
    Unclassified,
}

impl From<KafkaError> for ClientError {
    fn from(error: KafkaError) -> Self {
        let verdict = match &error {
            KafkaError::Transaction(cause) => Some(match cause {
                cause if cause.is_fatal() => Verdict::Fatal,
                cause if cause.txn_requires_abort() => Verdict::RequiresAbort,
                cause if cause.is_retriable() => Verdict::Retriable,
                _ => Verdict::Unclassified,
            }),
            _ => None,
        };
        Self { error, verdict }
    }
}

impl ClientError {
    pub(super) fn is_queue_full(&self) -> bool {
        matches!(self.error, KafkaError::MessageProduction(Code::QueueFull))
    }

    pub(super) fn is_retriable(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Retriable))
    }
}

pub(super) fn fault(during: During, error: impl Into<ClientError>) -> Fault {
    let ClientError { error, verdict } = error.into();
    let detail = format!("{during:?}: {error}");
    let code = error.rdkafka_error_code();
    if let Some(fenced) = code.and_then(fenced) {
        return Fault::Fatal(Cause::new(fenced, detail).caused_by(error));
    }
    if code.is_some_and(is_refused) || matches!(error, KafkaError::ClientConfig(..)) {
        return Fault::Fatal(Cause::new("refused", detail).caused_by(error));
    }
    if code == Some(Code::QueueFull) {
        return Fault::Retry(Cause::new("queue_full", detail).caused_by(error));
    }
    if code.is_some_and(is_too_large) {
        return Fault::Abort(Cause::new("record_too_large", detail).caused_by(error));
    }
    match during {
        During::Client => Fault::Fatal(Cause::new("client", detail).caused_by(error)),
        During::Ask | During::Init => Fault::Retry(Cause::new("unavailable", detail).caused_by(error)),
        During::Read => reading(code, detail, error),
        During::Transaction => Fault::Abort(Cause::new("transaction_failed", detail).caused_by(error)),
        During::Commit => committing(detail, error, verdict),
        During::Append => Fault::Unknown(Cause::new("append_unknown", detail).caused_by(error)),
    }
}

/// As `fault`, but a client that has failed for good is asked why: its errors then only say that it has.
pub(super) fn client_fault(failed: Option<(Code, String)>, during: During, error: impl Into<ClientError>) -> Fault {
    match failed {
        Some((code, reason)) if let Some(fenced) = fenced(code) => {
            Fault::Fatal(Cause::new(fenced, reason).caused_by(error.into().error))
        }
        _ => fault(during, error),
    }
}

fn reading(code: Option<Code>, detail: String, error: KafkaError) -> Fault {
    match code {
        // `auto.offset.reset=error`: a position that the log no longer has is never a rewind.
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset | Code::LogTruncation) => {
            Fault::Fatal(Cause::new("offsets_missing", detail).caused_by(error))
        }
        Some(code) if is_unknown_topic(code) => Fault::Fatal(Cause::new(TOPIC_MISSING, detail).caused_by(error)),
        _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
            Fault::Fatal(Cause::new("client_failed", detail).caused_by(error))
        }
        _ => Fault::Retry(Cause::new("unavailable", detail).caused_by(error)),
    }
}

/// Only an error that says so leaves the outcome known; a time-out, a fatal or an unclassified one does not (R7).
fn committing(detail: String, error: KafkaError, verdict: Option<Verdict>) -> Fault {
    // The flush comes before the end is asked for.
    let is_void = matches!(verdict, Some(Verdict::RequiresAbort)) || matches!(error, KafkaError::Flush(_));
    if is_void {
        Fault::Abort(Cause::new("transaction_failed", detail).caused_by(error))
    } else {
        Fault::Unknown(Cause::new("commit_unknown", detail).caused_by(error))
    }
}

fn fenced(code: Code) -> Option<&'static str> {
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Some(FENCED),
        Code::FencedInstanceId => Some(FENCED_MEMBER),
        _ => None,
    }
}

fn is_refused(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTransactionTimeout
            | Code::UnsupportedVersion
    )
}

fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge)
}

fn is_unknown_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// A broker does not know what a reader reads. It may only not have heard of it yet: `Clients::refuse_missing` tells.
pub(super) fn is_of_unknown_topic(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumption(code) if is_unknown_topic(*code))
}

/// Something that librdkafka mends by itself, so that a reader need only go on.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::PollExceeded
                | Code::WaitingForCoordinator
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::RebalanceInProgress
        )
    )
}

pub(super) fn misconfigured(code: &'static str, detail: impl Into<String>) -> Fault {
    Fault::Fatal(Cause::new(code, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_means_other_things_before_and_after_the_end_was_asked_for() {
        let timed_out = || KafkaError::MessageProduction(Code::OperationTimedOut);
        assert!(matches!(fault(During::Transaction, timed_out()), Fault::Abort(_)));
        assert!(matches!(fault(During::Commit, timed_out()), Fault::Unknown(_)));
        assert!(matches!(fault(During::Append, timed_out()), Fault::Unknown(_)));
        assert!(matches!(fault(During::Ask, timed_out()), Fault::Retry(_)));
    }

    #[test]
    fn fenced_is_fatal_wherever_it_is_heard() {
        for during in [During::Init, During::Transaction, During::Commit, During::Read] {
            for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
                let fault = fault(during, KafkaError::Global(code));
                assert!(matches!(&fault, Fault::Fatal(cause) if cause.code == FENCED), "{fault}");
            }
            let fault = fault(during, KafkaError::Global(Code::FencedInstanceId));
            assert!(matches!(&fault, Fault::Fatal(cause) if cause.code == FENCED_MEMBER), "{fault}");
        }
    }

    #[test]
    fn a_missing_offset_is_an_error() {
        let fault = fault(During::Read, KafkaError::MessageConsumption(Code::AutoOffsetReset));
        assert!(matches!(&fault, Fault::Fatal(cause) if cause.code == "offsets_missing"), "{fault}");
    }
}
