//! What comes from outside, bent at random: parsers must refuse it or read it, and never break.
//!
//! Each target takes bytes made from the inputs that stand here by a few mutations, from a printed
//! seed. `EDGESCALE_FUZZ_SECONDS` says for how long (a part of a second unless said), and
//! `EDGESCALE_FUZZ_SEED` from which seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ::handlers::Manifest;
use ::handlers::deploy::Offer;
use ::handlers::execute::http::{HttpHead, HttpRequest};
use ::handlers::manifest::Trigger;
use ::handlers::manifest::http::{Route, decode};
use ::handlers::stream::Open;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bus::body::{BODY_HEADER, Bodies};
use bus::route::news::{self, Welcome};
use bus::site::join::{JoinAnswer, JoinRequest, Token};
use bus::site::tenants::{LinkRequest, Tenants};
use bus::site::{Record, roster::Roster};
use bus::trace::{Parent, Trace};
use bus::{Event, Headers, Refusal, Request, Response, Subject, TierPath};
use bytes::Bytes;
use dice::Dice;
use edgescale::gateway::Network;
use edgescale::gateway::events::read_structured;
use edgescale::node::code::Wanted;
use edgescale::node::dlq::Asked;
use edgescale::node::report::{Brief, Report};
use edgescale::node::tenants::About;
use edgescale::node::{Follow, Invite, Tick};
use futures::stream::BoxStream;
use serde::{Serialize, de::DeserializeOwned};
use store::LinkError;

/// The longest input, in bytes.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// The most mutations of one input.
const MUTATIONS_MAX: u64 = 8;
/// The longest part that is moved or repeated.
const PART_BYTES_MAX: usize = 32;
/// How long a target runs when nothing is said, and how many inputs it gets at least, however busy
/// the machine is.
const USUAL: Duration = Duration::from_millis(300);
const RUNS_MIN: u64 = 64;
/// Bytes that parsers treat in ways of their own.
const SPECIAL: &[u8] = b"\0\t\n\r \"#%'*+,-./:;<=>?@[\\]_{|}~\x7f\x80\xc3\xff";

fn mutate(dice: &mut Dice, input: &mut Vec<u8>, corpus: &[&[u8]]) {
    let at = dice.place(input.len() + 1);
    match dice.below(8) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = SPECIAL[dice.place(SPECIAL.len())],
        2 => input.insert(at, SPECIAL[dice.place(SPECIAL.len())]),
        3 => drop(input.drain(dice.part(input.len(), PART_BYTES_MAX))),
        4 => {
            let part = input[dice.part(input.len(), PART_BYTES_MAX)].to_vec();
            for _ in 0..=dice.below(64) {
                input.splice(at..at, part.iter().copied());
            }
        }
        5 => {
            let other = dice.one_of(corpus);
            let part = other[dice.part(other.len(), PART_BYTES_MAX)].to_vec();
            input.splice(at..at, part);
        }
        6 => {
            let numbers = ["0", "-1", "1e308", "18446744073709551616", "-9223372036854775808", "é"];
            input.splice(at..at, dice.one_of(&numbers).bytes());
        }
        _ => input.truncate(at),
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// Runs a target on bent texts; on a panic says the seed and the input.
#[track_caller]
fn fuzz(corpus: &[&str], target: impl Fn(&[u8])) {
    fuzz_bytes(&corpus.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(), target);
}

/// The same of bytes.
#[track_caller]
fn fuzz_bytes(corpus: &[&[u8]], target: impl Fn(&[u8])) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let limit = number("EDGESCALE_FUZZ_SECONDS").map_or(USUAL, Duration::from_secs);
    let seed = number("EDGESCALE_FUZZ_SEED").unwrap_or_else(bus::route::retry::draw);
    let (mut dice, started, mut runs) = (Dice::new(seed), Instant::now(), 0u64);
    corpus.iter().for_each(|input| target(input));
    while runs < RUNS_MIN || started.elapsed() < limit {
        let mut input = dice.one_of(corpus).to_vec();
        for _ in 0..=dice.roll() % MUTATIONS_MAX {
            mutate(&mut dice, &mut input, corpus);
        }
        runs += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            eprintln!("seed {seed}, run {runs}: {:?}", String::from_utf8_lossy(&input));
            std::panic::resume_unwind(panic);
        }
    }
    println!("{runs} inputs from seed {seed}");
}

