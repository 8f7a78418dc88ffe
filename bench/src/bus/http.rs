//! One request after another over one connection, and the bare server beside which ours is set.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use axum::routing::post;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The path of the bare server.
pub const BARE_PATH: &str = "/echo";
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Door {
    /// `host:port`.
    pub address: String,
    pub path: String,
    /// What the door wants to be shown.
    pub token: Option<String>,
}

/// A connection that is kept.
pub(super) struct Client {
    stream: TcpStream,
    head: String,
    buffer: Vec<u8>,
}

impl Door {
    pub(super) async fn connect(&self) -> io::Result<Client> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let mut head = format!("POST {} HTTP/1.1\r\nhost: {}\r\n", self.path, self.address);
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        head += "content-type: application/json\r\ncontent-length: ";
        Ok(Client { stream, head, buffer: vec![] })
    }
}

impl Client {
    /// Sends a body and waits for the whole answer, which must be a 200.
    pub async fn post(&mut self, body: &[u8]) -> io::Result<()> {
        let mut request = format!("{}{}\r\n\r\n", self.head, body.len()).into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        self.buffer.clear();
        while !is_whole(&self.buffer)? {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// Whether an answer has all of its body.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let bad = |why: String| Err(io::Error::new(ErrorKind::InvalidData, why));
    if answer.len() > ANSWER_BYTES_MAX {
        return bad("the answer is too long".into());
    }
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    if !head.starts_with("HTTP/1.1 200") {
        return bad(head.into_owned());
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => Ok(answer.len() >= end + 4 + length),
        None => bad("the answer has no content-length".into()),
    }
}

/// Answers with what it is sent, for ever.
pub(super) async fn serve_bare(ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    ready(listener.local_addr()?);
    let router = axum::Router::new().route(BARE_PATH, post(async |body: Bytes| body));
    axum::serve(listener, router).await
}
