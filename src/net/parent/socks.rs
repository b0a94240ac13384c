//! SOCKS version 5, as a client (RFC 1928, RFC 1929). Every answer has a known length, so nothing
//! behind it is read.

use super::{Fault, Login};
use crate::base::host::{Host, Target};
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

const VERSION: u8 = 5;
/// RFC 1928 §3.
const NO_LOGIN: u8 = 0;
const USER_PASSWORD: u8 = 2;
const NONE_FITS: u8 = 0xff;
/// RFC 1928 §4 and §5.
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Asks for `target`; a name is left to the parent to resolve.
pub(super) async fn ask<S>(stream: &mut S, target: &Target, login: Option<&Login>) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeting: &[u8] = match login {
        Some(_) => &[VERSION, 2, NO_LOGIN, USER_PASSWORD],
        None => &[VERSION, 1, NO_LOGIN],
    };
    stream.write_all(greeting).await?;
    stream.flush().await?;
    let [version, method] = read(stream).await?;
    match (version, method, login) {
        (VERSION, NO_LOGIN, _) => {}
        (VERSION, USER_PASSWORD, Some(login)) => show(stream, login).await?,
        (VERSION, NONE_FITS, _) => return Err(Fault::Unknown),
        (VERSION, ..) => return Err(Fault::Garbage("it chose a method that was not offered")),
        _ => return Err(Fault::Garbage("its reply is no SOCKS 5")),
    }
    stream.write_all(&request(target)).await?;
    stream.flush().await?;
    let [version, reply, _, kind] = read(stream).await?;
    if version != VERSION {
        return Err(Fault::Garbage("its reply is no SOCKS 5"));
    }
    judge(reply)?;
    // The address it bound says nothing to us.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(read::<1, _>(stream).await?[0]),
        _ => return Err(Fault::Garbage("its reply holds an address of no kind")),
    };
    let mut bound = [0; 255 + 2];
    stream
        .read_exact(bound.get_mut(..length + 2).unwrap_or_default())
        .await?;
    Ok(())
}

/// RFC 1929 §2.
async fn show<S>(stream: &mut S, login: &Login) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (user, password) = (login.user(), login.password());
    let length = |text: &[u8]| [u8::try_from(text.len()).unwrap_or(u8::MAX)];
    let message = [&[1], &length(user)[..], user, &length(password)[..], password].concat();
    stream.write_all(&Zeroizing::new(message)).await?;
    stream.flush().await?;
    match read(stream).await? {
        [_, 0] => Ok(()),
        _ => Err(Fault::Unknown),
    }
}

fn request(target: &Target) -> Vec<u8> {
    let mut request = vec![VERSION, CONNECT, 0];
    match &target.host {
        Host::Ip(IpAddr::V4(ip)) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        // At most 253 bytes (`Host::Name`).
        Host::Name(name) => {
            request.extend([NAME, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            request.extend(name.as_bytes());
        }
    }
    request.extend(target.port.to_be_bytes());
    request
}

/// RFC 1928 §6.
fn judge(reply: u8) -> Result<(), Fault> {
    match reply {
        0 => Ok(()),
        1 => Err(Fault::NoWay("general failure".into())),
        2 => Err(Fault::Refused("its rules do not allow the connection".into())),
        3 => Err(Fault::NoWay("the network cannot be reached".into())),
        4 => Err(Fault::NoWay("the host cannot be reached".into())),
        5 => Err(Fault::NoWay("the connection was refused".into())),
        6 => Err(Fault::NoWay("the time to live ran out".into())),
        7 | 8 => Err(Fault::Refused("it cannot do what was asked".into())),
        _ => Err(Fault::Garbage("its reply has a code of no meaning")),
    }
}

async fn read<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn answered(login: Option<&[u8]>, host: &str, replies: &[u8]) -> (Result<(), Fault>, Vec<u8>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(replies).await.unwrap();
        theirs.shutdown().await.unwrap();
        let login = login.map(|login| Login::new(login).unwrap());
        let target = Target::parse(host, None).unwrap();
        let outcome = ask(&mut ours, &target, login.as_ref()).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        (outcome, said, rest)
    }

    #[tokio::test]
    async fn it_says_what_the_standards_say_and_reads_no_further_than_the_answer() {
        let replies = b"\x05\x02\x01\x00\x05\x00\x00\x03\x02xx\x00\x50early";
        let (outcome, said, rest) = answered(Some(b"ann:pw"), "a.test:443", replies).await;
        outcome.unwrap();
        assert_eq!(rest, b"early");
        assert_eq!(
            said,
            b"\x05\x02\x00\x02\x01\x03ann\x02pw\x05\x01\x00\x03\x06a.test\x01\xbb"
        );
        let replies = b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50";
        let (outcome, said, _) = answered(None, "[2001:db8::1]:80", replies).await;
        outcome.unwrap();
        assert_eq!(said.get(..8).unwrap(), b"\x05\x01\x00\x05\x01\x00\x04\x20");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_way_is_told_by_its_kind() {
        for (login, replies, wanted) in [
            (None, &b"\x05\xff"[..], "does not accept"),
            (Some(&b"a:b"[..]), b"\x05\x02\x01\x01", "does not accept"),
            (None, b"\x05\x02", "not offered"),
            (None, b"HTTP/1.1 400 Bad Request\r\n\r\n", "no SOCKS 5"),
            (None, b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0", "refuses"),
            (
                None,
                b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0",
                "no connection to the target",
            ),
            (None, b"\x05\x00\x05\x63\x00\x01\0\0\0\0\0\0", "no meaning"),
            (None, b"\x05\x00\x05\x00\x00\x09", "no kind"),
            (None, b"\x05\x00\x05\x00", "broke off"),
        ] {
            let (outcome, ..) = answered(login, "a.test:443", replies).await;
            let fault = outcome.unwrap_err().to_string();
            assert!(fault.contains(wanted), "{fault}");
        }
    }
}
