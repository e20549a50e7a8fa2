//! Fees, splits, tiers, payouts, credits and minor units.

use billing::{
    CreditsError, Decimal, DecimalError, Discount, Minor, Multiplier, PayoutError, PayoutSchedule, Schedule,
    ScheduleError, SplitError, Tariffs, Tier, TierError, Usage,
};
use event::door::{Limits, canonicalise};
use serde_json::{Value, json};

use super::request::{Members, Outcome, Refused, too_large};

/// The largest integer that every JSON reader keeps (RFC 7493).
const SAFE_INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// `currency`, `gross_minor`, `volume_minor`, perhaps `schedule` -> `fee_minor`, `net_minor`.
pub(super) fn fee(request: &Members<'_>) -> Outcome {
    request.only(&["currency", "gross_minor", "volume_minor", "schedule"])?;
    let currency = request.currency_code("currency")?;
    let (gross, volume) = (request.minor("gross_minor")?, request.positive_minor("volume_minor")?);
    let schedule = match request.optional("schedule") {
        Some(_) => schedule(&request.object("schedule")?)?,
        None => builtin_schedule(currency)?,
    };
    if schedule.currency().code() != currency {
        return Err(Refused::invalid("/schedule/currency", "the schedule is for another currency"));
    }
    let fee = billing::fee(&schedule, gross, i128::from(volume)).map_err(|error| match error {
        ScheduleError::Money(error) => too_large(error),
        other => Refused::new("invalid_request", other.to_string()),
    })?;
    Ok(json!({"fee_minor": fee.fee.to_string(), "net_minor": fee.net.to_string()}))
}

fn no_tariff(currency: &str) -> Refused {
    Refused::new("no_tariff", format!("there is no built-in schedule for {currency}")).at("/currency")
}

/// The newest of the shipped ones: there is no clock here.
fn builtin_schedule(currency: &str) -> Result<Schedule, Refused> {
    let tariffs = Tariffs::builtin();
    let schedule = tariffs.at(currency, i64::MAX).map(|(schedule, _)| schedule.clone());
    schedule.ok_or_else(|| no_tariff(currency))
}

