//! DNS messages (RFC 1035): from bytes to one question, and from an answer to bytes. What could carry more than an
//! address in or out is told apart here, and never answered.

use crate::base::host::Host;
use simple_dns::header_buffer as head;
use simple_dns::rdata::{A, AAAA, OPT, RData};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question as Asked, RCODE, ResourceRecord, TYPE,
};
use std::net::IpAddr;

/// Bytes in the longest message that is read, and the size that we offer to take (RFC 6891 §6.2.3).
pub const LONGEST: usize = 1232;

/// Bytes in a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// Addresses in a reply: with the longest name they fit in the 512 bytes that every client takes.
const MOST_ADDRESSES: usize = 8;
/// Seconds for which an address may be kept: a reload shall soon be heard of.
const LASTS: u32 = 30;

/// What a message is.
#[derive(Debug)]
pub enum Message {
    /// One question.
    Question(Question),
    /// Something that makes no sense, with the reply that says so.
    Nonsense(Vec<u8>),
    /// What nobody may answer: a reply, or no message at all.
    Nothing,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of IPv4.
    V4,
    /// Addresses of IPv6.
    V6,
    /// How to reach a service (RFC 9460): it would lead clients to QUIC and to encrypted hellos, so there is never any.
    Service,
    /// Anything else.
    Other,
}

/// One question, as it came.
#[derive(Debug)]
pub struct Question {
    /// What it is about.
    pub kind: Kind,
    /// The host, where the name can be one.
    pub host: Option<Host>,
    asked: Asked<'static>,
    id: u16,
    recursion: bool,
    extended: bool,
}

/// What a question is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// These, as far as they are of the kind asked for; none of the kind is an answer too.
    Addresses(&'a [IpAddr]),
    /// There is no such name, as far as this agent is concerned.
    NoName,
    /// Nothing of the kind is told to anybody, or nothing to this agent.
    Refused,
    /// It should be known, and is not to be had now.
    Failed,
}

/// Reads a message.
pub fn read(bytes: &[u8]) -> Message {
    let known = (
        head::id(bytes),
        head::has_flags(bytes, PacketFlag::RESPONSE),
        head::opcode(bytes),
    );
    let (Ok(id), Ok(false), Ok(opcode)) = known else {
        return Message::Nothing;
    };
    if bytes.len() < HEADER || bytes.len() > LONGEST {
        return Message::Nothing;
    }
    if opcode != OPCODE::StandardQuery {
        return Message::Nonsense(bare(id, opcode, RCODE::NotImplemented));
    }
    let malformed = || Message::Nonsense(bare(id, opcode, RCODE::FormatError));
    // Looked at first: the library makes room for as many records as the header promises.
    let counts = [
        head::questions,
        head::answers,
        head::name_servers,
        head::additional_records,
    ]
    .map(|of| of(bytes).ok());
    if !matches!(counts, [Some(1), Some(0), Some(0), Some(0 | 1)]) {
        return malformed();
    }
    let Ok(packet) = Packet::parse(bytes) else {
        return malformed();
    };
    let ([asked], Some(recursion)) = (packet.questions.as_slice(), recursion(bytes)) else {
        return malformed();
    };
    Message::Question(Question {
        kind: kind(asked),
        host: host(&asked.qname),
        asked: asked.clone().into_owned(),
        id,
        recursion,
        extended: packet.opt().is_some(),
    })
}

fn recursion(bytes: &[u8]) -> Option<bool> {
    head::has_flags(bytes, PacketFlag::RECURSION_DESIRED).ok()
}

fn kind(asked: &Asked<'_>) -> Kind {
    match (asked.qtype, asked.qclass) {
        (QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN)) => Kind::V4,
        (QTYPE::TYPE(TYPE::AAAA), QCLASS::CLASS(CLASS::IN)) => Kind::V6,
        (QTYPE::TYPE(TYPE::HTTPS | TYPE::SVCB), QCLASS::CLASS(CLASS::IN)) => Kind::Service,
        _ => Kind::Other,
    }
}

/// The host of that name. A label may hold any byte, a dot too: whatever is no letter of a host's name names none.
fn host(name: &Name<'_>) -> Option<Host> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut labels = Vec::with_capacity(name.get_labels().len());
    for label in name.get_labels() {
        let label = label.as_ref();
        labels.push(std::str::from_utf8(label).ok().filter(|_| label.iter().all(fits))?);
    }
    let host = Host::parse(&labels.join(".")).ok()?;
    matches!(host, Host::Name(_)).then_some(host)
}

/// A reply to something that holds no question.
fn bare(id: u16, opcode: OPCODE, code: RCODE) -> Vec<u8> {
    let mut reply = Packet::new_reply(id);
    *reply.opcode_mut() = opcode;
    *reply.rcode_mut() = code;
    reply.build_bytes_vec().unwrap_or_default()
}

impl Question {
    /// The type asked for, such as `AAAA`.
    pub fn type_name(&self) -> String {
        match self.asked.qtype {
            QTYPE::TYPE(kind) => format!("{kind:?}"),
            other => format!("{other:?}"),
        }
    }