/// What is read as JSON is the same when it is written and read again.
fn json<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_string(&value).expect("what was read can be written");
        let again: T = serde_json::from_str(&text).expect("what was written can be read");
        assert_eq!(text, serde_json::to_string(&again).expect("it can be written"));
    }
}

#[test]
fn subjects() {
    let corpus = [
        "call.cloud.east._.doorcam.summary",
        "ev.cloud._.a.b",
        "sync.cloud.east.cell-1._.ev.x",
        "tel.a.b.c.d.e.f.g.h._.log",
        "rp.cloud._.X@/:+=",
        "ev.>",
        "call.*._.x",
        "ctl.cloud._._._",
    ];
    fuzz(&corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(subject) = Subject::parse(&text) {
            assert_eq!(subject.to_string(), text);
            assert_eq!(Subject::parse(&text).expect("the same text"), subject);
            assert!(!text.contains(['*', '>', ' ', '\r', '\n', '\0']), "{text:?}");
        }
        if let Ok(path) = text.parse::<TierPath>() {
            assert_eq!(path.to_string(), text);
            assert!(path.ancestors().all(|above| above.contains(&path)));
        }
        let (pattern, name) = text.split_once(' ').unwrap_or((&text, "a.b.c"));
        let _ = bus::subject::matches(pattern, name);
    });
}

#[test]
fn events() {
    let corpus = [
        "ce-specversion: 1.0\nce-id: 1\nce-source: cloud.east\nce-type: t\n\
         ce-time: 2026-01-02T03:04:05Z\ncontent-type: text/plain\n\n{}",
        "Ce-Id: x\nCE-SOURCE: /a\nEs-Done: a,b,,c\nEs-Only: h\nEs-To: cloud.a\n\nbody",
        "ce-time: 9999-12-31T23:59:60.999999999+23:59\n\n",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\ntracestate: a=1\n\n",
        "Nats-Msg-Id: 1\nce-specversion: 0.3\n\n",
    ];
    let site: TierPath = "cloud.east".parse().expect("a path");
    fuzz(&corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        let headers: Headers = head.lines().filter_map(pair).collect();
        let now = time::OffsetDateTime::UNIX_EPOCH;
        let body = bytes::Bytes::from(body.to_owned());
        let read = Event::read("app.name", headers, body.clone(), &site, || "id".into(), now);
        let Ok(event) = read else { return };
        let _ = (event.app(), event.topic(), event.only(), event.to(), event.done().count());
        let wire = event.wire_headers();
        let again = Event::read("app.name", wire, body, &site, || "other".into(), now);
        assert_eq!(again.expect("what was written can be read").id, event.id);
    });
}

#[test]
fn traces() {
    let corpus = [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01|vendor=1,other=a b",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more|",
        "ff-00000000000000000000000000000000-0000000000000000-00|x",
    ];
    fuzz(&corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (parent, state) = text.split_once('|').unwrap_or((&text, ""));
        if let Ok(read) = parent.parse::<Parent>() {
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        let trace = Trace::of_text(Some(parent), Some(state));
        let mut headers = Headers::new();
        trace.write(&mut headers);
        assert_eq!(Trace::of(&headers), trace);
    });
}

