//! What sealing and verifying cost beside the bare library, in one run on one machine:
//!
//! ```text
//! cargo run --release --example figures [RECEIPTS]
//! ```
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey, verify_batch};
use event::digest::Digest;
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use proof::{Chains, Claimed, Draft, KeyRing, Link, Policy, Receipt, SigningKey, Verifier};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const RECEIPTS: usize = 100_000;
const SEED: [u8; 32] = [7; 32];
const NBF: i64 = 1_767_225_600;
const ROUNDS: usize = 7;
/// Receipts sealed, or messages signed, in a round.
const SIGNED: usize = 2_000;
/// Larger batches gain nothing more.
const LIBRARY_BATCHES: [usize; 5] = [64, 128, 256, 512, 2_048];
const BLOCK: usize = 256;

fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map_or(Ok(RECEIPTS), |text| text.parse())?;
    let signing_key = SigningKey::from_seed(&SEED, NBF, None);
    sealing(&signing_key)?;
    verifying(&signing_key, count)
}

/// The hop after a receipt, or the first.
fn draft(before: Option<&Receipt>) -> Outcome<Draft> {
    let hop = before.map_or(1, |before| before.draft.hop + 1);
    let exchange_id = ExchangeId::parse(format!("ex_{hop:026}"))?;
    Ok(Draft {
        tenant: TenantId::parse("acme")?,
        trace_id: TraceId::parse("trace-1")?,
        chain: before.map_or_else(|| exchange_id.clone(), |before| before.draft.chain.clone()),
        exchange_id,
        hop,
        ts: Timestamp::from_millis(NBF * 1_000 + i64::try_from(hop)?)?,
        payload_type: "passthrough".to_owned(),
        target_type: "passthrough".to_owned(),
        request_cid: Digest([1; 32]),
        cid: Digest([1; 32]),
        policy: Policy { reason: "no_forward".to_owned(), host: None },
        fu: 0,
        amount: None,
        prev_receipt_hash: before.map(|before| before.receipt_hash),
    })
}

/// What the library signs for a receipt: header and content, in base64url.
fn signed_text(receipt: &Receipt) -> Outcome<(String, Signature)> {
    let text = receipt.to_json();
    let content = text.replacen(&format!(r#""jws":"{}","#, receipt.jws), "", 1);
    let (header, signature) = receipt.jws.split_once("..").ok_or("a jws is detached")?;
    let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature)?)?;
    Ok((format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)), signature))
}

/// The shorter of all rounds: what else the machine did only ever adds.
fn best(mut round: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        round()?;
        best = best.min(begun.elapsed());
    }
    Ok(best)
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

fn sealing(signing_key: &SigningKey) -> Outcome<()> {
    let first = draft(None)?.seal(signing_key)?;
    let library = ed25519_dalek::SigningKey::from_bytes(&SEED);
    let (message, signature) = signed_text(&first)?;
    assert_eq!(library.sign(message.as_bytes()), signature, "both sign the same");
    let bare = best(|| {
        for _ in 0..SIGNED {
            black_box(library.sign(black_box(message.as_bytes())));
        }
        Ok(())
    })?;
    let drafts = vec![draft(None)?; SIGNED];
    let sealed = best(|| {
        let mine = drafts.clone();
        for draft in mine {
            black_box(black_box(draft).seal(signing_key)?);
        }
        Ok(())
    })?;
    let cloned = best(|| {
        drop(black_box(drafts.clone()));
        Ok(())
    })?;
    let (bare, sealed) = (micros(bare, SIGNED), micros(sealed.saturating_sub(cloned), SIGNED));
    println!("message of {} bytes, one core", message.len());
    println!("  library signs           {bare:8.2} us");
    println!("  a receipt is sealed     {sealed:8.2} us   {:.1} % of the library's call", 100.0 * sealed / bare);
    Ok(())
}

fn verifying(signing_key: &SigningKey, count: usize) -> Outcome<()> {
    let mut receipts: Vec<Receipt> = Vec::with_capacity(count);
    while receipts.len() < count {
        receipts.push(draft(receipts.last())?.seal(signing_key)?);
    }
    let signed = receipts.iter().map(signed_text).collect::<Outcome<Vec<_>>>()?;
    let texts: Vec<String> = receipts.iter().map(Receipt::to_json).collect();
    drop(receipts);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    println!("a chain of {count} receipts, {cores} cores");
    let mut fastest = Duration::MAX;
    for size in LIBRARY_BATCHES {
        let time = best(|| library_batches(&signed, size, cores))?;
        println!("  library, batches of {size:<5}{:8.2} us a signature", micros(time, count));
        fastest = fastest.min(time);
    }
    let mut ring = KeyRing::new();
    ring.insert(signing_key.public().clone())?;
    let ours = best(|| chain(&texts, Verifier::new(ring.clone()), cores))?;
    println!(
        "  the chain is verified   {:8.2} us a receipt, {:.0} % of the library's fastest batches",
        micros(ours, count),
        100.0 * fastest.as_secs_f64() / ours.as_secs_f64()
    );
    Ok(())
}

/// Every core takes the next piece until none is left.
fn on_all_cores(pieces: usize, cores: usize, work: impl Fn(usize) -> Outcome<()> + Sync) -> Outcome<()> {
    let next = AtomicUsize::new(0);
    let labour = || {
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return Ok(());
            }
            work(piece)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(labour)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}

fn library_batches(signed: &[(String, Signature)], size: usize, cores: usize) -> Outcome<()> {
    let key: VerifyingKey = ed25519_dalek::SigningKey::from_bytes(&SEED).verifying_key();
    let batches: Vec<_> = signed.chunks(size).collect();
    on_all_cores(batches.len(), cores, |piece| {
        let batch = batches.get(piece).copied().unwrap_or_default();
        let messages: Vec<&[u8]> = batch.iter().map(|(message, _)| message.as_bytes()).collect();
        let signatures: Vec<Signature> = batch.iter().map(|(_, signature)| *signature).collect();
        Ok(verify_batch(&messages, &signatures, &vec![key; batch.len()])?)
    })
}

/// Everything that verifying a chain is: form, hash, signature, the key's time, and the links.
fn chain(texts: &[String], verifier: Verifier, cores: usize) -> Outcome<()> {
    let blocks: Vec<_> = texts.chunks(BLOCK).collect();
    let checked: Mutex<Vec<Option<Vec<Link>>>> = Mutex::new(vec![None; blocks.len()]);
    on_all_cores(blocks.len(), cores, |piece| {
        let block = blocks.get(piece).copied().unwrap_or_default();
        let batch: Vec<Claimed<'_>> =
            block.iter().map(|text| Claimed { receipt: text.as_bytes(), payload: None }).collect();
        let links = verifier.check(&batch).into_iter().collect::<Result<Vec<Link>, _>>()?;
        let mut checked = checked.lock().map_err(|_| "a thread panicked")?;
        if let Some(place) = checked.get_mut(piece) {
            *place = Some(links);
        }
        Ok(())
    })?;
    let mut chains = Chains::new();
    for links in checked.into_inner().map_err(|_| "a thread panicked")? {
        for link in links.ok_or("every block was checked")? {
            chains.follow(link)?;
        }
    }
    assert_eq!(chains.len(), 1, "it is one chain");
    Ok(())
}
