//! The words of what is wrong with groups, panels and routers, and with how they hang together. What a person reads is
//! in the snapshots; read them when they change.

use super::*;

macro_rules! reported {
    ($text:expr) => {
        assert_reads!(Case::of($text).report(), $text)
    };
}

#[test]
fn a_group_with_a_providers_id_is_told_of_both_places_and_not_that_it_contains_itself() {
    let text = "[providers.coder]\ntype = 'ollama'\n[groups.coder]\ntype = 'failover'\nmembers = ['coder/m']";
    let told =
        "3:9: groups.coder: the id is taken by providers.coder (DIR/demuxai.toml:1); rename one of them";
    let report = Case::of(text).report();
    assert!(report.contains(told) && report.lines().count() == 3, "{report}");
}

#[test]
fn problems_of_groups() {
    reported!(
        r#"
[providers.mistral]
type = "mistral"
api_key = "k"
[groups.a]
type = "failovr"
members = ["mistral"]
[groups.b]
members = ["mistral"]
[groups.c]
type = "failover"
[groups.d]
type = "rotate"
members = ["mistrl/x", "mistral/", { weight = 2 }, { to = "mistral/y", weight = 0, set = { model = "z", top_p = 1 } }]
delay = "1s"
fail_on = ["429", "tmeout", "999"]
on_exhausted = "later"
attempts = 0
colour = "red"
[groups.e]
type = "race"
members = ["f"]
width = 1
sticky = { by = "moon" }
[groups.f]
type = "random"
members = ["e", "mistral/x"]
[groups.g]
type = "failover"
members = ["h"]
fail_on = []
[groups.h]
type = "failovr"
members = ["g", "nobody"]
delay = "soon"
[groups.i]
type = "failover"
members = ["j"]
[groups.j]
type = "failover"
members = ["i"]
"#
    );
}

#[test]
fn problems_of_panels() {
    reported!(
        r#"
[providers.mistral]
type = "mistral"
api_key = "k"
[groups.a]
type = "consensus"
members = ["mistral/x", "mistral/y"]
quorum = 3
[groups.b]
type = "consensus"
members = ["mistral/x", "b"]
judge = "mistral"
combine = "vote"
show = "all"
on_quota = "wait"
[groups.c]
type = "consensus"
members = ["mistral/x"]
combine = "majority"
prompt = "vote"
fallback = "judge"
quorum = 0
deadline = "1h"
[groups.d]
type = "consensus"
members = ["mistral/x"]
judge = "d"
prompt = " "
[groups.e]
type = "consensus"
members = ["mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x", "mistral/x"]
combine = "best"
fail_on = ["5xx"]
[groups.f]
type = "failover"
members = ["mistral/x"]
judge = "mistral/x"
[groups.g]
type = "consensus"
judge = "mistrl/x"
"#
    );
}

