//! Measures how often the right language is found in requests made of snippets from packages that training never saw.

use std::collections::BTreeMap;

use bytes::Bytes;
use demuxai::dialect::{CHAT_COMPLETIONS, FIM_COMPLETIONS, Request, read};
use demuxai::language;
use serde_json::json;

use crate::Outcome;
use crate::corpus::{self, Corpus, File};

/// Snippets of each language and length.
const SNIPPETS: usize = 400;
const LENGTHS: [usize; 3] = [5, 20, 80];
/// The languages that the bounds are about, and that a table of their own averages.
const NAMED: [&str; 15] = [
    "python",
    "rust",
    "javascript",
    "typescript",
    "c",
    "cpp",
    "go",
    "java",
    "csharp",
    "ruby",
    "php",
    "shell",
    "sql",
    "html",
    "css",
];
/// Percent at least, averaged over languages: the named ones with a fence or a path, at each length (Markdown has fences
/// of its own, which name what is inside of them); all of them by their looks, at 20 lines.
const LEAST_TOLD: f64 = 99.0;
const LEAST_LOOKS: f64 = 92.0;

/// How a snippet is put into a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Form {
    Bare,
    Asked,
    Middle,
    Fence,
    Path,
}

const FORMS: [(Form, &str); 5] = [
    (Form::Bare, "code alone"),
    (Form::Asked, "code behind a question"),
    (Form::Middle, "fill in the middle"),
    (Form::Fence, "with a fence's tag"),
    (Form::Path, "with a path"),
];

pub fn request(content: &str) -> Request {
    let body = json!({ "model": "m", "messages": [
        { "role": "system", "content": "You are a coding assistant. Answer with ```python or ```bash blocks." },
        { "role": "user", "content": content },
    ]});
    read(&CHAT_COMPLETIONS, Bytes::from(body.to_string())).expect("a request")
}

fn fim(prefix: &str, suffix: &str) -> Request {
    let body = json!({ "model": "m", "prompt": prefix, "suffix": suffix });
    read(&FIM_COMPLETIONS, Bytes::from(body.to_string())).expect("a request")
}

/// The forms in which editors put a file into a prompt, in turn.
fn with_path(number: usize, extension: &str, code: &str) -> Request {
    let file = if extension.eq_ignore_ascii_case("makefile") {
        "src/Makefile".to_owned()
    } else if matches!(extension, "in" | "am") {
        format!("src/Makefile.{extension}")
    } else {
        format!("src/widgets/table_view.{}", if extension == "orig" { "toml" } else { extension })
    };
    match number % 9 {
        0 => request(&format!("```{file}#L12-40\n{code}\n```\n\nWhat does this do?")),
        1 => request(&format!("<file_content path=\"{file}\">\n{code}\n</file_content>\n\nPlease fix it.")),
        2 => request(&format!("// filepath: /home/me/work/{file}\n{code}\n\nAdd tests.")),
        3 => request(&format!("File: {file}\n{code}\n\nExplain this.")),
        4 => request(&format!(
            "Refactor this.\n\n<attachment filePath=\"/work/{file}\">\n{code}\n</attachment>"
        )),
        5 => request(&format!("```12:40:{file}\n{code}\n```\nWhy is it slow?")),
        6 => request(&format!("<path>{file}</path>\n<content>\n{code}\n</content>\nDocument it.")),
        7 => fim(&format!("<|repo_name|>app\n<|file_sep|>{file}\n{code}"), "\n"),
        _ => fim(&format!("+++++ {file}\n{code}"), "\n"),
    }
}

fn make(form: Form, number: usize, language: &str, extension: &str, code: &str) -> Request {
    match form {
        Form::Bare => request(code),
        Form::Asked => request(&format!("Why does this not do what I expect? Please explain.\n\n{code}")),
        Form::Middle => {
            let middle = code.len() * 2 / 3;
            let middle = (middle..=code.len()).find(|at| code.is_char_boundary(*at)).unwrap_or(code.len());
            fim(&code[..middle], &code[middle..])
        }
        Form::Fence => request(&format!("What is wrong here?\n\n```{language}\n{code}\n```")),
        Form::Path => with_path(number, extension, code),
    }
}

/// Scripts may have names without an ending; such a path says nothing, and is not among those with a path.
fn has_ending(language: &str, extension: &str) -> bool {
    match language {
        "shell" => matches!(extension, "sh" | "bash"),
        "perl" => matches!(extension, "pl" | "pm" | "t"),
        _ => true,
    }
}

/// Prints what there is on both sides.
pub fn print_split(train: &Corpus, eval: &Corpus) -> Outcome<()> {
    println!("packages and files, by language (no package serves both sides)");
    for (language, packages) in train {
        let of = |packages: &BTreeMap<String, Vec<File>>| {
            let files: usize = packages.values().map(Vec::len).sum();
            let names: Vec<&str> = packages.keys().map(String::as_str).collect();
            format!("{} in {}: {}", files, packages.len(), names.join(" "))
        };
        println!("{language:>11} train {}", of(packages));
        let Some(other) = eval.get(language) else {
            println!("{:>11} eval  none", "");
            continue;
        };
        println!("{:>11} eval  {}", "", of(other));
        if let Some(both) = packages.keys().find(|name| other.contains_key(*name)) {
            return Err(format!("{both} is on both sides").into());
        }
    }
    Ok(())
}

