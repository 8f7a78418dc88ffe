// The same by the drafts before, which many components were built for.
import consumer from "wasmcloud:messaging/consumer@0.2.0";
import store from "wasi:keyvalue/store@0.2.0-draft";
import atomics from "wasi:keyvalue/atomics@0.2.0-draft";
import config from "wasi:config/runtime@0.2.0-draft";
import logging from "wasi:logging/logging";

export const handler = {
  handleMessage(message) {
    logging.log("error", "", "greeting is " + config.get("greeting"));
    const bucket = store.open("default");
    bucket.set("k", message.body);
    const seen = [atomics.increment(bucket, "n", 7), bucket.listKeys(undefined).keys.length];
    const body = Uint8Array.from(JSON.stringify(seen.map(Number)), (c) => c.charCodeAt(0));
    if (message.replyTo !== undefined) consumer.publish({ subject: message.replyTo, body });
  },
};
