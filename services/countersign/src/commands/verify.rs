//! `verify`: a receipt, a chain or a bundle, offline (evidence.md section 4).

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use proof::{Code, KeyRing, Trust, Verdict};
use reqwest::Url;
use serde::Serialize;

use crate::admin::print;
use crate::client::{ClientOptions, block_on, client};
use crate::failure::{Doing as _, Failure};

/// Where a file is stdin.
const STDIN: &str = "-";
const KEYS_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Receipts, chains (arrays, or a receipt a line) and bundles; a directory: every *.json in it; `-`: stdin
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
    if !payloads.is_empty() && files.len() > 1 {
        return Err(Failure::new("--payload belongs to one document").try_this("verify the others on their own"));
    }
    let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(payload.as_slice())).collect();
    let trust = Trust { given: &ring, embedded: args.trust_embedded_keys };
    let mut worst = 0;
    let mut unknown_keys = false;
    for file in &files {
        let document = read(file)?;
        let verdict = proof::verify(&document, trust, &payloads);
        worst = worst.max(verdict.exit_code());
        unknown_keys |= verdict.verdict == Code::UnknownKey;
        print::out(&told(&file.display().to_string(), &verdict, args.json, files.len() == 1)?)?;
    }
    if unknown_keys && args.keys.is_none() {
        eprintln!("no keys are trusted: name them with --keys, for instance --keys https://HOST/.well-known/jwks.json");
    }
    Ok(ExitCode::from(worst))
}

fn told(file: &str, verdict: &Verdict, as_json: bool, alone: bool) -> Result<String, Failure> {
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
    line.push_str(&format!(" ({} {receipts}, keys {})\n", verdict.receipts, verdict.trusted));
    Ok(line)
}

/// Directories become their `*.json`, in order of their names.
fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut expanded = Vec::new();
    for file in files {
        if !file.is_dir() {
            expanded.push(file.clone());
            continue;
        }
        let unreadable = |error| Failure::new(format!("{} cannot be read", file.display())).because(error);
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(file).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
                inside.push(path);
            }
        }
        if inside.is_empty() {
            return Err(Failure::new(format!("{} holds no *.json", file.display())));
        }
        inside.sort();
        expanded.extend(inside);
    }
    Ok(expanded)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new(STDIN) {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| Failure::new(format!("{} cannot be read", file.display())).because(error))
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
        let told: serde_json::Value = serde_json::from_str(&told("f", &verdict, true, true).unwrap()).unwrap();
        let members: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = ["verdict", "index", "check", "detail", "receipts", "trusted"];
        expected.sort_unstable();
        assert_eq!(members, expected);
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
