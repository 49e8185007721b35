//! A minute of uninterrupted work at the limit (`scene.rs`). For ten minutes: `cargo bench --bench uninterrupted`.

use std::time::Duration;

pub mod scene;

#[test]
fn at_the_limit_of_seven_tiers_and_across_kill_9_no_client_is_refused_and_nothing_is_wasted() {
    let figures = scene::run(Duration::from_secs(60));
    println!("{}", figures.text());
    assert_eq!(figures.missed(), [""; 0]);
}
