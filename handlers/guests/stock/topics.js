// A stock component of wasi:messaging for tests: does what the topic says, and replies with JSON.
import types from "wasi:messaging/types@0.2.0-draft";
import producer from "wasi:messaging/producer@0.2.0-draft";
import requestReply from "wasi:messaging/request-reply@0.2.0-draft";

const { Client, Message } = types;

const TOPICS = {
  echo: (message) => text(message.data()),
  told: (message) => [message.topic(), message.contentType() ?? null, message.metadata() ?? null],
  relay(message, client) {
    const options = new requestReply.RequestOptions();
    options.setTimeoutMs(1000);
    options.setExpectedReplies(2);
    const replies = requestReply.request(client, "other", message, options);
    return replies.map((reply) => [text(reply.data()), reply.contentType() ?? null]);
  },
  late(message, client) {
    const options = new requestReply.RequestOptions();
    options.setTimeoutMs(20);
    return failure(() => requestReply.request(client, "never", message, options));
  },
  publish(message, client) {
    producer.send(client, "first", new Message(message.data()));
    const second = new Message(bytes("x"));
    second.setContentType("text/x-test");
    second.setData(bytes("y"));
    second.setMetadata([...(message.metadata() ?? []), ["colour", "blue"]]);
    producer.send(client, "second", second);
    client.disconnect();
  },
  refused: (_, client) => failure(() => producer.send(client, "no such", new Message(bytes("")))),
  metadata() {
    const message = new Message(bytes(""));
    message.removeMetadata("a");
    const before = message.metadata() ?? null;
    const refused = failure(() => message.addMetadata("a b", "c"));
    message.addMetadata("a", "b");
    message.setMetadata([...message.metadata(), ["c", "d"], ["a", "e"], ["f", "g"]]);
    message.removeMetadata("f");
    return [before, refused, message.metadata()];
  },
  twice(message) {
    requestReply.reply(message, new Message(bytes("1")));
    return 2;
  },
  hoard() {
    const kept = [];
    for (let n = 0; n < 1000; n++) kept.push(new Message(new Uint8Array(1 << 20)));
    return kept.length;
  },
  many() {
    for (let n = 0; n < 200; n++) new Message(new Uint8Array(1 << 20))[Symbol.dispose]();
    return "done";
  },
  silent() {},
  fail() {
    throw { tag: "other", val: "failed on purpose" };
  },
};

export const incomingHandler = {
  handle(message) {
    const client = Client.connect("default");
    const answer = TOPICS[message.topic()](message, client);
    if (answer === undefined) return;
    requestReply.reply(message, new Message(bytes(JSON.stringify(answer))));
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
