//! Deciding over a request, by how many rules there are.

use criterion::{BenchmarkId, Criterion};
use http::Request;
use keyferry::base::ask::{Ask, Scheme};
use keyferry::base::body::Body;
use keyferry::base::host::Target;
use keyferry::base::ids::AgentId;
use keyferry::config::Config;
use keyferry::policy::Policy;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

/// A host with a rule of its own, one below a wildcard, one that only a star inside a label matches, and one that
/// nothing matches.
pub fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    for rules in [10, 1_000, 10_000] {
        let policy = policy(rules);
        for (name, host, allowed) in [
            ("exact", format!("h{}.exact.test", rules / 2), true),
            ("wildcard", format!("a.b.w{}.wild.test", rules / 2), true),
            ("inner", format!("api-7.i{}.inner.test", rules / 2), true),
            ("miss", "deep.down.unknown.example".to_owned(), false),
        ] {
            let ask = ask(&host);
            group.bench_function(BenchmarkId::new(name, rules), |b| {
                b.iter(|| {
                    let permitted = policy.permit(AgentId(0), black_box(&ask), Request::new(Body::Empty));
                    assert_eq!(permitted.is_ok(), allowed);
                    permitted
                });
            });
        }
    }
    group.finish();
}

/// So many rules, in equal parts exact hosts, wildcards and stars inside a label.
fn policy(rules: usize) -> Policy {
    let mut text = "ca: { memory: true }\naudit: none\nrules:\n".to_owned();
    for at in 0..rules {
        let host = match at % 3 {
            _ if at == rules / 2 => format!("[h{at}.exact.test, \"*.w{at}.wild.test\", \"api-*.i{at}.inner.test\"]"),
            0 => format!("h{at}.exact.test"),
            1 => format!("\"*.w{at}.wild.test\""),
            _ => format!("\"api-*.i{at}.inner.test\""),
        };
        writeln!(
            text,
            "  - {{ name: r{at}, host: {host}, allow: [\"GET /v1/**\", \"POST /v1/messages\"] }}"
        )
        .unwrap();
    }
    let loaded = Config::parse(&text, Path::new("keyferry.yaml"));
    Policy::new(&loaded.map_err(|mistakes| mistakes.render(false)).unwrap().config)
}

fn ask(host: &str) -> Ask {
    let request = Request::get("/v1/models/a").header("host", host).body(()).unwrap();
    let target = Target::parse(host, Some(443)).unwrap();
    Ask::read(&target, Scheme::Https, &request.into_parts().0).unwrap()
}
