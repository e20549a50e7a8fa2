//! Numbers modulo p = 2^255 - 19, in five limbs of 51 bits.
//!
//! For points of public keys and signatures alone: nothing here is secret, and nothing is wiped. Limbs may be larger than 51
//! bits between operations. *Tight* is what a product has, below 2^51 + 2^13; a sum of two of those and a difference of
//! a sum and one of those stay below 2^54, which is what a factor may have.

use std::ops::{Add, Mul, Sub};

const LIMB_BITS: u32 = 51;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;
/// p - 2, to invert.
const P_MINUS_2: [u8; 32] = exponent(0xeb, 0x7f);
/// (p - 5) / 8, for roots.
const P_MINUS_5_EIGHTH: [u8; 32] = exponent(0xfd, 0x0f);
/// (p - 1) / 4: 2 to that is a root of -1.
const P_MINUS_1_FOURTH: [u8; 32] = exponent(0xfb, 0x1f);

/// Bytes that are all ones but for the first and the last.
const fn exponent(first: u8, last: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Number([u64; 5]);

impl Number {
    pub(crate) const ZERO: Self = Self([0; 5]);
    pub(crate) const ONE: Self = Self([1, 0, 0, 0, 0]);

    pub(crate) const fn small(value: u32) -> Self {
        Self([value as u64, 0, 0, 0, 0])
    }

    /// Little-endian; the highest bit is passed over. Tight.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; 5];
        let mut bytes = bytes.iter();
        let (mut held, mut bits) = (0_u128, 0);
        for limb in &mut limbs {
            while bits < LIMB_BITS {
                let Some(byte) = bytes.next() else { break };
                held |= u128::from(*byte) << bits;
                bits += 8;
            }
            *limb = low(held);
            held >>= LIMB_BITS;
            bits = bits.saturating_sub(LIMB_BITS);
        }
        Self(limbs)
    }

    /// The one encoding below p, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        // Twice carried, it is below 2^255 + 2^13; whether it is p or more shows when 19 is added.
        let mut number = self.carried().carried();
        let mut carry = 19;
        for limb in number.0 {
            carry = (limb + carry) >> LIMB_BITS;
        }
        carry *= 19;
        for limb in &mut number.0 {
            let sum = *limb + carry;
            (*limb, carry) = (sum & LIMB_MASK, sum >> LIMB_BITS);
        }
        let mut bytes = [0; 32];
        let mut limbs = number.0.into_iter();
        let (mut held, mut bits) = (0_u128, 0);
        for byte in &mut bytes {
            if bits < 8 {
                held |= u128::from(limbs.next().unwrap_or_default()) << bits;
                bits += LIMB_BITS;
            }
            [*byte, ..] = held.to_le_bytes();
            held >>= 8;
            bits = bits.saturating_sub(8);
        }
        bytes
    }

    pub(crate) fn is_odd(self) -> bool {
        self.to_bytes().first().is_some_and(|byte| byte & 1 == 1)
    }

    /// The same, with what each limb has above 51 bits carried to the next.
    fn carried(self) -> Self {
        let [a, b, c, d, e] = self.0;
        let b = b + (a >> LIMB_BITS);
        let c = c + (b >> LIMB_BITS);
        let d = d + (c >> LIMB_BITS);
        let e = e + (d >> LIMB_BITS);
        let a = (a & LIMB_MASK) + 19 * (e >> LIMB_BITS);
        Self([a, b & LIMB_MASK, c & LIMB_MASK, d & LIMB_MASK, e & LIMB_MASK])
    }

    pub(crate) fn negated(self) -> Self {
        (Self::ZERO - self).carried()
    }

    pub(crate) fn doubled(self) -> Self {
        self + self
    }

    fn power(self, exponent: &[u8; 32]) -> Self {
        let mut power = Self::ONE;
        for byte in exponent.iter().rev() {
            for bit in (0..8).rev() {
                power = power * power;
                if byte >> bit & 1 == 1 {
                    power = power * self;
                }
            }
        }
        power
    }

    /// 1 / self; zero for zero.
    pub(crate) fn inverted(self) -> Self {
        self.power(&P_MINUS_2)
    }

    /// A number whose square times `self` is `of`, if there is one.
    pub(crate) fn root_of_quotient(self, of: Self) -> Option<Self> {
        let cube = self * self * self;
        let root = of * cube * (of * cube * cube * self).power(&P_MINUS_5_EIGHTH);
        let is_of = |root: &Self| (*root * *root * self).to_bytes() == (of * Self::ONE).to_bytes();
        let other = || root * Self::small(2).power(&P_MINUS_1_FOURTH);
        Some(root).filter(is_of).or_else(|| Some(other()).filter(is_of))
    }
}

/// Each of them inverted, with one inversion. None of them may be zero.
pub(crate) fn inverted_together(numbers: &[Number]) -> Vec<Number> {
    let mut product = Number::ONE;
    let mut inverses: Vec<Number> = Vec::with_capacity(numbers.len());
    for number in numbers {
        inverses.push(product);
        product = product * *number;
    }
    let mut inverse = product.inverted();
    for (before, number) in inverses.iter_mut().zip(numbers).rev() {
        *before = *before * inverse;
        inverse = inverse * *number;
    }
    inverses
}

