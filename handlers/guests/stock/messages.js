// A stock component of wasmcloud:messaging for tests: does what the subject says, and answers
// with JSON where an answer is wanted.
import consumer from "wasmcloud:messaging/consumer@0.2.0";
import store from "wasi:keyvalue/store@0.2.0-draft2";
import atomics from "wasi:keyvalue/atomics@0.2.0-draft2";
import batch from "wasi:keyvalue/batch@0.2.0-draft2";
import config from "wasi:config/store@0.2.0-draft";
import logging from "wasi:logging/logging@0.1.0-draft";

const SUBJECTS = {
  echo: (message) => text(message.body),
  bound: (message) => JSON.parse(text(message.body)),
  fail() {
    throw "failed on purpose";
  },
  relay(message) {
    return text(consumer.request("other", message.body, 1000).body);
  },
  publish(message) {
    consumer.publish({ subject: "first", body: message.body });
    consumer.publish({ subject: "second", body: new Uint8Array([255]) });
  },
  settings: () => [config.get("greeting") ?? null, config.get("absent") ?? null, config.getAll()],
  log() {
    logging.log("warn", "web", "to the log");
    logging.log("trace", "", "key is " + config.get("KEY"));
  },
  leak() {
    throw "my key is " + config.get("KEY");
  },
  store() {
    const bucket = store.open("");
    bucket.set("a", bytes("one"));
    batch.setMany(bucket, [["b", bytes("two")], ["c", bytes("three")]]);
    const seen = [text(bucket.get("a")), bucket.get("z") ?? null, bucket.exists("b")];
    seen.push(batch.getMany(bucket, ["c", "y"]).map((pair) => (pair ? text(pair[1]) : null)));
    bucket.delete("a");
    batch.deleteMany(bucket, ["b"]);
    seen.push(bucket.listKeys(undefined).keys);
    seen.push([atomics.increment(bucket, "n", 5), atomics.increment(bucket, "n", -2)].map(Number));
    seen.push(text(bucket.get("n")));
    return seen;
  },
  swap() {
    const bucket = store.open("default");
    const first = atomics.Cas.new(bucket, "s");
    const second = atomics.Cas.new(bucket, "s");
    atomics.swap(first, bytes("won"));
    const error = failure(() => atomics.swap(second, bytes("lost")));
    const seen = text(error.val.current());
    atomics.swap(error.val, bytes("third"));
    return [error.tag, seen, text(bucket.get("s"))];
  },
  pages() {
    const bucket = store.open("");
    for (let page = 0; page < 3; page++) {
      const key = (n) => "p" + String(page * 1000 + n).padStart(5, "0");
      batch.setMany(bucket, Array.from({ length: 1000 }, (_, n) => [key(n), bytes("")]));
    }
    const counts = [];
    let cursor;
    do {
      const page = bucket.listKeys(cursor ?? undefined);
      counts.push(page.keys.length);
      cursor = page.cursor;
    } while (cursor != null);
    return counts;
  },
  missing: () => ["absent", "secret"].map((name) => failure(() => store.open(name)).tag),
};

export const handler = {
  handleMessage(message) {
    const answer = SUBJECTS[message.subject](message);
    if (message.replyTo !== undefined && answer !== undefined) {
      consumer.publish({ subject: message.replyTo, body: bytes(JSON.stringify(answer)) });
    }
  },
};

function failure(work) {
  try {
    work();
  } catch (error) {
    return error.payload ?? error;
  }
  return { tag: "no failure" };
}

function bytes(string) {
  return Uint8Array.from(string, (c) => c.charCodeAt(0));
}

function text(array) {
  return String.fromCharCode(...array);
}
