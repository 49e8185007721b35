//! The channel between the upstream half of a stream and its downstream half: bounded in frames and in bytes, so that
//! a client that does not read costs bounded memory whatever the size of the events. It knows nothing of what frames say.
//! While the [`Lane`] beside it is open, data goes there instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::Frame;
use super::lane::Lane;

/// Most frames on their way.
const MAX_FRAMES: usize = 16;
/// Most bytes on their way; a single larger frame travels alone.
const MAX_BYTES: u32 = 256 * 1024;

/// The upstream end.
pub struct FrameSender {
    frames: mpsc::Sender<Travelling>,
    room: Arc<Semaphore>,
    told: Arc<Told>,
    lane: Arc<Lane>,
}

/// The downstream end.
pub(super) struct FrameReceiver {
    frames: mpsc::Receiver<Travelling>,
    told: Arc<Told>,
    lane: Arc<Lane>,
}

/// What the sender says beside its frames, in case it ends without a word.
#[derive(Default)]
struct Told {
    /// It gave up.
    stalled: AtomicBool,
    /// All of the answer is sent.
    whole: AtomicBool,
    /// Its end as the client knows it, too.
    done: AtomicBool,
}

/// A frame and the room it takes until it is received.
struct Travelling {
    frame: Frame,
    _room: Option<OwnedSemaphorePermit>,
}

/// What became of a frame that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// The receiver is gone.
    Left,
    /// The receiver took nothing for too long, and is told so when it comes back.
    Stalled,
}

/// A channel.
pub(super) fn channel() -> (FrameSender, FrameReceiver) {
    let (sender, frames) = mpsc::channel(MAX_FRAMES);
    let told = Arc::new(Told::default());
    let lane = Arc::new(Lane::default());
    let room = Arc::new(Semaphore::new(MAX_BYTES as usize));
    let sender = FrameSender { frames: sender, room, told: Arc::clone(&told), lane: Arc::clone(&lane) };
    (sender, FrameReceiver { frames, told, lane })
}

// === impl FrameSender ===

impl FrameSender {
    /// Sends a frame as soon as there is room for it; gives up when the receiver makes none for so long.
    pub async fn send(&self, frame: Frame, patience: Duration) -> Sent {
        let size = match &frame {
            Frame::Data(bytes) if self.lane.pass(bytes) => return Sent::Yes,
            Frame::Data(bytes) => u32::try_from(bytes.len()).unwrap_or(MAX_BYTES).min(MAX_BYTES),
            Frame::End(_) => {
                self.lane.go_round();
                0
            }
        };
        // Nearly always there is room, and no timer is needed.
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) else {
            return self.wait(frame, size, patience).await;
        };
        match self.frames.try_send(Travelling { frame, _room: Some(room) }) {
            Ok(()) => Sent::Yes,
            Err(mpsc::error::TrySendError::Closed(_)) => Sent::Left,
            Err(mpsc::error::TrySendError::Full(full)) => self.wait(full.frame, size, patience).await,
        }
    }

    async fn wait(&self, frame: Frame, size: u32, patience: Duration) -> Sent {
        let sending = async {
            // When the receiver goes, what it left gives its room back, and sending tells.
            let room = Arc::clone(&self.room).acquire_many_owned(size).await.ok();
            self.frames.send(Travelling { frame, _room: room }).await
        };
        match timeout(patience, sending).await {
            Ok(Ok(())) => Sent::Yes,
            Ok(Err(_)) => Sent::Left,
            Err(_) => {
                self.told.stalled.store(true, Ordering::Relaxed);
                Sent::Stalled
            }
        }
    }

    /// All of the answer is sent; with `done`, that this is its end as well.
    pub fn is_whole(&self, done: bool) {
        self.told.done.store(done, Ordering::Relaxed);
        self.told.whole.store(true, Ordering::Release);
    }

    /// Ready when the receiver is gone.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }
}

// === impl FrameReceiver ===

