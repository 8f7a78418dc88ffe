//! The program as a user runs it: `edgescale up`, the commands against it, Ctrl-C.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use edgescale::context::Context;
use edgescale::tree::DEMO_SITES;
use serde_json::Value;

use crate::sites::Sites;
use crate::world::{PATIENCE, binary, clip, doorcam, root, tools};

/// A running `edgescale up`; dropping it kills what is left of it.
struct Up {
    child: Child,
    folder: tempfile::TempDir,
}

impl Up {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut child = command(folder.path())
            .arg("up")
            .stdout(Stdio::piped())
            .spawn()
            .context("edgescale up did not start")?;
        let out = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(out).lines();
        let first = lines.next().context("edgescale up ended at once")??;
        assert!(first.starts_with("The tree is up"), "{first}");
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, folder })
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(command(self.folder.path()).args(arguments).output()?)
    }

    /// Runs a command that must succeed, and reads its JSON.
    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(&[&["--json"], arguments].concat())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {complaint}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?}: no JSON"))
    }

    /// Runs a command that must fail, and returns its complaint.
    fn complaint(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn interrupt(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &pid]).status()?.success(), "kill failed");
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "edgescale up does not end on Ctrl-C");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("--dir").arg(dir).arg("--tools").arg(tools()).stdin(Stdio::null());
    command
}

/// The processes whose command line names a folder.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&dir)).collect()
}

#[test]
fn up_serves_every_command_and_ends_on_ctrl_c_without_a_trace() -> Result<()> {
    let mut up = Up::start()?;
    let dir = up.folder.path().to_owned();
    assert!(processes_of(&dir).len() >= 8, "four servers and four nodes");

    let tree = up.json(&["tree"])?;
    assert_eq!(tree["path"], "cloud");
    assert_eq!(tree["children"][0]["children"].as_array().map(Vec::len), Some(2), "{tree}");
    let devices = up.json(&["--at", "cell1", "devices"])?;
    assert_eq!(devices[0]["kind"], "cpu", "{devices}");
    assert_eq!(up.json(&["ls"])?.as_array().map(Vec::len), Some(0));
    assert_eq!(up.json(&["store", "tables"])?.as_array().map(Vec::len), Some(0));
    assert!(up.json(&["logs"])?.is_array());

    top_shows_every_site(&up)?;
    let text = String::from_utf8(up.run(&["--at", "east", "top", "--once"])?.stdout)?;
    assert!(!text.contains("cloud  ") && text.contains("  cloud.east.cell1"), "{text}");
    let text = String::from_utf8(up.run(&["tree"])?.stdout)?;
    assert!(text.contains("    cloud.east.cell2"), "{text}");
    let complaint = up.complaint(&["--at", "cell9", "ls"])?;
    assert!(complaint.contains("no site \"cell9\"; there are cloud,"), "{complaint}");
    let complaint = up.complaint(&["--tenant", "acme", "--at", "cell1", "ls"])?;
    let mend = "`edgescale --at cloud.east.cell1 tenant ls`";
    assert!(complaint.contains("no tenant \"acme\"") && complaint.contains(mend), "{complaint}");
    let complaint = up.complaint(&["up"])?;
    assert!(complaint.contains("is running in"), "{complaint}");
    let complaint = up.complaint(&["invoke", "nobody.nothing", "{}"])?;
    assert!(complaint.contains("no app \"nobody\" is registered (at cloud)"), "{complaint}");
    let complaint = up.complaint(&["--at", "cell1", "store", "scan", "doorcam/nothing"])?;
    assert!(complaint.contains("unknown table \"doorcam/nothing\""), "{complaint}");

    if let (Some(clip), Some(_)) = (clip(), doorcam()) {
        the_example_app(&up, &clip)?;
    }
    let pids: Vec<String> = processes_of(&dir);
    up.interrupt()?;
    assert_eq!(processes_of(&dir), Vec::<String>::new(), "left of {pids:?}");
    assert!(Context::load(&dir).is_err(), "the context outlives the tree");
    Ok(())
}

