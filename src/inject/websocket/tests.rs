#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

const STAND_IN: &str = "vk_test_000000000000";

fn rewriter(value: &str) -> Rewriter {
    Rewriter::new([(STAND_IN, &Secret::new(value.as_bytes().to_vec()).unwrap())]).unwrap()
}

fn client(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(fin, opcode, payload, &mut out).unwrap();
    out.to_vec()
}

/// Whether the message ends here, what the frame is, and what is in it.
type Frame = (bool, Opcode, String);

/// The frames in a stream, unmasked.
fn read(stream: &[u8]) -> Vec<Frame> {
    let (mut frames, mut input, mut all) = (Frames::default(), Bytes::copy_from_slice(stream), Vec::new());
    while let Some(step) = frames.next(&mut input).unwrap() {
        match step {
            Step::Head(head) => all.push((head.fin, head.opcode, Vec::new())),
            Step::Payload(head, offset, bytes) => {
                let mut bytes = bytes.to_vec();
                frame::mask(&mut bytes, head.mask.unwrap(), offset);
                all.last_mut().unwrap().2.extend(bytes);
            }
            Step::End(_) => {}
        }
    }
    all.into_iter()
        .map(|(fin, opcode, payload)| (fin, opcode, String::from_utf8(payload).unwrap()))
        .collect()
}

fn rewritten(value: &str, stream: &[u8]) -> Result<(Vec<Frame>, u64), Error> {
    let mut out = BytesMut::new();
    let swapped = rewriter(value).push(Bytes::copy_from_slice(stream), &mut out)?;
    Ok((read(&out), swapped))
}

#[test]
fn the_placeholder_is_swapped_in_a_text_message_and_the_length_follows() {
    let stream = client(true, Opcode::Text, format!("auth {STAND_IN}!").as_bytes());
    for value in ["r", "re\"al", &"x".repeat(200), &"y".repeat(70_000)] {
        let want = vec![(true, Opcode::Text, format!("auth {value}!"))];
        assert_eq!(rewritten(value, &stream), Ok((want, 1)));
    }
}

