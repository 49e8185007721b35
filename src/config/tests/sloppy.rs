//! Files as people write them in a hurry: no panic, an end at once, and words that say what to write instead. Each snapshot
//! has what was written beside what is said of it.

use std::time::{Duration, Instant};

use super::*;

const MISTRAL: &str = "[providers.mistral]\ntype = \"mistral\"\napi_key = \"k\"\n";

/// What is said of each of these, which stand behind `before` in a file of their own.
fn said(before: &str, all: &[&str]) -> String {
    let mut told = String::new();
    for written in all {
        let case = Case::of(&format!("{before}{written}\n"));
        let started = Instant::now();
        let (problems, warnings) = match case.load() {
            Ok(config) => (Vec::new(), config.warnings),
            Err(report) => (report.problems, report.warnings),
        };
        assert!(started.elapsed() < Duration::from_secs(20), "{written}");
        told.push_str(&format!("{written}\n"));
        for problem in &problems {
            let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
            told.push_str(&format!("    {key}{}\n", problem.message));
        }
        for warning in &warnings {
            told.push_str(&format!("    warning: {}: {}\n", warning.key, warning.message));
        }
        if problems.is_empty() && warnings.is_empty() {
            told.push_str("    is taken\n");
        }
    }
    told.replace("\u{a0}", "<no-break space>")
}

#[test]
fn syntax_that_is_nearly_toml() {
    let told = said(
        "",
        &[
            "[providers.o]\ntype = ollama",
            "[providers.o]\ntype = \u{201c}ollama\u{201d}",
            "[providers.o]\ntype: ollama",
            "[providers.o]\ntype",
            "[providers.o]\ntype ollama",
            "[providers.o]\ntype == \"ollama\"",
            "[providers.o]\ntype = ",
            "[providers.o\ntype = \"ollama\"",
            "[providers.o]\ntype = \"ollama",
            "[providers.o]\ntype = \"ollama\" # comment \"\nname = \"he said \"hi\"\"",
            "[providers.o]\ntype = \"ollama\"\nca_file = \"C:\\certs\\ca.pem\"",
            "[providers.o]\ntype = \"ollama\"\nlocal = True",
            "[providers.o]\ntype = \"ollama\"\nlocal = yes",
            "[providers.o]\ntype = \"ollama\"\n[providers.o]\ntype = \"ollama\"",
            "[providers.o]\ntype = \"ollama\"\ntype = \"openai\"",
            "providers.o.type = \"ollama\"\nproviders.o = 5",
            "[providers.o]\ntype = \"ollama\"\ncache_seconds = 10:30:00",
            "[providers.o]\ntype = \"ollama\"\nreplicas = 99999999999999999999",
            "[providers.o]\ntype = \"ollama\"\nmodels = [\"a\" \"b\"]",
            "[providers.o]\ntype = \"ollama\"\nmodels = [\"a\",",
            "[providers.o]\ntype = \"ollama\"\nreplicas = 08",
            "[providers.o]\ntype = \"ollama\"; name = \"x\"",
            "[providers.my box]\ntype = \"ollama\"",
            "{\"providers\": {\"o\": {\"type\": \"ollama\"}}}",
            "providers:\n  o:\n    type: ollama",
            "# A comment first.\n\n[providers.o]\r\ntype = \"ollama\"\r\n\ttimeout = 5",
            "[[providers]]\ntype = \"ollama\"",
            "[provider.o]\ntype = \"ollama\"",
        ],
    );
    assert_reads!(told, "what is nearly TOML, or another format");
}

