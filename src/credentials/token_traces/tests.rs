use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::credentials::secrets_file::from_json;
use crate::credentials::token::mint;

/// Returns the token of an identity with this secret, and the secret.
fn token_of(secret: &str) -> (String, Secret) {
    let secret = serde_json::to_string(secret).expect("a string");
    let file = format!(r#"[{{"clientId":"a-client-id","clientSecret":{secret},"tenant":"a-tenant"}}]"#);
    let credentials = from_json(&file).expect("valid").credentials;
    let (_, credential) = credentials.entries().next().expect("an entry");
    let token = mint(credential).expect("minted").expose().to_owned();
    (token, Secret::new(credential.client_secret.expose().to_owned()))
}

/// Secrets of the usual length, short ones, repetitive ones, and such as JSON escapes.
const SECRETS: [&str; 8] = [
    "s3cr3t-of-the-usual-length~abcdefghijklmnop",
    "eight888",
    "seven77",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababab",
    "a \"quoted\" secret\\with é",
    "\"a secret in quotes\"",
    "twelve bytes",
];

/// The parts that count, and how much of each.
struct TracedToken {
    traces: TokenTraces,
    parts: Vec<(Vec<u8>, usize)>,
}

static TRACED: LazyLock<Vec<TracedToken>> = LazyLock::new(|| SECRETS.map(TracedToken::of).into());

impl TracedToken {
    fn of(secret: &str) -> Self {
        let (token, client_secret) = token_of(secret);
        let mut parts: Vec<(Vec<u8>, usize)> =
            token.split('.').skip(1).map(|part| (part.as_bytes().to_vec(), RUN_BYTES_MIN)).collect();
        let escaped = serde_json::to_string(secret).expect("a string");
        for text in [secret, &escaped[1..escaped.len() - 1]] {
            if secret.len() >= SECRET_BYTES_MIN {
                parts.push((text.as_bytes().to_vec(), text.len()));
            }
        }
        TracedToken { traces: TokenTraces::new(&token, &client_secret), parts }
    }

    /// Tells of each byte whether it is in a run, by the definition: slow and certain.
    fn marked(&self, text: &[u8]) -> Vec<bool> {
        let mut marked = vec![false; text.len()];
        for (part, run_bytes) in &self.parts {
            for run in part.windows(*run_bytes) {
                for at in memchr::memmem::find_iter(text, run).chain(overlapping(text, run)) {
                    marked[at..at + run.len()].fill(true);
                }
            }
        }
        marked
    }
}

/// `memmem` skips occurrences that overlap.
fn overlapping<'a>(text: &'a [u8], run: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    text.windows(run.len()).enumerate().filter(move |(_, window)| *window == run).map(|(at, _)| at)
}

fn found(traces: &TokenTraces, text: &[u8]) -> Vec<bool> {
    let mut found = vec![false; text.len()];
    traces.runs_in(text).into_iter().for_each(|run| found[run].fill(true));
    found
}

