//! Money and decimals: whatever is asked, the parts sum to the whole and nothing overflows.
#![no_main]

use billing::{Currency, Decimal, Minor, PPM, Tier, Usage, minor_units, overage, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, Vec<u32>, Vec<(u64, u64)>, u64, u64, String)| {
    let (total, mut shares, tiers, used, reserved, text) = input;
    let mut left = PPM;
    for share in &mut shares {
        *share %= left + 1;
        left -= *share;
    }
    shares.push(left);
    let parts = split(Minor::new(total), &shares).expect("the shares are a whole");
    assert_eq!(parts.iter().map(|part| i128::from(part.units())).sum::<i128>(), i128::from(total));
    assert!(parts.iter().zip(&shares).all(|(part, share)| *share > 0 || *part == Minor::ZERO));
    let tiers: Vec<Tier> = tiers.into_iter().map(|(threshold, unit_price_nano)| Tier { threshold, unit_price_nano }).collect();
    let dollars = Currency::of("USD").expect("a currency");
    if let Ok(priced) = overage(dollars, Usage { used, reserved }, &tiers) {
        assert_eq!(priced.units, used.saturating_sub(reserved));
        assert_eq!(priced.lines.iter().map(|line| line.units).sum::<u64>(), priced.units);
    }
    if let Ok(number) = Decimal::parse(&text) {
        assert!(text.parse::<f64>().is_ok(), "what is read is a number");
        let _ = minor_units(dollars, number);
    }
});
