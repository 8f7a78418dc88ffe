//! Answers that go out while their handler runs, and bodies that it reads while they come, through
//! the door of a node, with curl.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use edgescale::node;

use crate::gateway::{check_problem, curl, has_curl, place};
use crate::world::{PATIENCE, World, eventually, root, tools};

/// Gives its process' number, and the rest once another request has said so.
const FUNCTION: &str = r#"
import * as edgescale from "edgescale";
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

export const handler = awslambda.streamifyResponse(async (event, plain) => {
  const head = { statusCode: 200, headers: { "content-type": "text/plain" } };
  const stream = awslambda.HttpResponseStream.from(plain, head);
  stream.write(`${process.pid} `);
  const { id } = event.pathParameters;
  while (!(await edgescale.get("signals", { id }))) await wait(5);
  if (id === "break") throw new Error("midway");
  stream.end("rest");
});

export const signal = async (event) => {
  await edgescale.put("signals", { id: event.pathParameters.id });
};
"#;

const APP: &str = r#"
[app]
name = "slow"

[[table]]
name = "signals"
key = ["id"]
columns = [{ name = "id", type = "utf8" }]

[[handler]]
name = "stream"
js = "{code}"
entry = "app.handler"

[[handler.trigger]]
http = "GET /stream/{id}"

[handler.placement]
min_tier = "cloud"

[handler.limits]
timeout_ms = 60000

[[handler]]
name = "signal"
js = "{code}"
entry = "app.signal"

[[handler.trigger]]
http = "PUT /signal/{id}"

[handler.placement]
min_tier = "cloud"
"#;

