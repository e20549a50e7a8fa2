//! What is to be verified: documents that are read whole, and lines of receipts that are not.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where a file is stdin.
const STDIN: &str = "-";
/// A receipt is far smaller.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 20;
/// A chain or a bundle is held in memory.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;
const READ_BYTES: usize = 1 << 18;
const BLOCK_LINES: usize = 256;
const BLOCK_BYTES: usize = 1 << 20;
/// What a directory's documents are called.
const EXTENSIONS: [&str; 3] = ["json", "jsonl", "ndjson"];

/// One input, as far as it must be known.
pub(super) enum Input {
    Document(Vec<u8>),
    Lines(Lines),
}

/// A receipt a line, read a block at a time.
pub(super) struct Lines {
    source: Box<dyn BufRead + Send>,
    /// Of the file, where it is one.
    pub(super) bytes: Option<u64>,
    name: String,
}

/// Some lines, those left out that are blank.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: Vec<u8>,
    ends: Vec<usize>,
    /// As many bytes of the input, blank lines and all.
    pub(super) bytes: u64,
}

impl Block {
    /// Each line, without its end.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or(&[]))
    }
}

/// Reads as much as tells lines of receipts from a document.
pub(super) fn open(path: &Path) -> Result<Input, Failure> {
    let name = path.display().to_string();
    let unreadable = |error| Failure::new(format!("{name} cannot be read")).because(error);
    let (source, bytes): (Box<dyn Read + Send>, _) = if path == Path::new(STDIN) {
        (Box::new(std::io::stdin()), None)
    } else {
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        (Box::new(file), metadata.is_file().then_some(metadata.len()))
    };
    let mut source = BufReader::with_capacity(READ_BYTES, source);
    let mut start = Vec::new();
    let mut first = None;
    loop {
        let from = start.len();
        let read = (&mut source).take(LINE_BYTES_MAX).read_until(b'\n', &mut start).map_err(unreadable)?;
        let line = start.get(from..).unwrap_or(&[]).trim_ascii();
        let is_first = first.is_none() && !line.is_empty();
        if is_first && proof::is_line(line) {
            first = Some(());
        } else if is_first || read == 0 || start.len() as u64 > 2 * LINE_BYTES_MAX {
            return whole(start, source, &name).map(Input::Document);
        } else if !line.is_empty() {
            return Ok(Input::Lines(Lines { source: Box::new(Cursor::new(start).chain(source)), bytes, name }));
        }
    }
}

fn whole(mut start: Vec<u8>, source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let unreadable = |error| Failure::new(format!("{name} cannot be read")).because(error);
    source.take(DOCUMENT_BYTES_MAX).read_to_end(&mut start).map_err(unreadable)?;
    if start.len() as u64 >= DOCUMENT_BYTES_MAX {
        let advice = "give the receipts one a line: lines are not held in memory";
        return Err(Failure::new(format!("{name} is larger than {DOCUMENT_BYTES_MAX} bytes")).try_this(advice));
    }
    Ok(start)
}

/// A document of any form, whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    match open(path)? {
        Input::Document(document) => Ok(document),
        Input::Lines(lines) => whole(Vec::new(), lines.source, &lines.name),
    }
}

impl Iterator for Lines {
    type Item = Result<Block, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut block = Block::default();
        while block.ends.len() < BLOCK_LINES && block.text.len() < BLOCK_BYTES {
            let start = block.text.len();
            let read = match (&mut self.source).take(LINE_BYTES_MAX).read_until(b'\n', &mut block.text) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    return Some(Err(Failure::new(format!("{} cannot be read", self.name)).because(error)));
                }
            };
            block.bytes += read as u64;
            let is_whole = block.text.ends_with(b"\n");
            if !is_whole && read as u64 == LINE_BYTES_MAX {
                let what = format!("{} has a line of {LINE_BYTES_MAX} bytes or more, which is no receipt", self.name);
                return Some(Err(Failure::new(what)));
            }
            let length = block.text.get(start..).unwrap_or(&[]).trim_ascii_end().len();
            let is_blank = block.text.get(start..start + length).is_none_or(|line| line.trim_ascii().is_empty());
            block.text.truncate(if is_blank { start } else { start + length });
            if !is_blank {
                block.ends.push(block.text.len());
            }
        }
        (block.bytes > 0).then_some(Ok(block))
    }
}

/// Directories become the documents in them, in order of their names.
pub(super) fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
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
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str) -> Input {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, text).unwrap();
        open(&file).unwrap()
    }

    #[test]
    fn lines_are_told_from_documents_by_how_they_begin() {
        for lines in ["{}\n{}", "\n\n {\"a\":1} \r\n\n{}\n", "{}\n17\n", "{\"a\":1,\"a\":1}\n{"] {
            assert!(matches!(opened(lines), Input::Lines(_)), "{lines:?}");
        }
        for document in ["", "{}", "{}\n\n", "[{}]", "{\n}\n", "[\n{}\n,{}]", "17\n18\n", "{\n{}\n"] {
            let Input::Document(read) = opened(document) else { panic!("{document:?} was taken for lines") };
            assert_eq!(read, document.as_bytes());
        }
    }

    #[test]
    fn blocks_hold_every_line_that_is_not_blank() {
        let mut text = String::new();
        for number in 0..1_000 {
            text.push_str(&format!("{{\"n\":{number}}}{}", if number % 3 == 0 { " \r\n\n" } else { "\n" }));
        }
        text.push_str("{}");
        let Input::Lines(lines) = opened(&text) else { panic!("they are lines") };
        assert_eq!(lines.bytes, Some(text.len() as u64));
        let blocks: Vec<Block> = lines.map(Result::unwrap).collect();
        assert!(blocks.len() >= 4 && blocks.iter().all(|block| block.ends.len() <= BLOCK_LINES));
        assert_eq!(blocks.iter().map(|block| block.bytes).sum::<u64>(), text.len() as u64);
        let read: Vec<&[u8]> = blocks.iter().flat_map(Block::lines).collect();
        let expected: Vec<&[u8]> =
            text.lines().map(|line| line.trim_ascii_end().as_bytes()).filter(|line| !line.is_empty()).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_without_end_is_refused_and_not_held() {
        let text = format!("{{}}\n{{}}\n{}", "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 1));
        let Input::Lines(mut lines) = opened(&text) else { panic!("they are lines") };
        assert!(lines.any(|block| block.is_err()));
    }
}
