//! Both ways of a WebSocket: frames stay frames, and the credential goes out once and never back.
#![no_main]

use bytes::{Bytes, BytesMut};
use keyferry::base::frame::{self, Frames, Step};
use keyferry::base::secret::Secret;
use keyferry::inject::websocket::Rewriter;
use keyferry::scrub::Needles;
use keyferry::scrub::websocket::Scrub;
use keyferry_fuzz::{cut, holds};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

const VALUE: &str = "ghp_16C7e42F292c";
const STAND_IN: &str = "ghp_0000";

static NEEDLES: LazyLock<[Arc<Needles>; 1]> = LazyLock::new(|| {
    let secret = Secret::new(VALUE.into()).unwrap();
    [Arc::new(Needles::new([(&secret, None)]))]
});

fuzz_target!(|input: (&[u8], Vec<u16>)| {
    let (bytes, cuts) = input;
    let secret = Secret::new(VALUE.into()).unwrap();
    outward(bytes, &cuts, &secret);
    inward(bytes, &cuts);
});

fn outward(bytes: &[u8], cuts: &[u16], secret: &Secret) {
    let mut rewriter = Rewriter::new([(STAND_IN, secret)]).unwrap();
    let mut out = BytesMut::new();
    let mut swapped = 0;
    let fine = cut(bytes, cuts).into_iter().try_for_each(|piece| {
        swapped += rewriter.push(piece, &mut out)?;
        Ok::<_, keyferry::inject::websocket::Error>(())
    });
    let messages = messages(&out);
    if fine.is_ok() && swapped > 0 {
        let sent = self::messages(bytes).concat();
        assert!(holds(&sent, STAND_IN.as_bytes()), "swapped what was not there");
        assert!(messages.len() as u64 * 2 >= swapped || !messages.is_empty());
    }
    assert!(
        messages.iter().all(|message| !holds(message, STAND_IN.as_bytes())),
        "a stand-in went out"
    );
}

fn inward(bytes: &[u8], cuts: &[u16]) {
    let mut scrub = Scrub::new(&*NEEDLES);
    let mut out = BytesMut::new();
    for piece in cut(bytes, cuts) {
        if scrub.push(piece, &mut out).is_err() {
            break;
        }
    }
    assert!(out.len() <= bytes.len());
    assert!(
        messages(&out).iter().all(|message| !holds(message, VALUE.as_bytes())),
        "the credential came back"
    );
    let (sent, got) = (skeleton(bytes), skeleton(&out));
    assert!(
        sent.starts_with(&got) || got.is_empty(),
        "frames changed: {sent:?} {got:?}"
    );
}

/// The heads of a stream.
fn skeleton(bytes: &[u8]) -> Vec<frame::Head> {
    let mut heads = Vec::new();
    walk(bytes, |step| {
        if let Step::Head(head) = step {
            heads.push(head);
        }
    });
    heads
}

/// The unmasked payloads: of each message, whole or not, and of each control frame.
fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut message, mut control) = (Vec::new(), Vec::new(), Vec::new());
    walk(bytes, |step| match step {
        Step::Payload(head, offset, bytes) => {
            let mut bytes = bytes.to_vec();
            frame::mask(&mut bytes, head.mask.unwrap_or_default(), offset);
            if head.opcode.is_control() {
                &mut control
            } else {
                &mut message
            }
            .extend(bytes);
        }
        Step::End(head) if head.opcode.is_control() => all.push(std::mem::take(&mut control)),
        Step::End(head) if head.fin => all.push(std::mem::take(&mut message)),
        _ => {}
    });
    all.extend([message, control]);
    all
}

fn walk(bytes: &[u8], mut see: impl FnMut(Step)) {
    let (mut frames, mut rest) = (Frames::default(), Bytes::copy_from_slice(bytes));
    while let Ok(Some(step)) = frames.next(&mut rest) {
        see(step);
    }
}
