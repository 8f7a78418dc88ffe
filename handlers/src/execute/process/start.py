"""Starts the stock Lambda client (awslambdaric) for a Python function.

Three things are added, all outside of the client's way: a function with one parameter is called
as OpenWhisk calls it, `main(args) -> dict`; `module:application` is a WSGI application; and where
every event wants a fresh interpreter, each is handled by a fork of the one that has imported
everything.
"""

import os
import sys

from awslambdaric import __main__ as client
from awslambdaric import bootstrap

VARIADIC = 0x04  # CO_VARARGS of the interpreter's code objects


def takes_one(function):
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount == 1 and not code.co_flags & VARIADIC


def openwhisk(function):
    """Arguments are the data of the event or call; what is no object has the key `value`."""

    def handler(event, context):
        data = event.get("data") if isinstance(event, dict) else event
        if data is None:
            data = {}
        return function(data if isinstance(data, dict) else {"value": data})

    return handler


def get_handler(name, stock=bootstrap._get_handler):
    if ":" in name:
        import wsgi

        return wsgi.lambda_of(stock(name.replace(":", ".")))
    function = stock(name)
    return openwhisk(function) if takes_one(function) else function


def handle_in_fork(*arguments, stock=bootstrap.handle_event_request):
    child = os.fork()
    if child == 0:
        stock(*arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        # The function ended the process; so does this one, and the node learns how.
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code > 0 else 128 - code)


bootstrap._get_handler = get_handler
if os.environ.pop("EDGESCALE_FRESH", ""):
    import gc

    bootstrap.handle_event_request = handle_in_fork
    gc.disable()
    gc.freeze()

client.main([sys.argv[0], sys.argv[1]])
