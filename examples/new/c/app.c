// A WebAssembly component in C: each call and each event finds a fresh instance of it.

#define EDGESCALE_CALL
#define EDGESCALE_EVENT
#include "edgescale.h"

// Counts a visitor. `name` and `visits` are JSON as it came: no quotes to add or to escape.
static bool greet(es_text body, es_text *name, es_text *visits, es_text *error) {
  *name = es_member(body, "name");
  if (!name->len) {
    *error = es_text_of("who? send {\"name\": \"…\"}");
    return false;
  }
  es_text key = es_format("{\"name\": %.*s}", ES_ARG(*name)), row;
  if (!es_increment("visits", key, es_text_of("{\"count\": 1}"), error)) return false;
  if (!es_get("visits", key, &row, error)) return false;
  *visits = es_member(row, "count");
  es_log(ES_INFO, es_format("%.*s was here %.*s times", ES_ARG(*name), ES_ARG(*visits)));
  return true;
}

bool handle_call(const es_request *request, es_response *response, es_text *error) {
  es_text name, visits;
  if (!greet(request->body, &name, &visits, error)) return false;
  response->body =
      es_format("{\"hello\": %.*s, \"visits\": %.*s}", ES_ARG(name), ES_ARG(visits));
  return true;
}

bool handle_event(const es_event *event, es_text *error) {
  es_text name, visits;
  return greet(event->body, &name, &visits, error);
}
