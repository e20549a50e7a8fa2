//! Ed25519 with tables: what a key needs that checks thousands of signatures.
//!
//! The equation that decides is that of strict single verification, `[s]B - [k]A = R`, compared as bytes. A sum over a batch
//! with random factors would be another one: a signature whose `R` lies outside the prime-order group passes it by luck. Here
//! the points are the same and only reached sooner: a scalar is a few signed digits, and each digit's multiple is looked up, so
//! nothing is doubled; what is added has no denominator, and the points of a batch become bytes together, with one inversion.
//! `curve25519-dalek` offers no such addition, so the points are ours ([`crate::field`]).

use std::sync::LazyLock;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;

use crate::field::{Number, inverted_together};

/// Bits of a digit.
const WIDTH: u32 = 8;
/// Digits lie in -(DIGIT_MAX - 1)..=DIGIT_MAX: their bits, and what the digit below lends or borrows.
const DIGIT_MAX: usize = 1 << (WIDTH - 1);
/// Of a reduced scalar, which is below 2^253: the last digit lends to none.
const DIGITS: usize = 254_usize.div_ceil(WIDTH as usize);

/// A point of -x^2 + y^2 = 1 + d x^2 y^2 as X/Z and Y/Z, with T/Z = xy. All tight.
#[derive(Clone, Copy, Debug)]
struct Point {
    x: Number,
    y: Number,
    z: Number,
    t: Number,
}

/// A point as it is added: y + x, y - x and 2dxy. All tight.
#[derive(Clone, Copy, Debug)]
struct Addend {
    sum: Number,
    difference: Number,
    product: Number,
}

/// The multiples `digit * 2^(WIDTH * place)` of one point, for every digit at every place; 480 KiB.
pub(crate) struct Multiples(Vec<Addend>);

impl Point {
    const IDENTITY: Self = Self { x: Number::ZERO, y: Number::ONE, z: Number::ONE, t: Number::ZERO };

    fn affine(x: Number, y: Number) -> Self {
        Self { x, y, z: Number::ONE, t: x * y }
    }

    /// None: no point of the curve has this encoding.
    fn decoded(bytes: &[u8; 32]) -> Option<Self> {
        let is_negative = bytes.last().is_some_and(|byte| byte >> 7 == 1);
        let y = Number::from_bytes(bytes);
        let square = y * y;
        let x = (d() * square + Number::ONE).root_of_quotient(square - Number::ONE)?;
        Some(Self::affine(if x.is_odd() == is_negative { x } else { x.negated() }, y))
    }

    /// The sum, for any two points of the curve: the formula has no exceptions there.
    #[inline(always)]
    fn plus(&self, addend: &Addend, is_negative: bool) -> Self {
        let (sum, difference) =
            if is_negative { (&addend.difference, &addend.sum) } else { (&addend.sum, &addend.difference) };
        let a = (self.y - self.x) * *difference;
        let b = (self.y + self.x) * *sum;
        let c = self.t * addend.product;
        let twice = self.z.doubled();
        let (less, more) = (twice - c, twice + c);
        let (f, g) = if is_negative { (&more, &less) } else { (&less, &more) };
        let (e, h) = (b - a, b + a);
        Self { x: e * *f, y: *g * h, z: *f * *g, t: e * h }
    }
}

impl Point {
    /// The one encoding, where Z is inverted already.
    fn encoded(&self, inverse: Number) -> [u8; 32] {
        let mut encoded = (self.y * inverse).to_bytes();
        if let Some(last) = encoded.last_mut() {
            *last |= u8::from((self.x * inverse).is_odd()) << 7;
        }
        encoded
    }
}

impl Addend {
    /// Of a point whose Z is inverted already.
    fn of(point: &Point, inverse: Number, double_d: Number) -> Self {
        let (x, y) = (point.x * inverse, point.y * inverse);
        Self { sum: (y + x) * Number::ONE, difference: (y - x) * Number::ONE, product: x * y * double_d }
    }
}

/// d of the curve, -121665/121666.
fn d() -> Number {
    Number::small(121_665).negated() * Number::small(121_666).inverted()
}

impl Multiples {
    /// Costs about as much as checking 50 signatures without it.
    pub(crate) fn of(point: EdwardsPoint) -> Option<Self> {
        let double_d = d().doubled() * Number::ONE;
        let mut unit = Point::decoded(&point.compress().0)?;
        let mut multiples = Vec::with_capacity(DIGITS * DIGIT_MAX);
        for _ in 0..DIGITS {
            let addend = Addend::of(&unit, unit.z.inverted(), double_d);
            let points: Vec<Point> = std::iter::successors(Some(unit), |multiple| Some(multiple.plus(&addend, false)))
                .take(DIGIT_MAX)
                .collect();
            let inverses = inverted_together(&points.iter().map(|point| point.z).collect::<Vec<_>>());
            multiples.extend(points.iter().zip(inverses).map(|(point, inverse)| Addend::of(point, inverse, double_d)));
            // The largest digit twice over is the next place's unit.
            unit = points.last()?.plus(multiples.last()?, false);
        }
        Some(Self(multiples))
    }

