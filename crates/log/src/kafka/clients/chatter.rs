//! What librdkafka has to say, told once.
//!
//! Each of its clients complains for itself, and again with every try to connect: a broker that is away would fill the
//! log. One line says that a broker went, one that it is back and how long it was away. What else is said over and over
//! is told once a minute, with how often it was said meanwhile. Everything is there at the level `debug`.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;

/// How often a broker that is away is looked for, and how long a look may take.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A broker that can be reached is back once no client has complained about it for so long.
const QUIET: Duration = Duration::from_secs(5);
/// Something that is said again is told again after this long.
const REPEAT_EVERY: Duration = Duration::from_secs(60);
/// Different things and brokers that are kept in mind.
const SAID_MAX: usize = 64;
const AWAY_MAX: usize = 64;

/// How librdkafka says that it cannot speak to a broker. Trouble with certificates and logins is none of it: that does
/// not go by.
const UNREACHABLE: [&str; 8] = [
    "Connect to ",
    "Connection closed",
    "Connection reset",
    "Disconnected",
    "Failed to resolve",
    "Receive failed",
    "Send failed",
    "timed out",
];

/// Every client of the process speaks of the same brokers.
static HEARD: Mutex<Heard> = Mutex::new(Heard::new());

/// Passes on what is news, at levels that do not alarm for what librdkafka mends by itself.
pub(in crate::kafka) fn tell(level: RDKafkaLogLevel, facility: &str, line: &str) {
    let alarms = matches!(
        level,
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error
    );
    if !alarms {
        tracing::debug!(facility, line, "librdkafka");
        return;
    }
    let news = HEARD.lock().hear(facility, line, Instant::now());
    match news {
        News::Away(broker) => {
            tracing::warn!(broker, line, "a Kafka broker is away; what clients say of it from now on is held back");
            look_for(broker);
        }
        News::Said { repeated } => tracing::warn!(facility, line, repeated, "librdkafka"),
        News::Nothing => tracing::debug!(facility, line, "librdkafka"),
    }
}

/// Looks until the broker is back. It is a thread of its own: no client tells that it could connect again.
fn look_for(broker: String) {
    let sought = broker.clone();
    let look = move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            let answers = answers(&sought);
            if let Some(back) = HEARD.lock().looked(&sought, answers, Instant::now()) {
                let away_ms = u64::try_from(back.away.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(broker = sought, away_ms, held_back = back.held_back, "the Kafka broker is back");
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("kafka-outage".to_owned()).spawn(look) {
        tracing::debug!(%error, broker, "nobody looks whether the broker is back");
        HEARD.lock().away.remove(&broker);
    }
}

fn answers(broker: &str) -> bool {
    let Ok(addresses) = broker.to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, LOOK_EVERY).is_ok())
}

/// What one line comes to.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// This broker went.
    Away(String),
    /// Something else; `repeated` times it was held back since it was last told.
    Said {
        repeated: u64,
    },
    Nothing,
}

/// How a broker was away.
#[derive(Debug, PartialEq, Eq)]
struct Back {
    away: Duration,
    held_back: u64,
}

/// What was said before.
struct Heard {
    away: BTreeMap<String, Away>,
    said: BTreeMap<String, Said>,
}

struct Away {
    since: Instant,
    last_complaint: Instant,
    reached: Option<Instant>,
    held_back: u64,
}

struct Said {
    told: Instant,
    repeated: u64,
}

impl Heard {
    const fn new() -> Self {
        Self { away: BTreeMap::new(), said: BTreeMap::new() }
    }

    fn hear(&mut self, facility: &str, line: &str, now: Instant) -> News {
        if let Some(broker) = unreachable_broker(facility, line) {
            if let Some(away) = self.away.get_mut(broker) {
                away.last_complaint = now;
                away.reached = None;
                away.held_back += 1;
                return News::Nothing;
            }
            if self.away.len() < AWAY_MAX {
                let away = Away { since: now, last_complaint: now, reached: None, held_back: 0 };
                self.away.insert(broker.to_owned(), away);
                return News::Away(broker.to_owned());
            }
        }
        // "2/3 brokers are down" follows from what was told already.
        if line.ends_with("brokers are down") && !self.away.is_empty() {
            return News::Nothing;
        }
        self.say(facility, line, now)
    }

    /// The same thing with other numbers is the same thing.
    fn say(&mut self, facility: &str, line: &str, now: Instant) -> News {
        let kind = format!("{facility} {}", line.replace(|character: char| character.is_ascii_digit(), ""));
        let is_due = |said: &Said| now.saturating_duration_since(said.told) >= REPEAT_EVERY;
        match self.said.get_mut(&kind) {
            Some(said) if !is_due(said) => {
                said.repeated += 1;
                News::Nothing
            }
            known => {
                let repeated = known.map_or(0, |said| said.repeated);
                if self.said.len() >= SAID_MAX {
                    self.said.retain(|_, said| !is_due(said));
                }
                if self.said.len() < SAID_MAX {
                    self.said.insert(kind, Said { told: now, repeated: 0 });
                }
                News::Said { repeated }
            }
        }
    }