#[test]
fn manifests() {
    let corpus = [
        include_str!("../../examples/doorcam/app.toml"),
        include_str!("../../examples/hello/app.toml"),
        "[app]\nname = \"a\"\nversion = \"1\"\n[[handler]]\nname = \"h\"\ncommand = \"c\"\n\
         [[handler.trigger]]\ncron = \"*/5 0-23/2 1,15 * MON-FRI\"\nzone = \"Europe/Paris\"\n\
         [[handler.trigger]]\nhttp = \"ANY /a/{b}/{c+}\"\n[[handler.trigger]]\nevent = \"a.*.>\"\n\
         [handler.placement]\nmin_tier = \"region\"\nneeds = [\"gpu\"]\nnear = \"t\"\n\
         [handler.limits]\nmemory_mb = 1\ntimeout_ms = 1\nconcurrency = 1\n\
         [[table]]\nname = \"t\"\nkey = [\"k\"]\npartition = [\"k\"]\n\
         columns = [{ name = \"k\", type = \"utf8\" }]\n[grants]\ntables = [\"b/t\"]\n",
    ];
    fuzz(&corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(manifest) = Manifest::parse(&text) {
            let _ = manifest.check_uploaded();
            let _ = manifest.route("GET", "/a/b/c");
            for trigger in manifest.handlers.iter().flat_map(|handler| &handler.triggers) {
                let Trigger::Cron(cron) = trigger else { continue };
                let schedule = cron.schedule().expect("the manifest was checked");
                let _ = schedule.next(jiff::Timestamp::UNIX_EPOCH);
            }
            let again = Manifest::parse(&text).expect("the same text");
            assert_eq!(again.app.name, manifest.app.name);
        }
    });
}

#[test]
fn routes() {
    let corpus = [
        "GET /things/{id} GET /things/42",
        "ANY /a/{rest+} PUT /a/b%20c/d",
        "POST /{a}/{b}/c DELETE /%c3%a9/%ff/c",
        "HEAD / HEAD //",
    ];
    fuzz(&corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        let _ = decode(&text);
        let route = words.get(..2).map(|words| words.join(" ")).unwrap_or_default();
        let Ok(read) = Route::parse(&route) else { return };
        assert_eq!(Route::parse(&read.to_string()), Ok(read.clone()), "{route:?}");
        assert!(read.collides(&read), "{route:?}");
        let quoted = serde_json::to_string(&route).expect("text");
        let manifest = format!(
            "[app]\nname = \"a\"\nversion = \"1\"\n[[handler]]\nname = \"h\"\ncommand = \"c\"\n\
             [[handler.trigger]]\nhttp = {quoted}\n"
        );
        let Ok(manifest) = Manifest::parse(&manifest) else { return };
        if let [_, _, method, path] = words[..] {
            let _ = manifest.route(method, path);
        }
    });
}

