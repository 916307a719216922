//! `.env`: what python-dotenv reads in it, bounded, and the same when it is written and read again.

#![no_main]

use flow_uring::fuzz::DotEnv;
use flow_uring_fuzz::dotenv;
use libfuzzer_sys::fuzz_target;

/// The most that all values have together: that of the file.
const VALUES_BYTES_MAX: usize = 1024 * 1024;

/// Stands in the file for each `~`, so that it is seen wherever it is told.
const MARK: &str = "hunter2-hunter2";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = text.replace('~', MARK);
    let parsed = DotEnv::parse(&text, &environment);
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let told = format!("{error} {error:?}");
            assert!(!told.contains(MARK), "a value is told");
            // A few bytes can stand for many; the reference would write them all.
            assert!(told.contains("longer than") || dotenv::read(&text, &environment).is_none(), "{told}");
            return;
        }
    };
    let expected = dotenv::read(&text, &environment).expect("a line that cannot be read");
    assert!(expected.iter().map(|(_, value)| value.len()).sum::<usize>() <= VALUES_BYTES_MAX);
    for (name, _) in &expected {
        let last = expected.iter().rfind(|known| known.0 == *name).expect("it is there");
        assert_eq!(parsed.find(name).map(|found| found.0), Some(&*last.1), "{name:?}");
    }
    assert_eq!(parsed.find("no such name"), None);
    check_written_again(&expected);
});

/// The variables of the environment.
fn environment(name: &str) -> Option<String> {
    (name == "FROM_ENV").then(|| "outside".to_owned())
}

/// Written in quotes, the assignments are read as they were.
fn check_written_again(assignments: &[(String, String)]) {
    let quoted = |(name, value): &(String, String)| {
        let is_plain = |character: char| !character.is_whitespace() && !"=#'".contains(character);
        let name = if name.chars().all(is_plain) { name.clone() } else { format!("'{name}'") };
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        format!("{name}='{value}'\n")
    };
    // A quote within a name cannot be written in quotes, and a reference is one in quotes too.
    if assignments.iter().any(|(name, value)| name.contains('\'') || value.contains("${")) {
        return;
    }
    // After an empty line a byte order mark is part of a name.
    let text: String = assignments.iter().map(quoted).collect();
    let parsed = DotEnv::parse(&format!("\n{text}"), &environment).expect("readable");
    for (name, _) in assignments {
        let last = assignments.iter().rfind(|known| known.0 == *name).expect("it is there");
        assert_eq!(parsed.find(name).map(|found| found.0), Some(&*last.1), "{name:?}");
    }
}
