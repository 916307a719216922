//! The body of a request on its way up: asked for (`ask`), held before the first attempt (`hold_body`) or waited for as
//! far as it says what it is about (`subject_wait`), and sent (`upload`).

pub mod ask;
pub mod hold_body;
pub mod subject_wait;
pub mod upload;
