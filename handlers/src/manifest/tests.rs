use proptest::prelude::*;

use super::*;

const DOORCAM: &str = include_str!("../../../examples/doorcam/app.toml");

const SMALL: &str = r#"
[app]
name = "shop"
version = "1.0.0"

[[handler]]
name = "count"
component = "count.wasm"
"#;

#[test]
fn the_example_is_read_whole() {
    let manifest = Manifest::parse(DOORCAM).unwrap();
    assert_eq!(manifest.app.name, "doorcam");
    let motion = manifest.handler("motion").unwrap();
    assert_eq!(motion.kind, CodeKind::Component);
    assert_eq!(motion.source, Source::Path("motion.wasm".into()));
    let stream = Trigger::Stream { name: "front".into(), framing: Framing::Frames };
    assert_eq!(motion.triggers, [stream]);
    assert_eq!(motion.config["threshold"], "0.02");

    let summary = manifest.handler("summary").unwrap();
    assert_eq!(summary.placement.min_tier, TierClass::Region);
    assert_eq!(summary.entry.as_deref(), Some("summary.handler"));
    assert!(summary.triggers.iter().any(|trigger| trigger.takes_event("motion")));
    assert_eq!(manifest.handler_of_call("summary").unwrap().name, "summary");

    let minutes = manifest.tables.iter().find(|table| table.name == "motion_minute").unwrap();
    assert_eq!(minutes.key, ["camera", "minute"]);
    let merge = |name: &str| minutes.columns.iter().find(|c| c.name == name).unwrap().merge;
    assert_eq!((merge("events"), merge("max_score")), (Merge::Set, Merge::Max));
}

