#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
use super::*;
use crate::base::host::Target;
use crate::config::model::AuditSink;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(20);

fn spec(path: &Path, rotate_at: u64, keep: u32) -> AuditSpec {
    AuditSpec {
        sink: AuditSink::File {
            path: path.to_owned(),
            rotate_at,
            keep,
        },
        when_full: WhenFull::Count,
    }
}

fn record(number: usize) -> Record {
    let mut record = Record::begin(format!("{number}"));
    record.agent = Some("ci".into());
    record
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn last line in {path:?}");
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_record_is_one_whole_line_whoever_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = Log::open(&spec(&path, 0, 0)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = log.clone();
            scope.spawn(move || (0..500).for_each(|n| log.write(record(thread * 500 + n))));
        }
    });
    assert_eq!(log.finish(LONG), 0);
    let mut ids: Vec<usize> = lines(&path)
        .iter()
        .map(|l| l["request_id"].as_str().unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..2000).collect::<Vec<_>>());
}

#[test]
fn a_file_is_turned_over_between_lines_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = Log::open(&spec(&path, 2_000, 2)).unwrap();
    (0..200).for_each(|n| log.write(record(n)));
    assert_eq!(log.finish(LONG), 0);
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
    for name in &names {
        let path = dir.path().join(name);
        assert!(std::fs::metadata(&path).unwrap().len() <= 2_000);
        assert!(!lines(&path).is_empty());
    }
    assert_eq!(lines(&path).last().unwrap()["request_id"], "199");
}

#[test]
fn after_a_reopen_lines_go_to_the_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("moved"));
    let log = Log::open(&spec(&path, 0, 0)).unwrap();
    log.write(record(1));
    until("the first line", || lines(&path).len() == 1);
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    until("a new file", || path.exists());
    log.write(record(2));
    log.finish(LONG);
    assert_eq!(lines(&moved)[0]["request_id"], "1");
    assert_eq!(lines(&path)[0]["request_id"], "2");
}

#[test]
fn a_full_disk_never_stalls_is_counted_and_told_of_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let log = Log::open(&spec(&path, 0, 0)).unwrap();
    let written = writer::QUEUE * 2;
    (0..written).for_each(|n| log.write(record(n)));
    until("the failure to show", || log.is_failing());
    assert!(log.accepts(), "counting was asked for, not refusing");
    let lost = log.lost();
    assert!(lost > 0);

    std::fs::remove_file(&path).unwrap();
    log.reopen();
    until("the sink to work again", || !log.is_failing());
    assert_eq!(log.finish(LONG), lost);
    let found = lines(&path);
    let said: u64 = found.iter().filter_map(|l| l["lost"].as_u64()).sum();
    let kept = found.iter().filter(|l| l["request_id"].is_string()).count();
    assert_eq!((said, kept as u64 + said), (lost, written as u64));
}

#[test]
fn refusing_lasts_as_long_as_the_sink_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut spec = spec(&path, 0, 0);
    spec.when_full = WhenFull::Refuse;
    let log = Log::open(&spec).unwrap();
    assert!(log.accepts());
    log.write(record(1));
    until("refusing", || !log.accepts());
    // No new exchange comes, and still the log finds its way back.
    std::fs::remove_file(&path).unwrap();
    log.reopen();
    until("accepting", || log.accepts());
    assert_eq!((log.finish(LONG), lines(&path).len()), (0, 1));
}

#[test]
fn a_reader_that_does_not_read_cannot_hold_up_an_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let log = Log::open(&spec(&path, 0, 0)).unwrap();
    let mut end = BufReader::new(std::fs::File::open(&path).unwrap());
    let written = writer::QUEUE * 3;
    (0..written).for_each(|n| log.write(record(n)));
    assert!(log.lost() > 0);
    let (mut kept, mut said) = (0, 0);
    while kept + said < written {
        let mut line = String::new();
        end.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        match line["lost"].as_u64() {
            Some(lost) => said += usize::try_from(lost).unwrap(),
            None => kept += 1,
        }
    }
    assert_eq!(kept + said, written);
}

#[test]
fn what_cannot_be_written_at_the_end_is_counted_as_lost() {
    let log = Log::open(&spec(Path::new("/dev/full"), 0, 0)).unwrap();
    (0..10).for_each(|n| log.write(record(n)));
    assert_eq!(log.finish(LONG), 10);
}

