//! A file of API keys in either form: no mistake tells a value, and a key that is added is found among all that were
//! there.

#![no_main]

use flow_uring::credentials::{ApiKeys, KeyPolicy, NewPermissions, Secret, add_key, as_json};
use libfuzzer_sys::fuzz_target;

/// Stands in the file for each `~`, so that it is seen wherever it is told.
const MARK: &str = "hunter2-hunter2";
const NEW: &str = "fu-a-key-that-is-new";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = text.replace('~', MARK);
    let loaded = ApiKeys::from_text(&text);
    if let Err(fault) = &loaded {
        assert!(!format!("{fault} {fault:?}").contains(MARK), "a value is told");
    }
    let nothing = KeyPolicy::default();
    let added = add_key(Some(&text), "new", &Secret::new(NEW.to_owned()), NewPermissions::Stated(&nothing));
    match (&added, &loaded) {
        (Ok(after), before) => {
            let after = ApiKeys::from_text(after).expect("valid").keys;
            assert!(after.find(NEW.as_bytes()).is_some_and(|id| after.name(id) == "new"));
            // Without it there may have been no key at all.
            let count = before.as_ref().map_or(0, |before| before.keys.len());
            assert_eq!(after.len(), count + 1);
        }
        (Err(reason), _) => assert!(!format!("{reason} {reason:?}").contains(MARK), "a value is told"),
    }
    if let Ok(json) = as_json(&text) {
        let (before, after) = (loaded.expect("lines").keys, ApiKeys::from_text(&json).expect("valid").keys);
        assert!(before.names().eq(after.names()) && before.digests().eq(after.digests()));
    }
});
