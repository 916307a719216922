use proptest::prelude::*;

use super::*;
use crate::usage::tokens::{EstimatedTokens, TokenCounts};

/// A part of LiteLLM's file, as it is.
const SAMPLE_FILE: &str = r#"{
    "sample_spec": {
        "input_cost_per_token": "the price",
        "litellm_provider": "one of https://docs.litellm.ai/docs/providers",
        "max_tokens": "LEGACY parameter"
    },
    "1024-x-1024/dall-e-2": {
        "input_cost_per_pixel": 1.9e-08,
        "litellm_provider": "openai",
        "mode": "image_generation",
        "output_cost_per_pixel": 0.0
    },
    "claude-sonnet-4-5": {
        "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06,
        "cache_read_input_token_cost": 3e-07,
        "input_cost_per_token": 3e-06,
        "input_cost_per_token_batches": 1.5e-06,
        "litellm_provider": "anthropic",
        "max_input_tokens": 200000,
        "mode": "chat",
        "output_cost_per_token": 1.5e-05,
        "search_context_cost_per_query": {"search_context_size_high": 0.01},
        "supports_vision": true,
        "tool_use_system_prompt_tokens": 346
    },
    "claude-sonnet-latest": {"alias_of": "claude-sonnet-4-5"},
    "gemini/gemini-2.5-pro": {
        "cache_read_input_token_cost": 1.25e-07,
        "cache_read_input_token_cost_above_200k_tokens": 2.5e-07,
        "input_cost_per_token": 1.25e-06,
        "input_cost_per_token_above_200k_tokens": 2.5e-06,
        "input_cost_per_token_above_200k_tokens_priority": 4.5e-06,
        "litellm_provider": "gemini",
        "mode": "chat",
        "output_cost_per_token": 1e-05,
        "output_cost_per_token_above_200k_tokens": 1.5e-05
    },
    "text-embedding-3-small": {
        "input_cost_per_token": 2e-08,
        "litellm_provider": "openai",
        "mode": "embedding",
        "output_cost_per_token": 0.0,
        "output_vector_size": 1536
    }
}"#;

fn problem(text: &str) -> String {
    PriceTable::parse(text.as_bytes()).expect_err("a fault").to_string()
}

#[test]
fn a_part_of_litellms_own_file_gives_the_prices_that_litellm_calculates_with() {
    let LoadedPrices { table, entries, warnings } =
        PriceTable::parse(SAMPLE_FILE.as_bytes()).expect("a file of prices");
    assert_eq!((table.len(), entries, warnings), (4, 5, Vec::new()));
    let cached = TokenCounts { input: 10_000, cache_read: 8_000, cache_write: 1_000, output: 500, reasoning: 100 };
    let long = TokenCounts { input: 200_001, cache_read: 200_000, output: 10, ..TokenCounts::default() };
    for (model, tokens, expected) in [
        // 1000 * 3e-6 + 8000 * 3e-7 + 1000 * 3.75e-6 + 500 * 1.5e-5
        ("claude-sonnet-4-5", cached, Some("0.01665")),
        ("anthropic/claude-sonnet-4-5", cached, Some("0.01665")),
        ("claude-sonnet-latest", cached, Some("0.01665")),
        // 1 * 2.5e-6 + 200000 * 2.5e-7 + 10 * 1.5e-5
        ("gemini/gemini-2.5-pro", long, Some("0.0501525")),
        ("text-embedding-3-small", TokenCounts { input: 1_000_000, ..TokenCounts::default() }, Some("0.02")),
        ("1024-x-1024/dall-e-2", cached, None),
        ("sample_spec", cached, None),
        ("gpt-4o", cached, None),
    ] {
        let cost = table.cost(model, &tokens).map(|cost| cost.to_string());
        assert_eq!(cost.as_deref(), expected, "{model}");
    }
}

#[test]
fn comments_are_allowed_and_positions_stay_true() {
    let text = "\u{feff}{ // ours\n \"a\": {\"input_cost_per_token\": 1e-6} /* the\nonly one */ }";
    let loaded = PriceTable::parse(text.as_bytes()).expect("a file of prices");
    assert_eq!(loaded.table.len(), 1);
    assert_eq!(problem("{ /* one\n */ \"a\": 1e-6 2 }"), "is not valid JSON: a syntax error at line 2, column 15");
    let unclosed = "has a string or comment that does not end, or a stray `/`, on line ";
    assert_eq!(problem("{\n /* never\nclosed"), format!("{unclosed}3"));
    assert_eq!(problem("{\n/x \n // y"), format!("{unclosed}2"));
}

