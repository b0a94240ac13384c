//! Frames are the same however their bytes arrive, and write themselves as they were read.
#![no_main]

use bytes::{Bytes, BytesMut};
use keyferry::base::frame::{BadFrame, Frames, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], Vec<u16>)| {
    let (bytes, cuts) = input;
    let (whole, ended) = read(vec![Bytes::copy_from_slice(bytes)]);
    assert!(bytes.starts_with(&whole), "what was read is not what was sent");
    assert_eq!(
        (whole, ended),
        read(keyferry_fuzz::cut(bytes, &cuts)),
        "the pieces matter"
    );
});

/// The frames of a stream written again, and how it ended.
fn read(pieces: Vec<Bytes>) -> (BytesMut, Result<(), BadFrame>) {
    let (mut frames, mut out) = (Frames::default(), BytesMut::new());
    for mut piece in pieces {
        loop {
            match frames.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(Step::Head(head))) => head.write(&mut out),
                Ok(Some(Step::Payload(_, _, bytes))) => out.extend_from_slice(&bytes),
                Ok(Some(Step::End(_))) => {}
                Err(error) => return (out, Err(error)),
            }
        }
        assert!(piece.is_empty());
    }
    (out, Ok(()))
}