    /// Of the base point of the curve; made when it is first asked for.
    pub(crate) fn of_base() -> Option<&'static Self> {
        static MADE: LazyLock<Option<Multiples>> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));
        MADE.as_ref()
    }

    /// The multiples at one place, from that of digit 1 on.
    fn place(&self, place: usize) -> &[Addend] {
        self.0.get(place * DIGIT_MAX..(place + 1) * DIGIT_MAX).unwrap_or_default()
    }
}

impl Point {
    /// Adds a digit's multiple. The time depends on the digit: it must be no secret.
    #[inline(always)]
    fn add(&mut self, place: &[Addend], digit: i16) {
        let index = usize::from(digit.unsigned_abs()).checked_sub(1);
        if let Some(multiple) = index.and_then(|index| place.get(index)) {
            *self = self.plus(multiple, digit < 0);
        }
    }
}

/// The scalar as `sum of digit * 2^(WIDTH * place)`.
fn digits(scalar: &Scalar) -> [i16; DIGITS] {
    let mut digits = [0; DIGITS];
    let bytes = scalar.to_bytes();
    let mut bytes = bytes.iter();
    let (mut held, mut bits, mut carry) = (0_i32, 0, 0);
    for digit in &mut digits {
        while bits < WIDTH {
            held |= i32::from(bytes.next().copied().unwrap_or_default()) << bits;
            bits += 8;
        }
        let value = (held & ((1 << WIDTH) - 1)) + carry;
        held >>= WIDTH;
        bits -= WIDTH;
        carry = i32::from(value > 1 << (WIDTH - 1));
        *digit = i16::try_from(value - (carry << WIDTH)).unwrap_or_default();
    }
    digits
}

/// A signature in the form in which many are checked together.
pub(crate) struct Claim<'t> {
    of_minus_key: &'t Multiples,
    s: [i16; DIGITS],
    challenge: [i16; DIGITS],
    r: [u8; 32],
}

impl<'t> Claim<'t> {
    /// `challenge` is SHA-512 of R, the key and the message. None: s has not its one spelling, and the claim is false.
    ///
    /// `of_minus_key` are the multiples of `-A`; `A` itself must not be of small order.
    pub(crate) fn new(of_minus_key: &'t Multiples, signature: &[u8; 64], challenge: &[u8; 64]) -> Option<Self> {
        let (r, s) = signature.split_first_chunk::<32>()?;
        let s: Option<Scalar> = Scalar::from_canonical_bytes(*s.first_chunk::<32>()?).into();
        let challenge = Scalar::from_bytes_mod_order_wide(challenge);
        Some(Self { of_minus_key, s: digits(&s?), challenge: digits(&challenge), r: *r })
    }
}

/// Encodings of the points of small order.
static SMALL: LazyLock<[[u8; 32]; 8]> = LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().0));

