//! The rules as nftables reads them: one table of our own for both families, replaced as a whole.

use super::who::Name;
use super::{DNS, Plan, Reached, reached};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// Before other tables' NAT (-100), so that none of theirs, such as a container's own DNS, takes a connection first:
/// the kernel translates each only once.
const BEFORE_OTHERS: &str = "priority -110; policy accept;";
const FILTER: &str = "priority filter; policy accept;";
/// Every user there can be. What has no user has no socket any more: what the kernel itself sends, and the rest of a
/// connection whose program has closed it, which can only be one to Keyferry.
const ANYBODY: &str = "meta skuid 0-4294967294";

/// Takes our table out, if it is there.
pub(super) fn removal(name: &Name) -> String {
    // Deleting what is not there fails, so it is made first: in one transaction nobody sees that.
    format!("table inet {name}\ndelete table inet {name}\n")
}

pub(super) fn rules(plan: &Plan) -> String {
    let mut chains = Vec::new();
    if plan.who.is_local() {
        let nat = format!("type nat hook output {BEFORE_OTHERS}");
        let filter = format!("type filter hook output {FILTER}");
        chains.push(chain(
            "redirect_output",
            [vec![nat], leaving(plan, "redirected")].concat(),
        ));
        chains.push(chain("output", [vec![filter], leaving(plan, "judged")].concat()));
    }
    let interfaces = plan.who.interfaces.iter().map(|one| format!("\"{}\"", one.starred()));
    let interfaces: Vec<String> = interfaces.collect();
    let by = |chain| (!interfaces.is_empty()).then(|| format!("iifname {} goto {chain}", set(&interfaces)));
    if let (Some(redirected), Some(arriving)) = (by("redirected"), by("arriving")) {
        let nat = format!("type nat hook prerouting {BEFORE_OTHERS}");
        chains.push(chain("redirect_prerouting", vec![nat, redirected]));
        chains.push(chain(
            "input",
            vec![format!("type filter hook input {FILTER}"), arriving],
        ));
        chains.push(chain("arriving", arriving_rules()));
    }
    let through = if plan.who.everybody {
        Some("goto rejected".to_owned())
    } else {
        by("rejected")
    };
    if let Some(through) = through {
        chains.push(chain(
            "forward",
            vec![format!("type filter hook forward {FILTER}"), through],
        ));
    }
    chains.push(chain("redirected", redirected(plan)));
    chains.push(chain("judged", judged(plan)));
    let reset = "meta l4proto tcp reject with tcp reset".to_owned();
    chains.push(chain("rejected", vec![reset, "reject".to_owned()]));
    // Chains can be named before they are there, within one transaction.
    let (name, body) = (&plan.name, chains.join("\n"));
    format!("{}table inet {name} {{\n{body}}}\n", removal(name))
}

fn chain(name: &str, rules: Vec<String>) -> String {
    let rules: String = rules.iter().map(|rule| format!("\t\t{rule}\n")).collect();
    format!("\tchain {name} {{\n{rules}\t}}\n")
}

/// What is sent from here: who is spared goes, who is meant goes on to `chain`.
fn leaving(plan: &Plan, chain: &str) -> Vec<String> {
    let uids = |users: &[super::User]| set(users.iter().map(|user| user.0));
    let mut rules = Vec::new();
    if let Some(mark) = plan.spared_mark {
        rules.push(format!("meta mark {mark:#x} return"));
    }
    if !plan.spared.is_empty() {
        rules.push(format!("meta skuid {} return", uids(&plan.spared)));
    }
    if plan.who.everybody {
        rules.push(format!("{ANYBODY} goto {chain}"));
        return rules;
    }
    if !plan.who.uids.is_empty() {
        rules.push(format!("meta skuid {} goto {chain}", uids(&plan.who.uids)));
    }
    for group in &plan.who.cgroups {
        rules.push(format!(
            "socket cgroupv2 level {} \"{}\" goto {chain}",
            group.level, group.below
        ));
    }
    rules
}

fn redirected(plan: &Plan) -> Vec<String> {
    let dns = plan
        .dns
        .map(|dns| format!("meta l4proto {{ tcp, udp }} th dport {DNS} redirect to :{}", dns.port()));
    let web = format!(
        "tcp dport {} redirect to :{}",
        set(&plan.ports),
        plan.transparent.port()
    );
    dns.into_iter().chain([web]).collect()
}

/// What comes in from an agent's network, for this machine itself.
fn arriving_rules() -> Vec<String> {
    [
        // Answers to what this machine began.
        "ct direction reply accept",
        "ct state related meta l4proto { icmp, ipv6-icmp } accept",
        // Without these there is no IPv6 between neighbours (RFC 4861), and they go no further.
        "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
        "goto judged",
    ]
    .map(str::to_owned)
    .into()
}

fn judged(plan: &Plan) -> Vec<String> {
    let mut rules: Vec<String> = plan.open().map(|(address, udp)| opening(address, udp)).collect();
    if plan.loopback {
        rules.push(format!("meta l4proto {{ tcp, udp }} th dport {DNS} goto rejected"));
        rules.push("ip daddr 127.0.0.0/8 accept".to_owned());
        rules.push("ip6 daddr ::1 accept".to_owned());
    }
    rules.push("goto rejected".to_owned());
    rules
}

fn opening(listener: SocketAddr, udp: bool) -> String {
    let to = match reached(listener) {
        Reached::Any => "fib daddr type local".to_owned(),
        Reached::AnyV4 => "meta nfproto ipv4 fib daddr type local".to_owned(),
        Reached::At(IpAddr::V4(ip)) => format!("ip daddr {ip}"),
        Reached::At(IpAddr::V6(ip)) => format!("ip6 daddr {ip}"),
    };
    let over = if udp { "meta l4proto { tcp, udp } th" } else { "tcp" };
    format!("{to} {over} dport {} accept", listener.port())
}

fn set<T: Display>(members: impl IntoIterator<Item = T>) -> String {
    let members: Vec<String> = members.into_iter().map(|one| one.to_string()).collect();
    format!("{{ {} }}", members.join(", "))
}
