//! Canonical form, ids and the hashes of older systems.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compat::Recipe;
use event::digest::digest_of;
use event::door::{Limits, canonicalise};
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use serde_json::json;

use super::request::{Members, Outcome, Refused};

/// `text` or `base64` -> `canonical`, `cid`. Pointers of refusals are into the document.
pub(super) fn canonicalize(request: &Members<'_>) -> Outcome {
    request.only(&["text", "base64"])?;
    let decoded;
    let document = match (request.optional_text("text")?, request.optional_text("base64")?) {
        (Some(text), None) => text.as_bytes(),
        (None, Some(encoded)) => {
            let bad = |_| request.refuse("base64", "must be base64 with padding (RFC 4648 section 4)");
            decoded = STANDARD.decode(encoded).map_err(bad)?;
            decoded.as_slice()
        }
        (None, None) => return Err(request.refuse("text", "text or base64 is needed")),
        (Some(_), Some(_)) => return Err(request.refuse("base64", "text or base64, not both")),
    };
    let mut canonical = Vec::new();
    canonicalise(document, &Limits::default(), &mut canonical).map_err(|refusal| Refused::by_door(&refusal))?;
    let cid = digest_of(&canonical).to_string();
    Ok(json!({"canonical": String::from_utf8_lossy(&canonical), "cid": cid}))
}

/// `tenant`, `idempotency_key` -> `exchange_id`.
pub(super) fn exchange_id(request: &Members<'_>) -> Outcome {
    request.only(&["tenant", "idempotency_key"])?;
    let (tenant, key) = (request.text("tenant")?, request.text("idempotency_key")?);
    let tenant = TenantId::parse(tenant).map_err(|error| request.refuse_for("tenant", &error))?;
    let key = IdempotencyKey::parse(key).map_err(|error| {
        Refused::new("idempotency_key_invalid", error.to_string()).at(request.pointer_of("idempotency_key"))
    })?;
    Ok(json!({"exchange_id": ExchangeId::derive(&tenant, &key).as_str()}))
}

/// `recipe`, `input` -> `hash`, `preimage`, for S-43 `cid`. Pointers of refusals are into the input.
pub(super) fn compat_hash(request: &Members<'_>) -> Outcome {
    request.only(&["recipe", "input"])?;
    let recipe = request.text("recipe")?.parse::<Recipe>();
    let recipe = recipe.map_err(|error| request.refuse_for("recipe", &error))?;
    let hashed = compat::hash(recipe, request.text("input")?.as_bytes()).map_err(|refusal| match refusal {
        compat::Refusal::Document(refusal) => Refused::by_door(&refusal),
        compat::Refusal::Input { pointer, detail } => Refused::invalid(pointer, detail),
    })?;
    let mut answer = json!({"hash": hashed.hash, "preimage": hashed.preimage});
    if let (Some(answer), Some(cid)) = (answer.as_object_mut(), hashed.cid) {
        answer.insert("cid".to_owned(), cid.to_string().into());
    }
    Ok(answer)
}
