use super::*;
use crate::base::budget::Budget;
use crate::scrub::spell::spellings;
use http_body::Body as _;
use proptest::prelude::*;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Leftmost, longest, one after the other, over the whole.
fn naive(whole: &[u8], secrets: &[(&str, Option<&str>)]) -> (Vec<u8>, u64) {
    let all: Vec<_> = secrets.iter().flat_map(|(v, p)| spellings(v.as_bytes(), *p)).collect();
    let (mut out, mut hits, mut at) = (whole.to_vec(), 0, 0);
    while at < out.len() {
        let here = all
            .iter()
            .filter(|s| out[at..].starts_with(&s.find))
            .max_by_key(|s| s.find.len());
        match here {
            Some(s) => {
                out[at..at + s.put.len()].copy_from_slice(&s.put);
                at += s.put.len();
                hits += 1;
            }
            None => at += 1,
        }
    }
    (out, hits)
}

#[test]
fn every_border_in_every_spelling_is_seen_over() {
    let set = needles(&[(TOKEN, Some(STAND_IN))]);
    for spelling in spellings(TOKEN.as_bytes(), Some(STAND_IN)) {
        let whole = [b"data: ", &**spelling.find, b"\n\n"].concat();
        for first in 0..=whole.len() {
            let (out, hits) = scrub_pieces(cut(&whole, &[first, first + 3]), std::slice::from_ref(&set));
            assert_eq!((out.data(), hits), ([b"data: ", &*spelling.put, b"\n\n"].concat(), 1));
        }
        let bytewise = whole.iter().map(|b| Bytes::copy_from_slice(&[*b])).collect();
        assert_eq!(scrub_pieces(bytewise, std::slice::from_ref(&set)).1, 1);
    }
}

#[test]
fn a_piece_that_ends_in_no_partial_match_is_passed_on_whole_and_uncopied() {
    let set = needles(&[(TOKEN, Some(STAND_IN))]);
    let event = Bytes::from_static(b"event: delta\ndata: {\"text\":\"ghp_16C7 is not it\"}\n\n");
    let (out, hits) = scrub_pieces(vec![event.clone(), event.clone()], &[set]);
    assert_eq!((out.frames.len(), hits), (2, 0));
    assert!(
        out.frames
            .iter()
            .all(|frame| frame.as_ptr() == event.as_ptr() && frame.len() == event.len())
    );
}

#[test]
fn only_what_may_become_a_credential_is_held_back() {
    let set = needles(&[(TOKEN, Some(STAND_IN))]);
    let list = [&b"its ghp_16"[..], b"C7 was cut", b" short: ghp_16C7e42F292c6"]
        .map(Bytes::from_static)
        .to_vec();
    let (out, hits) = scrub_pieces(list, &[set]);
    let frames: Vec<_> = out
        .frames
        .iter()
        .map(|f| String::from_utf8_lossy(f).into_owned())
        .collect();
    assert_eq!(frames, ["its ", "ghp_16C7 was cut", " short: ", "ghp_16C7e42F292c6"]);
    assert_eq!(hits, 0);
}

#[test]
fn an_error_passes_and_takes_what_is_held_back_with_it() {
    let set = needles(&[(TOKEN, None)]);
    let hits = Arc::new(AtomicU64::new(0));
    let list = vec![Bytes::from_static(b"secret is ghp_16C7e42F292c6")];
    let out = drain(body(pieces(list, None, true), &[set], &hits));
    assert_eq!(
        (out.data(), out.error.as_deref()),
        (b"secret is ".to_vec(), Some("reset by peer"))
    );
}

#[test]
fn trailers_follow_what_was_held_back_and_are_scrubbed() {
    let set = needles(&[(TOKEN, Some(STAND_IN))]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-message", format!("bad token {TOKEN}").parse().unwrap());
    let hits = Arc::new(AtomicU64::new(0));
    let list = vec![Bytes::from_static(b"the end is gh")];
    let out = drain(body(pieces(list, Some(trailers), false), &[set], &hits));
    assert_eq!(out.data(), b"the end is gh");
    assert_eq!(out.trailers.unwrap()["grpc-message"], format!("bad token {STAND_IN}"));
    assert_eq!(hits.load(Ordering::Relaxed), 1);
}

/// A stream of a length that was told beforehand.
struct OfLength<B>(B, u64);

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for OfLength<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.1 -= frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1)
    }
}