#[test]
fn a_handler_may_need_devices_and_an_encoder() {
    let text = format!("{SMALL}[handler.placement]\nneeds = [\"gpu\", \"encode.h264\"]\n");
    let needs = Manifest::parse(&text).unwrap().handlers[0].placement.needs.clone();
    assert_eq!(Vec::from_iter(needs.clone()), [DeviceClass::Gpu, DeviceClass::EncodeH264]);
    assert_eq!(serde_json::to_string(&needs).unwrap(), r#"["gpu","encode.h264"]"#);
    // Every site has an encoder: a GPU is what is looked for.
    let of = |classes: &[DeviceClass]| crate::deploy::devices(classes.iter().copied());
    assert_eq!(of(&[DeviceClass::EncodeH264]), bus::route::policy::Devices::CPU);
    let error = error_of("[grants]\ndevices = [\"encode.h264\"]");
    assert!(error.contains("use one of cpu, gpu, fpga"), "it is no device: {error}");
    let error = error_of("[handler.placement]\nneeds = [\"encode.vp9\"]");
    assert!(error.contains("use one of cpu, gpu, fpga, encode.h264"), "{error}");
}

#[test]
fn what_is_left_out_has_its_usual_value() {
    let manifest = Manifest::parse(SMALL).unwrap();
    let handler = &manifest.handlers[0];
    assert_eq!(
        handler.limits,
        Limits {
            memory_mb: 128,
            timeout_ms: 5_000,
            cpu_ms: None,
            concurrency: 16,
            reuse: None,
            at_once: 1,
            ready: 0,
            own_process: false,
            priority: 0,
            publishes: 1_000,
            calls: 1_000,
            writes: 100_000,
        }
    );
    let attempts = BTreeMap::new();
    assert_eq!(handler.retry, Retry { max_deliver: 5, backoff_ms: 250, attempts });
    assert_eq!(handler.placement, Placement::default());
    assert_eq!(manifest.grants, Grants::default());
    assert!(handler.triggers.is_empty() && manifest.tables.is_empty());
}

#[test]
fn attempts_depend_on_how_the_last_one_ended() {
    let text = format!(
        "{SMALL}[handler.retry]\nmax_deliver = 4\nattempts = {{ memory = 1, node = 50 }}\n"
    );
    let retry = Manifest::parse(&text).unwrap().handlers[0].retry.clone();
    let after = |kind| retry.attempts_after(Some(kind));
    assert_eq!((after(FailureKind::Error), after(FailureKind::Timeout)), (4, 4));
    assert_eq!((after(FailureKind::Memory), after(FailureKind::Node)), (1, 50));
    assert_eq!(after(FailureKind::Code), 1, "the same code fails again");
    assert_eq!(retry.attempts_after(None), 4);
}

#[test]
fn json_keeps_a_manifest() {
    let manifest = Manifest::parse(DOORCAM).unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

/// The error for `SMALL` with `more` at its end.
fn error_of(more: &str) -> String {
    Manifest::parse(&format!("{SMALL}{more}")).unwrap_err().to_string()
}

#[test]
fn every_mistake_has_a_line_a_field_and_a_mend() {
    // `SMALL` ends with line 8.
    let handler = "handler[0]";
    let cases = [
        (
            "[handler.placement]\nmin_tier = \"regio\"",
            "line 10: handler[0].placement.min_tier: unknown tier \"regio\"; \
             use one of device, edge, region, cloud",
        ),
        (
            "[handler.limits]\nmemry_mb = 5",
            "line 10: handler[0].limits.memry_mb: unknown field; did you mean \"memory_mb\"?",
        ),
        (
            "[handler.limits]\nmemory_mb = 0",
            "line 10: handler[0].limits.memory_mb: 0 is out of range; use 1 to 1024 MiB",
        ),
        (
            "[handler.limits]\npriority = 10",
            "line 10: handler[0].limits.priority: 10 is out of range; use 0 to 9 steps",
        ),
        (
            "[handler.limits]\nat_once = 4",
            "line 10: handler[0].limits.at_once: say in reuse how many one instance serves in all",
        ),
        (
            "[handler.limits]\nreuse = 9\nat_once = 4\ncpu_ms = 5",
            "line 12: handler[0].limits.cpu_ms: requests that share an instance compute \
             together; remove this or at_once",
        ),
        (
            "[handler.retry]\nattempts = { code = 2 }",
            "line 10: handler[0].retry.attempts.code: unknown field; did you mean \"node\"?",
        ),
        (
            "[handler.limits]\nready = 65",
            "line 10: handler[0].limits.ready: 65 is out of range; \
             use 0 to 64 instances or processes",
        ),
        (
            "[handler.limits]\nown_process = 1",
            "line 10: handler[0].limits.own_process: must be true or false, not a whole number",
        ),
        (
            "[handler.limits]\nown_process = true\nreuse = 9\nat_once = 2",
            "line 10: handler[0].limits.own_process: handler \"count\": an instance there serves \
             one request at a time; remove this or at_once",
        ),
        (
            "[handler.limits]\ntimeout_ms = \"5s\"",
            "line 10: handler[0].limits.timeout_ms: must be a whole number of milliseconds, \
             not text",
        ),
        (
            "[handler.placement]\nmin_tier = \"cloud\"\nmax_tier = \"edge\"",
            "line 10: handler[0].placement.min_tier: the lowest tier is above the highest; \
             the order is device, edge, region, cloud",
        ),
        (
            "[handler.placement]\nnear = \"orders\"",
            "line 10: handler[0].placement.near: unknown table \"orders\"; \
             the app has none; write a [[table]]",
        ),
        (
            "[[handler.trigger]]\nhttp = \"/\"",
            "line 10: handler[0].trigger[0].http: no route; write a method and a path",
        ),
        (
            "[[handler.trigger]]\nevent = \"a..b\"",
            "line 10: handler[0].trigger[0].event: an empty token; \
             write words with single dots between",
        ),
        (
            "[[handler.trigger]]\nevent = \"a\"\ncall = \"b\"",
            "line 11: handler[0].trigger[0].call: a second cause; \
             write another [[handler.trigger]] for it",
        ),
        (
            "entry = \"main\"",
            "line 9: handler[0].entry: a component has no entry: what it exports says what it \
             handles; remove this line",
        ),
        (
            "[[handler]]\nname = \"count\"\ncomponent = \"other.wasm\"",
            "line 10: handler[1].name: a second handler \"count\"; give it another name",
        ),
        (
            "[[handler]]\nname = \"py\"\npython = \"x.py\"",
            "line 9: handler[1].entry: missing; write entry = \"module.function\"",
        ),
        (
            "[[handler]]\nname = \"py\"\npython = \"x.py\"\nentry = \"x:app\"\n\
             [[handler.trigger]]\ncall = \"a\"",
            "line 12: handler[1].entry: a WSGI application takes HTTP requests only; give ",
        ),
        (
            "[[handler]]\nname = \"py\"\ncomponent = \"sha256-12\"",
            "line 11: handler[1].component: \"sha256-12\" is no digest; \
             write sha256- and 64 lower-case hexadecimal digits",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\n\
             columns = [{ name = \"k\", type = \"utf8\" }, { name = \"v\", type = \"int\" }]",
            "line 12: table[0].columns[1].type: unknown type \"int\"; \
             use one of int64, int32, float64, float32, utf8, bool, binary, timestamp_us, json",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"x\"]\n\
             columns = [{ name = \"k\", type = \"utf8\" }]",
            "line 11: table[0].key[0]: unknown column \"x\"; use one of k",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\npartition = [\"v\"]\n\
             columns = [{ name = \"k\", type = \"utf8\" }, { name = \"v\", type = \"utf8\" }]",
            "line 12: table[0].partition: \"v\" is not in the key; add it there or remove it",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\ncolumns = [{ name = \"k\", type = \"utf8\" }, \
             { name = \"v\", type = \"utf8\", merge = \"counter\" }]",
            "line 12: table[0].columns[1].merge: counters are int64; change the type or the rule",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\nttl = \"30d\"\n\
             columns = [{ name = \"k\", type = \"utf8\" }]",
            "line 12: table[0].ttl: rows live from a time in their key, and this key has none; ",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\nttl = \"30 days\"\n\
             columns = [{ name = \"k\", type = \"timestamp_us\" }]",
            "line 12: table[0].ttl: \"30 days\" is no time; write a number and s, m, h or d, ",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\", \"l\"]\nttl = \"30d\"\ncolumns = [\
             { name = \"k\", type = \"timestamp_us\" }, { name = \"l\", type = \"timestamp_us\" }]",
            "line 12: table[0].ttl: the key has several times; write ttl_column = one of k, l",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\nttl_column = \"k\"\n\
             columns = [{ name = \"k\", type = \"timestamp_us\" }]",
            "line 12: table[0].ttl_column: there is no ttl; write one, or remove this line",
        ),
        (
            "[[table]]\nname = \"t\"\nkey = [\"k\"]\ndrop = [\"k\"]\n\
             columns = [{ name = \"k\", type = \"utf8\" }]",
            "line 12: table[0].drop[0]: \"k\" is among the columns as well; remove it there",
        ),
        (
            "[grants]\nhosts = [\"https://example.org\"]",
            "line 10: grants.hosts[0]: \"https://example.org\" is no host; write a name, ",
        ),
        (
            "[[handler]]\nname = \"c\"\ncommand = \"x\"\nsecrets = [\"a-b\"]",
            "line 12: handler[1].secrets[0]: \"a-b\" is no name of a secret; use letters",
        ),
        (
            "[[handler]]\nname = \"c\"\ncommand = \"x\"\nsecrets = [\"A\"]\nconfig = { A = 1 }",
            "line 12: handler[1].secrets[0]: \"A\" stands in config too; remove one",
        ),
        (
            "[grants]\ntables = [\"motion\"]",
            "line 10: grants.tables[0]: \"motion\" names no other app's; write \"app/table\"",
        ),
        (
            "[grants]\ndevices = [\"gpus\"]",
            "line 10: grants.devices[0]: unknown device \"gpus\"; use one of cpu, gpu, fpga",
        ),
        ("[tables]\n", "line 9: tables: unknown field; did you mean \"table\"?"),
        ("[handler]\n", ""),
    ];
    for (more, expected) in cases {
        let found = error_of(more);
        assert!(found.starts_with(expected), "{more}\n  found: {found}\n  wanted: {expected}");
        assert!(found.starts_with("line "), "{found}");
    }
    assert!(error_of("[handler.limits]\nmemory_mb = -5").contains(handler));
}

#[test]
fn what_is_quoted_breaks_no_line() {
    let cases = [
        ("[handler.limits]\n\"a\\nb\" = 5", "line 10: handler[0].limits.a\\nb: unknown field"),
        ("[handler.placement]\nprefer = \"a\\nb\"", "unknown tier \"a\\nb\""),
        ("[[table]]\nname = \"a\\u001bb\"", "\"a\\u{1b}b\" is no name"),
    ];
    for (more, wanted) in cases {
        let found = error_of(more);
        assert!(found.contains(wanted) && !found.contains(char::is_control), "{more}: {found}");
    }
}

#[test]
fn the_head_is_needed() {
    let cases = [
        ("", "line 1: app: missing; write [app] with name and version"),
        ("[app]\n", "line 1: app.name: missing; write name = \"my-app\""),
        ("\n\napp = 3\n", "line 3: app: must be a table, not a whole number"),
        (
            "[app]\nname = \"Shop\"\n",
            "line 2: app.name: \"Shop\" is no name; use 1 to 32 of a-z, 0-9 and -",
        ),
        ("[app]\nname = \n", "line 2: no valid TOML: "),
        ("[app]\nname = \"a\"\nname = \"b\"\n", "line 3: no valid TOML: duplicate key"),
    ];
    for (text, expected) in cases {
        let found = Manifest::parse(text).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{text}\n  found: {found}\n  wanted: {expected}");
    }
}

#[test]
fn frames_go_to_components_and_calls_have_one_answerer() {
    let python = "[[handler]]\nname = \"py\"\npython = \"x.py\"\nentry = \"x.f\"\n";
    let found = error_of(&format!("{python}[[handler.trigger]]\nstream = \"front\""));
    assert!(found.starts_with("line 14: handler[1].trigger[0].stream: frames go"), "{found}");

    let call = "[[handler.trigger]]\ncall = \"sum\"\n";
    let found = error_of(&format!("{call}{python}{call}"));
    let wanted = "line 16: handler[1].trigger[0].call: \"sum\" is answered already";
    assert!(found.starts_with(wanted), "{found}");
}

#[test]
fn only_components_have_workers_and_none_that_take_frames() {
    let limits = "[handler.limits]\nown_process = true\n";
    let python = "[[handler]]\nname = \"py\"\npython = \"x.py\"\nentry = \"x.f\"\n";
    let found = error_of(&format!("{python}{limits}"));
    assert!(found.contains("handler \"py\": python code always has processes of its own"));
    let found = error_of(&format!("{limits}[[handler.trigger]]\nstream = \"front\""));
    assert!(found.contains("handler \"count\": frames stay in the node; remove it"), "{found}");
    let text = format!("{SMALL}{limits}reuse = 10\nready = 2\n[[handler.trigger]]\nevent = \"x\"");
    let found = Manifest::parse(&text).unwrap().handlers[0].limits.clone();
    assert_eq!((found.own_process, found.ready), (true, 2));
    let text = text.replace("own_process = true", "own_process = false");
    assert!(!Manifest::parse(&text).unwrap().handlers[0].limits.own_process);
}

#[test]
fn files_must_be_uploaded_before_the_bus_takes_them() {
    let manifest = Manifest::parse(SMALL).unwrap();
    let error = manifest.check_uploaded().unwrap_err().to_string();
    assert!(error.starts_with("line 8: handler[0].component: \"count.wasm\" is a file"), "{error}");
    let uploaded = SMALL.replace("count.wasm", Digest::of(b"code").as_str());
    Manifest::parse(&uploaded).unwrap().check_uploaded().unwrap();
}

#[test]
fn subjects_match_as_in_nats() {
    let cases = [
        ("motion", "motion", true),
        ("motion", "motion.front", false),
        ("motion.front", "motion", false),
        ("*", "motion", true),
        ("*", "motion.front", false),
        (">", "motion.front", true),
        ("motion.>", "motion", false),
        ("motion.>", "motion.a.b", true),
        ("*.alarm", "front.alarm", true),
        ("*.alarm", "front.motion", false),
    ];
    for (pattern, subject, expected) in cases {
        assert_eq!(subject_matches(pattern, subject), expected, "{pattern} {subject}");
    }
}

#[test]
fn too_long_is_refused_before_it_is_read() {
    let long = format!("{SMALL}# {}", "x".repeat(MANIFEST_BYTES_MAX));
    assert!(Manifest::parse(&long).unwrap_err().problem.contains("at most"));
}

/// Whatever comes in, the answer is a manifest or an error that points into the text.
fn answers_sanely(text: &str) {
    if let Err(error) = Manifest::parse(text) {
        let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&error.line), "{error:?} in {lines} lines");
        assert!(!error.problem.is_empty() && !error.problem.contains('\n'), "{error:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_answered(text in "\\PC{0,400}") {
        answers_sanely(&text);
    }

    #[test]
    fn a_damaged_manifest_is_answered(
        at in 0..DOORCAM.len(),
        put in "\\PC{0,8}",
        cut in 0usize..12,
    ) {
        let bytes = DOORCAM.as_bytes();
        let end = (at + cut).min(bytes.len());
        let damaged = [&bytes[..at], put.as_bytes(), &bytes[end..]].concat();
        answers_sanely(&String::from_utf8_lossy(&damaged));
    }

    #[test]
    fn a_value_of_another_type_is_answered(
        line in 0..DOORCAM.lines().count(),
        value in prop::sample::select(vec!["1", "-1", "\"\"", "[]", "{}", "true", "1.5", "[[1]]",
            "1979-05-27", "0xffffffffffffffff", "[{}]", "\"\\u0000\""]),
    ) {
        let mut lines: Vec<String> = DOORCAM.lines().map(str::to_owned).collect();
        if let Some((name, _)) = lines[line].split_once('=') {
            lines[line] = format!("{name}= {value}");
        }
        answers_sanely(&lines.join("\n"));
    }
}

#[test]
fn schedules_are_read_and_checked() {
    let with = |lines: &str| Manifest::parse(&format!("{SMALL}[[handler.trigger]]\n{lines}\n"));
    let manifest =
        with("cron = \"*/5 * * * *\"\nzone = \"Europe/Berlin\"\nmissed = \"once\"").unwrap();
    let handler = &manifest.handlers[0];
    let Trigger::Cron(cron) = &handler.triggers[0] else { panic!("{:?}", handler.triggers) };
    assert_eq!((cron.missed, cron.topic.as_str()), (Missed::Once, "_cron.count.0"));
    assert!(handler.triggers[0].takes_event("_cron.count.0"));
    assert!(!handler.triggers[0].takes_event("_cron.count.1"));
    assert!(!Trigger::Event(">".into()).takes_event("_cron.count.0"));
    for (lines, wanted) in [
        ("cron = \"* * *\"", "cron: 3 fields"),
        ("cron = \"* * * * *\"\nzone = \"Nowhere\"", "zone: unknown time zone"),
        ("cron = \"* * * * *\"\nmissed = \"maybe\"", "missed"),
        ("call = \"x\"\nzone = \"UTC\"", "only schedules"),
    ] {
        let found = with(lines).unwrap_err().to_string();
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn a_table_says_how_long_rows_live_and_what_is_gone() {
    let text = "[[table]]\nname = \"t\"\nkey = [\"k\", \"at\"]\nttl = \"12h\"\n\
        drop = [\"z\", \"b\"]\ncolumns = [{ name = \"k\", type = \"int32\" }, \
        { name = \"at\", type = \"timestamp_us\" }]";
    let table = &Manifest::parse(&format!("{SMALL}{text}")).unwrap().tables[0];
    assert_eq!(table.ttl, Some(Ttl { seconds: 43_200, column: "at".into() }));
    assert_eq!(table.dropped, ["b", "z"]);
}

#[test]
fn a_table_says_how_large_it_may_become_and_what_is_read_together() {
    let with = |lines: &str| {
        Manifest::parse(&format!(
            "{SMALL}[[table]]\nname = \"t\"\nkey = [\"k\"]\n{lines}\ncolumns = [{{ name = \"k\", \
             type = \"int64\" }}, {{ name = \"a\", type = \"int64\" }}, {{ name = \"b\", \
             type = \"binary\" }}]"
        ))
    };
    let lines = "limits = { partition_bytes_max = 1_024, table_bytes_max = 0x1_0000_0000 }\n\
                 groups = [[\"a\"], [\"b\"]]";
    let table = &with(lines).unwrap().tables[0];
    let (partition_bytes_max, table_bytes_max) = (Some(1_024), Some(1 << 32));
    assert_eq!(table.limits, store::Limits { partition_bytes_max, table_bytes_max });
    assert_eq!(table.groups, [["a"], ["b"]]);
    for (lines, wanted) in [
        (
            "limits = { table_bytes_max = 0 }",
            "limits.table_bytes_max: 0 is out of range; use 1024 to 17592186044416 bytes",
        ),
        ("limits = { rows = 5 }", "limits.rows: unknown field"),
        ("groups = [\"a\"]", "groups[0]: must be a list"),
        ("groups = [[\"c\"]]", "unknown column \"c\"; use one of k, a, b"),
        ("groups = [[\"k\"]]", "\"k\" is of the key, which is read with any group"),
    ] {
        let found = with(lines).unwrap_err().to_string();
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn a_trigger_follows_a_table_of_the_app() {
    let table = "[[table]]\nname = \"rows\"\nkey = [\"a\"]\n\
                 columns = [{ name = \"a\", type = \"utf8\" }]\n";
    let with = |name: &str| {
        Manifest::parse(&format!("{SMALL}[[handler.trigger]]\ntable = \"{name}\"\n{table}"))
    };
    let manifest = with("rows").unwrap();
    assert!(manifest.handlers[0].triggers[0].takes_event("_table.count.0"));
    let found = with("others").unwrap_err().to_string();
    assert!(found.contains("unknown table \"others\"; use one of rows"), "{found}");
}

#[test]
fn a_handler_may_want_its_events_in_order() {
    let with = |order: &str| SMALL.replace("component =", &format!("order = {order}\ncomponent ="));
    let order =
        |text: &str| Manifest::parse(&with(text)).map(|manifest| manifest.handlers[0].order);
    assert_eq!(order("\"subject\""), Ok(Some(Order::Subject)));
    assert_eq!(order("\"key\""), Ok(Some(Order::Key)));
    let wrong = order("\"all\"").unwrap_err();
    assert_eq!((wrong.line, wrong.field.as_str()), (8, "handler[0].order"));
    assert!(wrong.problem.contains("subject") && wrong.problem.contains("key"), "{wrong}");
}

#[test]
fn events_spill_where_the_manifest_says_so_and_nothing_wants_an_order() {
    let spilling = format!("{SMALL}placement = {{ spill = true }}\n");
    assert!(Manifest::parse(&spilling).unwrap().handlers[0].placement.spill);
    assert!(!Manifest::parse(SMALL).unwrap().handlers[0].placement.spill);
    let both = Manifest::parse(&format!("{spilling}order = \"key\"\n")).unwrap_err();
    assert_eq!(both.field, "handler[0].order");
    assert!(both.problem.contains("remove one of the two"), "{both}");
}

#[test]
fn a_component_may_read_bodies_as_they_come() {
    let with = |lines: &str| Manifest::parse(&format!("{SMALL}{lines}"));
    assert_eq!(with("").unwrap().handlers[0].request_body, RequestBody::Whole);
    let streams = with("request_body = \"stream\"\n").unwrap();
    assert_eq!(streams.handlers[0].request_body, RequestBody::Stream);
    let wrong = with("request_body = \"parts\"\n").unwrap_err();
    assert_eq!(wrong.field, "handler[0].request_body");
    assert!(wrong.problem.contains("whole") && wrong.problem.contains("stream"), "{wrong}");
    let process = SMALL.replace("component =", "command =") + "request_body = \"stream\"\n";
    let wrong = Manifest::parse(&process).unwrap_err();
    assert!(wrong.problem.contains("only components"), "{wrong}");
    let output = "request_body = \"stream\"\noutput = [{ event = \"done\" }]\n";
    let wrong = with(output).unwrap_err();
    assert!(wrong.problem.contains("want the whole body"), "{wrong}");
}
