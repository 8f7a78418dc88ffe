// Asks for everything that edgescale.h offers, and answers over every entrance.

#define EDGESCALE_CALL
#define EDGESCALE_EVENT
#define EDGESCALE_HTTP
#include "edgescale.h"

static bool is(es_text text, const char *wanted) {
  return text.len == strlen(wanted) && memcmp(text.at, wanted, text.len) == 0;
}

bool handle_call(const es_request *request, es_response *response, es_text *error) {
  es_text row, key = es_text_of("{\"name\": \"a\"}"), answer, value;
  if (is(request->name, "rows")) {
    es_text *rows;
    size_t count;
    for (const char *name = "cab"; *name; name++)
      if (!es_put("visits", es_format("{\"name\": \"%c\", \"count\": 1}", *name), error)) return false;
    if (!es_scan("visits", (es_text){0}, 2, true, &rows, &count, error)) return false;
    if (!es_get("visits", es_text_of("{\"name\": \"x\"}"), &row, error) || row.len) return false;
    if (!es_get("visits", key, &row, error)) return false;
    response->body = es_format("[%zu, %.*s, %.*s]", count, ES_ARG(rows[0]), ES_ARG(row));
    return true;
  }
  if (is(request->name, "asked")) {
    bool first, second, third;
    es_text none = {0}, added = es_text_of("{\"name\": \"a\", \"count\": 7}"), many;
    if (!es_delete("visits", &key, 1, error)) return false;
    if (!es_put_if("visits", key, none, added, &first, error)) return false;
    if (!es_put_if("visits", key, none, key, &second, error)) return false;
    if (!es_patch("visits", es_text_of("{\"name\": \"a\", \"count\": 3}"), error)) return false;
    es_text old = es_text_of("{\"count\": 3}");
    if (!es_put_if("visits", key, old, added, &third, error)) return false;
    if (!es_ask("get-many", es_text_of("{\"table\": \"visits\", \"keys\": [{\"name\": \"a\"}]}"),
                &many, error)) return false;
    if (!es_sql(es_text_of("SELECT count FROM visits WHERE name = 'a'"), &answer, error)) return false;
    response->body = es_format("[%d, %d, %d, %.*s, %.*s]", first, second, third,
                               ES_ARG(es_member(many, "rows")), ES_ARG(es_member(answer, "rows")));
    return true;
  }
  if (is(request->name, "levels")) {
    es_level put, added;
    es_text two[] = {es_text_of("{\"name\": \"a\", \"count\": 2}"), es_text_of("{\"name\": \"b\"}")};
    es_text keys[] = {key, two[1]}, one = es_text_of("{\"count\": 1}"), rows, ack;
    if (!es_put_at("visits", two, 2, ES_MEMORY, &put, error)) return false;
    if (!es_increment_at("tally", key, one, ES_LOCAL_SYNC, &added, error)) return false;
    es_text a = es_text_of("{\"table\": \"visits\", \"prefix\": {\"name\": \"a\"}}");
    if (!es_ask_arrow("scan", a, (es_text){0}, &rows, error)) return false;
    if (!es_delete("visits", keys, 2, error)) return false;
    a = es_text_of("{\"table\": \"visits\", \"level\": \"memory\"}");
    if (!es_ask_arrow("put", a, rows, &ack, error)) return false;
    if (!es_get("visits", key, &row, error)) return false;
    response->body = es_format("[%d, %d, %.*s, %.*s]", put, added,
                               ES_ARG(es_member(es_member(ack, "ack"), "level")), ES_ARG(row));
    return true;
  }
  if (is(request->name, "part")) {
    bool found;
    if (!es_put_blob(request->body, &key, error)) return false;
    if (!es_get_blob_range(key, 1, 3, &answer, &found, error) || !found) return false;
    response->body = answer;
    return true;
  }
  if (is(request->name, "blob")) {
    bool found;
    if (!es_put_blob(request->body, &key, error)) return false;
    if (!es_get_blob(key, &answer, &found, error) || !found) return false;
    response->body = answer;
    return true;
  }
  if (is(request->name, "relay")) {
    if (!es_call("blob", request->body, &answer, error)) return false;
    if (!es_config("greeting", &value) || es_config("nothing", &answer)) return false;
    response->body = es_format("{\"got\": %.*s, \"greeting\": \"%.*s\"}", ES_ARG(request->body),
                               ES_ARG(value));
    return true;
  }
  return es_get("nowhere", key, &row, error);
}

bool handle_event(const es_event *event, es_text *error) {
  es_text to = es_member(event->body, "to"), deep = es_member(event->body, "deep");
  if (event->attempt != 1 || !to.len || !deep.len) {
    *error = es_format("event %.*s has no \"to\"", ES_ARG(event->id));
    return false;
  }
  return es_publish("moved", "application/json",
                    es_format("{\"to\": %.*s, \"deep\": %.*s}", ES_ARG(to), ES_ARG(deep)), error);
}

bool handle_http(const es_http_request *request, es_http_response *response, es_text *error) {
  (void)error;
  static es_pair headers[] = {{{"x-kind", 6}, {"probe", 5}}};
  response->status = 418;
  response->headers = (es_pairs){headers, 1};
  response->body = es_format("%.*s %.*s %.*s %.*s", ES_ARG(request->method),
                             ES_ARG(es_find(request->parameters, "id")),
                             ES_ARG(es_find(request->headers, "x-a")), ES_ARG(request->body));
  return true;
}
