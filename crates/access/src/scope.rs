//! What an API key may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One permission. The list is closed: an unknown name is an error wherever scopes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Scope {
    ExchangeWrite,
    ExchangeRead,
    ReceiptRead,
    LedgerRead,
    LedgerWrite,
    DealWrite,
    DealRead,
    NodeWrite,
    AuditRead,
    FeedPremium,
    Admin,
}

/// No scope of that name exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no scope `{0}`; scopes are exchange:write, exchange:read, receipt:read, ledger:read, ledger:write, \
         deal:write, deal:read, node:write, audit:read, feed:premium, admin"
)]
pub struct UnknownScope(pub String);

impl Scope {
    pub const ALL: [Self; 11] = [
        Self::ExchangeWrite,
        Self::ExchangeRead,
        Self::ReceiptRead,
        Self::LedgerRead,
        Self::LedgerWrite,
        Self::DealWrite,
        Self::DealRead,
        Self::NodeWrite,
        Self::AuditRead,
        Self::FeedPremium,
        Self::Admin,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExchangeWrite => "exchange:write",
            Self::ExchangeRead => "exchange:read",
            Self::ReceiptRead => "receipt:read",
            Self::LedgerRead => "ledger:read",
            Self::LedgerWrite => "ledger:write",
            Self::DealWrite => "deal:write",
            Self::DealRead => "deal:read",
            Self::NodeWrite => "node:write",
            Self::AuditRead => "audit:read",
            Self::FeedPremium => "feed:premium",
            Self::Admin => "admin",
        }
    }
}

impl From<Scope> for &'static str {
    fn from(scope: Scope) -> Self {
        scope.as_str()
    }
}

impl TryFrom<String> for Scope {
    type Error = UnknownScope;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name).ok_or_else(|| UnknownScope(name.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// What a key gets when nobody says otherwise: everything that reads but the audit, and `exchange:write`.
    pub fn standard() -> Self {
        Self(BTreeSet::from([
            Scope::ExchangeWrite,
            Scope::ExchangeRead,
            Scope::ReceiptRead,
            Scope::LedgerRead,
            Scope::DealRead,
        ]))
    }

    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

/// Comma-separated, as on the command line.
impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(names: &str) -> Result<Self, Self::Err> {
        names.split(',').map(|name| name.trim().parse()).collect::<Result<BTreeSet<_>, _>>().map(Self)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            scope.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_scopes_read_everything_but_the_audit_and_write_exchanges() {
        let standard = Scopes::standard();
        for scope in Scope::ALL {
            let expected =
                scope == Scope::ExchangeWrite || (scope.as_str().ends_with(":read") && scope != Scope::AuditRead);
            assert_eq!(standard.contains(scope), expected, "{scope}");
        }
    }

    #[test]
    fn scopes_read_back_what_they_print_and_refuse_unknown_names() {
        let scopes: Scopes = "ledger:read, exchange:write".parse().unwrap();
        assert_eq!(scopes.to_string(), "exchange:write,ledger:read");
        assert_eq!(scopes.to_string().parse::<Scopes>().unwrap(), scopes);
        assert!("exchange:wirte".parse::<Scopes>().is_err());
        assert!(serde_json::from_str::<Scopes>(r#"["exchange:wirte"]"#).is_err());
        assert_eq!(serde_json::to_string(&scopes).unwrap(), r#"["exchange:write","ledger:read"]"#);
    }
}
