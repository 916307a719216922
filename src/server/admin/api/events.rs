//! The state as an event of a stream (WHATWG HTML §9.2), a second each.

use super::state::StateView;

/// Returns the event, whose id is the number of the step that is under way.
pub fn event(state: &StateView) -> Vec<u8> {
    let mut event = format!("id: {}\ndata: ", state.step_number()).into_bytes();
    // JSON has no line ends but between its parts, where none are written.
    if serde_json::to_writer(&mut event, state).is_err() {
        event.truncate(0);
    }
    event.extend_from_slice(b"\n\n");
    event
}
