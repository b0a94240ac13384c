//! A command in a virtual machine, from outside: the machine is started, told its command, and its streams are joined to
//! ours. Nothing that it says is trusted: see [`talk`].

use crate::launch::child::Arrivals;
use crate::launch::wall::vm::start::Running;
use crate::launch::wall::vm::talk::{self, Asked, Told};
use crate::launch::wall::vm::{Accelerator, Machine, SOCKET_PREFIX};
use crate::launch::{Error, Exit};
use bytes::{Buf, BytesMut};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// For a machine to begin: with the processor's help far less than a second is usual.
const BOOT: [(Accelerator, Duration); 2] = [
    (Accelerator::Kvm, Duration::from_secs(10)),
    (Accelerator::Emulated, Duration::from_secs(180)),
];
/// For a step of the conversation that takes no time.
const STEP: Duration = Duration::from_secs(30);
/// For the last of the output, once the command has ended.
const OUTPUT: Duration = Duration::from_secs(10);

/// The sockets at which a machine's first process is awaited. What a machine may reach of the host are these, each once,
/// and the proxy.
#[derive(Debug)]
pub(super) struct Awaiting {
    control: UnixListener,
    streams: [UnixListener; 3],
}

fn socket(dir: &Path, port: u32) -> PathBuf {
    dir.join(format!("{SOCKET_PREFIX}{port}"))
}

impl Awaiting {
    fn bind(dir: &Path) -> io::Result<Self> {
        let bind = |port| {
            let path = socket(dir, port);
            // Of a machine that did not begin.
            let _ = std::fs::remove_file(&path);
            UnixListener::bind(path)
        };
        let [input, output, errors] = talk::STREAMS;
        Ok(Self {
            control: bind(talk::CONTROL)?,
            streams: [bind(input)?, bind(output)?, bind(errors)?],
        })
    }

    /// The streams; afterwards nobody else is awaited.
    async fn streams(self, dir: &Path) -> io::Result<[Blocking; 3]> {
        let [input, output, errors] = self.streams;
        let streams = [accept(&input).await?, accept(&output).await?, accept(&errors).await?];
        for port in talk::STREAMS.into_iter().chain([talk::CONTROL]) {
            std::fs::remove_file(socket(dir, port))?;
        }
        Ok(streams)
    }
}

async fn accept(listener: &UnixListener) -> io::Result<Blocking> {
    let (stream, _) = timeout(STEP, listener.accept()).await??;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Runs the machine's command to its end. In the file `note` it is kept in mind that the processor is of no help here.
///
/// # Errors
/// When the machine does not begin, the command cannot be started, or the machine ends before it.
pub(super) async fn run(mut machine: Machine, note: &Path) -> Result<Exit, Error> {
    // Watched from the beginning, so that a signal finds us.
    let mut arrivals = Arrivals::watch();
    let (mut running, control, awaiting) = tokio::select! {
        booted = boot(&machine, note) => booted?,
        // Dropping what was started ends it with us.
        signal = arrivals.next() => return Ok(ended_by(signal)),
    };
    let lost = |error: io::Error| Error::Machine(format!("it does not speak: {error}"));
    let streams = awaiting.streams(&machine.sockets).await.map_err(lost)?;
    let terminal = (io::stdin().is_terminal() && io::stdout().is_terminal())
        .then(Raw::enter)
        .flatten();
    machine.order.terminal = terminal.as_ref().map(|_| window());
    let outputs = join(streams).map_err(lost)?;
    let mut talk = Talk {
        control,
        arrived: BytesMut::new(),
    };
    let order = Asked::Start(Box::new(machine.order.clone()));
    let exit = tokio::select! {
        exit = talk.follow(order, &mut arrivals, terminal.is_some()) => exit,
        () = running.ended() => Err(Error::Machine(format!("it ended before its command\n{}", running.console()))),
    };
    if exit.is_ok() {
        for output in outputs {
            let _ = timeout(OUTPUT, output).await;
        }
    }
    running.kill().await;
    exit
}

fn ended_by(signal: rustix::process::Signal) -> Exit {
    Exit(u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX))
}