#[test]
fn control_messages() {
    let trace = Parent::root(true).to_string();
    let key = bus::pki::UserKey::generate().expect("a key").public;
    let link = format!("{{\"tenant\":\"acme\",\"link\":\"{key}\"}}");
    let corpus = [
        link.as_str(),
        "{\"tenant\":\"acme\",\"grace_s\":60}",
        "{\"path\":\"cloud.a\",\"class\":\"edge\",\"version\":\"1\",\"uptime_s\":5,\"link\":\
         {\"parent\":\"cloud\",\"up\":true,\"rtt_us\":9},\"devices\":[\"cpu0\"],\"apps\":[],\
         \"in_flight\":0,\"invocations\":1,\"offers\":{\"devices\":1,\"tables\":[\"t\"],\
         \"waits_ms\":{\"a/h\":5}},\"http\":\"\",\"heard_ms_ago\":0,\"children\":[]}",
        "{\"children\":[{\"name\":\"a\",\"class\":\"edge\",\"link\":\"U\",\"joined_s\":1}],\
         \"invites\":[{\"name\":\"b\",\"class\":\"edge\",\"public\":\"U\",\"expires_s\":2}]}",
        "{\"invite\":\"U\",\"link\":\"U\",\"tls\":\"04\",\"signature\":\"AA\"}",
        "{\"error\":{\"kind\":\"overloaded\",\"message\":\"m\",\"at\":\"cloud\",\
         \"retry_after_ms\":5}}",
        "{\"id\":\"1\",\"method\":\"GET\",\"path\":\"/a\",\"headers\":[[\"a\",\"b\"]]}",
        "{\"status\":200,\"headers\":[[\"x-a\",\"b\"]]}",
        "es-join-eyJzaXRlIjoiY2xvdWQuYSJ9",
        "{\"revision\":7,\"above\":[{\"path\":\"cloud\",\"class\":\"cloud\",\"offers\":\
         {\"devices\":3,\"tables\":[\"t\"],\"waits_ms\":{\"a/h\":5},\"installed\":[\"a/h\"]},\
         \"rtt_us\":9,\"bytes_per_s\":1000,\"age_ms\":3}],\"others\":[\"127.0.0.1:7422\"]}",
        "{\"name\":\"east\",\"class\":\"region\",\"valid_s\":3600}",
        "{\"site\":\"cloud.west.cell\"}",
        "{\"after\":1,\"limit\":7,\"seq\":[1,2],\"all\":true,\"upto\":9}",
        "{\"name\":\"a._cron.h.0\",\"id\":\"1\",\"scheduled\":\"2026-01-01T00:00:00Z\",\
         \"schedule\":\"* * * * *\"}",
        "{\"code\":\"sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\
         \"machine\":\"aarch64\"}",
        "{\"stream\":\"front\",\"source\":\"rtsp://camera/1\",\"pace\":\"fast\"}",
        "{\"stream\":\"EV\",\"seq\":5,\"duplicate\":true}",
        "{\"error\":{\"code\":400,\"description\":\"no\"}}",
        "10.1.0.0/16",
        "2001:db8::/32",
        trace.as_str(),
    ];
    let child: TierPath = "cloud.a".parse().expect("a path");
    fuzz(&corpus, |bytes| {
        json::<Brief>(bytes);
        json::<Report>(bytes);
        json::<Roster>(bytes);
        json::<Tenants>(bytes);
        json::<About>(bytes);
        json::<LinkRequest>(bytes);
        json::<JoinAnswer>(bytes);
        json::<HttpRequest>(bytes);
        json::<Invite>(bytes);
        json::<Follow>(bytes);
        json::<Tick>(bytes);
        json::<Wanted>(bytes);
        json::<Offer>(bytes);
        json::<Open>(bytes);
        let _ = serde_json::from_slice::<Asked>(bytes);
        let _ = bus::event::read_ack("ev.cloud._.a.b", &Response::new(bytes.to_vec()));
        welcome(bytes, &child);
        let text = String::from_utf8_lossy(bytes);
        let _ = Token::decode(&text);
        if let Ok(network) = text.parse::<Network>() {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        let _ = toml::from_str::<Record>(&text);
        if let Ok(request) = serde_json::from_slice::<JoinRequest>(bytes) {
            let _ = (request.check(), Roster::default().admit(&request, 0));
        }
        if let Ok(request) = serde_json::from_slice::<LinkRequest>(bytes) {
            let mut tenants = Tenants::default();
            let _ = (tenants.add(&request.tenant), tenants.link(&child, &request));
        }
        if let Ok(head) = serde_json::from_slice::<HttpHead>(bytes) {
            let _ = HttpHead::checked(head.status, head.headers);
        }
        let mut response = Response::new(bytes.to_vec());
        response.headers.insert(bus::message::ERROR_HEADER.into(), "e".into());
        let refusal = Refusal::of(&response).expect("a refusal");
        let again = Refusal::of(&refusal.response()).expect("a refusal");
        assert_eq!((again.kind, again.message), (refusal.kind, refusal.message));
    });
}

/// Whatever a parent says of itself and of those above it makes a view that can be told on.
fn welcome(bytes: &[u8], child: &TierPath) {
    json::<Welcome>(bytes);
    let Ok(Welcome { above, .. }) = serde_json::from_slice(bytes) else { return };
    let (now, rtt) = (Instant::now(), Duration::from_millis(1));
    let above = news::take(above, child, (rtt, Some(1)), |_| None, now);
    let Some((parent, further)) = above.split_first() else { return };
    assert!(above.iter().all(|site| site.path.contains(child)));
    let told = news::tell(parent, further, now);
    assert_eq!(news::take(told, child, (rtt, None), |_| None, now).len(), above.len());
}

/// References of bodies, and requests for their parts.
#[test]
fn bodies() {
    let corpus = [
        "put|a 0|{\"id\":\"a\",\"bytes\":3,\"sha256\":\
         \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}|abc",
        "get|a 0||",
        "whole|a 1|{\"id\":\"a\",\"bytes\":3,\"sha256\":\
         \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}|",
        "put|b 255|{\"id\":\"b\",\"bytes\":67108864,\"sha256\":\"\"}|x",
        "drop|a 18446744073709551615||",
    ];
    let fresh = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        (runtime.expect("a runtime"), std::sync::Arc::new(Bodies::default()), 0)
    };
    let held = std::cell::RefCell::new(fresh());
    fuzz(&corpus, |bytes| {
        // Nobody's clock runs here that would have bodies forgotten.
        if held.borrow().2 >= 1_000 {
            held.replace(fresh());
        }
        held.borrow_mut().2 += 1;
        let (runtime, bodies, _) = &*held.borrow();
        let _inside = runtime.enter();
        let text = String::from_utf8_lossy(bytes);
        let mut fields = text.splitn(4, '|');
        let mut field = || fields.next().unwrap_or_default().to_owned();
        let (verb, part, reference) = (field(), field(), field());
        let mut request = Request::new("call.cloud._.@body.put", field());
        request.headers.insert("Es-Part".into(), part);
        request.headers.insert(BODY_HEADER.into(), reference);
        let _ = bodies.whole(request.clone());
        let _ = bodies.serve(&verb, request);
    });
}

