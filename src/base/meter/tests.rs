#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use proptest::prelude::*;

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    let head = u32::try_from(length).unwrap().to_be_bytes();
    let mut frame = [&head[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    frame.resize(HEAD + length, 0);
    frame
}

fn received(meter: &mut Meter, bytes: &[u8]) -> Result<(), Flood> {
    meter.received(&mut bytes.to_vec())
}

fn server() -> Meter {
    let mut meter = Meter::new(End::Server);
    received(&mut meter, PREFACE).unwrap();
    received(&mut meter, &frame(SETTINGS, 0, 0, 18)).unwrap();
    meter
}

/// How many such frames pass, of so many.
fn passing(meter: &mut Meter, one: &[u8], most: usize) -> usize {
    (0..most).take_while(|_| received(meter, one).is_ok()).count()
}

#[test]
fn every_kind_of_frame_that_carries_nothing_is_a_flood_in_the_end() {
    for (kind, flags, stream, length) in [
        (PING, 0, 0, 8),
        (PING, 1, 0, 8),
        (SETTINGS, 0, 0, 0),
        (WINDOW_UPDATE, 0, 0, 4),
        (WINDOW_UPDATE, 0, 1, 4),
        (2, 0, 1, 5),
        (DATA, 0, 1, 0),
        (CONTINUATION, 0, 1, 1),
        (CONTINUATION, END_HEADERS, 1, 0),
        (HEADERS, END_HEADERS, 1, 1),
        (PUSH_PROMISE, END_HEADERS, 1, 4),
        (7, 0, 0, 8),
        (0x10, 0, 0, 5),
        (0xfe, 0xff, 9, 3),
    ] {
        let mut meter = server();
        received(&mut meter, &frame(HEADERS, END_HEADERS, 1, 1)).unwrap();
        let passed = passing(&mut meter, &frame(kind, flags, stream, length), 30_000);
        assert!((9_000..20_000).contains(&passed), "kind {kind}: {passed}");
    }
}

#[test]
fn requests_bodies_and_what_goes_with_them_are_no_flood() {
    let mut meter = server();
    for stream in (1..200_000).step_by(2) {
        received(&mut meter, &frame(HEADERS, END_HEADERS, stream, 20)).unwrap();
        received(&mut meter, &frame(WINDOW_UPDATE, 0, stream, 4)).unwrap();
        received(&mut meter, &frame(DATA, 0, stream, 100)).unwrap();
        received(&mut meter, &frame(DATA, END_STREAM, stream, 0)).unwrap();
        meter.sent(&frame(HEADERS, END_HEADERS, stream, 20));
        for _ in 0..3 {
            meter.sent(&frame(DATA, 0, stream, 10));
            // A client that makes room anew for each frame, on stream and connection.
            received(&mut meter, &frame(WINDOW_UPDATE, 0, stream, 4)).unwrap();
            received(&mut meter, &frame(WINDOW_UPDATE, 0, 0, 4)).unwrap();
        }
        meter.sent(&frame(DATA, END_STREAM, stream, 0));
    }
    assert!(meter.quiet().is_some());
}

#[test]
fn streams_that_are_opened_to_be_reset_are_a_flood() {
    let mut meter = server();
    let reset = |meter: &mut Meter, stream| {
        received(meter, &frame(HEADERS, END_HEADERS, stream, 20))?;
        received(meter, &frame(RST_STREAM, 0, stream, 4))
    };
    let passed = (1..20_000)
        .step_by(2)
        .take_while(|stream| reset(&mut meter, *stream).is_ok());
    assert!((900..2_000).contains(&passed.count()));
}

#[test]
fn an_upstream_may_reset_whatever_we_open() {
    let mut meter = Meter::new(End::Client);
    meter.sent(PREFACE);
    for stream in (1..100_000).step_by(2) {
        meter.sent(&frame(HEADERS, END_HEADERS | END_STREAM, stream, 20));
        received(&mut meter, &frame(RST_STREAM, 0, stream, 4)).unwrap();
    }
    // Interim heads without end are more than that.
    let passed = passing(&mut meter, &frame(HEADERS, END_HEADERS, 1, 10), 30_000);
    assert!(passed < 20_000, "{passed}");
}

#[test]
fn streams_without_end_are_a_flood_and_take_no_memory() {
    let mut meter = server();
    let passed = (1..u32::MAX)
        .step_by(2)
        .take_while(|stream| received(&mut meter, &frame(HEADERS, END_HEADERS | END_STREAM, *stream, 1)).is_ok());
    assert_eq!(passed.count(), MOST_OPEN);
}

#[test]
fn a_head_is_unfinished_until_its_last_byte_and_a_body_never_is() {
    let mut meter = Meter::new(End::Server);
    assert!(meter.begun().is_some(), "the preface is due");
    received(&mut meter, &PREFACE[..23]).unwrap();
    assert!(meter.begun().is_some());
    received(&mut meter, &PREFACE[23..]).unwrap();
    assert!(meter.begun().is_none() && meter.quiet().is_some());
    let head = frame(HEADERS, 0, 1, 10);
    for piece in head.chunks(3) {
        received(&mut meter, piece).unwrap();
        assert!(meter.begun().is_some());
    }
    let since = meter.begun();
    received(&mut meter, &frame(CONTINUATION, 0, 1, 10)).unwrap();
    assert_eq!(meter.begun(), since, "the block goes on");
    received(&mut meter, &frame(CONTINUATION, END_HEADERS, 1, 10)).unwrap();
    assert!(meter.begun().is_none() && meter.quiet().is_none());
    let body = frame(DATA, 0, 1, 100);
    received(&mut meter, &body[..5]).unwrap();
    assert!(meter.begun().is_some(), "a frame's head is a head");
    received(&mut meter, &body[5..50]).unwrap();
    assert!(meter.begun().is_none());
    // Half of the next head in each read is not one head unfinished for ever.
    received(&mut meter, &[&body[50..], &head[..4]].concat()).unwrap();
    let first = meter.begun().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    received(
        &mut meter,
        &[
            &head[4..9],
            &[0; 10],
            &frame(CONTINUATION, END_HEADERS, 1, 0)[..],
            &head[..4],
        ]
        .concat(),
    )
    .unwrap();
    assert!(meter.begun().unwrap() > first);
}

#[test]
fn data_that_carries_nothing_and_ends_nothing_becomes_a_frame_of_no_kind_and_all_else_stays() {
    let mut whole = Vec::new();
    let mut nothing = Vec::new();
    for one in [
        frame(HEADERS, END_HEADERS, 1, 5),
        frame(DATA, 0, 1, 3),
        frame(DATA, 0, 1, 0),
        frame(DATA, END_STREAM, 1, 0),
        frame(SETTINGS, 0, 0, 0),
        frame(DATA, 0, 3, 0),
    ] {
        if one.len() == HEAD && one[KIND] == DATA && one[KIND + 1] == 0 {
            nothing.push(whole.len() + KIND);
        }
        whole.extend(one);
    }
    assert_eq!(nothing.len(), 2);
    for cut in 0..whole.len() {
        let mut meter = server();
        let mut passed = whole.clone();
        let (before, after) = passed.split_at_mut(cut);
        meter.received(before).unwrap();
        meter.received(after).unwrap();
        let mut wanted = whole.clone();
        // Where the cut is behind the kind, it has gone out before more was known.
        for at in nothing.iter().filter(|at| !(**at < cut && cut < **at + HEAD - KIND)) {
            wanted[*at] = NOTHING;
        }
        assert_eq!(passed, wanted, "cut at {cut}");
    }
}

#[test]
fn a_connection_is_quiet_once_every_stream_has_its_answer() {
    let mut meter = server();
    received(&mut meter, &frame(HEADERS, END_HEADERS | END_STREAM, 1, 5)).unwrap();
    received(&mut meter, &frame(HEADERS, END_HEADERS, 3, 5)).unwrap();
    received(&mut meter, &frame(HEADERS, END_HEADERS, 5, 5)).unwrap();
    received(&mut meter, &frame(HEADERS, END_HEADERS, 7, 5)).unwrap();
    meter.sent(&frame(HEADERS, END_HEADERS | END_STREAM, 1, 5));
    meter.sent(&frame(RST_STREAM, 0, 3, 4));
    received(&mut meter, &frame(RST_STREAM, 0, 5, 4)).unwrap();
    assert!(meter.quiet().is_none());
    meter.sent(&frame(HEADERS, END_HEADERS, 7, 5));
    // Trailers open nothing.
    received(&mut meter, &frame(HEADERS, END_HEADERS | END_STREAM, 7, 5)).unwrap();
    assert!(meter.quiet().is_none());
    meter.sent(&frame(DATA, END_STREAM, 7, 0));
    assert!(meter.quiet().is_some());
}

proptest! {
    #[test]
    fn frames_are_found_however_the_bytes_are_cut(cuts in proptest::collection::vec(1_usize..40, 1..60)) {
        let whole: Vec<u8> = (1..40_u32)
            .flat_map(|stream| frame(HEADERS, END_HEADERS, stream * 2 - 1, usize::try_from(stream).unwrap() % 17))
            .collect();
        let mut meter = server();
        let mut rest = &whole[..];
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            received(&mut meter, piece).unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(meter.open.len(), 39);
        prop_assert!(meter.begun().is_none());
    }
}
