//! Distributions: of durations (`histogram`), and of the pace of event streams (`pace`).

pub mod histogram;
pub mod pace;