/// Prints the tables; whether all bounds hold.
pub fn evaluate(eval: &Corpus) -> bool {
    // By form, length and language: how many were right, of how many; and at 20 lines of code alone, what was said.
    let mut right: BTreeMap<(Form, usize, &str), (usize, usize)> = BTreeMap::new();
    let mut confusion: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut wrong_prose = BTreeMap::new();
    for (language, packages) in eval {
        let kept: Vec<&Vec<File>> = packages.values().collect();
        for length in LENGTHS {
            let mut rng = fastrand::Rng::with_seed(length as u64);
            let snippets = corpus::snippets(&kept, SNIPPETS, |_| length, &mut rng);
            if language == "text" {
                let names: Vec<&String> = packages.keys().collect();
                let mut said: BTreeMap<(&str, String), usize> = BTreeMap::new();
                for (package, _, text) in &snippets {
                    if let Some(found) = language::of(&request(text)) {
                        let what = format!("{} by {}", found.language, found.evidence.label());
                        *said.entry((names[*package], what)).or_default() += 1;
                    }
                }
                wrong_prose.insert(length, (said, snippets.len()));
                continue;
            }
            for (form, _) in FORMS {
                let entry = right.entry((form, length, language)).or_default();
                for (number, (_, extension, code)) in snippets.iter().enumerate() {
                    if form == Form::Path && !has_ending(language, extension) {
                        continue;
                    }
                    let found = language::of(&make(form, number, language, extension, code));
                    let name = found.as_ref().map_or("none", |found| found.language.name());
                    entry.0 += usize::from(name == language);
                    entry.1 += 1;
                    if form == Form::Bare && length == 20 {
                        *confusion.entry(language).or_default().entry(name).or_default() += 1;
                    }
                }
            }
        }
    }
    print_confusion(&confusion);
    let mut held = true;
    println!(
        "\nright, in percent, averaged over languages: the {} named ones, and all {}",
        NAMED.len(),
        confusion.len()
    );
    println!("{:<24} {:>15} {:>15} {:>15}", "", "5 lines", "20 lines", "80 lines");
    for (form, title) in FORMS {
        print!("{title:<24}");
        for length in LENGTHS {
            let share = |named: bool| {
                let shares: Vec<f64> = right
                    .iter()
                    .filter(|((of, lines, language), (_, all))| {
                        *of == form && *lines == length && *all > 0 && (!named || NAMED.contains(language))
                    })
                    .map(|(_, (right, all))| 100.0 * *right as f64 / *all as f64)
                    .collect();
                shares.iter().sum::<f64>() / shares.len().max(1) as f64
            };
            let (named, all) = (share(true), share(false));
            print!("   {named:>5.2}  {all:>5.2}");
            held &= match form {
                Form::Fence | Form::Path => named >= LEAST_TOLD,
                Form::Bare if length == 20 => named.min(all) >= LEAST_LOOKS,
                _ => true,
            };
        }
        println!();
    }
    println!(
        "\nby language, code alone (5, 20, 80 lines), with a path (20), and how many snippets of 20 lines"
    );
    for language in eval.keys().filter(|language| *language != "text") {
        let share = |form, length| {
            let (right, all) = right.get(&(form, length, language.as_str())).copied().unwrap_or_default();
            100.0 * right as f64 / all.max(1) as f64
        };
        println!(
            "{language:>11} {:>6.1} {:>6.1} {:>6.1}   {:>6.1}   {}",
            share(Form::Bare, 5),
            share(Form::Bare, 20),
            share(Form::Bare, 80),
            share(Form::Path, 20),
            right.get(&(Form::Bare, 20, language.as_str())).map_or(0, |(_, all)| *all),
        );
    }
    for (length, (said, all)) in wrong_prose {
        let found: usize = said.values().sum();
        println!("prose of {length} lines taken for a language: {found} of {all}");
        for ((package, what), count) in said {
            println!("{:>11} {count:>4} {package}: {what}", "");
        }
    }
    println!(
        "\nbounds: {LEAST_TOLD} % with a fence or a path at each length, {LEAST_LOOKS} % of code alone at 20 lines: {}",
        if held { "held" } else { "MISSED" }
    );
    held
}

fn print_confusion(confusion: &BTreeMap<&str, BTreeMap<&str, usize>>) {
    println!(
        "\nconfusion at 20 lines of code alone: rows are what it is, columns what was said, in percent (. is less than 0.5)"
    );
    let mut columns: Vec<&str> = confusion.keys().copied().collect();
    columns.push("none");
    print!("{:>11}", "");
    for column in &columns {
        print!(" {:>4}", &column[..column.len().min(4)]);
    }
    println!("  other");
    for (language, said) in confusion {
        let all: usize = said.values().sum();
        let percent = |count: usize| 100.0 * count as f64 / all.max(1) as f64;
        print!("{language:>11}");
        let mut told = 0;
        for column in &columns {
            let count = said.get(column).copied().unwrap_or(0);
            told += count;
            if count == 0 {
                print!("     ");
            } else if percent(count) < 0.5 {
                print!("    .");
            } else {
                print!(" {:>4.0}", percent(count));
            }
        }
        println!(" {:>5.1}", percent(all - told));
    }
}