impl FrameReceiver {
    /// The next frame; `None` when the sender is gone.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.frames.poll_recv(cx).map(|travelling| {
            let frame = travelling?.frame;
            self.lane.came_round();
            Some(frame)
        })
    }

    /// The short way beside the channel.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Whether a frame is there that was not taken.
    pub(super) fn waiting(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Whether the sender gave up because nothing was taken for too long.
    pub(super) fn stalled(&self) -> bool {
        self.told.stalled.load(Ordering::Relaxed)
    }

    /// Whether all of the answer was sent, and with it that this is its end.
    pub(super) fn whole(&self) -> Option<bool> {
        self.told.whole.load(Ordering::Acquire).then(|| self.told.done.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::{Bytes, BytesMut};
    use futures_util::future::poll_fn;

    use super::super::StreamEnd;
    use super::super::lane::Exit;
    use super::*;
    use crate::dialect::Usage;
    use crate::metrics::EndReason;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn data(size: usize) -> Frame {
        Frame::Data(Bytes::from(vec![b'x'; size]))
    }

    async fn sent_at_once(sender: &FrameSender, size: usize) -> bool {
        sender.send(data(size), Duration::ZERO).await == Sent::Yes
    }

    #[tokio::test(start_paused = true)]
    async fn frames_and_bytes_are_bounded() {
        let (sender, mut receiver) = channel();
        for _ in 0..MAX_FRAMES {
            assert!(sent_at_once(&sender, 1).await);
        }
        assert!(!sent_at_once(&sender, 1).await);
        assert!(receiver.stalled());
        assert!(poll_fn(|cx| receiver.poll_next(cx)).await.is_some());
        assert!(sent_at_once(&sender, 1).await);

        let (sender, mut receiver) = channel();
        let half = MAX_BYTES as usize / 2;
        assert!(sent_at_once(&sender, half).await && sent_at_once(&sender, half).await);
        assert!(!sent_at_once(&sender, 1).await, "the bytes are bounded");
        assert!(poll_fn(|cx| receiver.poll_next(cx)).await.is_some());
        assert!(sent_at_once(&sender, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_larger_than_the_bound_travels_alone() {
        let (sender, mut receiver) = channel();
        let huge = MAX_BYTES as usize * 4;
        assert!(sent_at_once(&sender, huge).await);
        assert!(!sent_at_once(&sender, 1).await);
        assert!(poll_fn(|cx| receiver.poll_next(cx)).await.is_some());
        assert!(sent_at_once(&sender, 1).await);
        assert!(!sent_at_once(&sender, huge).await);
    }

    /// Keeps what takes the short way.
    struct Kept(Arc<Mutex<Vec<Bytes>>>);

    impl Exit for Kept {
        fn send(&self, frame: &[u8], _rest: &mut BytesMut) {
            self.0.lock().unwrap().push(Bytes::copy_from_slice(frame));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn data_takes_the_short_way_as_long_as_it_is_open_and_nothing_is_in_the_channel() {
        let (sender, mut receiver) = channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let open = |receiver: &FrameReceiver| receiver.lane().open(|| Box::new(Kept(Arc::clone(&kept))));
        let short = || kept.lock().unwrap().iter().map(Bytes::len).collect::<Vec<_>>();
        assert!(sent_at_once(&sender, 1).await);
        open(&receiver);
        assert!(sent_at_once(&sender, 2).await);
        assert!(short().is_empty(), "it would overtake what is in the channel");
        for _ in 0..2 {
            assert!(poll_fn(|cx| receiver.poll_next(cx)).await.is_some());
        }
        open(&receiver);
        assert!(sent_at_once(&sender, 3).await && sent_at_once(&sender, 4).await);
        assert!(!receiver.waiting());
        let end = StreamEnd { reason: EndReason::Done, error: None, usage: Usage::default() };
        assert_eq!(sender.send(Frame::End(Box::new(end)), PATIENCE).await, Sent::Yes);
        assert!(sent_at_once(&sender, 5).await, "behind the end");
        assert!(matches!(poll_fn(|cx| receiver.poll_next(cx)).await, Some(Frame::End(_))));
        assert!(poll_fn(|cx| receiver.poll_next(cx)).await.is_some());
        assert_eq!(short(), [3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_waits_goes_on_when_the_receiver_does_and_learns_when_it_leaves() {
        let (sender, mut receiver) = channel();
        let full = MAX_BYTES as usize;
        assert!(sent_at_once(&sender, full).await);
        let (sent, taken) =
            tokio::join!(sender.send(data(full), PATIENCE), poll_fn(|cx| receiver.poll_next(cx)));
        assert!(sent == Sent::Yes && taken.is_some());
        assert!(!receiver.stalled());
        let (sent, ()) = tokio::join!(sender.send(data(full), PATIENCE), async { drop(receiver) });
        assert_eq!(sent, Sent::Left);
        sender.closed().await;
        assert_eq!(sender.send(data(1), PATIENCE).await, Sent::Left);
    }
}
