//! Sites of three routed servers: one of them is killed under calls and events, again and again.
//!
//! A publisher above and one below the link number their events and repeat each until it is
//! acknowledged; callers give each call a key and a deadline. docs/guarantees.md has the counts.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bus::event::Keeper;
use bus::message::{KEY_HEADER, TIMEOUT_HEADER};
use bus::server::Server;
use bus::site::SiteFolder;
use bus::{Bus, Event, Headers, Kind, Subject};
use edgescale::context::Context;
use edgescale::node::client;
use edgescale::upload;
use serde_json::json;

use crate::delivery::call_component;
use crate::faults::{logger, seen as numbers, signal};
use crate::sites::{Sites, children_of, seen};
use crate::world::{eventually, tools};

/// How many events each publisher sends at least while servers are killed.
const EVENTS_MIN: u64 = 200;
const EVERY: Duration = Duration::from_millis(20);
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// How long a caller gives each call, and when and how often it asks again.
const CALL_MS: u64 = 10_000;
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 100;
/// How many events of a node may run again because the server had not heard that they were done.
const AGAIN_MAX: u64 = 64;

fn manifest(code: &str, echo: &str) -> String {
    let mut text = "[app]\nname = \"count\"\nversion = \"1\"\n".to_owned();
    for (name, code, trigger, placement) in [
        ("near", code, "event = \"near\"", ""),
        ("far", code, "event = \"far\"", "placement = { min_tier = \"cloud\" }"),
        ("top", echo, "call = \"top\"", "placement = { min_tier = \"cloud\" }"),
    ] {
        let _ = write!(
            text,
            "[[handler]]\nname = \"{name}\"\ncomponent = \"{code}\"\n{placement}\n\
             limits = {{ timeout_ms = 20000 }}\n[[handler.trigger]]\n{trigger}\n"
        );
    }
    text
}

async fn apply(cloud: &Bus) -> Result<()> {
    let registry = bus::Registry::open(cloud).await?;
    let mut names = vec![];
    for code in [logger(6), call_component("")] {
        let digest = ::handlers::Digest::of(&code);
        registry.put_code(digest.as_str(), code.into()).await?;
        names.push(digest.as_str().to_owned());
    }
    upload::apply(cloud, &manifest(&names[0], &names[1])).await.map(|_| ())
}

/// What the callers and publishers of one run did.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    acknowledged: [AtomicU64; 2],
    /// Publications that were repeated.
    repeated: AtomicU64,
    calls: AtomicU64,
    asked_again: AtomicU64,
    failed: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Load {
    fn goes_on(&self, sent: u64) -> bool {
        sent < EVENTS_MIN || !self.over.load(Ordering::Relaxed)
    }

    async fn publish(self: Arc<Self>, bus: Bus, at: usize, name: &'static str) -> Result<u64> {
        let subject = Subject::new(Kind::Ev, bus.site(), name).to_string();
        let mut number = 0;
        while self.goes_on(number) {
            let event = Event::new(name, bus.site().as_str(), format!("n={number}"))?;
            while bus::event::publish_acked(&bus, &subject, &event, REPEAT_AFTER).await.is_err() {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(EVERY).await;
            }
            number += 1;
            self.acknowledged[at].store(number, Ordering::Relaxed);
            tokio::time::sleep(EVERY).await;
        }
        Ok(number)
    }

    async fn call(self: Arc<Self>, bus: Bus) -> Result<()> {
        let subject = Subject::new(Kind::Call, bus.site(), "count.top").to_string();
        let limit = (TIMEOUT_HEADER.to_owned(), CALL_MS.to_string());
        while !self.over.load(Ordering::Relaxed) {
            let key = bus::event::unique_id();
            let headers = Headers::from([(KEY_HEADER.to_owned(), key), limit.clone()]);
            let started = Instant::now();
            let mut left = ATTEMPTS;
            // What was on its way through the server that died is asked again, by its key.
            while let Err(e) = bus.request(&subject, &headers, "[1]", ASK_AGAIN_AFTER).await {
                left -= 1;
                if left == 0 {
                    println!("a call from {}: {e}", bus.site());
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                self.asked_again.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(EVERY).await;
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
            let took_ms = started.elapsed().as_millis() as u64;
            self.slowest_ms.fetch_max(took_ms, Ordering::Relaxed);
            tokio::time::sleep(EVERY).await;
        }
        Ok(())
    }
}

/// Waits until three servers are up and have everything.
async fn whole(sites: &Sites, name: &str) -> Result<Vec<Keeper>> {
    let bus = sites.bus(name).await?;
    let what = format!("three servers of {name}");
    let all = async || {
        let servers = client::report(&bus).await?.brief.servers;
        let all = servers.len() == 3 && servers.iter().all(|s| s.up && s.current);
        ensure!(all, "{servers:?}");
        Ok(Some(servers))
    };
    // A server that was killed right after it had come back has been seen to take over a minute to
    // say that it has everything. How long is printed, not promised.
    match eventually(&what, &all).await {
        Err(late) => {
            println!("{late:#}");
            eventually(&what, &all).await
        }
        whole => whole,
    }
}

/// The process of a server of a site, by its configuration.
fn server_pid(sites: &Sites, name: &str, number: usize) -> Result<u32> {
    let config = SiteFolder::open(&sites.dir(name))?.places()[number - 1].config.clone();
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|word| *word == *config.to_string_lossy())
    };
    let found = children_of(sites.pid(name)?)?.into_iter().find(is_it);
    found.with_context(|| format!("no server {number} of {name} runs"))
}

