//! What a request takes, as money.

use super::*;

#[test]
fn all_that_a_request_takes_is_made_money_of_what_it_may_be_wrong_by_too() {
    let need = Need {
        model: "m",
        input_tokens: 3,
        output_tokens: 5,
        off: 7,
        answer_off: 11,
        most_output: Some(13),
        stream: true,
    };
    let need = Price { input: 1.0, output: 2.0, cached: 0.0 }.need(need);
    assert_eq!((need.input_tokens, need.output_tokens), (3_000, 10_000));
    assert_eq!((need.off, need.answer_off, need.most_output), (7_000, 22_000, Some(26_000)));
}