#[test]
fn problems_of_routers() {
    reported!(
        r#"
[providers.mistral]
type = "mistral"
api_key = "k"
[providers.codestral]
type = "codestral"
api_key = "k"
[listeners.local]
[listeners.metrics]
address = "127.0.0.1:1"
serves = ["metrics"]
[keys.ide]
key = "x"
[groups.code]
type = "failover"
members = ["codestral/codestral-latest"]
[groups.panel]
type = "consensus"
members = ["mistral/a", "mistral/b"]
judge = "code"
[groups.closed]
type = "static"
answer = "closed"
[routers.a]
[routers.b]
routes = [
    { endpoint = "fmi", to = "mistral/x" },
    { endpont = "fim", to = "mistral/x" },
    { has = ["tools", "pictures"], not = { model = "" }, to = "mistrl/x" },
    { model = ["a[", "b"], to = "mistral/" },
    { input_tokens = 8000, to = "mistral/x" },
    { input_tokens = ["8000", "<0"] },
    { listener = "metrics", client = "idee", to = "mistral/x" },
    { time = { days = "mo", from = "9" }, to = "mistral/x" },
    { time = { from = "09:00", to = "09:00" }, to = "mistral/x" },
    { quota = { of = "codestal", left = "<200%" }, to = "mistral/x" },
    { regex = "(", header = { authorization = "*" }, path = "/v2", to = "mistral/x" },
]
[routers.text]
routes = ["mistral/x"]
[routers.c]
routes = [
    { endpoint = "embedding", to = "code" },
    { endpoint = "fim", listener = "local", to = "panel" },
    { endpoint = ["fim", "completion"], listener = "local", to = "closed" },
    { endpoint = "embedding", listener = "local", to = "closed" },
    { endpoint = ["embedding", "fim"], has = "images", to = "mistral/x" },
    { endpoint = ["chat", "fim"], to = "mistral/x" },
    { endpoint = "fim", client = "ide", to = "mistral/x" },
    { has = "tools", to = "mistral/x" },
    { has = ["tools", "audio"], to = "mistral/x" },
    { has = "tools", model = "a*", to = "mistral/x" },
    { client = "ide", has = "tools", not = [{ model = "a*" }, { has = ["tools", "audio"] }], to = "mistral/x" },
    { to = "mistral/x" },
    { model = "b*", to = "mistral/x" },
]
[routers.d]
routes = [{ to = "e" }]
[routers.e]
routes = [{ quota = { of = "d", state = "available" }, to = "mistral/x" }]
[routers.f]
routes = [{ to = "loop" }]
[groups.loop]
type = "failover"
members = ["f", "mistral/x"]
"#
    );
}

#[test]
fn a_route_that_could_not_be_read_shadows_nothing_and_is_shadowed_by_nothing() {
    let report = Case::of(
        "[providers.o]\ntype = 'ollama'\n[routers.a]\nroutes = [{ endpoint = 'fmi', to = 'o/m' }, { to = 'o/m' }]\n",
    )
    .report();
    assert!(report.starts_with("the configuration has 1 problem\n"), "{report}");
    let report = Case::of(
        "[providers]\nb = 5\n[providers.o]\ntype = 'ollama'\n[routers.a]\nroutes = [{ to = 'b/m' }]\n",
    )
    .report();
    assert!(report.starts_with("the configuration has 1 problem\n"), "{report}");
}

#[test]
fn a_route_behind_a_wider_one_of_another_number_glob_or_hour_can_never_match() {
    let report = Case::of(
        "[providers.o]\ntype = 'ollama'\n[routers.a]\nroutes = [
            { input_tokens = '>1000', to = 'o/m' }, { model = 'gpt-*', to = 'o/m' },
            { time = { days = 'mon-fri' }, to = 'o/m' },
            { input_tokens = '>8000', to = 'o/m' }, { model = 'gpt-4o', endpoint = 'chat', to = 'o/m' },
            { time = { days = 'mon', from = '09:00' }, to = 'o/m' },
            { input_tokens = '>500', not = { input_tokens = '>=500' }, to = 'o/m' }, { to = 'o/m' },
        ]\n",
    )
    .report();
    assert!(report.starts_with("the configuration has 4 problems\n"), "{report}");
    for (route, by) in [(3, 0), (4, 1), (5, 2)] {
        let told = format!(
            "routers.a.routes[{route}]: can never match: routes[{by}] takes all of its requests before"
        );
        assert!(report.contains(&told), "{told}\n{report}");
    }
    assert!(report.contains("routers.a.routes[6]: can never match: its `not` takes out"), "{report}");
}

#[test]
fn a_word_that_others_have_for_what_a_request_has_is_told_as_ours() {
    for (theirs, ours) in
        [("vision", "images"), ("json_schema", "response_format"), ("function-calling", "tools")]
    {
        let routes = format!("routes = [{{ has = '{theirs}', to = 'o/m' }}, {{ to = 'o/m' }}]");
        let report = Case::of(&format!("[providers.o]\ntype = 'ollama'\n[routers.a]\n{routes}\n")).report();
        assert!(report.contains(&format!("did you mean `{ours}`?")), "{report}");
    }
}