    /// Whether a broker that was away is back, now that somebody looked.
    fn looked(&mut self, broker: &str, answers: bool, now: Instant) -> Option<Back> {
        let away = self.away.get_mut(broker)?;
        if !answers {
            away.reached = None;
            return None;
        }
        let reached = *away.reached.get_or_insert(now);
        if now.saturating_duration_since(reached.max(away.last_complaint)) < QUIET {
            return None;
        }
        let back = Back { away: reached.saturating_duration_since(away.since), held_back: away.held_back };
        self.away.remove(broker);
        Some(back)
    }
}

/// The broker that a line says cannot be spoken to, as `host:port`.
fn unreachable_broker<'a>(facility: &str, line: &'a str) -> Option<&'a str> {
    if facility != "FAIL" || !UNREACHABLE.iter().any(|words| line.contains(words)) {
        return None;
    }
    // "[thrd:name]: name: what happened", where a name is "host:port/id", "sasl_ssl://host:port/id" or
    // "GroupCoordinator: host:port".
    let (_, said) = line.split_once("]: ")?;
    said.split(": ").map(address_of).find_map(|address| address)
}

fn address_of(name: &str) -> Option<&str> {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let address = name.split('/').next()?;
    let (host, port) = address.rsplit_once(':')?;
    (!host.is_empty() && !host.contains(' ') && port.parse::<u16>().is_ok()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "[thrd:localhost:9092/bootstrap]: localhost:9092/bootstrap: \
        Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
    const LOST: &str = "[thrd:GroupCoordinator]: GroupCoordinator: localhost:9092: \
        Disconnected (after 3312ms in state UP, 1 identical error(s) suppressed)";

    #[test]
    fn a_broker_that_goes_is_told_once_whoever_complains() {
        let (mut heard, now) = (Heard::new(), Instant::now());
        assert_eq!(heard.hear("FAIL", REFUSED, now), News::Away("localhost:9092".into()));
        for line in
            [REFUSED, LOST, "[thrd:sasl_ssl://localhost:9092/1]: sasl_ssl://localhost:9092/1: Connection closed"]
        {
            assert_eq!(heard.hear("FAIL", line, now), News::Nothing, "{line}");
        }
        assert_eq!(heard.hear("ERROR", "[thrd:localhost:9092/1]: 1/1 brokers are down", now), News::Nothing);
        let other = REFUSED.replace("localhost:9092", "[::1]:9093");
        assert_eq!(heard.hear("FAIL", &other, now), News::Away("[::1]:9093".into()), "each broker by itself");
    }

    #[test]
    fn it_is_back_when_it_answers_and_nobody_complains_any_more() {
        let (mut heard, began) = (Heard::new(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        heard.hear("FAIL", REFUSED, began);
        heard.hear("FAIL", LOST, at(2));
        let broker = "localhost:9092";
        assert_eq!(heard.looked(broker, false, at(10)), None);
        assert_eq!(heard.looked(broker, true, at(12)), None, "somebody may still complain");
        heard.hear("FAIL", REFUSED, at(14));
        assert_eq!(heard.looked(broker, true, at(15)), None);
        assert_eq!(heard.looked(broker, false, at(16)), None);
        assert_eq!(heard.looked(broker, true, at(20)), None);
        let back = Back { away: Duration::from_secs(20), held_back: 2 };
        assert_eq!(heard.looked(broker, true, at(25)), Some(back), "counted to when it first answered");
        assert_eq!(heard.looked(broker, true, at(26)), None);
        assert_eq!(heard.hear("FAIL", REFUSED, at(30)), News::Away(broker.into()), "the next time is news again");
    }

    #[test]
    fn what_is_said_over_and_over_is_told_once_a_minute() {
        let (mut heard, began) = (Heard::new(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let line = |number: u32| format!("[thrd:a:1/1]: a:1/1: SSL handshake failed (after {number}ms in state SSL)");
        assert_eq!(heard.hear("FAIL", &line(1), began), News::Said { repeated: 0 });
        assert_eq!(heard.hear("FAIL", &line(20), at(1)), News::Nothing);
        assert_eq!(heard.hear("FAIL", &line(3), at(59)), News::Nothing);
        assert_eq!(heard.hear("MAXPOLL", "another thing", at(59)), News::Said { repeated: 0 });
        assert_eq!(heard.hear("FAIL", &line(4), at(60)), News::Said { repeated: 2 });
        assert_eq!(heard.hear("ERROR", "[thrd:a:1/1]: 1/1 brokers are down", at(60)), News::Said { repeated: 0 });
        let word = |number: usize| std::iter::repeat_n('x', number + 1).collect::<String>();
        for number in 0..SAID_MAX * 2 {
            heard.hear("MANY", &word(number), at(61));
        }
        assert!(heard.said.len() <= SAID_MAX);
    }

    #[test]
    fn a_broker_answers_where_something_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let broker = listener.local_addr().unwrap().to_string();
        assert!(answers(&broker));
        drop(listener);
        assert!(!answers(&broker));
        assert!(!answers("no such host:1"));
    }
}
