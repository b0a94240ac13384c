//! Stand-ins that look like the credential they stand for, so that an agent's own checks of a
//! token's form pass, and that tell nothing of it beyond that form.

use super::secret::Secret;
use aws_lc_rs::hmac;

/// Makes the stand-in for `value`: as long, with the same well-known prefix, and every letter or
/// digit after it drawn anew from the letters and digits its part of the value uses.
///
/// The same `seed` and `name` always give the same stand-in. It is never the value itself, and it
/// has at least [`ENOUGH_BITS`] bits of its own, or else the prefix goes too; a value too short or
/// too plain for [`FEWEST_BITS`] gets `keyferry-placeholder-NAME-HEX` instead.
///
/// Letters and digits are drawn from the whole alphabet of their part rather than class by class:
/// where the value has a digit would otherwise be told to the agent.
pub fn placeholder_like(value: &Secret, name: &str, seed: &[u8]) -> String {
    let mut stream = Stream::new(name, seed);
    value.expose(|bytes| {
        let drawn = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.is_ascii() && text.len() >= SHORTEST)
            .and_then(|text| redrawn(text, &mut stream));
        drawn.unwrap_or_else(|| plain(name, bytes, &mut stream))
    })
}

/// Bits below which a known prefix is given up to make room for more.
pub const ENOUGH_BITS: f64 = 64.0;

/// Bits below which the shape is given up altogether.
pub const FEWEST_BITS: f64 = 40.0;

/// Characters below which a value has no shape worth keeping.
pub const SHORTEST: usize = 12;

/// Prefixes that say whose token it is. A longer one stands before those it starts with.
const PREFIXES: &[&str] = &[
    "github_pat_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "glpat-",
    "gldt-",
    "glptt-",
    "sk-ant-api03-",
    "sk-ant-oat01-",
    "sk-ant-ort01-",
    "sk-ant-admin01-",
    "sk-ant-",
    "sk-proj-",
    "sk-svcacct-",
    "sk-admin-",
    "sk-or-v1-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "pk_live_",
    "pk_test_",
    "sk-",
    "whsec_",
    "xoxb-",
    "xoxp-",
    "xoxe-",
    "xapp-",
    "hf_",
    "gsk_",
    "r8_",
    "xai-",
    "pplx-",
    "tvly-",
    "AIza",
    "ya29.",
    "AKIA",
    "ASIA",
    "npm_",
    "pypi-",
    "dckr_pat_",
    "dop_v1_",
    "lin_api_",
    "shpat_",
    "hvs.",
    "SG.",
    "ntn_",
    "eyJ",
];

/// The form drawn anew, when that leaves enough to tell it from every other.
fn redrawn(text: &str, stream: &mut Stream) -> Option<String> {
    let cut = prefix_length(text);
    let with_prefix = text.split_at_checked(cut)?;
    let (kept, tail) = if bits(with_prefix.1) >= ENOUGH_BITS {
        with_prefix
    } else {
        ("", text)
    };
    if bits(tail) < FEWEST_BITS {
        return None;
    }
    // Equal by chance once in 2^40 tries at most, and then drawn again.
    (0..8)
        .map(|_| format!("{kept}{}", draw(tail, stream)))
        .find(|drawn| drawn != text)
}

fn plain(name: &str, value: &[u8], stream: &mut Stream) -> String {
    loop {
        let tail: String = (0..24).map(|_| stream.pick(HEX)).collect();
        let made = format!("keyferry-placeholder-{name}-{tail}");
        if made.as_bytes() != value {
            return made;
        }
    }
}

/// How much of the front says whose token it is: a known prefix, or letters up to a separator.
///
/// Words are let through only before one long run with digits in it, as tokens have; a passphrase
/// of several words must not lend its first to the agent.
fn prefix_length(text: &str) -> usize {
    if let Some(known) = PREFIXES.iter().find(|p| text.starts_with(**p)) {
        return known.len();
    }
    let front = text.get(..14).unwrap_or(text);
    let Some(last) = front.rfind(is_separator) else {
        return 0;
    };
    let (prefix, tail) = text.split_at(last + 1);
    let letters = prefix.chars().all(|c| c.is_ascii_alphabetic() || is_separator(c));
    let token =
        tail.len() >= 16 && tail.chars().all(|c| c.is_ascii_alphanumeric()) && tail.chars().any(|c| c.is_ascii_digit());
    if letters && token { prefix.len() } else { 0 }
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '_')
}

/// Each letter or digit of `tail` drawn anew, everything else kept.
fn draw(tail: &str, stream: &mut Stream) -> String {
    let whole = hex_alphabet(tail);
    let mut out = String::with_capacity(tail.len());
    for part in tail.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let alphabet = whole.map_or_else(|| alphabet(part), <[u8]>::to_vec);
        out.extend(part.chars().map(|c| {
            if c.is_ascii_alphanumeric() {
                stream.pick(&alphabet)
            } else {
                c
            }
        }));
    }
    out
}

/// Bits that [`draw`] puts into `tail`.
fn bits(tail: &str) -> f64 {
    let whole = hex_alphabet(tail);
    let of = |part: &str| {
        let size = whole.map_or_else(|| alphabet(part).len(), <[u8]>::len);
        let drawn = part.bytes().filter(u8::is_ascii_alphanumeric).count();
        if drawn == 0 {
            return 0.0;
        }
        f64::from(u32::try_from(size).unwrap_or(1)).log2() * f64::from(u32::try_from(drawn).unwrap_or(u32::MAX))
    };
    tail.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(of).sum()
}

