//! Tests of correlations, against scipy and published examples.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::super::fixtures::{close, made};
use super::*;

fn some(ranks: &[Vec<i16>]) -> Vec<Vec<Option<i16>>> {
    let each = ranks.iter();
    each.map(|own| own.iter().copied().map(Some).collect())
        .collect()
}

#[test]
fn coefficients_are_those_of_scipy() {
    for case in made()["correlation"]["pairs"].as_array().unwrap() {
        let series =
            |name: &str| -> Vec<f64> { serde_json::from_value(case[name].clone()).unwrap() };
        let (x, y) = (series("x"), series("y"));
        let (tau, rho) = (kendall_tau_b(&x, &y).unwrap(), spearman(&x, &y).unwrap());
        close(tau.value, case["tau_b"].as_f64().unwrap(), 1e-12);
        close(rho.value, case["spearman"].as_f64().unwrap(), 1e-12);
        assert_eq!((tau.n, rho.n), (x.len(), x.len()));
    }
}

#[test]
fn concordance_is_that_of_scipys_friedman_test() {
    for case in made()["correlation"]["concordance"].as_array().unwrap() {
        let ranks: Vec<Vec<i16>> = serde_json::from_value(case["ranks"].clone()).unwrap();
        let found = kendall_w(&some(&ranks)).unwrap();
        close(found.w, case["w"].as_f64().unwrap(), 1e-12);
        close(found.chi_square, case["chi_square"].as_f64().unwrap(), 1e-9);
        close(found.p, case["p"].as_f64().unwrap(), 1e-9);
        assert_eq!(
            (found.n_labelers, found.n_items),
            (ranks.len(), ranks[0].len())
        );
        assert_eq!(found.freedom, ranks[0].len() - 1);
    }
}

/// The example of NAG's routine G08DAF (from Siegel 1956), ranks of ten by three with ties:
/// W = 0.828, significance 0.008.
#[test]
fn concordance_is_that_of_the_published_example() {
    let doubled = [
        [2, 9, 4, 9, 6, 15, 12, 18, 15, 20],
        [5, 2, 5, 9, 9, 16, 18, 13, 20, 13],
        [4, 2, 9, 9, 9, 9, 16, 16, 16, 20],
    ];
    let found = kendall_w(&some(&doubled.map(Vec::from))).unwrap();
    close(found.w, 0.828, 5e-4);
    close(found.p, 0.008, 5e-4);
}

#[test]
fn intervals_are_by_the_named_formulas() {
    // Ten values, tau 37/45 and rho 1 - 6·14/990.
    let x: Vec<f64> = (0..10).map(f64::from).collect();
    let y = [1.0, 0.0, 2.0, 3.0, 6.0, 5.0, 4.0, 7.0, 8.0, 9.0];
    let (tau, rho) = (kendall_tau_b(&x, &y).unwrap(), spearman(&x, &y).unwrap());
    close(tau.value, 37.0 / 45.0, 1e-12);
    close(rho.value, 1.0 - 6.0 * 10.0 / 990.0, 1e-12);
    let half = 1.959_964 * (0.437_f64 / 6.0).sqrt();
    let interval = tau.interval.unwrap();
    close(
        interval.low,
        ((37.0_f64 / 45.0).atanh() - half).tanh(),
        1e-6,
    );
    close(
        interval.high,
        ((37.0_f64 / 45.0).atanh() + half).tanh(),
        1e-6,
    );
    let half = 1.959_964 * ((1.0 + rho.value.powi(2) / 2.0) / 7.0).sqrt();
    close(
        rho.interval.unwrap().low,
        (rho.value.atanh() - half).tanh(),
        1e-6,
    );
    assert_eq!(kendall_tau_b(&x[..9], &y[..9]).unwrap().interval, None);
    assert_eq!(spearman(&x, &x).unwrap().interval, None);
}

