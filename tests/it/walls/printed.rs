//! What `keyferry sandbox print` prints, pasted into a shell: it does what `run` does.

use super::gvisor::with_runsc;
use super::{Who, command, run, share, told};
use crate::clients::REAL;
use crate::rig::docker::Docker;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::tools;
use std::path::Path;
use std::process::{Command, Output};

/// What the command does: goes out with a credential, by proxy and by base URL, and then every other way.
const SCRIPT: &str = "curl -sS https://api.test/hello; echo; curl -sS --noproxy '*' $API_URL/hello; echo
    curl -sS --noproxy '*' --max-time 3 http://203.0.113.9/ 2>&1 | head -c 8; echo
    grep -c '^CapEff.*0000000000000000$' /proc/self/status; cat .env; touch /usr/new 2>/dev/null || echo shut
    echo \"$API_KEY\" 'it'\\''s $HOME'; exit 7";

/// A proxy that serves on unix sockets, and the rig whose config that is.
async fn serving(at: impl FnOnce(Rig) -> Rig) -> (Origin, Proxy, Rig) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rule = "name: api, host: api.test, gateway: /api, base_url: API_URL, inject: [{ header: x-api-key, value: \"${api_key}\" }]";
    let rig = at(Rig::new(&root).reach(&origin).secret("API_KEY", REAL).rule(rule));
    let sockets = rig.dir().join("sockets");
    std::fs::create_dir(&sockets).unwrap();
    let of = |name: &str| sockets.join(name).display().to_string();
    let listen = format!(
        "127.0.0.1:0, {{ bind: \"unix:{}\", mode: \"0666\" }}, {{ bind: \"unix:{}\", speak: gateway, mode: \"0666\" }}",
        of("keyferry"),
        of("urls")
    );
    let rig = rig.listen(&listen);
    share(&rig);
    std::fs::write(rig.dir().join("work/.env"), format!("KEY={REAL}\n")).unwrap();
    let proxy = rig.clone().serve().await;
    (origin, proxy, rig)
}

/// What is printed for these options.
async fn printed(rig: &Rig, options: &[&str], words: &[&str]) -> (String, String) {
    let mut command = command(rig, Who::Us, options, words);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut made = Command::new(tools::KEYFERRY);
    made.env_clear();
    made.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    made.current_dir(command.get_current_dir().unwrap());
    let at = arguments.iter().position(|word| word == "run").unwrap();
    made.args(&arguments[..at])
        .args(["sandbox", "print"])
        .args(&arguments[at + 1..]);
    command = made;
    let output = run(command).await;
    let (out, err) = told(&output);
    assert!(output.status.success() && !out.contains(REAL), "{out}\n{err}");
    (out, err)
}

/// Pastes it into a shell that has nothing of Keyferry's.
async fn paste(text: &str, more: &[(&str, &str)], dir: &Path) -> Output {
    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", tools::path()).envs(more.iter().copied());
    shell
        .args(["-c", text])
        .current_dir(dir)
        .stdin(std::process::Stdio::null());
    run(shell).await
}

fn judge(output: &Output, origin: &Origin, times: usize) {
    let (out, err) = told(output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..5], ["hello", "hello", "curl: (7", "1", "shut"], "{out}\n{err}");
    assert!(
        lines[5].ends_with("it's $HOME") && lines[5].len() > 20 && !out.contains(REAL),
        "{out}"
    );
    assert_eq!(output.status.code(), Some(7), "{err}");
    assert_eq!(origin.seen().len(), 2 * times);
    assert!(origin.seen().iter().all(|one| one.all("x-api-key") == [REAL]));
}

#[tokio::test]
async fn a_printed_wall_of_bubblewrap_stands_when_pasted() {
    let (origin, _proxy, rig) = serving(|rig| rig).await;
    let (text, err) = printed(&rig, &["--sandbox", "bwrap"], &["sh", "-c", SCRIPT]).await;
    assert!(err.contains("masked") && err.contains("sockets/keyferry"), "{err}");
    judge(&paste(&text, &[], Path::new("/")).await, &origin, 1);
}

#[tokio::test]
async fn a_printed_container_stands_when_pasted() {
    let docker = Docker::start().await;
    let host = docker.host();
    let (origin, _proxy, rig) = serving(|rig| rig.env("DOCKER_HOST", &host)).await;
    let (text, _) = printed(&rig, &["--sandbox", "docker"], &["sh", "-c", SCRIPT]).await;
    for times in [1, 2] {
        let output = paste(&text, &[("DOCKER_HOST", &host), ("HOME", "/nowhere")], Path::new("/")).await;
        judge(&output, &origin, times);
    }
}

