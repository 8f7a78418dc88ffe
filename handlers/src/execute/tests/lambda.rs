//! Processes over the Lambda Runtime API: the stock Python client, and one written by hand.

use super::*;

const FUNCTION: &str = r#"
import os, sys, time
import edgescale

count = 0

def handler(event, context):
    global count
    count += 1
    name = event["name"]
    if name == "echo":
        return {"data": event.get("data"), "base64": event.get("data_base64")}
    if name == "all":
        return event
    if name == "count":
        return count
    if name == "pid":
        return os.getpid()
    if name == "environment":
        return sorted(os.environ)
    if name == "context":
        return [context.function_name, context.memory_limit_in_mb,
                0 < context.get_remaining_time_in_millis() <= 5000]
    if name == "raise":
        raise ValueError("raised on purpose")
    if name == "exit":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    if name == "loop":
        while True: pass
    if name == "sleep":
        time.sleep(0.5)
        return "rested"
    if name == "children":
        if os.fork() == 0:
            time.sleep(60)
        while True: time.sleep(1)
    if name == "bomb":
        kept = []
        while True: kept.append(bytearray(1 << 20))
    if name == "print":
        print("to stdout"); print("to stderr", file=sys.stderr)
        return None
    if name == "state":
        edgescale.put("things", {"id": 1, "a": "é"}, {"id": 2, "a": "x"})
        edgescale.increment("things", {"id": 1}, {"n": 5})
        key = edgescale.put_blob(b"\x00\xff")
        edgescale.publish("first", {"a": 1})
        edgescale.publish("second", b"\x00")
        return [edgescale.get("things", {"id": 1}), edgescale.get("things", {"id": 9}),
                edgescale.scan("things", limit=1, reverse=True),
                list(edgescale.get_blob(key)), edgescale.get_blob("sha256-none"),
                edgescale.call("other", [1]).decode(), edgescale.config("greeting"),
                edgescale.config("nothing", "usual")]
    if name == "asked":
        key = {"id": "asked"}
        made = [edgescale.put_if("things", key, None, {"id": "asked", "a": "new"}),
                edgescale.put_if("things", key, None, {"id": "asked", "a": "never"})]
        edgescale.patch("things", {"id": "asked", "b": 1})
        made.append(edgescale.put_if("things", key, {"b": 1}, {"id": "asked", "a": "last"}))
        rows = edgescale.ask("get-many", "things", keys=[key])["rows"]
        edgescale.delete("things", key)
        try:
            edgescale.ask("get-many", "secret", keys=[key])
        except edgescale.Error as error:
            return made + rows + [edgescale.get("things", key), error.kind]
    if name == "sql":
        return edgescale.sql("SELECT 1")
    if name == "arrow":
        made = [edgescale.put("things", {"id": 7}, {"id": 8}, level="memory"),
                edgescale.increment("things", {"id": 7}, {"n": 2}, level="parent")]
        rows = edgescale.ask_arrow("scan", "things", prefix={"id": 7})
        same = edgescale.ask_arrow("get-many", "things", keys=[{"id": 7}, {"id": 9}]) == rows
        edgescale.delete("things", {"id": 7})
        ack = edgescale.ask_arrow("put", "things", rows, level="local-sync")["ack"]["level"]
        try:
            edgescale.ask_arrow("put", "things", b"no rows")
        except edgescale.Error as error:
            refused = error.kind
        key = edgescale.put_blob(b"12345")
        return made + [same, ack, edgescale.get("things", {"id": 7}), refused,
                       edgescale.sql_arrow("SELECT 1").decode(),
                       edgescale.get_blob(key, 1, 3).decode()]
    if name == "refused":
        try:
            edgescale.get("secret", {"id": 1})
        except edgescale.Error as error:
            return [error.kind, str(error)]
    if name == "token":
        edgescale._TOKEN = "wrong"
        try:
            edgescale.get("things", {"id": 1})
        except edgescale.Error as error:
            return error.kind
"#;

/// A handler of the function above, or `None` said aloud.
async fn python(bench: &Bench) -> Option<Target> {
    if !has_tool("py/awslambdaric") {
        return None;
    }
    let mut target = bench.install(CodeKind::Python, FUNCTION.as_bytes()).await;
    target.entry = Some("main.handler".into());
    Some(target)
}

