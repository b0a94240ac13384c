use super::*;
use crate::base::frame::{BadFrame, Frames, Head, Opcode, Step};
use crate::scrub::websocket::{Error, Scrub};
use bytes::BytesMut;
use proptest::prelude::*;

fn server(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Head {
        fin,
        opcode,
        mask: None,
        length: payload.len() as u64,
    }
    .write(&mut out);
    out.extend_from_slice(payload);
    out.to_vec()
}

fn scrubbed(pieces: &[&[u8]], set: &[Arc<Needles>]) -> Result<(Vec<Vec<u8>>, u64), Error> {
    let mut scrub = Scrub::new(set);
    let mut outs = Vec::new();
    for piece in pieces {
        let mut out = BytesMut::new();
        scrub.push(Bytes::copy_from_slice(piece), &mut out)?;
        outs.push(out.to_vec());
    }
    Ok((outs, scrub.hits()))
}

#[test]
fn messages_are_masked_across_fragments_and_control_frames_stay_in_order() {
    let set = [needles(&[(TOKEN, Some(STAND_IN))])];
    let stream = |value: &str| {
        let (one, two) = value.split_at(9);
        [
            server(false, Opcode::Text, format!("{{\"you sent\":\"{one}").as_bytes()),
            server(true, Opcode::Ping, value.as_bytes()),
            server(true, Opcode::Continuation, format!("{two}\"}}").as_bytes()),
            server(true, Opcode::Binary, value.as_bytes()),
            server(true, Opcode::Close, format!("\x03\x28bad {value}").as_bytes()),
        ]
        .concat()
    };
    let bytewise: Vec<_> = stream(TOKEN).into_iter().map(|b| [b]).collect();
    let bytewise: Vec<&[u8]> = bytewise.iter().map(|b| &b[..]).collect();
    for pieces in [vec![&stream(TOKEN)[..]], bytewise] {
        let (outs, hits) = scrubbed(&pieces, &set).unwrap();
        assert_eq!((outs.concat(), hits), (stream(STAND_IN), 4));
    }
}

#[test]
fn the_length_of_a_control_frame_is_no_letter_of_a_credential() {
    let set = [needles(&[(TOKEN, None)])];
    // 0x67 is both this length and the first letter of the credential.
    let payload = [&TOKEN.as_bytes()[1..], &[b' '; 64][..]].concat();
    let ping = server(true, Opcode::Ping, &payload);
    assert_eq!((payload.len(), ping[1]), (103, b'g'));
    assert_eq!(scrubbed(&[&ping], &set), Ok((vec![ping.clone()], 0)));
}

#[test]
fn nothing_is_held_back_at_the_end_of_a_message() {
    let set = [needles(&[(TOKEN, None)])];
    let message = server(true, Opcode::Text, b"ends in ghp_16");
    assert_eq!(scrubbed(&[&message], &set), Ok((vec![message.clone()], 0)));
    let open = server(false, Opcode::Text, b"ends in ghp_16");
    assert_eq!(scrubbed(&[&open], &set).unwrap().0, [&open[..open.len() - 6]]);
}

#[test]
fn a_server_that_breaks_the_protocol_or_piles_up_frames_is_cut_off() {
    let set = [needles(&[(TOKEN, None)])];
    assert_eq!(
        scrubbed(&[b"\x81\x81\0\0\0\0a"], &set),
        Err(Error::Frame(BadFrame::Mask))
    );
    assert_eq!(scrubbed(&[b"\xc1\x01a"], &set), Err(Error::Frame(BadFrame::Reserved)));
    let pile = [
        server(false, Opcode::Text, b"ghp_"),
        server(true, Opcode::Ping, &[0; 125]).repeat(600),
    ]
    .concat();
    assert_eq!(scrubbed(&[&pile], &set), Err(Error::Padding));
}

#[test]
fn without_needles_all_bytes_pass_unread() {
    let deflated = b"\xc1\x02\x00\x00 and no frame at all";
    assert_eq!(scrubbed(&[deflated], &[]), Ok((vec![deflated.to_vec()], 0)));
}

/// The messages in a stream of frames.
fn messages(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut input, mut all) = (Frames::default(), Bytes::copy_from_slice(stream), vec![Vec::new()]);
    while let Some(step) = frames.next(&mut input).unwrap() {
        match step {
            Step::Payload(_, _, bytes) => all.last_mut().unwrap().extend(bytes),
            Step::End(head) if head.fin => all.push(Vec::new()),
            _ => {}
        }
    }
    all
}

proptest! {
    #[test]
    fn any_cut_into_frames_and_pieces_is_scrubbed_as_the_messages_are(
        texts in proptest::collection::vec("[ab]{0,9}(abababab)?[ab]{0,9}", 1..5), sizes in proptest::collection::vec(0..9_usize, 1..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..9),
    ) {
        let set = [needles(&[("abababab", Some("ABABABAB"))])];
        let mut stream = Vec::new();
        let mut sizes = sizes.iter().cycle();
        for text in &texts {
            let (mut rest, mut first) = (text.as_bytes(), Opcode::Text);
            for size in sizes.by_ref().take(4) {
                let (frame, more) = rest.split_at((*size).min(rest.len()));
                stream.extend(server(false, first, frame));
                (rest, first) = (more, Opcode::Continuation);
            }
            stream.extend(server(true, first, rest));
        }
        let pieces = cut(&stream, &cuts);
        let pieces: Vec<&[u8]> = pieces.iter().map(|p| &p[..]).collect();
        let out = scrubbed(&pieces, &set).unwrap().0.concat();
        let want: Vec<_> = texts.iter().map(|t| scrub_pieces(vec![t.clone().into()], &set).0.data()).collect();
        prop_assert_eq!(out.len(), stream.len());
        prop_assert_eq!(&messages(&out)[..texts.len()], &want[..]);
    }
}
