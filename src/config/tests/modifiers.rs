//! What is wrong with modifiers, in words; what a person reads is in the snapshots.

use super::*;

macro_rules! reported {
    ($text:expr) => {
        assert_reads!(Case::of($text).report(), $text)
    };
}

#[test]
fn problems_of_modifiers() {
    reported!(
        r#"
[providers.mistral]
type = "mistral"
api_key = "k"
[groups.a]
type = "static"
[groups.b]
type = "static"
answer = "x"
status = 503
[groups.c]
type = "static"
status = 200
[groups.d]
type = "static"
status = 503
to = "mistral"
[groups.e]
type = "rewrite"
to = "mistral/m"
[groups.f]
type = "rewrite"
set = { model = "x" }
cap = { max_tokens = "many" }
remove = ["messages"]
rename = { "[" = "m", "b" = "mistral/", "c" = 1 }
system = { before = "x" }
[groups.g]
type = "limit"
to = "nobody/m"
[groups.h]
type = "limit"
to = "mistral/m"
limits = [{ requests = 1 }, { tokens = 5, per = "day", time_zone = "Mars" }]
by = "team"
[groups.i]
type = "limit"
to = "mistral/m"
limits = [{ concurrent = 1 }]
by = "header:Authorization"
overflow = "i"
[groups.j]
type = "budget"
to = "mistral/m"
caps = [{ usd = 0, per = "year" }, { usd = 1, per = "day", time_zone = "Mars" }]
prices = { "mistral/*" = { input = 1 }, "x" = { input = -1, output = 2 } }
[groups.k]
type = "budget"
to = "l"
[groups.l]
type = "failover"
members = ["mistral/one", "mistral/two"]
"#
    );
}

#[test]
fn a_budget_over_models_that_are_named_later_says_which_have_no_price() {
    let text = |prices: &str| {
        format!(
            "[providers.mistral]\ntype = \"mistral\"\napi_key = \"k\"\n[providers.ollama]\ntype = \"ollama\"\n\
             [groups.pool]\ntype = \"failover\"\nmembers = [\"mistral\", \"ollama\"]\n[groups.paid]\ntype = \"budget\"\n\
             to = \"pool\"\ncaps = [{{ usd = 1, per = \"day\" }}]\n{prices}"
        )
    };
    let told = Case::of(&text("")).config().warnings;
    let [warning] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(
        (warning.key.as_str(), warning.message.as_str()),
        (
            "groups.paid.prices",
            "models of `mistral` that none of these globs matches have no price, and requests for them are refused; add \
             them, in dollars per million tokens, such as \"mistral/*\" = { input = 0.1, output = 0.3 }"
        )
    );
    let all = "prices = { \"mistral/*\" = { input = 1, output = 2 } }\n";
    assert_eq!(Case::of(&text(all)).config().warnings, []);
}
