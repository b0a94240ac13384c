//! The rules as iptables reads them, where nftables is not there: chains of our own in `filter` and `nat` of each
//! family, and one jump to each. A table is replaced in one step. `filter` comes first, so that in between more is
//! refused and never less.

use super::who::Name;
use super::{DNS, Plan, Reached, User, reached};
use std::net::{IpAddr, SocketAddr};

/// One table of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `ip6tables` or `iptables`.
    pub tool: &'static str,
    /// `filter` or `nat`.
    pub table: &'static str,
    /// What `iptables-restore --noflush` reads, but for jumps that stand already: those are added with
    /// [`replacing`](Self::replacing).
    pub text: String,
}

/// A built-in chain and ours that it jumps to.
const JUMPS: [(&str, &str, &str); 5] = [
    ("filter", "OUTPUT", "out"),
    ("filter", "INPUT", "in"),
    ("filter", "FORWARD", "through"),
    ("nat", "OUTPUT", "nat_out"),
    ("nat", "PREROUTING", "nat_in"),
];

impl Part {
    /// The same after what `saved`, the table as it is, holds of ours was taken out: each jump stands once and first, and
    /// no chain is left that is not wanted any more.
    pub fn replacing(&self, name: &Name, saved: &str) -> String {
        let wanted = |chain: &&str| self.text.contains(&format!("\n:{chain} "));
        let old: Vec<&str> = chains(name, saved).filter(|chain| !wanted(chain)).collect();
        let gone = taken_out(name, saved, &old).map(|line| line + "\n");
        let (head, rules) = self.text.split_once("-I ").unwrap_or((&self.text, ""));
        format!("{head}{}-I {rules}", gone.collect::<String>())
    }
}

/// Our chains in what `iptables-save` printed.
fn chains<'a>(name: &Name, saved: &'a str) -> impl Iterator<Item = &'a str> {
    let start = format!(":{}", name.prefix());
    let ours = saved.lines().filter(move |line| line.starts_with(&start));
    ours.filter_map(|line| line.get(1..)?.split(' ').next())
}

/// What takes out the jumps to our chains, and these of the chains.
fn taken_out(name: &Name, saved: &str, chains: &[&str]) -> impl Iterator<Item = String> {
    let jumps = jumps(name, saved).map(|jump| jump.replacen("-A ", "-D ", 1));
    let flushed = chains.iter().map(|chain| format!("-F {chain}"));
    let deleted = chains.iter().map(|chain| format!("-X {chain}"));
    jumps.chain(flushed).chain(deleted)
}

/// The jumps to our chains in what `iptables-save` printed.
fn jumps<'a>(name: &Name, saved: &'a str) -> impl Iterator<Item = &'a str> {
    let ours = format!("-j {}", name.prefix());
    let is_jump = move |line: &&str| {
        let mut words = line.split(' ').skip(1);
        let built_in = words
            .next()
            .is_some_and(|chain| JUMPS.iter().any(|(_, of, _)| *of == chain));
        built_in && line.starts_with("-A ") && line.contains(&ours)
    };
    saved.lines().filter(is_jump)
}

/// What takes our chains out of `table`; `None` where there are none.
pub(super) fn removal(name: &Name, table: &str, saved: &str) -> Option<String> {
    let chains: Vec<&str> = chains(name, saved).collect();
    if chains.is_empty() {
        return None;
    }
    let lines: Vec<String> = taken_out(name, saved, &chains).collect();
    Some(format!("*{table}\n{}\nCOMMIT\n", lines.join("\n")))
}

pub(super) fn rules(plan: &Plan) -> Vec<Part> {
    let part = |tool, table, v6| Part {
        tool,
        table,
        text: Table {
            plan,
            v6,
            lines: Vec::new(),
        }
        .written(table),
    };
    [
        ("filter", "ip6tables", true),
        ("filter", "iptables", false),
        ("nat", "ip6tables", true),
        ("nat", "iptables", false),
    ]
    .map(|(table, tool, v6)| part(tool, table, v6))
    .into()
}

struct Table<'a> {
    plan: &'a Plan,
    v6: bool,
    lines: Vec<String>,
}

