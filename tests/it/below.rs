//! Sites on other machines, looked at by way of the one at hand.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use bus::{Headers, Kind, Subject};
use edgescale::node::client;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::sites::{Sites, seen};
use crate::world::{binary, eventually, tools};

/// `edgescale logs -f` at a site, until it is dropped.
struct Following {
    child: Child,
    said: NamedTempFile,
}

impl Following {
    fn start(sites: &Sites, name: &str, more: &[&str]) -> Result<Self> {
        let said = NamedTempFile::new()?;
        let mut command = Command::new(binary());
        command.arg("--dir").arg(sites.dir(name)).arg("--tools").arg(tools());
        command.args(["--json", "logs", "-f", "-n", "0"]).args(more);
        command.stdin(Stdio::null()).stdout(said.reopen()?);
        Ok(Self { child: command.spawn()?, said })
    }

    fn lines(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.said.path())?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn says(line: &Value, site: &str, text: &str) -> bool {
    line["site"] == site && line["text"].as_str().is_some_and(|said| said.contains(text))
}

#[tokio::test]
async fn lines_and_dead_letters_of_sites_below_come_by_the_one_at_hand() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    for (parent, name) in [("cloud", "east"), ("east", "cell")] {
        sites.join(parent, name)?;
        sites.start(name)?;
        sites.report(name).await?;
    }
    seen(&cloud, "cloud.east", true).await?;
    let all = async || Ok((client::report(&cloud).await?.brief.size() == 3).then_some(()));
    eventually("all sites at the root", all).await?;

    // All of the tree, one site of it, and all from the middle of it.
    let root = Following::start(&sites, "cloud", &[])?;
    let one = Following::start(&sites, "cloud", &["--at", "cloud.east"])?;
    let middle = Following::start(&sites, "east", &[])?;
    let (cell, east) = ("cloud.east.cell", "cloud.east");
    let all_heard = async || {
        for name in ["cloud", "east", "cell"] {
            sites.json(name, &["tree", "invite", "new"], "")?;
        }
        let heard = |following: &Following, site: &str| -> Result<bool> {
            Ok(following.lines()?.iter().any(|line| says(line, site, "new is invited")))
        };
        let (root_hears, middle_hears) = (
            heard(&root, "cloud")? && heard(&root, east)? && heard(&root, cell)?,
            heard(&middle, east)? && heard(&middle, cell)?,
        );
        Ok((root_hears && middle_hears && heard(&one, east)?).then_some(()))
    };
    eventually("lines of all sites at all who follow", all_heard).await?;
    let told = root.lines()?;
    for (at, line) in told.iter().enumerate() {
        assert!(!told[..at].contains(line), "twice: {line}");
    }
    assert!(one.lines()?.iter().all(|line| line["site"] == east), "{:?}", one.lines()?);
    assert!(middle.lines()?.iter().all(|line| line["site"] != "cloud"), "{:?}", middle.lines()?);

    // What was said before.
    let past = sites.json("cloud", &["logs"], "")?;
    let past = past.as_array().context("a list")?;
    for site in ["cloud", east, cell] {
        assert!(past.iter().any(|line| says(line, site, "new is invited")), "{site}: {past:?}");
    }
    let past = sites.json("cloud", &["--at", cell, "logs"], "")?;
    let past = past.as_array().context("a list")?;
    ensure!(!past.is_empty() && past.iter().all(|line| line["site"] == cell), "{past:?}");

    // What it is and has.
    assert_eq!(sites.json("cloud", &["--at", cell, "tree"], "")?["path"], cell);
    assert_eq!(sites.json("cloud", &["--at", cell, "ls"], "")?, json!([]));
    let top = sites.json("cloud", &["--at", cell, "top", "--once", "--every", "0.1"], "")?;
    assert_eq!((&top[0]["site"], top.as_array().map(Vec::len)), (&json!(cell), Some(1)));
    let devices = sites.json("cloud", &["--at", cell, "devices"], "")?;
    assert!(devices.as_array().is_some_and(|devices| !devices.is_empty()), "{devices}");

    // What could not be handled there.
    let bus = sites.bus("cell").await?;
    let subject = Subject::new(Kind::Ev, bus.site(), "app.broken").to_string();
    let headers = Headers::from([("ce-specversion".to_owned(), "7.0".to_owned())]);
    bus.request(&subject, &headers, "x", client::TIMEOUT).await?;
    let letters = async || {
        let list = sites.json("cloud", &["--at", cell, "dlq", "ls"], "")?;
        Ok((list["total"] == 1).then(|| list["letters"][0].clone()))
    };
    let letter = eventually("the dead letter, from the root", letters).await?;
    assert_eq!(letter["name"], "app.broken");
    let seq = letter["seq"].to_string();
    let whole = sites.json("cloud", &["--at", cell, "dlq", "show", &seq], "")?;
    assert!(whole["reason"].as_str().is_some_and(|text| text.contains("only 1.0")), "{whole}");
    let dropped = sites.json("cloud", &["--at", cell, "dlq", "drop", &seq], "")?;
    assert_eq!((&dropped["done"], &dropped["left"]), (&json!(1), &json!(0)));

    // A site that is not there, and one that is in no tree from here.
    let complaint = sites.complaint("cloud", &["--at", "cloud.west", "dlq", "ls"], "")?;
    assert!(complaint.contains("nobody answers ctl.cloud.west._.dlq.ls"), "{complaint}");
    let complaint = sites.complaint("east", &["--at", "cloud", "logs"], "")?;
    assert!(complaint.contains("no site \"cloud\"; there are cloud.east"), "{complaint}");
    let complaint = sites.complaint("cloud", &["--at", "cell", "ls"], "")?;
    assert!(complaint.contains("a site below is named by its whole path"), "{complaint}");
    Ok(())
}
