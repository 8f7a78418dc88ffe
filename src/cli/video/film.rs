//! Where frames come from: a process that decodes, as a node has one for each stream. Whatever a
//! damaged film does to it, the run ends with words; and a GPU decodes where there is one.

use std::process::Stdio;

use accel::Frame;
use accel::video::child::{self, Reader};
use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};

/// A film that is being decoded; the process ends with it.
pub struct Film {
    reader: Reader,
    _decoder: Child,
}

impl Film {
    pub fn open(source: &str) -> Result<Self> {
        let (near, far) = child::pair()?;
        let (input, output) = far.into_stdio();
        let mut decoder = Command::new(std::env::current_exe()?);
        decoder.arg("media-decode").arg(source).stdin(input).stdout(output);
        // What it has to say comes over the wire as well.
        decoder.stderr(Stdio::null()).kill_on_drop(true);
        let child = decoder.spawn().context("the process that decodes does not start")?;
        // The command holds the child's ends, and without them a dead child is seen at once.
        drop(decoder);
        Ok(Self { reader: Reader::new(near, source)?, _decoder: child })
    }

    /// The next frame; none at the end.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        Ok(self.reader.next().await?)
    }
}
