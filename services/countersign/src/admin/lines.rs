//! An answer that is written while it is found: JSON, one document a line.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Lines that a slow reader may be behind.
const LINES_MAX: usize = 4;

/// Where the lines are written; blocks while the reader is behind.
pub(super) struct Lines(Sender<Bytes>);

impl Lines {
    /// Writes one; false where nobody reads any more.
    pub(super) fn send(&self, line: &impl Serialize) -> bool {
        let Ok(mut text) = serde_json::to_vec(line) else { return false };
        text.push(b'\n');
        self.0.blocking_send(Bytes::from(text)).is_ok()
    }
}

/// Does the work on a thread of its own and answers with what it writes.
pub(super) fn answer(work: impl FnOnce(&Lines) + Send + 'static) -> Response {
    let (sender, receiver) = channel(LINES_MAX);
    tokio::task::spawn_blocking(move || work(&Lines(sender)));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Written(receiver))).into_response()
}

/// The body; it ends with the work.
struct Written(Receiver<Bytes>);

impl HttpBody for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
