//! The spellings in which a value may come back, each with a mask of the same length.

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

/// One spelling of a value, and what is put in its place.
pub(super) struct Spelling {
    /// The bytes to look for; they are the credential, so they are wiped when dropped.
    pub(super) find: Zeroizing<Vec<u8>>,
    /// As many bytes, harmless.
    pub(super) put: Vec<u8>,
}

/// All spellings of `value`, each once. `stand_in` is what the agent holds in the value's place.
pub(super) fn spellings(value: &[u8], stand_in: Option<&str>) -> Vec<Spelling> {
    let mask = fit(stand_in.unwrap_or_default().as_bytes(), value.len());
    let mut all: Vec<Spelling> = Vec::new();
    each_spelling(value, &mask, &mut |find, put| {
        if all.iter().any(|known| *known.find == find) {
            return;
        }
        // A stand-in with other special characters than the value's grows otherwise when it is spelt.
        let put = if put.len() == find.len() {
            put
        } else {
            fit(&mask, find.len())
        };
        all.push(Spelling {
            find: Zeroizing::new(find),
            put,
        });
    });
    all
}

/// Calls `add` with the value and the mask in each spelling.
fn each_spelling(value: &[u8], mask: &[u8], add: &mut impl FnMut(Vec<u8>, Vec<u8>)) {
    let mut both = |spell: &dyn Fn(&[u8]) -> Vec<u8>| add(spell(value), spell(mask));
    both(&|v| v.to_vec());
    for digits in [UPPER, LOWER] {
        for keep in PERCENT_KEEPS {
            both(&|v| percent(v, keep, digits));
            // A URL inside another one's query, as `?next=` has it.
            both(&|v| percent(&percent(v, keep, digits), keep, digits));
        }
        both(&|v| form(v, digits));
        both(&|v| form(&form(v, digits), digits));
        both(&|v| v.iter().flat_map(|b| hex(*b, digits)).collect());
    }
    for style in JSON_STYLES {
        both(&|v| json(v, style));
        // JSON in a string of JSON, as an error that quotes another has it.
        for outer in [JSON_STYLES[0], style] {
            both(&|v| json(&json(v, style), outer));
        }
    }
    both(&|v| utf16(v, u16::to_le_bytes));
    both(&|v| utf16(v, u16::to_be_bytes));
    for html in HTML_STYLES {
        both(&|v| html_text(v, html));
    }
    for style in NUMBER_STYLES {
        both(&|v| html_numbers(v, style));
    }
    for shift in 0..3 {
        both(&|v| base64_inner(v, shift, &URL_SAFE));
        both(&|v| base64_inner(v, shift, &STANDARD));
        // `+` and `/` of base64 are escaped again where a header's value is told in a URL or in JSON.
        for digits in [UPPER, LOWER] {
            both(&|v| {
                percent(
                    &base64_inner(v, shift, &STANDARD),
                    &|b| b.is_ascii_alphanumeric(),
                    digits,
                )
            });
        }
        for style in JSON_STYLES {
            both(&|v| json(&base64_inner(v, shift, &STANDARD), style));
        }
    }
}

/// `mask`, cut or filled up to `len`; bytes that mean something in JSON, HTML, a URL or a header become `*`.
fn fit(mask: &[u8], len: usize) -> Vec<u8> {
    let safe = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            b
        } else {
            b'*'
        }
    };
    mask.iter()
        .copied()
        .map(safe)
        .chain(std::iter::repeat(b'*'))
        .take(len)
        .collect()
}

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or_default();
    [digit(byte >> 4), digit(byte & 15)]
}

type Keep = dyn Fn(u8) -> bool + Sync;

/// Which bytes an encoder leaves as they are: the sets that are in use, from none to nearly all.
const PERCENT_KEEPS: [&Keep; 8] = [
    &|_| false,
    &|b| b.is_ascii_alphanumeric(),
    &unreserved,
    &|b| unreserved(b) || b == b'/',
    &component,
    &|b| component(b) || b";,/?:@&=+$#".contains(&b),
    &|b| unreserved(b) || b"$&+=:@".contains(&b),
    &|b| unreserved(b) || b"/:@!$&'()*+,;=".contains(&b),
];

/// RFC 3986 §2.3.
fn unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.~".contains(&b)
}

/// What ECMAScript's `encodeURIComponent` keeps.
fn component(b: u8) -> bool {
    unreserved(b) || b"!'()*".contains(&b)
}

fn percent(value: &[u8], keep: &Keep, digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 3);
    for b in value {
        if keep(*b) {
            out.push(*b);
        } else {
            out.push(b'%');
            out.extend(hex(*b, digits));
        }
    }
    out
}

/// `application/x-www-form-urlencoded`, where a space is a plus sign.
fn form(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let spelt = percent(value, &|b| b.is_ascii_alphanumeric() || b"*-._ ".contains(&b), digits);
    spelt.into_iter().map(|b| if b == b' ' { b'+' } else { b }).collect()
}

