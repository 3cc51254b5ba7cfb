//! The connections of a local API: how many there are, whose they are, and when one has kept the API waiting for too long.
//!
//! Any local user can connect, also under many user IDs (`/etc/subuid`), and then send half a request or never read a
//! response. So each real user has a share, a new connection takes the place of an old one instead of waiting for it, and
//! some places are for administrators alone. One task looks after all deadlines; without connections it sleeps.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use platform::clock;
use platform::ipc::{Peer, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How many connections there are at once.
const MAXIMUM: usize = 256;
/// So many of them are for administrators and for the owner of the process alone.
const KEPT: usize = 32;
/// How many one user has at once, under all IDs; of the owner, each process.
const SHARE: usize = 64;
/// How long a request may take to arrive once it has begun, and its caller to read each part of the response.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may be idle.
const IDLE_LIMIT: Duration = Duration::from_mins(1);

/// All connections of an API.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    table: Arc<Mutex<Table>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
}

struct Open {
    owner: Owner,
    activity: Arc<Activity>,
    /// `None` until its task is spawned.
    task: Option<AbortHandle>,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    share: u64,
    privileged: bool,
}

impl Owner {
    fn of(peer: Option<&Peer>) -> Self {
        let Some(peer) = peer else { return Self { share: 0, privileged: false } };
        let privileged = peer.is_owner() || peer.is_administrator();
        // Each process of the owner has a share of its own: one of them that fails does not take it from the others.
        let share = match peer.process() {
            Some(process) if privileged => u64::from(process) << 32,
            Some(_) | None => peer.key(),
        };
        Self { share, privileged }
    }
}

/// Where a connection stands. Moments are milliseconds on a clock that nobody can set, and never 0.
#[derive(Debug)]
pub(crate) struct Activity {
    /// When it became idle, was opened, or a part of a request or response moved last.
    moved: AtomicU64,
    /// When the request that is arriving, or the response that is not read yet, began to be waited for; 0 for none.
    waiting: AtomicU64,
    /// How many requests are being worked on: then the caller waits for the API, not the other way round.
    working: AtomicU64,
}

fn now() -> u64 {
    u64::try_from(clock::monotonic().as_millis()).unwrap_or(u64::MAX).max(1)
}

