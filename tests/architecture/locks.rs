//! The two lock files, that of the program and that of its fuzz targets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Versions that only targets are linked with, and nothing that is fuzzed: that of the second parser of HTTP/1.1.
const OF_TARGETS_ALONE: [(&str, &str); 1] = [("nom", "8.0.0")];

/// What is fuzzed is what is shipped, and what the tests have built is not built again.
#[test]
fn fuzz_targets_pin_the_versions_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [program, mut fuzz] =
        ["Cargo.lock", "fuzz/Cargo.lock"].map(|file| versions(&fs::read_to_string(root.join(file)).unwrap()));
    assert!(fuzz.contains_key("flow-uring") && fuzz.contains_key("libfuzzer-sys"));
    for (name, version) in OF_TARGETS_ALONE {
        assert!(fuzz.get_mut(name).is_some_and(|versions| versions.remove(version)), "{name} is {version} no more");
    }
    let others = others(&program, &fuzz);
    assert!(
        others.is_empty(),
        "fuzz/Cargo.lock has other versions than Cargo.lock:\n{}\nTo renew it: cp Cargo.lock fuzz/ && \
         cargo metadata --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null",
        others.join("\n")
    );
}

/// Lists the packages of which `fuzz` has a version that `program`, which has them too, does not have.
fn others(program: &BTreeMap<String, BTreeSet<String>>, fuzz: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let known = fuzz.iter().filter_map(|(name, versions)| Some((name, versions, program.get(name)?)));
    let other = known.filter(|(_, versions, known)| !versions.is_subset(known));
    other.map(|(name, versions, known)| format!("  {name}: {versions:?}, not {known:?}")).collect()
}

/// The versions of each package of a lock file.
fn versions(lock_file: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = "";
    for line in lock_file.lines() {
        let value = |key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        if let Some(found) = value("name") {
            name = found;
        } else if let Some(version) = value("version") {
            packages.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_in_another_version_is_found() {
        let lock = |packages: &[(&str, &str)]| {
            let package =
                |(name, version): &(&str, &str)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
            versions(&packages.iter().map(package).collect::<Vec<_>>().join("\n"))
        };
        let program = lock(&[("a", "1.0.0"), ("a", "2.0.0"), ("b", "1.0.0")]);
        assert_eq!(others(&program, &lock(&[("a", "2.0.0"), ("c", "1.0.0")])), Vec::<String>::new());
        assert_eq!(others(&program, &lock(&[("a", "1.0.0"), ("b", "1.0.1")])).len(), 1);
        assert_eq!(others(&program, &lock(&[("a", "3.0.0")])).len(), 1);
    }
}
