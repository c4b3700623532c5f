"""`refine fetch` against a server on this machine, and weights found in the cache."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from generated import refine

import refine as package
from refine.config import compose
from refine.factory import make_backbone
from refine.weights.checkpoint import UnusableWeights
from refine.weights.download import FetchError, cache_path, cached, fetch


class Handler(BaseHTTPRequestHandler):
    """``/file`` in full or in part; ``/plain`` knows no parts; ``/breaks`` ends after half of what is left."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        path, data = self.path.partition(".")[0], server.data
        if path not in ("/file", "/plain", "/breaks", "/unsized"):
            self.send_error(404)
            return
        start = 0
        if (asked := self.headers.get("Range")) and path != "/plain":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            self.send_error(416)
            return
        body = data[start:]
        self.send_response(206 if start else 200)
        if path != "/unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if path == "/breaks" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tiny_weights, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.data, made.asked = tiny_weights.read_bytes(), []
        made.url = f"http://127.0.0.1:{made.server_port}"
        made.hash = hashlib.sha256(made.data).hexdigest()
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "refine"


@pytest.fixture
def card(tmp_path):
    """Writes the YAML of a backbone."""

    def write(url, sha256="null", manual="null", license="Do as you like.\\nBut name us."):
        file = tmp_path / "mine.yaml"
        file.write_text(
            "_target_: refine.backbones.lama.adapter.LaMa\nname: mine\nweights: null\nnative_size: 16\n"
            f'card: {{url: "{url}", sha256: "{sha256}", manual: {manual}, license: "{license}"}}\n'.replace(
                '"null"', "null"
            )
        )
        return file

    return write


def test_fetched_weights_are_verified_cached_and_found_by_name(server, card, cache):
    file = card(f"{server.url}/file.safetensors", server.hash.upper())
    outcome = refine("fetch", file)
    assert outcome.status == 0
    assert "license of 'mine': Do as you like.\nBut name us." in outcome.out
    assert f"{cache / 'mine.safetensors'}\nsha256 {server.hash}, verified" in outcome.out
    assert [path.name for path in cache.iterdir()] == ["mine.safetensors"]
    assert (cache / "mine.safetensors").read_bytes() == server.data
    again = refine("fetch", f"backbone={file}")
    assert again.status == 0 and "already there" in again.out and len(server.asked) == 1
    backbone = package.load(f"backbone={file}", "device=cpu").backbone
    assert backbone(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16)).shape == (1, 3, 16, 16)


def test_another_folder_is_to_be_given(server, card, cache, tmp_path):
    folder = tmp_path / "a, b=c"
    outcome = refine("fetch", card(f"{server.url}/file"), f"cache={folder}")
    assert outcome.status == 0 and not cache.exists()
    assert "not verified" in outcome.out
    assert f"backbone.weights={folder / 'mine'}" in outcome.out
    assert (folder / "mine").read_bytes() == server.data


def test_given_weights_win_over_cached_ones(server, card, cache, tiny_weights):
    cache.mkdir(parents=True)
    (cache / "mine.pt").write_bytes(b"nonsense")
    file = card(server.url)
    package.load(f"backbone={file}", f"backbone.weights={tiny_weights}", "device=cpu")
    with pytest.raises(UnusableWeights, match=r"mine\.pt"):
        package.load(f"backbone={file}", "device=cpu")


def test_a_tiny_network_takes_nothing_from_the_cache(cache):
    cache.mkdir(parents=True)
    (cache / "aot_gan.pt").write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="RANDOM weights"):
        make_backbone(compose("check", ["backbone=aot_gan"]).backbone, tiny=True)


@pytest.mark.parametrize("name", ["", "a/b", "..", "/etc/passwd"])
def test_names_that_are_no_files_are_not_looked_for(name, cache):
    assert cached(name) is None


def test_a_download_that_breaks_off_is_continued(server, tmp_path):
    target, half = tmp_path / "w.pt", len(server.data) // 2
    with pytest.raises(FetchError, match=rf"broke off after {half} of {len(server.data)} bytes .*it continues"):
        fetch(f"{server.url}/breaks", server.hash, target)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt.part"]
    told = []
    fetch(f"{server.url}/file", server.hash, target, lambda done, total: told.append((done, total)))
    assert server.asked[-1] == ("/file", f"bytes={half}-")
    assert told[0] == (half, len(server.data)) and told[-1] == (len(server.data), len(server.data))
    assert target.read_bytes() == server.data and not (tmp_path / "w.pt.part").exists()