fn rows_are_written_from_the_shell(up: &Up) -> Result<()> {
    let (table, row) = ("doorcam/motion", r#"{"camera":"shell","time_us":1}"#);
    let store = |args: &[&str]| up.json(&[&["--at", "cell2", "store"], args].concat());
    let put_if = ["put-if", table, row, "--absent"];
    assert_eq!(store(&put_if)?["ack"]["level"], "root");
    let complaint = up.complaint(&[&["--at", "cell1", "store"], &put_if[..]].concat())?;
    assert!(complaint.contains("is there; read it again"), "{complaint}");
    let version = store(&["get", table, row])?["version"].as_str().context("version")?.to_owned();
    let scored = r#"{"camera":"shell","time_us":1,"score":0.25}"#;
    store(&["put-if", table, scored, "--version", &version])?;
    let found = store(&["scan", table, "--where", "score=0.25", "--columns", "camera,score"])?;
    let expected = serde_json::json!([{"camera": "shell", "score": 0.25}]);
    assert_eq!(found["rows"], expected);
    store(&["delete", table, row, "--level", "parent"])?;
    let many = store(&["get", table, row, row])?;
    assert_eq!(many["rows"], serde_json::json!([null, null]));
    let feed = store(&["changes", table, "--limit", "1000"])?;
    let changes = feed["changes"].as_array().context("changes")?;
    let gone = |change: &&Value| change["key"]["camera"] == "shell" && change["row"].is_null();
    assert!(changes.iter().any(|change| gone(&change)), "{feed}");
    Ok(())
}

/// Heartbeats tell of a link that has just come up a second later.
fn top_shows_every_site(up: &Up) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let top = up.json(&["top", "--once", "--every", "0.2"])?;
        let rows = top.as_array().context("a list of sites")?;
        let sites: Vec<&str> = rows.iter().filter_map(|row| row["site"].as_str()).collect();
        assert_eq!(sites, DEMO_SITES);
        let numbers = ["in_flight", "calls_per_s", "events_per_s", "waiting"];
        let whole = |row: &Value| numbers.iter().all(|name| row[name].is_number());
        assert!(rows.iter().all(|row| row["up"] == true && whole(row)), "{top}");
        assert!(rows[0]["link_rtt_us"].is_null(), "{top}");
        if rows[1..].iter().all(|row| row["link_rtt_us"].is_number()) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "links that are up are not shown: {top}");
    }
}