/// Starts the machine with whatever begins.
async fn boot(machine: &Machine, note: &Path) -> Result<(Running, UnixStream, Awaiting), Error> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let hopeless = std::fs::read_to_string(note).is_ok_and(|noted| noted == release);
    let (mut told, mut failed) = (String::new(), false);
    for (accelerator, patience) in BOOT {
        let helped = accelerator == Accelerator::Kvm;
        let Some(words) = machine.words(accelerator) else {
            continue;
        };
        if helped && (hopeless || !Accelerator::is_offered()) {
            continue;
        }
        if !helped {
            tracing::warn!("no KVM that works is here: the machine is emulated, and slow");
        }
        let awaiting = Awaiting::bind(&machine.sockets)
            .map_err(|error| Error::Machine(format!("cannot listen in {}: {error}", machine.sockets.display())))?;
        let mut running = Running::start(machine, &words).await?;
        let begun = tokio::select! {
            accepted = timeout(patience, awaiting.control.accept()) => accepted.ok().and_then(Result::ok),
            () = running.ended() => None,
        };
        if let Some((control, _)) = begun {
            if failed {
                // The same machine begins without the processor's help, so that is what failed: the next run does not wait
                // for it. A new kernel on the host is tried again.
                let _ = std::fs::write(note, &release);
            }
            return Ok((running, control, awaiting));
        }
        failed = true;
        told = running.console();
        running.kill().await;
    }
    if told.is_empty() {
        told.push_str("nothing; is there a KVM that works?");
    }
    Err(Error::Machine(format!(
        "it does not begin; the last that it wrote:\n{told}"
    )))
}

/// The conversation with a machine's first process.
struct Talk {
    control: UnixStream,
    arrived: BytesMut,
}

impl Talk {
    /// Has the command started, passes signals and the window's size on, and waits for its end.
    async fn follow(&mut self, order: Asked, arrivals: &mut Arrivals, terminal: bool) -> Result<Exit, Error> {
        let lost = |error: io::Error| Error::Machine(format!("it does not speak: {error}"));
        self.ask(&order).await.map_err(lost)?;
        let mut sizes = signal(SignalKind::window_change()).map_err(lost)?;
        loop {
            tokio::select! {
                told = self.told() => return match told.map_err(lost)? {
                    Told::Ended(code) => Ok(Exit(code)),
                    Told::Failed(why) => Err(Error::Machine(why)),
                },
                signal = arrivals.next() => {
                    let number = u8::try_from(signal.as_raw()).unwrap_or(0);
                    self.ask(&Asked::Signal(number)).await.map_err(lost)?;
                }
                Some(()) = sizes.recv(), if terminal => {
                    let (rows, columns) = window();
                    self.ask(&Asked::Window(rows, columns)).await.map_err(lost)?;
                }
            }
        }
    }

    async fn ask(&mut self, asked: &Asked) -> io::Result<()> {
        timeout(STEP, self.control.write_all(&asked.bytes())).await?
    }

    /// The next message. What has arrived of it is kept when this is dropped.
    async fn told(&mut self) -> io::Result<Told> {
        loop {
            match talk::first(&self.arrived).map_err(io::Error::other)? {
                Some((told, length)) => {
                    self.arrived.advance(length);
                    return Ok(told);
                }
                None if self.control.read_buf(&mut self.arrived).await? == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                None => {}
            }
        }
    }
}

/// Joins the machine's streams to ours, on threads that nobody waits for: a read from a terminal cannot be called off.
/// Returns what resolves when output and errors have ended.
fn join([input, output, errors]: [Blocking; 3]) -> io::Result<[oneshot::Receiver<()>; 2]> {
    let own = |stream: std::os::fd::BorrowedFd<'_>| rustix::io::dup(stream).map(File::from);
    let mut stdin = own(rustix::stdio::stdin())?;
    let feed = move || {
        let _ = io::copy(&mut stdin, &mut &input);
        let _ = input.shutdown(Shutdown::Write);
    };
    std::thread::Builder::new().name("stdin".into()).spawn(feed)?;
    let drain = |mut from: Blocking, mut to: File| -> io::Result<oneshot::Receiver<()>> {
        let (done, end) = oneshot::channel();
        let work = move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = done.send(());
        };
        std::thread::Builder::new().name("output".into()).spawn(work)?;
        Ok(end)
    };
    Ok([
        drain(output, own(rustix::stdio::stdout())?)?,
        drain(errors, own(rustix::stdio::stderr())?)?,
    ])
}

fn window() -> (u16, u16) {
    tcgetwinsize(rustix::stdio::stdout()).map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

/// Our terminal while its keys go to the command inside, as they are; as it was again when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0);
    }
}