/// Kills the servers of a site one after the other, each when the others are whole again.
async fn kill_each(sites: &Sites, name: &str) -> Result<()> {
    for number in 1..=3 {
        let pid = server_pid(sites, name, number)?;
        let killed = Instant::now();
        signal(pid, "-KILL")?;
        eventually(&format!("server {number} of {name} to be started again"), async || {
            Ok(server_pid(sites, name, number).ok().filter(|new| *new != pid))
        })
        .await?;
        whole(sites, name).await?;
        println!("server {number} of {name}: whole again after {:.1?}", killed.elapsed());
    }
    Ok(())
}

async fn handled(sites: &Sites, site: &str, handler: &str, wanted: u64) -> Result<u64> {
    let log = sites.dir(site).join("node.log");
    eventually(&format!("{wanted} events at {handler}"), async || {
        let have = numbers(&log, handler)?;
        ensure!(have.len() as u64 >= wanted, "{} of {wanted}", have.len());
        Ok(Some(()))
    })
    .await?;
    let have = numbers(&log, handler)?;
    Ok(have.values().sum::<u64>() - have.len() as u64)
}

/// A tree of two sites, of which `three` has three servers; every one of them is killed once.
async fn check(three: &str) -> Result<Sites> {
    let mut sites = Sites::new()?;
    let count = |name: &str| if name == three { "3" } else { "1" };
    let init = ["tree", "init", "cloud", "--ports", "auto", "--servers", count("cloud")];
    sites.json("cloud", &init, "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    sites.join_with("cloud", "east", count("east"))?;
    sites.start("east")?;
    seen(&cloud, "cloud.east", true).await?;
    let east = sites.bus("east").await?;
    whole(&sites, three).await?;
    apply(&cloud).await?;
    eventually("the first answer", async || {
        let subject = Subject::new(Kind::Call, east.site(), "count.top").to_string();
        Ok(east.request(&subject, &Headers::new(), "[1]", client::TIMEOUT).await.ok())
    })
    .await?;

    let load = Arc::new(Load::default());
    let below = tokio::spawn(load.clone().publish(east.clone(), 0, "count.far"));
    let there = if three == "cloud" { &cloud } else { &east };
    let beside = tokio::spawn(load.clone().publish(there.clone(), 1, "count.near"));
    let callers = [&cloud, &east].map(|bus| tokio::spawn(load.clone().call(bus.clone())));
    let killed = kill_each(&sites, three).await;
    load.over.store(true, Ordering::Relaxed);
    let (far, near) = (below.await??, beside.await??);
    for caller in callers {
        caller.await??;
    }
    killed?;
    let far_again = handled(&sites, "cloud", "far", far).await?;
    let near_again = handled(&sites, three, "near", near).await?;
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{three} of three servers, each killed: events from below {far}, beside {near}, 0 lost, \
         {far_again} and {near_again} twice, {} repeated; calls {}, {} asked again, {} failed, \
         slowest {} ms",
        count(&load.repeated),
        count(&load.calls),
        count(&load.asked_again),
        count(&load.failed),
        count(&load.slowest_ms),
    );
    ensure!(far_again <= AGAIN_MAX && near_again <= AGAIN_MAX, "{far_again}, {near_again} twice");
    ensure!(count(&load.failed) == 0, "{} calls failed", count(&load.failed));
    ensure!(sites.report("cloud").await?.dead_letters == 0);
    Ok(sites)
}

