// An AWS Lambda function behind the routes of an HTTP API (payload format 2.0).

import * as edgescale from "edgescale";

export const handler = async (event) => {
  const { code } = event.pathParameters;
  switch (event.routeKey) {
    case "PUT /{code}":
      return make(code, (event.body ?? "").trim());
    case "GET /{code}":
      return follow(code);
    default:
      return visits(code);
  }
};

async function make(code, target) {
  if (!/^https?:\/\/[^\s]{1,2000}$/.test(target)) {
    return text(400, "the body is the address that the link leads to, http:// or https://\n");
  }
  await edgescale.put("links", { code, target });
  return text(201, `${target}\n`);
}

async function follow(code) {
  const link = await edgescale.get("links", { code });
  if (!link) return text(404, `no link ${code}\n`);
  await edgescale.increment("links", { code }, { visits: 1 });
  return { statusCode: 302, headers: { location: link.target, "cache-control": "no-store" } };
}

async function visits(code) {
  const link = await edgescale.get("links", { code });
  if (!link) return text(404, `no link ${code}\n`);
  return { code, target: link.target, visits: link.visits ?? 0 };
}

const text = (statusCode, body) =>
  ({ statusCode, headers: { "content-type": "text/plain; charset=utf-8" }, body });
