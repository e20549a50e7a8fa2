//! State that the open transaction has changed and nobody else sees yet, of one partition.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use super::store::Store;
use crate::Fault;

#[derive(Debug, Default)]
pub(super) struct Staged {
    /// The last value of each cell; `None` removes it.
    cells: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    forgotten: Vec<Vec<u8>>,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.forgotten.is_empty()
    }

    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.cells.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    }

    pub(super) fn forget(&mut self, prefix: &[u8]) {
        self.cells.retain(|key, _| !key.starts_with(prefix));
        self.forgotten.push(prefix.to_vec());
    }

    pub(super) fn has_forgotten(&self, key: &[u8]) -> bool {
        self.forgotten.iter().any(|prefix| key.starts_with(prefix))
    }

    /// `None`: not staged. `Some(None)`: staged to be removed.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.cells.get(key).map(Option::as_deref)
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.cells.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    pub(super) fn forgotten(&self) -> &[Vec<u8>] {
        &self.forgotten
    }

    /// Both in one order, what is staged before what is stored.
    pub(super) fn scan_over(
        &self,
        store: &Store,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Fault> {
        let upwards = (Bound::Included(from), Bound::Unbounded);
        let mut own =
            self.cells.range::<[u8], _>(upwards).map(|(key, value)| (key.as_slice(), value.as_deref())).peekable();
        let mut goes_on = true;
        store.scan(from, &mut |key, value| {
            goes_on = show_before(&mut own, Some(key), visit)
                && match own.next_if(|(staged, _)| *staged == key) {
                    Some((_, staged)) => staged.is_none_or(|staged| visit(key, staged)),
                    None => self.has_forgotten(key) || visit(key, value),
                };
            goes_on
        })?;
        if goes_on {
            show_before(&mut own, None, visit);
        }
        Ok(())
    }
}

/// Shows the staged cells that come before `key`; answers whether more is wanted.
fn show_before<'a>(
    own: &mut Peekable<impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>>,
    key: Option<&[u8]>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> bool {
    while let Some((staged, value)) = own.next_if(|(staged, _)| key.is_none_or(|key| *staged < key)) {
        if value.is_some_and(|value| !visit(staged, value)) {
            return false;
        }
    }
    true
}