#[test]
fn all_mistakes_are_told_together_by_entry_and_field() {
    let text = r#"{"a": {"input_cost_per_token": 2.5, "output_cost_per_token": true}, "b": 7, "": {}, "\nc": {"input_cost_per_token": -1}}"#;
    let price = "expected dollars for one token (not for a million), from 0 to 0.01, or null, found";
    let expected = format!(
        "has mistakes:\n  \"a\", \"input_cost_per_token\": {price} \"2.5\"\n  \"a\", \"output_cost_per_token\": {price} \"true\"\n  \
         \"b\": expected an object with prices, {{\"input_cost_per_token\": …}}\n  \
         \"\": expected the name of a model, of 1 to 512 bytes\n  \"\\nc\", \"input_cost_per_token\": {price} \"-1\""
    );
    assert_eq!(problem(text), expected);
}

#[test]
fn of_many_mistakes_the_first_twenty_are_told() {
    let entries: Vec<String> = (0..1000).map(|number| format!("\"model {number}\": 1")).collect();
    let problem = problem(&format!("{{{}}}", entries.join(",")));
    assert_eq!(problem.lines().count(), 22, "{problem}");
    assert!(problem.ends_with("\n  and 980 more"), "{problem}");
    let long = format!("{{\"{}\": 1}}", "x".repeat(100_000));
    assert!(self::problem(&long).len() < 300);
}

#[test]
fn what_is_no_object_of_models_or_too_large_is_an_error() {
    let form =
        "is not what was expected: an object with an entry for each model, {\"gpt-4o\": {\"input_cost_per_token\": …}}";
    assert_eq!([problem("[]"), problem("1")], [form, form]);
    assert_eq!(problem(""), "is not valid JSON: a syntax error at line 1, column 0");
    assert_eq!(problem(&" ".repeat(FILE_BYTES_MAX + 1)), "is larger than 16384 KiB");
    let many = format!("{{{}}}", vec!["\"a\":{}"; FIELDS_MAX + 1].join(","));
    assert_eq!(problem(&many), "has more than 50000 entries");
    assert_eq!(PriceTable::parse(b"\xff").expect_err("a fault").to_string(), "is not UTF-8 text");
    let nested = format!("{{\"a\":{{\"tiered_pricing\":{}1{}}}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(problem(&nested).contains("tiered_pricing"), "no depth makes it fail otherwise");
}

#[test]
fn a_file_without_a_price_or_with_a_model_twice_is_warned_of() {
    let warnings = |text: &str| PriceTable::parse(text.as_bytes()).expect("a file of prices").warnings;
    assert_eq!(warnings("{}"), ["the file of prices has no price of a model's tokens"]);
    let twice = r#"{"a": {"input_cost_per_token": 1e-6}, "a": {"input_cost_per_token": 2e-6}}"#;
    assert_eq!(warnings(twice), ["the file of prices has models twice, of which the last one counts: \"a\""]);
    let table = PriceTable::parse(twice.as_bytes()).expect("a file of prices").table;
    let cost = table.estimate("a", EstimatedTokens { input: 1, output: 0 });
    assert_eq!(cost.map(|cost| cost.to_string()).as_deref(), Some("0.000002"));
}

#[test]
fn an_error_of_a_file_names_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("prices.json");
    let error = load_prices(&path, FileKinds::Regular).expect_err("it does not exist").to_string();
    assert!(error.starts_with(&format!("the file of prices {} cannot be read: ", path.display())), "{error}");
    std::fs::write(&path, SAMPLE_FILE).expect("written");
    assert_eq!(load_prices(&path, FileKinds::Regular).expect("prices").table.len(), 4);
}

/// By hand: `PRICES=model_prices_and_context_window.json cargo test --lib litellms_whole_file -- --ignored --nocapture`.
#[test]
#[ignore = "needs LiteLLM's file"]
fn litellms_whole_file_is_read() {
    let path = std::env::var_os("PRICES").expect("PRICES names the file");
    let began = std::time::Instant::now();
    let LoadedPrices { table, entries, warnings } = load_prices(path.as_ref(), FileKinds::Regular).expect("prices");
    println!("{} of {entries} entries have a price, in {:?}; {warnings:?}", table.len(), began.elapsed());
    assert!(table.len() > 1000 && warnings.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        let _ = PriceTable::parse(&bytes);
    }

    #[test]
    fn no_cut_and_no_changed_byte_makes_it_panic(at in 0..SAMPLE_FILE.len(), byte in any::<u8>()) {
        let mut bytes = SAMPLE_FILE.as_bytes().to_vec();
        let _ = PriceTable::parse(&bytes[..at]);
        bytes[at] = byte;
        let _ = PriceTable::parse(&bytes);
    }
}