#[test]
fn what_does_not_vary_or_match_has_no_correlation() {
    for (x, y) in [
        (vec![], vec![]),
        (vec![1.0], vec![1.0]),
        (vec![1.0, 2.0], vec![3.0, 3.0]),
        (vec![1.0, 2.0], vec![3.0]),
        (vec![1.0, f64::NAN], vec![3.0, 4.0]),
    ] {
        assert_eq!((kendall_tau_b(&x, &y), spearman(&x, &y)), (None, None));
    }
    assert_eq!(tau_b_of_ranks(&[Some(1), None], &[Some(1), Some(2)]), None);
    let tau = tau_b_of_ranks(
        &[Some(1), Some(2), None, Some(3)],
        &[Some(4), Some(2), Some(7), Some(3)],
    );
    close(tau.unwrap().value, -1.0 / 3.0, 1e-12);
    // Both zeros are the same number.
    assert_eq!(kendall_tau_b(&[0.0, -0.0], &[1.0, 2.0]), None);
}

#[test]
fn concordance_needs_three_labelers_and_two_items() {
    let up = vec![Some(1), Some(2), Some(3)];
    assert_eq!(kendall_w(&[up.clone(), up.clone()]), None);
    assert_eq!(
        kendall_w(&[vec![Some(1)], vec![Some(1)], vec![Some(1)]]),
        None
    );
    assert_eq!(
        kendall_w(&[vec![Some(1); 3], vec![Some(1); 3], vec![Some(1); 3]]),
        None
    );
    assert_eq!(kendall_w::<Vec<Option<i16>>>(&[]), None);
    // The item that one did not rank is left out.
    let missing = vec![Some(1), None, Some(3)];
    let found = kendall_w(&[up.clone(), up, missing]).unwrap();
    assert_eq!((found.w, found.n_items), (1.0, 2));
}

#[test]
fn the_mean_concordance_is_over_prompts_that_three_ranked() {
    let rankings = [
        Ranking::complete(0, 0, &[1, 2, 3]),
        Ranking::complete(0, 1, &[1, 2, 3]),
        Ranking::complete(0, 2, &[1, 2, 3]),
        // Again, which does not count.
        Ranking::complete(0, 2, &[3, 2, 1]),
        Ranking::complete(1, 0, &[1, 2, 3]),
        Ranking::complete(1, 1, &[2, 3, 1]),
        Ranking::complete(1, 2, &[3, 1, 2]),
        Ranking::complete(2, 0, &[1, 2, 3]),
        Ranking::complete(2, 1, &[1, 2, 3]),
    ];
    let found = mean_concordance(&rankings, &Bootstrap::new(1)).unwrap();
    assert_eq!((found.value, found.n), (0.5, 2));
    let interval = found.interval.unwrap();
    assert_eq!((interval.low, interval.high), (0.0, 1.0));
    assert_eq!(mean_concordance(&rankings[7..], &Bootstrap::new(1)), None);
}

proptest! {
    #[test]
    fn tau_b_and_rho_are_symmetric_and_turn_with_a_series(
        both in prop::collection::vec((0i8..6, 0i8..6), 0..20),
    ) {
        let both = both.into_iter().map(|(x, y)| (f64::from(x), f64::from(y)));
        let (x, y): (Vec<f64>, Vec<f64>) = both.unzip();
        let turned: Vec<f64> = y.iter().map(|own| -own).collect();
        for figure in [kendall_tau_b, spearman] {
            let value = |x: &[f64], y: &[f64]| figure(x, y).map(|own| own.value);
            prop_assert_eq!(value(&x, &y), value(&y, &x));
            if let Some(own) = value(&x, &y) {
                prop_assert!((-1.0..=1.0).contains(&own));
                prop_assert!((own + value(&x, &turned).unwrap()).abs() < 1e-12);
                prop_assert!((value(&x, &x).unwrap() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn who_ranks_does_not_change_concordance(
        ranks in prop::collection::vec(prop::collection::vec(1i16..5, 4), 3..7), by in 1usize..6,
    ) {
        let mut turned = ranks.clone();
        turned.rotate_left(by % ranks.len());
        let (before, after) = (kendall_w(&some(&ranks)), kendall_w(&some(&turned)));
        prop_assert_eq!(before.is_some(), after.is_some());
        if let (Some(before), Some(after)) = (before, after) {
            prop_assert!((before.w - after.w).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&before.w) && (0.0..=1.0).contains(&before.p));
        }
    }
}