#[tokio::test]
async fn a_root_of_three_servers_goes_on_when_one_is_killed() -> Result<()> {
    let sites = check("cloud").await?;
    // What `tree` says, and what a stranger to the parts of the program sees.
    let tree = sites.json("east", &["--at", "east", "tree"], "")?;
    ensure!(tree["servers"].is_null(), "{tree}");
    let tree = sites.json("cloud", &["tree"], "")?;
    let names: Vec<&str> = tree["servers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["name"].as_str())
        .collect();
    assert_eq!(names, ["cloud_1", "cloud_2", "cloud_3"], "{tree}");
    assert_eq!(tree["children"][0]["path"], "cloud.east");
    let checks = sites.output("cloud", &["doctor"], "")?;
    let text = String::from_utf8_lossy(&checks.stdout).into_owned();
    assert!(text.contains("as the tree needs them"), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_edge_of_three_servers_goes_on_when_one_is_killed_and_moves() -> Result<()> {
    let mut sites = check("east").await?;
    let cloud = sites.bus("cloud").await?;
    sites.join("cloud", "west")?;
    sites.start("west")?;
    seen(&cloud, "cloud.west", true).await?;
    siblings_are_apart(&cloud, [&sites.bus("east").await?, &sites.bus("west").await?]).await?;
    let before = sites.report("east").await?.brief.servers;
    let invited = sites.json("west", &["tree", "invite", "east"], "")?;
    let token = invited["token"].as_str().context("no token")?.to_owned();
    sites.json("east", &["tree", "move"], &token)?;
    let west = sites.bus("west").await?;
    seen(&west, "cloud.west.east", true).await?;
    let after = whole(&sites, "east").await?;
    let names = |servers: &[Keeper]| servers.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "streams know their servers by name");
    let east = sites.bus("east").await?;
    let far = numbers(&sites.dir("cloud").join("node.log"), "far")?.len() as u64;
    let event = Event::new("count.far", east.site().as_str(), format!("n={far}"))?;
    let subject = Subject::new(Kind::Ev, east.site(), "count.far").to_string();
    bus::event::publish_acked(&east, &subject, &event, client::TIMEOUT).await?;
    handled(&sites, "cloud", "far", far + 1).await?;
    Ok(())
}

/// Servers that are routed to each other share a cluster's name with those of their siblings: what
/// one site says stays out of the other's reach all the same, both ways.
async fn siblings_are_apart(cloud: &Bus, pair: [&Bus; 2]) -> Result<()> {
    for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0])] {
        let other = to.site().as_str();
        for name in ["call.{}._.count.top", "ctl.{}._.status", "st.{}._.status"] {
            let subject = name.replace("{}", other);
            let answer = from.request(&subject, &Headers::new(), "[1]", REPEAT_AFTER).await;
            ensure!(answer.is_err(), "{subject} was answered to {}: {answer:?}", from.site());
        }
        let event = Event::new("count.near", other, "n=0")?;
        for subject in [format!("ev.{other}._.count.near"), format!("sync.{other}._.ev.count.near")]
        {
            let stored = bus::event::publish_acked(from, &subject, &event, REPEAT_AFTER).await;
            ensure!(stored.is_err(), "{subject} was stored for {}: {stored:?}", from.site());
        }

        let (sender, heard) = tokio::sync::mpsc::channel::<String>(1_000);
        let heard = RefCell::new((heard, vec![]));
        let hear = move |message: bus::Request| {
            let sender = sender.clone();
            async move {
                let _ = sender.try_send(message.subject);
            }
        };
        let _listening = from.subscribe(">", hear).await?;
        from.flush().await?;
        for kind in ["ev", "tel", "call", "st", "sync"] {
            let subject = format!("{kind}.{other}._.count.secret");
            to.publish(&subject, &Headers::new(), "secret").await?;
        }
        to.flush().await?;
        // What must arrive is sent last: once it is there, so would the others be.
        let last = format!("ev.{}._.count.last", from.site());
        eventually(&format!("{last} at {}", from.site()), async || {
            cloud.publish(&last, &Headers::new(), "for you").await?;
            cloud.flush().await?;
            tokio::time::sleep(EVERY).await;
            let (heard, subjects) = &mut *heard.borrow_mut();
            while let Ok(subject) = heard.try_recv() {
                subjects.push(subject);
            }
            Ok(subjects.contains(&last).then_some(()))
        })
        .await?;
        let (_, subjects) = heard.into_inner();
        let leaked: Vec<_> = subjects.iter().filter(|subject| subject.contains("secret")).collect();
        ensure!(leaked.is_empty(), "{} heard {leaked:?}", from.site());
    }
    Ok(())
}

