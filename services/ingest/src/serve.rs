//! The HTTP server: one listener, bounded connections, and no client that can hold up another.
//!
//! hyper times the request's head, the handlers time its body, and [`Patient`] times how the client takes its response.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use stage::Stop;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, interval, sleep, timeout};
use tower::ServiceExt as _;

use crate::config::ServeLimits;
use crate::metrics;

const STOP_POLL: Duration = Duration::from_millis(50);
/// After an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// Serves until the stop, then lets open requests finish within the drain timeout.
///
/// # Errors
/// None after the start: a connection's failure is its own.
pub async fn serve(router: Router, listener: TcpListener, limits: ServeLimits, stop: &Stop) -> io::Result<()> {
    listener.local_addr()?;
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let (ending, _) = watch::channel(false);
    let mut stopped = pin!(wait_for(stop));
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                tokio::spawn(converse(router.clone(), stream, limits, ending.subscribe(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    ending.send_replace(true);
    let every_place = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    if timeout(limits.drain_timeout, places.acquire_many(every_place)).await.is_err() {
        tracing::warn!("connections were still open when the drain timeout ended");
    }
    Ok(())
}

/// Takes a place first: what has none waits in the listener's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn wait_for(stop: &Stop) {
    let mut ticks = interval(STOP_POLL);
    while !stop.requested() {
        ticks.tick().await;
    }
}

async fn converse(
    router: Router,
    stream: TcpStream,
    limits: ServeLimits,
    mut ending: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    ::metrics::gauge!(metrics::CONNECTIONS).increment(1.0);
    let service = router.map_request(|request: hyper::Request<Incoming>| request.map(axum::body::Body::new));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.write_timeout)), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = async { drop(ending.wait_for(|ending| *ending).await) } => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    ::metrics::gauge!(metrics::CONNECTIONS).decrement(1.0);
    drop(place);
}

/// A stream that gives up on a peer that takes nothing for too long.
struct Patient {
    stream: TcpStream,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        Self { stream, write_timeout, stalled: None }
    }

    /// Passes a write through; while it does not move, the clock runs.
    fn timed<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.stalled = None;
            return moved;
        }
        let deadline = Instant::now() + self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, moved)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.timed(context, moved)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, moved)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, moved)
    }
}

/// A router never fails; this keeps it so.
const _: fn(Router) = |router| {
    fn infallible<S: tower::Service<axum::extract::Request, Error = Infallible>>(_: S) {}
    infallible(router);
};

#[cfg(test)]
mod tests;
