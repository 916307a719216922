use super::*;

/// The members of a usage, by their names.
type Members = &'static [(&'static str, &'static str)];

/// Reads the members of a usage object, in which details are by their path.
fn fields(members: &[(&str, &str)]) -> UsageFields {
    let mut fields = UsageFields::NONE;
    for (path, word) in members {
        let member = match path.split_once('.') {
            None => UsageMember::of(path.as_bytes()),
            Some((outer, name)) => {
                let outer = UsageMember::of(outer.as_bytes());
                fields.open(outer);
                outer.within(name.as_bytes())
            }
        };
        fields.set(member, JsonScalar::Word(word.as_bytes()));
    }
    fields
}

fn counts(input: u64, cache_read: u64, cache_write: u64, output: u64, reasoning: u64) -> Option<TokenCounts> {
    Some(TokenCounts { input, cache_read, cache_write, output, reasoning })
}

#[test]
fn each_dialect_is_read_in_the_terms_of_all() {
    let cases: [(Members, Option<TokenCounts>); 12] = [
        (&[], None),
        (&[("prompt_tokens", "10"), ("completion_tokens", "2"), ("total_tokens", "12")], counts(10, 0, 0, 2, 0)),
        (&[("prompt_tokens", "10"), ("prompt_tokens_details.cached_tokens", "4")], counts(10, 4, 0, 0, 0)),
        // As LiteLLM tells of Anthropic's models: the prompt holds both.
        (
            &[
                ("completion_tokens", "2"),
                ("prompt_tokens", "30"),
                ("cache_creation_input_tokens", "5"),
                ("cache_read_input_tokens", "15"),
                ("prompt_tokens_details.cached_tokens", "0"),
                ("completion_tokens_details.reasoning_tokens", "1"),
            ],
            counts(30, 15, 5, 2, 1),
        ),
        (
            &[("input_tokens", "10"), ("cache_read_input_tokens", "15"), ("cache_creation_input_tokens", "5")],
            counts(30, 15, 5, 0, 0),
        ),
        (&[("input_tokens", "30"), ("input_tokens_details.cached_tokens", "15")], counts(30, 15, 0, 0, 0)),
        (&[("input_tokens", "30"), ("total_tokens", "30"), ("cache_read_input_tokens", "9")], counts(30, 9, 0, 0, 0)),
        (&[("output_tokens", "7"), ("output_tokens_details.thinking_tokens", "3")], counts(0, 0, 0, 7, 3)),
        (
            &[
                ("promptTokenCount", "20"),
                ("toolUsePromptTokenCount", "5"),
                ("cachedContentTokenCount", "8"),
                ("candidatesTokenCount", "6"),
                ("thoughtsTokenCount", "4"),
                ("totalTokenCount", "35"),
            ],
            counts(25, 8, 0, 10, 4),
        ),
        (&[("total_tokens", "9")], counts(9, 0, 0, 0, 0)),
        // Parts that are more than the whole.
        (&[("prompt_tokens", "10"), ("prompt_tokens_details.cached_tokens", "40")], counts(10, 10, 0, 0, 0)),
        (&[("completion_tokens", "1"), ("completion_tokens_details.reasoning_tokens", "9")], counts(0, 0, 0, 1, 1)),
    ];
    for (members, expected) in cases {
        assert_eq!(fields(members).tokens(), expected, "{members:?}");
    }
}

#[test]
fn what_cannot_be_a_count_is_as_if_it_were_not_there() {
    for word in ["-1", "1.5", "1e3", "null", "true", "4294967296", "99999999999999999999999999999999", "+1", "NaN", ""]
    {
        assert_eq!(fields(&[("prompt_tokens", word)]).tokens(), None, "{word}");
    }
    let mut fields = fields(&[("prompt_tokens", "4294967295"), ("completion_tokens", "4294967295")]);
    fields.set(UsageMember::of(b"prompt_tokens"), JsonScalar::String(b"7"));
    assert_eq!(fields.tokens(), counts(u64::from(u32::MAX), 0, 0, u64::from(u32::MAX), 0));
}

#[test]
fn the_cost_is_an_amount_or_the_total_of_its_parts() {
    let cases: [(Members, Option<&str>); 7] = [
        (&[("cost", "0.00014")], Some("0.00014")),
        (&[("cost", "1.4e-4")], Some("0.00014")),
        (&[("cost.total_cost", "2")], Some("2.0")),
        (&[("cost.input_tokens_cost", "2")], None),
        (&[("cost", "-1")], None),
        (&[("cost", "null")], None),
        // Longer than what is told of it: its exponent may be missing.
        (&[("cost", "1.234567890123456789012345678901")], None),
    ];
    for (members, expected) in cases {
        let cost = fields(members).cost().map(|cost| cost.to_string());
        assert_eq!(cost.as_deref(), expected, "{members:?}");
    }
}

#[test]
fn of_several_objects_the_last_value_of_each_member_counts() {
    let mut joined = fields(&[("input_tokens", "10"), ("cache_read_input_tokens", "5"), ("output_tokens", "1")]);
    joined.join(&fields(&[("output_tokens", "30"), ("input_tokens", "null")]));
    joined.join(&fields(&[("output_tokens", "20"), ("cost", "1")]));
    assert_eq!(joined.tokens(), counts(15, 5, 0, 20, 0));
    joined.join(&UsageFields::NONE);
    assert_eq!((joined.tokens(), joined.cost().map(|cost| cost.as_dollars())), (counts(15, 5, 0, 20, 0), Some(1.0)));
}

#[test]
fn of_geminis_objects_the_last_one_counts() {
    let mut joined = fields(&[("promptTokenCount", "10"), ("thoughtsTokenCount", "50")]);
    joined.join(&fields(&[("trafficType", "1")]));
    assert_eq!(joined.tokens(), counts(10, 0, 0, 50, 50), "one without counts tells nothing");
    joined.join(&fields(&[("promptTokenCount", "10"), ("candidatesTokenCount", "7")]));
    assert_eq!(joined.tokens(), counts(10, 0, 0, 7, 0));
}
