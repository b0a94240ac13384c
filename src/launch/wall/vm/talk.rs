//! What Keyferry and the first process of a machine say to each other, over one vsock connection. The standard streams
//! have connections of their own, so that a stream nobody reads holds up no signal.
//!
//! A frame is its kind, the length of what follows (four bytes, most significant first), and that. The machine is not
//! trusted: of what it says only [`Told`] is read, none of it longer than [`LONGEST_TOLD`].

use serde::{Deserialize, Serialize};

/// The proxy's port on the host's side.
pub const PROXY: u32 = 3128;
/// That of base URLs.
pub const GATEWAY: u32 = 3129;
/// That of this conversation.
pub const CONTROL: u32 = 3130;
/// Those of standard input, standard output and standard error.
pub const STREAMS: [u32; 3] = [3131, 3132, 3133];

/// The command and its surroundings, said first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Program and arguments, as bytes.
    pub words: Vec<Vec<u8>>,
    /// Variables, `NAME=VALUE`.
    pub variables: Vec<Vec<u8>>,
    /// Where it begins.
    pub workdir: Vec<u8>,
    /// Directories and files shown from outside, the shallower first, and whether it may write there.
    pub shown: Vec<(Vec<u8>, bool)>,
    /// What lies over files of these names, of those shown, where there are such.
    pub over: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it has no files from outside, but a copy of them from the beginning.
    pub packed: bool,
    /// Its user and group.
    pub owner: (u32, u32),
    /// Processes and threads that it may have.
    pub tasks: u32,
    /// Whether there are base URLs.
    pub gateway: bool,
    /// Rows and columns, if it gets a terminal.
    pub terminal: Option<(u16, u16)>,
    /// Seconds since 1970: the machine may have no clock that is right.
    pub now: u64,
}

/// What is asked of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Start this.
    Start(Box<Order>),
    /// Send the command a signal.
    Signal(u8),
    /// The terminal has so many rows and columns now.
    Window(u16, u16),
}

/// What the machine tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The command ended, with this code.
    Ended(u8),
    /// It could not be started, and why, in printable text.
    Failed(String),
}

/// Bytes of an order.
const LONGEST_ASKED: usize = 8 * 1024 * 1024;
/// Bytes of what a machine tells.
pub const LONGEST_TOLD: usize = 1024;
const HEAD: usize = 5;

/// What is no frame of the kinds expected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not speak as it should")]
pub struct Garbled;

/// A message that is read from the front of what has arrived.
pub trait Message: Sized {
    /// The longest that one may be.
    const LONGEST: usize;

    /// Reads what follows a head.
    ///
    /// # Errors
    /// When it is none of the messages expected.
    fn parse(kind: u8, body: &[u8]) -> Result<Self, Garbled>;
}

/// The first whole message in `bytes` and its length; `None` while it is not whole.
///
/// # Errors
/// When what has arrived begins no message.
pub fn first<M: Message>(bytes: &[u8]) -> Result<Option<(M, usize)>, Garbled> {
    let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| Garbled)?;
    if length > M::LONGEST {
        return Err(Garbled);
    }
    match rest.get(..length) {
        Some(body) => Ok(Some((M::parse(kind, body)?, HEAD + length))),
        None => Ok(None),
    }
}

impl Message for Asked {
    const LONGEST: usize = LONGEST_ASKED;

    fn parse(kind: u8, body: &[u8]) -> Result<Self, Garbled> {
        match (kind, body) {
            (b'O', body) => serde_json::from_slice(body).map(Self::Start).map_err(|_| Garbled),
            (b'S', &[signal]) => Ok(Self::Signal(signal)),
            (b'W', &[a, b, c, d]) => Ok(Self::Window(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            _ => Err(Garbled),
        }
    }
}

impl Message for Told {
    const LONGEST: usize = LONGEST_TOLD;

    fn parse(kind: u8, body: &[u8]) -> Result<Self, Garbled> {
        match (kind, body) {
            (b'E', &[code]) => Ok(Self::Ended(code)),
            (b'F', body) => Ok(Self::Failed(printable(body))),
            _ => Err(Garbled),
        }
    }
}

impl Asked {
    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Start(order) => frame(b'O', &serde_json::to_vec(order).unwrap_or_default()),
            Self::Signal(signal) => frame(b'S', &[*signal]),
            Self::Window(rows, columns) => {
                let [a, b] = rows.to_be_bytes();
                let [c, d] = columns.to_be_bytes();
                frame(b'W', &[a, b, c, d])
            }
        }
    }
}

