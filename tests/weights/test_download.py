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
    """``/file`` is sent whole; ``/breaks`` ends after half of it; ``/unsized`` does not say how long it is."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        path, data = self.path.partition(".")[0], server.data
        if path not in ("/file", "/breaks", "/unsized"):
            self.send_error(404)
            return
        self.send_response(200)
        if path != "/unsized":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if path == "/breaks" else data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tiny_weights, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.data, server.requests = tiny_weights.read_bytes(), []
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.hash = hashlib.sha256(server.data).hexdigest()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
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
    assert again.status == 0 and "already there" in again.out and len(server.requests) == 1
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


@pytest.mark.parametrize("with_hash", [True, False])
def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path, with_hash):
    """Also where no hash would tell that half of the file is missing."""
    half, sha256 = len(server.data) // 2, server.hash if with_hash else None
    with pytest.raises(FetchError, match=rf"broke off after {half} of {len(server.data)} bytes .*Run the same command"):
        fetch(f"{server.url}/breaks", sha256, tmp_path / "w.pt")
    assert not list(tmp_path.iterdir())


def test_the_progress_ends_with_all_bytes(server, tmp_path):
    calls, size = [], len(server.data)
    assert fetch(f"{server.url}/file", None, tmp_path / "w.pt", lambda *call: calls.append(call)) == server.hash
    assert calls[0] == (0, size) and calls[-1] == (size, size)


def test_a_server_that_does_not_say_the_size(server, tmp_path):
    fetch(f"{server.url}/unsized", server.hash, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == server.data


def test_a_failed_download_keeps_the_file_that_was_there(server, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"older")
    with pytest.raises(FetchError):
        fetch(f"{server.url}/file", "0" * 64, tmp_path / "w.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"] and (tmp_path / "w.pt").read_bytes() == b"older"


def test_a_disk_that_cannot_be_written_is_not_the_servers_fault(server, tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(FileExistsError):
        fetch(f"{server.url}/file", None, tmp_path / "folder" / "w.pt")


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


def test_an_interrupted_attempt_of_another_process_does_no_harm(server, tmp_path):
    (tmp_path / "w.pt.1.part").write_bytes(b"half")
    fetch(f"{server.url}/file", server.hash, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == server.data
    assert (tmp_path / "w.pt.1.part").read_bytes() == b"half"


@pytest.mark.parametrize("name", ["aot_gan", "big_lama", "migan", "migan_256", "lama_fourier", "zits"])
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
