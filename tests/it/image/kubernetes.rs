//! `config/kubernetes/`: held to Kubernetes' own schemas, to its restricted profile, and the config in it to Keyferry's. The
//! sidecar's pod is run, its containers one by one as the manifest has them, on a real Docker daemon.

use super::compose::{agent_image, keyferry_image, put_program, tar};
use crate::rig::docker::{Docker, WORLD};
use crate::rig::origin::{Origin, in_network};
use crate::rig::root::Root;
use crate::rig::{eventually, soon, tools};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const KEY: &str = "sk-live-0a1b2c3d4e5f";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes")
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Every object of these files, as JSON.
fn objects(files: &[PathBuf]) -> Vec<Value> {
    let script = "import json, sys, yaml\nprint(json.dumps([one for name in sys.argv[1:] for one in yaml.safe_load_all(open(name))]))";
    let output = Command::new(tools::python())
        .args(["-c", script])
        .args(files)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn validate(files: &[PathBuf]) -> (bool, String) {
    let program = tools::python().with_file_name("kubernetes-validate");
    let output = Command::new(&program).arg("--strict").args(files).output();
    let output = output.unwrap_or_else(|_| panic!("no {}; run scripts/test once, it installs it", program.display()));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_manifests_are_what_kubernetes_has_schemas_for() {
    let (fit, said) = validate(&files());
    assert!(fit, "{said}");
    // A mistake would be seen.
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.yaml");
    let text = std::fs::read_to_string(folder().join("gateway.yaml")).unwrap();
    std::fs::write(&wrong, text.replace("minAvailable", "minAvialable")).unwrap();
    let (fit, said) = validate(&[wrong]);
    assert!(!fit && said.contains("minAvialable"), "{said}");
}

#[test]
fn the_configs_in_the_manifests_load_without_a_warning() {
    let all = objects(&files());
    let configs: Vec<_> = all.iter().filter(|one| one["kind"] == "ConfigMap").collect();
    assert_eq!(configs.len(), 2);
    for config in configs {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keyferry.yaml");
        std::fs::write(&file, config["data"]["keyferry.yaml"].as_str().unwrap()).unwrap();
        let mut check = Command::new(tools::KEYFERRY);
        crate::rig::proxy::bare(&mut check, dir.path());
        let output = check.args(["check", "--config"]).arg(file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("warning"), "{said}");
    }
    assert!(all.iter().all(|one| one["kind"] != "Secret"), "a secret is in the tree");
}

/// The specs of pods among objects.
fn pods(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().filter_map(|one| match one["kind"].as_str() {
        Some("Pod") => Some(&one["spec"]),
        Some("Deployment") => Some(&one["spec"]["template"]["spec"]),
        _ => None,
    })
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |key: &str| pod[key].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers"))
}

#[test]
fn every_container_is_restricted_and_only_the_firewall_is_roots() {
    let all = objects(&files());
    let mut seen = 0;
    for pod in pods(&all) {
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in containers(pod) {
            let own = &container["securityContext"];
            let name = container["name"].as_str().unwrap();
            assert_eq!(own["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(own["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(own["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            let not_root = [&own["runAsNonRoot"], &pod["securityContext"]["runAsNonRoot"]];
            let firewall = name == "redirect";
            assert_ne!(not_root.iter().any(|set| **set == true), firewall, "{name}");
            assert_eq!(own["capabilities"].get("add").is_some(), firewall, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 6);
}

/// The image of the container that changes the pod's network: Keyferry, and what it has the rules put in force by.
fn firewall_image(docker: &Docker, dir: &Path) {
    let tree = dir.join("firewall");
    put_program(&tree, Path::new(tools::KEYFERRY), "usr/bin/keyferry");
    put_program(&tree, &tools::need("nft"), "usr/sbin/nft");
    let settings = ["ENV PATH=/usr/sbin:/usr/bin", "ENTRYPOINT [\"keyferry\"]"].map(str::to_owned);
    docker.import(tar(&tree), "keyferry-firewall", &settings);
}

/// Starts a pod's containers one by one, as the manifest has them, in one network.
struct Kubelet<'a> {
    docker: &'a Docker,
    pod: Value,
    volumes: PathBuf,
}

impl Kubelet<'_> {
    /// The volumes: a config with `more` behind it, the secrets, and empty folders, all of the pod's group.
    fn prepare(&self, config: &str) {
        let group = number(&self.pod["securityContext"]["fsGroup"]);
        for volume in self.pod["volumes"].as_array().unwrap() {
            let folder = self.volumes.join(volume["name"].as_str().unwrap());
            std::fs::create_dir_all(&folder).unwrap();
            let secret = volume.get("secret").is_some();
            if secret {
                for name in ["admin", "api_key"] {
                    std::fs::write(folder.join(name), KEY).unwrap();
                    chown(folder.join(name), None, group).unwrap();
                    std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o440)).unwrap();
                }
            } else if volume.get("configMap").is_some() {
                std::fs::write(folder.join("keyferry.yaml"), config).unwrap();
            } else {
                assert!(volume.get("emptyDir").is_some(), "{volume}");
                chown(&folder, None, group).unwrap();
                std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o2777)).unwrap();
            }
        }
    }

    /// What Docker is told to start a container so.
    fn words(&self, container: &Value) -> Vec<String> {
        let own = &container["securityContext"];
        let mut words: Vec<String> = ["--network=container:pause", "--name"].map(str::to_owned).into();
        words.push(container["name"].as_str().unwrap().to_owned());
        let (user, group) = (number(&own["runAsUser"]), number(&own["runAsGroup"]));
        words.push(format!("--user={}:{}", user.unwrap(), group.unwrap_or(0)));
        words.extend(number(&self.pod["securityContext"]["fsGroup"]).map(|group| format!("--group-add={group}")));
        if own["readOnlyRootFilesystem"] == true {
            words.push("--read-only".to_owned());
        }
        if own["allowPrivilegeEscalation"] == false {
            words.push("--security-opt=no-new-privileges".to_owned());
        }
        for (key, flag) in [("drop", "--cap-drop"), ("add", "--cap-add")] {
            let named = own["capabilities"][key].as_array().into_iter().flatten();
            words.extend(named.map(|one| format!("{flag}={}", one.as_str().unwrap())));
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let text = |key: &str| variable[key].as_str().unwrap();
            words.push(format!("--env={}={}", text("name"), text("value")));
        }
        for mount in container["volumeMounts"].as_array().unwrap() {
            let (name, at) = (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap());
            let only = if mount["readOnly"] == true { ":ro" } else { "" };
            words.push(format!("--volume={}:{at}{only}", self.volumes.join(name).display()));
        }
        words.push(container["image"].as_str().unwrap().to_owned());
        let args = container["args"].as_array().into_iter().flatten();
        words.extend(args.map(|one| one.as_str().unwrap().to_owned()));
        words
    }

    /// One after the other: what begins must end well, a sidecar must be ready, and then the rest.
    async fn start(&self) {
        self.docker
            .said(&["run", "--detach", "--name", "pause", "my-agent"])
            .await;
        for container in containers(&self.pod) {
            let sidecar = container["restartPolicy"] == "Always";
            let begins = self.pod["initContainers"].as_array().unwrap().contains(container);
            let how = if begins && !sidecar { "--rm" } else { "--detach" };
            let mut words = vec!["run".to_owned(), how.to_owned()];
            words.extend(self.words(container));
            self.docker.said(&words).await;
            if sidecar {
                self.is_ready(container).await;
            }
        }
    }

    /// Asks as the kubelet does, from outside.
    async fn is_ready(&self, container: &Value) {
        let probe = &container["startupProbe"]["httpGet"];
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == probe["port"]).unwrap();
        let format = "{{.NetworkSettings.IPAddress}}";
        let ip = self.docker.said(&["inspect", "--format", format, "pause"]).await;
        let url = format!(
            "http://{ip}:{}{}",
            port["containerPort"],
            probe["path"].as_str().unwrap()
        );
        eventually("the probe", || {
            let mut nsenter = Command::new(tools::need("nsenter"));
            nsenter.arg(format!("--net=/proc/{}/ns/net", self.docker.id()));
            let output = nsenter.args(["curl", "-sS", "--max-time", "2", &url]).output().unwrap();
            (output.stdout == b"ready\n").then_some(())
        })
        .await;
    }

    /// What a command of the agent's prints, and its exit code.
    async fn agent(&self, command: &str) -> (i32, String) {
        let exec = self.docker.command(&["exec", "agent", "sh", "-c", command]);
        let output = soon("the agent", tokio::process::Command::from(exec).output())
            .await
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&said).trim().to_owned(),
        )
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().map(|number| number.try_into().unwrap())
}