impl Table<'_> {
    fn written(mut self, table: &str) -> String {
        let prefix = self.plan.name.prefix();
        let jumps = JUMPS.iter().filter(|(of, _, _)| *of == table);
        let jumps: Vec<(&str, &str)> = jumps
            .map(|(_, from, to)| (*from, *to))
            .filter(|(_, to)| self.wants(to))
            .collect();
        let common: &[&str] = if table == "nat" {
            &["redirected"]
        } else {
            &["arriving", "judged", "rejected"]
        };
        let chains = jumps
            .iter()
            .map(|(_, to)| to)
            .chain(common)
            .map(|chain| format!(":{prefix}{chain} - [0:0]"));
        let mut text = vec![format!("*{table}")];
        text.extend(chains);
        text.extend(jumps.iter().map(|(from, to)| format!("-I {from} 1 -j {prefix}{to}")));
        match table {
            "nat" => self.nat(),
            _ => self.filter(),
        }
        text.extend(self.lines);
        text.push("COMMIT\n".to_owned());
        text.join("\n")
    }

    fn wants(&self, chain: &str) -> bool {
        let who = &self.plan.who;
        match chain {
            "out" | "nat_out" => who.is_local(),
            "through" => who.everybody || !who.interfaces.is_empty(),
            _ => !who.interfaces.is_empty(),
        }
    }

    fn add(&mut self, chain: &str, rule: &str) {
        self.lines.push(format!("-A {}{chain} {rule}", self.plan.name.prefix()));
    }

    fn goto(&mut self, chain: &str, matching: &str, to: &str) {
        let to = format!("{}{to}", self.plan.name.prefix());
        let space = if matching.is_empty() { "" } else { " " };
        self.add(chain, &format!("{matching}{space}-g {to}"));
    }

    fn nat(&mut self) {
        let plan = self.plan;
        self.leaving("nat_out", "redirected");
        self.coming("nat_in", "redirected");
        if let Some(dns) = plan.dns {
            for over in ["udp", "tcp"] {
                let rule = format!("-p {over} --dport {DNS} -j REDIRECT --to-ports {}", dns.port());
                self.add("redirected", &rule);
            }
        }
        for port in &plan.ports {
            let rule = format!(
                "-p tcp --dport {port} -j REDIRECT --to-ports {}",
                plan.transparent.port()
            );
            self.add("redirected", &rule);
        }
    }

    fn filter(&mut self) {
        let plan = self.plan;
        let icmp = if self.v6 { "ipv6-icmp" } else { "icmp" };
        self.leaving("out", "judged");
        self.coming("in", "arriving");
        if plan.who.everybody {
            self.goto("through", "", "rejected");
        } else {
            self.coming("through", "rejected");
        }
        self.add("arriving", "-m conntrack --ctdir REPLY -j ACCEPT");
        self.add(
            "arriving",
            &format!("-p {icmp} -m conntrack --ctstate RELATED -j ACCEPT"),
        );
        if self.v6 {
            for kind in [
                "router-solicitation",
                "neighbour-solicitation",
                "neighbour-advertisement",
            ] {
                self.add("arriving", &format!("-p ipv6-icmp --icmpv6-type {kind} -j ACCEPT"));
            }
        }
        self.goto("arriving", "", "judged");
        for (address, udp) in plan.open() {
            self.opening(address, udp);
        }
        if plan.loopback {
            for over in ["udp", "tcp"] {
                self.goto("judged", &format!("-p {over} --dport {DNS}"), "rejected");
            }
            let own = if self.v6 { "::1" } else { "127.0.0.0/8" };
            self.add("judged", &format!("-d {own} -j ACCEPT"));
        }
        self.goto("judged", "", "rejected");
        self.add("rejected", "-p tcp -j REJECT --reject-with tcp-reset");
        self.add("rejected", "-j REJECT");
    }

    fn opening(&mut self, listener: SocketAddr, udp: bool) {
        let to = match (reached(listener), self.v6) {
            (Reached::Any, _) | (Reached::AnyV4, false) => "-m addrtype --dst-type LOCAL".to_owned(),
            (Reached::At(IpAddr::V4(ip)), false) => format!("-d {ip}"),
            (Reached::At(IpAddr::V6(ip)), true) => format!("-d {ip}"),
            (Reached::AnyV4 | Reached::At(_), _) => return,
        };
        let protocols: &[&str] = if udp { &["udp", "tcp"] } else { &["tcp"] };
        for over in protocols {
            self.add(
                "judged",
                &format!("-p {over} {to} --dport {} -j ACCEPT", listener.port()),
            );
        }
    }

    /// What is sent from here: who is spared goes, who is meant goes on to `to`.
    fn leaving(&mut self, chain: &str, to: &str) {
        let plan = self.plan;
        if !plan.who.is_local() {
            return;
        }
        if let Some(mark) = plan.spared_mark {
            self.add(chain, &format!("-m mark --mark {mark:#x} -j RETURN"));
        }
        for User(uid) in &plan.spared {
            self.add(chain, &format!("-m owner --uid-owner {uid} -j RETURN"));
        }
        if plan.who.everybody {
            // Not `! --uid-owner`: that holds for what has no socket too.
            return self.goto(chain, "-m owner --uid-owner 0-4294967294", to);
        }
        for User(uid) in &plan.who.uids {
            self.goto(chain, &format!("-m owner --uid-owner {uid}"), to);
        }
        for group in &plan.who.cgroups {
            self.goto(chain, &format!("-m cgroup --path {}", group.path), to);
        }
    }

    /// What comes in by an interface.
    fn coming(&mut self, chain: &str, to: &str) {
        for interface in &self.plan.who.interfaces {
            self.goto(chain, &format!("-i {}", interface.plussed()), to);
        }
    }
}