#[test]
fn structured_events() {
    let corpus = [
        r#"{"specversion":"1.0","id":"1","source":"cloud","type":"t","data":{"a":[1,null]}}"#,
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain",
            "data":"text","time":"2026-01-02T03:04:05Z","traceparent":"00-1-2-01"}"#,
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AAEC/w==",
            "datacontenttype":"image/jpeg","partitionkey":"k","count":7,"good":true,"no":null}"#,
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":"text",
            "datacontenttype":"text/plain\r\nEs-Only: app/h"}"#,
    ];
    let site: TierPath = "cloud.east".parse().expect("a path");
    fuzz(&corpus, |bytes| {
        let Some(event) = read_structured("app.name", bytes, &site) else { return };
        // Whatever is taken in is stored under headers that the next site reads as the same event.
        let headers = event.wire_headers();
        assert!(headers.values().all(|value| !value.contains(['\r', '\n'])), "{headers:?}");
        let now = time::OffsetDateTime::UNIX_EPOCH;
        let again = Event::read("app.name", headers, event.data.clone(), &site, String::new, now);
        let again = again.expect("what was taken in can be read");
        assert_eq!((&again.id, &again.source), (&event.id, &event.source));
    });
}

/// A link on which nobody answers.
struct Silence;

#[async_trait::async_trait]
impl store::Link for Silence {
    async fn request_parent(&self, op: &str, _: Bytes) -> Result<Bytes, LinkError> {
        Err(LinkError::Unreachable(op.to_owned()))
    }

    async fn request(&self, site: &str, _: &str, _: Bytes) -> Result<Bytes, LinkError> {
        Err(LinkError::Unreachable(site.to_owned()))
    }

    async fn publish_changes(&self, _: &str, _: Bytes) -> Result<(), LinkError> {
        Ok(())
    }

    async fn subscribe_parent_changes(
        &self,
        table: &str,
    ) -> Result<BoxStream<'static, Bytes>, LinkError> {
        Err(LinkError::Unreachable(table.to_owned()))
    }
}