/// Three addresses stand for three machines; their files lie where `tree config` says.
#[tokio::test]
async fn servers_on_three_machines_are_one_site() -> Result<()> {
    let mut sites = Sites::new()?;
    let hosts = "127.0.0.1,127.0.0.2,127.0.0.3";
    let init = ["tree", "init", "cloud", "--ports", "auto", "--servers", hosts];
    sites.json("cloud", &init, "")?;
    let printed = sites.json("cloud", &["tree", "config"], "")?;
    let servers = printed["servers"].as_array().context("no servers")?.clone();
    let here: Vec<bool> = servers.iter().filter_map(|s| s["here"].as_bool()).collect();
    assert_eq!(here, [true, false, false], "{printed}");
    for file in printed["shared_files"].as_array().into_iter().flatten() {
        ensure!(std::path::Path::new(file.as_str().unwrap_or_default()).is_file(), "{file}");
    }
    sites.start("cloud")?;
    let folder = SiteFolder::open(&sites.dir("cloud"))?;
    assert_eq!(folder.server_url(), format!("nats://127.0.0.1:{}", folder.record.ports.client));
    let binary = bus::server::find(None, &tools())?;
    let mut others = vec![];
    for place in &folder.places()[1..] {
        others.push(Server::start(&binary, &place.config, &place.log, place.ports.client)?);
    }
    whole(&sites, "cloud").await?;
    let cloud = sites.bus("cloud").await?;
    sites.join("cloud", "east")?;
    let parent = SiteFolder::open(&sites.dir("east"))?.record.parent.context("no parent")?;
    let hosts = [&parent.address].into_iter().chain(&parent.others);
    let hosts: Vec<&str> = hosts.filter_map(|at| at.split(':').next()).collect();
    assert_eq!(hosts, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    sites.start("east")?;
    seen(&cloud, "cloud.east", true).await?;

    // One machine is lost: it is named, and the other two go on.
    others.pop();
    eventually("the third to be away", async || {
        let servers = client::report(&cloud).await?.brief.servers;
        let up: Vec<bool> = servers.iter().map(|server| server.up).collect();
        ensure!(up == [true, true, false], "{servers:?}");
        Ok(Some(()))
    })
    .await?;
    apply(&cloud).await?;
    let east = sites.bus("east").await?;
    eventually("an answer", async || {
        let subject = Subject::new(Kind::Call, east.site(), "count.top").to_string();
        Ok(east.request(&subject, &Headers::new(), "[1]", client::TIMEOUT).await.ok())
    })
    .await?;
    let event = Event::new("count.near", "cloud", json!("n=0").to_string())?;
    let subject = Subject::new(Kind::Ev, cloud.site(), "count.near").to_string();
    bus::event::publish_acked(&cloud, &subject, &event, client::TIMEOUT).await?;
    Ok(())
}

async fn publish_one(sites: &Sites, name: &str, number: u64) -> Result<()> {
    let cloud = sites.bus("cloud").await?;
    let event = Event::new(name, "cloud", format!("n={number}"))?;
    let subject = Subject::new(Kind::Ev, cloud.site(), name).to_string();
    bus::event::publish_acked(&cloud, &subject, &event, client::TIMEOUT).await?;
    Ok(())
}

/// What is to be there whatever the number of servers: a dead letter, code in the registry, a
/// tenant's log that goes on.
async fn check_kept(sites: &Sites, tenants_event: u64) -> Result<()> {
    ensure!(sites.report("cloud").await?.dead_letters == 1, "the dead letter");
    let cloud = sites.bus("cloud").await?;
    let digest = ::handlers::Digest::of(&logger(6));
    let code = bus::Registry::open(&cloud).await?.code(digest.as_str()).await?;
    ensure!(code.is_some(), "the code");
    let context = Context::load(&sites.dir("cloud"))?.as_tenant(Some("acme"));
    let acme = context.site(None)?.connect().await?;
    let event = Event::new("ghost.x", "cloud", "{}")?;
    let subject = Subject::new(Kind::Ev, acme.site(), "ghost.x").to_string();
    let seq = bus::event::publish_acked(&acme, &subject, &event, client::TIMEOUT).await?;
    ensure!(seq == tenants_event, "event {seq} of the tenant, not {tenants_event}");
    Ok(())
}

fn parents_servers(sites: &Sites, child: &str) -> Result<usize> {
    let record = SiteFolder::open(&sites.dir(child))?.record;
    Ok(1 + record.parent.context("no parent")?.others.len())
}

/// The number of servers changes while the site stands still: nothing that its streams hold is
/// lost or comes again, and the sites below learn where the new ones are.
#[tokio::test]
async fn a_site_of_one_server_becomes_one_of_three_and_back() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    sites.report("cloud").await?;
    sites.join("cloud", "east")?;
    sites.start("east")?;
    seen(&sites.bus("cloud").await?, "cloud.east", true).await?;
    sites.json("cloud", &["tenant", "add", "acme", "--here"], "")?;
    apply(&sites.bus("cloud").await?).await?;
    for number in 0..10 {
        publish_one(&sites, "count.near", number).await?;
    }
    publish_one(&sites, "ghost.lost", 0).await?;
    handled(&sites, "cloud", "near", 10).await?;
    let dead = async || Ok((sites.report("cloud").await?.dead_letters == 1).then_some(()));
    eventually("the dead letter", dead).await?;
    check_kept(&sites, 1).await?;

    // By hand it would cost all that, and is refused; so it is while the site runs.
    let record = sites.dir("cloud").join("site.toml");
    let before = std::fs::read_to_string(&record)?;
    let servers = ["tree", "servers", "3", "--ports", "auto"];
    let complaint = sites.complaint("cloud", &servers, "")?;
    ensure!(complaint.contains("cloud runs; stop its `edgescale --dir"), "{complaint}");
    let ports = bus::server::free_ports(14)?;
    let list = |at: usize| {
        let names = ["client", "monitor", "leaf", "join", "websocket", "mqtt", "route"];
        let line = |(name, port): (&str, &u16)| format!("{name} = {port}\n");
        names.into_iter().zip(&ports[7 * at..]).map(line).collect::<String>()
    };
    let peer = |at| format!("[[peers]]\naddress = \"127.0.0.1\"\n[peers.ports]\n{}", list(at));
    let by_hand = before.replace("route = 0", "route = 6222");
    std::fs::write(&record, format!("{by_hand}{}{}", peer(0), peer(1)))?;
    eventually("the refusal in the log of the site", async || {
        let log = sites.log("cloud", "run.log");
        Ok(log.contains("kept by 1 nats-server(s), and site.toml says 3 now").then_some(()))
    })
    .await?;
    check_kept(&sites, 2).await?;
    sites.stop("cloud")?;
    let complaint = sites.complaint("cloud", &["run"], "")?;
    ensure!(complaint.contains("tree servers 3` change it"), "{complaint}");
    std::fs::write(&record, &before)?;

    let mut number = 10;
    let mut tenants_event = 2;
    for count in [3, 1] {
        let changed =
            sites.json("cloud", &["tree", "servers", &count.to_string(), "--ports", "auto"], "")?;
        println!("{changed}");
        sites.start("cloud")?;
        match count {
            3 => drop(whole(&sites, "cloud").await?),
            _ => drop(sites.report("cloud").await?),
        }
        publish_one(&sites, "count.near", number).await?;
        number += 1;
        let again = handled(&sites, "cloud", "near", number).await?;
        ensure!(again == 0, "{again} events were handled again");
        tenants_event += 1;
        check_kept(&sites, tenants_event).await?;
        eventually("the child to know its parent's servers", async || {
            Ok((parents_servers(&sites, "east")? == count).then_some(()))
        })
        .await?;
        seen(&sites.bus("cloud").await?, "cloud.east", true).await?;
        sites.stop("cloud")?;
        ensure!(!sites.dir("cloud").join(edgescale::servers::CHANGE).exists());
    }
    Ok(())
}

