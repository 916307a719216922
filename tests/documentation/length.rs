//! The entry pages stay short: what a newcomer needs, and links to the rest.

use super::pages::Page;

/// As `wc -w` counts. About five minutes of reading: what does not fit belongs into docs/.
const WORDS_MAX: usize = 1_800;

/// The same text in Chinese: 1.4 signs for a word of English, where all that is not Chinese counts by words.
const SIGNS_MAX: usize = 2_500;

#[test]
fn entry_pages_are_short() {
    let original = words(&Page::named("README.md").text);
    assert!(original <= WORDS_MAX, "README.md has {original} words, more than {WORDS_MAX}: move some of it to docs/");
    let translation = signs_and_words(&Page::named("README.zh-CN.md").text);
    assert!(translation <= SIGNS_MAX, "README.zh-CN.md has {translation} signs and words, more than {SIGNS_MAX}");
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Each Chinese sign, and each word between them.
fn signs_and_words(text: &str) -> usize {
    let signs = text.chars().filter(|sign| is_ideograph(*sign)).count();
    signs + words(&text.replace(is_not_of_a_word, " "))
}

fn is_not_of_a_word(sign: char) -> bool {
    is_ideograph(sign) || ('\u{3000}'..='\u{303f}').contains(&sign) || ('\u{ff00}'..='\u{ffef}').contains(&sign)
}

/// Of the block CJK Unified Ideographs.
fn is_ideograph(sign: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&sign)
}

#[test]
fn chinese_is_counted_by_signs_and_the_rest_by_words() {
    assert_eq!(signs_and_words("监听 `--host`，或 a b。"), 3 + 3);
    assert_eq!(words("| a | `b c` |\n"), 6);
}
