//! Usage: what was spent in spans of time (`costs`), reports of it (`report`), and the rows of both (`file_totals`).

pub mod costs;
pub mod file_totals;
pub mod report;
