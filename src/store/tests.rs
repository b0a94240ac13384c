#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
use super::*;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(20);

fn spec(name: &str, source: Source) -> SecretSpec {
    SecretSpec {
        name: name.into(),
        source,
        document: false,
        field: None,
        placeholder: None,
        agent_env: Vec::new(),
    }
}

fn shell(script: &str, ttl: Option<Duration>, timeout: Duration) -> SecretSpec {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    spec("program", Source::Exec { argv, ttl, timeout })
}

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        key: KeySource::File,
        poll: LONG * 100, // so that a test shows what the watching sees
        ..StoreOptions::new(dir.join("store"))
    }
}

fn open(dir: &Path, specs: &[SecretSpec]) -> Store {
    Store::open(specs, options(dir), &Tasks::new()).unwrap()
}

const FIRST: SecretId = SecretId(0);

fn holds(store: &Store, value: &str) -> bool {
    store
        .current(FIRST)
        .is_some_and(|held| held.secret.matches(value.as_bytes()))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let seen = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, seen)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn everything_missing_is_told_of_at_once_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let specs = [
        spec("one", Source::Env("KEYFERRY_TEST_NOT_SET".into())),
        spec("two", Source::File(dir.path().join("missing"))),
        spec("three", Source::Store("absent".into())),
        spec("four", Source::File(empty)),
        spec("fine", Source::Env("PATH".into())),
    ];
    let errors = Store::open(&specs, options(dir.path()), &Tasks::new()).unwrap_err();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (text, parts) in told.iter().zip([
        ["`one`", "`KEYFERRY_TEST_NOT_SET` is not set"],
        ["`two`", "missing`"],
        ["`three`", "keyferry secret set absent"],
        ["`four`", "empty"],
    ]) {
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    assert_eq!(told.len(), 4);
}

#[tokio::test]
async fn environment_files_and_the_encrypted_store_are_at_hand() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "from-file\n").unwrap();
    let encrypted = EncryptedFile::new(&dir.path().join("store"), KeySource::File);
    encrypted
        .set("entry", Secret::new(b"from-store".to_vec()).unwrap())
        .unwrap();
    let specs = [
        spec("a", Source::Env("PATH".into())),
        spec("b", Source::File(path)),
        spec("c", Source::Store("entry".into())),
        spec("d", Source::Store("entry".into())),
    ];
    let store = open(dir.path(), &specs);
    #[expect(clippy::disallowed_methods, reason = "what the store must have read")]
    let path = std::env::var("PATH").unwrap();
    for (id, value) in [(0, &*path), (1, "from-file"), (2, "from-store"), (3, "from-store")] {
        assert!(store.get(SecretId(id)).await.unwrap().secret.matches(value.as_bytes()));
    }
    assert!(store.get(SecretId(9)).await.is_err());
}

#[tokio::test]
async fn a_file_written_anew_or_renamed_into_place_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let store = open(dir.path(), &[spec("k", Source::File(path.clone()))]);
    let first = store.current(FIRST).unwrap().version;
    std::fs::write(&path, "two").unwrap();
    until("a value written in place", || holds(&store, "two")).await;
    let second = store.current(FIRST).unwrap().version;
    assert_ne!(first, second);
    let beside = dir.path().join("token~");
    std::fs::write(&beside, "three").unwrap();
    std::fs::rename(beside, &path).unwrap();
    until("a file renamed into place", || holds(&store, "three")).await;
}

#[tokio::test]
async fn a_swapped_symlink_to_a_directory_is_taken_up_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let publish = |number: usize| {
        let data = format!("..data_{number}");
        std::fs::create_dir(at(&data)).unwrap();
        std::fs::write(at(&data).join("token"), format!("value-{number}")).unwrap();
        symlink(&data, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        if number > 0 {
            std::fs::remove_dir_all(at(&format!("..data_{}", number - 1))).unwrap();
        }
    };
    publish(0);
    symlink("..data/token", at("token")).unwrap();
    let store = open(dir.path(), &[spec("k", Source::File(at("token")))]);
    for number in 1..4 {
        publish(number);
        until("the swapped value", || holds(&store, &format!("value-{number}"))).await;
    }
}

