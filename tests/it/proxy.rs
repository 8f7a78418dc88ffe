//! A link that can be cut: a TCP proxy between a child's server and its parent's.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use edgescale::tree::LinkVia;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What the link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// Connections are closed, new ones refused.
    Cut,
    /// Connections stay open; no byte arrives.
    Hole,
    /// Every chunk of at most [`SLOW_BYTES`] takes [`SLOW_PAUSE`].
    Slow,
}

/// What a slow link lets through at once.
const SLOW_BYTES: usize = 4 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// A proxy whose target is told once the parent's port is known.
pub struct Proxy {
    state: watch::Sender<Link>,
    runtime: tokio::runtime::Handle,
}

impl Proxy {
    /// A proxy that forwards; nothing listens until the tree asks for the way round.
    pub fn new() -> Arc<Self> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { state: watch::Sender::new(Link::Up), runtime })
    }

    /// The way round for a tree's plan.
    pub fn via(self: &Arc<Self>) -> LinkVia {
        let proxy = self.clone();
        Arc::new(move |target| proxy.listen(target))
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.state.send_replace(Link::Cut);
    }

    /// Keeps connections open and lets nothing through.
    pub fn black_hole(&self) {
        self.state.send_replace(Link::Hole);
    }

    /// Lets through 40 KB a second, each way, 100 ms late.
    pub fn slow(&self) {
        self.state.send_replace(Link::Slow);
    }

    /// Lets bytes through again.
    pub fn heal(&self) {
        self.state.send_replace(Link::Up);
    }

    fn listen(&self, target: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the proxy");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let state = self.state.subscribe();
        let _in_runtime = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a tokio listener");
        self.runtime.spawn(accept(listener, target, state));
        port
    }
}

async fn accept(listener: tokio::net::TcpListener, target: u16, state: watch::Receiver<Link>) {
    while let Ok((near, _)) = listener.accept().await {
        if *state.borrow() != Link::Cut {
            tokio::spawn(forward(near, target, state.clone()));
        }
    }
}

async fn forward(near: TcpStream, target: u16, mut state: watch::Receiver<Link>) {
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let (there, back) = (state.clone(), state.clone());
    let pumps = async { tokio::join!(pump(&near, &far, there), pump(&far, &near, back)) };
    tokio::select! {
        _ = pumps => {}
        _ = state.wait_for(|link| *link == Link::Cut) => {}
    }
}

async fn pump(from: &TcpStream, to: &TcpStream, mut state: watch::Receiver<Link>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if state.wait_for(|link| *link != Link::Hole).await.is_err() {
            return;
        }
        if from.readable().await.is_err() {
            return;
        }
        let slow = *state.borrow() == Link::Slow;
        let room = if slow { SLOW_BYTES } else { buffer.len() };
        let count = match from.try_read(&mut buffer[..room]) {
            Ok(0) => return,
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        if slow {
            tokio::time::sleep(SLOW_PAUSE).await;
        }
        if write_all(to, &buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
