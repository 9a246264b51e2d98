//! Figures of runs that were made in turn: each is compared with its neighbour only, because a machine's mood lasts longer than a run.

use serde::{Deserialize, Serialize};

/// How much of one thing there was for one of another, pair by pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratios {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// Every pair's, in the order in which they were measured.
    pub all: Vec<f64>,
}

impl Ratios {
    /// Of as many pairs as there are; `None` if there is none.
    #[must_use]
    pub fn of(these: &[f64], to_those: &[f64]) -> Option<Self> {
        let all: Vec<f64> = these.iter().zip(to_those).map(|(this, that)| this / that).collect();
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: quantile(&sorted, 0.5)?, low: *sorted.first()?, high: *sorted.last()?, all })
    }

    /// How sure it is that the true median lies between `low` and `high`, whatever the distribution: 1 − 2^(1−n). 6 pairs give 97 %.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        1.0 - 2.0_f64.powi(1 - i32::try_from(self.all.len()).unwrap_or(i32::MAX))
    }
}

impl std::fmt::Display for Ratios {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, low, high, all } = self;
        let sure = self.confidence() * 100.0;
        write!(f, "{median:.3} (between {low:.3} and {high:.3} in {} pairs: a {sure:.0} % interval)", all.len())
    }
}

/// Between the neighbours of the wanted place, if there is no value right there; `None` of nothing.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// The same of values in any order.
#[must_use]
pub fn quantile_of(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&sorted, share)), [Some(1.0), Some(2.5), Some(4.0)]);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn pairs_are_compared_with_their_neighbours_only() {
        let ratios = Ratios::of(&[10.0, 40.0, 9.0], &[10.0, 80.0, 10.0]).unwrap();
        assert_eq!((ratios.low, ratios.median, ratios.high), (0.5, 0.9, 1.0));
        assert_eq!(ratios.confidence(), 0.75);
        assert!(Ratios::of(&[], &[]).is_none());
    }
}
