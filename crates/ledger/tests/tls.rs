//! What a database URL says about TLS is done: a password must not travel in the clear because a build could not do it.

#![allow(clippy::unwrap_used, reason = "test code fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use ledger::{DatabaseUrl, Ledger};

/// What PostgreSQL's protocol begins with where a client wants TLS: the length, and a number that is no version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The first byte of a TLS record that carries a handshake.
const HANDSHAKE: u8 = 0x16;

/// A server that answers the request for TLS so, and tells what came first after it; none where the client went away.
fn server(answer: u8) -> (SocketAddr, JoinHandle<Option<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut asked = [0; SSL_REQUEST.len()];
        client.read_exact(&mut asked).unwrap();
        assert_eq!(asked, SSL_REQUEST);
        client.write_all(&[answer]).unwrap();
        let mut first = [0; 1];
        client.read_exact(&mut first).ok().map(|()| first[0])
    });
    (address, thread)
}

/// What the server heard; the connection fails in the end, as the server says no more.
fn required_of(answer: u8) -> Option<u8> {
    let (address, server) = server(answer);
    let url = DatabaseUrl::parse(&format!("postgres://clerk:hunter2@{address}/books?sslmode=require")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Ledger::open(url)).unwrap_err();
    server.join().unwrap()
}

#[test]
fn a_connection_that_requires_tls_is_made_with_it() {
    assert_eq!(required_of(b'S'), Some(HANDSHAKE));
}

#[test]
fn a_connection_that_requires_tls_is_not_made_without_it() {
    assert_eq!(required_of(b'N'), None);
}
