//! A real GNOME Keyring on a session bus of the test's own, whose items `secret-tool` puts there.

use super::{RULE, given, refusal, tried, until_given};
use crate::rig::origin::Origin;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::running::Running;
use crate::rig::{PATIENCE, eventually, tools};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::time::Instant;

/// A bus that starts nothing by itself, and the keyring on it.
struct Desktop {
    dir: tempfile::TempDir,
    _bus: Running,
    keyring: Option<Running>,
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=DIR/bus</listen><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#;

impl Desktop {
    /// One on whose bus nobody is yet.
    async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("keyferry-it-").tempdir().unwrap();
        let config = dir.path().join("bus.conf");
        std::fs::write(&config, BUS.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let mut command = Command::new(tools::need("dbus-daemon"));
        bare(&mut command, dir.path());
        command.args(["--nofork", "--nopidfile"]);
        command.arg(format!("--config-file={}", config.display()));
        let bus = Running::start(command);
        let socket = dir.path().join("bus");
        eventually("the bus", || socket.exists().then_some(())).await;
        Self {
            dir,
            _bus: bus,
            keyring: None,
        }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.dir().display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tools::need(program));
        bare(&mut command, self.dir());
        command
            .env("DBUS_SESSION_BUS_ADDRESS", self.address())
            .env("XDG_RUNTIME_DIR", self.dir());
        command
    }

    /// A login: the keyring comes up, unlocked.
    async fn log_in(&mut self) {
        std::fs::write(self.dir().join("password"), "of-the-desktop").unwrap();
        let daemon = tools::need("gnome-keyring-daemon");
        let mut command = self.command("sh");
        command.arg("-c").arg(format!(
            "exec {} --unlock --foreground --components=secrets <{}/password",
            daemon.display(),
            self.dir().display()
        ));
        self.keyring = Some(Running::start(command));
        eventually("the keyring", || {
            let mut asked = self.command("dbus-send");
            asked.args(["--session", "--print-reply", "--dest=org.freedesktop.secrets"]);
            asked.args([
                "/org/freedesktop/secrets/collection/login",
                "org.freedesktop.DBus.Peer.Ping",
            ]);
            asked.output().unwrap().status.success().then_some(())
        })
        .await;
    }

    fn lock(&self) {
        let mut command = self.command("dbus-send");
        command.args(["--session", "--print-reply", "--dest=org.freedesktop.secrets"]);
        command.args(["/org/freedesktop/secrets", "org.freedesktop.Secret.Service.Lock"]);
        command.arg("array:objpath:/org/freedesktop/secrets/collection/login");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn store(&self, service: &str, value: &str) {
        let mut command = self.command("secret-tool");
        command.args(["store", "--label=An item", "service", service, "user", "ci"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), value.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn rig(&self, root: &Root, api: &Origin, spec: &str) -> Rig {
        Rig::new(root)
            .reach(api)
            .rule(RULE)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address())
            .secret_spec("key", &format!("{{ secret_service: {{ {spec} }} }}"))
    }
}

const STRIPE: &str = "attributes: { service: stripe, user: ci }";

#[tokio::test]
async fn an_item_of_the_desktops_keyring_is_read_and_read_again_until_it_is_locked() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let mut desktop = Desktop::start().await;
    desktop.log_in().await;
    desktop.store("stripe", "sk-first-0123456789");
    desktop.store("json", r#"{"db": {"password": "nested-0123456789"}}"#);
    let rig = desktop.rig(&root, &api, &format!("{STRIPE}, ttl: 1s, grace: 1s"));
    assert_eq!(tried(&rig), (Some(0), "ok: key\n".to_owned()));
    let proxy = rig.serve().await;
    assert_eq!(
        given(&proxy, &api).await.as_deref(),
        Some("sk-first-0123456789"),
        "{}",
        proxy.child.log()
    );
    desktop.store("stripe", "sk-second-0123456789");
    until_given(&proxy, &api, "sk-second-0123456789").await;
    let by_field = desktop.rig(&root, &api, "attributes: { service: json }, field: /db/password");
    let by_field = by_field.serve().await;
    assert_eq!(given(&by_field, &api).await.as_deref(), Some("nested-0123456789"));
    desktop.lock();
    let end = Instant::now() + PATIENCE;
    while given(&proxy, &api).await.is_some() {
        assert!(Instant::now() < end, "what is locked is given still");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let said = refusal(&proxy, &api).await;
    assert!(said.contains("its keyring is locked; unlock it"), "{said}");
    assert!(!said.contains("sk-first") && !said.contains("sk-second"), "{said}");
}

#[tokio::test]
async fn what_the_desktop_does_not_give_is_told_in_words_and_lets_nothing_out() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let mut desktop = Desktop::start().await;
    let told = |rig: Rig, words: &'static str| {
        let (code, said) = tried(&rig);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert!(
            said.contains("the Secret Service under `service: stripe`, `user: ci`: "),
            "{said}"
        );
    };
    let nobody = "no Secret Service answers on the session's bus";
    told(desktop.rig(&root, &api, STRIPE), nobody);
    told(
        Rig::new(&root)
            .rule(RULE)
            .secret_spec("key", &format!("{{ secret_service: {{ {STRIPE} }} }}")),
        nobody,
    );
    desktop.log_in().await;
    told(desktop.rig(&root, &api, STRIPE), "there is no such item; put it there");
    told(
        desktop.rig(&root, &api, STRIPE).env("PATH", "/nonexistent"),
        "`secret-tool` is not there",
    );
    desktop.store("lines", "one\ntwo-0123456789");
    let (code, said) = tried(&desktop.rig(&root, &api, "attributes: { service: lines }"));
    assert!(code == Some(1) && said.contains("it is of several lines"), "{said}");
    assert!(!said.contains("two-01"), "{said}");
    desktop.store("stripe", "sk-first-0123456789");
    assert_eq!(tried(&desktop.rig(&root, &api, STRIPE)).0, Some(0));
}

#[tokio::test]
async fn what_the_page_says_of_the_desktops_keyring_can_be_followed() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let mut desktop = Desktop::start().await;
    desktop.log_in().await;
    desktop.store("stripe", "sk-first-0123456789");
    let in_session = format!("DBUS_SESSION_BUS_ADDRESS={} keyferry ", desktop.address());
    let page = super::example(7, &[]);
    super::follow(&Rig::new(&root), &page, &api, &[], &[("keyferry ", &in_session)]).await;
    let asked = api.seen().pop().unwrap();
    assert_eq!(asked.all("authorization"), ["Bearer sk-first-0123456789"]);
}