    /// The reply with that answer.
    pub fn reply(&self, answer: Answer<'_>) -> Vec<u8> {
        let mut reply = Packet::new_reply(self.id);
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
        if self.recursion {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        reply.questions.push(self.asked.clone());
        match answer {
            Answer::Addresses(all) => {
                let fitting = all.iter().filter_map(|ip| self.record(ip.to_canonical()));
                reply.answers.extend(fitting.take(MOST_ADDRESSES));
            }
            Answer::NoName => *reply.rcode_mut() = RCODE::NameError,
            Answer::Refused => *reply.rcode_mut() = RCODE::Refused,
            Answer::Failed => *reply.rcode_mut() = RCODE::ServerFailure,
        }
        if self.extended {
            *reply.opt_mut() = Some(OPT {
                opt_codes: Vec::new(),
                udp_packet_size: LONGEST.try_into().unwrap_or(u16::MAX),
                version: 0,
            });
        }
        reply.build_bytes_vec_compressed().unwrap_or_default()
    }

    fn record(&self, ip: IpAddr) -> Option<ResourceRecord<'static>> {
        let data = match (self.kind, ip) {
            (Kind::V4, IpAddr::V4(ip)) => RData::A(A::from(ip)),
            (Kind::V6, IpAddr::V6(ip)) => RData::AAAA(AAAA::from(ip)),
            _ => return None,
        };
        Some(ResourceRecord::new(self.asked.qname.clone(), CLASS::IN, LASTS, data))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn query(name: &str, kind: QTYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet
            .questions
            .push(Asked::new(Name::new(name).unwrap(), kind, CLASS::IN.into(), false));
        packet.build_bytes_vec().unwrap()
    }

    fn question(bytes: &[u8]) -> Question {
        match read(bytes) {
            Message::Question(question) => question,
            other => panic!("{other:?}"),
        }
    }

    /// The code of what nonsense is told.
    fn told(bytes: &[u8]) -> Option<RCODE> {
        match read(bytes) {
            Message::Nonsense(reply) => Some(head::rcode(&reply).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn a_question_is_answered_with_what_is_of_its_kind() {
        let all: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let answers = |kind: TYPE| {
            let question = question(&query("Api.Test", kind.into()));
            assert_eq!(question.host, Some(Host::parse("api.test").unwrap()));
            let reply = question.reply(Answer::Addresses(&all));
            let packet = Packet::parse(&reply).unwrap();
            assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
            assert_eq!(
                (packet.id(), packet.rcode(), packet.questions[0].qname.to_string()),
                (7, RCODE::NoError, "Api.Test".into())
            );
            packet.answers.len()
        };
        assert_eq!(
            [TYPE::A, TYPE::AAAA, TYPE::HTTPS, TYPE::SVCB, TYPE::TXT].map(answers),
            [2, 1, 0, 0, 0]
        );
    }

    #[test]
    fn a_reply_fits_in_what_every_client_takes() {
        let longest = [
            ["x"; 63].concat(),
            ["y"; 63].concat(),
            ["z"; 63].concat(),
            ["w"; 61].concat(),
        ]
        .join(".");
        let all: Vec<IpAddr> = (0..100)
            .map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]))
            .collect();
        let mut asked = query(&longest, TYPE::AAAA.into());
        // With EDNS: an OPT record of no options.
        asked[11] = 1;
        asked.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        let reply = question(&asked).reply(Answer::Addresses(&all));
        assert!(reply.len() <= 512 + 11, "{}", reply.len());
        let packet = Packet::parse(&reply).unwrap();
        assert_eq!(
            (packet.answers.len(), packet.opt().unwrap().udp_packet_size),
            (MOST_ADDRESSES, 1232)
        );
    }

    #[test]
    fn kinds_that_carry_more_than_addresses_are_told_apart() {
        for kind in [
            TYPE::TXT,
            TYPE::NULL,
            TYPE::MX,
            TYPE::CNAME,
            TYPE::NS,
            TYPE::SRV,
            TYPE::PTR,
            TYPE::SOA,
        ] {
            assert_eq!(question(&query("a.test", kind.into())).kind, Kind::Other, "{kind:?}");
        }
        assert_eq!(question(&query("a.test", QTYPE::ANY)).kind, Kind::Other);
        assert_eq!(question(&query("a.test", TYPE::HTTPS.into())).kind, Kind::Service);
        let mut chaos = query("version.bind", TYPE::A.into());
        let end = chaos.len();
        chaos[end - 1] = 3;
        assert_eq!(question(&chaos).kind, Kind::Other);
    }

    #[test]
    fn a_name_that_no_host_has_names_none() {
        let host = |name: &str| question(&query(name, TYPE::A.into())).host;
        assert!(host("_acme.a.test").is_some_and(|host| host == Host::parse("_acme.a.test").unwrap()));
        for name in [
            r"a\.test",
            r"api\.test.com",
            "127.0.0.1",
            r"a\000.test",
            r"\200.test",
            "a b.test",
            ".",
        ] {
            assert_eq!(host(name), None, "{name}");
        }
    }

    #[test]
    fn nonsense_is_told_and_replies_are_not_answered() {
        let good = query("a.test", TYPE::A.into());
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(
            matches!(read(&with(2, 0x81)), Message::Nothing),
            "a reply, or two servers would talk for ever"
        );
        assert!(matches!(read(&good[..11]), Message::Nothing));
        assert!(matches!(read(&[0; LONGEST + 1]), Message::Nothing));
        for (at, byte) in [
            (5, 0),
            (5, 2),
            (4, 0xff),
            (6, 0xff),
            (7, 1),
            (9, 1),
            (10, 0xff),
            (11, 1),
        ] {
            assert_eq!(told(&with(at, byte)), Some(RCODE::FormatError), "{at}");
        }
        assert_eq!(told(&good[..good.len() - 1]), Some(RCODE::FormatError));
        assert_eq!(told(&with(2, 0x28)), Some(RCODE::NotImplemented), "an update");
        // A name that points at itself.
        let mut looped = good[..12].to_vec();
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(told(&looped), Some(RCODE::FormatError));
    }
}
