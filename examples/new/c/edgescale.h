// What a handler in C is given, and what it may ask for: the worlds on-call, on-event and on-http
// of EdgeScale's handlers/wit/app.wit, by the canonical ABI of WebAssembly components. Include it
// in one file. Define EDGESCALE_CALL, EDGESCALE_EVENT or EDGESCALE_HTTP before, for what you
// handle; wit/world.wit names the same.
//
// Text that comes from here is yours until the handler returns, and is not ended by a zero.

#ifndef EDGESCALE_H
#define EDGESCALE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *at;
  size_t len;
} es_text;

// For printf: printf("%.*s", ES_ARG(text)).
#define ES_ARG(text) (int)(text).len, (text).at

static inline es_text es_text_of(const char *text) { return (es_text){text, strlen(text)}; }

// ---- memory: what is handed in or out lives until the handler has returned ----

static void **es_owned;
static size_t es_owned_len, es_owned_room;

static const void *es_own(const void *memory) {
  if (es_owned_len == es_owned_room) {
    es_owned_room = es_owned_room ? 2 * es_owned_room : 64;
    es_owned = realloc(es_owned, es_owned_room * sizeof *es_owned);
    if (!es_owned) abort();
  }
  es_owned[es_owned_len++] = (void *)memory;
  return memory;
}

static inline void es_free_all(void) {
  while (es_owned_len) free(es_owned[--es_owned_len]);
}

__attribute__((export_name("cabi_realloc"))) void *es_cabi_realloc(void *old, size_t old_len,
                                                                   size_t align, size_t len) {
  if (len == 0) return (void *)align;
  void *fresh = align > 16 ? aligned_alloc(align, (len + align - 1) / align * align) : malloc(len);
  if (!fresh) abort();
  if (old_len) {
    memcpy(fresh, old, old_len < len ? old_len : len);
    free(old);
  }
  return fresh;
}

static inline es_text es_taken(const void *at, size_t len) {
  if (len) es_own(at);
  return (es_text){len ? at : "", len};
}

// ---- text ----

// As printf; the text lives until the handler has returned.
__attribute__((format(printf, 1, 2))) static inline es_text es_format(const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int len = vsnprintf(NULL, 0, format, arguments);
  char *text = malloc((size_t)len + 1);
  if (len < 0 || !text) abort();
  vsnprintf(text, (size_t)len + 1, format, again);
  va_end(again);
  va_end(arguments);
  es_own(text);
  return (es_text){text, (size_t)len};
}

// The end of a JSON value that begins at `at`, or NULL where there is none.
static inline const char *es_json_end(const char *at, const char *end) {
  int depth = 0;
  for (bool quoted = false; at < end; at++) {
    if (quoted) {
      if (*at == '\\') at++;
      else if (*at == '"') quoted = false;
      if (!quoted && depth == 0) return at + 1;
    } else if (*at == '"') {
      quoted = true;
    } else if (*at == '{' || *at == '[') {
      depth++;
    } else if (*at == '}' || *at == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    } else if (depth == 0 && (*at == ',' || *at == ' ' || *at == '\n' || *at == '\t')) {
      return at;
    }
  }
  return depth == 0 ? end : NULL;
}

// The member of a JSON object as it stands there ("Ada" with its quotes), or nothing. The object is
// believed to be well formed; names with escapes in them are not found.
static inline es_text es_member(es_text object, const char *name) {
  const char *at = object.at, *end = object.at + object.len;
  const size_t len = strlen(name);
  while (at < end && *at != '{') at++;
  for (at++; at < end;) {
    while (at < end && strchr(" \t\r\n,", *at)) at++;
    const char *key = at, *key_end = es_json_end(at, end);
    if (at >= end || *at != '"' || !key_end) break;
    for (at = key_end; at < end && strchr(" \t\r\n:", *at);) at++;
    const char *value_end = es_json_end(at, end);
    if (!value_end) break;
    bool same = (size_t)(key_end - key) == len + 2 && memcmp(key + 1, name, len) == 0;
    if (same) return (es_text){at, (size_t)(value_end - at)};
    at = value_end;
  }
  return (es_text){"", 0};
}

// ---- what may be asked for; false: `error` says why ----

// Where the host writes an answer: its tag, and what stands behind it.
typedef union {
  uint8_t tag;
  struct { uint32_t tag; void *at; uint32_t len; } value;
  struct { uint32_t tag, inner; void *at; uint32_t len; } option;
} es_area;

static inline bool es_failed(es_area *area, es_text *error) {
  static const char *const kinds[] = {"denied", "not found", "invalid", "unavailable", "failed"};
  if ((area->tag & 0xff) == 0) return false;
  es_text why = es_taken(area->option.at, area->option.len);
  if (error) *error = es_format("%s: %.*s", kinds[(area->option.inner & 0xff) % 5], ES_ARG(why));
  return true;
}