/// A curl that shows what comes as it comes.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Reader {
    fn start(url: &str) -> Result<Self> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--no-buffer", "--noproxy", "*", "--max-time", "60", url]);
        Ok(Self(curl.stdout(Stdio::piped()).spawn().context("curl")?))
    }

    /// The first part: a number and a space.
    fn first(&mut self) -> Result<String> {
        let out = self.0.stdout.as_mut().context("curl has an output")?;
        let mut text = Vec::new();
        while !text.ends_with(b" ") {
            let mut byte = [0];
            out.read_exact(&mut byte).context("the answer ended before its first part")?;
            text.push(byte[0]);
        }
        Ok(String::from_utf8(text)?.trim().to_owned())
    }

    /// What comes behind it, and whether curl found the answer whole.
    fn rest(mut self) -> Result<(String, bool)> {
        let mut text = String::new();
        self.0.stdout.as_mut().context("curl has an output")?.read_to_string(&mut text)?;
        Ok((text, self.0.wait()?.success()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_while_the_handler_runs_and_stops_it_by_leaving() -> Result<()> {
    if !has_curl() || !tools().join("bin/node").exists() {
        aloud::skipped!("no curl or no node; run ./tools.sh test");
        return Ok(());
    }
    let world = World::start_with(&["cloud", "cloud.east"], []).await?;
    world.apply(APP, &[("code", FUNCTION.into())]).await?;
    let door = |site| Ok::<_, anyhow::Error>(format!("{}/slow", place(&world, site)?.url));
    let (here, above) = (door("cloud")?, door("east")?);
    let signal = |id: &str| {
        let put = curl(&["--request", "PUT", &format!("{here}/signal/{id}")], b"")?;
        anyhow::ensure!(put.status == 200, "signal: {}", put.status);
        Ok(())
    };

    let mut reader = Reader::start(&format!("{here}/stream/one"))?;
    reader.first()?;
    signal("one")?;
    assert_eq!(reader.rest()?, ("rest".into(), true));

    let mut reader = Reader::start(&format!("{here}/stream/break"))?;
    reader.first()?;
    signal("break")?;
    assert_eq!(reader.rest()?, (String::new(), false), "a failure midway ends the answer early");
    let failed =
        async || Ok((world.count("cloud", "failures slow/stream").await? == 1).then_some(()));
    eventually("the failure to be counted", failed).await?;

    let mut reader = Reader::start(&format!("{here}/stream/never"))?;
    let process = PathBuf::from("/proc").join(reader.first()?);
    assert!(process.exists());
    drop(reader);
    let gone = async || Ok((!process.exists()).then_some(()));
    eventually("the handler of a client that left to end", gone).await?;

    // From another site the same answer comes whole.
    let got = curl(&[&format!("{above}/stream/one")], b"")?;
    assert!(got.status == 200 && got.body.ends_with(b"rest"), "{}", got.status);
    assert_eq!((got.header("es-site"), got.header("content-type")), ("cloud", "text/plain"));
    Ok(())
}

const UPLOAD: &str = r#"
[app]
name = "up"

[[handler]]
name = "echo"
component = "{code}"
request_body = "stream"

[[handler.trigger]]
http = "POST /{path+}"

[handler.placement]
min_tier = "cloud"

[handler.limits]
timeout_ms = 60000
memory_mb = 256
"#;

/// A stock component of `wasi:http`, or nothing where it cannot be built.
fn component() -> Result<Option<Vec<u8>>> {
    if !tools().join("componentize/bin/componentize-py").exists() {
        aloud::skipped!("no componentize-py; run ./tools.sh test");
        return Ok(None);
    }
    let out = root().join("target/guests");
    let mut build = Command::new(root().join("handlers/guests/build.sh"));
    let built = build.arg(&out).arg("web").env("EDGESCALE_TOOLS", tools()).output()?;
    anyhow::ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(Some(std::fs::read(out.join("web.wasm"))?))
}

/// A client that sends a body in chunks when it is told to, and reads meanwhile; curl looks at what
/// comes only when it has something to send.
struct Talker {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Talker {
    fn start(url: &str) -> Result<Self> {
        let (address, path) =
            url.strip_prefix("http://").and_then(|url| url.split_once('/')).context("a URL")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "POST /{path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")?;
        Ok(Self { stream, heard: vec![] })
    }

    /// Sends a chunk; an empty one is the end.
    fn say(&mut self, text: &str) -> Result<()> {
        Ok(write!(self.stream, "{:x}\r\n{text}\r\n", text.len())?)
    }

    /// Reads until this has come, or the connection has ended; whether it came.
    fn hears(&mut self, text: &str) -> Result<bool> {
        let came = |heard: &[u8]| heard.windows(text.len()).any(|part| part == text.as_bytes());
        while !came(&self.heard) {
            let mut part = [0; 4096];
            match self.stream.read(&mut part)? {
                0 => return Ok(false),
                read => self.heard.extend_from_slice(&part[..read]),
            }
        }
        Ok(true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_reads_what_a_client_is_still_sending() -> Result<()> {
    let Some(code) = component()?.filter(|_| has_curl()) else { return Ok(()) };
    let mut world = World::start_with(&["cloud", "cloud.east"], []).await?;
    let file = world.tree.dir().join("cloud").join(node::CONFIG_FILE);
    let mut settings = node::Settings::load(&file)?;
    settings.http.body_bytes_max = 1000;
    settings.save(&file)?;
    world.tree.kill_node("cloud")?;
    world.tree.restart_node("cloud").await?;
    world.context = world.tree.context();
    world.apply(UPLOAD, &[("code", code)]).await?;
    let door = |site| Ok::<_, anyhow::Error>(format!("{}/up", place(&world, site)?.url));
    let (here, below) = (door("cloud")?, door("east")?);

    let mut client = Talker::start(&format!("{here}/back"))?;
    for word in ["one", "two", "three"] {
        client.say(word)?;
        assert!(client.hears(&format!("{word}\r\n"))?, "{word} comes back meanwhile");
    }
    client.say("")?;
    assert!(client.hears("\r\n0\r\n\r\n")?, "the answer ends with the request");

    // Too much: an answer that has begun breaks off, one that has not is a refusal.
    let mut client = Talker::start(&format!("{here}/back"))?;
    client.say("one")?;
    assert!(client.hears("one\r\n")?);
    client.say(&"x".repeat(1000))?;
    assert!(!client.hears("\r\n0\r\n\r\n")?, "the answer ended as if it were whole");
    let late = format!("{here}/teapot");
    let chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", "@-", &late];
    check_problem(&curl(&chunked, &[b'x'; 1001])?, 413, "payload-too-large", "the 1000 bytes");
    assert_eq!(curl(&chunked, &[b'x'; 1000])?.status, 418);
    let said = curl(&["--data-binary", "@-", &format!("{here}/back")], &[b'x'; 1001])?;
    check_problem(&said, 413, "payload-too-large", "the 1000 bytes");

    // Without a body, and from a site that does not run it: there it is taken in whole.
    let got = curl(&["--request", "POST", &format!("{here}/back")], b"")?;
    assert_eq!((got.status, got.body.len()), (200, 0));
    let got = curl(&["--data-binary", "@-", &format!("{below}/back")], b"from below")?;
    assert_eq!((got.status, &got.body[..]), (200, &b"from below"[..]));
    assert_eq!(got.header("es-site"), "cloud");
    Ok(())
}