fn low(wide: u128) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the mask leaves 51 bits")]
    {
        wide as u64 & LIMB_MASK
    }
}

/// Below 2^64 in all places where it is used: a column is below 2^114.
fn high(wide: u128) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "below 2^63, by the bounds of a factor")]
    {
        (wide >> LIMB_BITS) as u64
    }
}

impl Add for Number {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        Self([a + f, b + g, c + h, d + i, e + j])
    }
}

impl Sub for Number {
    type Output = Self;

    /// `other` must be tight: four times p is added, so that no limb goes below zero.
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        const FIRST: u64 = 4 * (LIMB_MASK - 18);
        const NEXT: u64 = 4 * LIMB_MASK;
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        Self([a + FIRST - f, b + NEXT - g, c + NEXT - h, d + NEXT - i, e + NEXT - j])
    }
}

impl Mul for Number {
    type Output = Self;

    /// Tight. Factors below 2^54.
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let times = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        // What goes beyond 2^255 comes back 19-fold.
        let (g19, h19, i19, j19) = (19 * g, 19 * h, 19 * i, 19 * j);
        let first = times(a, f) + times(b, j19) + times(c, i19) + times(d, h19) + times(e, g19);
        let second =
            times(a, g) + times(b, f) + times(c, j19) + times(d, i19) + times(e, h19) + u128::from(high(first));
        let third = times(a, h) + times(b, g) + times(c, f) + times(d, j19) + times(e, i19) + u128::from(high(second));
        let fourth = times(a, i) + times(b, h) + times(c, g) + times(d, f) + times(e, j19) + u128::from(high(third));
        let fifth = times(a, j) + times(b, i) + times(c, h) + times(d, g) + times(e, f) + u128::from(high(fourth));
        let first = low(first) + 19 * high(fifth);
        Self([first & LIMB_MASK, low(second) + (first >> LIMB_BITS), low(third), low(fourth), low(fifth)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sum of two, of which both are below p.
    fn number(low: u64, high: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[23..31].copy_from_slice(&high.to_le_bytes());
        bytes
    }

    #[test]
    fn numbers_at_the_edge_have_one_encoding() {
        let mut p = [0xff; 32];
        (p[0], p[31]) = (0xed, 0x7f);
        for above in 0..19_u8 {
            let mut bytes = p;
            bytes[0] += above;
            let mut expected = [0; 32];
            expected[0] = above;
            assert_eq!(Number::from_bytes(&bytes).to_bytes(), expected);
        }
        let mut below = p;
        below[0] -= 1;
        assert_eq!(Number::from_bytes(&below).to_bytes(), below);
        assert_eq!((Number::ZERO - Number::ONE).to_bytes(), below);
        assert_eq!(Number::from_bytes(&below).negated().to_bytes(), Number::ONE.to_bytes());
        assert_eq!((Number::from_bytes(&below) + Number::ONE).to_bytes(), [0; 32]);
        let largest = Number([(1 << 54) - 1; 5]);
        assert_eq!((largest * largest).to_bytes(), (largest.carried() * largest.carried()).to_bytes());
    }

    #[test]
    fn roots_are_found_where_there_are_some() {
        let (mut with, mut without) = (0, 0);
        for value in 1..200_u32 {
            let (of, by) = (Number::small(value), Number::small(value * 7 + 1));
            match by.root_of_quotient(of) {
                Some(root) => {
                    assert_eq!((root * root * by).to_bytes(), of.to_bytes());
                    with += 1;
                }
                None => without += 1,
            }
        }
        assert!(with > 70 && without > 70, "{with} {without}");
    }

    proptest! {
        #[test]
        fn a_number_comes_back_and_its_inverse_is_its_inverse(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
            let (x, y) = (Number::from_bytes(&a), Number::from_bytes(&b));
            prop_assert_eq!(Number::from_bytes(&x.to_bytes()).to_bytes(), x.to_bytes());
            prop_assert_eq!(((x + y) - y).to_bytes(), x.to_bytes());
            prop_assert_eq!(((x - y) * (x + y)).to_bytes(), (x * x - y * y).to_bytes());
            prop_assert_eq!((x * x.inverted()).to_bytes(), Number::ONE.to_bytes());
            let together = inverted_together(&[x, y, x * y]);
            let alone = [x, y, x * y].map(|number| number.inverted().to_bytes());
            prop_assert_eq!(together.into_iter().map(Number::to_bytes).collect::<Vec<_>>(), alone);
        }

        #[test]
        fn sums_are_those_of_integers(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            let bytes = (Number::from_bytes(&number(a.0, a.1)) + Number::from_bytes(&number(b.0, b.1))).to_bytes();
            let sum = |at: usize, a: u64, b: u64| {
                let wide = u128::from(a) + u128::from(b);
                bytes[at..at + 9] == wide.to_le_bytes()[..9]
            };
            prop_assert!(sum(0, a.0, b.0) && sum(23, a.1, b.1));
        }
    }
}