fn the_example_app(up: &Up, clip: &Path) -> Result<()> {
    let manifest = root().join("examples/doorcam/app.toml").display().to_string();
    let complaint = up.complaint(&["describe", "doorcam"])?;
    assert!(complaint.contains("no app \"doorcam\" is registered"), "{complaint}");
    let complaint = up.complaint(&["--at", "cell1", "deploy", &manifest])?;
    assert!(complaint.contains("at cloud, not at cloud.east.cell1"), "{complaint}");
    assert_eq!(up.json(&["deploy", &manifest])?["app"], "doorcam");
    let described = up.json(&["--at", "cell1", "describe", "doorcam"])?;
    assert_eq!(described["manifest"]["handlers"][1]["placement"]["min_tier"], "region");
    let clip = clip.display().to_string();
    let open =
        ["--at", "cell1", "stream", "open", "doorcam", "front", clip.as_str(), "--fast", "--wait"];
    // On a busy machine a frame or another takes the handler longer than it may.
    let opened = up.json(&open)?;
    let handled = opened["handled"].as_u64().context("handled")?;
    ensure!(opened["frames"] == 132 && handled > 100, "{opened}");
    let none = ["--at", "cell1", "stream", "open", "doorcam", "front", "none.mp4", "--wait"];
    assert!(up.complaint(&none)?.contains("none.mp4"));
    let listed = up.run(&["--at", "cell1", "stream", "ls", "doorcam"])?.stdout;
    let listed = String::from_utf8(listed)?;
    assert!(listed.contains(" failed: ") && listed.contains("none.mp4"), "{listed}");
    let scan = up.json(&["--at", "cell1", "store", "scan", "doorcam/motion", "--limit", "3"])?;
    let rows = scan["rows"].as_array().context("rows")?;
    assert_eq!(rows.len(), 3);
    let key = serde_json::json!({"camera": "front", "time_us": rows[1]["time_us"]}).to_string();
    let got = up.json(&["--at", "cell2", "store", "get", "doorcam/motion", &key])?;
    assert_eq!(got["row"], rows[1]);
    let file = up.folder.path().join("motion.parquet").display().to_string();
    let export = ["--at", "cell2", "store", "export", "doorcam/motion", file.as_str()];
    let written = up.json(&export)?["rows"].as_u64().context("rows")?;
    assert!((handled..=132).contains(&written), "{written} rows of {handled} frames");
    assert_eq!(&std::fs::read(&file)?[..4], b"PAR1");
    for name in ["motion.csv", "motion.arrow", "motion.jsonl"] {
        let file = up.folder.path().join(name).display().to_string();
        for verb in ["export", "import"] {
            let answer = up.json(&["--at", "cell2", "store", verb, "doorcam/motion", &file])?;
            assert_eq!(answer["rows"], written, "{verb} {name}");
        }
    }
    let blobs = files_below(up.folder.path())?;
    let left = |path: &&PathBuf| path.to_string_lossy().contains(".export.");
    assert_eq!(blobs.iter().find(left), None, "what was exported is in its file alone");
    let nowhere = ["--at", "cell2", "store", "export", "doorcam/motion", "/nowhere/motion.csv"];
    let complaint = up.complaint(&nowhere)?;
    assert_eq!(complaint.matches("os error 2").count(), 1, "{complaint}");
    let wrong = up.folder.path().join("wrong.jsonl").display().to_string();
    std::fs::write(&wrong, "{\"camera\":\"side\",\"time_us\":1}\n{\"camera\":1,\"time_us\":2}\n")?;
    let complaint =
        up.complaint(&["--at", "cell2", "store", "import", "doorcam/motion", &wrong])?;
    assert!(complaint.contains("wrong.jsonl: row 2: column \"camera\""), "{complaint}");
    let broken = up.folder.path().join("broken.csv").display().to_string();
    std::fs::write(&broken, "camera,time_us\nside,noon\n")?;
    let complaint =
        up.complaint(&["--at", "cell2", "store", "import", "doorcam/motion", &broken])?;
    assert!(complaint.contains("line 2: column \"time_us\""), "{complaint}");
    rows_are_written_from_the_shell(up)?;
    let unheard = up.run(&["publish", "doorcam.motoin", "{}"])?;
    let note = String::from_utf8(unheard.stderr)?;
    assert!(unheard.status.success() && note.contains("the event \"motoin\""), "{note}");
    let complaint = up.complaint(&["config", "nobody"])?;
    assert_eq!(complaint.matches("no app \"nobody\"").count(), 1, "{complaint}");
    let motion = r#"{"camera":"side","time_us":60000000,"score":0.5}"#;
    for _ in 0..2 {
        up.json(&["--at", "cell2", "publish", "doorcam.motion", motion, "--id", "once"])?;
    }
    let deadline = Instant::now() + PATIENCE;
    let side = r#"{"camera":"side"}"#;
    loop {
        let answer = up.json(&["--at", "cell2", "invoke", "doorcam.summary", side])?;
        assert_eq!(answer["site"], "cloud.east");
        if answer["body"]["events"] == 1 {
            break;
        }
        ensure!(Instant::now() < deadline, "the event was not counted once: {answer}");
    }
    let logs = up.json(&["logs"])?;
    let told = |line: &Value| line["text"].as_str().is_some_and(|t| t.contains("app doorcam"));
    assert!(logs.as_array().is_some_and(|lines| lines.iter().any(told)), "{logs}");
    assert_eq!(up.json(&["undeploy", "doorcam"])?["removed"], true);
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (vec![], vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What a running tree has just removed is not there any more.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    ensure!(!files.is_empty(), "no files at all");
    Ok(files)
}

#[test]
fn a_killed_up_takes_its_processes_with_it() -> Result<()> {
    let mut up = Up::start()?;
    let dir = up.folder.path().to_owned();
    up.child.kill()?;
    up.child.wait()?;
    let deadline = Instant::now() + PATIENCE;
    while !processes_of(&dir).is_empty() {
        ensure!(Instant::now() < deadline, "left behind: {:?}", processes_of(&dir));
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn commands_without_a_tree_say_how_to_get_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = command(folder.path());
    // Nor a context of the stock client.
    command.env("XDG_CONFIG_HOME", folder.path()).env_remove("NATS_CONTEXT");
    let output = command.arg("tree").output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.contains("start one with `edgescale up`"), "{complaint}");
    Ok(())
}

#[test]
fn the_help_says_what_is_returned() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let help = String::from_utf8(command(folder.path()).arg("--help").output()?.stdout)?;
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 "), "{help}");
    let code = |args: &[&str]| Ok::<_, anyhow::Error>(command(folder.path()).args(args).output()?);
    assert_eq!(code(&["ls"])?.status.code(), Some(1));
    assert_eq!(code(&["lss"])?.status.code(), Some(2));
    Ok(())
}

/// Each script is for its own shell, and bash, which is on every machine, does complete by it.
#[test]
fn shells_complete_commands() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = |shell| {
        let output = command(folder.path()).args(["completion", shell]).output()?;
        assert!(output.status.success(), "{output:?}");
        Ok::<_, anyhow::Error>(String::from_utf8(output.stdout)?)
    };
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(script(shell)?.contains("rollback"), "{shell}");
    }
    let ask = "COMP_WORDS=(edgescale rollb); COMP_CWORD=1
               _edgescale edgescale rollb edgescale; echo \"${COMPREPLY[*]}\"";
    let file = folder.path().join("asked");
    std::fs::write(&file, [&script("bash")?, ask].join("\n"))?;
    let output = Command::new("bash").arg(file).output()?;
    assert_eq!(String::from_utf8(output.stdout)?.trim(), "rollback");
    Ok(())
}

