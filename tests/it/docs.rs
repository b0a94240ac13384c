//! The documents say what is so: every code, metric, field, test and link in them is looked up in
//! the source.

use crate::layers::ROOMS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words in the data path's source that are no codes: header names, JSON keys, names for `Debug`.
const NO_CODES: &[&str] = &[
    "ask",
    "close",
    "cookie",
    "ended",
    "error",
    "hint",
    "hold",
    "host",
    "http",
    "https",
    "message",
    "read",
    "request_id",
    "rule",
    "trailers",
    "upgrade",
    "websocket",
    "written",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `dir` that ends so.
fn files(dir: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(dir)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(files(name, end));
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// What ships of a source file, without comments.
fn shipped(path: &Path) -> String {
    let text = text(path);
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The words that stand between two of `quote` on one line.
fn quoted(text: &str, quote: char) -> BTreeSet<String> {
    let pieces = text.lines().flat_map(|line| line.split(quote).skip(1).step_by(2));
    pieces.filter(|word| is_word(word)).map(str::to_owned).collect()
}

/// What stands in backticks at the beginning of a table's rows.
fn first_cells(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split(['`', '{']).next());
    names.map(str::to_owned).collect()
}

fn differ(what: &str, source: &BTreeSet<String>, documented: &BTreeSet<String>) {
    let missing: Vec<_> = source.difference(documented).collect();
    let gone: Vec<_> = documented.difference(source).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "{what}: {missing:?} are missing, {gone:?} are gone"
    );
}

#[test]
fn every_code_in_the_source_is_documented_and_no_other() {
    let mut codes = quoted(&shipped(Path::new("src/scrub/coding.rs")), '"');
    codes.retain(|word| text("src/scrub/coding.rs").contains(&format!("=> \"{word}\",")));
    for path in files("src/proxy", ".rs") {
        codes.extend(quoted(&shipped(&path), '"'));
    }
    codes.retain(|word| !NO_CODES.contains(&word.as_str()));
    codes.insert("ok".to_owned());
    let page = text("docs/errors.md");
    let keys = ["error", "message", "hint", "rule", "request_id"];
    let mut documented = first_cells(&page);
    assert!(
        keys.iter().all(|key| documented.remove(*key)),
        "the keys of a reply are not told"
    );
    assert!(codes.len() > 30, "only {} codes were found", codes.len());
    differ("docs/errors.md", &codes, &documented);
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let mut names = BTreeSet::new();
    for path in files("src/metrics", ".rs") {
        names.extend(quoted(&shipped(&path), '"'));
    }
    names.retain(|name| name.starts_with("keyferry_") || name.starts_with("process_"));
    let mut documented = first_cells(&text("docs/metrics.md"));
    documented.retain(|name| !name.starts_with('/'));
    differ("docs/metrics.md", &names, &documented);
}

#[test]
fn every_field_of_a_record_is_documented_and_no_other() {
    let source = text("src/audit/record.rs");
    let fields = |name: &str| -> BTreeSet<String> {
        let body = source.split(&format!("pub struct {name} {{")).nth(1).unwrap();
        let body = body.split("\n}").next().unwrap();
        let names = body.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        names
            .filter_map(|field| field.split(':').next().map(str::to_owned))
            .collect()
    };
    let mut all = fields("Record");
    assert!(all.remove("durations") && all.insert("ms".to_owned()));
    all.extend(fields("Durations"));
    differ("docs/audit.md", &all, &first_cells(&text("docs/audit.md")));
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let mut tests = String::new();
    for path in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        tests.push_str(&text(path));
    }
    for (document, fewest) in [("ARCHITECTURE.md", 30), ("SECURITY.md", 50), ("docs/faults.md", 25)] {
        let mut named = quoted(&text(document), '`');
        // A test's name is a sentence; what has fewer words is a key or a module.
        named.retain(|name| name.matches('_').count() >= 2);
        assert!(named.len() >= fewest, "{document} names only {} tests", named.len());
        let unknown: Vec<_> = named
            .iter()
            .filter(|name| !tests.contains(&format!("fn {name}(")))
            .collect();
        assert!(unknown.is_empty(), "{document}: there is no test {unknown:?}");
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents = files("docs", ".md");
    documents.extend(files("ca", ".md"));
    let at_the_top = ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"];
    documents.extend(at_the_top.map(|name| root().join(name)));
    let mut broken = Vec::new();
    for document in documents {
        for link in text(&document)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = document.parent().unwrap().join(path);
            let target = if path.is_empty() { document.clone() } else { target };
            if link.contains("://") || target.exists() && (anchor.is_empty() || anchors(&target).contains(anchor)) {
                continue;
            }
            broken.push(format!("{}: {link}", document.display()));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The headings of a document as links name them.
fn anchors(document: &Path) -> BTreeSet<String> {
    let text = text(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |heading: &str| heading.trim_start_matches('#').trim().to_lowercase();
    headings
        .map(|heading| {
            anchor(heading)
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn the_table_of_rooms_is_the_one_that_is_held() {
    let page = text("ARCHITECTURE.md");
    let table = page
        .split("\n## Rooms\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches(['|', ' ']).split(" | ").collect())
        .collect();
    let documented: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row[0].trim_matches('`'),
                row[2].replace(", ", " ").replace('–', "").replace("all above", "*"),
            )
        })
        .collect();
    // A room that is kept in the table for later has no folder yet.
    let here = |room: &str| root().join("src").join(room).is_dir();
    let held: Vec<_> = ROOMS
        .iter()
        .filter(|(room, _)| here(room))
        .map(|(room, list)| {
            let list: Vec<_> = list
                .split(' ')
                .filter(|name| *name == "*" || here(name) && !name.is_empty())
                .collect();
            (*room, list.join(" "))
        })
        .collect();
    assert_eq!(documented, held);
}

#[test]
fn every_example_on_the_page_of_agents_loads_without_a_warning() {
    load_examples("agents.md", 4);
}

#[test]
fn every_example_on_the_page_of_logins_loads_without_a_warning() {
    load_examples("login.md", 5);
}

#[test]
fn every_example_on_the_page_of_tokens_loads_without_a_warning() {
    load_examples("tokens.md", 3);
}

fn load_examples(page: &str, count: usize) {
    let page = text(format!("docs/{page}"));
    let examples: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), count);
    for example in examples {
        let whole = format!("ca: {{ memory: true }}\naudit: none\n{example}");
        let loaded = keyferry::config::Config::parse(&whole, Path::new("/etc/keyferry/keyferry.yaml"));
        let loaded = loaded.unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
    }
}