/// Twelve rows of the table of [`store_requests`] as an Arrow IPC stream with LZ4, as pyarrow 26
/// writes it, in base64.
const COMPRESSED: &str = "\
    /////9gAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAMAAAB8AAAANAAAAAQAAA\
    Cg////AAABAxAAAAAYAAAABAAAAAAAAAABAAAAdgAGAAgABgAGAAAAAAACAMz///8AAAECEAAAABwAAAAEAAAAAAAA\
    AAEAAABuAAAACAAMAAgABwAIAAAAAAAAAUAAAAAQABQACAAGAAcADAAAABAAEAAAAAAAAQUQAAAAGAAAAAQAAAAAAA\
    AAAQAAAGsAAAAEAAQABAAAAAAAAAD/////CAEAABQAAAAAAAAADAAYAAYABQAIAAwADAAAAAADBAAcAAAA+AAAAAAA\
    AAAAAAAADAAcABAABAAIAAwADAAAAJgAAAAcAAAAFAAAAAwAAAAAAAAAAAAAAAQABAAEAAAABwAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAEsAAAAAAAAAUAAAAAAAAAAjAAAAAAAAAHgAAAAAAAAAAAAAAAAAAAB4AAAAAAAAAEwAAAAA\
    AAAAyAAAAAAAAAAAAAAAAAAAAMgAAAAAAAAAKgAAAAAAAAAAAAAAAwAAAAwAAAAAAAAAAAAAAAAAAAAMAAAAAAAAAA\
    AAAAAAAAAADAAAAAAAAAAAAAAAAAAAADQAAAAAAAAABCJNGGBAgjQAAIAAAAAAAQAAAAIAAAADAAAABAAAAAUAAAAG\
    AAAABwAAAAgAAAAJAAAACgAAAAsAAAAMAAAAAAAAAAAAAAAADAAAAAAAAAAEIk0YYECCDAAAgGFhYWFhYWFhYWFhYQ\
    AAAAAAAAAAAGAAAAAAAAAABCJNGGBAgjUAAAATAAEAEwEIABMCCAATAwgAEwQIABMFCAATBggAEwcIABMICAATCQgA\
    EwoIAIALAAAAAAAAAAAAAAAAAAAAYAAAAAAAAAAEIk0YYECCEwAAABEAAQAh+D8HAA8IADtQAAAA+D8AAAAAAAAAAA\
    AA/////wAAAAA=";

/// What stands behind the first space.
fn rows_of(input: &[u8]) -> Bytes {
    let cut = input.iter().position(|b| *b == b' ').unwrap_or(input.len());
    Bytes::copy_from_slice(input.get(cut + 1..).unwrap_or_default())
}

