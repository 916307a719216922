//! One walk over the parts of a script, which reads or writes them, as the codec does. Each choice is a byte, so that the
//! fuzzer changes one thing at a time.

use super::codec::Codec;
use super::{
    Change, Content, Departure, End, Framing, Interim, Key, Kind, Leaves, Opening, Pause, Play, Reading, Request,
    Script, Size, Split, Status, Surplus,
};

/// The most clients, requests on a connection, and plays of one exchange.
const CLIENTS_MAX: usize = 2;
const EXCHANGES_MAX: usize = 3;
const PLAYS_MAX: usize = 3;

pub fn walk(codec: &mut impl Codec, script: &mut Script) {
    codec.list(&mut script.clients, CLIENTS_MAX, |codec, client| {
        codec.flag(&mut client.is_pipelined);
        codec.pick(&mut client.reading, &[Reading::AtOnce, Reading::Slowly, Reading::Late]);
        leaves(codec, &mut client.leaves);
        codec.list(&mut client.exchanges, EXCHANGES_MAX, |codec, exchange| {
            request(codec, &mut exchange.request);
            codec.list(&mut exchange.plays, PLAYS_MAX, play);
        });
    });
}

fn leaves(codec: &mut impl Codec, leaves: &mut Leaves) {
    let (mut when, mut departure, mut at) = match *leaves {
        Leaves::WhenDone => (0, Departure::Close, 0),
        Leaves::InRequest(departure, at) => (1, departure, at),
        Leaves::InAnswer(departure, at) => (2, departure, at),
    };
    codec.pick(&mut when, &[0, 1, 2]);
    if when > 0 {
        codec.pick(&mut departure, &[Departure::Close, Departure::Reset, Departure::HalfClose]);
        codec.byte(&mut at);
    }
    *leaves = match when {
        0 => Leaves::WhenDone,
        1 => Leaves::InRequest(departure, at),
        _ => Leaves::InAnswer(departure, at),
    };
}

fn request(codec: &mut impl Codec, request: &mut Request) {
    const KINDS: [Kind; 12] = [
        Kind::Models,
        Kind::HeadOfModels,
        Kind::Chat,
        Kind::Messages,
        Kind::Responses,
        Kind::Gemini,
        Kind::Files,
        Kind::FollowUp,
        Kind::Delete,
        Kind::Upgrade,
        Kind::Liveness,
        Kind::OptionsOfAll,
    ];
    codec.pick(&mut request.kind, &KINDS);
    codec.pick(&mut request.key, &[Key::Plain, Key::Narrow, Key::Picky, Key::Unknown]);
    codec.flag(&mut request.is_chunked);
    codec.flag(&mut request.expects_continue);
    codec.flag(&mut request.is_http10);
    codec.flag(&mut request.is_closing);
    size(codec, &mut request.size);
    split(codec, &mut request.split);
    change(codec, &mut request.change);
}

fn play(codec: &mut impl Codec, play: &mut Play) {
    const OPENINGS: [Opening; 7] = [
        Opening::Reads,
        Opening::ReadsSlowly,
        Opening::AnswersEarly,
        Opening::IgnoresBody,
        Opening::Stalls,
        Opening::LeavesAtHead,
        Opening::LeavesAtEnd,
    ];
    const CONTENTS: [Content; 8] = [
        Content::Json,
        Content::Plain,
        Content::Chat,
        Content::Messages,
        Content::Responses,
        Content::Gemini,
        Content::OtherEvents,
        Content::ErrorEvents,
    ];
    const INTERIMS: [Interim; 5] =
        [Interim::Nothing, Interim::Continue, Interim::Hints, Interim::Both, Interim::TooMany];
    codec.pick(&mut play.opening, &OPENINGS);
    codec.pick(&mut play.interim, &INTERIMS);
    codec.pick(&mut play.status.0, &std::array::from_fn::<u8, { Status::ALL.len() }, _>(|place| place as u8));
    codec.pick(&mut play.framing, &[Framing::Length, Framing::Chunked, Framing::Close, Framing::Old]);
    codec.pick(&mut play.content, &CONTENTS);
    size(codec, &mut play.size);
    split(codec, &mut play.split);
    change(codec, &mut play.change);
    codec.pick(&mut play.missing, &std::array::from_fn::<u8, 4, _>(|place| place as u8));
    codec.pick(&mut play.surplus, &[Surplus::Nothing, Surplus::Byte, Surplus::Answer]);
    let (mut is_cut, mut at) = (play.cut.is_some(), play.cut.unwrap_or_default());
    codec.flag(&mut is_cut);
    if is_cut {
        codec.byte(&mut at);
    }
    play.cut = is_cut.then_some(at);
    codec.pick(&mut play.end, &[End::Keeps, End::Closes, End::Resets, End::HalfCloses, End::SaysAndCloses]);
    codec.flag(&mut play.tells_token);
}

fn size(codec: &mut impl Codec, size: &mut Size) {
    codec.pick(size, &[Size::Tiny, Size::Small, Size::Large, Size::Huge]);
}

fn split(codec: &mut impl Codec, split: &mut Split) {
    codec.pick(&mut split.pieces, &std::array::from_fn::<u8, 8, _>(|place| place as u8));
    if split.pieces > 0 {
        codec.byte(&mut split.seed);
        codec.pick(&mut split.pause, &[Pause::Nothing, Pause::Short, Pause::Long]);
    }
}

fn change(codec: &mut impl Codec, change: &mut Change) {
    let (mut kind, mut at, mut byte, mut is_in_head) = match *change {
        Change::Nothing => (0, 0, 0, false),
        Change::Replace { at, by, is_in_head } => (1, at, by, is_in_head),
        Change::Remove { at, is_in_head } => (2, at, 0, is_in_head),
        Change::Insert { at, byte, is_in_head } => (3, at, byte, is_in_head),
    };
    codec.pick(&mut kind, &[0, 1, 2, 3]);
    if kind > 0 {
        codec.flag(&mut is_in_head);
        codec.byte(&mut at);
    }
    if matches!(kind, 1 | 3) {
        codec.byte(&mut byte);
    }
    *change = match kind {
        0 => Change::Nothing,
        1 => Change::Replace { at, by: byte, is_in_head },
        2 => Change::Remove { at, is_in_head },
        _ => Change::Insert { at, byte, is_in_head },
    };
}
