//! The functions by name, and examples of them.

use clap::ValueEnum;

use super::request::answer;
use super::{addresses, documents, money, webhooks};

/// What can be worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Function {
    /// The canonical form of a JSON document and its digest
    Canonicalize,
    /// The id of an exchange
    ExchangeId,
    /// The fee of an exchange
    Fee,
    /// A total divided by shares
    Split,
    /// What usage beyond the reserve costs
    Tiers,
    /// The fee of a payout
    Payout,
    /// What a node's work is worth
    Credits,
    /// An amount in minor units
    MinorUnits,
    /// Whether an address may be dialled
    SsrfAddress,
    /// Whether a delivery may go to a URL
    SsrfUrl,
    /// The signatures of a webhook
    WebhookSign,
    /// Whether a webhook is what it says
    WebhookVerify,
    /// A hash as older systems made it
    CompatHash,
}

impl Function {
    /// One line of answer, without its newline.
    pub(super) fn answer(self, line: &[u8]) -> String {
        let work_out = match self {
            Self::Canonicalize => documents::canonicalize,
            Self::ExchangeId => documents::exchange_id,
            Self::CompatHash => documents::compat_hash,
            Self::Fee => money::fee,
            Self::Split => money::split,
            Self::Tiers => money::tiers,
            Self::Payout => money::payout,
            Self::Credits => money::credits,
            Self::MinorUnits => money::minor_units,
            Self::SsrfAddress => addresses::address,
            Self::SsrfUrl => addresses::url,
            Self::WebhookSign => webhooks::sign,
            Self::WebhookVerify => webhooks::verify,
        };
        answer(line, work_out)
    }

    /// Requests worth a look. The keys among them were made for this page and belong to nobody.
    pub(super) fn examples(self) -> &'static [&'static str] {
        match self {
            Self::Canonicalize => &[
                r#"{"text":"{\"b\":[1e2,\"\\u00e9\"],\"a\":-0.0}"}"#,
                r#"{"base64":"eyJhIjoxfQ==","id":7}"#,
                r#"{"text":"{\"lines\":[{\"price\":9007199254740993}]}"}"#,
            ],
            Self::ExchangeId => &[r#"{"tenant":"acme","idempotency_key":"order-1"}"#],
            Self::Fee => &[
                r#"{"currency":"USD","gross_minor":"9900","volume_minor":"0"}"#,
                r#"{"currency":"USD","gross_minor":"-9900","volume_minor":"100000"}"#,
                r#"{"currency":"EUR","gross_minor":"1000","volume_minor":"0"}"#,
                r#"{"currency":"EUR","gross_minor":"1000","volume_minor":"500","schedule":{"currency":"EUR","rate_ppm":28000,"fixed_minor":"25","discounts":[{"from_volume_minor":"500","factor_ppm":900000}]}}"#,
            ],
            Self::Split => &[
                r#"{"total_minor":"1000","shares_ppm":[333333,333333,333334]}"#,
                r#"{"total_minor":"-1","shares_ppm":[500000,500000]}"#,
                r#"{"total_minor":"1000","shares_ppm":[500000,400000]}"#,
            ],
            Self::Tiers => &[
                r#"{"currency":"USD","used":112000,"reserved":100000,"tiers":[{"threshold":5000,"unit_price_nano":"5000000"},{"threshold":10000,"unit_price_nano":"8000000"}]}"#,
            ],
            Self::Payout => {
                &[r#"{"currency":"USD","amount_minor":"25000"}"#, r#"{"currency":"USD","amount_minor":"2499"}"#]
            }
            Self::Credits => &[
                r#"{"benchmark_seconds":"3","duration_seconds":"10"}"#,
                r#"{"benchmark_seconds":"17.5","duration_seconds":"120"}"#,
            ],
            Self::MinorUnits => &[
                r#"{"currency":"USD","amount":"12.50"}"#,
                r#"{"currency":"JPY","amount":"1e3"}"#,
                r#"{"currency":"USD","amount":"1.005"}"#,
            ],
            Self::SsrfAddress => &[
                r#"{"address":"169.254.169.254"}"#,
                r#"{"address":"64:ff9b::8.8.8.8"}"#,
                r#"{"address":"2001:67c:64::10.0.0.1","nat64_prefixes":["2001:67c:64::/96"]}"#,
            ],
            Self::SsrfUrl => &[
                r#"{"url":"https://Bücher.example/hook","allowlist":["*.example","bücher.example"],"addresses":["93.184.215.14"]}"#,
                r#"{"url":"https://0x7f.1/","allowlist":["*"]}"#,
                r#"{"url":"https://good.example/","allowlist":["good.example"],"addresses":["93.184.215.14","10.0.0.1"]}"#,
            ],
            Self::WebhookSign => &[
                r#"{"webhook_id":"ex_0123456789abcdefghjkmnpqrs","webhook_timestamp":"1767225600","body":"{\"a\":1}","secret":"whsec_Y291bnRlcnNpZ24gZXhhbXBsZSBzZWNyZXQ="}"#,
            ],
            Self::WebhookVerify => &[
                r#"{"headers":{"webhook-id":"ex_0123456789abcdefghjkmnpqrs","webhook-timestamp":"1767225600","webhook-signature":"v1,AAAA"},"body":"{\"a\":1}","secrets":["whsec_Y291bnRlcnNpZ24gZXhhbXBsZSBzZWNyZXQ="],"public_keys":[],"now":1767225600,"tolerance_seconds":300}"#,
            ],
            Self::CompatHash => &[
                r#"{"recipe":"A-26","input":"{\"deal_id\":\"deal_0123456789ab\",\"action\":\"settle\",\"params\":{\"amount\":100.0}}"}"#,
                r#"{"recipe":"A-30","input":"{\"deal_id\":\"deal_123\",\"proof_hash\":\"abc123\",\"provider\":\"ci_cd\",\"verified\":true,\"confidence\":0.85}"}"#,
            ],
        }
    }
}
