// Sends what http, https and fetch ask other hosts through the node's proxy. From 22.21 and 24.5 on
// Node.js does so by itself, as NODE_USE_ENV_PROXY tells it to.

import http from "node:http";
import https from "node:https";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import tls from "node:tls";

const proxy = new URL(process.env.HTTP_PROXY);
const DISPATCHER = Symbol.for("undici.globalDispatcher.1");
const own = (host, port) => host === proxy.hostname && String(port) === proxy.port;

// A socket to a host outside, or the proxy's words why there is none.
function tunnel(host, port, done) {
  const place = `${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${port}`;
  const headers = { host: place };
  if (proxy.username) {
    const shown = Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64");
    headers["proxy-authorization"] = `Basic ${shown}`;
  }
  const { hostname, port: at } = proxy;
  const options = { host: hostname, port: at, method: "CONNECT", path: place, headers };
  const request = http.request({ ...options, agent: false });
  request.once("error", done);
  request.once("connect", (response, socket, head) => {
    if (response.statusCode === 200) {
      if (head.length > 0) socket.unshift(head);
      return done(null, socket);
    }
    socket.destroy();
    const error = new Error(`${response.statusCode} ${response.statusMessage}`);
    done(Object.assign(error, { code: "EACCES" }));
  });
  request.end();
}

function secure(socket, options, host) {
  const servername = options.servername || (net.isIP(host) ? "" : host);
  return tls.connect({ ...options, socket, servername });
}

class PlainAgent extends http.Agent {
  createConnection(options, done) {
    if (own(options.host, options.port)) return net.connect(options.port, options.host);
    tunnel(options.host, options.port, done);
  }
}

class SecureAgent extends https.Agent {
  createConnection(options, done) {
    tunnel(options.host, options.port, (error, socket) => {
      if (error) return done(error);
      done(null, secure(socket, options, options.host));
    });
  }
}

// As fetch's own dispatcher connects.
function connect({ hostname, port, protocol, servername }, done) {
  const isSecure = protocol === "https:";
  tunnel(hostname, Number(port) || (isSecure ? 443 : 80), (error, socket) => {
    if (error || !isSecure) return done(error, socket);
    const secured = secure(socket, { servername, ALPNProtocols: ["http/1.1"] }, hostname);
    secured.once("error", done);
    secured.once("secureConnect", () => done(null, secured));
  });
}

function install() {
  const usual = { keepAlive: true, scheduling: "lifo", timeout: 5000 };
  http.globalAgent = new PlainAgent(usual);
  https.globalAgent = new SecureAgent(usual);
  syncBuiltinESMExports();
  const plain = globalThis.fetch;
  let isReady = false;
  globalThis.fetch = function fetch(input, init) {
    if (!isReady) {
      isReady = true;
      // fetch is loaded when one of its classes is looked at; a dispatcher is there then.
      void globalThis.Headers;
      const Agent = globalThis[DISPATCHER]?.constructor;
      if (Agent) globalThis[DISPATCHER] = new Agent({ connect });
    }
    return plain(input, init);
  };
}

if (!("proxyEnv" in http.globalAgent.options)) install();