@pytest.mark.parametrize("path", ["plain", "unsized"])
def test_servers_that_know_no_parts_or_sizes(server, tmp_path, path):
    (tmp_path / "w.pt.part").write_bytes(b"old" if path == "plain" else server.data[:3])
    fetch(f"{server.url}/{path}", server.hash, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == server.data


def test_a_part_that_is_all_there(server, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(server.data)
    fetch(f"{server.url}/file", server.hash, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == server.data


def test_without_a_hash_nothing_is_continued(server, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(b"of another file")
    assert fetch(f"{server.url}/file", None, tmp_path / "w.pt") == server.hash
    assert server.asked == [("/file", None)]


def test_a_wrong_hash_leaves_nothing(server, card, cache):
    outcome = refine("fetch", card(f"{server.url}/file.pt", "0" * 64))
    assert outcome.status == 1 and f"sha256 {server.hash}; expected {'0' * 64}" in outcome.out
    assert not list(cache.iterdir())


def test_what_is_cached_is_held_against_the_hash(server, card, cache):
    cache.mkdir(parents=True)
    (cache / "mine.pt").write_bytes(b"another file")
    outcome = refine("fetch", card(f"{server.url}/file.pt", server.hash))
    assert outcome.status == 1 and "Move it away" in outcome.out
    assert (cache / "mine.pt").read_bytes() == b"another file"


def test_a_refusal(server, card, cache):
    outcome = refine("fetch", card(f"{server.url}/gone.zip"))
    assert outcome.status == 1 and "answers 404" in outcome.out
    assert f"put it at {cache / 'mine.zip'}" in outcome.out
    assert not list(cache.iterdir())


def test_offline(card, cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    outcome = refine("fetch", card("http://127.0.0.1:9/w.pt", "ab" * 32))
    assert outcome.status == 1 and "cannot be reached" in outcome.out
    expected = f"get http://127.0.0.1:9/w.pt (sha256 {'ab' * 32}) elsewhere and put it at {cache / 'mine.pt'}."
    assert expected in outcome.out


def test_other_kinds_of_addresses(card, cache):
    outcome = refine("fetch", card("file:///etc/passwd"))
    assert outcome.status == 1 and "begins with https://" in outcome.out


def test_two_at_once(server, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "w.pt.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process is fetching"):
            fetch(f"{server.url}/file", server.hash, tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["aot_gan", "big_lama", "migan", "migan_256", "lama_fourier"])
def test_what_has_no_known_address_is_said_so(name, cache):
    outcome = refine("fetch", name)
    assert outcome.status == 1
    assert "license of" in outcome.out and "fetch them by hand: " in outcome.out
    assert "github.com" in outcome.out and f"Put the file at {cache / name}." in outcome.out


def test_what_was_put_there_by_hand_is_found(cache, tiny_weights):
    cache.mkdir(parents=True)
    (cache / "lama.safetensors").write_bytes(tiny_weights.read_bytes())
    assert refine("fetch", "lama").status == 0
    assert package.load("backbone=lama", "device=cpu").backbone.sizes.width == 4


@pytest.mark.parametrize("name", ["mini", "cv2_ns"])
def test_nothing_to_fetch(name):
    outcome = refine("fetch", name)
    assert outcome.status == 0 and "nothing to fetch" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "fetch needs a backbone, for example: refine fetch big_lama. There are: aot_gan, big_lama"),
        (["cache=x"], "fetch needs a backbone"),
        (["nothing"], "nothing"),
        (["mini", "migan"], "cannot read the override 'migan'"),
        (["mini", "chache=x"], "there is no setting 'chache'"),
        (["mini", "backbone.name=a/b"], "expected the name of a file"),
    ],
)
def test_what_makes_no_sense(arguments, message):
    outcome = refine("fetch", *arguments)
    assert outcome.status == 2 and message in outcome.err


def test_places_in_the_cache(cache):
    assert cache_path("x", "https://a.b/c/d.ZIP?download=1") == cache / "x.zip"
    assert cache_path("x", "https://a.b/c/d.exe") == cache / "x"
    assert cache_path("x", None) == cache / "x"