#[test]
fn lengths_of_time_and_sizes_in_many_hands() {
    let spans = [
        "1 hour",
        "5m ",
        " 5m",
        "5mins",
        "2hrs",
        "5 minutes",
        "1h 30m",
        "0.5h",
        "5\u{a0}m",
        "\u{221e}",
        "forever",
        "-5s",
        "1:30",
        "5,5s",
        "1e3",
        "",
        "5M",
        "PT5M",
        "1 week",
        "0",
    ];
    let spans: Vec<String> = spans.iter().map(|span| format!("timeouts = {{ idle = \"{span}\" }}")).collect();
    let plain =
        ["timeouts = 30", "cache_seconds = -1", "max_wait = 1e300", "cache_seconds = inf", "max_wait = true"];
    let spans: Vec<&str> = spans.iter().map(String::as_str).chain(plain).collect();
    let sizes =
        ["64 MB", "64MiB", "64M", "1TB", "1.5GB", "64 megabytes", "unlimited", "-1", "10e6", "64,000"];
    let sizes: Vec<String> =
        sizes.iter().map(|size| format!("[listeners.l]\nmax_body = \"{size}\"")).collect();
    let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
    assert_reads!(said(MISTRAL, &spans) + &said(MISTRAL, &sizes), "lengths of time, and sizes");
}

#[test]
fn zones_windows_and_amounts_in_many_hands() {
    let zones = [
        "Berlin",
        "europe/berlin",
        "UTC+2",
        "Europe/Belin",
        "PST",
        "America/New York",
        "../../etc/passwd",
        "",
    ];
    let zones: Vec<String> = zones
        .iter()
        .map(|zone| {
            format!(
                "limits = [{{ tokens = 1, per = \"day\", window = \"calendar\", time_zone = \"{zone}\" }}]"
            )
        })
        .collect();
    let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
    let told = said(MISTRAL, &zones)
        + &said(
            MISTRAL,
            &[
                "limits = [{ requests = 60, per = \"minutes\" }]",
                "limits = [{ requests = 60, per = \"Day\" }]",
                "limits = [{ requests = 60, per = \"daily\" }]",
                "limits = [{ requests = 60, per = 60 }]",
                "limits = [{ rpm = 60 }]",
                "limits = [{ tokens = \"1M\", per = \"day\" }]",
                "limits = [{ tokens = 1e6, per = \"day\" }]",
                "limits = [{ requests = 1.5, per = \"day\" }]",
                "limits = { requests = 60, per = \"minute\" }",
                "limits = 60",
                "requests = 60",
                "replicas = -1",
                "max_in_flight = \"4\"",
            ],
        );
    assert_reads!(told, "time zones, windows and amounts of limits");
}