// The text of an answer that is one.
static inline bool es_answered(es_area *area, es_text *answer, es_text *error) {
  if (es_failed(area, error)) return false;
  *answer = es_taken(area->value.at, area->value.len);
  return true;
}

#define ES_IMPORT(interface, function) \
  __attribute__((import_module("edgescale:app/" interface "@0.1.0"), import_name(function)))

ES_IMPORT("store", "get") void es_import_get(const char *, size_t, const char *, size_t, es_area *);
ES_IMPORT("store", "put") void es_import_put(const char *, size_t, const char *, size_t, es_area *);
ES_IMPORT("store", "increment")
void es_import_increment(const char *, size_t, const char *, size_t, const char *, size_t,
                         es_area *);
ES_IMPORT("store", "scan")
void es_import_scan(const char *, size_t, uint32_t, const char *, size_t, uint32_t, uint32_t,
                    uint32_t, es_area *);
ES_IMPORT("store", "patch")
void es_import_patch(const char *, size_t, const char *, size_t, es_area *);
ES_IMPORT("store", "delete")
void es_import_delete(const char *, size_t, const es_text *, size_t, es_area *);
ES_IMPORT("store", "put-if")
void es_import_put_if(const char *, size_t, const char *, size_t, uint32_t, const char *, size_t,
                      const char *, size_t, es_area *);
ES_IMPORT("store", "ask") void es_import_ask(const char *, size_t, const char *, size_t, es_area *);
ES_IMPORT("store", "put-at")
void es_import_put_at(const char *, size_t, const es_text *, size_t, uint32_t, es_area *);
ES_IMPORT("store", "increment-at")
void es_import_increment_at(const char *, size_t, const char *, size_t, const char *, size_t,
                            uint32_t, es_area *);
ES_IMPORT("store", "ask-arrow")
void es_import_ask_arrow(const char *, size_t, const char *, size_t, uint32_t, const char *, size_t,
                         es_area *);
ES_IMPORT("store", "sql") void es_import_sql(const char *, size_t, es_area *);
ES_IMPORT("store", "put-blob") void es_import_put_blob(const char *, size_t, es_area *);
ES_IMPORT("store", "get-blob") void es_import_get_blob(const char *, size_t, es_area *);
ES_IMPORT("store", "get-blob-range")
void es_import_get_blob_range(const char *, size_t, uint64_t, uint64_t, es_area *);
ES_IMPORT("bus", "publish")
void es_import_publish(const char *, size_t, const char *, size_t, const char *, size_t,
                       es_area *);
ES_IMPORT("bus", "call") void es_import_call(const char *, size_t, const char *, size_t, es_area *);
ES_IMPORT("log", "write") void es_import_log(uint32_t, const char *, size_t);
ES_IMPORT("config", "get") void es_import_config(const char *, size_t, es_area *);

// The row under a key, both JSON objects; an empty row where there is none.
static inline bool es_get(const char *table, es_text key, es_text *row, es_text *error) {
  es_area area = {0};
  es_import_get(table, strlen(table), key.at, key.len, &area);
  if (es_failed(&area, error)) return false;
  bool found = area.option.inner & 0xff;
  *row = found ? es_taken(area.option.at, area.option.len) : (es_text){"", 0};
  return true;
}

static inline bool es_put(const char *table, es_text row, es_text *error) {
  es_area area = {0};
  es_import_put(table, strlen(table), row.at, row.len, &area);
  return !es_failed(&area, error);
}

// Adds to counter columns: deltas are {"column": number}.
static inline bool es_increment(const char *table, es_text key, es_text deltas, es_text *error) {
  es_area area = {0};
  es_import_increment(table, strlen(table), key.at, key.len, deltas.at, deltas.len, &area);
  return !es_failed(&area, error);
}

// How far a write has got: seen at this site, on its disk, on that of the site above, of the root.
typedef enum { ES_MEMORY, ES_LOCAL_SYNC, ES_PARENT, ES_ROOT } es_level;

// Writes `count` rows whole, all or none, and returns when they are as far as `level`.
static inline bool es_put_at(const char *table, const es_text *rows, size_t count, es_level level,
                             es_level *reached, es_text *error) {
  es_area area = {0};
  es_import_put_at(table, strlen(table), rows, count, level, &area);
  if (es_failed(&area, error)) return false;
  *reached = (es_level)(area.option.inner & 0xff);
  return true;
}

// Adds like es_increment, with a level like es_put_at.
static inline bool es_increment_at(const char *table, es_text key, es_text deltas, es_level level,
                                   es_level *reached, es_text *error) {
  es_area area = {0};
  es_import_increment_at(table, strlen(table), key.at, key.len, deltas.at, deltas.len, level,
                         &area);
  if (es_failed(&area, error)) return false;
  *reached = (es_level)(area.option.inner & 0xff);
  return true;
}

