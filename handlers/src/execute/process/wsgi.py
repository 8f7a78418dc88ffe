"""WSGI applications (PEP 3333) behind the routes of an app.

A request comes as the event of an API Gateway HTTP API, payload format 2.0; the application is
asked as by any WSGI server, and what it gives goes back in the same format. What it leaves in
`environ["edgescale.outputs"]` stands beside that, for the outputs of the manifest.
"""

import base64
import io
import sys
from urllib.parse import unquote_to_bytes

PREFIX = "x-forwarded-prefix"
UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def lambda_of(application):
    """An AWS Lambda function that asks the application."""

    def handler(event, context):
        if "rawPath" not in event:
            raise TypeError("a WSGI application takes HTTP requests only")
        answer, request = Answer(), environ(event)
        outputs = request["edgescale.outputs"]
        parts = application(request, answer.start)
        try:
            for part in parts:
                answer.write(part)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return {**outputs, **answer.document()}

    return handler


def environ(event):
    """The environment of one request; text is latin-1 in disguise, as the standard has it."""
    http = event["requestContext"]["http"]
    headers = event["headers"]
    body = event.get("body") or ""
    body = base64.b64decode(body) if event["isBase64Encoded"] else body.encode()
    host, _, port = headers.get("host", event["requestContext"]["domainName"]).rpartition(":")
    scheme = headers.get("x-forwarded-proto", "http")
    found = {
        "REQUEST_METHOD": http["method"],
        "SCRIPT_NAME": headers.get(PREFIX, ""),
        "PATH_INFO": unquote_to_bytes(event["rawPath"]).decode("latin-1"),
        "QUERY_STRING": event["rawQueryString"],
        "SERVER_NAME": host or port,
        "SERVER_PORT": port if host else {"https": "443"}.get(scheme, "80"),
        "SERVER_PROTOCOL": http["protocol"],
        "REMOTE_ADDR": http["sourceIp"],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "edgescale.inputs": event.get("inputs", {}),
        "edgescale.outputs": {},
    }
    for name, value in headers.items():
        key = UNPREFIXED.get(name, "HTTP_" + name.upper().replace("-", "_"))
        found[key] = value
    if event.get("cookies"):
        found["HTTP_COOKIE"] = "; ".join(event["cookies"])
    found["CONTENT_LENGTH"] = str(len(body))
    return found


class Answer:
    """What the application says, gathered."""

    def __init__(self):
        self.status = None
        self.headers = []
        self.body = io.BytesIO()

    def start(self, status, headers, exc_info=None):
        if self.status is not None and exc_info is None:
            raise AssertionError("start_response was called a second time without exc_info")
        self.status, self.headers = int(status.split(" ", 1)[0]), headers
        return self.write

    def write(self, part):
        self.body.write(part)

    def document(self):
        if self.status is None:
            raise AssertionError("the application did not call start_response")
        several = {}
        for name, value in self.headers:
            several.setdefault(name.lower(), []).append(value)
        return {
            "statusCode": self.status,
            "multiValueHeaders": several,
            "body": base64.b64encode(self.body.getvalue()).decode(),
            "isBase64Encoded": True,
        }
