//! Where a delivery may go.

use std::net::{IpAddr, SocketAddr};

use event::destination::{
    AddressRules, Allowlist, Destination, Nat64Prefix, Refusal, Verdict, allowed, dialable, judge_address,
};
use serde_json::{Value, json};

use super::request::{Members, Outcome, Refused};

/// The reason where a text is no address, in no spelling of ours.
const NOT_AN_ADDRESS: &str = "not_an_address";

/// `address`, perhaps `nat64_prefixes` -> `verdict`, `reason`.
pub(super) fn address(request: &Members<'_>) -> Outcome {
    request.only(&["address", "nat64_prefixes"])?;
    let prefixes = nat64_prefixes(request)?;
    // `127.1` and `0x7f.1` mean an address to some programs and none to others: such a text is never dialled.
    let Ok(address) = request.text("address")?.parse::<IpAddr>() else { return Ok(denied(NOT_AN_ADDRESS)) };
    Ok(match judge_address(address, &prefixes, &[]) {
        Verdict::Allow(reason) => json!({"verdict": "allow", "reason": reason}),
        Verdict::Deny(reason) => denied(reason),
    })
}

/// `url`, `allowlist`, perhaps `addresses` and `nat64_prefixes` -> `verdict`, `reason`, and what would be dialled.
pub(super) fn url(request: &Members<'_>) -> Outcome {
    request.only(&["url", "allowlist", "addresses", "nat64_prefixes"])?;
    let url = request.text("url")?;
    let allowlist = Allowlist::lenient(request.texts("allowlist")?);
    let rules = AddressRules { nat64_prefixes: nat64_prefixes(request)?, networks_allowed: Vec::new() };
    let resolved = request.optional_texts("addresses")?;
    Ok(match judge(url, &allowlist, &resolved, &rules) {
        Err(reason) => denied(reason),
        Ok((destination, dial)) => json!({
            "verdict": "allow",
            "reason": "allowlisted",
            "host": destination.host().to_string(),
            "port": destination.port(),
            "dial": dial.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
        }),
    })
}

fn judge(
    url: &str,
    allowlist: &Allowlist,
    resolved: &[&str],
    rules: &AddressRules,
) -> Result<(Destination, Vec<SocketAddr>), &'static str> {
    let destination = Destination::parse(url).map_err(Refusal::code)?;
    if !allowed(&destination, allowlist) {
        return Err(Refusal::NotAllowlisted.code());
    }
    let resolved = resolved.iter().map(|text| text.parse::<IpAddr>().map_err(|_| NOT_AN_ADDRESS));
    let resolved = resolved.collect::<Result<Vec<_>, _>>()?;
    let dial = dialable(&destination, &resolved, rules).map_err(Refusal::code)?;
    Ok((destination, dial))
}

fn nat64_prefixes(request: &Members<'_>) -> Result<Vec<Nat64Prefix>, Refused> {
    let texts = request.optional_texts("nat64_prefixes")?.into_iter().enumerate();
    texts
        .map(|(index, text)| {
            let parsed = text.parse::<Nat64Prefix>();
            parsed.map_err(|error| Refused::invalid(request.pointer_at("nat64_prefixes", index), error.to_string()))
        })
        .collect()
}

fn denied(reason: &str) -> Value {
    json!({"verdict": "deny", "reason": reason})
}
