use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

/// Names the file to a child that writes to it until it is killed.
const CHILD_FILE: &str = "FLOW_URING_TEST_USAGE_FILE";
/// The rounds of that test, each of which kills a writer, and the time for all of them.
const KILLS_MAX: usize = 40;
const KILLS_LIMIT: Duration = Duration::from_secs(4);
/// About the time of one write on a fast disk, so that a kill meets any part of it.
const PHASE_MICROS_MAX: u64 = 6_000;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn row(hour: u64, key: &str, model: &str, count: u64) -> UsageRow {
    let of = UsageKey { key: key.into(), credential: "team".into(), model: model.into() };
    UsageRow { hour: UnixHour(hour), of, sums: UsageSums::of_counts(std::array::from_fn(|index| count + index as u64)) }
}

fn open(path: &Path) -> UsageStore {
    UsageStore::open(path).expect("opened")
}

fn rows(path: &Path, since: u64) -> Vec<UsageRow> {
    let mut rows = Vec::new();
    UsageStore::open_existing(path).and_then(|store| store.read(UnixHour(since), |row| rows.push(row))).expect("read");
    rows
}

fn fault(result: Result<UsageStore, StoreError>) -> (StoreFault, String) {
    let error = result.err().expect("refused");
    let text = error.to_string();
    (error.fault, text)
}

#[test]
fn what_is_added_is_there_for_the_next_one_who_opens_the_file_and_grows_by_what_comes() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    open(&path).add(&[row(5, "", "a", 1), row(6, "alice", "a", 10)]).expect("added");
    open(&path).add(&[row(6, "alice", "a", 100), row(6, "alice", "b\0\u{1b}é", 1)]).expect("added");
    let mut both = row(6, "alice", "a", 10);
    both.sums += row(6, "alice", "a", 100).sums;
    let expected = [row(5, "", "a", 1), both.clone(), row(6, "alice", "b\0\u{1b}é", 1)];
    assert_eq!(rows(&path, 0), expected);
    assert_eq!(rows(&path, 6), expected[1..]);
    let mut sums = both.sums;
    sums += expected[2].sums;
    let by_key = open(&path).sums_by_key(UnixHour(6)).expect("read");
    assert_eq!(by_key.into_iter().collect::<Vec<_>>(), [("alice".into(), sums)]);
}

#[test]
fn counts_are_exact_up_to_the_greatest_integer_and_stay_there() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    const MOST: u64 = i64::MAX as u64;
    for (added, expected) in [(MOST - 1, MOST - 1), (1, MOST), (1, MOST), (u64::MAX, MOST)] {
        let sums = UsageSums::of_counts([added; COUNTS]);
        open(&path).add(&[UsageRow { sums, ..row(1, "k", "m", 0) }]).expect("added");
        assert_eq!(rows(&path, 0)[0].sums.counts(), [expected; COUNTS], "{added}");
    }
}

#[test]
fn the_file_and_its_directories_are_made_for_this_user_alone() {
    let directory = directory();
    let path = directory.path().join("a/b/usage.sqlite");
    open(&path).add(&[row(1, "k", "m", 1)]).expect("added");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("one"))), (0o600, 0o700));
    assert_eq!(mode(&directory.path().join("a")), 0o700);
}

#[test]
fn what_is_no_regular_file_is_left_alone() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("directory")).expect("made");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
    symlink("nowhere", at("link")).expect("made");
    for path in [at("directory"), at("pipe"), at("link"), "/dev/null".into()] {
        let (found, text) = fault(UsageStore::open(&path));
        assert!(matches!(found, StoreFault::NotAFile), "{path:?}: {found:?}");
        assert!(text.contains("is not a regular file; choose another --usage-db"), "{text}");
    }
    assert!(!at("nowhere").exists());
    let (found, text) = fault(UsageStore::open_existing(&at("absent/usage.sqlite")));
    assert!(matches!(found, StoreFault::Absent) && text.contains("no gateway has written one there yet"), "{text}");
    assert!(!at("absent").exists());
}

