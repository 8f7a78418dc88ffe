"""Starts the stock Lambda client (awslambdaric) for a Python function.

Three things are added, all outside of the client's way: a function with one parameter is called
as OpenWhisk calls it, `main(args) -> dict`; `module:application` is a WSGI application; and where
every event wants a fresh interpreter, each is handled by a fork of the one that has imported
everything, which was made before the event came.
"""

import gc
import os
import select
import sys

from awslambdaric import __main__ as client
from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

# One that handles an event, and two that wait: the next event does not wait for a fork.
FORKS = 3
VARIADIC = 0x04  # CO_VARARGS of the interpreter's code objects


def takes_one(function):
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount == 1 and not code.co_flags & VARIADIC


def openwhisk(function):
    """Arguments are the data of the event or call, and the rows of its inputs; what is no object
    has the key `value`."""

    def handler(event, context):
        event = event if isinstance(event, dict) else {"data": event}
        data = event.get("data")
        if data is None:
            data = {}
        data = data if isinstance(data, dict) else {"value": data}
        return function({**data, **event.get("inputs", {})})

    return handler


def get_handler(name, stock=bootstrap._get_handler):
    if ":" in name:
        import wsgi

        return wsgi.lambda_of(stock(name.replace(":", ".")))
    function = stock(name)
    return openwhisk(function) if takes_one(function) else function


def next_in_fork(runtime, stock=LambdaRuntimeClient.wait_next_invocation):
    """Returns in forks only, each time in another, with the event that this one is to handle.
    Others wait meanwhile; another is made when one has ended, not while its event waits for the
    answer: that would take a core from it."""
    waiting, forks = select.poll(), {}

    def fork():
        child = os.fork()
        if child == 0:
            rehearse()
            return stock(runtime)
        end = os.pidfd_open(child)
        forks[end] = child
        waiting.register(end, select.POLLIN)

    rehearse()
    gc.freeze()
    while True:
        while len(forks) < FORKS:
            request = fork()
            if request is not None:
                return request
        end, _ = waiting.poll()[0]
        waiting.unregister(end)
        os.close(end)
        see_off(forks.pop(end))


class Nobody:
    """Takes the answer of a rehearsal."""

    marshaller = LambdaRuntimeClient.marshaller

    def post_invocation_result(self, *_):
        pass


def rehearse(stock=bootstrap.handle_event_request):
    """Does what the client does for an event, but for the function: memory that this writes to is
    copied from the parent before an event comes, not when it has come."""
    document, kind = b'{"kind": "event", "data": {"name": ["a", 1, 0.5, null]}}', "application/json"
    try:
        stock(Nobody(), lambda event, _: event, "", document, kind, None, None, "", 0, None, None)
    except Exception:
        pass  # Another client; it is only slower.


def see_off(child):
    _, status = os.waitpid(child, 0)
    if status != 0:
        # The function ended the process; so does this one, and the node learns how.
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code > 0 else 128 - code)


def handle_and_end(*arguments, stock=bootstrap.handle_event_request):
    stock(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


bootstrap._get_handler = get_handler
if os.environ.pop("EDGESCALE_FRESH", ""):
    LambdaRuntimeClient.wait_next_invocation = next_in_fork
    bootstrap.handle_event_request = handle_and_end
    gc.disable()

client.main([sys.argv[0], sys.argv[1]])
