//! The prompt cache of the models that the demo plays: the beginning of a prompt that the same credential has sent
//! before, to the same model and not long ago, comes from it.
//!
//! As providers do: by the account, in blocks from the first word on, for five minutes since the last use. Invariant:
//! it knows digests alone, of at most [`PREFIXES_MAX`] prompts and parts of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// The words of a block: prompts of the demo are short. (OpenAI's blocks have 128 tokens.)
const BLOCK_WORDS: usize = 8;

/// The time since its last use for which a beginning is kept, as Anthropic's by default.
const LIFE: Duration = Duration::from_secs(300);

/// Limit on the beginnings that are kept: a hundred conversations of 20,000 words. With more, all are forgotten.
const PREFIXES_MAX: usize = 262_144;

/// The beginnings of prompts, by their digests, with their last use.
#[derive(Debug, Default)]
pub struct PromptCache(RefCell<HashMap<u64, Instant>>);

/// The words of a prompt that have to do with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CachedWords {
    pub read: usize,
    pub written: usize,
}

impl PromptCache {
    /// Looks up a prompt, and keeps it.
    pub fn take<'a>(
        &self,
        credential: &str,
        model: &str,
        prompt: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> CachedWords {
        let mut prefixes = self.0.borrow_mut();
        let mut hasher = DefaultHasher::new();
        (credential, model).hash(&mut hasher);
        let mut words = CachedWords::default();
        for (number, word) in (1..).zip(prompt) {
            word.hash(&mut hasher);
            if number % BLOCK_WORDS != 0 {
                continue;
            }
            if prefixes.len() >= PREFIXES_MAX {
                prefixes.clear();
            }
            let used = prefixes.insert(hasher.finish(), now);
            if used.is_some_and(|used| now.saturating_duration_since(used) < LIFE) && words.written == 0 {
                words.read += BLOCK_WORDS;
            } else {
                words.written += BLOCK_WORDS;
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(words: usize) -> Vec<String> {
        (0..words).map(|number| format!("word-{number}")).collect()
    }

    fn take(cache: &PromptCache, credential: &str, prompt: &[String], now: Instant) -> (usize, usize) {
        let words = cache.take(credential, "m", prompt.iter().map(String::as_str), now);
        (words.read, words.written)
    }

    #[test]
    fn the_beginning_that_the_same_credential_has_sent_comes_from_the_cache() {
        let (cache, now) = (PromptCache::default(), Instant::now());
        assert_eq!(take(&cache, "a", &prompt(20), now), (0, 16));
        assert_eq!(take(&cache, "a", &prompt(35), now), (16, 16));
        assert_eq!(take(&cache, "b", &prompt(35), now), (0, 32), "another account");
        let mut other = prompt(35);
        other[9] = "else".to_owned();
        assert_eq!(take(&cache, "a", &other, now), (8, 24), "it differs from its tenth word on");
        let of_other_model = cache.take("a", "n", prompt(20).iter().map(String::as_str), now);
        assert_eq!(of_other_model, CachedWords { read: 0, written: 16 });
        assert_eq!(take(&cache, "a", &prompt(7), now), (0, 0));
    }

    #[test]
    fn it_is_kept_for_five_minutes_since_its_last_use() {
        let (cache, now) = (PromptCache::default(), Instant::now());
        take(&cache, "a", &prompt(16), now);
        let later = now + LIFE - Duration::from_secs(1);
        assert_eq!(take(&cache, "a", &prompt(8), later), (8, 0));
        assert_eq!(take(&cache, "a", &prompt(16), now + LIFE), (8, 8));
    }

    #[test]
    fn so_many_beginnings_are_kept_and_no_more() {
        let (cache, now) = (PromptCache::default(), Instant::now());
        cache.take("a", "m", std::iter::repeat_n("word", 2 * PREFIXES_MAX * BLOCK_WORDS), now);
        assert!(cache.0.borrow().len() <= PREFIXES_MAX);
    }
}
