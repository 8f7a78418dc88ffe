//! Numbers that pages say of constants: where one is changed, the other is to be looked at.

/// A source and a constant in it, its value as it stands there, and words of a page that say it.
pub type Number = (&'static str, &'static str, &'static str, &'static str);

/// The pages that say them.
pub const PAGES: &[&str] = &[
    "ARCHITECTURE.md",
    "docs/guarantees.md",
    "docs/guides/http.md",
    "docs/guides/limits.md",
    "docs/guides/tenants.md",
    "docs/guides/traces.md",
    "docs/guides/video.md",
    "docs/guides/watching.md",
];

#[rustfmt::skip]
pub const NUMBERS: &[Number] = &[
    // Between sites.
    ("bus/src/lib.rs", "PAYLOAD_BYTES_MAX", "512 * 1024", "carries more than 512 KiB of payload"),
    ("bus/src/server.rs", "MAX_PAYLOAD_BYTES", "crate::PAYLOAD_BYTES_MAX + (64 << 10)",
     "refused above 576 KiB by the server"),
    ("bus/src/body.rs", "PART_BYTES", "PAYLOAD_BYTES_MAX / 2", "in messages of 256 KiB"),
    ("bus/src/body.rs", "BODY_BYTES_MAX", "64 << 20", "body of a call between sites | 64 MiB;"),
    ("bus/src/body.rs", "BODIES_BYTES_MAX", "256 << 20", "bodies of calls at a node | 256 MiB |"),
    ("bus/src/body.rs", "KEPT", "Duration::from_secs(60)", "it sent is forgotten after a minute"),
    ("bus/src/rates.rs", "AGE_MAX", "Duration::from_secs(60)", "believed slow for up to a minute"),
    ("bus/src/message.rs", "TIMEOUT_MS_MAX", "900_000", "| 15 min, 5 s unless said;"),
    ("bus/src/message.rs", "HOPS_MAX", "16", "hops of a request | 16 |"),
    ("bus/src/route/once.rs", "WINDOW", "Duration::from_secs(120)", "within two minutes"),
    ("bus/src/route/once.rs", "KEYS_MAX", "16_384", "beyond 16,384 newer keys"),
    ("bus/src/route/policy.rs", "STALE_AFTER", "Duration::from_secs(10)", "for ten seconds is not"),
    ("bus/src/route/news.rs", "INSTALLED_MAX", "64", "whose code others know of | 256; 64 |"),
    ("bus/src/path.rs", "DEPTH_MAX", "8", "depth of the tree | 8 |"),
    ("bus/src/site/roster.rs", "CHILDREN_MAX", "1_024", "children of a site | 1,024 |"),
    ("bus/src/site/roster.rs", "INVITES_MAX", "64", "how long one is good, `tree invite"),
    ("bus/src/site/roster.rs", "INVITE_S_MAX", "7 * 24 * 3600", "| 64; 7 days | refused |"),
    ("bus/src/site/tenants.rs", "TENANTS_MAX", "16", "tenants of a tree | 16 |"),
    ("bus/src/site/tenants.rs", "FORMER_MAX", "4", "At most four former keys"),
    ("bus/src/service.rs", "ENDPOINTS_MAX", "256", "in its metadata | 255; 64 |"),
    ("src/node/service.rs", "HANDLERS_MAX", "64", "in its metadata | 255; 64 |"),
    ("src/node/gossip.rs", "BRIEF_BYTES_MAX", "128 << 10", "its parent each second | 128 KiB |"),
    ("src/node/gossip.rs", "BELOW_MAX", "256", "whose code others know of | 256; 64 |"),
    ("src/node/gossip.rs", "FORGET_AFTER", "Duration::from_secs(60)", "gone after 60 s or when"),
    // Events.
    ("bus/src/event.rs", "STREAM_BYTES_MAX", "1 << 30", "log of events of a site | 1 GiB |"),
    ("bus/src/event.rs", "DUPLICATE_WINDOW", "Duration::from_secs(600)", "id within ten minutes"),
    ("bus/src/event/read.rs", "ACK_WAIT", "Duration::from_secs(15)", "15 s after it was delivered"),
    ("bus/src/event/read.rs", "ACK_PENDING_MAX", "4096", "4,096 events that wait hold up"),
    ("bus/src/event/large.rs", "BYTES_MAX", "512 << 20", "large events at a tier | 512 MiB; each"),
    ("bus/src/event/large.rs", "AGE_MAX", "Duration::from_secs(7 * 24 * 3600)", "seven days at"),
    ("bus/src/event/large.rs", "DATA_TIMEOUT", "Duration::from_secs(60)", "unless said; 60 s |"),
    ("bus/src/event/metadata.rs", "METADATA_BYTES_MAX", "8 << 10", "gives an event | 8 KiB;"),
    ("bus/src/event/metadata.rs", "HEADERS_BYTES_MAX", "16 << 10", "attributes | 16 KiB |"),
    ("handlers/src/trigger/known.rs", "IDS_MAX", "64 * 1024", "beyond 65,536 newer ids"),
    ("src/node/stop.rs", "DRAIN_TIMEOUT", "Duration::from_secs(5)", "takes longer than 5 s is"),
    ("src/node/telemetry.rs", "METRICS_EVERY", "Duration::from_secs(10)", "numbers, every 10 s:"),
    ("src/node/telemetry.rs", "METRICS_BYTES_MAX", "256 << 10", "of one second | 256 KiB; 64 |"),
    ("src/node/telemetry.rs", "CHANGES_MAX", "64", "of one second | 256 KiB; 64 |"),
    ("src/node/otlp.rs", "BATCH_MAX", "512", "sent up to 512 at a time"),
    ("handlers/src/trace.rs", "QUEUE_MAX", "4_096", "wait in a queue of 4,096"),
    ("handlers/src/logs.rs", "LINES_MAX", "2_000", "that a site keeps | 2,000 |"),
    // Handlers.
    ("handlers/src/manifest.rs", "MANIFEST_BYTES_MAX", "64 << 10", "manifest | 64 KiB |"),
    ("handlers/src/manifest.rs", "HANDLERS_MAX", "64", "triggers of one | 64; 32 |"),
    ("handlers/src/manifest.rs", "TRIGGERS_MAX", "32", "triggers of one | 64; 32 |"),
    ("handlers/src/manifest.rs", "TABLES_MAX", "64", "columns of one | 64; 256 |"),
    ("handlers/src/binding.rs", "BINDINGS_MAX", "16", "events of one output | 16; 16; 256 |"),
    ("handlers/src/binding.rs", "ELEMENTS_MAX", "256", "events of one output | 16; 16; 256 |"),
    ("handlers/src/settings.rs", "SECRETS_MAX", "64", "settings, secrets | 64 each |"),
    ("handlers/src/settings/changes.rs", "VALUE_BYTES_MAX", "16 << 10", "site changes | 16 KiB |"),
    ("handlers/src/deploy.rs", "APPS_MAX", "4_096", "apps of a tree | 4,096 |"),
    ("handlers/src/deploy/compiled.rs", "WAITING_MAX", "1_024", "other machines | 1,024;"),
    ("handlers/src/outbound.rs", "REQUESTS_MAX", "64", "tunnels to other hosts | | 64 |"),
    ("handlers/src/execute.rs", "CODE_BYTES_MAX", "64 << 20", "unpacked | 64 MiB; 256 MiB |"),
    ("handlers/src/execute/budget.rs", "EVENT_BYTES", "128 << 10", "one counts for each 128 KiB"),
    ("handlers/src/execute/budget.rs", "ROW_BYTES", "16 << 10", "a blob counts for each 16 KiB"),
    ("handlers/src/execute/config.rs", "COMPILE_MEMORY_MB_MAX", "3 << 10", "component | 3 GiB, or"),
    ("handlers/src/execute/cpu.rs", "PROCESSES_MAX", "64", "of a process | | 64, 256, 64 MiB |"),
    ("handlers/src/execute/http.rs", "BODY_BYTES_MAX", "64 << 20", "of a blob | 64 MiB; 256 MiB |"),
    ("handlers/src/execute/http.rs", "HEADERS_MAX", "128", "an HTTP answer | 128, 32 KiB |"),
    ("handlers/src/execute/http.rs", "HEADER_BYTES_MAX", "32 << 10", "answer | 128, 32 KiB |"),
    ("handlers/src/execute/lines.rs", "LOG_BYTES_MAX", "64 << 10", "| log | 64 KiB |"),
    ("handlers/src/execute/outlet.rs", "PARTS_MAX", "16", "16 parts wait for a slow client"),
    ("handlers/src/execute/process/lambda.rs", "BODY_BYTES_MAX", "6 << 20", "function | | 6 MiB |"),
    ("handlers/src/execute/process/unpack.rs", "BYTES_MAX", "256 << 20", "unpacked | 64 MiB; 256"),
    ("handlers/src/execute/wasm/blobstore.rs", "BODIES_MAX", "16", "open at once | | 16 |"),
    ("handlers/src/execute/wasm/blobstore.rs", "NAMES_MAX", "256", "that deletes | 256; 1,000 |"),
    ("handlers/src/execute/wasm/pictures.rs", "MADE_BYTES_MAX", "256 << 20", "together | | 256"),
    ("handlers/src/execute/wasm/runner.rs", "CORE_INSTANCES_MAX", "120", "| | 10, 20, 120 |"),
    ("handlers/src/execute/workers.rs", "GRACE", "Duration::from_secs(1)", "| | 1 s; 30 s |"),
    ("handlers/src/execute/workers.rs", "INSTANCE_MB", "48", "256 MiB, and `memory_mb` + 48 MiB"),
    ("handlers/src/stream.rs", "STREAMS_MAX", "64", "streams open at once | 64 |"),
    ("handlers/src/stream.rs", "FRAMES_QUEUED_MAX", "4", "4 decoded frames wait at most"),
    ("handlers/src/stream.rs", "FRAMES_TRACED_MAX", "256", "The first 256 frames"),
    ("src/gateway/body.rs", "MEMORY_KIB_MAX", "512 << 10", "under way at a door | 512 MiB |"),
    ("src/gateway.rs", "REQUESTS_MAX", "1024", "its connections | 1,024; 1,024 |"),
    ("src/gateway/connections.rs", "CONNECTIONS_MAX", "1024", "connections | 1,024; 1,024 |"),
    // Devices.
    ("accel/src/engine/watch.rs", "HUNG_AFTER", "Duration::from_secs(60)", "60 s, or 16 times"),
    ("accel/src/engine/watch.rs", "PREDICTED_TIMES", "16", "60 s, or 16 times what"),
    ("accel/src/share.rs", "HELD_MAX", "Duration::from_secs(10)", "others wait | 10 s |"),
    ("accel/src/schedule/batch.rs", "WINDOW_US_MAX", "2000", "longer than 2 ms or a quarter"),
    ("accel/src/queue.rs", "QUEUE_LEN_MAX", "64", "jobs that wait for one device | 64 |"),
    ("accel/src/video/ring.rs", "SLOTS_MAX", "3", "4 of a stream; 3, or as many as 64 MiB"),
    ("accel/src/video/ring.rs", "RING_BYTES", "64 << 20", "3, or as many as 64 MiB hold"),
    ("hw/src/xrt.rs", "KERNEL_TIMEOUT", "Duration::from_secs(10)", "on an FPGA card | 10 s |"),
    ("hw/src/cache.rs", "FILES_MAX", "8192", "in one folder | 8,192 files of 64 MiB |"),
    ("hw/src/tuning.rs", "BUILD_MAX", "Duration::from_secs(20)", "device in one process | 20 s |"),
    ("hw/src/chain.rs", "WRITTEN_MAX", "256", "a device keeps ready | 256 |"),
    ("kernels/src/chain.rs", "LAUNCHES_MAX", "16", "by their launches | 16 |"),
    ("kernels/src/blur.rs", "SIGMA_MAX", "42_000", "up to a sigma of 42;"),
    // Tables and blobs.
    ("store/src/key.rs", "KEY_BYTES_MAX", "4096", "| key | 4 KiB |"),
    ("store/src/record.rs", "ENTRY_BYTES_MAX", "256 * 1024", "| row | 256 KiB |"),
    ("store/src/engine/write.rs", "CALL_ROWS_MAX", "100_000", "of one commit | 100,000; 1,000 |"),
    ("store/src/commit.rs", "COMMIT_STEPS_MAX", "1_000", "of one commit | 100,000; 1,000 |"),
    ("store/src/spec.rs", "PARTITION_BYTES_MAX", "64 << 30", "64 GiB; 1 TiB; 16 TiB can be said"),
    ("store/src/spec.rs", "TABLE_BYTES_MAX", "1 << 40", "64 GiB; 1 TiB; 16 TiB can be said"),
    ("store/src/read.rs", "SCAN_ROWS_MAX", "1_000_000", "rows of one scan | 1,000,000; 10,000"),
    ("store/src/read.rs", "GET_KEYS_MAX", "10_000", "keys of one get | 10,000 |"),
    ("store/src/serve.rs", "CLIENT_ROWS_MAX", "10_000", "rows of one scan | 1,000,000; 10,000"),
    ("store/src/serve/arrow.rs", "VALUES_MAX", "1 << 20", "write in Arrow | 1,048,576"),
    ("store/src/engine/turns.rs", "SCANS_AT_ONCE", "2", "take more than 16 MiB | 2 |"),
    ("store/src/blob.rs", "BLOB_BYTES_MAX", "256 << 20", "object of `wasi:blobstore` | 256 MiB |"),
    ("store/src/blob/sums.rs", "PARTS_MAX", "1 << 20", "4 MiB, for 64 GiB of blobs"),
    ("store/src/blob/kept.rs", "DOUBTS_MAX", "1_024", "whether it made them | 1,024 |"),
    ("store/src/hlc.rs", "AHEAD_MS_MAX", "500", "more than 500 ms ahead"),
    ("store/src/sql.rs", "SQL_TEXT_BYTES_MAX", "64 << 10", "operators | 64 KiB; 4,096; 256 |"),
    ("store/src/sql.rs", "SQL_TOKENS_MAX", "4_096", "operators | 64 KiB; 4,096; 256 |"),
    ("store/src/sql.rs", "SQL_DEADLINE_MS", "8_000", "| 8 s, 10 min at most |"),
    ("store/src/sql.rs", "SQL_DEADLINE_MS_MAX", "600_000", "| 8 s, 10 min at most |"),
    ("store/src/sql.rs", "SQL_AT_ONCE", "2", "queries at once at a site | 2 |"),
    ("src/node/uploads.rs", "UPLOADS_MAX", "16", "between two parts | 16; 60 s |"),
    ("src/node/uploads.rs", "KEPT", "Duration::from_secs(60)", "between two parts | 16; 60 s |"),
    ("src/node/control.rs", "EXPORT_KEPT", "Duration::from_secs(60 * 60)", "| 16 min; 1 h |"),
    ("src/node/client/files.rs", "PAGE_BYTES", "4 << 20", "command line | about 4 MiB"),
];

/// That a constant has the value which the pages say.
pub fn findings(of: &Number, source: &str, pages: &str) -> Vec<String> {
    let (path, name, value, words) = of;
    let found = source.lines().find(|line| line.contains(&format!("const {name}: ")));
    let has_value = found.is_some_and(|line| line.ends_with(&format!(" = {value};")));
    let mut findings = Vec::new();
    if !has_value {
        findings.push(format!("{path}: {name} is not {value}: mend the page that says {words:?}"));
    }
    if !pages.contains(words) {
        findings.push(format!("no page says {words:?}, which {name} of {path} is"));
    }
    findings
}

/// Text without the breaks of its lines.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
