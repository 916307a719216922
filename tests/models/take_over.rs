//! The parts of the take-over that are checked, and what they name of the rest.

pub mod conversation {
    pub const STEP_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);
}
#[path = "../../src/server/take_over/lending.rs"]
pub mod lending;
#[path = "../../src/server/take_over/successor.rs"]
pub mod successor;