/// Texts of pieces of the parts, of any length and from any place, and of other bytes.
fn texts(subject: usize) -> impl Strategy<Value = Vec<u8>> {
    let count = TRACED[subject].parts.len();
    let piece =
        (0..count, any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(move |(part, from, to)| {
            let part = &TRACED[subject].parts[part].0;
            let from = from.index(part.len());
            part[from..=from + to.index(part.len() - from)].to_vec()
        });
    let other = prop_oneof![
        Just(b"key expected, received \"".to_vec()),
        Just(b".".to_vec()),
        Just(b"a".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(prop_oneof![3 => piece, 2 => other], 0..8).prop_map(|pieces| pieces.concat())
}

fn subjects_with_texts() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0..SECRETS.len()).prop_flat_map(|subject| (Just(subject), texts(subject)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_run_is_found_and_nothing_else((subject, text) in subjects_with_texts()) {
        let subject = &TRACED[subject];
        let marked = subject.marked(&text);
        prop_assert_eq!(&found(&subject.traces, &text), &marked);
        prop_assert!(subject.traces.may_be_in(&text) || !marked.contains(&true));
    }

    #[test]
    fn what_comes_before_the_open_suffix_is_settled(
        (subject, text) in subjects_with_texts(),
        cut in any::<prop::sample::Index>(),
    ) {
        let subject = &TRACED[subject];
        let cut = cut.index(text.len() + 1);
        let open = subject.traces.open_suffix(&text[..cut]);
        let longest = subject.parts.iter().map(|(_, run_bytes)| *run_bytes).max().unwrap_or(0);
        prop_assert!(cut - open < longest);
        let (before, whole) = (subject.marked(&text[..cut]), subject.marked(&text));
        prop_assert_eq!(&before[..open], &whole[..open]);
        // The rest is found by the suffix and what follows.
        let rest = subject.marked(&text[open..]);
        let either: Vec<bool> = (open..text.len()).map(|at| rest[at - open] || *before.get(at).unwrap_or(&false)).collect();
        prop_assert_eq!(&either, &whole[open..]);
    }
}

#[test]
fn thirty_two_bytes_in_a_row_count_and_thirty_one_do_not() {
    let (token, secret) = token_of(SECRETS[0]);
    let traces = TokenTraces::new(&token, &secret);
    for part in token.split('.').skip(1) {
        for start in 0..=part.len() - RUN_BYTES_MIN {
            for before in ["", "%", "a longer text before it: "] {
                let run = &part[start..start + RUN_BYTES_MIN];
                let text = format!("{before}{run}!");
                let expected = before.len()..before.len() + RUN_BYTES_MIN;
                assert_eq!(traces.runs_in(text.as_bytes()), [expected], "{before:?} {start}");
                assert!(traces.runs_in(&text.as_bytes()[..text.len() - 2]).is_empty(), "{before:?} {start}");
            }
        }
    }
}

#[test]
fn the_header_of_a_token_is_no_part_of_it() {
    let (token, secret) = token_of(SECRETS[0]);
    let header = token.split('.').next().expect("a header");
    assert!(header.len() > RUN_BYTES_MIN && TokenTraces::new(&token, &secret).runs_in(header.as_bytes()).is_empty());
}

#[test]
fn a_secret_in_quotes_is_found_as_json_has_it() {
    let (token, secret) = token_of("\"in quotes\"");
    let written = serde_json::to_string(secret.expose()).expect("a string");
    let runs = TokenTraces::new(&token, &secret).runs_in(written.as_bytes());
    let expected = 1..written.len() - 1;
    assert_eq!(runs, [expected], "all between the quotes of the string itself");
}

#[test]
fn a_secret_of_a_few_bytes_is_found_in_no_word() {
    let (token, secret) = token_of("seven77");
    let traces = TokenTraces::new(&token, &secret);
    assert!(traces.runs_in(b"seven77 is a part of seven777").is_empty());
    assert_eq!(traces.run_bytes_min(), RUN_BYTES_MIN);
}

#[test]
fn nothing_is_found_by_the_traces_of_nothing() {
    let none = TokenTraces::none();
    let text = [b'x'; 100];
    assert_eq!((none.runs_in(&text), none.open_suffix(&text), none.may_be_in(&text)), (vec![], 100, false));
    assert_eq!((none.open_suffix(b""), none.runs_in(b"")), (0, vec![]));
}

#[test]
fn debug_shows_nothing() {
    let (token, secret) = token_of(SECRETS[0]);
    assert_eq!(format!("{:?}", TokenTraces::new(&token, &secret)), "[REDACTED]");
}

#[test]
fn joined_traces_know_all_tokens_and_each_once() {
    let [(one, one_secret), (other, other_secret)] = ["the secret of one", "the secret of another"].map(token_of);
    let traces = [TokenTraces::new(&one, &one_secret), TokenTraces::new(&other, &other_secret)];
    let joined = TokenTraces::joined(&traces[0], &traces[1]);
    let text = format!("{one} {} {other} {}", one_secret.expose(), other_secret.expose());
    assert_eq!(joined.runs_in(text.as_bytes()).len(), 6);
    let again = TokenTraces::joined(&joined, &traces[0]);
    assert_eq!((again.parts.len(), joined.parts.len()), (6, 6));
    assert_eq!(again.runs_in(text.as_bytes()), joined.runs_in(text.as_bytes()));
}

#[test]
fn neither_parts_nor_grams_grow_beyond_the_room_that_was_set_aside() {
    let (token, secret) = token_of("a \"quoted\" secret");
    let traces = TokenTraces::new(&token, &secret);
    let room = token.len() + secret.expose().len() + secret.expose().len() + 2;
    assert_eq!((traces.bytes.capacity(), traces.grams.capacity()), (room, room));
}

#[test]
fn of_a_secret_three_bytes_are_kept_back_in_doubt_and_half_at_a_cut() {
    let (token, secret) = token_of("eight888");
    let traces = TokenTraces::new(&token, &secret);
    let kept = |text: &str, end| text.len() - traces.suffix(text.as_bytes(), end);
    for (text, expected) in
        [("an ei", [2, 0, 0]), ("an eig", [3, 3, 0]), ("an eigh", [4, 4, 4]), ("eight88", [7, 7, 7])]
    {
        let found = [TextEnd::GoesOn, TextEnd::Undecided, TextEnd::Cut].map(|end| kept(text, end));
        assert_eq!(found, expected, "{text}");
    }
    let payload = token.split('.').nth(1).expect("a part");
    for (length, expected) in [(7, [7, 0, 0]), (8, [8, 8, 0]), (15, [15, 15, 0]), (16, [16, 16, 16])] {
        let found = [TextEnd::GoesOn, TextEnd::Undecided, TextEnd::Cut].map(|end| kept(&payload[..length], end));
        assert_eq!(found, expected, "{length}");
    }
}
