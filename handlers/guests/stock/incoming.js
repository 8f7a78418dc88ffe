// A stock component of wasi:http 0.2 by its interfaces themselves, as componentize-js makes one:
// resources and streams by hand, and no service worker.
import {
  Fields,
  OutgoingBody,
  OutgoingResponse,
  ResponseOutparam,
} from "wasi:http/types@0.2.10";

export const incomingHandler = {
  handle(request, responseOut) {
    const [path] = (request.pathWithQuery() ?? "/").split("?");
    if (path === "/throw") throw new Error("thrown on purpose");
    const headers = Fields.fromList([["content-type", bytes("text/plain")]]);
    const agent = request.headers().get("x-agent");
    if (agent.length > 0) headers.append("x-agent", agent[0]);
    const response = new OutgoingResponse(headers);
    response.setStatusCode(path === "/hello" ? 200 : 201);
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: "ok", val: response });
    const stream = body.write();
    if (path === "/hello") stream.blockingWriteAndFlush(bytes("Hello from JavaScript\n"));
    else copy(request.consume(), stream);
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};

// Each piece as it comes, until the other side has said all.
function copy(body, to) {
  const from = body.stream();
  try {
    for (;;) to.blockingWriteAndFlush(from.blockingRead(4096n));
  } catch (error) {
    const { tag } = error.payload ?? error;
    if (tag !== "closed") throw error;
  }
  from[Symbol.dispose]();
}

function bytes(text) {
  return new TextEncoder().encode(text);
}
