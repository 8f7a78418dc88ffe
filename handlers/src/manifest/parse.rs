//! From text to [`Manifest`].

use std::collections::{BTreeMap, BTreeSet};

use super::bindings::{Ground, bindings};
use super::grants::{grants, needs};
use super::reader::{Field, Node, document};
use super::tables::tables;
use super::*;
use crate::settings::SECRETS_MAX;

type Result<T> = std::result::Result<T, ManifestError>;

const TIERS: &[(&str, TierClass)] = &[
    ("device", TierClass::Device),
    ("edge", TierClass::Edge),
    ("region", TierClass::Region),
    ("cloud", TierClass::Cloud),
];
const MISSED: &[(&str, Missed)] =
    &[("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All)];
const REQUEST_BODIES: &[(&str, RequestBody)] =
    &[("whole", RequestBody::Whole), ("stream", RequestBody::Stream)];
const ORDERS: &[(&str, Order)] = &[("subject", Order::Subject), ("key", Order::Key)];
const CODE: [CodeKind; 5] =
    [CodeKind::Component, CodeKind::Python, CodeKind::Js, CodeKind::Java, CodeKind::Command];
const TRIGGERS: [&str; 6] = ["event", "call", "stream", "http", "cron", "table"];
/// What may go better the next time.
const RETRIED: [FailureKind; 6] = [
    FailureKind::Error,
    FailureKind::Trap,
    FailureKind::Timeout,
    FailureKind::Cpu,
    FailureKind::Memory,
    FailureKind::Node,
];
/// Apps of these names have no routes: the gateway answers there itself.
const GATEWAY_PATHS: [&str; 6] = ["call", "events", "healthz", "metrics", "readyz", "store"];
/// Most tokens of a subject pattern.
const TOKENS_MAX: usize = 8;
/// Highest priority of a handler's jobs.
const PRIORITY_MAX: u8 = 9;
/// Most settings of a handler.
const SETTINGS_MAX: usize = 64;

pub(super) fn manifest(text: &str) -> Result<Manifest> {
    if text.len() > MANIFEST_BYTES_MAX {
        let problem = format!("{} bytes; at most {MANIFEST_BYTES_MAX} go", text.len());
        return Err(ManifestError { line: 1, field: String::new(), problem });
    }
    let document = document(text)?;
    let root = Node::root(text, &document);
    root.only(&["app", "handler", "table", "grants"])?;
    let tables = tables(&root)?;
    let grants = grants(&root)?;
    let handlers = handlers(&root, &tables, &grants)?;
    let manifest = Manifest { app: app(&root)?, handlers, tables, grants };
    if manifest.has_routes() && GATEWAY_PATHS.contains(&manifest.app.name.as_str()) {
        let field = root.need("app", "")?.table()?.need("name", "")?;
        return Err(field.wrong("the gateway itself answers there; give the app another name"));
    }
    Ok(manifest)
}

fn app(root: &Node<'_>) -> Result<App> {
    let node = root.need("app", "write [app] with name and version")?.table()?;
    node.only(&["name", "version", "concurrency"])?;
    let name = name(&node.need("name", "write name = \"my-app\"")?)?;
    let version = match node.field("version") {
        Some(field) => bounded(&field, 64)?,
        None => "0.0.0".to_owned(),
    };
    let at_once = |field: Field<'_>| field.number(1..4097, "invocations");
    let concurrency = node.field("concurrency").map(at_once).transpose()?;
    Ok(App { name, version, concurrency })
}

fn handlers(root: &Node<'_>, tables: &[TableSpec], grants: &Grants) -> Result<Vec<Handler>> {
    let mut handlers: Vec<Handler> = Vec::new();
    let mut calls = BTreeSet::new();
    let mut routes: Vec<http::Route> = Vec::new();
    for node in root.tables("handler", HANDLERS_MAX)? {
        let handler = handler(&node, tables, grants)?;
        if handlers.iter().any(|other| other.name == handler.name) {
            let problem = format!("a second handler \"{}\"; give it another name", handler.name);
            return Err(field_of(&node, "name").wrong(problem));
        }
        for (at, trigger) in handler.triggers.iter().enumerate() {
            let taken = match trigger {
                Trigger::Call(name) => (!calls.insert(name.clone())).then_some("call"),
                Trigger::Http(route) => {
                    let taken = routes.iter().any(|other| other.collides(route));
                    routes.push(route.clone());
                    taken.then_some("http")
                }
                _ => None,
            };
            if let Some(kind) = taken {
                let field = field_of(&node.tables("trigger", TRIGGERS_MAX)?[at], kind);
                let problem = "is answered already; give it another name";
                return Err(field.wrong(format!("\"{}\" {problem}", field.text()?)));
            }
        }
        handlers.push(handler);
    }
    Ok(handlers)
}

fn handler(node: &Node<'_>, tables: &[TableSpec], grants: &Grants) -> Result<Handler> {
    let mut known = vec![
        "name",
        "entry",
        "order",
        "request_body",
        "trigger",
        "placement",
        "limits",
        "retry",
        "config",
        "secrets",
        "input",
        "output",
    ];
    known.extend(CODE.map(CodeKind::name));
    node.only(&known)?;
    let (kind, source) = code(node)?;
    let triggers = triggers(node, tables)?;
    let entry = entry(node, kind)?;
    check_kind_takes(node, kind, entry.as_deref(), &triggers)?;
    let placement = placement(node, tables)?;
    let order = order(node, &placement)?;
    let is_application = entry.as_deref().is_some_and(is_application);
    let ground = Ground { tables, grants, triggers: &triggers, is_application };
    let bindings = bindings(node, &ground)?;
    let request_body = request_body(node, kind, &bindings)?;
    let limits = limits(node)?;
    check_own_process(node, kind, &triggers, &limits)?;
    Ok(Handler {
        name: name(&node.need("name", "write name = \"my-handler\"")?)?,
        kind,
        entry,
        source_line: source.line(),
        source: source_of(&source)?,
        triggers,
        placement,
        limits,
        retry: retry(node)?,
        order,
        request_body,
        config: settings(node)?,
        secrets: secrets(node)?,
        bindings,
    })
}

fn order(node: &Node<'_>, placement: &Placement) -> Result<Option<Order>> {
    let Some(field) = node.field("order") else { return Ok(None) };
    if placement.spill {
        return Err(field.wrong("what spills to other sites has no order; remove one of the two"));
    }
    field.choice("order", ORDERS).map(Some)
}

/// Only components of `wasi:http` read in parts, which their code tells; a binding wants the whole.
fn request_body(node: &Node<'_>, kind: CodeKind, bindings: &Bindings) -> Result<RequestBody> {
    let Some(field) = node.field("request_body") else { return Ok(RequestBody::default()) };
    let body = field.choice("way", REQUEST_BODIES)?;
    let problem = match body {
        RequestBody::Whole => return Ok(body),
        RequestBody::Stream if kind != CodeKind::Component => {
            "only components of wasi:http read a body as it comes; use component"
        }
        RequestBody::Stream if !bindings.is_empty() => {
            "inputs and outputs want the whole body; remove them, or this line"
        }
        RequestBody::Stream => return Ok(body),
    };
    Err(field.wrong(problem))
}

fn code<'a>(node: &Node<'a>) -> Result<(CodeKind, Field<'a>)> {
    let mut found = CODE.iter().filter_map(|kind| Some((*kind, node.field(kind.name())?)));
    let names = CODE.map(CodeKind::name).join(", ");
    let (kind, field) =
        found.next().ok_or_else(|| node.wrong(format!("no code; write one of {names}")))?;
    if let Some((_, second)) = found.next() {
        return Err(second.wrong(format!("a second code; keep one of {names}")));
    }
    Ok((kind, field))
}

fn source_of(field: &Field<'_>) -> Result<Source> {
    let text = bounded(field, 1024)?;
    if Digest::is_meant(&text) {
        return text
            .parse()
            .map(Source::Digest)
            .map_err(|error: crate::digest::DigestError| field.wrong(error.to_string()));
    }
    Ok(Source::Path(text))
}

fn entry(node: &Node<'_>, kind: CodeKind) -> Result<Option<String>> {
    if matches!(kind, CodeKind::Python | CodeKind::Js) {
        node.need("entry", "write entry = \"module.function\"")?;
    }
    let Some(field) = node.field("entry") else { return Ok(None) };
    let text = bounded(&field, 256)?;
    match kind {
        CodeKind::Component => Err(field.wrong(
            "a component has no entry: what it exports says what it handles; remove this line",
        )),
        CodeKind::Python if is_application(&text) => Ok(Some(text)),
        CodeKind::Python | CodeKind::Js if !is_entry(&text) => {
            Err(field.wrong(format!("\"{text}\" names no function; write \"module.function\"")))
        }
        CodeKind::Java if !is_java_entry(&text) => {
            Err(field.wrong(format!("\"{text}\" names no method; write \"package.Class::method\"")))
        }
        _ => Ok(Some(text)),
    }
}

fn is_entry(text: &str) -> bool {
    text.contains('.') && text.split('.').all(is_identifier)
}

/// `module:application`, as WSGI servers have it.
fn is_application(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(module, name)| module.split('.').all(is_identifier) && is_identifier(name))
}

