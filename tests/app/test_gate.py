"""What the server lets through: its own page's requests and nothing else."""

import asyncio
import json
import os

import pytest

from refine.app.gate import CALL, Gate, fetches

HOST = "127.0.0.1:7860"


@pytest.fixture
def ask(tmp_path):
    """Ask the gate; gives status, headers and what came behind it: True if the application was reached."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "own.png").write_bytes(b"own")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "other").write_bytes(b"other")
    reached = []

    async def app(scope, receive, send):
        reached.append((await receive()).get("body") if scope["method"] == "POST" else scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"ok"})

    gate = Gate(app, tmp_path / "root", most=1000, hosts=frozenset({"127.0.0.1", "localhost"}))

    def asked(path, method="GET", body=b"", **headers):
        headers = {"host": HOST, **({"content_length": str(len(body))} if method == "POST" else {}), **headers}
        given = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items() if value]
        scope = {"type": "http", "method": method, "path": path.replace("ROOT", str(tmp_path)), "headers": given}
        sent, messages = [], [{"type": "http.request", "body": body}]

        async def receive():
            return messages.pop()

        async def send(message):
            sent.append(message)

        reached.clear()
        asyncio.run(gate(scope, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), bool(reached)

    return asked


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/queue/data", "/gradio_api/heartbeat/a1"]
)
def test_the_page_is_served_and_may_load_nothing_from_elsewhere(ask, path):
    status, headers, reached = ask(path)
    assert (status, reached) == (200, True)
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"cache-control"] == (b"public" if path.startswith("/assets/") else b"no-store")


def test_files_of_its_own_folder_alone_are_served(ask):
    assert ask("/gradio_api/file=ROOT/root/own.png")[0] == 200
    outside = ["/etc/passwd", "ROOT/secret", "ROOT/root/../secret", "ROOT/root/link", "ROOT/root2/other", "ROOT/root"]
    outside += [
        "root/own.png",
        "../secret",
        "~/x",
        "",
        "http://example.com/a.png",
        "file:///etc/passwd",
        "ROOT/root/\0",
    ]
    outside += [os.path.relpath("/etc/passwd"), "//etc/passwd", "/proc/self/environ"]
    for path in outside:
        assert ask(f"/gradio_api/file={path}")[::2] == (403, False), path


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://example.com", "/gradio_api/info", "/gradio_api/openapi.json", "/docs", "/monitoring",
        "/gradio_api/file/etc/passwd", "/gradio_api/custom_component/1/client/component/../../../etc/passwd",
        "/gradio_api/stream/a/1/1/playlist.m3u8", "/gradio_api/vibe-code", "/login", "/config/../etc",
        "/gradio_api/runs",
    ],
)  # fmt: skip
def test_what_the_page_does_not_need_is_not_there(ask, path):
    assert ask(path)[::2] == (404, False)
    assert ask(path, "POST", b"{}")[::2] == (404, False)
    assert ask("/", "DELETE")[::2] == (404, False)


def test_pages_of_others_are_refused(ask):
    assert ask("/", host="evil.example:7860")[::2] == (403, False)
    assert ask("/", host="")[::2] == (403, False)
    assert ask("/", host="localhost:7860")[0] == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        assert ask("/gradio_api/queue/join", "POST", b"{}", origin=origin)[::2] == (403, False)
    assert ask("/gradio_api/queue/join", "POST", b"{}", origin=f"http://{HOST}")[0] == 200


def test_bodies_have_a_limit(ask):
    assert ask("/gradio_api/upload", "POST", bytes(1000))[0] == 200
    assert ask("/gradio_api/upload", "POST", bytes(1001))[::2] == (413, False)
    assert ask("/gradio_api/component_server", "POST", b"", content_length="9" * 12)[::2] == (413, False)
    assert ask("/gradio_api/upload", "POST", b"x", content_length="")[::2] == (411, False)
    assert ask("/gradio_api/queue/join", "POST", bytes(CALL + 1))[::2] == (413, False)
    assert ask("/gradio_api/queue/join", "POST", b" " * (CALL + 1), content_length="2")[::2] == (403, False)


def test_the_server_fetches_nothing_for_anybody(ask):
    call = {"data": ["t", {"path": "http://169.254.169.254/", "meta": {"_type": "gradio.FileData"}}]}
    assert ask("/gradio_api/queue/join", "POST", json.dumps(call).encode())[::2] == (403, False)
    call["data"][1]["path"] = "/tmp/x/a.png"
    call["data"][1]["url"] = "http://127.0.0.1:7860/gradio_api/file=/tmp/x/a.png"
    assert ask("/gradio_api/queue/join", "POST", json.dumps(call).encode())[0] == 200
    assert fetches(b"no call") and not fetches(b'{"data": [1, null, "http://a text"]}')
