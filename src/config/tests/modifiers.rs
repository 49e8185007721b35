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
    let notes = Case::of(&text("")).config().notes;
    let told = "groups.paid.prices: models of `mistral` that none of these globs matches have no price, and are refused";
    assert!(notes.iter().any(|note| note == told), "{notes:?}");
    let all = "prices = { \"mistral/*\" = { input = 1, output = 2 } }\n";
    let notes = Case::of(&text(all)).config().notes;
    assert!(!notes.iter().any(|note| note.contains("prices")), "{notes:?}");
}
