//! Keyferry as its users start it: `serve` with a config file, or `run` around a command.

use super::agent::Agent;
use super::origin::Origin;
use super::root::Root;
use super::running::Running;
use super::script::Script;
use super::{eventually, tools};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A configuration in the making, in a folder of its own.
#[derive(Clone)]
pub struct Rig {
    dir: Arc<TempDir>,
    resolve: Vec<(String, SocketAddr)>,
    secrets: Vec<(String, String)>,
    rules: Vec<String>,
    extra: String,
    listen: String,
    roots: String,
    networks: String,
    upstream: String,
    env: Vec<(String, String)>,
    through: Vec<String>,
    program: PathBuf,
    /// Values that no agent may ever see.
    hidden: Vec<String>,
    /// For `run`, before the command.
    flags: Vec<String>,
}

impl Rig {
    /// Nothing is allowed yet. Upstream, `root` is trusted beside the system's roots.
    pub fn new(root: &Root) -> Self {
        let dir = tempfile::Builder::new().prefix("keyferry-it-").tempdir().unwrap();
        std::fs::write(dir.path().join("root.pem"), root.pem()).unwrap();
        let roots = format!("system, {}", dir.path().join("root.pem").display());
        Self::within(dir, roots)
    }

    fn within(dir: TempDir, roots: String) -> Self {
        std::fs::create_dir(dir.path().join("home")).unwrap();
        Self {
            roots,
            dir: Arc::new(dir),
            resolve: Vec::new(),
            networks: "127.0.0.0/8".to_owned(),
            upstream: String::new(),
            secrets: Vec::new(),
            rules: Vec::new(),
            extra: String::new(),
            listen: "127.0.0.1:0".to_owned(),
            // Clients that look for their own next version would ask the test's registry for it.
            env: [
                ("npm_config_update_notifier", "false"),
                ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            through: Vec::new(),
            program: tools::KEYFERRY.into(),
            hidden: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// The rig's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of `origin` leads to it.
    pub fn reach(self, origin: &Origin) -> Self {
        self.reach_as(&origin.name, origin.address)
    }

    /// The name of a scripted origin leads to it.
    pub fn reach_script(self, origin: &Script) -> Self {
        self.reach_as(&origin.name, origin.address)
    }

    /// `name` leads to `address`.
    pub fn reach_as(mut self, name: &str, address: SocketAddr) -> Self {
        self.resolve.push((name.to_owned(), address));
        self
    }

    /// A secret that Keyferry finds in its environment as `variable`; in the config it has the same
    /// name in lower case. `run` hands the agent a placeholder in that variable.
    pub fn secret(mut self, variable: &str, value: &str) -> Self {
        self.secrets
            .push((variable.to_lowercase(), format!("{{ env: {variable} }}")));
        self.env.push((variable.to_owned(), value.to_owned()));
        self.hidden.push(value.to_owned());
        self
    }

    /// A secret written as the config would have it.
    pub fn secret_spec(mut self, name: &str, spec: &str) -> Self {
        self.secrets.push((name.to_owned(), spec.to_owned()));
        self
    }

    /// A rule, in YAML flow style without its braces: `host: api.test, inject: […]`.
    pub fn rule(mut self, rule: &str) -> Self {
        self.rules.push(rule.to_owned());
        self
    }

    /// Further top-level lines of the config.
    pub fn config(mut self, lines: &str) -> Self {
        self.extra.push_str(lines.trim_end());
        self.extra.push('\n');
        self
    }

    /// Where to listen, in YAML flow style, instead of a free port.
    pub fn listen(mut self, listen: &str) -> Self {
        self.listen = listen.to_owned();
        self
    }

    /// Only these upstream roots, in YAML flow style.
    pub fn roots(mut self, roots: &str) -> Self {
        self.roots = roots.to_owned();
        self
    }

    /// These networks beside the public ones, in YAML flow style, instead of loopback.
    pub fn allow_networks(mut self, networks: &str) -> Self {
        self.networks = networks.to_owned();
        self
    }

    /// A further line under `upstream`.
    pub fn upstream(mut self, line: &str) -> Self {
        self.upstream.push_str(&format!("  {line}\n"));
        self
    }

    /// A flag of `run`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// A variable in Keyferry's own environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts Keyferry through another program, as `env` is one; it must become what it starts.
    pub fn through<A: AsRef<str>>(mut self, words: &[A]) -> Self {
        self.through = words.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// A rig for a parent proxy, which has the names and lets anybody tunnel to them; this one knows them no more.
    pub fn hand_names_to_a_parent(&mut self) -> Self {
        let dir = tempfile::Builder::new().prefix("keyferry-it-").tempdir().unwrap();
        let mut parent = Self::within(dir, self.roots.clone());
        parent.resolve = std::mem::take(&mut self.resolve);
        parent.networks = self.networks.clone();
        for (name, _) in &parent.resolve {
            parent.rules.push(format!("host: \"{name}\", tunnel: true"));
        }
        parent
    }

    /// Starts Keyferry by this name, which leads to the one under test.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = path.to_owned();
        self
    }

    /// The config file's text.
    pub fn yaml(&self) -> String {
        let dir = self.dir.path().display();
        let resolve: Vec<_> = self
            .resolve
            .iter()
            .map(|(name, to)| format!("\"{name}\": \"{to}\""))
            .collect();
        let mut yaml = format!("listen: [{}]\n", self.listen);
        if !self.extra.contains("ca:") {
            yaml += &format!("ca: {{ dir: {dir}/ca }}\n");
        }
        yaml += &format!(
            "upstream:\n  roots: [{}]\n  resolve: {{ {} }}\n  allow_networks: [{}]\n",
            self.roots,
            resolve.join(", "),
            self.networks
        );
        yaml += &self.upstream;
        if !self.secrets.is_empty() {
            yaml += "secrets:\n";
            for (name, spec) in &self.secrets {
                yaml += &format!("  {name}: {spec}\n");
            }
        }
        yaml += if self.rules.is_empty() {
            "rules: []\n"
        } else {
            "rules:\n"
        };
        for rule in &self.rules {
            yaml += &format!("  - {{ {rule} }}\n");
        }
        if !self.extra.contains("audit:") {
            yaml += &format!("audit: {{ file: {dir}/audit.jsonl }}\n");
        }
        yaml + &self.extra
    }

    /// Writes the config file.
    pub fn write(&self) -> PathBuf {
        let file = self.dir.path().join("keyferry.yaml");
        std::fs::write(&file, self.yaml()).unwrap();
        file
    }

    /// `keyferry VERB… --config FILE` in a bare environment.
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut words = self.through.iter().map(String::as_str).chain(self.program.to_str());
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(verb).arg("--config").arg(self.write());
        bare(&mut command, &self.dir.path().join("home"));
        command.envs(self.env.iter().cloned()).current_dir(self.dir.path());
        command
    }

    /// Starts `serve` and waits until it listens.
    pub async fn serve(self) -> Proxy {
        let child = Running::start(self.command(&["serve"]));
        let address = match child.listening().await {
            Ok(address) => address,
            Err(log) => panic!("`keyferry serve` did not start:\n{log}\nwith\n{}", self.yaml()),
        };
        let path = self.command(&["ca", "path"]).output().unwrap();
        let ca = PathBuf::from(String::from_utf8(path.stdout).unwrap().trim());
        let pem = std::fs::read_to_string(&ca).unwrap_or_else(|error| panic!("no CA at {}: {error}", ca.display()));
        Proxy {
            agent: Agent::new(address, &pem),
            address,
            ca,
            child,
            rig: self,
        }
    }

    /// Starts `serve` where it should fail; what it said, and its status.
    pub async fn refuses(self) -> (ExitStatus, String) {
        let mut child = Running::start(self.command(&["serve"]));
        let status = child.ended().await;
        (status, child.log())
    }

    /// Runs a command under `keyferry run`, as its users do.
    pub async fn run<A: AsRef<str>>(&self, argv: &[A]) -> Ran {
        let program = argv[0].as_ref();
        let program = if program.starts_with('/') {
            PathBuf::from(program)
        } else {
            tools::need(program)
        };
        let held = self.dir.path().join("held-env");
        let mut command = self.command(&["run"]);
        // What the agent really holds is written down by itself, before it becomes the client.
        command
            .args(&self.flags)
            .args(["--", "/bin/sh", "-c", "env -0 >\"$0\" && exec \"$@\""])
            .arg(&held)
            .arg(program);
        command.args(argv[1..].iter().map(AsRef::as_ref)).stdin(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        let output = tokio::time::timeout(Duration::from_secs(120), command.kill_on_drop(true).output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("{} did not end", argv[0].as_ref()))
            .unwrap();
        let env = std::fs::read(&held).unwrap_or_default();
        let pairs = env
            .split(|byte| *byte == 0)
            .map(|pair| String::from_utf8_lossy(pair).into_owned());
        let env: BTreeMap<_, _> = pairs
            .filter_map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
            .collect();
        let ran = Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            env,
        };
        for value in &self.hidden {
            ran.never_held(value);
        }
        ran
    }

    /// The audit records so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// Runs a client to its end; what it said on both outputs, and whether it was content.
pub async fn ended(command: Command) -> (bool, String) {
    let named = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), output).await;
    let output = output.unwrap_or_else(|_| panic!("{named} did not end")).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Clears a command's environment down to what every user has.
pub fn bare(command: &mut Command, home: &Path) {
    command
        .env_clear()
        .env("PATH", tools::path())
        .env("HOME", home)
        .env("LANG", "C.UTF-8");
    // Coverage tools name a file for the profile; without it one is left in each folder.
    if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
}

/// How a command under `keyferry run` came out.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// The environment the command really had.
    pub env: BTreeMap<String, String>,
}

impl Ran {
    /// The command succeeded.
    ///
    /// # Panics
    /// When not, with all it said.
    pub fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "{}\n-- stdout\n{}\n-- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// What the command printed, as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON in:\n{}\n{}", self.stdout, self.stderr))
    }

    /// The agent's environment and all it printed hold nothing of `secret`.
    pub fn never_held(&self, secret: &str) {
        for (name, value) in &self.env {
            assert!(!value.contains(secret), "the agent held the credential in ${name}");
        }
        assert!(
            !self.stdout.contains(secret),
            "the agent printed the credential: {}",
            self.stdout
        );
        assert!(
            !self.stderr.contains(secret),
            "the credential was in the log: {}",
            self.stderr
        );
    }
}