impl Told {
    /// As it is sent; a reason that is too long is cut.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ended(code) => frame(b'E', &[*code]),
            Self::Failed(why) => {
                let why = why.as_bytes();
                frame(b'F', why.get(..LONGEST_TOLD).unwrap_or(why))
            }
        }
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Text that does nothing to the terminal it is shown on.
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
    shown.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn order() -> Order {
        Order {
            words: vec![b"sh".to_vec(), vec![0xff, b'\n']],
            variables: vec![b"A=\xfe".to_vec()],
            workdir: b"/w".to_vec(),
            shown: vec![(b"/w".to_vec(), true)],
            over: vec![(b"/a/hosts".to_vec(), b"/etc/hosts".to_vec())],
            packed: false,
            owner: (1000, 1000),
            tasks: 7,
            gateway: true,
            terminal: Some((24, 80)),
            now: 1,
        }
    }

    #[test]
    fn every_message_comes_back_as_it_was_sent() {
        for asked in [
            Asked::Start(Box::new(order())),
            Asked::Signal(15),
            Asked::Window(25, 300),
        ] {
            let bytes = asked.bytes();
            assert_eq!(first(&bytes), Ok(Some((asked, bytes.len()))));
        }
        for told in [Told::Ended(137), Told::Failed("no /proc".into())] {
            let bytes = told.bytes();
            assert_eq!(first(&bytes), Ok(Some((told, bytes.len()))));
        }
        let long = Told::Failed("x".repeat(5000)).bytes();
        assert_eq!(
            first(&long),
            Ok(Some((Told::Failed("x".repeat(LONGEST_TOLD)), long.len())))
        );
    }

    #[test]
    fn what_a_machine_may_not_say_is_refused_at_its_first_bytes() {
        // Too long for anything it could be: nobody waits for it, nor keeps it.
        assert_eq!(first::<Told>(b"F\x00\x00\x04\x01"), Err(Garbled));
        assert_eq!(first::<Told>(b"F\xff\xff\xff\xff"), Err(Garbled));
        for bytes in [
            &b"E\0\0\0\0"[..],
            b"E\0\0\0\x02ab",
            b"O\0\0\0\0",
            b"S\0\0\0\x01\x0f",
            b"?\0\0\0\0",
        ] {
            assert_eq!(first::<Told>(bytes), Err(Garbled), "{bytes:?}");
        }
        let drawn = first::<Told>(b"F\0\0\0\x0d\x1b]0;x\x07no\nway\x9b").unwrap().unwrap().0;
        assert_eq!(drawn, Told::Failed("]0;x no\nway\u{fffd}".into()));
    }

    proptest! {
        #[test]
        fn whatever_a_machine_sends_is_a_message_or_refused_and_never_waited_for_past_the_longest(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000)
        ) {
            match first::<Told>(&bytes) {
                Ok(Some((told, length))) => {
                    prop_assert!(length <= bytes.len() && length <= HEAD + LONGEST_TOLD);
                    if let Told::Failed(why) = told {
                        prop_assert!(why.chars().all(|c| !c.is_control() || c == '\n'));
                    }
                }
                Ok(None) => prop_assert!(bytes.len() < HEAD + LONGEST_TOLD),
                Err(Garbled) => prop_assert!(bytes.len() >= HEAD),
            }
        }

        #[test]
        fn a_message_is_the_same_however_it_is_cut(code: u8, why in "[a-z ]{0,40}", cut in 0_usize..60) {
            let sent = [Told::Ended(code).bytes(), Told::Failed(why.trim().to_owned()).bytes()].concat();
            let early = sent.get(..cut.min(sent.len())).unwrap();
            let (mut at, mut seen) = (0, Vec::new());
            for arrived in [early, &sent] {
                while let Some((told, length)) = first::<Told>(arrived.get(at..).unwrap_or_default()).unwrap() {
                    seen.push(told);
                    at += length;
                }
            }
            prop_assert_eq!(seen, vec![Told::Ended(code), Told::Failed(why.trim().to_owned())]);
        }
    }
}
