//! Computes powers exactly as Go does. The weights of the exponential window come from Go's
//! `math.Pow`, which differs from the C library's in the last digits. One such digit can change a
//! decision that lies exactly on a whole number of replicas.

use std::f64::consts::LOG2_E;

/// Raises `base` in (0, 1] to a whole power. Go multiplies successive squares of the fraction and
/// adds the exponents separately, so only the fractions are rounded.
pub fn power(base: f64, exponent: u64) -> f64 {
    let (mut square, mut square_exponent) = fraction_and_exponent(base);
    let (mut product, mut product_exponent) = (1.0, 0_i64);
    let mut bits = exponent;
    while bits != 0 && square_exponent >= -(1 << 12) {
        if bits & 1 == 1 {
            product *= square;
            product_exponent += square_exponent;
        }
        square *= square;
        square_exponent <<= 1;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        bits >>= 1;
    }
    if bits != 0 {
        return 0.0;
    }
    product * 2f64.powi(i32::try_from(product_exponent).unwrap_or(i32::MIN))
}

/// Returns the root of `base` in (0, 1) of degree `degree` (at least one), as Go's
/// `Pow(base, 1/degree)`.
pub fn root(base: f64, degree: usize) -> f64 {
    match degree {
        0 | 1 => base,
        2 => base.sqrt(),
        _ => exp(base.ln() * (1.0 / degree as f64)),
    }
}

/// Computes Go's `Exp` for amd64 with fused multiply-add, for finite results. It is Shibata's
/// method (ISC 2010): a Taylor series on a sixteenth of the reduced argument, then four squarings
/// of `e^x - 1`.
fn exp(x: f64) -> f64 {
    const LN2_UPPER: f64 = 0.693_147_180_559_662_956_511_601_805_686_950_683_593_75;
    const LN2_LOWER: f64 = 0.282_352_905_630_315_771_225_884_481_750_134_360_255_254_120_68e-12;
    // The coefficients of the series, the highest first. The last step multiplies only by the
    // argument.
    const FACTORS: [f64; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 0.0];
    let power_of_two = (x * LOG2_E).round_ties_even();
    let reduced = (-LN2_LOWER).mul_add(power_of_two, (-LN2_UPPER).mul_add(power_of_two, x)) * 0.0625;
    let mut less_one = 1.0 / 40320.0;
    for factor in FACTORS {
        less_one = reduced.mul_add(less_one, factor);
    }
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    less_one.mul_add(less_one + 2.0, 1.0) * 2f64.powi(power_of_two as i32)
}

/// Splits a positive, normal `value` into a fraction in [0.5, 1) and a power of two.
fn fraction_and_exponent(value: f64) -> (f64, i64) {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i64 - 1022;
    (f64::from_bits((bits & ((1 << 52) - 1)) | (1022 << 52)), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go 1.26 prints these numbers on amd64. The C library gives another last digit for each.
    #[test]
    fn roots_are_those_of_go_to_the_last_bit() {
        for (degree, bits) in [
            (1, 0x3f1a_36e2_eb1c_432d_u64),
            (3, 0x3fa7_c3d2_c4d6_3ff9),
            (5, 0x3fc4_4960_c576_b376),
            (7, 0x3fd1_2b54_2ba5_6565),
            (19, 0x3fe3_b507_4eba_849e),
            (41, 0x3fe9_8fc8_c090_f011),
        ] {
            assert_eq!(root(0.0001, degree).to_bits(), bits, "degree {degree}");
        }
    }

    #[test]
    fn powers_are_those_of_go_to_the_last_bit() {
        for (base, exponent, bits) in [
            (0x3fe1_5142_c143_7bd3_u64, 7, 0x3f8b_d6f1_4365_0125_u64),
            (0x3fe9_8fc8_c090_f011, 33, 0x3f43_c451_18b2_8fa1),
            (0x3fe9_9999_9999_999a, 45, 0x3f06_d601_ad37_6ad9),
        ] {
            let base = f64::from_bits(base);
            assert_eq!(power(base, exponent).to_bits(), bits, "{base} to the power of {exponent}");
        }
    }
}
