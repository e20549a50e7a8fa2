//! What follows from an attempt: another one, or the outcome. No clock, no chance, no network.

use std::time::Duration;

use event::destination::Destination;
use event::wire::{Attempt, ExchangeDelivered, PendingDelivery};
use sha2::{Digest, Sha256};

use crate::call::{Call, CallError, CallResult};

/// How often and for how long a delivery is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Calls in all.
    pub attempts_max: usize,
    /// The pause after the first attempt; each further one is twice as long...
    pub backoff_first: Duration,
    /// ...up to this. Jitter adds at most half.
    pub backoff_max: Duration,
    /// A receiver's `Retry-After` is honoured up to this.
    pub retry_after_max: Duration,
    /// So long after its first attempt (or after it was queued, where there was none) a delivery is given up.
    pub give_up_after: Duration,
}

impl Retries {
    /// About a day and a half of calls: 1, 2, 4 seconds and so on, then hourly.
    pub const ATTEMPTS_MAX: usize = 40;
    pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
    pub const BACKOFF_MAX: Duration = Duration::from_secs(3_600);
    pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
    pub const GIVE_UP_AFTER: Duration = Duration::from_secs(72 * 3_600);
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts_max: Self::ATTEMPTS_MAX,
            backoff_first: Self::BACKOFF_FIRST,
            backoff_max: Self::BACKOFF_MAX,
            retry_after_max: Self::RETRY_AFTER_MAX,
            give_up_after: Self::GIVE_UP_AFTER,
        }
    }
}

/// Delivery was refused by the receiver with a redirect, which is never followed.
pub const REDIRECT: &str = "redirect_not_followed";
/// The delivery was never tried again before its time was over.
pub const GIVEN_UP: &str = "given_up";

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Again(PendingDelivery),
    Over(ExchangeDelivered),
}

/// Adds an attempt to its delivery and decides what is next.
pub fn after(mut pending: PendingDelivery, call: &Call, retries: &Retries) -> Next {
    let give_up_at = give_up_at(&pending, retries);
    let number = pending.attempts.len() + 1;
    let redirected = matches!(call.status, Some(300..=399)) && call.error.is_none();
    pending.attempts.push(Attempt {
        attempt: i32::try_from(number).unwrap_or(i32::MAX),
        at: call.at_ms,
        status: call.status.map(i32::from),
        address: call.address.clone(),
        response_bytes: i64::try_from(call.response_bytes).unwrap_or(i64::MAX),
        duration_ms: call.duration_ms,
        error: call.error.map(CallError::code).or(redirected.then_some(REDIRECT)).map(str::to_owned),
    });
    let ended_at = call.at_ms.saturating_add(call.duration_ms);
    match call.result() {
        CallResult::Delivered => Next::Over(outcome(pending, true, ended_at)),
        CallResult::Failed => Next::Over(outcome(pending, false, ended_at)),
        CallResult::Again => {
            let asked = call.retry_after.as_deref().and_then(|header| retry_after(header, ended_at));
            let pause = backoff(&pending.exchange_id, number, retries)
                .max(asked.unwrap_or_default().min(retries.retry_after_max));
            let next_at = ended_at.saturating_add(ms(pause));
            if number >= retries.attempts_max || next_at > give_up_at {
                return Next::Over(outcome(pending, false, ended_at));
            }
            pending.next_at = next_at;
            Next::Again(pending)
        }
    }
}

/// The outcome of a delivery whose time is over while its destination was not to be called. The last entry says so.
pub fn given_up(mut pending: PendingDelivery, now_ms: i64) -> ExchangeDelivered {
    pending.attempts.push(Attempt {
        attempt: i32::try_from(pending.attempts.len() + 1).unwrap_or(i32::MAX),
        at: now_ms,
        status: None,
        address: None,
        response_bytes: 0,
        duration_ms: 0,
        error: Some(GIVEN_UP.to_owned()),
    });
    outcome(pending, false, now_ms)
}

/// When a delivery is given up.
pub fn give_up_at(pending: &PendingDelivery, retries: &Retries) -> i64 {
    let since = pending.attempts.first().map_or(pending.next_at, |first| first.at);
    since.saturating_add(ms(retries.give_up_after))
}

fn outcome(pending: PendingDelivery, delivered: bool, decided_at: i64) -> ExchangeDelivered {
    ExchangeDelivered {
        exchange_id: pending.exchange_id,
        tenant: pending.tenant,
        trace_id: pending.trace_id,
        admitted_at: pending.admitted_at,
        delivered,
        host: Destination::parse(&pending.url).map_or_else(|_| "-".to_owned(), |url| url.host().to_string()),
        cid: pending.cid,
        decided_at,
        attempts: pending.attempts,
    }
}

/// The pause after attempt `number`: doubled each time, and up to half more, so that what failed together does not come
/// back together. The share is a hash, so that it comes out the same wherever it is computed.
fn backoff(exchange_id: &str, number: usize, retries: &Retries) -> Duration {
    let doublings = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
    let plain = retries.backoff_first.saturating_mul(factor).min(retries.backoff_max);
    let digest = Sha256::new().chain_update(exchange_id).chain_update(number.to_be_bytes()).finalize();
    let share = digest.first().copied().map_or(0, u32::from);
    plain + plain / 2 * share / 256
}

