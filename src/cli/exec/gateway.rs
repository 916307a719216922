//! The gateway that a command is to use, whether it ran already or is the command's own.

use std::net::SocketAddr;

use crate::credentials::Secret;

#[derive(Debug)]
pub struct ChosenGateway {
    pub address: SocketAddr,
    /// The key that it asks for.
    pub key: Option<Secret>,
}
