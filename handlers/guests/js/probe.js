// A guest for tests: does what the subject of the event, or the name of the call, says.
import accelerate from "edgescale:app/accelerate@0.1.0";
import bus from "edgescale:app/bus@0.1.0";
import config from "edgescale:app/config@0.1.0";
import log from "edgescale:app/log@0.1.0";
import store from "edgescale:app/store@0.1.0";

const EVENTS = {
  ok() {},
  throw() {
    throw new Error("thrown on purpose");
  },
  traced() {
    try {
      EVENTS.throw();
    } catch (error) {
      throw `${error}\n${error.stack}`;
    }
  },
  "throw-text"() {
    throw "thrown as text";
  },
  loop() {
    for (;;);
  },
  bomb() {
    const kept = [];
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  },
  recurse() {
    const down = (n) => down(n + 1) + 1;
    down(0);
  },
  flood() {
    for (let n = 0; n < 100000; n++) log.write("info", "line " + n);
  },
  log() {
    log.write("debug", "to the log");
  },
  publish(event) {
    bus.publish("first", event.contentType, event.body);
    bus.publish("second", "text/plain", new Uint8Array([104, 105]));
  },
  put(event) {
    store.put("things", text(event.body));
  },
  count() {
    store.increment("things", '{"id":"n"}', '{"count":2}');
  },
  wait() {
    bus.call("never", new Uint8Array());
  },
};

const CALLS = {
  echo: (request) => request.body,
  config: () => bytes(String(config.get("greeting"))),
  get: (request) => bytes(String(store.get("things", text(request.body)))),
  scan: () => {
    const options = { prefix: undefined, limit: 2, reverse: true };
    return bytes("[" + store.scan("things", options).join() + "]");
  },
  blob: (request) => {
    const key = store.putBlob(request.body);
    return bytes(String(store.getBlob(key).length));
  },
  // Each of the store's operations that change or look behind conditions, in a row.
  asked: () => {
    const row = (id, note) => JSON.stringify({ id, note });
    const key = '{"id":"asked"}';
    const seen = [store.putIf("things", key, undefined, row("asked", "new"))];
    seen.push(store.putIf("things", key, undefined, row("asked", "never")));
    store.patch("things", row("asked", "patched"));
    seen.push(store.putIf("things", key, '{"note":"patched"}', row("asked", "last")));
    const many = JSON.parse(store.ask("get-many", '{"table":"things","keys":[{"id":"asked"}]}'));
    seen.push(many.rows[0].note);
    store.delete("things", [key]);
    seen.push(store.get("things", key) == null, JSON.parse(store.sql("SELECT 1")).rows[0][1]);
    seen.push(text(caught(() => store.ask("no-such", '{"table":"things"}'))));
    return bytes(JSON.stringify(seen));
  },
  levels: () => {
    const seen = [store.putAt("things", ['{"id":"at"}', '{"id":"at2"}'], "memory")];
    seen.push(store.incrementAt("things", '{"id":"at"}', '{"count":2}', "parent"));
    return bytes(seen.join() + store.get("things", '{"id":"at"}'));
  },
  arrow: () => {
    const things = '{"table":"things","prefix":{"id":"at"}}';
    const rows = store.askArrow("scan", things, undefined);
    store.delete("things", ['{"id":"at"}']);
    const seen = [String(store.get("things", '{"id":"at"}'))];
    const put = '{"table":"things","level":"local-sync"}';
    seen.push(JSON.parse(text(store.askArrow("put", put, rows))).ack.level);
    seen.push(store.get("things", '{"id":"at"}'));
    seen.push(text(caught(() => store.askArrow("commit", things, undefined))));
    return bytes(seen.join("; "));
  },
  range: (request) => {
    const key = store.putBlob(request.body);
    const part = (start, end) => store.getBlobRange(key, start, end);
    return bytes(text(part(1, 3)) + text(part(3, 99)) + text(caught(() => part(2, 1))));
  },
  relay: (request) => bus.call("other", request.body),
  denied: () => caught(() => store.get("secret", '{"id":1}')),
  absent: () => caught(() => store.get("absent", '{"id":1}')),
  "not-json": () => caught(() => store.get("things", "{")),
};

export function handleEvent(event) {
  EVENTS[event.subject](event);
}

export function handleCall(request) {
  return { contentType: "text/plain", body: CALLS[request.name](request) };
}

const PIPELINE = JSON.stringify({
  steps: [
    { op: "gray", input: ["frame"], output: "gray" },
    { op: "absdiff", input: ["gray", "gray@-1"], output: "difference" },
    { op: "threshold", level: 8, input: ["difference"], output: "mask" },
    { op: "score", input: ["mask"], output: "score" },
    { op: "boxes", min_count: 1, input: ["mask"], output: "boxes" },
    { op: "jpeg", quality: 80, input: ["frame"], output: "jpeg" },
  ],
  returns: ["score", "boxes", "jpeg"],
});

export function handleFrame(connection, frame) {
  const outcome = accelerate.run(frame, PIPELINE);
  const seen = {
    id: Number(frame.index()),
    connection: connection.id,
    size: [frame.width(), frame.height()],
    format: frame.format(),
    time_us: Number(frame.timeUs()),
    bytes: frame.readBytes().length,
    score: outcome.number("score"),
    boxes: outcome.boxes("boxes"),
    jpeg: outcome.storeBlob("jpeg"),
    jpeg_starts: [...outcome.read("jpeg").slice(0, 2)],
    missing: text(caught(() => outcome.number("nothing"))),
    not_a_number: text(caught(() => outcome.number("jpeg"))),
    bad_pipeline: text(caught(() => accelerate.run(frame, '{"steps":[],"returns":[]}'))),
    device: outcome.device(),
  };
  store.put("things", JSON.stringify(seen));
}

function caught(work) {
  try {
    work();
  } catch (error) {
    const { tag, val } = error.payload ?? error;
    return bytes(tag + ": " + val);
  }
  return bytes("nothing was thrown");
}

function bytes(text) {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

function text(bytes) {
  return String.fromCharCode(...bytes);
}
