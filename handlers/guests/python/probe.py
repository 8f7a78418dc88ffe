"""The smallest guest in Python: answers a call, and counts."""

import json
import sys

from componentize_py_types import Err
from wit_world.imports import inputs, log, store
import wit_world


class WitWorld(wit_world.WitWorld):
    def handle_call(self, request: inputs.Request) -> inputs.Response:
        log.write(log.Level.INFO, f"call {request.name}")
        print("to stdout", flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        if request.name == "raise":
            raise Err("raised on purpose")
        store.increment("things", json.dumps({"id": "n"}), json.dumps({"count": 1}))
        return inputs.Response("application/json", json.dumps({"got": len(request.body)}).encode())