// Writes the columns that `row` names and leaves the others.
static inline bool es_patch(const char *table, es_text row, es_text *error) {
  es_area area = {0};
  es_import_patch(table, strlen(table), row.at, row.len, &area);
  return !es_failed(&area, error);
}

// Deletes the rows under `count` keys.
static inline bool es_delete(const char *table, const es_text *keys, size_t count, es_text *error) {
  es_area area = {0};
  es_import_delete(table, strlen(table), keys, count, &area);
  return !es_failed(&area, error);
}

// Writes `row` if the row under `key` has the values of `expected`, or is absent when that is
// nothing. Decided at the root, one after the other.
static inline bool es_put_if(const char *table, es_text key, es_text expected, es_text row,
                             bool *written, es_text *error) {
  es_area area = {0};
  es_import_put_if(table, strlen(table), key.at, key.len, expected.len != 0, expected.at,
                   expected.len, row.at, row.len, &area);
  if (es_failed(&area, error)) return false;
  *written = area.option.inner & 0xff;
  return true;
}

// Any operation on rows as the bus has it, in JSON: get-many, scan with conditions, commit, ...
static inline bool es_ask(const char *operation, es_text request, es_text *answer, es_text *error) {
  es_area area = {0};
  es_import_ask(operation, strlen(operation), request.at, request.len, &area);
  return es_answered(&area, answer, error);
}

// The same and sql with rows as Arrow IPC streams: scan, get-many and sql answer one; put, patch,
// delete and discard take one as `rows` (else nothing) and are answered in JSON.
static inline bool es_ask_arrow(const char *operation, es_text request, es_text rows,
                                es_text *answer, es_text *error) {
  es_area area = {0};
  es_import_ask_arrow(operation, strlen(operation), request.at, request.len, rows.len != 0, rows.at,
                      rows.len, &area);
  return es_answered(&area, answer, error);
}

// Answers a SELECT over the app's tables: {"columns": ..., "rows": ...}.
static inline bool es_sql(es_text question, es_text *answer, es_text *error) {
  es_area area = {0};
  es_import_sql(question.at, question.len, &area);
  return es_answered(&area, answer, error);
}

// Rows in key order whose key begins with `prefix`, a JSON object or nothing.
static inline bool es_scan(const char *table, es_text prefix, uint32_t limit, bool reverse,
                           es_text **rows, size_t *count, es_text *error) {
  es_area area = {0};
  es_import_scan(table, strlen(table), prefix.len != 0, prefix.at, prefix.len, limit != 0, limit,
                 reverse, &area);
  if (es_failed(&area, error)) return false;
  *count = area.value.len;
  *rows = *count ? (es_text *)es_own(area.value.at) : NULL;
  for (size_t at = 0; at < *count; at++) es_taken((*rows)[at].at, (*rows)[at].len);
  return true;
}

// Stores bytes; `key` is what they are found by.
static inline bool es_put_blob(es_text content, es_text *key, es_text *error) {
  es_area area = {0};
  es_import_put_blob(content.at, content.len, &area);
  return es_answered(&area, key, error);
}

static inline bool es_get_blob(es_text key, es_text *content, bool *found, es_text *error) {
  es_area area = {0};
  es_import_get_blob(key.at, key.len, &area);
  if (es_failed(&area, error)) return false;
  *found = area.option.inner & 0xff;
  *content = *found ? es_taken(area.option.at, area.option.len) : (es_text){"", 0};
  return true;
}

// The bytes from `start` to before `end` of those under `key`, clipped to the last one.
static inline bool es_get_blob_range(es_text key, uint64_t start, uint64_t end, es_text *content,
                                     bool *found, es_text *error) {
  es_area area = {0};
  es_import_get_blob_range(key.at, key.len, start, end, &area);
  if (es_failed(&area, error)) return false;
  *found = area.option.inner & 0xff;
  *content = *found ? es_taken(area.option.at, area.option.len) : (es_text){"", 0};
  return true;
}

// Publishes an event of the app.
static inline bool es_publish(const char *subject, const char *content_type, es_text body,
                              es_text *error) {
  es_area area = {0};
  es_import_publish(subject, strlen(subject), content_type, strlen(content_type), body.at,
                    body.len, &area);
  return !es_failed(&area, error);
}

// Calls a function of the app, wherever it is served.
static inline bool es_call(const char *name, es_text body, es_text *answer, es_text *error) {
  es_area area = {0};
  es_import_call(name, strlen(name), body.at, body.len, &area);
  return es_answered(&area, answer, error);
}

enum es_level { ES_DEBUG, ES_INFO, ES_WARN, ES_ERROR };

static inline void es_log(enum es_level level, es_text line) {
  es_import_log(level, line.at, line.len);
}

