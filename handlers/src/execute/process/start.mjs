// Runs an AWS Lambda function of Node.js over the Runtime API, version 2018-06-01: `async (event,
// context)`, callbacks, streamed responses, and OpenWhisk's `main(args)`. An archive that brings
// the stock client (aws-lambda-ric) is run by that instead.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";
import "./outside.mjs";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const STREAMED = Symbol("streamed");
const BASE = "/2018-06-01/runtime";

globalThis.awslambda = {
  streamifyResponse: (handler) => Object.assign(handler, { [STREAMED]: true }),
  HttpResponseStream: {
    // Status and headers go first, and eight zeros end them.
    from(stream, prelude) {
      stream.setContentType("application/vnd.awslambda.http-integration-response");
      stream.write(JSON.stringify(prelude));
      stream.write(Buffer.alloc(8));
      return stream;
    },
  },
};

function request(method, target, headers, onResponse) {
  const options = { host, port, agent, method, path: BASE + target, headers };
  return http.request(options, onResponse);
}

function exchange(method, target, body = "", headers = {}) {
  return new Promise((resolve, reject) => {
    const length = { "content-length": Buffer.byteLength(body), ...headers };
    const out = request(method, target, length, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => resolve([response.headers, Buffer.concat(parts).toString()]));
    });
    out.on("error", reject);
    out.end(body);
  });
}

function describe(error, place = []) {
  const isError = error instanceof Error;
  const stack = isError ? String(error.stack).split("\n").slice(1).map((l) => l.trim()) : [];
  const lines = [...place, ...stack];
  return JSON.stringify({
    errorType: isError ? error.name : typeof error,
    errorMessage: isError ? error.message : String(error),
    stackTrace: lines,
  });
}

// File, line and text of what is no JavaScript: Node.js tells it only when it ends by the error.
function placeOf(error, file) {
  if (!(error instanceof SyntaxError) || !file) return [];
  const code = `await import(${JSON.stringify(pathToFileURL(file))})`;
  const options = { encoding: "utf8", timeout: 5000, stdio: ["ignore", "ignore", "pipe"] };
  const { stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], options);
  const [place] = (stderr ?? "").split("\n\n");
  return place.includes(path.dirname(file)) ? place.split("\n") : [];
}

function fileOf(entry) {
  const root = process.env.LAMBDA_TASK_ROOT ?? process.cwd();
  const [, folder, module, name] = /^(.*\/)?([^/.]+)\.(.+)$/.exec(entry) ?? [];
  if (!module) throw new Error(`"${entry}" names no function; write "module.function"`);
  const base = path.join(root, folder ?? "", module);
  const file = [".js", ".mjs", ".cjs"].map((end) => base + end).find((f) => fs.existsSync(f));
  if (!file) throw new Error(`no module ${module}.js, .mjs or .cjs in the code`);
  return { file, module, name };
}

async function load({ file, module, name }) {
  const loaded = await import(pathToFileURL(file));
  const handler = loaded[name] ?? loaded.default?.[name];
  if (typeof handler !== "function") throw new Error(`${module} exports no function "${name}"`);
  return handler;
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    callbackWaitsForEmptyEventLoop: false,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

// A promise, a plain value, or what is given to the callback.
function run(handler, event, context) {
  if (handler.length === 1 && handler.name === "main") return handler(argumentsOf(event));
  if (handler.length < 3) return handler(event, context);
  return new Promise((resolve, reject) => {
    const callback = (error, value) => (error ? reject(error) : resolve(value));
    Promise.resolve(handler(event, context, callback)).then(
      (value) => value !== undefined && resolve(value),
      reject,
    );
  });
}

// OpenWhisk's arguments are the data, and the rows of inputs; what is no object has the key `value`.
function argumentsOf(event) {
  const data = event?.data ?? {};
  const isObject = typeof data === "object" && !Array.isArray(data);
  return { ...(isObject ? data : { value: data }), ...event?.inputs };
}

function stream(handler, event, context, id) {
  return new Promise((resolve, reject) => {
    const headers = {
      "lambda-runtime-function-response-mode": "streaming",
      "transfer-encoding": "chunked",
      "content-type": "application/octet-stream",
      trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    };
    const out = request("POST", `/invocation/${id}/response`, headers, (response) => {
      response.resume();
      response.on("end", resolve);
    });
    out.setContentType = (type) => out.setHeader("content-type", type);
    out.on("error", reject);
    Promise.resolve(handler(event, out, context)).catch((error) => {
      const body = Buffer.from(describe(error)).toString("base64");
      out.addTrailers({
        "Lambda-Runtime-Function-Error-Type": error?.name ?? "Error",
        "Lambda-Runtime-Function-Error-Body": body,
      });
      out.end();
    });
  });
}

async function serve(handler) {
  for (;;) {
    const [headers, body] = await exchange("GET", "/invocation/next");
    const id = headers["lambda-runtime-aws-request-id"];
    if (!id) process.exit(0);
    process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"] ?? "";
    const context = contextOf(headers);
    try {
      const event = JSON.parse(body);
      if (handler[STREAMED]) {
        await stream(handler, event, context, id);
        continue;
      }
      const result = await run(handler, event, context);
      await exchange("POST", `/invocation/${id}/response`, JSON.stringify(result ?? null));
    } catch (error) {
      await exchange("POST", `/invocation/${id}/error`, describe(error));
    }
  }
}

let found, handler;
try {
  found = fileOf(process.argv[2] ?? process.env._HANDLER);
  handler = await load(found);
} catch (error) {
  await exchange("POST", "/init/error", describe(error, placeOf(error, found?.file)));
  process.exit(1);
}
await serve(handler);