#[tokio::test]
async fn a_bad_new_value_keeps_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "good").unwrap();
    let failures = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&failures);
    let options = StoreOptions {
        on_fetch: Some(Arc::new(move |_, well| {
            seen.fetch_add(usize::from(!well), Ordering::Relaxed);
        })),
        ..options(dir.path())
    };
    let store = Store::open(&[spec("k", Source::File(path.clone()))], options, &Tasks::new()).unwrap();
    let version = store.current(FIRST).unwrap().version;
    std::fs::write(&path, "two\nlines").unwrap();
    until("the bad value to be seen", || failures.load(Ordering::Relaxed) == 1).await;
    assert_eq!(store.current(FIRST).unwrap().version, version);
    std::fs::remove_file(&path).unwrap();
    until("the missing file to be seen", || failures.load(Ordering::Relaxed) == 2).await;
    assert!(holds(&store, "good"));
    std::fs::write(&path, "better").unwrap();
    until("the next good value", || holds(&store, "better")).await;
}

#[tokio::test]
async fn an_entry_set_while_running_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let encrypted = EncryptedFile::new(&dir.path().join("store"), KeySource::File);
    let set = |value: &str| encrypted.set("k", Secret::new(value.into()).unwrap()).unwrap();
    set("one");
    let store = open(dir.path(), &[spec("k", Source::Store("k".into()))]);
    set("two");
    until("the new entry", || holds(&store, "two")).await;
}

#[tokio::test]
async fn looking_now_and_then_finds_what_is_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("link"), dir.path().join("deep/er"));
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("token"), "one").unwrap();
    symlink("middle/token", &path).unwrap();
    symlink("deep/er", dir.path().join("middle")).unwrap();
    let options = StoreOptions {
        poll: Duration::from_millis(20),
        ..options(dir.path())
    };
    let store = Store::open(&[spec("k", Source::File(path))], options, &Tasks::new()).unwrap();
    std::fs::write(target.join("token"), "two").unwrap();
    until("the new value", || holds(&store, "two")).await;
}

#[tokio::test]
async fn a_reload_keeps_versions_of_what_stayed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let runs = dir.path().join("runs");
    let script = format!("echo >> '{}'; echo value", runs.display());
    let specs = [spec("file", Source::File(path.clone())), shell(&script, None, LONG)];
    let before = open(dir.path(), &specs);
    let program = before.get(SecretId(1)).await.unwrap().version;
    let file = before.current(FIRST).unwrap().version;
    let reload = |before: &Store| {
        let options = StoreOptions {
            previous: Some(before.clone()),
            ..options(dir.path())
        };
        Store::open(&specs, options, &Tasks::new()).unwrap()
    };
    let after = reload(&before);
    assert_eq!(after.current(FIRST).unwrap().version, file);
    assert_eq!(after.current(SecretId(1)).unwrap().version, program);
    std::fs::write(&path, "two").unwrap();
    assert_ne!(reload(&after).current(FIRST).unwrap().version, file);
    assert_eq!(std::fs::read_to_string(runs).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn fifty_who_wait_run_the_program_once() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let script = format!("echo >> '{}'; sleep 0.3; echo value", runs.display());
    let store = open(dir.path(), &[shell(&script, None, LONG)]);
    assert!(store.current(FIRST).is_none());
    let waiting = (0..50).map(|_| store.get(FIRST));
    for held in futures_util::future::join_all(waiting).await {
        assert!(held.unwrap().secret.matches(b"value"));
    }
    assert!(holds(&store, "value"));
    assert_eq!(std::fs::read_to_string(runs).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn asking_for_what_is_not_at_hand_starts_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &[shell("echo value", None, LONG)]);
    assert!(store.current(FIRST).is_none());
    until("the value", || holds(&store, "value")).await;
}

#[tokio::test]
async fn who_goes_away_does_not_take_the_run_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &[shell("sleep 0.3; echo value", None, LONG)]);
    let impatient = tokio::time::timeout(Duration::from_millis(20), store.get(FIRST)).await;
    assert!(impatient.is_err());
    until("the value nobody waits for", || holds(&store, "value")).await;
}

#[tokio::test]
async fn a_value_past_its_term_is_fetched_anew() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let script = format!("echo >> '{0}'; wc -l < '{0}'", runs.display());
    let ttl = Duration::from_millis(500);
    let store = open(dir.path(), &[shell(&script, Some(ttl), LONG)]);
    let first = store.get(FIRST).await.unwrap();
    tokio::time::sleep(ttl * 2).await;
    assert!(store.current(FIRST).is_none(), "past its term it is no good");
    let second = store.get(FIRST).await.unwrap();
    assert_ne!(first.version, second.version);
    assert!(second.secret.matches(b"2"), "nobody asked meanwhile, so nothing ran");
}