/// How a JSON writer spells the characters it need not escape.
struct JsonStyle {
    /// `/` as `\/`.
    slash: bool,
    /// Which characters become `\u00xx`.
    unicode: fn(char) -> bool,
    digits: &'static [u8; 16],
}

/// The strict minimum; `\/`; HTML-safe writers; ASCII-only writers; all that is no letter; all.
const JSON_STYLES: [&JsonStyle; 10] = [
    &JsonStyle {
        slash: false,
        unicode: |_| false,
        digits: LOWER,
    },
    &JsonStyle {
        slash: true,
        unicode: |_| false,
        digits: LOWER,
    },
    &JsonStyle {
        slash: false,
        unicode: |c| "<>&\u{2028}\u{2029}".contains(c),
        digits: LOWER,
    },
    &JsonStyle {
        slash: false,
        unicode: |c| !c.is_ascii() || "<>&'\"+`".contains(c),
        digits: UPPER,
    },
    &JsonStyle {
        slash: false,
        unicode: |c| !c.is_ascii(),
        digits: LOWER,
    },
    &JsonStyle {
        slash: true,
        unicode: |c| !c.is_ascii(),
        digits: LOWER,
    },
    &JsonStyle {
        slash: false,
        unicode: |c| !c.is_ascii_alphanumeric(),
        digits: LOWER,
    },
    &JsonStyle {
        slash: false,
        unicode: |c| !c.is_ascii_alphanumeric(),
        digits: UPPER,
    },
    &JsonStyle {
        slash: false,
        unicode: |_| true,
        digits: LOWER,
    },
    &JsonStyle {
        slash: false,
        unicode: |_| true,
        digits: UPPER,
    },
];

/// The inside of a JSON string (RFC 8259 §7).
fn json(value: &[u8], style: &JsonStyle) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(value) else {
        return value.to_vec();
    };
    let mut out = Vec::with_capacity(value.len() + 16);
    for c in text.chars() {
        match c {
            c if (style.unicode)(c) => unicode_escape(c, style.digits, &mut out),
            '"' => out.extend(b"\\\""),
            '\\' => out.extend(b"\\\\"),
            '\n' => out.extend(b"\\n"),
            '\r' => out.extend(b"\\r"),
            '\t' => out.extend(b"\\t"),
            '/' if style.slash => out.extend(b"\\/"),
            c => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

fn unicode_escape(c: char, digits: &[u8; 16], out: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend(b"\\u");
        out.extend(unit.to_be_bytes().into_iter().flat_map(|b| hex(b, digits)));
    }
}

/// UTF-16 in either byte order.
fn utf16(value: &[u8], order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    match std::str::from_utf8(value) {
        Ok(text) => text.encode_utf16().flat_map(order).collect(),
        Err(_) => value.to_vec(),
    }
}

type Entities = [(u8, &'static [u8])];

/// The entities that the usual template engines write.
const HTML_STYLES: [&Entities; 3] = [
    &[
        (b'&', b"&amp;"),
        (b'<', b"&lt;"),
        (b'>', b"&gt;"),
        (b'"', b"&quot;"),
        (b'\'', b"&#39;"),
    ],
    &[
        (b'&', b"&amp;"),
        (b'<', b"&lt;"),
        (b'>', b"&gt;"),
        (b'"', b"&quot;"),
        (b'\'', b"&#x27;"),
    ],
    &[
        (b'&', b"&amp;"),
        (b'<', b"&lt;"),
        (b'>', b"&gt;"),
        (b'"', b"&#34;"),
        (b'\'', b"&#39;"),
        (b'/', b"&#x2F;"),
    ],
];

/// Writes a character's number.
type Number = fn(u32) -> String;

/// Writers that turn every character into its number.
const NUMBER_STYLES: [Number; 3] = [
    |c| format!("&#{c};"),
    |c| format!("&#x{c:x};"),
    |c| format!("&#x{c:X};"),
];

fn html_numbers(value: &[u8], style: Number) -> Vec<u8> {
    match std::str::from_utf8(value) {
        Ok(text) => text.chars().flat_map(|c| style(c.into()).into_bytes()).collect(),
        Err(_) => value.iter().flat_map(|b| style((*b).into()).into_bytes()).collect(),
    }
}

fn html_text(value: &[u8], entities: &Entities) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for b in value {
        match entities.iter().find(|(special, _)| special == b) {
            Some((_, entity)) => out.extend(*entity),
            None => out.push(*b),
        }
    }
    out
}

/// The base64 characters that `value` alone decides when `shift` bytes (mod 3) stand before it.
///
/// The characters at the edges hold bits of the neighbours as well, so they differ from place to place and
/// are left out: up to four bits of the first and of the last byte.
fn base64_inner(value: &[u8], shift: usize, alphabet: &impl base64::Engine) -> Vec<u8> {
    let mut shifted = Zeroizing::new(vec![0; shift]);
    shifted.extend_from_slice(value);
    let text = Zeroizing::new(alphabet.encode(&*shifted).into_bytes());
    let first = (shift * 8).div_ceil(6);
    let end = shifted.len() * 8 / 6;
    text.get(first..end).unwrap_or_default().to_vec()
}