/// Seconds, or an HTTP date.
fn retry_after(header: &str, now_ms: i64) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    u64::try_from(date.as_millisecond().saturating_sub(now_ms)).ok().map(Duration::from_millis)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owed::tests::{NOW, pending};
    use event::destination::Refusal;

    fn call(status: u16) -> Call {
        Call {
            at_ms: NOW + 100,
            duration_ms: 20,
            status: Some(status),
            address: Some("93.184.215.14:443".into()),
            response_bytes: 2,
            error: None,
            retry_after: None,
        }
    }

    fn again(next: Next) -> PendingDelivery {
        match next {
            Next::Again(pending) => pending,
            Next::Over(outcome) => panic!("over: {outcome:?}"),
        }
    }

    fn over(next: Next) -> ExchangeDelivered {
        match next {
            Next::Over(outcome) => outcome,
            Next::Again(pending) => panic!("again: {pending:?}"),
        }
    }

    #[test]
    fn an_accepted_delivery_is_over() {
        for status in [200, 201, 202, 204, 299] {
            let outcome = over(after(pending(), &call(status), &Retries::default()));
            assert!(outcome.delivered);
            assert_eq!(outcome.host, "good.example");
            assert_eq!(outcome.decided_at, NOW + 120);
            assert_eq!(outcome.attempts.len(), 1);
            assert_eq!(outcome.attempts[0].status, Some(i32::from(status)));
        }
    }

    #[test]
    fn a_refused_delivery_is_over_and_a_redirect_is_a_refusal() {
        for status in [101, 301, 302, 307, 308, 400, 401, 404, 410, 422] {
            let outcome = over(after(pending(), &call(status), &Retries::default()));
            assert!(!outcome.delivered, "{status}");
            let redirect = (300..400).contains(&status).then(|| REDIRECT.to_owned());
            assert_eq!(outcome.attempts[0].error, redirect);
        }
    }

    #[test]
    fn a_receiver_in_trouble_is_tried_again() {
        for status in [408, 425, 429, 500, 502, 503, 599] {
            let pending = again(after(pending(), &call(status), &Retries::default()));
            let pause = pending.next_at - (NOW + 120);
            assert!((1_000..1_500).contains(&pause), "{status}: {pause}");
        }
        let closed = Call { status: None, error: Some(CallError::ConnectionClosed), ..call(0) };
        let pending = again(after(pending(), &closed, &Retries::default()));
        assert_eq!(pending.attempts[0].error.as_deref(), Some("connection_closed"));
    }

    #[test]
    fn what_another_attempt_cannot_change_is_final() {
        for error in [CallError::DestinationDenied, CallError::ResponseTooLarge] {
            let outcome = over(after(pending(), &Call::refused(NOW, error), &Retries::default()));
            assert!(!outcome.delivered);
            assert_eq!(outcome.attempts[0].error.as_deref(), Some(error.code()));
        }
        assert_eq!(CallError::from(Refusal::Unresolved), CallError::ResolveFailed);
        assert_eq!(CallError::from(Refusal::Address("private")), CallError::DestinationDenied);
    }

    #[test]
    fn pauses_double_up_to_a_cap_and_end_with_the_attempts() {
        let retries = Retries { attempts_max: 16, give_up_after: Duration::MAX, ..Retries::default() };
        let mut pending = pending();
        let mut at = NOW;
        for number in 1..16_u32 {
            pending = again(after(pending, &Call { at_ms: at, duration_ms: 0, ..call(503) }, &retries));
            let plain = 1_000 * (1_i64 << (number - 1)).min(3_600);
            let pause = pending.next_at - at;
            assert!((plain..plain * 3 / 2 + 1).contains(&pause), "attempt {number}: {pause}");
            at = pending.next_at;
        }
        let outcome = over(after(pending, &Call { at_ms: at, duration_ms: 0, ..call(503) }, &retries));
        assert!(!outcome.delivered);
        assert_eq!(
            outcome.attempts.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(),
            (1..=16).collect::<Vec<_>>()
        );
    }

    #[test]
    fn jitter_is_a_hash_and_spreads_deliveries_that_failed_together() {
        let retries = Retries::default();
        let pauses: std::collections::BTreeSet<Duration> =
            (0..100).map(|id| backoff(&format!("ex_{id}"), 3, &retries)).collect();
        assert!(pauses.len() > 50, "{}", pauses.len());
        assert_eq!(backoff("ex_1", 3, &retries), backoff("ex_1", 3, &retries));
    }

    #[test]
    fn the_receivers_wish_is_honoured_up_to_a_cap() {
        let pause = |header: &str| {
            let call = Call { retry_after: Some(header.to_owned()), ..call(429) };
            again(after(pending(), &call, &Retries::default())).next_at - (NOW + 120)
        };
        assert_eq!(pause("30"), 30_000);
        assert_eq!(pause("86400"), 3_600_000);
        assert_eq!(pause("99999999999999999999"), 3_600_000);
        assert!((1_000..1_500).contains(&pause("0")));
        assert!((1_000..1_500).contains(&pause("soon")));
        assert!((1_000..1_500).contains(&pause("Sun, 06 Nov 1994 08:49:37 GMT")));
        // NOW is Fri, 15 Jan 2027 08:00:00 GMT, and the call ended 120 ms later.
        assert_eq!(pause("Fri, 15 Jan 2027 08:01:00 GMT"), 60_000 - 120);
    }

    #[test]
    fn a_delivery_is_given_up_when_its_time_is_over() {
        let retries = Retries { give_up_after: Duration::from_secs(10), ..Retries::default() };
        assert_eq!(give_up_at(&pending(), &retries), NOW + 10_000);
        let mut tried = again(after(pending(), &call(503), &retries));
        tried.attempts[0].at = NOW;
        let late = Call { at_ms: NOW + 9_500, ..call(503) };
        assert!(!over(after(tried.clone(), &late, &retries)).delivered);
        let outcome = given_up(tried, NOW + 10_000);
        assert_eq!(outcome.attempts.len(), 2);
        assert_eq!(outcome.attempts[1].error.as_deref(), Some(GIVEN_UP));
    }
}