#[tokio::test]
async fn a_value_in_use_is_renewed_before_its_term_ends() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let script = format!("echo >> '{0}'; wc -l < '{0}'", runs.display());
    let store = open(dir.path(), &[shell(&script, Some(Duration::from_secs(5)), LONG)]);
    let first = store.get(FIRST).await.unwrap();
    let slot = &store.inner.slots[0];
    let now = Instant::now();
    slot.renew(&first, Some((now, now + LONG)));
    assert!(store.current(FIRST).is_some(), "it is still good");
    until("the renewal", || holds(&store, "2")).await;
}

#[tokio::test]
async fn a_failing_program_is_not_run_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let script = format!(
        "echo >> '{}'; echo s3cret-out; echo s3cret-err >&2; exit 3",
        runs.display()
    );
    let store = open(dir.path(), &[shell(&script, None, LONG)]);
    for _ in 0..20 {
        let error = store.get(FIRST).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
    let runs = std::fs::read_to_string(runs).unwrap().lines().count();
    assert!(runs < 5, "run {runs} times, with pauses of a second and more between");
}

#[tokio::test]
async fn prefetch_tells_which_programs_fail() {
    let dir = tempfile::tempdir().unwrap();
    let mut missing = shell("", None, LONG);
    missing.name = "missing".into();
    missing.source = Source::Exec {
        argv: vec!["keyferry-test-no-such-program".into()],
        ttl: None,
        timeout: LONG,
    };
    let store = open(dir.path(), &[shell("echo value", None, LONG), missing]);
    let errors = store.prefetch().await;
    assert_eq!(errors.len(), 1);
    let told = errors[0].to_string();
    assert!(
        told.contains("`missing`") && told.contains("keyferry-test-no-such-program"),
        "{told}"
    );
    assert!(holds(&store, "value"));
}

#[tokio::test]
async fn what_a_program_prints_is_bounded_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    for (script, part) in [
        ("head -c 70000 /dev/zero | tr '\\0' a", "more than"),
        ("while :; do echo aaaaaaaaaaaaaaaaaaaaaaa; done", "more than"),
        ("printf ''", "is empty"),
        ("printf 'a\\r\\nX-Forged: yes'", "control byte"),
        ("kill -9 $$", "signal"),
        ("cat; echo from-stdin", ""),
    ] {
        let store = open(dir.path(), &[shell(script, None, LONG)]);
        let result = store.get(FIRST).await;
        if part.is_empty() {
            assert!(result.unwrap().secret.matches(b"from-stdin"), "its input is empty");
        } else {
            let told = result.unwrap_err().to_string();
            assert!(told.contains(part), "{script}: {told}");
        }
    }
}

#[tokio::test]
async fn when_its_time_is_up_a_program_dies_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!(
        "sh -c 'echo $$ > \"{0}.tmp\"; mv \"{0}.tmp\" \"{0}\"; sleep 1000' & wait",
        pid.display()
    );
    let store = open(dir.path(), &[shell(&script, None, Duration::from_secs(1))]);
    let error = store.get(FIRST).await.unwrap_err();
    assert!(matches!(error.cause, Cause::ExecTimeout { .. }), "{error}");
    let grandchild: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    until("the grandchild to die", || {
        let status = std::fs::read_to_string(format!("/proc/{grandchild}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ") || status.contains("State:\tX")
    })
    .await;
}

#[tokio::test]
async fn watching_ends_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let tasks = Tasks::new();
    let store = Store::open(&[spec("k", Source::File(path))], options(dir.path()), &tasks).unwrap();
    assert_eq!(tasks.running(), 1);
    let clone = store.clone();
    drop(store);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(tasks.running(), 1, "a clone still wants it");
    drop(clone);
    until("the watching to end", || tasks.running() == 0).await;
}

/// Everything this thread logs.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_holds_a_value_or_what_a_program_says() {
    let logged = Logged::default();
    let sink = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || sink.clone())
        .finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "s3cret-file").unwrap();
    let failing = "echo s3cret-out; echo s3cret-err >&2; exit 3";
    let specs = [
        spec("file", Source::File(path.clone())),
        shell(failing, None, LONG),
        shell("echo s3cret-good; echo s3cret-err >&2", None, LONG),
    ];
    let options = StoreOptions {
        watch: false, // it logs from other threads
        ..options(dir.path())
    };
    let store = Store::open(&specs, options, &Tasks::new()).unwrap();
    assert_eq!(store.prefetch().await.len(), 1);
    std::fs::write(&path, "s3cret-new").unwrap();
    store.inner.read_again();
    std::fs::write(&path, "s3cret\nbad").unwrap();
    store.inner.read_again();
    let text = String::from_utf8_lossy(&logged.0.lock()).into_owned();
    for told in ["could not be fetched", "has a new value", "old value stays in use"] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}
