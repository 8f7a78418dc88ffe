// A stock component of wasi:http 0.3 in JavaScript: an echo whose first part goes out before the
// request is read.
import { Fields, Request, Response } from "wasi:http/types@0.3.0";

export const handler = {
  async handle(request) {
    const path = request.getPathWithQuery();
    if (path.startsWith("/throw")) throw new Error("thrown on purpose");
    const read = wit.Future.from({ tag: "ok" }, wit.Future.RESULT_VOID_ERROR_CODE);
    const [body] = Request.consumeBody(request, read.readable);
    const parts = (async function* () {
      yield encode(`${path}: `);
      for await (const part of body) yield part;
    })();
    const contents = wit.Stream.from(parts, wit.Stream.U8).readable;
    const none = { tag: "ok", val: undefined };
    const trailers = wit.Future.from(none, wit.Future.RESULT_OPTION_OTHER_ERROR_CODE);
    const [response] = Response.new(new Fields(), contents, trailers.readable);
    response.setStatusCode(201);
    return response;
  },
};

const encode = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
