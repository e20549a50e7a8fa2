//! Reads: one function for each question, for HTTP and for the command line.

mod evidence;
mod exchanges;
mod ledger;

use serde_json::Value;

use crate::ViewError;
use crate::db::{Bind, Row};

pub(crate) use exchanges::ExchangeFilter;
pub use exchanges::{Hop, Known};
pub(crate) use ledger::EntryFilter;

/// One page, and where the next begins.
#[derive(Debug)]
pub(crate) struct Page<T, C> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<C>,
}

/// A statement in the making.
struct Sql {
    text: String,
    binds: Vec<Bind>,
}

impl Sql {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), binds: Vec::new() }
    }

    /// Appends a text in which each `?` becomes the number of the next bind.
    fn and(&mut self, text: &str, binds: impl IntoIterator<Item = Bind>) {
        let mut binds = binds.into_iter();
        for part in text.split_inclusive('?') {
            match part.strip_suffix('?') {
                Some(before) => {
                    self.binds.extend(binds.next());
                    self.text.push_str(before);
                    self.text.push('$');
                    self.text.push_str(&self.binds.len().to_string());
                }
                None => self.text.push_str(part),
            }
        }
    }
}

/// Cuts the row that only says that there is more.
fn page<T, C>(
    rows: &[Row],
    limit: i64,
    read: impl Fn(&Row) -> Result<(T, C), ViewError>,
) -> Result<Page<T, C>, ViewError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut items = Vec::with_capacity(rows.len().min(limit));
    let mut last = None;
    for row in rows.iter().take(limit) {
        let (item, key) = read(row)?;
        items.push(item);
        last = Some(key);
    }
    Ok(Page { items, next: last.filter(|_| rows.len() > limit) })
}

fn stored_json(text: Option<String>, table: &'static str) -> Result<Option<Value>, ViewError> {
    text.map(|text| serde_json::from_str(&text).map_err(|_| ViewError::Damaged(table))).transpose()
}
