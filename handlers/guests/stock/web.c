// A stock component of wasi:http and wasi:keyvalue in C, by the bindings of wit-bindgen: does what
// the path says.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "web.h"

static bool is(const web_string_t *path, const char *wanted) {
  size_t len = strlen(wanted);
  bool begins = path->len >= len && memcmp(path->ptr, wanted, len) == 0;
  return begins && (path->len == len || path->ptr[len] == '?');
}

static web_list_u8_t text(const char *text) {
  return (web_list_u8_t){(uint8_t *)text, strlen(text)};
}

// The whole body of a request.
static web_list_u8_t read_all(wasi_http_types_own_incoming_request_t request) {
  web_list_u8_t all = {0}, part;
  wasi_http_types_own_incoming_body_t body;
  wasi_http_types_own_input_stream_t stream;
  wasi_io_streams_stream_error_t end;
  if (!wasi_http_types_method_incoming_request_consume(
          wasi_http_types_borrow_incoming_request(request), &body))
    abort();
  if (!wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body),
                                                   &stream))
    abort();
  while (wasi_io_streams_method_input_stream_blocking_read(
      wasi_io_streams_borrow_input_stream(stream), 4096, &part, &end)) {
    all.ptr = realloc(all.ptr, all.len + part.len + 1);
    memcpy(all.ptr + all.len, part.ptr, part.len);
    all.len += part.len;
    web_list_u8_free(&part);
  }
  if (end.tag != WASI_IO_STREAMS_STREAM_ERROR_CLOSED) abort();
  wasi_io_streams_input_stream_drop_own(stream);
  wasi_http_types_incoming_body_drop_own(body);
  return all;
}

// Keeps a value, and reads it back; a bucket that nobody has is an error with a name.
static web_list_u8_t keep(web_list_u8_t value) {
  wasi_keyvalue_store_own_bucket_t bucket;
  wasi_keyvalue_store_error_t error;
  web_option_list_u8_t found;
  web_string_t missing, name, key;
  web_string_set(&missing, "absent");
  web_string_set(&name, "default");
  web_string_set(&key, "one");
  if (wasi_keyvalue_store_open(&missing, &bucket, &error)) return text("opened");
  if (error.tag != WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE) return text("another error");
  if (!wasi_keyvalue_store_open(&name, &bucket, &error)) return text("not opened");
  wasi_keyvalue_store_borrow_bucket_t in = wasi_keyvalue_store_borrow_bucket(bucket);
  if (!wasi_keyvalue_store_method_bucket_set(in, &key, &value, &error)) return text("not set");
  if (!wasi_keyvalue_store_method_bucket_get(in, &key, &found, &error)) return text("not got");
  wasi_keyvalue_store_bucket_drop_own(bucket);
  return found.is_some ? found.val : text("nothing");
}

__attribute__((noinline)) static void give_up(int depth) {
  if (depth > 2) __builtin_trap();
  give_up(depth + 1);
  printf("not reached\n");
}

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t response_out) {
  web_string_t path;
  web_list_u8_t answer = text("who?");
  int status = 200;
  if (!wasi_http_types_method_incoming_request_path_with_query(
          wasi_http_types_borrow_incoming_request(request), &path))
    abort();
  if (is(&path, "/echo")) {
    answer = read_all(request);
  } else if (is(&path, "/keep")) {
    answer = keep(read_all(request));
  } else if (is(&path, "/trap")) {
    fprintf(stderr, "about to give up\n");
    give_up(0);
  } else {
    status = 404;
  }

  wasi_http_types_own_outgoing_response_t response =
      wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
  wasi_http_types_borrow_outgoing_response_t head =
      wasi_http_types_borrow_outgoing_response(response);
  wasi_http_types_own_outgoing_body_t body;
  wasi_http_types_own_output_stream_t stream;
  wasi_io_streams_stream_error_t broken;
  wasi_http_types_error_code_t error;
  wasi_http_types_method_outgoing_response_set_status_code(head, status);
  wasi_http_types_method_outgoing_response_body(head, &body);
  wasi_http_types_result_own_outgoing_response_error_code_t ok = {.val.ok = response};
  wasi_http_types_static_response_outparam_set(response_out, &ok);
  wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream);
  for (size_t at = 0; at < answer.len; at += 4096) {
    size_t left = answer.len - at;
    web_list_u8_t part = {answer.ptr + at, left < 4096 ? left : 4096};
    if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(
            wasi_io_streams_borrow_output_stream(stream), &part, &broken))
      abort();
  }
  wasi_io_streams_output_stream_drop_own(stream);
  wasi_http_types_static_outgoing_body_finish(body, NULL, &error);
  wasi_http_types_incoming_request_drop_own(request);
}
