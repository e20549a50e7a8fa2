//! How answers are printed: as a table for people, or as JSON for programs.

use std::io::{ErrorKind, Write as _};

use event::time::Timestamp;
use serde::Serialize;

use crate::failure::{Doing as _, Failure};

/// Writes to stdout. A reader that has read enough (`| head`) is no failure.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).doing("stdout cannot be written"),
        _ => Ok(()),
    }
}

/// One JSON document, readable by people too.
pub(crate) fn json(answer: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(answer).doing("the answer cannot be written as JSON")?;
    text.push('\n');
    out(&text)
}

/// A table whose first row are the headings; columns as wide as their widest text.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One row of a table.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// A time as every answer writes it.
pub(crate) fn time(millis: i64) -> String {
    Timestamp::from_millis(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let rows = [row(["a", "topic"]), row(["longer", "é"])];
        assert_eq!(table(&rows), "a       topic\nlonger  é\n");
    }
}