#[tokio::test]
async fn a_printed_file_for_compose_starts_the_same_container() {
    let docker = Docker::start().await;
    let host = docker.host();
    let (origin, _proxy, rig) = serving(|rig| rig.env("DOCKER_HOST", &host)).await;
    let options = ["--sandbox", "docker", "--format", "compose"];
    let (text, _) = printed(&rig, &options, &["sh", "-c", SCRIPT]).await;
    let file = rig.dir().join("agent.yaml");
    std::fs::write(&file, text).unwrap();
    let line = format!("docker-compose -p agent -f {} run --rm -T agent", file.display());
    let output = paste(&line, &[("DOCKER_HOST", &host), ("HOME", "/nowhere")], rig.dir()).await;
    judge(&output, &origin, 1);
}

#[tokio::test]
async fn a_printed_wall_of_gvisor_stands_when_pasted() {
    let (origin, _proxy, rig) = serving(with_runsc).await;
    let (text, _) = printed(&rig, &["--sandbox", "gvisor"], &["sh", "-c", SCRIPT]).await;
    judge(&paste(&text, &[], Path::new("/")).await, &origin, 1);

    let options = ["--sandbox", "gvisor", "--format", "oci", "--out", "taken"];
    let (text, _) = printed(&rig, &options, &["true"]).await;
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["process"]["noNewPrivileges"], true);
    let bundle = std::fs::read_to_string(rig.dir().join("work/taken/bundle/config.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&bundle).unwrap(), config);
}

#[tokio::test]
async fn what_cannot_be_printed_is_told_in_words() {
    let root = Root::new();
    let rig = Rig::new(&root).rule("host: api.test");
    let print = |rig: &Rig, options: &[&str]| {
        let mut command = rig.command(&["sandbox", "print"]);
        command.args(options).args(["--", "true"]);
        let output = command.output().unwrap();
        (output.status.code(), told(&output).1)
    };
    let (code, err) = print(&rig, &["--sandbox", "bwrap"]);
    assert!(
        code == Some(1) && err.contains("unix:/run/keyferry/proxy.sock"),
        "{err}"
    );
    let (code, err) = print(&rig, &[]);
    assert!(code == Some(2) && err.contains("say which wall"), "{err}");
}

#[tokio::test]
async fn what_is_printed_for_a_mac_goes_through_the_port_once_it_is_in_its_own_sandbox() {
    let (origin, proxy, rig) = serving(|rig| rig).await;
    // The port that the kernel chose has to stand in the config that is printed from.
    let port = proxy.address.port();
    let rig = rig.listen(&format!("127.0.0.1:{port}"));
    let out = rig.dir().join("out");
    let script = "curl -sS https://api.test/hello; echo; echo $API_KEY $HOME; cat .env; exit 7";
    let options = ["--sandbox", "seatbelt", "--out", out.to_str().unwrap()];
    let (text, err) = printed(&rig, &options, &["sh", "-c", script]).await;
    assert!(err.contains(&format!("it goes through 127.0.0.1:{port}")), "{err}");
    assert!(text.contains(&format!("(remote ip \"localhost:{port}\")")), "{text}");
    let masked = rig.dir().join("work/.env");
    assert!(
        text.contains(&format!("(deny file-read* file-write* (literal {masked:?}))")),
        "{text}"
    );
    // Only a Mac has that program: here one stands in that holds nobody to anything.
    let stand_in = rig.dir().join("sandbox-exec");
    std::fs::write(&stand_in, "#!/bin/sh\nshift 2\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(&stand_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = text.replace("/usr/bin/sandbox-exec", stand_in.to_str().unwrap());
    let output = paste(&text, &[], &rig.dir().join("work")).await;
    let (told, err) = told(&output);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "hello", "{told}{err}");
    assert!(lines[1].ends_with("/out/home") && !lines[1].contains(REAL), "{told}");
    assert_eq!((output.status.code(), origin.seen().len()), (Some(7), 1));

    let (_, err) = super::told(&run(command(&rig, Who::Us, &["--sandbox", "seatbelt"], &["true"])).await);
    assert!(err.contains("`keyferry sandbox print` prints its profile"), "{err}");
}