/// A change that broke off half way is refused to run, and what was is put back.
#[tokio::test]
async fn a_change_of_servers_that_breaks_off_loses_nothing() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    sites.report("cloud").await?;
    publish_one(&sites, "ghost.lost", 0).await?;
    let dead = async || Ok((sites.report("cloud").await?.dead_letters == 1).then_some(()));
    eventually("the dead letter", dead).await?;
    sites.stop("cloud")?;
    // As after a loss of power when the streams were put away and the record was written.
    let dir = sites.dir("cloud");
    let change = dir.join(edgescale::servers::CHANGE);
    sites.json("cloud", &["tree", "servers", "3", "--ports", "auto"], "")?;
    let three = std::fs::read_to_string(dir.join("site.toml"))?;
    sites.json("cloud", &["tree", "servers", "1"], "")?;
    let one = std::fs::read_to_string(dir.join("site.toml"))?;
    std::fs::create_dir_all(&change)?;
    std::fs::write(change.join("before.toml"), &one)?;
    std::fs::rename(dir.join("jetstream"), change.join("store-0"))?;
    for store in ["jetstream", "jetstream-2", "jetstream-3"] {
        std::fs::create_dir_all(dir.join(store).join("jetstream/SYS/_js_/_meta_"))?;
    }
    std::fs::write(dir.join("site.toml"), &three)?;
    let complaint = sites.complaint("cloud", &["run"], "")?;
    ensure!(complaint.contains("a change of its servers was broken off"), "{complaint}");
    let back = sites.json("cloud", &["tree", "servers", "1"], "")?;
    ensure!(back["before"] == 1 && back["servers"] == 1, "{back}");
    ensure!(std::fs::read_to_string(dir.join("site.toml"))? == one);
    ensure!(!change.exists() && !dir.join("jetstream-2").exists());
    sites.start("cloud")?;
    let dead = async || Ok((sites.report("cloud").await?.dead_letters == 1).then_some(()));
    eventually("the dead letter again", dead).await
}

#[test]
fn a_wrong_number_of_servers_is_refused_with_the_reason() -> Result<()> {
    let sites = Sites::new()?;
    for wrong in ["2", "0", "5", "a,b", "a,,c"] {
        let init = ["tree", "init", "cloud", "--ports", "auto", "--servers", wrong];
        let complaint = sites.complaint("cloud", &init, "")?;
        assert!(complaint.contains("neither goes on alone"), "{wrong}: {complaint}");
    }
    Ok(())
}
