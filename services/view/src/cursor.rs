//! Where the next page begins: opaque to clients, one list of texts to us.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const CURSOR_BYTES_MAX: usize = 1_024;

pub(crate) fn write(parts: &[String]) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(parts).unwrap_or_default())
}

/// Reads back exactly `N` parts; `None` for anything that `write` did not make.
pub(crate) fn read<const N: usize>(text: &str) -> Option<[String; N]> {
    if text.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let parts: Vec<String> = serde_json::from_slice(&bytes).ok()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nonsense_does_not() {
        let parts = ["17".to_owned(), "ex_1".to_owned()];
        assert_eq!(read::<2>(&write(&parts)), Some(parts.clone()));
        assert_eq!(read::<3>(&write(&parts)), None);
        for bad in ["", "!", "e30", &"A".repeat(2_000)] {
            assert_eq!(read::<2>(bad), None, "{bad}");
        }
    }
}