// A setting or a secret; false where there is none.
static inline bool es_config(const char *key, es_text *value) {
  es_area area = {0};
  es_import_config(key, strlen(key), &area);
  if (!(area.tag & 0xff)) return false;
  *value = es_taken(area.value.at, area.value.len);
  return true;
}

// ---- what you write; false: `error` is the handler's, and an event comes again ----

#ifdef EDGESCALE_CALL
typedef struct {
  es_text id, name, content_type, body;
} es_request;

typedef struct {
  es_text content_type, body;
} es_response;

bool handle_call(const es_request *request, es_response *response, es_text *error);

static struct {
  uint32_t failed;
  es_text first, second;
} es_call_result;

__attribute__((export_name("handle-call"))) void *es_export_call(
    char *id, size_t id_len, char *name, size_t name_len, char *type, size_t type_len, char *body,
    size_t body_len) {
  es_request request = {es_taken(id, id_len), es_taken(name, name_len), es_taken(type, type_len),
                        es_taken(body, body_len)};
  es_response response = {es_text_of("application/json"), {"", 0}};
  es_text error = {"", 0};
  es_call_result.failed = !handle_call(&request, &response, &error);
  es_call_result.first = es_call_result.failed ? error : response.content_type;
  es_call_result.second = response.body;
  return &es_call_result;
}

__attribute__((export_name("cabi_post_handle-call"))) void es_post_call(void *result) {
  (void)result;
  es_free_all();
}
#endif

#ifdef EDGESCALE_EVENT
typedef struct {
  es_text id, source, subject, time, content_type, body;
  uint32_t attempt;
} es_event;

bool handle_event(const es_event *event, es_text *error);

static struct {
  uint32_t failed;
  es_text error;
} es_event_result;

__attribute__((export_name("handle-event"))) void *es_export_event(
    char *id, size_t id_len, char *source, size_t source_len, char *subject, size_t subject_len,
    char *time, size_t time_len, char *type, size_t type_len, char *body, size_t body_len,
    uint32_t attempt) {
  es_event event = {es_taken(id, id_len),           es_taken(source, source_len),
                    es_taken(subject, subject_len), es_taken(time, time_len),
                    es_taken(type, type_len),       es_taken(body, body_len),
                    attempt};
  es_event_result.error = (es_text){"", 0};
  es_event_result.failed = !handle_event(&event, &es_event_result.error);
  return &es_event_result;
}

__attribute__((export_name("cabi_post_handle-event"))) void es_post_event(void *result) {
  (void)result;
  es_free_all();
}
#endif

#ifdef EDGESCALE_HTTP
typedef struct {
  es_text name, value;
} es_pair;

typedef struct {
  const es_pair *at;
  size_t len;
} es_pairs;

typedef struct {
  es_text id, method, path, query, authority;
  es_pairs headers;
  es_text route;
  es_pairs parameters;
  es_text body;
} es_http_request;

typedef struct {
  uint16_t status;
  es_pairs headers;
  es_text body;
} es_http_response;

bool handle_http(const es_http_request *request, es_http_response *response, es_text *error);

// The first value of a header or a parameter, or nothing.
static inline es_text es_find(es_pairs pairs, const char *name) {
  for (size_t at = 0; at < pairs.len; at++)
    if (pairs.at[at].name.len == strlen(name) && !memcmp(pairs.at[at].name.at, name, strlen(name)))
      return pairs.at[at].value;
  return (es_text){"", 0};
}

static inline void es_take_pairs(es_pairs pairs) {
  es_taken(pairs.at, pairs.len);
  for (size_t at = 0; at < pairs.len; at++) {
    es_taken(pairs.at[at].name.at, pairs.at[at].name.len);
    es_taken(pairs.at[at].value.at, pairs.at[at].value.len);
  }
}

static struct {
  uint32_t failed;
  union {
    es_http_response response;
    es_text error;
  } is;
} es_http_result;

__attribute__((export_name("handle-http"))) void *es_export_http(es_http_request *request) {
  es_own(request);
  const es_text texts[] = {request->id,        request->method, request->path, request->query,
                           request->authority, request->route,  request->body};
  for (size_t at = 0; at < sizeof texts / sizeof *texts; at++)
    es_taken(texts[at].at, texts[at].len);
  es_take_pairs(request->headers);
  es_take_pairs(request->parameters);
  es_http_response response = {200, {NULL, 0}, {"", 0}};
  es_text error = {"", 0};
  es_http_result.failed = !handle_http(request, &response, &error);
  if (es_http_result.failed) es_http_result.is.error = error;
  else es_http_result.is.response = response;
  return &es_http_result;
}

__attribute__((export_name("cabi_post_handle-http"))) void es_post_http(void *result) {
  (void)result;
  es_free_all();
}
#endif

#endif