#[test]
fn in_a_json_message_the_credential_is_escaped() {
    let stream = client(true, Opcode::Text, format!(" {{\"token\":\"{STAND_IN}\"}}").as_bytes());
    let want = vec![(true, Opcode::Text, r#" {"token":"re\"al\\"}"#.to_owned())];
    assert_eq!(rewritten("re\"al\\", &stream), Ok((want, 1)));
}

#[test]
fn a_placeholder_cut_by_a_frame_moves_to_the_next_and_pings_stay_in_order() {
    let stream = [
        client(false, Opcode::Text, b"one vk_te"),
        client(true, Opcode::Ping, b"p"),
        client(false, Opcode::Continuation, b"st_0000"),
        client(true, Opcode::Continuation, b"00000000 two"),
        client(true, Opcode::Binary, b"\x01"),
    ]
    .concat();
    let want = vec![
        (false, Opcode::Text, "one ".to_owned()),
        (true, Opcode::Ping, "p".to_owned()),
        (true, Opcode::Continuation, "real two".to_owned()),
        (true, Opcode::Binary, "\x01".to_owned()),
    ];
    assert_eq!(rewritten("real", &stream), Ok((want, 1)));
}

#[test]
fn frames_without_a_placeholder_keep_their_borders() {
    let stream = [
        client(false, Opcode::Text, "é".as_bytes()),
        client(false, Opcode::Continuation, b"vk_test"),
        client(true, Opcode::Continuation, b""),
        client(true, Opcode::Text, b""),
        client(true, Opcode::Close, b"\x03\x28bye"),
    ]
    .concat();
    let want = vec![
        (false, Opcode::Text, "é".to_owned()),
        (true, Opcode::Continuation, "vk_test".to_owned()),
        (true, Opcode::Text, String::new()),
        (true, Opcode::Close, "\x03\x28bye".to_owned()),
    ];
    assert_eq!(rewritten("real", &stream), Ok((want, 0)));
}

#[test]
fn it_is_swapped_once_a_message_and_in_text_only() {
    let twice = client(true, Opcode::Text, format!("{STAND_IN}{STAND_IN}").as_bytes());
    assert_eq!(rewritten("real", &twice), Err(Error::Repeated));
    let in_turn = client(true, Opcode::Text, STAND_IN.as_bytes()).repeat(3);
    assert_eq!(rewritten("real", &in_turn).unwrap().1, 3);
    let fragments = [
        client(false, Opcode::Text, STAND_IN.as_bytes()),
        client(true, Opcode::Continuation, STAND_IN.as_bytes()),
    ];
    assert_eq!(rewritten("real", &fragments.concat()), Err(Error::Repeated));
    for opcode in [Opcode::Binary, Opcode::Ping, Opcode::Close] {
        assert_eq!(
            rewritten("real", &client(true, opcode, STAND_IN.as_bytes())),
            Err(Error::Misplaced)
        );
    }
}

#[test]
fn a_stream_that_breaks_the_protocol_is_an_error() {
    for (stream, error) in [
        (&b"\x81\x01a"[..], BadFrame::Mask),
        (b"\x80\x80\0\0\0\0", BadFrame::Order),
        (b"\xc1\x80\0\0\0\0", BadFrame::Reserved),
        (b"\x09\x80\0\0\0\0", BadFrame::Control),
        (b"\x83\x80\0\0\0\0", BadFrame::Opcode(3)),
    ] {
        assert_eq!(rewritten("real", stream), Err(Error::Frame(error)));
        assert_eq!(Error::Frame(error).close_code(), 1002);
    }
}

#[test]
fn a_long_frame_goes_out_in_fragments_with_bounded_memory() {
    let text = format!(
        "{}{STAND_IN}{}",
        "a".repeat(MAX_COLLECTED - 5),
        "b".repeat(2 * MAX_COLLECTED)
    );
    let stream = client(true, Opcode::Text, text.as_bytes());
    let (mut rewriter, mut out) = (rewriter("real"), BytesMut::new());
    for piece in stream.chunks(16 * 1024) {
        rewriter.push(Bytes::copy_from_slice(piece), &mut out).unwrap();
        assert!(rewriter.collected.len() <= MAX_COLLECTED + 16 * 1024);
    }
    let frames = read(&out);
    assert!(
        frames.len() > 2
            && frames
                .iter()
                .all(|(.., payload)| payload.len() <= MAX_COLLECTED + 16 * 1024)
    );
    let whole: String = frames.into_iter().map(|(.., payload)| payload).collect();
    assert_eq!(whole, text.replace(STAND_IN, "real"));
}

#[test]
fn debug_says_nothing() {
    assert_eq!(format!("{:?}", rewriter("hunter2")), "Rewriter { placeholders: 1, .. }");
}

proptest! {
    #[test]
    fn any_cut_into_frames_and_pieces_gives_the_same_messages(
        noise in proptest::collection::vec("[vk_test0]{0,12}", 1..6), at in any::<proptest::sample::Index>(),
        frames in proptest::collection::vec(0..30_usize, 0..8), sizes in proptest::collection::vec(1..9_usize, 1..6),
    ) {
        let mut parts = noise.clone();
        parts.insert(at.index(noise.len() + 1), STAND_IN.to_owned());
        let text = parts.concat();
        prop_assume!(text.matches(STAND_IN).count() == 1 && memchr::memmem::find_iter(text.as_bytes(), STAND_IN).count() == 1);
        let (mut stream, mut rest, mut first) = (Vec::new(), text.as_bytes(), Opcode::Text);
        for n in frames {
            let (frame, more) = rest.split_at(n.min(rest.len()));
            stream.extend(client(false, first, frame));
            stream.extend(client(true, Opcode::Ping, b""));
            (first, rest) = (Opcode::Continuation, more);
        }
        stream.extend(client(true, first, rest));
        let (mut rewriter, mut out, mut swapped) = (rewriter("real"), BytesMut::new(), 0);
        let mut left = stream.as_slice();
        for size in sizes.iter().cycle() {
            let (piece, more) = left.split_at((*size).min(left.len()));
            swapped += rewriter.push(Bytes::copy_from_slice(piece), &mut out).unwrap();
            left = more;
            if left.is_empty() {
                break;
            }
        }
        let got = read(&out);
        let data: Vec<_> = got.iter().filter(|(_, opcode, _)| !opcode.is_control()).collect();
        let whole: String = data.iter().map(|(.., payload)| payload.as_str()).collect();
        prop_assert_eq!(whole, text.replacen(STAND_IN, "real", 1));
        prop_assert_eq!(swapped, 1);
        prop_assert_eq!(data[0].1, Opcode::Text);
        prop_assert_eq!(data.iter().filter(|(fin, ..)| *fin).count(), 1);
    }
}
