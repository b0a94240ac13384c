//! Both ways of a WebSocket: each message arrives as it is due, the credential goes out once and never back.
#![no_main]

use bytes::{Bytes, BytesMut};
use keyferry::base::frame::{self, Frames, Head, Opcode, Step};
use keyferry::base::secret::Secret;
use keyferry::inject::websocket::{Error, Rewriter};
use keyferry::scrub::Needles;
use keyferry::scrub::websocket::Scrub;
use keyferry_fuzz::{cut, holds};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

const VALUE: &str = "ghp_16C7e42F292c";
const STAND_IN: &str = "ghp_0000";

static NEEDLES: LazyLock<[Arc<Needles>; 1]> = LazyLock::new(|| {
    let secret = Secret::new(VALUE.into()).unwrap();
    [Arc::new(Needles::new([(&secret, None)]))]
});

#[derive(Debug, Arbitrary)]
struct Said<'a> {
    raw: &'a [u8],
    frames: Vec<Sent<'a>>,
    cuts: Vec<u16>,
}

#[derive(Debug, Arbitrary)]
struct Sent<'a> {
    last: bool,
    kind: u8,
    key: [u8; 4],
    before: &'a [u8],
    /// From where to where the credential, or its stand-in, stands in the frame.
    from: u8,
    to: u8,
    after: &'a [u8],
}

const KINDS: [Opcode; 6] = [
    Opcode::Text,
    Opcode::Continuation,
    Opcode::Binary,
    Opcode::Ping,
    Opcode::Pong,
    Opcode::Close,
];

fuzz_target!(|said: Said| {
    let secret = Secret::new(VALUE.into()).unwrap();
    outward(&said.stream(STAND_IN, true), &said.cuts, &secret);
    outward(said.raw, &said.cuts, &secret);
    inward(&said.stream(VALUE, false), &said.cuts);
    inward(said.raw, &said.cuts);
});

impl Said<'_> {
    fn stream(&self, text: &str, masked: bool) -> BytesMut {
        let mut out = BytesMut::new();
        for sent in &self.frames {
            let part = |at: u8| usize::from(at) % (text.len() + 1);
            let span = text.get(part(sent.from)..part(sent.to)).unwrap_or_default();
            let mut payload = [sent.before, span.as_bytes(), sent.after].concat();
            let mask = masked.then_some(sent.key);
            let opcode = KINDS[usize::from(sent.kind) % KINDS.len()];
            Head {
                fin: sent.last,
                opcode,
                mask,
                length: payload.len() as u64,
            }
            .write(&mut out);
            frame::mask(&mut payload, mask.unwrap_or_default(), 0);
            out.extend_from_slice(&payload);
        }
        out.extend_from_slice(self.raw);
        out
    }
}

fn outward(bytes: &[u8], cuts: &[u16], secret: &Secret) {
    let mut rewriter = Rewriter::new([(STAND_IN, secret)]).unwrap();
    let mut out = BytesMut::new();
    let mut swapped = 0;
    let fine = cut(bytes, cuts).into_iter().try_for_each(|piece| {
        swapped += rewriter.push(piece, &mut out)?;
        Ok::<_, Error>(())
    });
    let (sent, got) = (messages(bytes), messages(&out));
    assert!(
        got.all
            .iter()
            .chain([&got.cut])
            .all(|(_, message)| !holds(message, STAND_IN.as_bytes())),
        "a stand-in went out"
    );
    assert!(got.all.len() <= sent.all.len());
    assert!(fine.is_err() || got.all.len() == sent.all.len(), "a message is missing");
    let mut due = 0;
    for ((kind, message), (same, arrived)) in sent.all.iter().zip(&got.all) {
        let swapped = replaced(message);
        due += u64::from(swapped != *message);
        assert_eq!((kind, &swapped), (same, arrived), "another message went out");
    }
    // What a piece that fails had swapped before is not told.
    assert!(fine.is_err() || swapped >= due);
    assert!(
        swapped <= due + 1,
        "of the message under way it is swapped once at most"
    );
}

/// The message with the credential for its first stand-in.
fn replaced(message: &[u8]) -> Vec<u8> {
    let Some(at) = message
        .windows(STAND_IN.len())
        .position(|part| part == STAND_IN.as_bytes())
    else {
        return message.to_vec();
    };
    [&message[..at], VALUE.as_bytes(), &message[at + STAND_IN.len()..]].concat()
}

fn inward(bytes: &[u8], cuts: &[u16]) {
    let mut scrub = Scrub::new(&*NEEDLES);
    let mut out = BytesMut::new();
    let fine = cut(bytes, cuts)
        .into_iter()
        .try_for_each(|piece| scrub.push(piece, &mut out));
    assert!(out.len() <= bytes.len());
    let (sent, got) = (messages(bytes), messages(&out));
    assert!(!holds(&got.cut.1, VALUE.as_bytes()), "the credential came back");
    assert!(got.all.len() <= sent.all.len());
    // Only a control frame may wait, behind the beginning of a credential in a message that is not whole yet.
    let mut late = sent.all[got.all.len()..].iter();
    let open = !sent.cut.1.is_empty();
    assert!(
        fine.is_err() || late.all(|(kind, _)| open && kind.unwrap().is_control()),
        "a message is held back"
    );
    for ((kind, message), (same, arrived)) in sent.all.iter().zip(&got.all) {
        let mut masked = message.clone();
        NEEDLES[0].mask(&mut masked);
        assert_eq!((kind, &masked), (same, arrived), "another message came back");
    }
    let (sent, got) = (skeleton(bytes), skeleton(&out));
    assert!(
        sent.starts_with(&got) || got.is_empty(),
        "frames changed: {sent:?} {got:?}"
    );
}

/// The heads of a stream.
fn skeleton(bytes: &[u8]) -> Vec<Head> {
    let mut heads = Vec::new();
    walk(bytes, |step| {
        if let Step::Head(head) = step {
            heads.push(head);
        }
    });
    heads
}

/// A message's or control frame's kind and unmasked payload.
type Message = (Option<Opcode>, Vec<u8>);

/// What a stream says.
#[derive(Default)]
struct Messages {
    /// All that are whole, in the order of their ends.
    all: Vec<Message>,
    /// What is there of the last one.
    cut: Message,
}

fn messages(bytes: &[u8]) -> Messages {
    let (mut told, mut control) = (Messages::default(), Vec::new());
    walk(bytes, |step| match step {
        Step::Head(head) if !head.opcode.is_control() => {
            told.cut.0.get_or_insert(head.opcode);
        }
        Step::Head(_) => {}
        Step::Payload(head, offset, bytes) => {
            let mut bytes = bytes.to_vec();
            frame::mask(&mut bytes, head.mask.unwrap_or_default(), offset);
            if head.opcode.is_control() {
                &mut control
            } else {
                &mut told.cut.1
            }
            .extend(bytes);
        }
        Step::End(head) if head.opcode.is_control() => {
            told.all.push((Some(head.opcode), std::mem::take(&mut control)));
        }
        Step::End(head) if head.fin => told.all.push(std::mem::take(&mut told.cut)),
        Step::End(_) => {}
    });
    told
}

fn walk(bytes: &[u8], mut see: impl FnMut(Step)) {
    let (mut frames, mut rest) = (Frames::default(), Bytes::copy_from_slice(bytes));
    while let Ok(Some(step)) = frames.next(&mut rest) {
        see(step);
    }
}
