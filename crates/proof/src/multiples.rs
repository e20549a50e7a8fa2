//! Ed25519 with tables: what a key needs that checks thousands of signatures.
//!
//! The equation that decides is that of strict single verification, `[s]B - [k]A = R`, compared as bytes. A sum over a batch
//! with random factors would be another one: a signature whose `R` lies outside the prime-order group passes it by luck. Here
//! the points are the same and only reached sooner: a scalar is 32 signed digits, and each digit's multiple is looked up, so
//! nothing is doubled; and the points of a batch become bytes together, with one inversion.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;

/// A digit lies in -127..=128: eight bits, and what the digit below lends or borrows.
const DIGIT_MAX: usize = 128;
const DIGITS: usize = 32;

/// The multiples `d * 256^i` of one point, for every digit `d` at every place `i`; 640 KiB.
pub(crate) struct Multiples(Vec<EdwardsPoint>);

impl Multiples {
    /// Costs about as much as checking 40 signatures without it.
    pub(crate) fn of(point: EdwardsPoint) -> Self {
        let mut multiples = Vec::with_capacity(DIGITS * DIGIT_MAX);
        let mut unit = point;
        for _ in 0..DIGITS {
            let mut multiple = unit;
            for _ in 1..DIGIT_MAX {
                multiples.push(multiple);
                multiple += unit;
            }
            multiples.push(multiple);
            // 128 units twice over are the next place's unit.
            unit = multiple + multiple;
        }
        Self(multiples)
    }

    /// Of the base point of the curve.
    pub(crate) fn of_base() -> Self {
        Self::of(ED25519_BASEPOINT_POINT)
    }

    /// `sum + [scalar]P`. The time depends on the scalar: it must be no secret.
    fn add_to(&self, sum: EdwardsPoint, scalar: &Scalar) -> EdwardsPoint {
        let places = self.0.chunks_exact(DIGIT_MAX).zip(digits(scalar));
        places.fold(sum, |sum, (place, digit)| {
            let multiple = usize::from(digit.unsigned_abs()).checked_sub(1).and_then(|index| place.get(index));
            match multiple {
                None => sum,
                Some(multiple) if digit > 0 => sum + multiple,
                Some(multiple) => sum - multiple,
            }
        })
    }
}

/// The scalar as `sum of digit * 256^place`. A reduced scalar is below 2^253, so the last place lends to none.
fn digits(scalar: &Scalar) -> [i16; DIGITS] {
    let mut carry = 0_i16;
    scalar.to_bytes().map(|byte| {
        let digit = i16::from(byte) + carry;
        carry = i16::from(digit > 128);
        digit - 256 * carry
    })
}

/// A signature whose point is known and whose bytes are not yet compared.
pub(crate) struct Claim {
    expected: EdwardsPoint,
    r: [u8; 32],
}

impl Claim {
    /// `challenge` is SHA-512 of R, the key and the message. None: s has not its one spelling, and the claim is false.
    ///
    /// `of_minus_key` are the multiples of `-A`; `A` itself must not be of small order.
    pub(crate) fn new(
        of_base: &Multiples,
        of_minus_key: &Multiples,
        signature: &[u8; 64],
        challenge: &[u8; 64],
    ) -> Option<Self> {
        let (r, s) = signature.split_first_chunk::<32>()?;
        let s: Option<Scalar> = Scalar::from_canonical_bytes(*s.first_chunk::<32>()?).into();
        let k = Scalar::from_bytes_mod_order_wide(challenge);
        let expected = of_minus_key.add_to(of_base.add_to(EdwardsPoint::identity(), &s?), &k);
        Some(Self { expected, r: *r })
    }
}

/// Which of the claims hold.
pub(crate) fn settle(claims: &[Claim]) -> Vec<bool> {
    let points: Vec<EdwardsPoint> = claims.iter().map(|claim| claim.expected).collect();
    // A point has one encoding here, so that R in any other spelling differs.
    let small = EIGHT_TORSION.map(|point| point.compress());
    let encoded = EdwardsPoint::compress_batch_alloc(&points);
    let holds =
        |(claim, encoded): (&Claim, &CompressedEdwardsY)| *encoded.as_bytes() == claim.r && !small.contains(encoded);
    claims.iter().zip(&encoded).map(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha512};

    fn by_tables(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
        if key.is_weak() {
            return false;
        }
        let mut hasher = Sha512::new();
        hasher.update(&signature[..32]);
        hasher.update(key.as_bytes());
        hasher.update(message);
        let challenge: [u8; 64] = hasher.finalize().into();
        let (of_base, of_minus_key) = (Multiples::of_base(), Multiples::of(-key.to_edwards()));
        // Beside a good one, so that what is inverted together is not mixed up.
        let good = SigningKey::from_bytes(&[3; 32]);
        let other = good.sign(b"other");
        let mut hasher = Sha512::new();
        hasher.update(other.r_bytes());
        hasher.update(good.verifying_key().as_bytes());
        hasher.update(b"other");
        let of_good = Multiples::of(-good.verifying_key().to_edwards());
        let beside = Claim::new(&of_base, &of_good, &other.to_bytes(), &hasher.finalize().into()).unwrap();
        let Some(claim) = Claim::new(&of_base, &of_minus_key, signature, &challenge) else { return false };
        let [first, second] = settle(&[beside, claim])[..] else { panic!("two claims, two answers") };
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
        let of_base = Multiples::of_base();
        let mut bytes = [0_u8; 32];
        for place in 0..32 {
            for byte in [1_u8, 127, 128, 129, 255] {
                bytes = [0; 32];
                bytes[place] = byte;
                let scalar = Scalar::from_bytes_mod_order(bytes);
                let sum = of_base.add_to(EdwardsPoint::identity(), &scalar);
                assert_eq!(sum, EdwardsPoint::mul_base(&scalar), "{byte} at {place}");
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