/// A running `keyferry serve`.
pub struct Proxy {
    /// An agent that offers nothing.
    pub agent: Agent,
    pub address: SocketAddr,
    /// The file with Keyferry's own root.
    pub ca: PathBuf,
    pub child: Running,
    pub rig: Rig,
}

impl Proxy {
    /// A client's command as its user would start it beside the proxy: in a bare environment, nothing set.
    pub fn client(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let program = match program.is_absolute() {
            true => program.to_owned(),
            false => tools::need(program.to_str().unwrap()),
        };
        let mut command = Command::new(program);
        bare(&mut command, &self.rig.dir().join("home"));
        command.current_dir(self.rig.dir());
        command
    }

    /// Where the operator's listener is.
    pub async fn admin(&self) -> SocketAddr {
        let line = || {
            let log = self.child.log();
            log.lines().find(|line| line.contains("(admin)")).map(str::to_owned)
        };
        let line = eventually("the admin address", line).await;
        let address = line
            .split("listening on ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        address.unwrap().parse().unwrap()
    }

    /// Replaces the config file's text and asks for a reload.
    pub fn reload(&self, change: impl Fn(String) -> String) {
        let file = self.rig.dir().join("keyferry.yaml");
        let text = change(std::fs::read_to_string(&file).unwrap());
        std::fs::write(file, text).unwrap();
        self.child.signal("HUP");
    }

    /// The audit records, once there are `count`.
    pub async fn records(&self, count: usize) -> Vec<serde_json::Value> {
        eventually(&format!("{count} audit records"), || {
            Some(self.rig.audit()).filter(|all| all.len() >= count)
        })
        .await
    }

    /// The one audit record.
    pub async fn record(&self) -> serde_json::Value {
        let mut records = self.records(1).await;
        assert_eq!(records.len(), 1, "one record was expected: {records:#?}");
        records.remove(0)
    }
}
