//! The kit of the tests of settings: a configuration from text.

use std::collections::HashMap;
use std::env::VarError;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::configure::{Configured, Surroundings, configure};
use super::dotenv::DotEnv;
use super::error::SettingErrors;
use crate::cli::args;
use crate::config::Config;

pub const DESCRIPTORS: u64 = 20_000;

/// A name with a value, or a value with what it is shown as.
pub type Pair<'a> = (&'a str, &'a str);

/// Configures from a command line, environment variables and the text of `.env`.
pub fn run(words: &[&str], environment: &[Pair<'_>], dotenv: &str) -> Result<Configured, SettingErrors> {
    let args = args::parse(words.iter().map(OsString::from)).expect("a valid command line");
    // A place for files that outlive the process, as everybody has one.
    let home = ("HOME", "/home/user");
    let environment: HashMap<&str, &str> = [home].into_iter().chain(environment.iter().copied()).collect();
    let find = |name: &str| environment.get(name).map(|value| (*value).to_owned());
    let dotenv = DotEnv::parse(dotenv, &find);
    let environment = |name: &str| find(name).ok_or(VarError::NotPresent);
    let resolve = |host: &str, port: u16| match host {
        "gateway" => Ok(SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), port)),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "unknown name")),
    };
    let surroundings = Surroundings {
        environment: &environment,
        dotenv,
        descriptors_max: DESCRIPTORS,
        resolve: &resolve,
        is_demo: args.is_demo(),
    };
    configure(&args.flags, surroundings)
}

/// The configuration that these words make, which have to be right.
pub fn config(words: &[&str]) -> Config {
    run(words, &[], "").unwrap_or_else(|errors| panic!("{words:?}: {errors}")).config
}

/// All that is wrong, line by line.
pub fn errors(words: &[&str], environment: &[Pair<'_>], dotenv: &str) -> Vec<String> {
    match run(words, environment, dotenv) {
        Ok(configured) => panic!("{words:?} {environment:?}: {configured:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}