#[test]
fn a_directory_that_cannot_be_made_is_told_with_what_to_do() {
    let directory = directory();
    std::fs::write(directory.path().join("file"), "").expect("written");
    let (found, text) = fault(UsageStore::open(&directory.path().join("file/usage.sqlite")));
    assert!(matches!(found, StoreFault::File(_)), "{found:?}");
    assert!(text.ends_with("choose another --usage-db"), "{text}");
    let (found, text) = fault(UsageStore::open(Path::new("/proc/none/usage.sqlite")));
    assert!(matches!(found, StoreFault::Directory(_)), "{found:?}");
    assert!(text.ends_with("make it, or choose another --usage-db"), "{text}");
}

#[test]
fn damaged_foreign_and_newer_files_are_told_apart_and_stay_as_they_are() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    let sqlite = |statements: &str| {
        let _ = std::fs::remove_file(&path);
        open(&path).add(&[row(1, "k", "m", 1)]).expect("added");
        Connection::open(&path).and_then(|database| database.execute_batch(statements)).expect("executed");
        std::fs::read(&path).expect("read")
    };
    let foreign = sqlite("PRAGMA application_id = 0");
    let newer = sqlite("PRAGMA user_version = 7");
    let whole = sqlite("");
    let damaged = [&whole[..whole.len() / 2], &[0xff; 5000]].concat();
    for (content, kind, advice) in [
        (foreign, "Foreign", "is a database of another program"),
        (newer, "Newer", "was written by a newer flow-uring (its form is number 7)"),
        (b"no database, whatever its name says".repeat(50), "Damaged", "move it away and a new one is made"),
        (damaged, "Damaged", "move it away and a new one is made"),
    ] {
        std::fs::write(&path, &content).expect("written");
        let used = UsageStore::open(&path).and_then(|mut store| store.add(&[row(1, "k", "m", 1)]));
        let error = used.expect_err("refused");
        assert!(format!("{:?}", error.fault).starts_with(kind), "{kind}: {error:?}");
        assert!(error.to_string().contains(advice), "{error}");
        assert_eq!(std::fs::read(&path).expect("read"), content, "{kind}: untouched");
    }
}

#[test]
fn a_full_disk_takes_all_rows_of_a_write_or_none() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    open(&path).add(&[row(1, "k", "m", 1)]).expect("added");
    let mut store = open(&path);
    store.connection.execute_batch("PRAGMA max_page_count = 3").expect("limited");
    let many: Vec<UsageRow> = (0..500).map(|hour| row(hour, "k", "m", 1)).collect();
    let error = store.add(&many).expect_err("no room");
    assert!(matches!(error.fault, StoreFault::Full(_)), "{error:?}");
    assert_eq!(rows(&path, 0), [row(1, "k", "m", 1)]);
    store.connection.execute_batch("PRAGMA max_page_count = 1000").expect("room again");
    store.add(&many).expect("added");
    assert_eq!(rows(&path, 0).len(), 500);
}

#[test]
fn one_who_reads_while_another_is_about_to_write_reads_what_was_there() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    open(&path).add(&[row(1, "k", "m", 1)]).expect("added");
    let writer = open(&path);
    writer.connection.execute_batch("BEGIN IMMEDIATE; UPDATE usage SET requests = 99").expect("begun");
    assert_eq!(rows(&path, 0), [row(1, "k", "m", 1)]);
    let other = open(&path);
    other.connection.busy_timeout(Duration::ZERO).expect("set");
    let error = { other }.add(&[row(1, "k", "m", 1)]).expect_err("it has to wait");
    assert!(matches!(error.fault, StoreFault::Busy(_)), "{error:?}");
}

#[test]
fn any_bytes_in_the_place_of_the_file_are_an_error_at_worst() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    open(&path).add(&(0..200).map(|hour| row(hour, "k", "m", 1)).collect::<Vec<_>>()).expect("added");
    let whole = std::fs::read(&path).expect("read");
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let mut content = whole.clone();
        for _ in 0..random.usize(1..20) {
            let at = random.usize(0..content.len());
            content[at] = random.u8(..);
        }
        content.truncate(random.usize(0..=content.len()));
        std::fs::write(&path, &content).expect("written");
        if let Ok(mut store) = UsageStore::open(&path) {
            let _ = store.read(UnixHour(0), drop);
            let _ = store.add(&[row(1, "k", "m", 1)]);
            let _ = store.prune(UnixHour(1_000_000));
        }
        let _ = std::fs::remove_file(path.with_extension("sqlite-journal"));
    }
}