/// What a client says beside rows in Arrow.
fn to_table() -> serde_json::Map<String, serde_json::Value> {
    let fields = [("table", "app_t"), ("level", "memory")];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// Whatever comes to a store as a request, from clients in JSON or Arrow and from stores in their
/// own format, the store answers or refuses, and goes on.
#[test]
fn store_requests() {
    let corpus = [
        r#"get {"table":"app_t","key":{"k":"a","n":1}}"#,
        r#"get-many {"table":"app_t","keys":[{"k":"a","n":1},{"k":"b","n":-2}]}"#,
        r#"scan {"table":"app_t","prefix":{"k":"a"},"filter":[{"column":"v","op":">","value":1.5}],
           "limit":7,"reverse":true,"columns":["v"]}"#,
        r#"put {"table":"app_t","rows":[{"k":"a","n":1,"v":2.5,"s":["x"]}],"level":"memory"}"#,
        r#"patch {"table":"app_t","rows":[{"k":"a","n":1,"b":"AAEC"}]}"#,
        r#"delete {"table":"app_t","rows":[{"k":"a","n":1}]}"#,
        r#"increment {"table":"app_t","key":{"k":"a","n":1},"by":{"c":-9223372036854775808}}"#,
        r#"increment {"table":"app_t","key":{"k":"a","n":1},"by":{"c":1},"level":"parent"}"#,
        r#"get-many {"table":"app_t","keys":[{"k":"a","n":1}],"format":"arrow"}"#,
        r#"scan {"table":"app_t","format":"arrow","columns":["s","b"]}"#,
        r#"commit {"table":"app_t","if":[{"key":{"k":"a","n":1},"absent":true}],
           "do":[{"put":{"k":"a","n":1}},{"increment":{"key":{"k":"a","n":1},"by":{"c":1}}}]}"#,
        r#"sql {"sql":"SELECT k, sum(v) FROM app.t WHERE k = 'a' GROUP BY k","limit":9}"#,
        r#"sql {"sql":"EXPLAIN SELECT * FROM t ORDER BY n","app":"app","format":"arrow"}"#,
        r#"changes {"table":"app_t","after":"","limit":3}"#,
        r#"create {"name":"app_u","columns":[{"name":"k","kind":"utf8"}],"key":["k"]}"#,
        r#"table {"table":"app_t"}"#,
        "status {}",
        "up \u{7}\0\0\0\0\0\0\0\ncloud.east\0\u{1}\u{3}abc",
        "range \u{5}app_t\0\0\0\0\u{40}\0",
        "fetch \u{5}app_t\0\0\0\0\0\0",
        "heads \u{1}\u{5}app_t",
        "describe \u{5}app_t",
        "blob \u{6}cloud/sha256-\0\u{10}",
        "decide \u{5}app_t\0\u{1}\0",
    ];
    let spec = r#"{"name":"app_t","key":["k","n"],"partition":["k"],"columns":[
        {"name":"k","kind":"utf8"},{"name":"n","kind":"int64"},{"name":"v","kind":"float64"},
        {"name":"b","kind":"binary"},{"name":"c","kind":"int64","merge":"counter"},
        {"name":"s","kind":"utf8","merge":"set"}]}"#;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let store = runtime.block_on(async {
        let config = store::Config::new(folder.path().to_owned(), "cloud");
        let store = store::EdgeStore::open(config).await.expect("a store");
        store.attach(std::sync::Arc::new(Silence)).expect("it is in the tree");
        let spec = serde_json::from_str(spec).expect("a specification");
        store.create_table(&spec).await.expect("a table");
        store
    });
    // Rows as Arrow, of the store itself and compressed ones of another program.
    let put =
        Bytes::from_static(br#"{"table":"app_t","rows":[{"k":"a","n":1,"v":2.5,"s":["x"]}]}"#);
    let scan = br#"{"table":"app_t","format":"arrow","columns":["k","n","v","b","s"]}"#.as_slice();
    let rows = runtime.block_on(async {
        store.serve("put", "", put).await.expect("a row is put");
        store.serve("scan", "", scan.into()).await.expect("rows as Arrow")
    });
    let compressed = BASE64.decode(COMPRESSED).expect("base64");
    let ops = ["put", "patch", "delete", "discard", "get-many"];
    let streams = ops
        .iter()
        .flat_map(|op| [&rows[..], &compressed].map(|rows| [op.as_bytes(), b" ", rows].concat()));
    let streams: Vec<Vec<u8>> = streams.collect();
    let texts = corpus.iter().map(|text| text.as_bytes());
    let all: Vec<&[u8]> = texts.chain(streams.iter().map(Vec::as_slice)).collect();
    for stream in &streams[..2] {
        let done = runtime.block_on(store.request("put", to_table(), Some(rows_of(stream))));
        assert!(done.is_ok(), "{done:?}");
    }
    fuzz_bytes(&all, |bytes| {
        let cut = bytes.iter().position(|b| *b == b' ').unwrap_or(bytes.len());
        let op = &bytes[..cut];
        let payload = rows_of(bytes);
        // It could ask to wait for changes, or fill the disk with tables.
        let waits = String::from_utf8_lossy(&payload).contains("wait_ms");
        let Some(op) = std::str::from_utf8(op).ok().filter(|_| !waits) else { return };
        let _ = match payload.starts_with(&[0xff; 4]) {
            true => runtime.block_on(store.request(op, to_table(), Some(payload))),
            false => runtime.block_on(store.serve(op, "cloud.east", payload)),
        };
    });
    let healthy = runtime.block_on(store.serve("get", "", corpus[0][4..].into()));
    assert!(healthy.is_ok(), "{healthy:?}");
    runtime.block_on(store.close());
}