#[test]
fn a_half_line_of_a_crash_is_taken_away_and_counted_and_a_strangers_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    for (left, kept, lost) in [
        ("{\"ti", "", 1),
        ("{\"time\":\"2026", "", 1),
        ("{\"a\":1}\n{", "{\"a\":1}\n", 1),
        ("{\"a\":1}\n", "{\"a\":1}\n", 0),
        ("a note", "a note\n", 0),
    ] {
        std::fs::write(&path, left).unwrap();
        let log = Log::open(&spec(&path, 0, 0)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "after {left:?}");
        log.write(record(1));
        assert_eq!(log.finish(LONG), lost);
        let text = std::fs::read_to_string(&path).unwrap();
        let new = text.strip_prefix(kept).unwrap().lines();
        let new: Vec<Value> = new.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(new.iter().filter(|l| l["request_id"] == "1").count(), 1, "{text}");
        assert_eq!(
            new.iter().filter_map(|l| l["lost"].as_u64()).sum::<u64>(),
            lost,
            "{text}"
        );
    }
}

#[test]
fn several_that_share_a_file_lose_no_line_when_it_is_turned_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let logs: Vec<_> = (0..4)
        .map(|_| Log::open(&spec(&path, 20_000, 1_000)).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (at, log) in logs.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..1_000 {
                    log.write(record(at * 1_000 + n));
                    std::thread::sleep(Duration::from_micros(150));
                }
            });
        }
    });
    assert!(logs.iter().all(|log| log.finish(LONG) == 0));
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            std::fs::metadata(&path).unwrap().len() < 100_000,
            "{path:?} was not turned over"
        );
        let found = lines(&path);
        ids.extend(
            found
                .iter()
                .map(|l| l["request_id"].as_str().unwrap().parse::<usize>().unwrap()),
        );
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..4_000).collect::<Vec<_>>());
}

#[test]
fn a_file_that_cannot_be_made_after_turning_over_is_made_later_and_no_older_one_suffers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut file = super::super::rotating::Rotating::open(&path, 10, 3).unwrap();
    for old in 1..=3 {
        std::fs::write(dir.path().join(format!("audit.jsonl.{old}")), format!("old {old}\n")).unwrap();
    }
    assert_eq!(file.append(b"{\"time\":1}\n").0, 11);
    // As when no descriptor is left: the path is taken by something that cannot be opened.
    std::fs::rename(&path, dir.path().join("aside")).unwrap();
    std::fs::create_dir(&path).unwrap();
    for _ in 0..5 {
        assert!(file.rotate().is_err());
        assert_eq!(file.append(b"{\"time\":2}\n").0, 11);
    }
    std::fs::remove_dir(&path).unwrap();
    file.rotate().unwrap();
    assert_eq!(file.append(b"{\"time\":3}\n").0, 11);
    assert_eq!((lines(&path).len(), lines(&dir.path().join("aside")).len()), (1, 6));
    for old in 1..=3 {
        let text = std::fs::read_to_string(dir.path().join(format!("audit.jsonl.{old}"))).unwrap();
        assert_eq!(text, format!("old {old}\n"));
    }
}

#[test]
fn totals_and_tail_hold_without_a_sink() {
    let log = Log::open(&AuditSpec {
        sink: AuditSink::None,
        when_full: WhenFull::Count,
    })
    .unwrap();
    for code in ["denied_by_policy", "denied_again"] {
        let mut denied = record(0);
        denied.outcome = Outcome::Denied;
        denied.code = code;
        denied.target = Some(Target::parse("evil.test:443", None).unwrap());
        log.write(denied);
    }
    (1..=writer::TAIL + 5).for_each(|n| log.write(record(n)));
    let totals = log.totals();
    assert_eq!(
        (totals.allowed, totals.denied, totals.failed),
        (writer::TAIL as u64 + 5, 2, 0)
    );
    let first = totals.first_denial.unwrap();
    assert_eq!(
        (first.code, first.host.unwrap().to_string()),
        ("denied_by_policy", "evil.test".to_owned())
    );
    log.finish(LONG);
    let tail = log.tail(usize::MAX);
    assert_eq!((tail.len(), &*tail[0].request_id), (writer::TAIL, "6"));
    assert_eq!(&*log.tail(1)[0].request_id, format!("{}", writer::TAIL + 5));
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // A directory that is missing is made; one that is a file cannot be.
    std::fs::write(dir.path().join("none"), "").unwrap();
    let path = dir.path().join("none/audit.jsonl");
    let error = Log::open(&spec(&path, 0, 0)).unwrap_err().to_string();
    assert!(error.contains("none/audit.jsonl"), "{error}");
}