fn is_java_entry(text: &str) -> bool {
    let (class, method) = text.split_once("::").unwrap_or((text, "handleRequest"));
    class.split('.').all(is_identifier) && is_identifier(method)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn triggers(node: &Node<'_>, tables: &[TableSpec]) -> Result<Vec<Trigger>> {
    let nodes = node.tables("trigger", TRIGGERS_MAX)?;
    // Its own mistakes are found elsewhere.
    let handler = node.field("name").and_then(|field| field.text().ok()).unwrap_or_default();
    nodes.iter().enumerate().map(|(at, node)| trigger(node, tables, handler, at)).collect()
}

fn trigger(node: &Node<'_>, tables: &[TableSpec], handler: &str, at: usize) -> Result<Trigger> {
    let mut known = TRIGGERS.to_vec();
    known.extend(["framing", "protocol", "zone", "missed"]);
    node.only(&known)?;
    let mut found = TRIGGERS.iter().filter_map(|kind| Some((*kind, node.field(kind)?)));
    let (kind, field) = found.next().ok_or_else(|| {
        node.wrong(format!("starts on nothing; write one of {}", TRIGGERS.join(", ")))
    })?;
    if let Some((_, second)) = found.next() {
        return Err(second.wrong("a second cause; write another [[handler.trigger]] for it"));
    }
    if kind != "stream"
        && let Some(stray) = node.field("framing").or_else(|| node.field("protocol"))
    {
        return Err(stray.wrong("only streams have this; remove it"));
    }
    if kind != "cron"
        && let Some(stray) = node.field("zone").or_else(|| node.field("missed"))
    {
        return Err(stray.wrong("only schedules have this; remove it"));
    }
    match kind {
        "event" => subject_pattern(&field).map(Trigger::Event),
        "call" => name(&field).map(Trigger::Call),
        "table" => {
            let table = own_table(&field, tables)?;
            Ok(Trigger::Table { table, topic: format!("{TABLE_TOPIC}.{handler}.{at}") })
        }
        "cron" => cron(node, &field, format!("{CRON_TOPIC}.{handler}.{at}")),
        "http" => http::Route::parse(field.text()?).map(Trigger::Http).map_err(|e| field.wrong(e)),
        _ => stream(node, &field),
    }
}

fn cron(node: &Node<'_>, field: &Field<'_>, topic: String) -> Result<Trigger> {
    let line = bounded(field, 256)?;
    let zone_field = node.field("zone");
    let zone = zone_field.as_ref().map_or(Ok("UTC".to_owned()), |field| bounded(field, 64))?;
    let missed = match node.field("missed") {
        Some(field) => field.choice("policy", MISSED)?,
        None => Missed::default(),
    };
    match Schedule::parse(&line, &zone) {
        Ok(_) => Ok(Trigger::Cron(CronTrigger { line, zone, missed, topic })),
        Err(problem) if problem.contains("time zone") => {
            Err(zone_field.as_ref().unwrap_or(field).wrong(problem))
        }
        Err(problem) => Err(field.wrong(problem)),
    }
}

fn stream(node: &Node<'_>, field: &Field<'_>) -> Result<Trigger> {
    if let Some(protocol) = node.field("protocol") {
        protocol.choice("protocol", &[("media", ())])?;
    }
    let framing = match node.field("framing") {
        Some(field) => field.choice("framing", &[("frames", Framing::Frames)])?,
        None => Framing::Frames,
    };
    Ok(Trigger::Stream { name: name(field)?, framing })
}

/// Frames stay on the host, and only components can be given what is on the host. A WSGI
/// application knows requests and nothing else.
fn check_kind_takes(
    node: &Node<'_>,
    kind: CodeKind,
    entry: Option<&str>,
    triggers: &[Trigger],
) -> Result<()> {
    let is_stream = |trigger: &Trigger| matches!(trigger, Trigger::Stream { .. });
    if kind != CodeKind::Component
        && let Some(at) = triggers.iter().position(is_stream)
    {
        let trigger = &node.tables("trigger", TRIGGERS_MAX)?[at];
        return Err(
            field_of(trigger, "stream").wrong("frames go to components only; use component")
        );
    }
    let is_route = |trigger: &Trigger| matches!(trigger, Trigger::Http(_));
    if entry.is_some_and(is_application) && !triggers.iter().all(is_route) {
        let problem = "a WSGI application takes HTTP requests only; give other triggers a handler \
                       with entry = \"module.function\"";
        return Err(field_of(node, "entry").wrong(problem));
    }
    Ok(())
}

fn subject_pattern(field: &Field<'_>) -> Result<String> {
    let text = bounded(field, 256)?;
    let tokens: Vec<&str> = text.split('.').collect();
    if tokens.len() > TOKENS_MAX {
        return Err(field.wrong(format!("{} tokens; at most {TOKENS_MAX} go", tokens.len())));
    }
    for (at, token) in tokens.iter().enumerate() {
        let is_last = at + 1 == tokens.len();
        let is_word = token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        match *token {
            "" => return Err(field.wrong("an empty token; write words with single dots between")),
            "*" => {}
            ">" if is_last => {}
            ">" => return Err(field.wrong("\">\" stands only at the end; use \"*\" for one token")),
            _ if is_word => {}
            _ => {
                return Err(field.wrong(format!(
                    "\"{token}\" is no token; use letters, digits, - and _, or * or >"
                )));
            }
        }
    }
    Ok(text)
}

fn placement(node: &Node<'_>, tables: &[TableSpec]) -> Result<Placement> {
    let Some(node) = node.table("placement")? else { return Ok(Placement::default()) };
    node.only(&["min_tier", "max_tier", "prefer", "needs", "near", "spill"])?;
    let tier = |name| node.field(name).map(|field| field.choice("tier", TIERS)).transpose();
    let min_tier = tier("min_tier")?.unwrap_or(TierClass::Device);
    let max_tier = tier("max_tier")?.unwrap_or(TierClass::Cloud);
    if min_tier > max_tier {
        let field = if node.field("min_tier").is_some() { "min_tier" } else { "max_tier" };
        return Err(field_of(&node, field).wrong(
            "the lowest tier is above the highest; the order is device, edge, region, cloud",
        ));
    }
    let prefer = tier("prefer")?;
    if prefer.is_some_and(|tier| tier < min_tier || tier > max_tier) {
        return Err(field_of(&node, "prefer").wrong("outside of min_tier to max_tier"));
    }
    let needs = needs(&node)?;
    let near = near(&node, tables)?;
    let spill = node.field("spill").map(|field| field.truth()).transpose()?.unwrap_or(false);
    Ok(Placement { min_tier, max_tier, prefer, needs, near, spill })
}

fn near(node: &Node<'_>, tables: &[TableSpec]) -> Result<Option<String>> {
    node.field("near").map(|field| own_table(&field, tables)).transpose()
}

pub(super) fn own_table(field: &Field<'_>, tables: &[TableSpec]) -> Result<String> {
    let text = field.text()?;
    if tables.iter().any(|table| table.name == text) {
        return Ok(text.to_owned());
    }
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let mend = match names.as_slice() {
        [] => "the app has none; write a [[table]]".to_owned(),
        names => format!("use one of {}", names.join(", ")),
    };
    Err(field.wrong(format!("unknown table \"{text}\"; {mend}")))
}

fn limits(node: &Node<'_>) -> Result<Limits> {
    let usual = Limits::default();
    let Some(node) = node.table("limits")? else { return Ok(usual) };
    node.only(&[
        "memory_mb",
        "timeout_ms",
        "cpu_ms",
        "concurrency",
        "reuse",
        "at_once",
        "ready",
        "own_process",
        "priority",
        "publishes",
        "calls",
        "writes",
    ])?;
    let invocations = |field: Field<'_>| field.number(1..1_000_001, "invocations");
    let reuse = node.field("reuse").map(invocations).transpose()?;
    let at_once = number(&node, "at_once", 1..1025, "requests", usual.at_once)?;
    if let Some(field) = node.field("at_once").filter(|_| at_once > 1 && reuse.is_none()) {
        return Err(field.wrong("say in reuse how many one instance serves in all"));
    }
    let cpu_ms = node.field("cpu_ms").map(|field| field.number(1..900_001, "milliseconds"));
    let cpu_ms = cpu_ms.transpose()?;
    if let Some(field) = node.field("cpu_ms").filter(|_| at_once > 1) {
        let problem = "requests that share an instance compute together; remove this or at_once";
        return Err(field.wrong(problem));
    }
    Ok(Limits {
        memory_mb: number(&node, "memory_mb", 1..1025, "MiB", usual.memory_mb)?,
        timeout_ms: number(&node, "timeout_ms", 1..900_001, "milliseconds", usual.timeout_ms)?,
        cpu_ms,
        concurrency: number(&node, "concurrency", 1..1025, "invocations", usual.concurrency)?,
        reuse,
        at_once,
        ready: number(&node, "ready", 0..65, "instances or processes", usual.ready)?,
        own_process: node.field("own_process").map_or(Ok(false), |field| field.truth())?,
        priority: priority(&node)?,
        publishes: number(&node, "publishes", 0..1_000_001, "events", usual.publishes)?,
        calls: number(&node, "calls", 0..1_000_001, "calls", usual.calls)?,
        writes: number(&node, "writes", 0..100_000_001, "rows", usual.writes)?,
    })
}

fn priority(node: &Node<'_>) -> Result<u8> {
    let steps = number(node, "priority", 0..u32::from(PRIORITY_MAX) + 1, "steps", 0)?;
    Ok(u8::try_from(steps).unwrap_or(PRIORITY_MAX))
}

/// What goes with processes that are a component's own.
fn check_own_process(
    node: &Node<'_>,
    kind: CodeKind,
    triggers: &[Trigger],
    limits: &Limits,
) -> Result<()> {
    let table = node.table("limits")?.filter(|_| limits.own_process);
    let Some(field) = table.as_ref().and_then(|table| table.field("own_process")) else {
        return Ok(());
    };
    let problem = if kind != CodeKind::Component {
        format!("{} code always has processes of its own; remove it", kind.name())
    } else if limits.at_once > 1 {
        "an instance there serves one request at a time; remove this or at_once".to_owned()
    } else if triggers.iter().any(|trigger| matches!(trigger, Trigger::Stream { .. })) {
        "frames stay in the node; remove it, or let this handler publish events to another that \
         has it"
            .to_owned()
    } else {
        return Ok(());
    };
    let name = node.field("name").map_or(Ok(""), |field| field.text())?;
    Err(field.wrong(format!("handler \"{name}\": {problem}")))
}

fn retry(node: &Node<'_>) -> Result<Retry> {
    let usual = Retry::default();
    let Some(node) = node.table("retry")? else { return Ok(usual) };
    node.only(&["max_deliver", "backoff_ms", "attempts"])?;
    let mut attempts = BTreeMap::new();
    if let Some(node) = node.table("attempts")? {
        node.only(&RETRIED.map(FailureKind::name))?;
        for kind in RETRIED {
            let Some(field) = node.field(kind.name()) else { continue };
            attempts.insert(kind, field.number(1..101, "deliveries")?);
        }
    }
    Ok(Retry {
        attempts,
        max_deliver: number(&node, "max_deliver", 1..101, "deliveries", usual.max_deliver)?,
        backoff_ms: number(&node, "backoff_ms", 1..600_001, "milliseconds", usual.backoff_ms)?,
    })
}

fn settings(node: &Node<'_>) -> Result<BTreeMap<String, String>> {
    let Some(node) = node.table("config")? else { return Ok(BTreeMap::new()) };
    let fields = node.fields();
    if fields.len() > SETTINGS_MAX {
        return Err(node.wrong(format!("{} settings; at most {SETTINGS_MAX} go", fields.len())));
    }
    fields.into_iter().map(|(name, field)| Ok((name, field.plain()?))).collect()
}

fn secrets(node: &Node<'_>) -> Result<Vec<String>> {
    let Some(field) = node.field("secrets") else { return Ok(Vec::new()) };
    let entries = field.list()?;
    if entries.len() > SECRETS_MAX {
        return Err(field.wrong(format!("{} secrets; at most {SECRETS_MAX} go", entries.len())));
    }
    let settings = settings(node)?;
    let mut names = Vec::new();
    for entry in &entries {
        let name = bounded(entry, 64)?;
        if !is_identifier(&name) {
            let problem = "is no name of a secret; use letters, digits and _";
            return Err(entry.wrong(format!("\"{name}\" {problem}")));
        }
        if settings.contains_key(&name) {
            return Err(entry.wrong(format!("\"{name}\" stands in config too; remove one")));
        }
        names.push(name);
    }
    Ok(names)
}

fn number(
    node: &Node<'_>,
    name: &str,
    range: std::ops::Range<u32>,
    unit: &str,
    usual: u32,
) -> Result<u32> {
    node.field(name).map_or(Ok(usual), |field| field.number(range, unit))
}

fn name(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(field.wrong(format!("\"{}\" is no name; use 1 to 32 of a-z, 0-9 and -", short(text))))
}

pub(super) fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=32).contains(&text.len()) && text.chars().all(is_part)
}

pub(super) fn bounded(field: &Field<'_>, bytes_max: usize) -> Result<String> {
    match field.text()? {
        "" => Err(field.wrong("empty; write something or remove the line")),
        text if text.len() > bytes_max => {
            Err(field.wrong(format!("{} bytes; at most {bytes_max} go", text.len())))
        }
        text => Ok(text.to_owned()),
    }
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A field that was read before, so it is there.
pub(super) fn field_of<'a>(node: &Node<'a>, name: &str) -> Field<'a> {
    node.field(name).expect("the field was read before")
}
