//! Amounts of money, in whole millionths of a millionth of a dollar: sums do not depend on the order of their parts.

use std::fmt;
use std::ops::AddAssign;

/// An amount of US dollars, not negative. The unit is 1e-12 dollars: a token of the cheapest models costs some 1e-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Usd(u64);

/// The number of units in a dollar.
const UNITS: f64 = 1e12;

impl Usd {
    /// `None` for what is no amount: negative, infinite or not a number. Amounts beyond 18 million dollars become that.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        // A conversion from a float saturates.
        (dollars.is_finite() && dollars >= 0.0).then(|| Usd((dollars * UNITS).round() as u64))
    }

    pub fn from_units(units: u64) -> Self {
        Usd(units)
    }

    pub fn units(self) -> u64 {
        self.0
    }

    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / UNITS
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// Prints dollars without a sign, with as many digits as there are: `0.00001234`.
impl fmt::Display for Usd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / UNITS as u64, self.0 % UNITS as u64);
        let digits = format!("{rest:012}");
        let digits = digits.trim_end_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        write!(formatter, "{whole}.{digits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_printed_to_the_last_digit() {
        for (dollars, text) in [
            (0.0, "0.0"),
            (1.5e-8, "0.000000015"),
            (0.1, "0.1"),
            (1.2345e-5, "0.000012345"),
            (12.0, "12.0"),
            (1234.5, "1234.5"),
        ] {
            assert_eq!(Usd::from_dollars(dollars).expect("an amount").to_string(), text);
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        assert!([-1e-9, f64::NAN, f64::INFINITY].into_iter().all(|dollars| Usd::from_dollars(dollars).is_none()));
        let most = Usd::from_dollars(1e300).expect("an amount");
        let mut sum = most;
        sum += most;
        assert_eq!((sum, most.units()), (most, u64::MAX));
    }

    #[test]
    fn sums_are_exact() {
        let mut sum = Usd::default();
        (0..10_000).for_each(|_| sum += Usd::from_dollars(1e-7).expect("an amount"));
        assert_eq!(sum.to_string(), "0.001");
    }
}