#[test]
fn rows_are_kept_400_days_and_a_clock_far_ahead_deletes_none() {
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    let now = 500 * 24;
    let mut store = open(&path);
    let days: Vec<UsageRow> = (90..=500).map(|day| row(day * 24, "k", "m", 1)).collect();
    store.add(&days).expect("added");
    store.prune(UnixHour(now)).expect("pruned");
    assert_eq!(rows(&path, 0)[0].hour, UnixHour(now - KEPT_DAYS * 24));
    let ahead = UnixHour(100_000 * 24);
    store.add(&[row(ahead.0, "k", "m", 1)]).expect("added");
    store.prune(ahead).expect("pruned");
    assert_eq!(rows(&path, 0).len(), 402);
    store.prune(UnixHour(0)).expect("pruned");
    assert_eq!(rows(&path, 0).len(), 402);
}

#[test]
fn gateways_that_write_at_once_lose_nothing_and_count_nothing_twice() {
    const WRITERS: usize = 4;
    const WRITES: usize = 10;
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    let begin = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                begin.wait();
                for _ in 0..WRITES {
                    // One who is kept waiting for longer than the timeout tries again, as the keeper does.
                    while let Err(error) =
                        UsageStore::open(&path).and_then(|mut store| store.add(&[row(1, "k", "m", 1)]))
                    {
                        assert!(matches!(error.fault, StoreFault::Busy(_)), "{error}");
                    }
                }
            });
        }
    });
    assert_eq!(rows(&path, 0)[0].sums.requests, (WRITERS * WRITES) as u64);
}

#[test]
fn a_writer_that_is_killed_loses_nothing_that_was_added_and_never_the_file() {
    if let Ok(path) = std::env::var(CHILD_FILE) {
        return write_until_killed(Path::new(&path));
    }
    let directory = directory();
    let path = directory.path().join("usage.sqlite");
    let begin = Instant::now();
    let (mut written, mut hot_journals) = (0, 0);
    for kill in 0..KILLS_MAX {
        if kill > 3 && begin.elapsed() > KILLS_LIMIT {
            break;
        }
        let test = "usage::store::tests::a_writer_that_is_killed_loses_nothing_that_was_added_and_never_the_file";
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", test, "--nocapture"]).env(CHILD_FILE, &path);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("started");
        // Open until the child is dead, which would end by itself otherwise.
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let told = lines.by_ref().filter(|line| line == "added").take(1 + kill % 5).count();
        // In the middle of whatever it is doing then: chance decides how far it has come.
        std::thread::sleep(Duration::from_micros(fastrand::u64(..PHASE_MICROS_MAX)));
        child.kill().expect("killed");
        child.wait().expect("a child");
        hot_journals += usize::from(path.with_extension("sqlite-journal").exists());
        written += told as u64;
        let found = rows(&path, 0);
        let requests = found.iter().map(|row| row.sums.requests).max().expect("a row");
        assert!(requests >= written, "{requests} of {written} were kept");
        assert!(found.iter().all(|row| row.sums.requests == requests), "a transaction is whole or nothing");
        written = requests;
        let database = Connection::open(&path).expect("opened");
        let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(verdict, "ok");
    }
    // A note for those who read the output; chance decides.
    println!("{written} writes, {hot_journals} cut off");
}

/// Adds one to many rows at once, so that a transaction is of several pages, and tells of each.
fn write_until_killed(path: &Path) {
    let many: Vec<UsageRow> = (0..300)
        .map(|model| UsageRow {
            sums: UsageSums { requests: 1, ..UsageSums::default() },
            ..row(1, "k", &format!("model {model}"), 0)
        })
        .collect();
    loop {
        open(path).add(&many).expect("added");
        // The line before it may be one of the test's own.
        println!("\nadded");
    }
}