fn milliseconds(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

impl Activity {
    fn new() -> Self {
        Self { moved: AtomicU64::new(now()), waiting: AtomicU64::new(0), working: AtomicU64::new(0) }
    }

    fn wait(&self) {
        let _ = self.waiting.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn rest(&self) {
        self.moved.store(now(), Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// A request has arrived and is worked on until the value is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::Relaxed);
        self.rest();
        Working(Arc::clone(self))
    }

    /// When it has kept the API waiting for too long; `None` while the API works for it.
    fn deadline(&self) -> Option<u64> {
        if self.working.load(Ordering::Relaxed) > 0 {
            return None;
        }
        Some(match self.waiting.load(Ordering::Relaxed) {
            0 => self.moved.load(Ordering::Relaxed).saturating_add(milliseconds(IDLE_LIMIT)),
            since => since.saturating_add(milliseconds(STALL_LIMIT)),
        })
    }
}

/// A request that is worked on.
pub(crate) struct Working(Arc<Activity>);

impl Drop for Working {
    fn drop(&mut self) {
        // The caller has to read the response now.
        self.0.waiting.store(now(), Ordering::Relaxed);
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place in the table, until it is dropped.
pub(crate) struct Place {
    connections: Connections,
    id: u64,
    pub(crate) activity: Arc<Activity>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

impl Place {
    /// Says which task serves the connection.
    pub(crate) fn is_served_by(connections: &Connections, id: u64, task: AbortHandle) {
        if let Some(open) = connections.lock().open.get_mut(&id) {
            open.task = Some(task);
        }
    }

    /// The name of the place.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. Where there is none left, the oldest of whoever has most gives up its own.
    pub(crate) fn place(&self, peer: Option<&Peer>) -> Option<Place> {
        self.place_of(Owner::of(peer))
    }

    fn place_of(&self, owner: Owner) -> Option<Place> {
        let mut table = self.lock();
        let evicted = table.make_room(owner)?;
        let id = table.next;
        table.next += 1;
        let activity = Arc::new(Activity::new());
        table.open.insert(id, Open { owner, activity: Arc::clone(&activity), task: None });
        drop(table);
        for task in evicted {
            task.abort();
        }
        self.changed.notify_one();
        Some(Place { connections: self.clone(), id, activity })
    }

    /// Ends connections that keep the API waiting, for as long as the API is served.
    pub(crate) async fn sweep(self) {
        loop {
            let next = {
                let table = self.lock();
                let deadlines = table.open.values().filter_map(|open| open.activity.deadline());
                (table.open.is_empty(), deadlines.min())
            };
            match next {
                (true, _) => self.changed.notified().await,
                (false, deadline) => {
                    // What is worked on becomes something to wait for at a moment that nobody tells.
                    let now = now();
                    let latest = now + milliseconds(STALL_LIMIT);
                    let until = deadline.unwrap_or(latest).min(latest).max(now + 50);
                    tokio::time::sleep(Duration::from_millis(until - now)).await;
                }
            }
            self.end_stalled(now());
        }
    }

    fn end_stalled(&self, now: u64) {
        let mut table = self.lock();
        let is_over = |open: &Open| open.activity.deadline().is_some_and(|deadline| deadline <= now);
        let ended: Vec<u64> =
            table.open.iter().filter(|(_, open)| is_over(open)).map(|(id, _)| *id).collect();
        let tasks: Vec<_> = ended.iter().filter_map(|id| table.open.remove(id)?.task).collect();
        drop(table);
        for task in tasks {
            task.abort();
        }
    }
}

impl Table {
    /// Makes room for one more connection. Gives whom to end; `None` if there is no room for this owner.
    fn make_room(&mut self, owner: Owner) -> Option<Vec<AbortHandle>> {
        let count = |table: &Self, wanted: &dyn Fn(&Open) -> bool| {
            table.open.values().filter(|open| wanted(open)).count()
        };
        let own = count(self, &|open| open.owner == owner);
        let others = count(self, &|open| !open.owner.privileged);
        let full = self.open.len() >= MAXIMUM || (!owner.privileged && others >= MAXIMUM - KEPT);
        if own < SHARE && !full {
            return Some(Vec::new());
        }
        let victim = if own >= SHARE || !owner.privileged && own > 0 && own >= self.largest_share(false) {
            owner
        } else {
            // Privileged connections end only for others of their kind.
            self.owner_of_largest_share(owner.privileged && others == 0)?
        };
        let oldest = self.open.iter().filter(|(_, open)| open.owner == victim).map(|(id, _)| *id).min()?;
        Some(self.open.remove(&oldest)?.task.into_iter().collect())
    }

    fn largest_share(&self, privileged: bool) -> usize {
        self.shares(privileged).into_values().max().unwrap_or_default()
    }

    fn owner_of_largest_share(&self, privileged: bool) -> Option<Owner> {
        let (share, _) = self.shares(privileged).into_iter().max_by_key(|(share, count)| (*count, *share))?;
        Some(Owner { share, privileged })
    }

    fn shares(&self, privileged: bool) -> HashMap<u64, usize> {
        let mut shares = HashMap::new();
        for open in self.open.values().filter(|open| open.owner.privileged == privileged) {
            *shares.entry(open.owner.share).or_default() += 1;
        }
        shares
    }
}

/// A connection that records when something moves.
pub(crate) struct Watched {
    stream: Stream,
    activity: Arc<Activity>,
    /// Something was written that is not flushed. What has nothing to flush is flushed all the time.
    unflushed: bool,
}

impl Watched {
    pub(crate) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self { stream, activity, unflushed: false }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        // From its first byte on, a request is waited for until it is whole.
        self.activity.wait();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.wait();
        self.unflushed = true;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.activity.waiting.store(now(), Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // All that was written so far has been taken.
        if std::mem::take(&mut self.unflushed) {
            self.activity.rest();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(share: u64) -> Owner {
        Owner { share, privileged: false }
    }

    const ROOT: Owner = Owner { share: 7 << 32, privileged: true };

    #[test]
    fn user_with_many_connections_loses_the_oldest_and_others_find_room() {
        let connections = Connections::default();
        let of = |owner: Owner| connections.place_of(owner);
        let first: Vec<_> = (0..SHARE + 10).map(|_| of(user(1))).collect();
        let open = || connections.lock().open.values().map(|open| open.owner).collect::<Vec<_>>();
        assert_eq!(open().len(), SHARE);
        // Many users take all that is there for them, and no more.
        let many: Vec<_> = (2..400).map(|number| of(user(number))).collect();
        assert!(many.iter().all(Option::is_some));
        assert_eq!(open().len(), MAXIMUM - KEPT);
        let root: Vec<_> = (0..SHARE).map(|_| of(ROOT)).collect();
        assert!(root.iter().all(Option::is_some));
        assert_eq!(open().iter().filter(|owner| owner.privileged).count(), SHARE);
        assert!(open().len() <= MAXIMUM);
        // Nobody but another of its kind takes a place from root.
        let _more = of(user(1000));
        assert_eq!(open().iter().filter(|owner| owner.privileged).count(), SHARE);
        drop((first, many, root));
        assert!(open().is_empty() || open() == [user(1000)]);
    }

    #[test]
    fn caller_that_keeps_the_api_waiting_is_over_and_one_that_is_worked_for_is_not() {
        let activity = Arc::new(Activity::new());
        let left = |activity: &Activity| activity.deadline().map(|deadline| (deadline - now()) / 1000);
        assert!(left(&activity).unwrap() > 50, "idle");
        activity.wait();
        assert!(left(&activity).unwrap() <= 10, "half a request");
        let working = activity.work();
        assert_eq!(left(&activity), None);
        drop(working);
        assert!(left(&activity).unwrap() <= 10, "a response that is not read");
        activity.rest();
        assert!(left(&activity).unwrap() > 50);
    }
}