/// The hexadecimal alphabet `tail` is written in, if it is.
fn hex_alphabet(tail: &str) -> Option<&'static [u8]> {
    let written_in = |alphabet: &[u8]| {
        let mut used = tail.bytes().filter(u8::is_ascii_alphanumeric);
        used.all(|b| alphabet.contains(&b))
    };
    let both = tail.bytes().any(|b| b.is_ascii_digit()) && tail.bytes().any(|b| b.is_ascii_alphabetic());
    [HEX, UPPER_HEX]
        .into_iter()
        .find(|alphabet| both && written_in(alphabet))
}

/// The union of the classes `part` uses.
fn alphabet(part: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(62);
    if part.bytes().any(|b| b.is_ascii_digit()) {
        out.extend(b'0'..=b'9');
    }
    if part.bytes().any(|b| b.is_ascii_lowercase()) {
        out.extend(b'a'..=b'z');
    }
    if part.bytes().any(|b| b.is_ascii_uppercase()) {
        out.extend(b'A'..=b'Z');
    }
    out
}

const HEX: &[u8] = b"0123456789abcdef";
const UPPER_HEX: &[u8] = b"0123456789ABCDEF";

/// Bytes that only the seed's holder can foretell: HMAC-SHA256 in counter mode.
struct Stream {
    key: hmac::Key,
    name: Vec<u8>,
    block: u32,
    ready: Vec<u8>,
}

impl Stream {
    fn new(name: &str, seed: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, seed),
            name: name.as_bytes().to_vec(),
            block: 0,
            ready: Vec::new(),
        }
    }

    fn byte(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.ready.pop() {
                return byte;
            }
            let mut block = hmac::Context::with_key(&self.key);
            block.update(&self.block.to_be_bytes());
            block.update(&self.name);
            self.block = self.block.wrapping_add(1);
            self.ready = block.sign().as_ref().to_vec();
        }
    }

    /// One of `alphabet`, each as likely; bytes above its last full multiple are thrown away.
    fn pick(&mut self, alphabet: &[u8]) -> char {
        let size = alphabet.len().clamp(1, 256);
        let fair = 256 - 256 % size;
        loop {
            let byte = usize::from(self.byte());
            if byte < fair {
                return char::from(alphabet.get(byte % size).copied().unwrap_or(b'x'));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn like(value: &str) -> String {
        placeholder_like(&Secret::new(value.as_bytes().to_vec()).unwrap(), "k", b"seed")
    }

    #[test]
    fn a_stand_in_keeps_prefix_length_and_alphabet() {
        for (value, prefix) in [
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "ghp_"),
            (
                "github_pat_11ABCDEFG0aBcDeFgHiJkL_0123456789abcdefABCDEF",
                "github_pat_",
            ),
            ("sk-ant-api03-AbCdEf0123456789AbCdEf0123456789-AA", "sk-ant-api03-"),
            ("sk-proj-AbCdEf0123456789AbCdEf", "sk-proj-"),
            ("xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx", "xoxb-"),
            ("AKIAIOSFODNN7EXAMPLE", "AKIA"),
            ("vendor_live_0123456789abcdef0", "vendor_live_"),
        ] {
            let made = like(value);
            assert!(made.starts_with(prefix), "{made}");
            assert_eq!(made.len(), value.len());
            assert_ne!(made, value);
            let differing = made.bytes().zip(value.bytes()).filter(|(a, b)| a != b).count();
            assert!(differing >= 10, "{made} is close to {value}");
        }
    }

    #[test]
    fn parts_of_digits_stay_digits_and_hex_stays_hex() {
        let slack = like("xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx");
        let parts: Vec<&str> = slack.split('-').collect();
        assert!(parts[1].bytes().chain(parts[2].bytes()).all(|b| b.is_ascii_digit()));
        let uuid = like("3f2504e0-4f89-41d3-9a0c-0305e82c3301");
        assert!(uuid.bytes().all(|b| HEX.contains(&b) || b == b'-'), "{uuid}");
        assert_eq!(
            uuid.match_indices('-').map(|(at, _)| at).collect::<Vec<_>>(),
            [8, 13, 18, 23]
        );
    }

    #[test]
    fn words_of_a_passphrase_are_never_kept() {
        for value in [
            "correct-horse-battery-staple",
            "hunter-two-three-4567890",
            "passwd_abcdefghijklmnop",
        ] {
            let made = like(value);
            assert_ne!(&made[..4], &value[..4], "{made}");
        }
    }

    #[test]
    fn what_has_no_shape_gets_a_plain_stand_in() {
        for value in ["hunter2", "------------------", "sk-abc", "пароль-пароль-пароль"] {
            let made = like(value);
            assert!(made.starts_with("keyferry-placeholder-k-"), "{made}");
        }
        let bytes = Secret::new(vec![0xff; 40]).unwrap();
        assert!(placeholder_like(&bytes, "k", b"s").starts_with("keyferry-placeholder-k-"));
    }

    #[test]
    fn seed_and_name_decide() {
        let value = Secret::new(b"ghp_0123456789abcdefghijABCDEFGHIJ012345".to_vec()).unwrap();
        let made = |name, seed: &[u8]| placeholder_like(&value, name, seed);
        assert_eq!(made("a", b"1"), made("a", b"1"));
        assert_ne!(made("a", b"1"), made("b", b"1"));
        assert_ne!(made("a", b"1"), made("a", b"2"));
    }

    proptest! {
        #[test]
        fn no_value_stands_in_for_itself(value in "[ -~]{1,80}", seed in any::<[u8; 16]>()) {
            let secret = Secret::new(value.clone().into_bytes()).unwrap();
            let made = placeholder_like(&secret, "name", &seed);
            prop_assert_ne!(&made, &value);
            prop_assert!(made.len() == value.len() || made.starts_with("keyferry-placeholder-name-"));
        }
    }
}
