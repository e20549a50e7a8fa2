//! `verify`: a receipt, a chain, a bundle or a stream of receipts, offline (docs/contracts/receipt.md section 4).

mod cores;
mod input;
mod stream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use proof::{Code, KeyRing, Trust, Verdict};
use reqwest::Url;
use serde::Serialize;

use crate::admin::print;
use crate::client::{ClientOptions, block_on, client};
use crate::failure::{Doing as _, Failure};
use cores::{in_order, on_all};
use input::{Input, expand, read};
use stream::Streamed;

const KEYS_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Receipts, chains (arrays), bundles, and receipts a line, of one chain or many, each from its first hop; a directory:
    /// every *.json and *.jsonl in it; `-`: stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The keys that are trusted: a JWKS file, or the URL of one (/.well-known/jwks.json)
    #[arg(long, value_name = "FILE|URL")]
    keys: Option<String>,
    /// Trust the keys that a bundle carries itself: this shows that it is whole, not who made it
    #[arg(long)]
    trust_embedded_keys: bool,
    /// The normalised payload of the receipt; again for each receipt of a chain, in their order
    #[arg(long, value_name = "FILE")]
    payload: Vec<PathBuf>,
    /// One JSON object a document
    #[arg(long)]
    json: bool,
}

/// One of several documents.
#[derive(Serialize)]
struct Named<'a> {
    file: &'a str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// Exit code 0 where everything holds, 1 for a failed check, 2 for unusable input; the highest of all documents.
pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let ring = match &args.keys {
        Some(from) => read_keys(from)?,
        None => KeyRing::new(),
    };
    let files = expand(&args.files)?;
    let payloads = args.payload.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut report = Report { as_json: args.json, alone: files.len() == 1, worst: 0, unknown_keys: false };
    match files.as_slice() {
        [file] => report.tell(file, &one(file, &ring, args.trust_embedded_keys, &payloads)?)?,
        _ if !payloads.is_empty() => {
            return Err(Failure::new("--payload belongs to one document").try_this("verify the others on their own"));
        }
        _ => {
            let (ring, embedded) = (Arc::new(ring), args.trust_embedded_keys);
            let work = move |file: PathBuf| {
                let told = among_others(&file, &ring, embedded);
                (file, told)
            };
            in_order(files.into_iter(), work, |(file, told)| report.tell(&file, &told?).map(|()| true))?;
        }
    }
    if report.unknown_keys && args.keys.is_none() {
        eprintln!("no keys are trusted: name them with --keys, for instance --keys https://HOST/.well-known/jwks.json");
    }
    Ok(ExitCode::from(report.worst))
}

/// What was found out about one input.
struct Found {
    verdict: Verdict,
    /// Of a stream.
    chains: Option<usize>,
}

impl From<Verdict> for Found {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, chains: None }
    }
}

impl From<Streamed> for Found {
    fn from(Streamed { verdict, chains }: Streamed) -> Self {
        Self { verdict, chains: Some(chains) }
    }
}

/// One input, which has all cores to itself.
fn one(file: &Path, ring: &KeyRing, embedded: bool, payloads: &[Vec<u8>]) -> Result<Found, Failure> {
    let trust = Trust { given: ring, embedded };
    if payloads.is_empty() {
        return match input::open(file)? {
            Input::Document(document) => Ok(on_all_cores(&document, trust, &[]).into()),
            Input::Lines(lines) => stream::verify(lines, ring).map(Found::from),
        };
    }
    let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(payload.as_slice())).collect();
    Ok(on_all_cores(&read(file)?, trust, &payloads).into())
}

/// Receipts that a core checks together.
const BATCH: usize = 256;

fn on_all_cores(document: &[u8], trust: Trust<'_>, payloads: &[Option<&[u8]>]) -> Verdict {
    proof::verify_by(document, trust, payloads, &|verifier, receipts| {
        on_all(receipts, BATCH, |batch| verifier.check(batch))
    })
}

/// One of several inputs, which share the cores.
fn among_others(file: &Path, ring: &KeyRing, embedded: bool) -> Result<Found, Failure> {
    match input::open(file)? {
        Input::Document(document) => Ok(proof::verify(&document, Trust { given: ring, embedded }, &[]).into()),
        Input::Lines(lines) => stream::verify_here(lines, ring).map(Found::from),
    }
}

/// What is told, and what of it the exit code must say.
struct Report {
    as_json: bool,
    alone: bool,
    worst: u8,
    unknown_keys: bool,
}

