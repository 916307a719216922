//! Scripts made by hand, one or more for each kind of move: the files of `fuzz/seeds/gateway`.

use super::{
    Change, Client, Content, Departure, End, Exchange, Framing, Interim, Key, Kind, Leaves, Opening, Pause, Play,
    Reading, Request, Script, Size, Split, Status, Surplus,
};

/// Returns the scripts with the names of their files.
pub fn all() -> Vec<(&'static str, Script)> {
    let plain = Play::default();
    let stream = |content| Play { content, framing: Framing::Chunked, size: Size::Small, ..plain };
    let status = |code| Play { status: Status::of(code), ..plain };
    let post = Request { kind: Kind::Chat, size: Size::Small, ..Request::default() };
    let pieces = Split { pieces: 5, seed: 7, pause: Pause::Short };
    let one =
        |request, plays: &[Play]| of_client(Client { exchanges: vec![exchange(request, plays)], ..Client::default() });
    let leaving = |leaves, request, play| {
        of_client(Client { exchanges: vec![exchange(request, &[play])], leaves, ..Client::default() })
    };
    let kind = |kind| Request { kind, ..Request::default() };
    vec![
        ("get", one(kind(Kind::Models), &[plain])),
        ("head", one(kind(Kind::HeadOfModels), &[plain])),
        ("local", one(kind(Kind::Liveness), &[plain])),
        ("unknown_key", one(Request { key: Key::Unknown, ..post }, &[plain])),
        (
            "post_chunked_split",
            one(Request { is_chunked: true, split: pieces, ..post }, &[Play { split: pieces, ..plain }]),
        ),
        ("expect", one(Request { expects_continue: true, ..post }, &[Play { interim: Interim::Both, ..plain }])),
        (
            "http10",
            one(Request { is_http10: true, ..post }, &[Play { framing: Framing::Close, end: End::Closes, ..plain }]),
        ),
        ("chat_stream", one(post, &[Play { split: pieces, ..stream(Content::Chat) }])),
        ("messages_stream", one(kind(Kind::Messages), &[Play { missing: 1, ..stream(Content::Messages) }])),
        (
            "responses_broken",
            one(kind(Kind::Responses), &[Play { missing: 1, cut: Some(200), ..stream(Content::Responses) }]),
        ),
        (
            "gemini_reset",
            one(
                kind(Kind::Gemini),
                &[Play { cut: Some(180), end: End::Resets, split: pieces, ..stream(Content::Gemini) }],
            ),
        ),
        ("failover", one(post, &[status(401), status(429), plain])),
        ("unavailable", one(post, &[status(503), Play { opening: Opening::LeavesAtHead, ..plain }, plain])),
        ("error_tells_token", one(post, &[Play { tells_token: true, ..status(400) }])),
        ("error_events_tell_token", one(post, &[Play { tells_token: true, ..stream(Content::ErrorEvents) }])),
        (
            "early_answer",
            one(
                Request { size: Size::Huge, kind: Kind::Files, ..post },
                &[Play { opening: Opening::IgnoresBody, ..status(400) }],
            ),
        ),
        (
            "early_answer_read_later",
            one(
                Request { size: Size::Large, split: pieces, ..post },
                &[Play { opening: Opening::AnswersEarly, ..plain }],
            ),
        ),
        ("stalls", one(post, &[Play { opening: Opening::Stalls, ..plain }])),
        ("surplus", one(post, &[Play { surplus: Surplus::Answer, ..plain }])),
        (
            "changed_answer",
            one(post, &[Play { change: Change::Replace { at: 3, by: b'x', is_in_head: true }, ..plain }]),
        ),
        (
            "changed_request",
            one(Request { change: Change::Insert { at: 9, byte: b'\n', is_in_head: true }, ..post }, &[plain]),
        ),
        (
            "upgrade",
            one(
                Request { kind: Kind::Upgrade, size: Size::Small, ..post },
                &[Play { status: Status::of(101), size: Size::Small, ..plain }],
            ),
        ),
        ("pipelined", pipelined(post, plain)),
        (
            "one_by_one",
            of_client(Client {
                exchanges: vec![
                    exchange(post, &[plain]),
                    exchange(kind(Kind::FollowUp), &[status(404)]),
                    exchange(kind(Kind::Delete), &[status(204)]),
                ],
                ..Client::default()
            }),
        ),
        (
            "leaves_in_request",
            leaving(Leaves::InRequest(Departure::Reset, 200), Request { size: Size::Large, ..post }, plain),
        ),
        (
            "leaves_in_answer",
            leaving(Leaves::InAnswer(Departure::Close, 20), post, Play { size: Size::Large, ..stream(Content::Chat) }),
        ),
        (
            "half_closes",
            leaving(
                Leaves::InAnswer(Departure::HalfClose, 14),
                post,
                Play { split: pieces, ..stream(Content::Messages) },
            ),
        ),
        ("reads_slowly", reading(Reading::Slowly, post, Play { size: Size::Huge, ..plain })),
        ("reads_late", reading(Reading::Late, post, Play { size: Size::Huge, framing: Framing::Chunked, ..plain })),
        ("two_of_a_narrow_key", two(Request { key: Key::Narrow, ..post }, Play { opening: Opening::Stalls, ..plain })),
    ]
}

fn exchange(request: Request, plays: &[Play]) -> Exchange {
    Exchange { request, plays: plays.to_vec() }
}

fn of_client(client: Client) -> Script {
    Script { clients: vec![client] }
}

fn pipelined(request: Request, play: Play) -> Script {
    let exchanges = vec![exchange(request, &[play]), exchange(Request { kind: Kind::Models, ..request }, &[play])];
    of_client(Client { exchanges, is_pipelined: true, ..Client::default() })
}

fn reading(reading: Reading, request: Request, play: Play) -> Script {
    of_client(Client { exchanges: vec![exchange(request, &[play])], reading, ..Client::default() })
}

fn two(request: Request, play: Play) -> Script {
    let client = Client { exchanges: vec![exchange(request, &[play])], ..Client::default() };
    Script { clients: vec![client.clone(), client] }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// With `FLOW_SEEDS_WRITTEN` in the environment it writes them.
    #[test]
    fn every_file_of_seeds_is_its_script() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/gateway");
        for (name, script) in all() {
            let (path, bytes) = (folder.join(name), script.to_bytes());
            assert_eq!(Script::of_bytes(&bytes), script, "{name}");
            if std::env::var_os("FLOW_SEEDS_WRITTEN").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            assert_eq!(fs::read(&path).ok(), Some(bytes), "{name}: FLOW_SEEDS_WRITTEN=1 cargo test writes it");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), all().len(), "files that are no seed");
    }
}
