"""A front end that fails on any message nobody asserted, on any channel, before, between and after what was asked."""

import re

import zmq
from jupyter_client.session import Session


class FrontEnd:
    """Sockets of its own on a running kernel's ports. What a test does not read is an error when the front end closes."""

    def __init__(self, info):
        key = info["key"]
        self.session = Session(key=key if isinstance(key, bytes) else key.encode())
        context = zmq.Context.instance()
        self.sockets = {}
        for name in ("shell", "control", "stdin"):
            socket = context.socket(zmq.DEALER)
            socket.identity = self.session.bsession
            self.sockets[name] = socket
        self.sockets["iopub"] = context.socket(zmq.SUB)
        self.sockets["iopub"].subscribe(b"")
        for name, socket in self.sockets.items():
            socket.linger = 0
            socket.connect(f"tcp://{info['ip']}:{info[name + '_port']}")
        assert self.next("iopub")["msg_type"] == "iopub_welcome"

    def send(self, msg_type, content, channel="shell", **header):
        message = self.session.msg(msg_type, content, **header)
        self.session.send(self.sockets[channel], message)
        return message["header"]["msg_id"]

    def execute(self, code, **options):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True, **options}
        metadata = content.pop("metadata", None)
        return self.send("execute_request", content, metadata=metadata)

    def next(self, channel, timeout=20):
        assert self.sockets[channel].poll(timeout * 1000), f"nothing came on {channel} within {timeout} s"
        _, parts = self.session.feed_identities(self.sockets[channel].recv_multipart())
        return self.session.deserialize(parts)

    def expect(self, msg_id, *expected, reply=None, channel="shell"):
        """The next iopub messages, exactly; and the reply. A message is its type, or (type, content subset)."""
        for wanted in expected:
            message = self.next("iopub")
            kind, content = wanted if isinstance(wanted, tuple) else (wanted, {})
            shown = f"{message['msg_type']} {str(message['content'])[:300]}"
            assert message["parent_header"].get("msg_id") == msg_id, f"of another request: {shown}"
            assert message["msg_type"] == kind, f"{shown} instead of {wanted}"
            for name, value in content.items():
                found = message["content"][name]
                assert value.fullmatch(found) if isinstance(value, re.Pattern) else found == value, f"{name}: {found!r} instead of {value!r}"
        if reply is not None:
            message = self.next(channel)
            assert message["parent_header"]["msg_id"] == msg_id and message["msg_type"] == reply[0], message["msg_type"]
            for name, value in reply[1].items():
                assert message["content"][name] == value, f"{name}: {message['content'][name]!r} instead of {value!r}"
            return message["content"]

    def close(self):
        """Nothing may be left, and nothing more may come."""
        left = []
        for name, socket in self.sockets.items():
            while socket.poll(150):
                _, parts = self.session.feed_identities(socket.recv_multipart())
                message = self.session.deserialize(parts)
                left.append((name, message["msg_type"], str(message["content"])[:200]))
            socket.close()
        assert left == [], f"nobody asserted {left}"


BUSY = ("status", {"execution_state": "busy"})
IDLE = ("status", {"execution_state": "idle"})


def stdout(text):
    return ("stream", {"name": "stdout", "text": text})
