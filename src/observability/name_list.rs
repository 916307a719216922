//! Lists of names, cut to a bounded number.
//!
//! Invariant: as a text from outside (`shortened`), no list makes a line long: there may be 50,000 keys.

/// The names that are told: a line of them fits on a wide screen.
const NAMES_SHOWN_MAX: usize = 16;

/// Lists the first names, and the number of the others: `a, b and 9998 more`.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<&str> = names.by_ref().take(NAMES_SHOWN_MAX).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_is_short() {
        let names: Vec<String> = (0..10_000).map(|number| format!("n{number}")).collect();
        let list = |count: usize| list_names(names[..count].iter().map(String::as_str));
        assert_eq!((list(0).as_str(), list(1).as_str(), list(3).as_str()), ("", "n0", "n0, n1, n2"));
        assert!(list(16).ends_with(", n15"));
        assert!(list(17).ends_with(", n15 and 1 more") && list(10_000).ends_with(", n15 and 9984 more"));
    }
}
