//! Golden vectors of the fee, and what holds for every fee.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code fails by panicking")]
use billing::{Charge, Discount, Minor, PPM, Schedule, Tariffs, debits_equal_credits, exchange_charge, fee};
use proptest::prelude::*;
use serde_json::Value;

fn integer(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

fn ppm(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn written(schedule: &Value) -> Schedule {
    let discounts = schedule["discounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|discount| Discount {
            from_volume_minor: i64::try_from(integer(&discount["from_volume_minor"])).unwrap(),
            factor_ppm: ppm(&discount["factor_ppm"]),
        })
        .collect();
    let fixed = Minor::parse(schedule["fixed_minor"].as_str().unwrap()).unwrap();
    Schedule::new(schedule["currency"].as_str().unwrap(), ppm(&schedule["rate_ppm"]), fixed, discounts).unwrap()
}

#[test]
fn every_golden_fee_comes_out() {
    let tariffs = Tariffs::builtin();
    let mut seen = 0;
    for line in include_str!("fee.jsonl").lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let request = &vector["request"];
        let schedule = match request.get("schedule") {
            Some(own) => written(own),
            None => tariffs.at(request["currency"].as_str().unwrap(), 0).unwrap().0.clone(),
        };
        let gross = Minor::parse(request["gross_minor"].as_str().unwrap()).unwrap();
        let split = fee(&schedule, gross, integer(&request["volume_minor"])).unwrap();
        assert_eq!(split.fee.to_string(), vector["expected"]["fee_minor"].as_str().unwrap(), "{}", vector["id"]);
        assert_eq!(split.net.to_string(), vector["expected"]["net_minor"].as_str().unwrap(), "{}", vector["id"]);
        seen += 1;
    }
    assert_eq!(seen, 20);
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let discounts = proptest::collection::btree_map(0..i64::MAX, 0..=PPM, 0..4);
    (0..=PPM, 0_i64..=i64::MAX, discounts).prop_map(|(rate_ppm, fixed, discounts)| {
        let discounts = discounts
            .into_iter()
            .map(|(from_volume_minor, factor_ppm)| Discount { from_volume_minor, factor_ppm })
            .collect();
        Schedule::new("USD", rate_ppm, Minor::new(fixed), discounts).unwrap()
    })
}

proptest! {
    #[test]
    fn fee_and_net_are_the_gross_and_neither_changes_sides(
        schedule in schedules(), gross in any::<i64>(), volume in 0_i128..i128::MAX
    ) {
        let split = fee(&schedule, Minor::new(gross), volume).unwrap();
        prop_assert_eq!(split.fee.plus(split.net).unwrap(), Minor::new(gross));
        for part in [split.fee.units(), split.net.units()] {
            prop_assert!(part == 0 || part.signum() == gross.signum());
        }
    }

    #[test]
    fn a_reversal_mirrors_its_original_to_the_unit(
        schedule in schedules(), gross in 0..=i64::MAX, volume in 0_i128..=i128::from(i64::MAX)
    ) {
        let forth = fee(&schedule, Minor::new(gross), volume).unwrap();
        let back = fee(&schedule, Minor::new(-gross), volume).unwrap();
        prop_assert_eq!(forth.fee.mirrored().unwrap(), back.fee);
        prop_assert_eq!(forth.net.mirrored().unwrap(), back.net);
    }

    #[test]
    fn a_higher_gross_never_costs_less_and_a_higher_volume_never_more(
        gross in 0..i64::MAX, more in 0..1_000_000_i64, volume in 0_i128..10_000_000, later in 0_i128..10_000_000
    ) {
        let tariffs = Tariffs::builtin();
        let schedule = tariffs.at("USD", 0).unwrap().0;
        let small = fee(schedule, Minor::new(gross), volume).unwrap().fee;
        prop_assert!(fee(schedule, Minor::new(gross.saturating_add(more)), volume).unwrap().fee >= small);
        prop_assert!(fee(schedule, Minor::new(gross), volume + later).unwrap().fee <= small);
    }

    #[test]
    fn the_fee_is_the_nearest_unit_to_the_exact_one(gross in 30..i64::MAX) {
        let tariffs = Tariffs::builtin();
        let split = fee(tariffs.at("USD", 0).unwrap().0, Minor::new(gross), 0).unwrap();
        let exact_ppm = i128::from(gross) * 28_000 + 28_000_000;
        let distance = i128::from(split.fee.units()) * 1_000_000 - exact_ppm;
        prop_assert!((-499_999..=500_000).contains(&distance), "{distance}");
    }

    #[test]
    fn every_charge_keeps_led_1(schedule in schedules(), gross in 0..=i64::MAX, volume in 0_i128..i128::MAX) {
        let charge = Charge { tenant: "acme", payee: "agent-7", gross: Minor::new(gross), volume };
        let transfers = exchange_charge(&schedule, charge).unwrap();
        prop_assert_eq!(debits_equal_credits(&transfers, Minor::new(gross)), Ok(true));
    }
}