#[tokio::test]
async fn an_agent_beside_a_sidecar_has_no_way_out_but_keyferry() {
    let root = Root::new();
    let dir = tempfile::Builder::new().prefix("kfc-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let docker = Docker::with_networks().await;
    keyferry_image(&docker, dir.path(), &root);
    agent_image(&docker, dir.path());
    firewall_image(&docker, dir.path());
    let origin = Origin::within(
        &root,
        "api.example.com",
        docker.world(),
        format!("{WORLD}:9443").parse().unwrap(),
    )
    .await;
    let other = in_network(docker.world(), || TcpListener::bind((WORLD, 8080)).unwrap());
    other.set_nonblocking(true).unwrap();

    let all = objects(&[folder().join("sidecar.yaml")]);
    let config = all[0]["data"]["keyferry.yaml"].as_str().unwrap();
    let kubelet = Kubelet {
        docker: &docker,
        pod: all[1]["spec"].clone(),
        volumes: dir.path().join("volumes"),
    };
    kubelet.prepare(&format!(
        "{config}upstream: {{ resolve: {{ api.example.com: \"{WORLD}:9443\" }}, allow_networks: [203.0.113.0/24] }}\n"
    ));
    kubelet.start().await;

    // By the proxy that its variables name, and by the redirect where a client heeds none.
    let ask = "curl -sS https://api.example.com/hello";
    assert_eq!(kubelet.agent(ask).await, (0, "hello".to_owned()));
    let heedless = format!("{ask} --noproxy '*' --resolve api.example.com:443:{WORLD}");
    assert_eq!(kubelet.agent(&heedless).await, (0, "hello".to_owned()));
    let seen = origin.seen();
    assert_eq!(
        seen.iter().map(|one| one.all("x-api-key")).collect::<Vec<_>>(),
        [[KEY], [KEY]]
    );
    let heedless = heedless.replace("api.example.com", "other.example.com");
    let (code, said) = kubelet.agent(&format!("{heedless} -k")).await;
    assert!(code == 0 && said.contains("denied_by_policy"), "{code} {said}");

    // Past it there is nothing, though others of the machine get there.
    let direct = format!("curl -sS --max-time 5 --noproxy '*' http://{WORLD}:8080/");
    let words = ["run", "--rm", "my-agent", "sh", "-c", &direct];
    let _ = tokio::process::Command::from(docker.command(&words)).output().await;
    eventually("the connection", || other.accept().ok()).await;
    for target in [&format!("http://{WORLD}:8080/"), "http://127.0.0.1:9090/healthz"] {
        let (code, said) = kubelet
            .agent(&format!("curl -sS --max-time 5 --noproxy '*' {target}"))
            .await;
        assert_eq!(code, 7, "{target}: {said}");
    }
    assert!(other.accept().is_err(), "the agent got out");
    assert_ne!(
        kubelet
            .agent(&format!("nslookup -timeout=2 leak.example.com {WORLD}"))
            .await
            .0,
        0
    );
    assert_eq!(kubelet.agent("id -u; ls /trust").await.1, "1000\nbundle.pem");
}
