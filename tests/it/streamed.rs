//! Answers that go out while their handler runs, through the door of a node, with curl.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::gateway::{curl, has_curl, place};
use crate::world::{World, eventually, tools};

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
        eprintln!("skipped: no curl or no node; run ./tools.sh test");
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