#[test]
fn a_route_that_is_no_table_hides_nothing_that_is_wrong_with_the_others() {
    let report = Case::of(
        "[providers.o]\ntype = 'ollama'\n[routers.a]\nroutes = [
            { endpoint = 'fmi', to = 'o/m' }, 'o/m', { has = 'audio', to = 'p/m' }, 7,
            { has = 'images', to = 'o/m', set = { model = 'x' } }, { to = 'o/m' }, { has = 'tools', to = 'o/m' },
        ]\n",
    )
    .report();
    assert!(report.starts_with("the configuration has 6 problems\n"), "{report}");
    for told in [
        "routers.a.routes[0].endpoint",
        "routers.a.routes[1]: expected a table like { endpoint = \"fim\", to = \"codestral/codestral-latest\" }, found text",
        "routers.a.routes[2].to",
        "routers.a.routes[3]: ",
        "routers.a.routes[4].set.model: cannot be set",
        "routers.a.routes[6]: can never match: routes[5] takes",
    ] {
        assert!(report.contains(told), "{told}\n{report}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 200, failure_persistence: None, ..Default::default()
    })]

    /// Groups and routers that name each other at will: without a circle members come first, with one it is told.
    #[test]
    fn groups_and_routers_hang_together_in_any_way_but_a_circle(
        edges in proptest::collection::vec((0_usize..6, 0_usize..6), 0..9),
        is_router in proptest::collection::vec(proptest::bool::ANY, 6),
    ) {
        let mut text = "[providers.o]\ntype = 'ollama'\n".to_owned();
        for (node, router) in is_router.iter().enumerate() {
            let named = edges.iter().filter(|(from, _)| *from == node).map(|(_, to)| format!("n{to}"));
            let targets: Vec<String> = named.chain(["o/m".to_owned()]).collect();
            if *router {
                let routes: Vec<String> = targets.iter().enumerate()
                    .map(|(index, to)| format!("{{ model = 'm{index}', to = '{to}' }}")).collect();
                text.push_str(&format!("[routers.n{node}]\nroutes = [{}]\n", routes.join(", ")));
            } else {
                let members: Vec<String> = targets.iter().map(|to| format!("'{to}'")).collect();
                text.push_str(&format!(
                    "[groups.n{node}]\ntype = 'failover'\nmembers = [{}]\n", members.join(", ")
                ));
            }
        }
        // Whatever can be reached from a node in six steps includes itself only by a circle.
        let reaches = |from: usize| {
            let mut seen = [false; 6];
            for _ in 0..6 {
                for (one, other) in &edges {
                    if *one == from || seen[*one] {
                        seen[*other] = true;
                    }
                }
            }
            seen[from]
        };
        let circular = (0..6).any(reaches);
        match Case::of(&text).load() {
            Ok(config) => {
                proptest::prop_assert!(!circular, "{}", text);
                proptest::prop_assert_eq!(config.groups.len() + config.routers.len(), 6);
                let place = |id: &str| config.groups.iter().position(|group| group.id == id);
                for (from, to) in &edges {
                    let (from, to) = (place(&format!("n{from}")), place(&format!("n{to}")));
                    if let (Some(from), Some(to)) = (from, to) {
                        proptest::prop_assert!(to < from, "{}", text);
                    }
                }
            }
            Err(report) => proptest::prop_assert!(circular && report.to_string().contains("itself"), "{}", report),
        }
    }
}