#[test]
fn doctor_names_a_missing_server_and_the_mend() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(binary())
        .args(["--json", "--tools"])
        .arg(folder.path())
        .arg("doctor")
        .env("PATH", "/nowhere")
        .output()?;
    assert_eq!(output.status.code(), Some(2));
    let checks: Value = serde_json::from_slice(&output.stdout)?;
    let server = &checks[0];
    assert_eq!(server["verdict"], "missing", "{server}");
    assert!(server["mend"].as_str().is_some_and(|mend| mend.contains("tools.sh")), "{server}");
    Ok(())
}

const GREETER: &str = r#"
import os, edgescale

def handler(event, context):
    return [edgescale.config("greeting"), os.environ["greeting"]]
"#;

const GREETER_MANIFEST: &str = r#"
[app]
name = "greeter"

[[handler]]
name = "greet"
python = "greet.py"
entry = "greet.handler"

[[handler.trigger]]
call = "greet"

[handler.config]
greeting = "hello"
"#;

#[test]
fn settings_are_changed_while_an_app_runs() -> Result<()> {
    let up = Up::start()?;
    let app = up.folder.path().join("app");
    std::fs::create_dir(&app)?;
    std::fs::write(app.join("greet.py"), GREETER)?;
    std::fs::write(app.join("app.toml"), GREETER_MANIFEST)?;
    let manifest = app.join("app.toml").display().to_string();
    let deployed = up.json(&["deploy", &manifest])?;
    // The first calls are answered above, while the code comes.
    let check = |site: &str, expected: &str| -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = up.json(&["--at", site, "invoke", "greeter.greet", "{}"])?;
            if said["site"].as_str().is_some_and(|path| path.ends_with(site)) {
                ensure!(said["body"] == serde_json::json!([expected, expected]), "{site}: {said}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{site} never answers by itself: {said}");
        }
    };
    check("cell1", "hello")?;
    // A warm process does not keep what it began with.
    let all = up.json(&["config", "greeter", "greet", "greeting=good day"])?;
    assert_eq!(all.as_array().map(Vec::len), Some(4), "every site: {all}");
    check("cell1", "good day")?;
    check("cell2", "good day")?;
    up.json(&["--at", "cell2", "config", "greeter", "greet", "greeting=moin"])?;
    check("cell2", "moin")?;
    check("cell1", "good day")?;
    let shown = up.json(&["--at", "cell2", "config", "greeter"])?;
    let setting = serde_json::json!({"name": "greeting", "value": "moin", "manifest": "hello"});
    assert_eq!(shown[0]["handlers"][0]["settings"][0], setting);
    assert_eq!(shown[0]["revision"], deployed["revision"], "no other revision");
    let refused = up.complaint(&["config", "greeter", "greet", "greting=x"])?;
    assert!(refused.contains("no setting \"greting\"; it has greeting"), "{refused}");
    let refused = up.complaint(&["config", "nobody"])?;
    assert!(refused.contains("no app \"nobody\""), "{refused}");
    up.json(&["config", "greeter", "greet", "--unset", "greeting"])?;
    check("cell2", "hello")?;

    // The manifest changes the setting, and is taken back.
    let other = GREETER_MANIFEST.replace("hello", "servus");
    std::fs::write(app.join("app.toml"), other)?;
    let second = up.json(&["deploy", &manifest])?;
    let until = |expected: &str| -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = up.json(&["--at", "cell2", "invoke", "greeter.greet", "{}"])?;
            if said["body"] == serde_json::json!([expected, expected]) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "never {expected:?}: {said}");
        }
    };
    until("servus")?;
    let back = up.json(&["rollback", "greeter"])?;
    ensure!(back["to"] == deployed["revision"] && back["from"] == second["revision"], "{back}");
    until("hello")?;
    let history = up.json(&["history", "greeter"])?;
    let revisions = history.as_array().map(|all| all.iter().map(|one| one["revision"].clone()));
    let wanted = [&back, &second, &deployed].map(|one| one["revision"].clone());
    ensure!(revisions.is_some_and(|all| all.eq(wanted)), "{history}");
    let refused = up.complaint(&["rollback", "greeter", "--to", "9999"])?;
    ensure!(refused.contains("no revision 9999 to go back to; kept are "), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_folder_runs_one_site_once() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    sites.report("cloud").await?;
    for (word, wanted) in [("run", "cloud runs already from "), ("up", "holds a site")] {
        // What is not refused would go on.
        let mut command = Command::new("timeout");
        command.arg("60").arg(binary()).arg("--dir").arg(sites.dir("cloud"));
        let output = command.arg("--tools").arg(tools()).arg(word).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{word}: {complaint}");
        assert!(complaint.contains(wanted), "{word}: {complaint}");
    }
    sites.report("cloud").await?;
    // Who was killed holds nothing.
    sites.kill("cloud")?;
    sites.start("cloud")?;
    sites.report("cloud").await?;
    Ok(())
}
