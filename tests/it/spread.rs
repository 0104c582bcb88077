//! The spread of a bench's rounds: its quartiles, and when a ratio is no result.

#[path = "../benches/figures/spread.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod file;

use file::Spread;

#[test]
fn the_quartiles_lie_around_the_median() {
    let nine = Spread::of(vec![9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]);
    assert_eq!(nine.shown(1), "5.0 [3.0..7.0]");
    let two = Spread::of(vec![2.0, 1.0]);
    assert_eq!(two.shown(2), "1.50 [1.25..1.75]");
    assert!(Spread::of(Vec::new()).median.is_nan());
}

#[test]
fn a_ratio_nearer_to_1_than_its_quartiles_are_to_each_other_is_no_result() {
    let noisy = Spread::of(vec![0.9, 1.0, 1.02, 1.05, 1.1]);
    assert_eq!(noisy.ratio(), "1.02 [1.00..1.05] ~");
    let clear = Spread::of(vec![1.19, 1.2, 1.2, 1.21, 1.3]);
    assert_eq!(clear.ratio(), "1.20 [1.20..1.21]");
    assert_eq!(Spread::of(vec![1.5]).ratio(), "1.50 [1.50..1.50]");
}

#[test]
fn a_stored_spread_is_read_back_and_nothing_is_none() {
    let spread = Spread::of(vec![1.0, 2.0, 4.0]);
    assert_eq!(Spread::read(&spread.json()), Some(spread));
    assert_eq!(Spread::read(&Spread::of(Vec::new()).json()), None);
    assert_eq!(Spread::read(&serde_json::Value::Null), None);
}