impl Report {
    fn tell(&mut self, file: &Path, found: &Found) -> Result<(), Failure> {
        self.worst = self.worst.max(found.verdict.exit_code());
        self.unknown_keys |= found.verdict.verdict == Code::UnknownKey;
        print::out(&told(&file.display().to_string(), found, self.as_json, self.alone)?)
    }
}

fn told(file: &str, Found { verdict, chains }: &Found, as_json: bool, alone: bool) -> Result<String, Failure> {
    if as_json {
        let text = if alone { serde_json::to_string(verdict) } else { serde_json::to_string(&Named { file, verdict }) };
        return Ok(format!("{}\n", text.doing("the verdict cannot be written as JSON")?));
    }
    let mut line = format!("{file}: {}", verdict.verdict.as_str());
    if let Some(index) = verdict.index {
        line.push_str(&format!(", receipt {index}"));
    }
    if let Some(check) = verdict.check {
        line.push_str(&format!(", check {check}"));
    }
    if let Some(detail) = &verdict.detail {
        line.push_str(&format!(": {detail}"));
    }
    let receipts = if verdict.receipts == 1 { "receipt" } else { "receipts" };
    let chains =
        chains.map_or_else(String::new, |chains| format!(" in {chains} chain{}", if chains == 1 { "" } else { "s" }));
    line.push_str(&format!(" ({} {receipts}{chains}, keys {})\n", verdict.receipts, verdict.trusted));
    Ok(line)
}

fn read_keys(from: &str) -> Result<KeyRing, Failure> {
    let jwks = match Url::parse(from) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => fetch(&url)?,
        _ => read(Path::new(from))?,
    };
    KeyRing::from_jwks(&jwks).map_err(|error| {
        Failure::new(format!("{from} holds no usable keys"))
            .because(error)
            .try_this("it must be a JWKS, as GET /.well-known/jwks.json answers it")
    })
}

