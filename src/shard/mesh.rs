//! Finds the core that owns a key and carries operations to it.
//!
//! Each pair of cores shares two queues, one per direction, so no queue has two writers. At most
//! half a queue holds operations in flight; the rest is kept for answers, which is why an answer
//! always finds room. What does not fit waits on the asking side, bounded by the connections'
//! own bounds. Nothing here blocks.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::doorbell::Doorbell;
use crate::limits::{MESH_HANDOVERS_MAX, MESH_OPERATIONS_MAX, MESH_QUEUE_MESSAGES};
use crate::shard::job::Job;

/// Jobs kept for reuse by each reactor.
const SPARE_JOBS_MAX: usize = 4_096;

/// What travels between two reactors.
#[derive(Debug)]
pub enum Message {
    /// Please do this.
    Ask(Box<Job>),
    /// This is what came of it.
    Answer(Box<Job>),
    /// Please serve this connection: I have more than my share.
    Handover(Arrival),
}

/// A connection that was accepted, before anything was read of it.
#[derive(Debug)]
pub enum Arrival {
    /// It speaks HTTP.
    Plain {
        /// Over TCP or a Unix socket.
        socket: OwnedFd,
        /// The user of a process of this machine that needs no credential.
        trusted_uid: Option<u32>,
    },
    /// It is to speak TLS first, over TCP.
    Tls(OwnedFd),
}

const _: () = assert!(size_of::<Message>() == 16, "an arrival must not make the queues larger");

/// One reactor's ends of the queues to and from all others.
#[derive(Debug)]
pub struct Mesh {
    me: usize,
    peers: Vec<Option<Peer>>,
    bells: Arc<[Doorbell]>,
    /// Boxed, because that is how they travel: a job is not copied when it is reused.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Job>>,
}

#[derive(Debug)]
struct Peer {
    to: Producer<Message>,
    from: Consumer<Message>,
    /// Operations sent to this peer and not yet answered.
    asked: usize,
    /// Jobs that wait until fewer are under way.
    waiting: VecDeque<Box<Job>>,
    /// Something was put into the queue since the peer was last rung.
    unrung: bool,
}

impl Mesh {
    /// The ends for each of the reactors whose doorbells these are.
    pub fn connect(bells: Arc<[Doorbell]>) -> Vec<Mesh> {
        let count = bells.len();
        let mut meshes: Vec<Mesh> = (0..count)
            .map(|me| Mesh {
                me,
                peers: (0..count).map(|_| None).collect(),
                bells: bells.clone(),
                spare: Vec::new(),
            })
            .collect();
        for one in 0..count {
            for other in one + 1..count {
                let (to_other, from_one) = RingBuffer::new(MESH_QUEUE_MESSAGES);
                let (to_one, from_other) = RingBuffer::new(MESH_QUEUE_MESSAGES);
                meshes[one].peers[other] = Some(Peer::new(to_other, from_other));
                meshes[other].peers[one] = Some(Peer::new(to_one, from_one));
            }
        }
        meshes
    }

    /// This reactor's number.
    pub fn me(&self) -> usize {
        self.me
    }

    /// How many reactors there are.
    pub fn reactors(&self) -> usize {
        self.peers.len()
    }

    /// A job to pack an operation into.
    pub fn job(&mut self) -> Box<Job> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a job back whose answer has been used.
    pub fn recycle(&mut self, mut job: Box<Job>) {
        if self.spare.len() < SPARE_JOBS_MAX {
            job.reset();
            self.spare.push(job);
        }
    }

    /// Sends a job to the reactor that owns its key, now or as soon as there is room.
    pub fn ask(&mut self, owner: usize, job: Box<Job>) {
        let Some(peer) = self.peers[owner].as_mut() else { unreachable!("a reactor does not ask itself") };
        peer.waiting.push_back(job);
        peer.send_waiting();
    }

    /// Sends a job back to whom it came from.
    pub fn answer(&mut self, asker: usize, job: Box<Job>) {
        if let Some(peer) = self.peers[asker].as_mut() {
            peer.unrung = true;
            let pushed = peer.to.push(Message::Answer(job));
            debug_assert!(pushed.is_ok(), "half of the queue is kept for answers");
        }
    }

    /// Hands a connection to another reactor; gives it back when that one's queue is busy.
    pub fn hand_over(&mut self, to: usize, arrival: Arrival) -> Result<(), Arrival> {
        match self.peers[to].as_mut() {
            Some(peer) if peer.to.slots() > MESH_QUEUE_MESSAGES - MESH_HANDOVERS_MAX => {
                peer.unrung = true;
                match peer.to.push(Message::Handover(arrival)) {
                    Ok(()) => Ok(()),
                    Err(rtrb::PushError::Full(Message::Handover(arrival))) => Err(arrival),
                    Err(_) => unreachable!("what does not fit comes back"),
                }
            }
            _ => Err(arrival),
        }
    }

    /// How many messages a peer has for this reactor.
    pub fn pending(&self, peer: usize) -> usize {
        self.peers[peer].as_ref().map_or(0, |peer| peer.from.slots())
    }

    /// The next message from a peer.
    pub fn receive(&mut self, peer: usize) -> Option<Message> {
        let peer = self.peers[peer].as_mut()?;
        let message = peer.from.pop().ok()?;
        if let Message::Answer(_) = message {
            peer.asked -= 1;
            peer.send_waiting();
        }
        Some(message)
    }

    /// Whether no peer has a message for this reactor.
    pub fn is_empty(&self) -> bool {
        self.peers.iter().flatten().all(|peer| peer.from.is_empty())
    }

    /// Wakes the peers that sleep and have got something. Called once or twice a turn.
    pub fn ring(&mut self) {
        for (peer, bell) in self.peers.iter_mut().zip(self.bells.iter()) {
            if let Some(peer) = peer
                && std::mem::take(&mut peer.unrung)
            {
                bell.ring();
            }
        }
    }

    /// Wakes everybody: the node is at its end.
    pub fn wake_all(&self) {
        self.bells.iter().for_each(Doorbell::ring_always);
    }

    /// This reactor's own doorbell.
    pub fn bell(&self) -> &Doorbell {
        &self.bells[self.me]
    }
}

impl Peer {
    fn new(to: Producer<Message>, from: Consumer<Message>) -> Peer {
        Peer { to, from, asked: 0, waiting: VecDeque::new(), unrung: false }
    }

    fn send_waiting(&mut self) {
        while self.asked < MESH_OPERATIONS_MAX
            && let Some(job) = self.waiting.pop_front()
        {
            match self.to.push(Message::Ask(job)) {
                Ok(()) => {
                    self.asked += 1;
                    self.unrung = true;
                }
                Err(rtrb::PushError::Full(Message::Ask(job))) => {
                    self.waiting.push_front(job);
                    return;
                }
                Err(_) => unreachable!("what does not fit comes back"),
            }
        }
    }
}
