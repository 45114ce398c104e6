//! The body of a response: chunks that responses share, and the guards that are held until it is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::admission::Flight;

/// The body of a response, made of chunks that other responses share.
#[derive(Debug, Default)]
pub struct Chunks {
    left: VecDeque<Bytes>,
    /// Held until the whole body has been sent.
    guards: (Option<OwnedSemaphorePermit>, Option<Flight>),
}

impl Chunks {
    /// Makes a body of these chunks, in this order.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>) -> Chunks {
        let left = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        Chunks { left, guards: (None, None) }
    }

    /// Holds a permit until the body is sent.
    pub fn hold(&mut self, permit: OwnedSemaphorePermit) {
        self.guards.0 = Some(permit);
    }

    /// Counts the request as being answered until the body is sent.
    pub fn fly(&mut self, flight: Flight) {
        self.guards.1 = Some(flight);
    }

    #[cfg(test)]
    /// Returns the whole body as text.
    pub fn text(&self) -> String {
        self.left.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect()
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.left.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(|chunk| chunk.len() as u64).sum())
    }
}
