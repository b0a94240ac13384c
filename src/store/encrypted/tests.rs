#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
use super::*;
use std::os::unix::fs::PermissionsExt;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

fn plain(dir: &Path) -> EncryptedFile {
    EncryptedFile::new(&dir.join("store"), KeySource::File)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_set_is_there_and_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = plain(dir.path());
    assert!(file.list().unwrap().is_empty());
    assert!(!file.path().exists(), "looking makes nothing");
    file.set("b", secret("value \"two\" \\ ü")).unwrap();
    file.set("a", secret("one")).unwrap();
    file.set("a", secret("s3cret-value")).unwrap();
    assert_eq!(file.list().unwrap(), ["a", "b"]);
    assert!(file.get("a").unwrap().unwrap().matches(b"s3cret-value"));
    assert!(file.get("b").unwrap().unwrap().matches("value \"two\" \\ ü".as_bytes()));
    assert!(file.get("c").unwrap().is_none());
    assert!(file.remove("b").unwrap());
    assert!(!file.remove("b").unwrap());
    assert_eq!(file.list().unwrap(), ["a"]);
}

#[test]
fn nothing_on_the_disk_shows_a_value_or_is_open_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = plain(dir.path());
    file.set("name-of-it", secret("s3cret-value")).unwrap();
    assert_eq!(mode(&dir.path().join("store")), 0o700);
    for entry in std::fs::read_dir(dir.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
        let bytes = std::fs::read(&path).unwrap();
        for text in ["s3cret-value", "name-of-it"] {
            assert!(memchr::memmem::find(&bytes, text.as_bytes()).is_none(), "{path:?}");
        }
    }
}

#[test]
fn a_passphrase_opens_it_and_another_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (dir.path().join("right"), dir.path().join("wrong"));
    std::fs::write(&right, "correct horse\n").unwrap();
    std::fs::write(&wrong, "battery staple\n").unwrap();
    let with = |words: &Path| EncryptedFile::new(dir.path(), KeySource::Passphrase(words.to_owned()));
    with(&right).set("k", secret("v")).unwrap();
    assert!(with(&right).get("k").unwrap().unwrap().matches(b"v"));
    assert!(!dir.path().join("secrets.key").exists());
    let error = with(&wrong).set("k", secret("other")).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    assert!(
        error.to_string().contains("wrong"),
        "names the passphrase's file: {error}"
    );
    let error = EncryptedFile::new(dir.path(), KeySource::File).get("k").unwrap_err();
    assert!(matches!(error, Error::NoKey(_)), "{error}");
    assert!(
        with(&right).get("k").unwrap().unwrap().matches(b"v"),
        "untouched by the failures"
    );
}

#[test]
fn another_key_is_told_from_a_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = plain(dir.path());
    file.set("k", secret("v")).unwrap();
    let key = dir.path().join("store/secrets.key");
    let sealed = std::fs::read(file.path()).unwrap();

    for cut in [0, 10, sealed.len() / 2, sealed.len() - 1] {
        std::fs::write(file.path(), &sealed[..cut]).unwrap();
        let error = file.all().unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "cut at {cut}: {error}");
    }
    let mut flipped = sealed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(file.path(), &flipped).unwrap();
    assert!(matches!(file.all(), Err(Error::Damaged { .. })));

    std::fs::write(file.path(), &sealed).unwrap();
    let own = std::fs::read_to_string(&key).unwrap();
    let other = age::x25519::Identity::generate().to_string();
    std::fs::write(&key, age::secrecy::ExposeSecret::expose_secret(&other)).unwrap();
    assert!(matches!(file.all(), Err(Error::WrongKey { .. })));
    std::fs::write(&key, "not a key").unwrap();
    assert!(matches!(file.all(), Err(Error::BadKey(_))));
    std::fs::write(&key, own).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(file.all(), Err(Error::KeyOpen(_))));
}

#[test]
fn a_lost_key_is_never_replaced_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = plain(dir.path());
    file.set("k", secret("v")).unwrap();
    let sealed = std::fs::read(file.path()).unwrap();
    std::fs::remove_file(dir.path().join("store/secrets.key")).unwrap();
    assert!(matches!(file.set("other", secret("v")), Err(Error::NoKey(_))));
    assert_eq!(std::fs::read(file.path()).unwrap(), sealed);
}

#[test]
fn writers_at_one_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let file = plain(dir.path());
            scope.spawn(move || {
                for number in 0..10 {
                    file.set(&format!("{writer}-{number}"), secret("v")).unwrap();
                }
            });
        }
    });
    assert_eq!(plain(dir.path()).list().unwrap().len(), 40);
}

#[test]
fn odd_names_and_values_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = plain(dir.path());
    for name in ["", "a b", "a\nb", "é", &"n".repeat(129)] {
        assert!(matches!(file.set(name, secret("v")), Err(Error::Name(_))), "{name:?}");
    }
    let bytes = Secret::new(vec![0xff, 0xfe]).unwrap();
    assert!(matches!(file.set("k", bytes), Err(Error::NotText(_))));
}

#[test]
fn the_keyring_holds_the_key_or_says_that_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let file = EncryptedFile::new(dir.path(), KeySource::Keyring);
    match file.set("k", secret("v")) {
        Ok(()) => {
            assert!(file.get("k").unwrap().unwrap().matches(b"v"));
            assert!(!dir.path().join("secrets.key").exists());
            super::super::key::forget(dir.path());
            assert!(matches!(file.get("k"), Err(Error::KeyringEmpty)));
            assert!(matches!(file.set("k", secret("v")), Err(Error::KeyringEmpty)));
        }
        // A container may forbid the system calls; then the message names the way out.
        Err(error) => assert!(error.to_string().contains("KEYFERRY_STORE_KEY"), "{error}"),
    }
}
