//! What a node and a worker say to each other, over a pair of sockets: frames of a head in JSON and
//! a body of bytes. Neither side trusts the other's lengths.
//!
//! ```text
//! 0  head u32, little-endian    4  body u32    8  the head, then the body
//! ```

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Digest;
use crate::execute::http::{HttpHead, HttpRequest};
use crate::execute::wasm::{Compiler, Form};
use crate::execute::{Event, HostError, InvokeError, Level, Machine, Request, Row, Scan, Target};
use crate::settings;

/// Longest head.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 20;
/// Longest body: that of a blob.
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;
const LENGTHS_BYTES: usize = 8;

/// What a node says to a worker.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Comes first, and once.
    Start(Start),
    /// Comes first, and alone: compile the component that is the frame's body.
    Compile(Compile),
    /// Begin an invocation; its input's body is the frame's.
    Invoke { number: u64, job: Box<Job> },
    /// Nobody waits for it any more.
    Cancel { number: u64 },
    /// The answer to what was asked; the socket that it may come with was sent before.
    Answer { ask: u64, answer: Answer, has_socket: bool },
}

/// Of a host, with the bytes that belong to it as the frame's body.
pub(super) type Answer = Result<Value, HostError>;

/// What a worker runs.
#[derive(Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) digest: Digest,
    pub(super) form: Form,
    /// Compiled code whose seal the node has looked at.
    pub(super) file: PathBuf,
    pub(super) instances_max: u32,
}

/// How something is compiled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::execute) struct Compile {
    pub(in crate::execute) compiler: Compiler,
    /// Whether it wants the engine for WASI 0.3.
    pub(in crate::execute) concurrent: bool,
    /// For another machine than this one.
    pub(in crate::execute) machine: Option<Machine>,
    /// Whether nobody waits for it: on half of the cores, by threads that let all others go first.
    pub(in crate::execute) behind: bool,
    /// Computing time it may take.
    pub(in crate::execute) cpu_s: u32,
}

/// One invocation.
#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) given: Given,
    pub(super) attempt: u32,
    /// Time that is left.
    pub(super) left_us: u64,
    /// What an error says of it.
    pub(super) limit_ms: u64,
    pub(super) settings: settings::Parts,
    /// Whether its answer may go out in parts.
    pub(super) has_outlet: bool,
}

/// Its input without the body.
#[derive(Serialize, Deserialize)]
pub(super) enum Given {
    Event(Event),
    Call(Request),
    Http {
        request: Box<HttpRequest>,
        route: String,
        parameters: Vec<(String, String)>,
        /// Whether the body is to be asked for part by part.
        is_arriving: bool,
    },
    /// For nobody: instances are to be made that wait, as many as its target wants ready.
    Nothing,
}

/// What a worker says to its node.
#[derive(Serialize, Deserialize)]
pub(super) enum Word {
    /// The compiled code is the frame's body; or why the compiler refuses it.
    Compiled(Result<(), String>),
    /// It can be given invocations, or cannot run this code.
    Ready(Result<(), InvokeError>),
    /// A guest asks something of the node.
    Ask { number: u64, ask: u64, question: Question },
    /// A line for the log.
    Log { number: u64, level: Level, text: String },
    /// The log of an invocation is full.
    LogFull { number: u64 },
    /// A guest was not let out because it has asked too often.
    TooMany { number: u64 },
    /// An invocation has ended; the answer's body is the frame's.
    Done { number: u64, result: Result<Done, InvokeError> },
}

/// What a guest answered.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) content_type: String,
    pub(super) http: Option<HttpHead>,
}

/// A question of [`Host`](crate::execute::Host), or about the invocation's own bodies.
#[derive(Serialize, Deserialize)]
pub(super) enum Question {
    Get {
        table: String,
        key: Row,
    },
    Put {
        table: String,
        rows: Vec<Row>,
    },
    PutIf {
        table: String,
        key: Row,
        expected: Option<Row>,
        row: Row,
    },
    Delete {
        table: String,
        keys: Vec<Row>,
    },
    Increment {
        table: String,
        key: Row,
        deltas: Row,
    },
    Scan {
        table: String,
        scan: Scan,
    },
    Operation {
        operation: String,
        request: Row,
    },
    /// The rows are the frame's body, and so are those of the answer.
    Arrow {
        operation: String,
        request: Row,
        has_rows: bool,
    },
    Sql {
        question: String,
    },
    /// The content is the frame's body.
    PutBlob,
    /// The same of the app alone.
    PutPrivateBlob,
    LetGo {
        keys: Vec<String>,
    },
    GetBlob {
        key: String,
        range: Option<(u64, u64)>,
    },
    Publish {
        subject: String,
        content_type: String,
        metadata: Vec<(String, String)>,
    },
    Call {
        name: String,
    },
    /// Answered with a socket, or with a refusal.
    Connect {
        host: String,
        port: u16,
    },
    /// The next part of the request's body: a [`Part`].
    Part,
    /// The answer's head goes out.
    Begin {
        head: HttpHead,
    },
    /// Part of the answer's body, which is the frame's.
    Send,
}

/// Of a request's body.
#[derive(Serialize, Deserialize)]
pub(super) enum Part {
    More,
    End,
    Broken(crate::execute::Broken),
}

/// The bytes of a frame, but for a long body; the error says what is too long.
pub(super) fn encode(head: &impl Serialize, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut frame = vec![0; LENGTHS_BYTES];
    serde_json::to_writer(&mut frame, head).map_err(|error| error.to_string())?;
    let head_len = frame.len() - LENGTHS_BYTES;
    for (what, len, len_max) in
        [("text", head_len, HEAD_BYTES_MAX), ("bytes", body.len(), BODY_BYTES_MAX)]
    {
        if len > len_max {
            return Err(format!("{len} bytes of {what} at once; at most {len_max} go"));
        }
    }
    frame[..4].copy_from_slice(&(head_len as u32).to_le_bytes());
    frame[4..LENGTHS_BYTES].copy_from_slice(&(body.len() as u32).to_le_bytes());
    Ok(frame)
}

/// Sends what [`encode`] made, and the body.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    mut frame: Vec<u8>,
    body: &[u8],
) -> io::Result<()> {
    const SHORT: usize = 64 << 10;
    if body.len() > SHORT {
        to.write_all(&frame).await?;
        return to.write_all(body).await;
    }
    frame.extend_from_slice(body);
    to.write_all(&frame).await
}

/// The next frame; none where the other side has closed the socket between two.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(T, Bytes)>> {
    let mut lengths = [0; LENGTHS_BYTES];
    if from.read(&mut lengths[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lengths[1..]).await?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let (head, body) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let head = exactly(from, head as usize, HEAD_BYTES_MAX).await?;
    let body = exactly(from, body as usize, BODY_BYTES_MAX).await?;
    Ok(Some((serde_json::from_slice(&head)?, body.into())))
}

/// Takes memory as bytes come, not as many as were announced.
async fn exactly(
    from: &mut (impl AsyncRead + Unpin),
    len: usize,
    len_max: usize,
) -> io::Result<Vec<u8>> {
    const ANNOUNCED: usize = 1 << 20;
    if len > len_max {
        return Err(io::Error::other(format!("a frame with {len} bytes in one part")));
    }
    let mut bytes = Vec::with_capacity(len.min(ANNOUNCED));
    match from.take(len as u64).read_to_end(&mut bytes).await? {
        read if read == len => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests;