#[test]
fn nothing_is_held_back_of_a_body_that_is_known_to_have_ended() {
    let set = needles(&[(TOKEN, None)]);
    let whole = format!("{TOKEN} and ghp_16C7e4");
    let inner = Body::full(whole.clone());
    let out = drain(body(inner, &[set], &Arc::default()));
    assert_eq!(out.frames, [format!("{} and ghp_16C7e4", "*".repeat(TOKEN.len()))]);
}

#[test]
fn the_size_hint_stays_exact_while_bytes_are_held_back() {
    let set = needles(&[(TOKEN, None)]);
    let whole = format!("{TOKEN} and ghp_16C7e4");
    // Of a known length, but that it has ended is known only when it is asked once more.
    let pieces = [Ok::<_, BoxError>(Frame::data(Bytes::from(whole.clone())))];
    let inner = OfLength(StreamBody::new(futures_util::stream::iter(pieces)), whole.len() as u64);
    let mut scrubbed = body(Body::wrap(inner), &[set], &Arc::default());
    assert_eq!(scrubbed.size_hint().exact(), Some(whole.len() as u64));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime
        .block_on(scrubbed.frame())
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert_eq!(scrubbed.size_hint().exact(), Some((whole.len() - first.len()) as u64));
    assert!(!scrubbed.is_end_stream());
    assert_eq!(drain(scrubbed).data().len(), whole.len() - first.len());
}

#[test]
fn a_grpc_message_is_never_held_back_at_its_end() {
    let set = needles(&[(TOKEN, Some(STAND_IN))]);
    let message = |text: &str| {
        [
            &[0][..],
            &u32::try_from(text.len()).unwrap().to_be_bytes(),
            text.as_bytes(),
        ]
        .concat()
    };
    let (mut parts, ()) = http::Response::builder()
        .header("content-type", "application/grpc+proto")
        .body(())
        .unwrap()
        .into_parts();
    let list = vec![message("ends in ghp_").into(), message(&format!("has {TOKEN}")).into()];
    let hits = Arc::default();
    let out = drain(
        reply(
            &mut parts,
            pieces(list, None, false),
            &[set],
            Asked::default(),
            &hits,
            &Budget::default(),
        )
        .unwrap(),
    );
    let first: Vec<u8> = message("ends in ghp_");
    assert_eq!(out.frames[0], first);
    assert_eq!(out.data(), [first, message(&format!("has {STAND_IN}"))].concat());
}

#[test]
fn without_needles_nothing_is_wrapped() {
    assert!(matches!(body(Body::full("x"), &[], &Arc::default()), Body::Full(_)));
    assert!(matches!(
        body(Body::full("x"), &[needles(&[("short", None)])], &Arc::default()),
        Body::Full(_)
    ));
}

proptest! {
    #[test]
    fn any_split_is_scrubbed_as_the_whole_would_be(
        // Few letters, so that values overlap themselves, each other and their own beginnings.
        first in "[ab%4]{8,14}|[ab%4]{60,90}", second in "[ab%4]{8,20}|[ab%4]{60,90}",
        text in proptest::collection::vec(prop_oneof![
            4 => "[ab%4]{1,40}".prop_map(Some), 1 => Just(None)], 0..20),
        cuts in proptest::collection::vec(any::<usize>(), 0..12), pick in any::<proptest::sample::Index>(),
    ) {
        let secrets = [(first.as_str(), Some("stand-in")), (second.as_str(), None)];
        let all: Vec<_> = secrets.iter().flat_map(|(v, p)| spellings(v.as_bytes(), *p)).collect();
        let mut whole = Vec::new();
        for (i, part) in text.iter().enumerate() {
            match part {
                Some(noise) => whole.extend(noise.as_bytes()),
                None => whole.extend_from_slice(&all[(pick.index(all.len()) + i) % all.len()].find),
            }
        }
        let (want, want_hits) = naive(&whole, &secrets);
        let (out, hits) = scrub_pieces(cut(&whole, &cuts), &[needles(&secrets)]);
        prop_assert_eq!(out.data().len(), whole.len());
        prop_assert_eq!((out.data(), hits), (want, want_hits));

        // Two sets, one after the other.
        let (want, _) = naive(&naive(&whole, &secrets[..1]).0, &secrets[1..]);
        let (out, _) = scrub_pieces(cut(&whole, &cuts), &[needles(&secrets[..1]), needles(&secrets[1..])]);
        prop_assert_eq!(out.data(), want);
    }

    #[test]
    fn clean_bytes_pass_as_they_are(
        whole in proptest::collection::vec(any::<u8>(), 0..3000), cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let (out, hits) = scrub_pieces(cut(&whole, &cuts), &[needles(&[(TOKEN, None)])]);
        prop_assert_eq!((out.data(), hits), (whole, 0));
    }
}
