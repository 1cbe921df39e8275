//! One leader at a time, known by name to whoever asks.

use std::time::Duration;

use crate::types::{LostReason, Outcome, Unlocked, WatchChange};
use crate::{Client, Error, Guard, LockBuilder, Watch};

/// Under which pair of the metadata a leader's name is kept.
const NAME: &str = "leader";

/// Candidates for a key: who holds it leads. Those who wait are elected in the order in which they came.
///
/// ```no_run
/// # async fn f(client: ticketlock_client::Client) -> Result<(), ticketlock_client::Error> {
/// use ticketlock_client::leased::Election;
///
/// let election = Election::new(client, "leaders/reports");
/// let leadership = election.campaign("node-7").await?;
/// tokio::select! {
///     reason = leadership.lost() => eprintln!("no longer the leader: {reason}"),
///     // … lead, and hand leadership.fencing_token() to what is written …
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Election {
    client: Client,
    key: String,
    ttl: Option<Duration>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The name it campaigned with.
    pub name: String,
    /// Grows from leader to leader.
    pub fencing_token: u64,
}

impl Election {
    /// An election over this key.
    #[must_use]
    pub fn new(client: Client, key: impl Into<String>) -> Self {
        Self {
            client,
            key: key.into(),
            ttl: None,
        }
    }

    /// How long after a leader fell silent the next one leads, 100 ms to 24 h. Default: the server's, 30 s.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Waits in line until elected. Dropping the future withdraws.
    ///
    /// # Errors
    /// Why that cannot be; a name of more than 1 KiB is refused.
    pub async fn campaign(&self, name: impl Into<String>) -> Result<Leadership, Error> {
        let mut builder: LockBuilder = self.client.lock(&self.key).metadata(NAME, name);
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(ttl);
        }
        let guard = builder.await?;
        guard.confirmed().await.map_err(Error::Lost)?;
        Ok(Leadership { guard })
    }

    /// Who leads now.
    ///
    /// # Errors
    /// Where the server could not answer.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        let lock = self.client.get(&self.key).await?;
        Ok(lock.holders.into_iter().next().map(|mut holder| Leader {
            name: holder.metadata.remove(NAME).unwrap_or(holder.owner),
            fencing_token: holder.fencing_token,
        }))
    }

    /// Follows who leads: first the present leader, then each change. Changes that come faster than they are read are told
    /// as they stand last.
    ///
    /// # Errors
    /// Where the server could not answer.
    pub async fn observe(&self) -> Result<Observing, Error> {
        let events = self.client.watch(&self.key).await?;
        Ok(Observing {
            election: self.clone(),
            events,
            told: None,
            stale: true,
        })
    }
}

/// The leader's end. Dropping it resigns in the background.
#[derive(Debug)]
#[must_use = "dropping it resigns"]
pub struct Leadership {
    guard: Guard,
}

impl Leadership {
    /// Whether it leads for certain at this moment. Answers locally.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.guard.is_held()
    }

    /// Greater than that of every leader before.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.guard.fencing_token()
    }

    /// Waits until leadership is lost, and tells why. Never ends after [`resign`](Self::resign).
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + 'static {
        self.guard.lost()
    }

    /// Lets the next one lead.
    ///
    /// # Errors
    /// Where no answer came: the lease ends it.
    pub async fn resign(self) -> Result<Unlocked, Error> {
        self.guard.unlock(Outcome::default()).await
    }
}

/// Follows an election, from [`Election::observe`].
#[derive(Debug)]
pub struct Observing {
    election: Election,
    events: Watch,
    /// What was told last; `None` before the first.
    told: Option<Option<Leader>>,
    /// Something has happened since.
    stale: bool,
}

impl Observing {
    /// The next leader; `Some(Ok(None))` while there is none. `None` when the watch has ended. Cancel-safe; after an error it
    /// may be asked again.
    pub async fn next(&mut self) -> Option<Result<Option<Leader>, Error>> {
        loop {
            if !self.stale {
                match self.events.next().await? {
                    Err(error) => return Some(Err(error)),
                    Ok(event) => match event.change {
                        WatchChange::Changed(event) if event.key == self.election.key => {}
                        WatchChange::Resync => {}
                        _ => continue,
                    },
                }
            }
            self.stale = true;
            let leader = match self.election.leader().await {
                Ok(leader) => leader,
                Err(error) => return Some(Err(error)),
            };
            self.stale = false;
            if self.told.as_ref() != Some(&leader) {
                self.told = Some(leader.clone());
                return Some(Ok(leader));
            }
        }
    }
}
