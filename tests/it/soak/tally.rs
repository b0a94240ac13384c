//! What the load saw of each exchange, and the comparison with what is on record: each once, with that outcome.

use super::kinds::Kind;
use super::spelled::Spelled;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Mutex;

/// What the agent saw of one exchange.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The status, or zero where there was none to see.
    status: u16,
    /// One more than the position of the code it was told among those of its kind.
    code: u8,
    records: u8,
}

/// Every exchange of the load, by kind and number.
pub struct Tally {
    seen: Vec<Mutex<Vec<Seen>>>,
    /// The agent's address of each tunnel.
    tunnels: Mutex<BTreeMap<String, i64>>,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            seen: Kind::ALL.iter().map(|_| Mutex::default()).collect(),
            tunnels: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// A number for a new exchange.
    pub fn begin(&self, kind: Kind) -> usize {
        let mut seen = self.seen[kind as usize].lock().unwrap();
        seen.push(Seen::default());
        seen.len() - 1
    }

    /// What the agent was answered.
    pub fn saw(&self, kind: Kind, number: usize, status: u16, code: &str) {
        let codes = kind.spec().2;
        let at = codes.iter().position(|known| *known == code).map_or(0, |at| at + 1);
        if at == 0 && !code.is_empty() {
            self.fail(format!("{} {number} was answered {status} {code}", kind.name()));
        }
        let mut seen = self.seen[kind as usize].lock().unwrap();
        (seen[number].status, seen[number].code) = (status, u8::try_from(at).unwrap());
    }

    /// A tunnel was opened from this address.
    pub fn tunnel(&self, from: &str) {
        *self.tunnels.lock().unwrap().entry(from.to_owned()).or_default() += 1;
    }

    /// Something is not as promised.
    pub fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// All that is not as promised: of each kind one, and how many there are.
    pub fn failures(&self) -> Vec<String> {
        let mut kinds: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for failure in self.failures.lock().unwrap().iter() {
            // Numbers apart, the beginning says what it is.
            let kind = failure.chars().filter(|c| !c.is_ascii_digit()).take(40).collect();
            kinds.entry(kind).or_insert_with(|| (0, failure.clone())).0 += 1;
        }
        let told = kinds.into_values().map(|(count, one)| format!("{count} times: {one}"));
        told.collect()
    }

    /// How many there were of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.seen[kind as usize].lock().unwrap().len()
    }

    /// Holds every line of every audit file in `dir` against what was seen.
    pub fn compare(&self, dir: &Path, spelled: &Spelled) -> u64 {
        let mut records = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let lines = BufReader::new(std::fs::File::open(&path).unwrap()).lines();
            for line in lines {
                let line = line.unwrap();
                if let Some(around) = spelled.told(line.as_bytes()) {
                    self.fail(format!("an audit line tells a secret: …{around}…"));
                }
                match serde_json::from_str(&line) {
                    Ok(record) => self.record(&record),
                    Err(_) => self.fail(format!("a torn line in {}: {line}", path.display())),
                }
                records += 1;
            }
        }
        for kind in Kind::ALL {
            for (number, seen) in self.seen[kind as usize].lock().unwrap().iter().enumerate() {
                let well = seen.records == 1 || seen.records == 0 && kind.may_be_unheard();
                if !well {
                    self.fail(format!("{} {number} is on record {} times", kind.name(), seen.records));
                }
            }
        }
        for (peer, left) in self.tunnels.lock().unwrap().iter().filter(|(_, left)| **left != 0) {
            self.fail(format!("of the tunnels from {peer} {left} are not on record"));
        }
        records
    }

    fn record(&self, record: &Value) {
        let text = |field: &str| record[field].as_str().unwrap_or_default();
        if text("mode") == "tunnel" {
            *self.tunnels.lock().unwrap().entry(text("peer").to_owned()).or_default() -= 1;
            return;
        }
        // `/kind/number…`, or `kind-number.….test:443` where there was no request.
        let mut path = text("path").split(['/', '?']).skip(1);
        let named = path.next().zip(path.next());
        let named = named.or_else(|| text("target").split('.').next()?.split_once('-'));
        let known = named.and_then(|(kind, number)| Some((Kind::named(kind)?, number.parse::<usize>().ok()?)));
        let Some((kind, number)) = known else {
            return self.fail(format!("nobody asked for this: {record}"));
        };
        let codes = kind.spec().2;
        let mut all = self.seen[kind as usize].lock().unwrap();
        let Some(seen) = all.get_mut(number) else {
            return self.fail(format!("nobody asked for this: {record}"));
        };
        seen.records = seen.records.saturating_add(1);
        let told = usize::from(seen.code).checked_sub(1).map(|at| codes[at]);
        let code_fits = codes.contains(&text("code")) && told.is_none_or(|told| told == text("code"));
        let status_fits = seen.status == 0 || record["status"] == seen.status;
        if !code_fits || !status_fits {
            let (status, told) = (seen.status, told.unwrap_or("nothing"));
            self.fail(format!(
                "the agent saw {status} and was told {told}, but on record is {record}"
            ));
        }
    }
}