fn fetch(url: &Url) -> Result<Vec<u8>, Failure> {
    let client = client(url, ClientOptions { timeout: KEYS_TIMEOUT, connections_max: 1 })?;
    let fetched = block_on(async {
        let response = client.get(url.clone()).send().await?.error_for_status()?;
        response.bytes().await
    })?;
    match fetched {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(Failure::new(format!("the keys at {url} cannot be fetched")).because(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::digest::Digest;
    use event::id::{ExchangeId, TenantId, TraceId};
    use event::time::Timestamp;
    use proof::{Draft, Policy, Receipt, SigningKey};

    fn args(files: &[&Path]) -> VerifyArgs {
        VerifyArgs {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            keys: None,
            trust_embedded_keys: false,
            payload: Vec::new(),
            json: true,
        }
    }

    #[test]
    fn what_is_no_receipt_is_unusable_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        std::fs::write(&file, "17").unwrap();
        assert_eq!(run(&args(&[&file])).unwrap(), ExitCode::from(2));
        assert_eq!(run(&args(&[dir.path()])).unwrap(), ExitCode::from(2));
        assert!(run(&args(&[&dir.path().join("b.json")])).is_err());
    }

    #[test]
    fn one_document_is_told_with_exactly_the_members_of_the_contract() {
        let verdict = proof::verify(b"17", Trust { given: &KeyRing::new(), embedded: false }, &[]);
        let told: serde_json::Value = serde_json::from_str(&told("f", &verdict.into(), true, true).unwrap()).unwrap();
        let members: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = ["verdict", "index", "check", "detail", "receipts", "trusted"];
        expected.sort_unstable();
        assert_eq!(members, expected);
    }

    #[test]
    fn a_chain_that_all_cores_check_is_judged_by_its_first_fault() {
        let mut texts: Vec<String> = Vec::new();
        let mut before = None;
        while texts.len() < 3 * BATCH {
            before = Some(receipt(texts.len(), before.as_ref()));
            texts.extend(before.as_ref().map(Receipt::to_json));
        }
        let mut ring = KeyRing::new();
        ring.insert(signing_key().public().clone()).unwrap();
        let trust = Trust { given: &ring, embedded: false };
        let same = |texts: &[String]| {
            let document = format!("[{}]", texts.join(","));
            let verdict = on_all_cores(document.as_bytes(), trust, &[]);
            assert_eq!(verdict, proof::verify(document.as_bytes(), trust, &[]));
            (verdict.verdict, verdict.index)
        };
        assert_eq!(same(&texts), (Code::Ok, None));
        let (early, late) = (BATCH + 7, 2 * BATCH + 1);
        texts[late] = texts[late].replacen(r#""fu":0"#, r#""fu":1"#, 1);
        assert_eq!(same(&texts), (Code::HashMismatch, Some(late)));
        texts.remove(early);
        assert_eq!(same(&texts), (Code::HopGap, Some(early)));
    }

    fn receipt(number: usize, before: Option<&Receipt>) -> Receipt {
        let exchange_id = ExchangeId::parse(format!("ex_{number:026}")).unwrap();
        let draft = Draft {
            tenant: TenantId::parse("acme").unwrap(),
            trace_id: before.map_or_else(|| TraceId::of_exchange(&exchange_id), |before| before.draft.trace_id.clone()),
            chain: before.map_or_else(|| exchange_id.clone(), |before| before.draft.chain.clone()),
            exchange_id,
            hop: before.map_or(1, |before| before.draft.hop + 1),
            ts: Timestamp::from_millis(1_000_000).unwrap(),
            payload_type: "passthrough".into(),
            target_type: "passthrough".into(),
            request_cid: Digest([1; 32]),
            cid: Digest([1; 32]),
            policy: Policy { reason: "no_forward".into(), host: None },
            fu: 0,
            amount: None,
            prev_receipt_hash: before.map(|before| before.receipt_hash),
        };
        draft.seal(&signing_key()).unwrap()
    }

    fn signing_key() -> SigningKey {
        SigningKey::from_seed(&[7; 32], 0, None)
    }

    /// Lines of some chains, interleaved.
    fn lines(chains: usize, hops: usize) -> Vec<String> {
        let mut heads: Vec<Option<Receipt>> = vec![None; chains];
        let mut lines = Vec::new();
        for hop in 0..hops {
            for (chain, head) in heads.iter_mut().enumerate() {
                let next = receipt(hop * chains + chain, head.as_ref());
                lines.push(next.to_json());
                *head = Some(next);
            }
        }
        lines
    }

    fn ring() -> KeyRing {
        let mut ring = KeyRing::new();
        ring.insert(signing_key().public().clone()).unwrap();
        ring
    }

    #[test]
    fn a_stream_is_verified_to_its_end_or_to_its_first_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("receipts.jsonl");
        let good = lines(7, 300);
        let verified = |lines: &[String]| {
            std::fs::write(&file, lines.join("\n")).unwrap();
            let alone = one(&file, &ring(), false, &[]).unwrap();
            let among = among_others(&file, &ring(), false).unwrap();
            let whole = one(&file, &ring(), false, &[b"{}".to_vec()]).unwrap();
            assert_eq!((&alone.verdict, alone.chains), (&among.verdict, among.chains));
            (alone, whole.verdict)
        };
        let (found, _) = verified(&good);
        assert_eq!((found.verdict.verdict, found.verdict.receipts, found.chains), (Code::Ok, 2_100, Some(7)));
        for (index, from, to, code) in [
            (0, r#""fu":0"#, r#""fu":1"#, Code::HashMismatch),
            (1_500, r#""v":1"#, r#""v":1,"v":1"#, Code::Malformed),
            (2_099, "{", "[{", Code::Malformed),
        ] {
            let mut broken = good.clone();
            broken[index] = broken[index].replacen(from, to, 1);
            let (found, _) = verified(&broken);
            assert_eq!((found.verdict.verdict, found.verdict.index), (code, Some(index)));
            assert_eq!(found.verdict.receipts, index + 1);
        }
        let mut without = good.clone();
        without.remove(700);
        assert_eq!(verified(&without).0.verdict.verdict, Code::HopGap);
        // A payload is that of the first line.
        assert_eq!(verified(&good).1.verdict, Code::CidMismatch);
    }

    #[test]
    fn of_several_inputs_the_worst_decides_the_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        std::fs::write(&keys, ring().to_jwks()).unwrap();
        let lines = lines(2, 3);
        let verified = || {
            let args = VerifyArgs { keys: Some(keys.to_str().unwrap().to_owned()), ..args(&[dir.path()]) };
            run(&args).unwrap()
        };
        std::fs::write(dir.path().join("a.json"), &lines[0]).unwrap();
        std::fs::write(dir.path().join("b.jsonl"), lines.join("\n")).unwrap();
        assert_eq!(verified(), ExitCode::from(0));
        std::fs::write(dir.path().join("c.ndjson"), lines[2..].join("\n")).unwrap();
        assert_eq!(verified(), ExitCode::from(1));
        std::fs::write(dir.path().join("d.json"), "17").unwrap();
        assert_eq!(verified(), ExitCode::from(2));
    }

    #[test]
    fn keys_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jwks.json");
        std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
        assert!(read_keys(file.to_str().unwrap()).is_ok());
        std::fs::write(&file, "[]").unwrap();
        assert!(read_keys(file.to_str().unwrap()).is_err());
    }
}