#[test]
fn a_provider_that_was_taken_out_is_no_second_problem_where_it_is_named() {
    let report = Case::of(
        "[providers]\na = 5\n[providers.b]\ntype = 'ollama'\n[groups]\nh = 'x'\n\
         [groups.g]\ntype = 'failover'\nmembers = ['a/m', 'b/m', 'h']\n",
    )
    .report();
    assert!(report.starts_with("the configuration has 2 problems"), "{report}");
    let report = Case::of("providers = 'none'\n[groups.g]\ntype = 'failover'\nmembers = ['a/m']\n").report();
    assert!(report.starts_with("the configuration has 1 problem\n"), "{report}");
}

/// Groups `g0`, `g1` … of which each has the one before it as a member so often.
fn nested(groups: usize, times: usize) -> String {
    let mut text = "[providers.o]\ntype = 'ollama'\n".to_owned();
    for number in 0..groups {
        let member =
            if number == 0 { "'o/m'".to_owned() } else { format!("'g{}'", number.saturating_sub(1)) };
        let members = vec![member; times].join(", ");
        text.push_str(&format!("[groups.g{number}]\ntype = 'failover'\nmembers = [{members}]\n"));
    }
    text
}

#[test]
fn groups_in_groups_do_not_cost_more_than_a_request_can_bear() {
    assert_eq!(Case::of(&nested(8, 2)).config().groups.len(), 8);
    let deep = Case::of(&nested(12, 1)).report();
    assert!(deep.contains("groups.g8.members: are groups in groups, 9 deep"), "{deep}");
    assert!(deep.starts_with("the configuration has 1 problem\n"), "it is said once: {deep}");
    let wide = Case::of(&nested(3, 12)).report();
    assert!(wide.contains("groups.g2.members: come to 1728 providers"), "{wide}");
}

#[test]
fn no_circle_hides_another_and_many_groups_take_no_time() {
    let circle = |one: &str, other: &str| {
        format!(
            "[groups.{one}]\ntype = 'failover'\nmembers = ['{other}', 'o/m']\n\
             [groups.{other}]\ntype = 'failover'\nmembers = ['{one}', 'free']\n"
        )
    };
    let text = format!(
        "[providers.o]\ntype = 'ollama'\n[groups.free]\ntype = 'failover'\nmembers = ['o/m']\n{}{}",
        circle("a", "b"),
        circle("c", "d")
    );
    let report = Case::of(&text).report();
    assert!(report.contains("a -> b -> a") && report.contains("c -> d -> c"), "{report}");
    assert!(report.starts_with("the configuration has 2 problems"), "{report}");

    let mut many = "[providers.o]\ntype = 'ollama'\n".to_owned();
    for number in (0..3000).rev() {
        let member = if number % 5 == 0 { "o/m".to_owned() } else { format!("g{}", number - 1) };
        many.push_str(&format!("[groups.g{number}]\ntype = 'failover'\nmembers = ['{member}']\n"));
    }
    let groups = Case::of(&many).config().groups;
    let place = |id: &str| groups.iter().position(|group| group.id == id);
    assert!(groups.len() == 3000 && place("g2998") < place("g2999"));
}

#[test]
fn no_group_that_names_itself_vanishes_without_a_word() {
    let text = "[providers.o]\ntype = 'ollama'\n[groups.d]\ntype = 'failover'\nmembers = ['o/m', 'd']\n\
                [groups.e]\ntype = 'failover'\nmembers = ['d', 'o/m']\n";
    let report = Case::of(text).report();
    assert!(report.contains("groups.d.members: contains itself: d -> d"), "{report}");
    assert!(report.starts_with("the configuration has 1 problem\n"), "{report}");
}

#[test]
fn a_race_is_not_wider_than_its_members() {
    let text =
        "[providers.o]\ntype = 'ollama'\n[groups.g]\ntype = 'race'\nmembers = ['o/a', 'o/b']\nwidth = 9\n";
    let config = Case::of(text).config();
    let built: &dyn std::any::Any = &*config.groups[0].build;
    let racing = built.downcast_ref::<crate::backend::kind::choosing::Choosing>().unwrap().racing.unwrap();
    assert_eq!(racing.width, 2);
}
