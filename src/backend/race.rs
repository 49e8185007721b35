//! One round of a race: the first member is asked, after a delay the next one as well, and so on. Whoever reaches its
//! commit point first answers; the others are cancelled. Their places are free at once; of their quota, what was never
//! sent is given back, and what was sent stays counted as it was reserved, as the upstream may count it.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::FutureExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::attempts::Walk;
use super::group::Racing;
use super::{Reply, Round};
use crate::error::ProxyError;

/// Runs one round. `None`: nobody answered, but somebody may later.
pub(super) async fn race(
    walk: &mut Walk<'_>,
    order: &[usize],
    round: &Round,
    racing: Racing,
) -> Option<Result<Reply, ProxyError>> {
    let mut waiting = order.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut more = true;
    loop {
        let room = running.len() < racing.width && walk.attempts_left() > running.len();
        if running.is_empty() && !(more && room) {
            return None;
        }
        if running.is_empty() || (more && room && racing.delay.is_zero()) {
            more = start(walk, &mut waiting, round, &mut running);
            continue;
        }
        let finished = tokio::select! {
            biased;
            finished = running.next() => finished,
            () = sleep(racing.delay), if more && room => {
                more = start(walk, &mut waiting, round, &mut running);
                None
            }
        };
        let Some((index, sent, answered)) = finished else { continue };
        match answered {
            Ok(reply) => return Some(Ok(walk.arrived(index, reply, sent))),
            Err(error) => {
                if let Some(fatal) = walk.failed(index, error) {
                    return Some(Err(fatal));
                }
                // Its place in the race is free.
                if more && walk.attempts_left() > running.len() {
                    more = start(walk, &mut waiting, round, &mut running);
                }
            }
        }
    }
}

type Finished = (usize, Instant, Result<Reply, ProxyError>);
type Running = FuturesUnordered<futures_util::future::BoxFuture<'static, Finished>>;

/// Starts the next member, if there is one.
fn start(
    walk: &mut Walk<'_>,
    waiting: &mut impl Iterator<Item = usize>,
    round: &Round,
    running: &mut Running,
) -> bool {
    let Some(index) = waiting.next() else { return false };
    let sent = Instant::now();
    if let Some(asking) = walk.ask(index, round) {
        running.push(asking.map(move |answered| (index, sent, answered)).boxed());
    }
    true
}
