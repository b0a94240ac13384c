//! A record as its line: what serde would write, at a third of the cost. Each exchange pays for one.

use super::record::{Durations, Mode, Outcome, Record, Way, put_stamp};
use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// Appends the record and the end of its line.
pub(super) fn write(record: &Record, to: &mut Vec<u8>) {
    let mut line = Object::begin(to);
    line.name("time");
    line.to.push(b'"');
    put_stamp(record.time, line.to);
    line.to.push(b'"');
    line.text("request_id", &record.request_id);
    line.maybe("agent", record.agent.as_deref());
    line.maybe("peer", record.peer.as_deref());
    line.maybe("way", record.way.map(way));
    line.shown("original", record.original.as_ref());
    line.shown("target", record.target.as_ref());
    line.maybe("mode", record.mode.map(mode));
    line.maybe("scheme", record.scheme);
    line.maybe("method", record.method.as_deref());
    line.maybe("path", record.path.as_ref().map(super::MaskedPath::as_str));
    line.maybe("protocol_in", record.protocol_in);
    line.maybe("protocol_out", record.protocol_out);
    line.maybe("rule", record.rule.as_deref());
    if !record.credentials.is_empty() {
        line.name("credentials");
        for (at, name) in record.credentials.iter().enumerate() {
            line.to.push(if at == 0 { b'[' } else { b',' });
            quoted(name, line.to);
        }
        line.to.push(b']');
    }
    if let Some(status) = record.status {
        line.number("status", status.into());
    }
    line.text("outcome", outcome(record.outcome));
    line.text("code", record.code);
    line.maybe("reason", record.reason.as_deref());
    line.number("bytes_in", record.bytes_in);
    line.number("bytes_out", record.bytes_out);
    line.number("scrubbed", record.scrubbed);
    line.name("ms");
    durations(&record.durations, line.to);
    to.extend_from_slice(b"}\n");
}

fn durations(spent: &Durations, to: &mut Vec<u8>) {
    let mut object = Object::begin(to);
    let all = [
        ("queue", spent.queue),
        ("dns", spent.dns),
        ("connect", spent.connect),
        ("tls", spent.tls),
        ("first_byte", spent.first_byte),
        ("total", spent.total),
    ];
    for (name, time) in all {
        if let Some(time) = time {
            object.name(name);
            millis(time, object.to);
        }
    }
    to.push(b'}');
}

/// As a decimal number, with as many digits as it takes and at least one behind the point.
fn millis(time: Duration, to: &mut Vec<u8>) {
    let micros = time.as_micros();
    let (whole, mut rest) = (micros / 1000, micros % 1000);
    digits(u64::try_from(whole).unwrap_or(u64::MAX), to);
    to.push(b'.');
    let mut place = 100;
    loop {
        to.push(b'0' + u8::try_from(rest / place).unwrap_or_default());
        rest %= place;
        if rest == 0 {
            return;
        }
        place /= 10;
    }
}

fn digits(number: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// In quotes, with what may not stand in them escaped.
fn quoted(text: &str, to: &mut Vec<u8>) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    // All of them, wherever the first that is not plain stands: so the compiler looks at many at a time.
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        to.push(b'"');
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
    } else {
        // Writing to a vector cannot fail.
        let _ = serde_json::to_writer(to, text);
    }
}

const fn way(way: Way) -> &'static str {
    match way {
        Way::Proxy => "proxy",
        Way::Socks => "socks",
        Way::Transparent => "transparent",
        Way::Gateway => "gateway",
        Way::Dns => "dns",
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Tunnel => "tunnel",
        Mode::Intercept => "intercept",
        Mode::Plain => "plain",
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    }
}

/// An object whose end is its writer's.
struct Object<'a> {
    to: &'a mut Vec<u8>,
    begun: usize,
}

impl<'a> Object<'a> {
    fn begin(to: &'a mut Vec<u8>) -> Self {
        to.push(b'{');
        Self { begun: to.len(), to }
    }

    /// `name` is our own: there is nothing to escape in it.
    fn name(&mut self, name: &str) {
        if self.to.len() > self.begun {
            self.to.push(b',');
        }
        self.to.push(b'"');
        self.to.extend_from_slice(name.as_bytes());
        self.to.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quoted(value, self.to);
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        digits(value, self.to);
    }

    /// A host or an address: in its canonical spelling is nothing to escape.
    fn shown(&mut self, name: &str, value: Option<&impl Display>) {
        if let Some(value) = value {
            self.name(name);
            let _ = write!(self.to, "\"{value}\"");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::MaskedPath;
    use super::*;
    use crate::base::host::Target;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn written(record: &Record) -> String {
        let mut line = Vec::new();
        write(record, &mut line);
        String::from_utf8(line).unwrap()
    }

    fn as_serde_has_it(record: &Record) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    #[test]
    fn every_field_is_written_as_serde_would() {
        let mut record = Record::begin("01-a");
        assert_eq!(written(&record), as_serde_has_it(&record));
        for target in ["api.example:443", "[2001:db8::1]:8443", "192.0.2.7:80"] {
            record.target = Some(Target::parse(target, None).unwrap());
            record.original = Some("[2001:db8::7]:443".parse().unwrap());
            for way in [Way::Proxy, Way::Socks, Way::Transparent, Way::Gateway, Way::Dns] {
                record.way = Some(way);
                assert_eq!(written(&record), as_serde_has_it(&record));
            }
        }
        for mode in [Mode::Tunnel, Mode::Intercept, Mode::Plain] {
            for outcome in [Outcome::Ok, Outcome::Denied, Outcome::Failed] {
                (record.mode, record.outcome) = (Some(mode), outcome);
                assert_eq!(written(&record), as_serde_has_it(&record));
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_in_it_a_record_is_written_as_serde_would(
            texts in proptest::collection::vec(proptest::option::of(".{0,40}|[\\x00-\\x7f\"\\\\]{0,40}"), 8),
            names in proptest::collection::vec("[a-z\"\\\\\n]{0,9}", 0..4),
            numbers in proptest::array::uniform3(any::<u64>()),
            status in proptest::option::of(any::<u16>()),
            spent in proptest::collection::vec(proptest::option::of(0..1_u64 << 45), 6),
            since in 0..4_000_000_000_000_u64,
        ) {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().flatten();
            let mut record = Record::begin(text().unwrap_or_default());
            record.time = SystemTime::UNIX_EPOCH + Duration::from_millis(since);
            record.agent = text().map(Into::into);
            record.peer = text().map(Into::into);
            record.method = text().map(Into::into);
            record.path = text().map(|path| MaskedPath::new(&path));
            record.rule = text().map(Into::into);
            record.reason = text().map(Into::into);
            record.scheme = Some("https");
            (record.protocol_in, record.protocol_out) = (Some("h1"), text().map(|_| "h2"));
            record.credentials = names.into_iter().map(Into::into).collect();
            [record.bytes_in, record.bytes_out, record.scrubbed] = numbers;
            record.status = status;
            let mut spent = spent.into_iter().map(|micros| micros.map(Duration::from_micros));
            let mut time = || spent.next().flatten();
            record.durations = Durations {
                queue: time(),
                dns: time(),
                connect: time(),
                tls: time(),
                first_byte: time(),
                total: time(),
            };
            prop_assert_eq!(written(&record), as_serde_has_it(&record));
        }
    }
}
