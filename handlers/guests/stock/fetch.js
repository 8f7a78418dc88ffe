// A stock component of wasi:http as componentize-js makes one of a service worker.
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname, search } = new URL(request.url);
  const body = { method: request.method, path: pathname + search, body: await request.text() };
  const headers = { "content-type": "application/json", "x-agent": request.headers.get("x-agent") };
  return new Response(JSON.stringify(body), { status: 201, headers });
}