pub(super) async fn ask(
    bench: &Bench,
    target: &Target,
    name: &str,
    body: &str,
) -> serde_json::Value {
    let reply = bench.invoke(target, request(name, body)).await.unwrap();
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_sql_is_answered_in_rows_with_names() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let answer = ask(&bench, &target, "sql", "").await;
    assert_eq!(answer, serde_json::json!([{"app": "shop", "asked": "SELECT 1"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_changed_and_asked_for_as_clients_do_it() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let answer = ask(&bench, &target, "asked", "").await;
    let expected =
        serde_json::json!([true, false, true, {"id": "asked", "a": "last"}, null, "denied"]);
    assert_eq!(answer, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_function_is_given_what_came_and_stays_warm() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let answer = ask(&bench, &target, "echo", "{\"a\":[1,2]}").await;
    assert_eq!(answer["data"]["a"][1], 2);

    assert_eq!(ask(&bench, &target, "count", "").await, 2, "the same process");
    let context = ask(&bench, &target, "context", "").await;
    assert_eq!(context.to_string(), "[\"probe\",\"128\",true]");

    let all = bench.invoke(&target, request("all", "{}")).await.unwrap();
    let all: serde_json::Value = serde_json::from_slice(&all.body).unwrap();
    assert_eq!(
        (&all["kind"], &all["app"], &all["attempt"]),
        (&"call".into(), &"shop".into(), &1.into())
    );

    let done = bench.invoke(&target, event("count", "{}")).await.unwrap();
    assert!(done.body.is_empty(), "events have no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_come_as_base64() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let input = Input::Call(Request {
        id: "r".into(),
        name: "echo".into(),
        content_type: "application/octet-stream".into(),
        body: Bytes::from_static(&[0xff, 0x00]),
    });
    let reply = bench.invoke(&target, input).await.unwrap();
    assert_eq!(reply.body, "{\"data\": null, \"base64\": \"/wA=\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_reaches_its_apps_state_and_nothing_without_its_token() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    bench.host.state().config.insert("greeting".into(), "hello".into());
    let seen = ask(&bench, &target, "state", "").await;
    let wanted = serde_json::json!([
        { "id": 1, "a": "é", "n": 5 }, null, [{ "id": 2, "a": "x" }],
        [0, 255], null, "[1]", "hello", "usual"
    ]);
    assert_eq!(seen, wanted);
    let ids: Vec<String> = bench.host.state().events.iter().map(|e| e.id.clone()).collect();
    assert_eq!(ids, ["r1.probe.0", "r1.probe.1"]);

    let arrow = ask(&bench, &target, "arrow", "").await;
    let answered = "{\"columns\":[{\"name\":\"app\"},{\"name\":\"asked\"}],\
                    \"rows\":[[\"shop\",\"SELECT 1\"]]}\n";
    let wanted = serde_json::json!(["memory", "parent", true, "local-sync", { "id": 7, "n": 2 },
                                    "invalid", answered, "23"]);
    assert_eq!(arrow, wanted);

    let refused = ask(&bench, &target, "refused", "").await;
    assert_eq!(refused[0], "denied");
    assert_eq!(ask(&bench, &target, "token", "").await, "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_goes_wrong_harms_nobody() {
    let bench = Bench::new();
    let Some(mut target) = python(&bench).await else { return };
    let fail = |error: InvokeError| error;

    let error = bench.invoke(&target, request("raise", "")).await.map_err(fail).unwrap_err();
    let (message, backtrace) = raised(error);
    assert_eq!(message, "ValueError: raised on purpose");
    assert!(backtrace.contains("main.py") && backtrace.contains("in handler"), "{backtrace}");
    assert_eq!(ask(&bench, &target, "count", "").await, 2, "an exception ends no process");

    match bench.invoke(&target, request("exit", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => {
            assert!(message.contains("exit status: 3"), "{message}");
            assert!(message.contains("last words"), "{message}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(ask(&bench, &target, "count", "").await, 1, "a new process");

    let error = bench.invoke(&target, request("bomb", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 128 });

    let idle = Limits { cpu_ms: Some(200), ..target.limits.clone() };
    let idle = Target { limits: idle, handler: "idle".into(), ..target.clone() };
    let slept = bench.invoke(&idle, request("sleep", "")).await.unwrap();
    assert_eq!(slept.body, "\"rested\"", "who waits computes nothing");
    let error = bench.invoke(&idle, request("loop", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::CpuTime { limit_ms: 200 });

    target.limits.timeout_ms = 300;
    let error = bench.invoke(&target, request("loop", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::Timeout { limit_ms: 300 });
    target.limits.timeout_ms = 5_000;
    assert_eq!(ask(&bench, &target, "count", "").await, 1, "a new process again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_prints_is_its_log() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    bench.invoke(&target, request("print", "")).await.unwrap();
    // The pipes are read by other tasks than the one that answers.
    for _ in 0..500 {
        let text = bench.host.log_text();
        if text.contains("to stdout") && text.contains("to stderr") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not logged: {}", bench.host.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_load_says_why() {
    let bench = Bench::new();
    if !has_tool("py/awslambdaric") {
        return;
    }
    let mut target = bench.install(CodeKind::Python, b"import no_such_module").await;
    target.entry = Some("main.handler".into());
    match bench.invoke(&target, request("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => {
            assert!(message.contains("no_such_module"), "{message}");
        }
        other => panic!("{other}"),
    }
    let mut target = bench.install(CodeKind::Python, b"def handler(e, c): pass").await;
    target.entry = Some("main.nothing".into());
    match bench.invoke(&target, request("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => assert!(message.contains("nothing"), "{message}"),
        other => panic!("{other}"),
    }
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

pub(super) async fn wait_until_gone(pid: i64) {
    for _ in 0..500 {
        if !is_alive(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_with_the_component() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let pid = ask(&bench, &target, "pid", "").await.as_i64().unwrap();
    assert!(is_alive(pid));
    drop(bench);
    wait_until_gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_takes_the_whole_process_group() {
    let bench = Bench::new();
    let Some(mut target) = python(&bench).await else { return };
    let pid = ask(&bench, &target, "pid", "").await.as_i64().unwrap();
    target.limits.timeout_ms = 300;
    let error = bench.invoke(&target, request("children", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::Timeout { limit_ms: 300 });
    wait_until_gone(pid).await;
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Ok(other) = name.to_string_lossy().parse::<i64>() else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2));
        if group == Some(&pid.to_string()) {
            wait_until_gone(other).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_processes_are_ended() {
    let bench = Bench::with(|config| config.idle_ms = 200);
    let Some(target) = python(&bench).await else { return };
    let pid = ask(&bench, &target, "pid", "").await.as_i64().unwrap();
    wait_until_gone(pid).await;
    assert_eq!(ask(&bench, &target, "count", "").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_makes_room_and_a_busy_one_does_not() {
    let bench = Bench::with(|config| config.processes_max = 1);
    let Some(first) = python(&bench).await else { return };
    let second = Target { handler: "other".into(), ..first.clone() };
    let pid = ask(&bench, &first, "pid", "").await.as_i64().unwrap();
    assert_eq!(ask(&bench, &second, "count", "").await, 1);
    wait_until_gone(pid).await;

    let limits = Limits { timeout_ms: 1_000, ..Limits::default() };
    let patient = Target { limits: limits.clone(), ..second.clone() };
    let hasty = Target { limits: Limits { timeout_ms: 100, ..limits }, ..first };
    let (busy, refused) = tokio::join!(bench.invoke(&patient, request("loop", "")), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.invoke(&hasty, request("count", "")).await
    },);
    assert_eq!(busy.unwrap_err(), InvokeError::Timeout { limit_ms: 1_000 });
    assert_eq!(refused.unwrap_err(), InvokeError::Overloaded { retry_after_ms: 100 });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_holds_nothing_of_the_node() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let names = ask(&bench, &target, "environment", "").await;
    for name in names.as_array().unwrap() {
        let name = name.as_str().unwrap();
        let known = ["PATH", "LANG", "LC_CTYPE", "HOME", "TZ", "_HANDLER", "LAMBDA_TASK_ROOT"];
        let expected = known.contains(&name)
            || ["AWS_LAMBDA_", "EDGESCALE_", "PYTHON"].iter().any(|p| name.starts_with(p))
            || ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].contains(&&*name.to_ascii_uppercase());
        assert!(expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_do_not_go_to_processes() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let shape = accel::Shape::full(2, 2, accel::PixelFormat::Gray8);
    let frame = accel::Frame::new(shape, 0, 0, vec![0; 4].into()).unwrap();
    let error =
        bench.invoke(&target, Input::Frame(Connection::default(), frame)).await.unwrap_err();
    assert!(matches!(error, InvokeError::NoExport { .. }), "{error}");
}

/// Speaks the Runtime API with nothing but a shell and bash's own sockets.
const COMMAND: &str = r#"#!/bin/bash
host="${AWS_LAMBDA_RUNTIME_API%:*}" port="${AWS_LAMBDA_RUNTIME_API#*:}"
base=/2018-06-01/runtime/invocation
while true; do
    exec 3<>"/dev/tcp/$host/$port"
    printf 'GET %s/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' "$base" >&3
    id="" length=0
    while IFS=$'\r' read -r line rest <&3 && [[ -n "$line" ]]; do
        case "${line,,}" in
            lambda-runtime-aws-request-id:*) id="${line##*: }" ;;
            content-length:*) length="${line##*: }" ;;
        esac
    done
    read -r -N "$length" body <&3
    exec 3<>"/dev/tcp/$host/$port"
    answer="{\"argument\":\"$1\",\"got\":$length}"
    printf 'POST %s/%s/response HTTP/1.1\r\nHost: x\r\nConnection: close\r\n' "$base" "$id" >&3
    printf 'Content-Length: %s\r\n\r\n%s' "${#answer}" "$answer" >&3
    cat <&3 >/dev/null
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn any_executable_that_speaks_the_api_is_a_handler() {
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Command, COMMAND.as_bytes()).await;
    target.entry = Some("--flag".into());
    for _ in 0..3 {
        let answer = ask(&bench, &target, "x", "{}").await;
        assert_eq!(answer["argument"], "--flag");
        assert!(answer["got"].as_u64().unwrap() > 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_at_once_is_explained() {
    let bench = Bench::new();
    let code = b"#!/bin/bash\necho 'cannot start' >&2\nexit 7\n";
    let target = bench.install(CodeKind::Command, code).await;
    match bench.invoke(&target, request("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => {
            assert!(message.contains("exit status: 7"), "{message}");
            assert!(message.contains("cannot start"), "{message}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_somebody_still_has_open_is_waited_for() {
    let bench = Bench::new();
    let target = bench.install(CodeKind::Command, b"#!/bin/bash\nexit 7\n").await;
    bench.invoke(&target, request("x", "")).await.unwrap_err();
    let unpacked = std::fs::read_dir(bench.dir.path().join("code/unpacked")).unwrap();
    let mut files = unpacked.map(|folder| folder.unwrap().path().join("bootstrap"));
    let file = files.find(|file| file.is_file()).unwrap();
    let open = std::fs::File::options().append(true).open(file).unwrap();
    let closing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(open);
    });
    match bench.invoke(&target, request("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => assert!(message.contains("7"), "{message}"),
        other => panic!("{other}"),
    }
    closing.join().unwrap();
}

/// A zip archive of one stored file, as the format's specification (APPNOTE 6.3) draws it.
pub(super) fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let sum = crc32(content).to_le_bytes();
    let (size, name_len) =
        ((content.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
    let entry = [&[0; 4][..], &[0; 4], &sum, &size, &size, &name_len, &[0; 2]].concat();
    let local = [b"PK\x03\x04\x14\0", &entry[..], name.as_bytes(), content].concat();
    let central = [b"PK\x01\x02\x14\0\x14\0", &entry[..], &[0; 14], name.as_bytes()].concat();
    let (at, len) = ((local.len() as u32).to_le_bytes(), (central.len() as u32).to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &len[..], &at, &[0; 2]].concat();
    [local, central, end].concat()
}

/// CRC-32 of ISO 3309, bit by bit.
fn crc32(content: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_archive_is_imported_from() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::new();
    let archive = zip("main.py", b"def handler(event, context): return [event['name']]");
    let mut target = bench.install(CodeKind::Python, &archive).await;
    target.entry = Some("main.handler".into());
    assert_eq!(ask(&bench, &target, "sum", "").await.to_string(), "[\"sum\"]");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_another_form_is_refused() {
    let bench = Bench::new();
    let cases: [(CodeKind, &[u8]); 3] = [
        (CodeKind::Python, &[0xff, 0xfe, 0x00]),
        (CodeKind::Command, b"plain text"),
        (CodeKind::Java, &[0xca, 0xfe, 0xba, 0xbe]),
    ];
    for (kind, bytes) in cases {
        let code = Code { digest: Digest::of(bytes), kind, bytes: bytes.to_vec().into() };
        let error = bench.execute.install(code).await.unwrap_err();
        assert!(matches!(error, InvokeError::BadCode { .. }), "{kind:?}: {error}");
    }
}