fn schedule(written: &Members<'_>) -> Result<Schedule, Refused> {
    written.only(&["currency", "rate_ppm", "fixed_minor", "discounts"])?;
    let currency = written.currency("currency")?;
    let (rate_ppm, fixed) = (written.ppm("rate_ppm")?, written.positive_minor("fixed_minor")?);
    let discounts = match written.optional("discounts") {
        Some(_) => written.objects("discounts")?.iter().map(discount).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Schedule::new(currency.code(), rate_ppm, Minor::new(fixed), discounts)
        .map_err(|error| written.refuse_for("discounts", &error))
}

fn discount(written: &Members<'_>) -> Result<Discount, Refused> {
    written.only(&["from_volume_minor", "factor_ppm"])?;
    Ok(Discount {
        from_volume_minor: written.positive_minor("from_volume_minor")?,
        factor_ppm: written.ppm("factor_ppm")?,
    })
}

/// `total_minor`, `shares_ppm` -> `parts_minor`.
pub(super) fn split(request: &Members<'_>) -> Outcome {
    request.only(&["total_minor", "shares_ppm"])?;
    let (total, shares) = (request.minor("total_minor")?, request.shares("shares_ppm")?);
    let parts = billing::split(total, &shares).map_err(|error| match error {
        SplitError::NotWhole => request.refuse_for("shares_ppm", &error),
        SplitError::Money(error) => too_large(error),
    })?;
    Ok(json!({"parts_minor": parts.iter().map(Minor::to_string).collect::<Vec<_>>()}))
}

/// `currency`, `used`, `reserved`, `tiers` -> `overage`, `total_minor`, `lines`.
pub(super) fn tiers(request: &Members<'_>) -> Outcome {
    request.only(&["currency", "used", "reserved", "tiers"])?;
    let currency = request.currency("currency")?;
    let usage = Usage { used: request.count("used")?, reserved: request.count("reserved")? };
    let tiers = request.objects("tiers")?.iter().map(tier).collect::<Result<Vec<_>, _>>()?;
    let overage = billing::overage(currency, usage, &tiers).map_err(|error| match error {
        TierError::NoTier => request.refuse_for("tiers", &error),
        TierError::Money(error) => too_large(error),
    })?;
    let lines = overage.lines.iter().map(|line| json!({"tier": line.tier, "units": line.units}));
    Ok(json!({
        "overage": overage.units,
        "total_minor": overage.total.to_string(),
        "lines": lines.collect::<Vec<Value>>(),
    }))
}

fn tier(written: &Members<'_>) -> Result<Tier, Refused> {
    written.only(&["threshold", "unit_price_nano"])?;
    // Spelt as money is: an integer in one way, here in nano of the major unit.
    let price = written.positive_minor("unit_price_nano")?;
    Ok(Tier { threshold: written.count("threshold")?, unit_price_nano: price.unsigned_abs() })
}

/// `currency`, `amount_minor` -> `fee_minor`, `net_minor`.
pub(super) fn payout(request: &Members<'_>) -> Outcome {
    request.only(&["currency", "amount_minor"])?;
    let currency = request.currency_code("currency")?;
    let amount = request.minor("amount_minor")?;
    let schedule = PayoutSchedule::builtin(currency).ok_or_else(|| no_tariff(currency))?;
    let paid = billing::payout(&schedule, amount).map_err(|error| match error {
        PayoutError::BelowMinimum(_) => request.refuse_for("amount_minor", &error),
        PayoutError::Money(error) => too_large(error),
    })?;
    Ok(json!({"fee_minor": paid.fee.to_string(), "net_minor": paid.net.to_string()}))
}

/// `benchmark_seconds`, `duration_seconds` -> `multiplier`, `credits`.
pub(super) fn credits(request: &Members<'_>) -> Outcome {
    request.only(&["benchmark_seconds", "duration_seconds"])?;
    let (benchmark, duration) = (request.decimal("benchmark_seconds")?, request.decimal("duration_seconds")?);
    let refused = |name: &'static str| {
        move |error: CreditsError| match error {
            CreditsError::NotPositive => request.refuse_for(name, &error),
            CreditsError::Money(error) => too_large(error),
        }
    };
    let multiplier = Multiplier::of_benchmark(benchmark).map_err(refused("benchmark_seconds"))?;
    let credits = multiplier.credits(duration).map_err(refused("duration_seconds"))?;
    if credits > SAFE_INTEGER_MAX {
        return Err(too_large(billing::MoneyError::Overflow));
    }
    Ok(json!({"multiplier": multiplier.to_string(), "credits": credits}))
}

/// `currency`, `amount` (a JSON number or its text) -> `minor`.
pub(super) fn minor_units(request: &Members<'_>) -> Outcome {
    request.only(&["currency", "amount"])?;
    let currency = request.currency("currency")?;
    let amount = match request.optional("amount") {
        // The door has read it from its canonical form already.
        Some(Value::Number(_)) => request.decimal("amount")?,
        _ => canonical_number(request, request.text("amount")?)?,
    };
    let minor = billing::minor_units(currency, amount).map_err(|error| match error {
        DecimalError::Money(error) => too_large(error).at("/amount"),
        other => request.refuse_for("amount", &other),
    })?;
    Ok(json!({"minor": minor.to_string()}))
}

/// What a payload with this number means, by the canonical form that its cid covers.
fn canonical_number(request: &Members<'_>, text: &str) -> Result<Decimal, Refused> {
    let is_number = |byte: Option<u8>| byte.is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
    if !is_number(text.bytes().next()) || !is_number(text.bytes().last()) {
        return Err(request.refuse("amount", "must be the text of a JSON number"));
    }
    let mut canonical = Vec::new();
    canonicalise(text.as_bytes(), &Limits::default(), &mut canonical)
        .map_err(|refusal| Refused::by_door(&refusal).at("/amount"))?;
    Decimal::parse(&String::from_utf8_lossy(&canonical)).map_err(|error| request.refuse_for("amount", &error))
}
