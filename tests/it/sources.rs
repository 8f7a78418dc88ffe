//! Sources of video that are no files, each from a server of its kind: what is read from them is
//! what the film has.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::world::{binary, tools};

const FRAMES: usize = 20;
/// How long a server may take until it can be asked.
const PATIENCE: Duration = Duration::from_secs(40);

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended cannot be ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ffmpeg(film: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-re", "-i"]).arg(film).args(["-t", "3", "-an"]);
    command.args(words).stderr(Stdio::null());
    command
}

/// What each of the first frames has of likeness to the one before it.
fn likenesses(source: &str) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let (out, count) = (folder.path().join("out.jsonl"), FRAMES.to_string());
    let pipeline = "gray | psnr as=psnr";
    let run = Command::new(binary())
        .args(["video", "run", "--cpu", "--json", "--frames", &count, pipeline, source])
        .arg(&out)
        .output()?;
    ensure!(run.status.success(), "{source}: {}", String::from_utf8_lossy(&run.stderr));
    let psnr = |line: &str| {
        serde_json::from_str::<Value>(line)?["psnr"].as_f64().context(source.to_owned())
    };
    std::fs::read_to_string(out)?.lines().map(psnr).collect()
}

/// The same of a server that may not be there yet.
fn served(source: &str) -> Result<Vec<f64>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match likenesses(source) {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
            found => return found,
        }
    }
}

/// Ports that nobody has, for both kinds of sockets.
fn port() -> Result<u16> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    UdpSocket::bind(("127.0.0.1", port))?;
    Ok(port)
}

#[test]
fn streams_of_every_kind_have_the_frames_of_the_film() -> Result<()> {
    let film = tools().join("clips/bikes.mp4");
    if !film.exists() || Command::new("ffmpeg").arg("-version").output().is_err() {
        aloud::skipped!("no ffmpeg, or no {}", film.display());
        return Ok(());
    }
    let expected = likenesses(&film.display().to_string())?;
    assert_eq!(expected.len(), FRAMES);
    let listening = ["-listen", "1"];
    let copy = ["-c", "copy", "-f"];
    for (scheme, form, more, asked) in [
        ("rtmp", "flv", &listening[..], "/live/film"),
        ("srt", "mpegts", &[], "?mode=listener"),
        ("tcp", "mpegts", &[], "?listen=1"),
        ("http", "mpegts", &listening[..], "/film.ts"),
    ] {
        let address = format!("{scheme}://127.0.0.1:{}", port()?);
        let (at, source) = match asked.starts_with('/') {
            true => (format!("{address}{asked}"), format!("{address}{asked}")),
            false => (format!("{address}{asked}"), address),
        };
        let words = [&copy[..], &[form], more, &[&at]].concat();
        let _server = Server(ffmpeg(&film, &words).spawn()?);
        assert_eq!(served(&source)?, expected, "{source}");
    }
    let source = format!("http://127.0.0.1:{}/film", port()?);
    let words = ["-c:v", "mjpeg", "-q:v", "2", "-f", "mpjpeg", "-listen", "1", &source];
    let _server = Server(ffmpeg(&film, &words).spawn()?);
    let near = served(&source)?;
    let is_near = near.iter().zip(&expected).skip(1).all(|(a, b)| (a - b).abs() < 1.0);
    assert!(near.len() == FRAMES && is_near, "JPEGs one after the other: {near:?} {expected:?}");

    let packets = ffmpeg(&film, &["-c", "copy", "-f", "mpegts", "-"]).output()?.stdout;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let source = format!("rtsp://127.0.0.1:{}/film", listener.local_addr()?.port());
    let server = std::thread::spawn(move || rtsp(&listener, &packets));
    assert_eq!(served(&source)?, expected, "{source}");
    server.join().expect("the server does not panic")
}

/// Serves one client of RTSP (RFC 2326): a stream of transport packets in RTP (RFC 2250), between
/// the answers on the same connection.
fn rtsp(listener: &TcpListener, packets: &[u8]) -> Result<()> {
    let (stream, _) = listener.accept()?;
    let mut requests = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        let mut line = String::new();
        // A client that has enough may just go.
        while requests.read_line(&mut line).unwrap_or(0) > 2 {
            head.push(std::mem::take(&mut line));
        }
        let Some(method) = head.first().and_then(|line| line.split(' ').next()) else {
            return Ok(());
        };
        let of = |name: &str| head.iter().find(|line| line.starts_with(name)).map(|l| l.trim_end());
        let number = of("CSeq").context("a number")?;
        let over_tcp = of("Transport").is_some_and(|line| line.contains("RTP/AVP/TCP"));
        let description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=film\r\nt=0 0\r\n\
                           m=video 0 RTP/AVP 33\r\na=control:track\r\n";
        let (status, more, body) = match method {
            "DESCRIBE" => ("200 OK", "Content-Type: application/sdp\r\n", description),
            "SETUP" if !over_tcp => ("461 Unsupported Transport", "", ""),
            "SETUP" => ("200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", ""),
            _ => ("200 OK", "", ""),
        };
        let length = body.len();
        let answer = format!(
            "RTSP/1.0 {status}\r\n{number}\r\nSession: 1\r\n{more}Content-Length: {length}\r\n\r\n\
             {body}"
        );
        if (&stream).write_all(answer.as_bytes()).is_err() {
            return Ok(());
        }
        match method {
            "PLAY" if play(&stream, packets).is_err() => return Ok(()),
            "TEARDOWN" => return Ok(()),
            _ => {}
        }
    }
}

/// Seven packets at a time; the client goes when it has enough.
fn play(mut stream: &TcpStream, packets: &[u8]) -> std::io::Result<()> {
    for (number, part) in packets.chunks(7 * 188).enumerate() {
        let mut packet = vec![b'$', 0];
        packet.extend((12 + part.len() as u16).to_be_bytes());
        packet.extend([0x80, 33]);
        packet.extend((number as u16).to_be_bytes());
        packet.extend((number as u32 * 90).to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.extend(part);
        stream.write_all(&packet)?;
    }
    Ok(())
}