/// Which of the claims hold. Some hundreds at a time: each place of the tables is then read from the cache next to the core.
pub(crate) fn settle(of_base: &Multiples, claims: &[Claim<'_>]) -> Vec<bool> {
    let mut points = vec![Point::IDENTITY; claims.len()];
    for place in 0..DIGITS {
        let of_base = of_base.place(place);
        for (point, claim) in points.iter_mut().zip(claims) {
            point.add(of_base, claim.s.get(place).copied().unwrap_or_default());
        }
        for (point, claim) in points.iter_mut().zip(claims) {
            point.add(claim.of_minus_key.place(place), claim.challenge.get(place).copied().unwrap_or_default());
        }
    }
    let inverses = inverted_together(&points.iter().map(|point| point.z).collect::<Vec<_>>());
    let holds = |((claim, point), inverse): ((&Claim<'_>, &Point), Number)| {
        let encoded = point.encoded(inverse);
        // A point has one encoding here, so that R in any other spelling differs.
        encoded == claim.r && !SMALL.contains(&encoded)
    };
    claims.iter().zip(&points).zip(inverses).map(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha512};
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    /// Made once for each key.
    fn multiples_of(point: EdwardsPoint) -> Arc<Multiples> {
        static MADE: LazyLock<Mutex<HashMap<[u8; 32], Arc<Multiples>>>> = LazyLock::new(Mutex::default);
        let made = MADE.lock().unwrap().get(&point.compress().0).cloned();
        made.unwrap_or_else(|| {
            let multiples = Arc::new(Multiples::of(point).unwrap());
            MADE.lock().unwrap().insert(point.compress().0, Arc::clone(&multiples));
            multiples
        })
    }

    fn by_tables(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
        if key.is_weak() {
            return false;
        }
        let mut hasher = Sha512::new();
        hasher.update(&signature[..32]);
        hasher.update(key.as_bytes());
        hasher.update(message);
        let challenge: [u8; 64] = hasher.finalize().into();
        let (of_base, of_minus_key) = (Multiples::of_base().unwrap(), multiples_of(-key.to_edwards()));
        // Beside a good one, so that what is inverted together is not mixed up.
        let good = SigningKey::from_bytes(&[3; 32]);
        let other = good.sign(b"other");
        let mut hasher = Sha512::new();
        hasher.update(other.r_bytes());
        hasher.update(good.verifying_key().as_bytes());
        hasher.update(b"other");
        let of_good = multiples_of(-good.verifying_key().to_edwards());
        let beside = Claim::new(&of_good, &other.to_bytes(), &hasher.finalize().into()).unwrap();
        let Some(claim) = Claim::new(&of_minus_key, signature, &challenge) else { return false };
        let [first, second] = settle(of_base, &[beside, claim])[..] else { panic!("two claims, two answers") };
        assert!(first);
        second
    }

    fn strictly(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
        key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    /// A signature by whoever knows `a`, with any point as R and any point as key.
    fn forged(a: &Scalar, r: &Scalar, torsion: (usize, usize), message: &[u8]) -> (VerifyingKey, [u8; 64]) {
        let key = VerifyingKey::from(EdwardsPoint::mul_base(a) + EIGHT_TORSION[torsion.0]);
        let r_point = (EdwardsPoint::mul_base(r) + EIGHT_TORSION[torsion.1]).compress();
        let mut hasher = Sha512::new();
        hasher.update(r_point.as_bytes());
        hasher.update(key.as_bytes());
        hasher.update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hasher.finalize().into());
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(r_point.as_bytes());
        signature[32..].copy_from_slice((r + k * a).as_bytes());
        (key, signature)
    }

    #[test]
    fn every_place_of_a_scalar_counts() {
        let of_base = Multiples::of_base().unwrap();
        let mut bytes = [0_u8; 32];
        for place in 0..32 {
            for byte in [1_u8, 127, 128, 129, 255] {
                bytes = [0; 32];
                bytes[place] = byte;
                let scalar = Scalar::from_bytes_mod_order(bytes);
                let mut sum = Point::IDENTITY;
                for (place, digit) in digits(&scalar).into_iter().enumerate() {
                    sum.add(of_base.place(place), digit);
                }
                let encoded = sum.encoded(sum.z.inverted());
                assert_eq!(encoded, EdwardsPoint::mul_base(&scalar).compress().0, "{byte} at {place}");
            }
        }
        assert_ne!(bytes, [0; 32]);
    }

    #[test]
    fn torsion_in_key_or_point_is_judged_as_strictly_as_one_by_one() {
        let (a, r) = (Scalar::from(77_u64), Scalar::from(4_711_u64));
        let (mut accepted, mut refused) = (0, 0);
        for key_torsion in 0..8 {
            for point_torsion in 0..8 {
                for message in 0..16_u8 {
                    let (key, signature) = forged(&a, &r, (key_torsion, point_torsion), &[message]);
                    let expected = strictly(&key, &[message], &signature);
                    assert_eq!(by_tables(&key, &[message], &signature), expected, "{key_torsion} {point_torsion}");
                    if expected { accepted += 1 } else { refused += 1 }
                }
            }
        }
        assert!(accepted > 100 && refused > 500, "{accepted} {refused}");
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let zero = Scalar::ZERO;
        for torsion in 0..8 {
            let (key, signature) = forged(&Scalar::from(9_u64), &zero, (0, torsion), b"m");
            assert!(!strictly(&key, b"m", &signature) && !by_tables(&key, b"m", &signature), "R {torsion}");
            let (key, signature) = forged(&zero, &Scalar::from(5_u64), (torsion, 0), b"m");
            assert!(!strictly(&key, b"m", &signature) && !by_tables(&key, b"m", &signature), "A {torsion}");
        }
    }

    #[test]
    fn a_second_spelling_of_s_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut signature = key.sign(b"m").to_bytes();
        assert!(by_tables(&key.verifying_key(), b"m", &signature));
        // s + l, l = 2^252 + 27742317777372353535851937790883648493.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0_u16;
        for (byte, more) in signature[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(more);
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        assert!(!strictly(&key.verifying_key(), b"m", &signature));
        assert!(!by_tables(&key.verifying_key(), b"m", &signature));
    }

    #[test]
    fn a_second_spelling_of_r_is_refused() {
        // The identity written as y = p + 1: R of small order and not canonical at once.
        let mut r = [0xff_u8; 32];
        (r[0], r[31]) = (0xee, 0x7f);
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        assert!(!strictly(&key, b"m", &signature) && !by_tables(&key, b"m", &signature));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_verdict_is_that_of_strict_single_verification(
            seed in any::<[u8; 32]>(), message in any::<Vec<u8>>(),
            flip in prop::option::of((0..64_usize, 0..8_u8)), torsion in (0..8_usize, 0..8_usize), honest in any::<bool>(),
        ) {
            let (key, mut signature) = if honest {
                let key = SigningKey::from_bytes(&seed);
                (key.verifying_key(), key.sign(&message).to_bytes())
            } else {
                let a = Scalar::from_bytes_mod_order(seed);
                forged(&a, &(a * a), torsion, &message)
            };
            if let Some((byte, bit)) = flip {
                signature[byte] ^= 1 << bit;
            }
            prop_assert_eq!(by_tables(&key, &message, &signature), strictly(&key, &message, &signature));
            prop_assert_eq!(strictly(&key, &message, &signature) && honest, flip.is_none() && honest);
        }
    }
}
