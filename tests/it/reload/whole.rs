//! A request sees all of the old configuration or all of the new one: keys, listeners, backends and what is counted for
//! clients change in one step.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// One of two configurations that have no key in common, and the same model at another upstream.
fn side(name: &str, fake: &Fake, more: &str) -> String {
    format!(
        "{}[keys.ide]\nkey = \"key-of-{name}\"\n{more}[groups.any]\ntype = \"failover\"\nmembers = [\"up/m\"]\n",
        provider("up", "openai", &fake.url())
    )
}

fn ask_as(live: &Live, key: &str, model: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    client::open(live.proxy.address, "POST", PATH, &headers, chat(model, "").as_bytes()).finish()
}

#[test]
fn a_request_that_was_let_in_goes_by_the_configuration_that_let_it_in() {
    let (old, new) = (fake("old"), fake("new"));
    let narrow = format!("{LISTENER}max_body = \"1KB\"\n");
    let live = Live::start(&side("old", &old, ""));
    live.until_up("up");
    let long = format!(r#""user":"{}","#, "x".repeat(1100));
    let begun: Vec<client::Begun> = [("up/m", &*long), ("any", "")]
        .map(|(model, more)| {
            let headers = [("authorization", "Bearer key-of-old")];
            client::begin(live.proxy.address, PATH, &headers, &chat(model, more))
        })
        .into();
    let said = live.try_reload_with(&side("new", &new, ""), &narrow);
    assert_eq!(said.status, 200, "{}", said.text());
    live.until_up("up");
    assert_eq!(content(&ask_as(&live, "key-of-new", "up/m")), "new");
    assert_eq!(ask_as(&live, "key-of-old", "up/m").status, 401);
    // What is read only after the body is of the old one, too: backends, groups, how large it may be.
    for begun in begun {
        assert_eq!(content(&begun.answer()), "old");
    }
}

#[test]
fn a_request_of_a_removed_provider_that_was_let_in_is_answered_and_then_its_actor_ends() {
    let (kept, gone) = (fake("kept"), fake("gone"));
    let rest = provider("kept", "openai", &kept.url());
    let live = Live::start(&format!("{rest}{}", provider("gone", "openai", &gone.url())));
    ["kept", "gone"].iter().for_each(|id| live.until_up(id));
    let begun = client::begin(live.proxy.address, PATH, &[], &chat("gone/m", ""));
    live.reload(&rest);
    assert_eq!(live.ask("gone/m").status, 404);
    assert_eq!(content(&begun.answer()), "gone");
    eventually("its series end", || live.has_series("provider=\"gone\""), |has| !has);
}

#[test]
fn no_request_meets_a_half_of_each_however_often_it_is_reloaded() {
    let (left, right) = (fake("left"), fake("right"));
    let sides = [("left", &left), ("right", &right)];
    let text = |(name, fake): (&str, &Fake)| side(name, fake, "");
    let live = Live::start(&text(sides[0]));
    live.until_up("up");
    let asking = AtomicUsize::new(sides.len());
    std::thread::scope(|scope| {
        for (name, _) in sides {
            let (live, asking) = (&live, &asking);
            scope.spawn(move || {
                let _over = Over(asking);
                let key = format!("key-of-{name}");
                let mut answered = 0;
                while answered < 150 {
                    let answer = ask_as(live, &key, if answered % 2 == 0 { "up/m" } else { "any" });
                    if answer.status != 401 {
                        assert_eq!(content(&answer), name, "let in by one, answered by the other");
                        answered += 1;
                    }
                }
            });
        }
        let mut rounds = 0;
        while asking.load(Ordering::Relaxed) > 0 {
            rounds += 1;
            live.reload(&text(sides[rounds % 2]));
        }
        assert!(rounds > 3, "{rounds}");
    });
}

/// Tells that somebody asks no more, whatever ended it.
struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_request_of_before_does_not_bring_back_the_limits_that_its_client_had() {
    let up = fake("up");
    let text = |limits: &str| {
        format!("{}[keys.ide]\nkey = \"k\"\nlimits = [{limits}]\n", provider("up", "openai", &up.url()))
    };
    let of_requests = "{ requests = 9, per = \"day\" }";
    let live = Live::start(&text(of_requests));
    live.until_up("up");
    let begun = client::begin(live.proxy.address, PATH, &[("authorization", "Bearer k")], &chat("up/m", ""));
    live.reload(&text(&format!("{of_requests}, {{ tokens = 1000, per = \"hour\" }}")));
    assert_eq!(ask_as(&live, "k", "up/m").status, 200);
    let used = || -> Vec<(String, u64)> {
        let status = live.proxy.get("/demuxai/status").json();
        let limits = status["clients"][0]["limits"].as_array().expect("limits").iter();
        limits.map(|one| (one["unit"].as_str().unwrap().to_owned(), one["used"].as_u64().unwrap())).collect()
    };
    let tokens = |used: &Vec<(String, u64)>| used.iter().find(|(unit, _)| unit == "tokens").map(|one| one.1);
    eventually("the tokens are counted", used, |used| tokens(used) == Some(8));
    assert_eq!(begun.answer().status, 200);
    eventually("both are", used, |used| tokens(used) == Some(16));
    assert!(used().contains(&("requests".to_owned(), 2)), "{:?}", used());
}