#[test]
fn names_from_elsewhere() {
    let types = ["Mistral", "OLLAMA", "open-ai", "llama.cpp", "lm-studio", "google", "anthropic", ""];
    let types: Vec<String> = types.iter().map(|kind| format!("[providers.x]\ntype = \"{kind}\"")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let groups = [
        "roundrobin",
        "Failover",
        "least_latency",
        "fallback",
        "load-balance",
        "panel",
        "judge",
        "limits",
        "",
    ];
    let groups: Vec<String> = groups
        .iter()
        .map(|kind| format!("[groups.g]\ntype = \"{kind}\"\nmembers = [\"mistral/x\"]"))
        .collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let options = [
        "baseUrl = \"http://h\"",
        "token = \"k\"",
        "headers = [\"x: y\"]",
        "hidden = \"true\"",
        "first_token = \"5m\"",
        "models = \"x\"",
        "models = [{ name = \"x\", context_length = \"8k\" }, { id = 5 }]",
        "[listener]\naddress = \"127.0.0.1:6041\"",
        "[listeners]\naddress = \"127.0.0.1:6041\"",
        "[keys]\nide = \"secret\"",
        "[alias]\n\"gpt-4\" = \"mistral/x\"",
        "[aliases]\n\"gpt-4\" = [\"mistral/x\"]",
        "[logging]\nlevel = \"info\"",
        "[log]\nlevel = \"verbose\"\nformat = \"JSON\"",
        "[state]\nfile = \"x\"",
        "[admin]\ntoken = \"x\"",
    ];
    let told = said("", &types) + &said(MISTRAL, &groups) + &said(MISTRAL, &options);
    assert_reads!(told, "types and options by the names that others have for them");
}

#[test]
fn groups_and_routes_in_many_hands() {
    let members = [
        "mistral:x",
        "Mistral/x",
        "mistral /x",
        " mistral/x",
        "mistral",
        "http://h/x",
        "",
        "/",
        "/x",
        "misral/x",
    ];
    let members: Vec<String> =
        members.iter().map(|to| format!("[groups.g]\ntype = \"failover\"\nmembers = [\"{to}\"]")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let group = |text: &'static str| text;
    let others = [
        group("[groups.g]\ntype = \"failover\"\nmembers = \"mistral/x\""),
        "[groups.g]\ntype = \"failover\"\nmembers = [{ provider = \"mistral\", model = \"x\" }]",
        "[groups.g]\ntype = \"failover\"\nmembers = [{ to = \"mistral/x\", weigth = \"2\", temperature = 1 }]",
        "[groups.g]\ntype = \"failover\"\nto = \"mistral/x\"\ntemperature = 1",
        "[groups.g]\ntype = \"cache\"\nmember = \"mistral/x\"\nttl_seconds = 5",
        "[groups.g]\ntype = \"cache\"\nmembers = [\"mistral/x\"]\nttl = 0",
        "[groups.g]\ntype = \"tee\"\nto = \"mistral/x\"\nfile = \"x.jsonl\"",
        "[groups.g]\ntype = \"rewrite\"\nto = \"mistral/x\"\nset = [\"temperature\"]\nremove = \"top_p\"\nsystem = \"Be brief\"",
        "[groups.g]\ntype = \"limit\"\nto = \"mistral/x\"\nrequests = 5\nby = \"header: x-team\"",
        "[groups.g]\ntype = \"static\"\nstatus = \"503\"\nmessage = \"x\"",
        "[groups.g]\ntype = \"static\"\ntext = \"x\"",
        "[groups.g]\ntype = \"consensus\"\nmembers = [\"mistral/a\"]\njudge = \"mistral/b\"\ncombine = \"vote\"\nshow = \"none\"",
        "[routers.r]\nroutes = { to = \"mistral/x\" }",
        "[routers.r]\nroute = [{ to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [\"mistral/x\"]",
        "[routers.r]\nroutes = [{ target = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ from = \"22:00\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ endpoint = \"embeddings\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ time = \"night\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ quota = \"mistral<20%\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ input_tokens = \">8k\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ natural_language = \"German\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ regex = \"(?=a)\", to = \"mistral/x\" }]",
        "[routers.r]\nroutes = [{ not = \"tools\", to = \"mistral/x\" }]",
    ];
    assert_reads!(said(MISTRAL, &members) + &said(MISTRAL, &others), "members, groups and routes");
}

#[test]
fn budgets_in_many_hands() {
    let budget = |rest: &str| format!("[groups.g]\ntype = \"budget\"\nto = \"mistral/x\"\n{rest}");
    let prices = "prices = { \"*\" = { input = 1, output = 2 } }";
    let caps = "caps = [{ usd = 5, per = \"month\" }]";
    let all = [
        format!("caps = 5\n{prices}"),
        format!("cap = 5\n{prices}"),
        format!("caps = {{ usd = 5, per = \"day\" }}\n{prices}"),
        format!("caps = [{{ usd = \"5\", per = \"month\" }}]\n{prices}"),
        format!("caps = [{{ eur = 5, per = \"month\" }}]\n{prices}"),
        format!("caps = [{{ usd = 5 }}]\n{prices}"),
        format!("caps = [{{ usd = -1, per = \"5h\" }}]\n{prices}"),
        format!("caps = [{{ usd = 5, per = \"day\", time_zone = \"Berlin\" }}]\n{prices}"),
        caps.to_owned(),
        format!("{caps}\nprices = {{ \"mistral/y\" = {{ input = 1, output = 2 }} }}"),
        format!("{caps}\nprices = {{ \"mistral/x\" = 0.1 }}"),
        format!("{caps}\nprices = {{ \"mistral/x\" = {{ prompt = 1, completion = 2 }} }}"),
        format!("{caps}\nprices = {{ \"mistral/x\" = {{ input = \"0.1\", output = 0.3 }} }}"),
        format!("{caps}\nprices = {{ \"mistral/x\" = {{ input = 0.1 }} }}"),
        format!("{caps}\nprices = {{ \"mistral/x\" = {{ input = -0.1, output = 1 }} }}"),
    ];
    let all: Vec<String> = all.iter().map(|rest| budget(rest)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_reads!(said(MISTRAL, &all), "caps and prices");
}

#[test]
fn addresses_and_secrets_in_many_hands() {
    let addresses = [
        "\":6041\"",
        "6041",
        "\"localhost\"",
        "\"*:6041\"",
        "\"127.0.0.1:70000\"",
        "\"127.0.0.1 :6041\"",
        "\"http://127.0.0.1:6041\"",
        "\"myhost:6041\"",
        "\"\"",
        "[\"127.0.0.1:6041\"]",
        "\"unix:/tmp/x\"",
    ];
    let addresses: Vec<String> =
        addresses.iter().map(|address| format!("[listeners.l]\naddress = {address}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let urls = [
        "localhost:8080",
        " http://h",
        "htp://h",
        "http:/h",
        "",
        "//h",
        "127.0.0.1",
        "http://h/v1/chat/completions/",
    ];
    let urls: Vec<String> =
        urls.iter().map(|url| format!("[providers.x]\ntype = \"ollama\"\nurl = \"{url}\"")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let keys = [
        "\"$MISTRAL_API_KEY\"",
        "\"%MISTRAL_API_KEY%\"",
        "\"${MISTRAL_API_KEY:-x}\"",
        "\"<your key>\"",
        "\"Bearer sk\"",
        "\"sk \"",
        "[\"sk\"]",
        "5",
        "{ var = \"X\" }",
        "{ cmd = \"pass show x\" }",
        "{ command = \"pass show x\" }",
        "{ file = \"\" }",
        "{ env = \"${X}\" }",
        "{ env = \"X\", file = \"y\" }",
        "{}",
    ];
    let keys: Vec<String> =
        keys.iter().map(|key| format!("[providers.x]\ntype = \"mistral\"\napi_key = {key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let told = said(MISTRAL, &addresses) + &said("", &urls) + &said("", &keys);
    assert!(!told.contains("is taken\n[listeners"), "{told}");
    assert_reads!(told, "addresses, URLs and keys");
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(MISTRAL.bytes().flat_map(|byte| [byte, 0])).collect();
    let mut case = Case::empty()
        .file("utf16.toml", utf16)
        .file("latin1.toml", b"[providers.o]\ntype = \"ollama\"\nname = \"Caf\xe9\"\n")
        .file("large.toml", "# x\n".repeat(2_500_000))
        .file("deep.toml", format!("a = {}{}", "[".repeat(5000), "]".repeat(5000)))
        .file("nul.toml", "[providers.o]\ntype = \"ollama\"\0\n")
        .file("escape.toml", "[providers.o]\ntype = \"ollama\x1b[31m\"\n")
        .file("mac.toml", MISTRAL.replace('\n', "\r"))
        .file("empty.yml", "")
        .file("null.yml", "demuxai:\n")
        .file("list.yml", "demuxai: []\n")
        .file("tab.yml", "demuxai:\n\tproviders:\n")
        .file("twice.yml", "demuxai:\n  port: 1\n  port: 2\n");
    case.sources.files.push(case.directory.path().to_owned());
    assert_reads!(case.report(), "files in other encodings, formats and sizes, and a directory");
    for good in [format!("\u{feff}{MISTRAL}"), MISTRAL.replace('\n', "\r\n"), MISTRAL.replace(" = ", "\t=\t")]
    {
        assert_eq!(Case::of(&good).config().providers.len(), 1, "{good:?}");
    }
}
