//! The first process of a machine: it asks Keyferry outside for the command, is the bridge to the proxy, passes the
//! command's streams, and takes in the processes that nobody waits for.

use super::bridge::{Bridge, Far};
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use crate::config::model::Bind;
use crate::launch::Exit;
use crate::launch::wall::vm::talk::{self, Asked, Order, Told};
use crate::launch::wall::vm::{enter, inside};
use crate::launch::wall::{ADDRESS, GATEWAY};
use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as Blocking;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::signal::unix::{SignalKind, signal};

/// The host, as machines call it.
const HOST: u32 = 2;
/// Connections through the bridge at one time.
const CONNECTIONS: usize = 1024;
/// For the last of the output, once the command has ended.
const OUTPUT: Duration = Duration::from_secs(5);

/// Does all of it; returns when Keyferry outside is gone, or has the command's end.
///
/// # Errors
/// When the host is not there. What fails later is told to it.
pub async fn run() -> Result<()> {
    let mut control = Control {
        wire: connect(talk::CONTROL).await?,
        arrived: BytesMut::new(),
    };
    let [input, output, errors] = talk::STREAMS;
    let streams = [connect(input).await?, connect(output).await?, connect(errors).await?];
    let Asked::Start(order) = control.next().await? else {
        bail!("a signal before there is a command");
    };
    let told = match command(&order, streams, &mut control).await {
        Ok(code) => Told::Ended(code.0),
        Err(error) => Told::Failed(format!("{error:#}")),
    };
    control.wire.write_all(&told.bytes()).await?;
    // The machine is ended from outside, once all is read.
    while control.next().await.is_ok() {}
    Ok(())
}

async fn connect(port: u32) -> Result<Wire> {
    let far = Far::Vsock { cid: HOST, port };
    far.reach().await.with_context(|| format!("no connection to {far}"))
}

/// Builds what the command sees, starts it, and serves it to its end.
async fn command(order: &Order, streams: [Wire; 3], control: &mut Control) -> Result<Exit> {
    inside::furnish(order)?;
    let tasks = Tasks::new();
    let gateway = order.gateway.then_some((GATEWAY, talk::GATEWAY));
    for (address, port) in [(ADDRESS, talk::PROXY)].into_iter().chain(gateway) {
        let far = Far::Vsock { cid: HOST, port };
        Bridge::bind(&Bind::Tcp(address.parse()?), far)?.open(CONNECTIONS, &tasks);
    }
    let pumps = Tasks::new();
    let mut ended = signal(SignalKind::child())?;
    let (pid, terminal) = start(order, streams, &pumps)?;
    let exit = loop {
        tokio::select! {
            _ = ended.recv() => if let Some(exit) = reap(pid) {
                break exit;
            },
            asked = control.next() => match asked? {
                Asked::Signal(number) => pass_on(pid, number),
                Asked::Window(rows, columns) => resize(terminal.as_ref(), rows, columns),
                Asked::Start(_) => bail!("a second command"),
            },
        }
    };
    // Whatever it left behind ends now, and so do the streams.
    end_all();
    pumps.finish(OUTPUT).await;
    Ok(exit)
}

/// Starts the command and what passes its streams.
fn start(order: &Order, [input, output, errors]: [Wire; 3], pumps: &Tasks) -> Result<(Pid, Option<File>)> {
    let Some((rows, columns)) = order.terminal else {
        let mut child = enter::start(order, None).context("cannot start the command")?;
        let pid = Pid::from_child(&child);
        let owned = |stream: Option<OwnedFd>| stream.context("a stream is missing");
        pump(
            pumps,
            input,
            Sender::from_owned_fd(owned(child.stdin.take().map(Into::into))?)?,
        );
        pump(
            pumps,
            Receiver::from_owned_fd(owned(child.stdout.take().map(Into::into))?)?,
            output,
        );
        pump(
            pumps,
            Receiver::from_owned_fd(owned(child.stderr.take().map(Into::into))?)?,
            errors,
        );
        return Ok((pid, None));
    };
    let (master, path) = terminal(order).context("cannot make a terminal")?;
    resize(Some(&master), rows, columns);
    let child = enter::start(order, Some(&path)).context("cannot start the command")?;
    let (near, far) = Blocking::pair()?;
    near.set_nonblocking(true)?;
    let (keys, screen) = UnixStream::from_std(near)?.into_split();
    pump(pumps, input, screen);
    pump(pumps, keys, output);
    drop(errors);
    let (mut keyboard, mut typed) = (master.try_clone()?, far.try_clone()?);
    let (mut shown, mut drawn) = (master.try_clone()?, far);
    std::thread::Builder::new().spawn(move || io::copy(&mut typed, &mut keyboard))?;
    // Ends with an error when nobody has the terminal open any longer, which is its end.
    let draw = move || {
        let _ = io::copy(&mut shown, &mut drawn);
        let _ = drawn.shutdown(std::net::Shutdown::Write);
    };
    std::thread::Builder::new().spawn(draw)?;
    Ok((Pid::from_child(&child), Some(master)))
}

/// A new terminal: our side of it, and the path of the command's.
fn terminal(order: &Order) -> io::Result<(File, PathBuf)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let path = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
    inside::own_terminal(&path, order.owner)?;
    Ok((File::from(master), path))
}

fn resize(terminal: Option<&File>, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    if let Some(terminal) = terminal {
        let _ = tcsetwinsize(terminal, size);
    }
}

/// Passes one stream to its end, and the end too.
fn pump(
    pumps: &Tasks,
    mut from: impl AsyncRead + Send + Unpin + 'static,
    mut to: impl AsyncWrite + Send + Unpin + 'static,
) {
    pumps.spawn(async move {
        let _ = copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    });
}

/// Takes in all that has ended, and tells of the command if it is among that.
fn reap(command: Pid) -> Option<Exit> {
    let mut exit = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let code = status
            .exit_status()
            .or_else(|| Some(128 + status.terminating_signal()?));
        if pid == command {
            exit = code.map(|code| Exit(u8::try_from(code).unwrap_or(u8::MAX)));
        }
    }
    exit
}

/// What a terminal would send goes to all of the command's group, as from a terminal.
fn pass_on(pid: Pid, number: u8) {
    let Some(signal) = Signal::from_named_raw(number.into()) else {
        return;
    };
    let _ = match signal {
        Signal::INT | Signal::QUIT => kill_process_group(pid, signal),
        _ => kill_process(pid, signal),
    };
}

/// Ends every other process; several times over, as one may be starting another.
fn end_all() {
    for _ in 0..20 {
        let mut found = false;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // What has no command line is the kernel's, or has ended.
            let runs = || std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
            if let Some(pid) = number.filter(|number| *number != 1).and_then(Pid::from_raw)
                && runs()
            {
                found = true;
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if !found {
            return;
        }
    }
}

struct Control {
    wire: Wire,
    arrived: BytesMut,
}

impl Control {
    /// The next message. What has arrived of it is kept when this is dropped.
    async fn next(&mut self) -> Result<Asked> {
        loop {
            match talk::first(&self.arrived)? {
                Some((asked, length)) => {
                    self.arrived.advance(length);
                    return Ok(asked);
                }
                None if self.wire.read_buf(&mut self.arrived).await? == 0 => bail!("Keyferry has gone"),
                None => {}
            }
        }
    }
}
