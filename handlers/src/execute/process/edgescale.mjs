// State of an EdgeScale app, for JavaScript functions that run as processes.
//
//     import * as edgescale from "edgescale";
//
//     await edgescale.put("motion", { camera: "front", time_us: 1, score: 0.5 });
//     await edgescale.get("motion", { camera: "front", time_us: 1 });
//     await edgescale.increment("visits", { page: "/" }, { count: 1 });
//     await edgescale.scan("motion", { prefix: { camera: "front" }, limit: 10 });
//     await edgescale.publish("alarm", { camera: "front" });
//
// Tables and subjects are those of the app. Nothing but Node.js itself is used.

import http from "node:http";

const address = process.env.EDGESCALE_API ?? "";
const token = process.env.EDGESCALE_TOKEN ?? "";
const ARROW = "application/vnd.apache.arrow.stream";
const JSON_KIND = "application/json";
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

// The node refused; `kind` is denied, not_found, invalid, too_much, unavailable or failed.
export class EdgeScaleError extends Error {
  constructor(kind, message) {
    super(`${kind}: ${message}`);
    this.name = "EdgeScaleError";
    this.kind = kind;
  }
}

export const get = async (table, key) => (await post("store/get", { table, key })).row;

export const put = async (table, ...rows) => void (await post("store/put", { table, rows }));

// Writes rows and resolves to how far they have got when that is `level`: "memory", "local-sync",
// which is usual, or "parent".
export const putAt = async (level, table, ...rows) =>
  (await ask("put", table, { rows, level })).ack.level;

// Adds to counter columns of the row under `key`. Not safe to repeat.
export const increment = async (table, key, deltas) =>
  void (await post("store/increment", { table, key, deltas }));

// The same with a level.
export const incrementAt = async (level, table, key, deltas) =>
  (await ask("increment", table, { key, by: deltas, level })).ack.level;

// Writes the columns that each row names and leaves the others.
export const patch = async (table, ...rows) => void (await ask("patch", table, { rows }));

// `delete` is a word of the language.
export const remove = async (table, ...keys) => void (await ask("delete", table, { rows: keys }));

// Writes `row` if the row under `key` has the values of `expected`, or is absent when that is null;
// resolves to whether it was written. Decided at the root, one after the other.
export const putIf = async (table, key, expected, row) => {
  const condition = expected === null ? { key, absent: true } : { key, values: expected };
  const answer = await ask("commit", table, { if: [condition], do: [{ put: row }] });
  return answer.conflict === undefined;
};

// Any operation on rows as the bus has it, and its answer: get-many, scan with conditions, discard,
// commit, changes and those above.
export const ask = (operation, table, request = {}) =>
  post(`store/ask/${operation}`, { table, ...request });

// The same with rows as Arrow IPC streams: get, get-many, scan and changes resolve to one; put,
// patch, delete, discard and restore take `rows` and resolve to what `ask` does. With `rows`,
// `request` has `level` alone.
export const askArrow = async (operation, table, request = {}, rows = null) => {
  const asked = { table, ...request };
  const path = `store/ask/${operation}`;
  if (rows === null) return send(path, JSON.stringify(asked), JSON_KIND, ARROW);
  const answer = await send(`${path}?${new URLSearchParams(asked)}`, rows, ARROW, ARROW);
  return operation === "get-many" ? answer : JSON.parse(answer.toString());
};

// The rows that answer a SELECT over the app's tables, as an Arrow IPC stream.
export const sqlArrow = (question) =>
  send("store/sql", JSON.stringify({ sql: question }), JSON_KIND, ARROW);

// The rows that answer a SELECT over the app's tables, as objects.
export const sql = async (question) => {
  const { columns, rows } = await post("store/sql", { sql: question });
  return rows.map((row) => Object.fromEntries(columns.map(({ name }, n) => [name, row[n]])));
};

export const scan = async (table, { prefix = {}, limit = null, reverse = false } = {}) =>
  (await post("store/scan", { table, prefix, limit, reverse })).rows;

// Stores bytes and returns their key.
export const putBlob = async (content) =>
  (await post("blob/put", { base64: Buffer.from(content).toString("base64") })).key;

// The bytes under `key`, or null; `range` is the first byte wanted, and the first behind.
export const getBlob = async (key, range = null) => {
  const { base64 } = await post("blob/get", { key, range });
  return base64 === null ? null : Buffer.from(base64, "base64");
};

// Publishes an event: bytes as they are, anything else as JSON.
export const publish = async (subject, data, contentType) => {
  const [base64, usual] = encode(data);
  await post("publish", { subject, content_type: contentType ?? usual, base64 });
};

// Calls `name` of the app, wherever it is served; resolves to the bytes it answers.
export const call = async (name, data = Buffer.alloc(0)) => {
  const { base64 } = await post("call", { name, base64: encode(data)[0] });
  return Buffer.from(base64, "base64");
};

// A value of the manifest's [handler.config], as text.
export const config = async (key, usual = null) => (await post("config", { key })).value ?? usual;

function encode(data) {
  if (data instanceof Uint8Array) {
    return [Buffer.from(data).toString("base64"), "application/octet-stream"];
  }
  return [Buffer.from(JSON.stringify(data)).toString("base64"), "application/json"];
}

const post = async (path, body) =>
  JSON.parse((await send(path, JSON.stringify(body), JSON_KIND, JSON_KIND)).toString());

function send(path, body, kind, wanted) {
  const [host, port] = address.split(":");
  const headers = {
    authorization: `Bearer ${token}`,
    "content-type": kind,
    accept: wanted,
    "content-length": Buffer.byteLength(body),
  };
  const options = { host, port, agent, method: "POST", path: `/edgescale/v1/${path}`, headers };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        const answer = Buffer.concat(parts);
        response.statusCode === 200 ? resolve(answer) : reject(refusal(answer.toString()));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

function refusal(answer) {
  try {
    const { error, message } = JSON.parse(answer);
    return new EdgeScaleError(error, message);
  } catch {
    return new EdgeScaleError("invalid", answer);
  }
}
