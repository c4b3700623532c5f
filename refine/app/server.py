"""Serves the page until it is told to end; then nothing of it is left."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
import torch
from starlette.middleware import Middleware

from refine.app.desks import Desks, Line
from refine.app.gate import Gate
from refine.app.handlers import Handlers
from refine.app.networks import Networks
from refine.app.page import CSS, HEAD, lay_out
from refine.config import ConfigError

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
FORM = 64 * 1024  # bytes that a form adds to the file in it
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # of the machine; none is fetched
MONO = ("ui-monospace", "Consolas", "monospace")


@contextlib.contextmanager
def serving(overrides: Sequence[str], backbones: Sequence[str]) -> Iterator[str]:
    """Inside, the page is served; gives its address.

    Args:
        overrides: Hydra's ``key=value`` of ``refine app``.
        backbones: Names that are offered besides the one in the overrides.

    Raises:
        ConfigError: If a setting makes no sense, or the port is taken.
    """
    networks = Networks(overrides, backbones)
    config = networks.config
    torch.set_num_threads(config.threads)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refine-app-", ignore_cleanup_errors=True)))
        stack.enter_context(_environment(root, config.host))
        desks = Desks(root / "desks", config.users, config.keep * 60)
        stack.callback(desks.clear)
        line = Line(config.waiting)
        stack.callback(line.close)
        page = _page(Handlers(networks, desks, line), config.keep * 60)
        try:
            address = _launch(page, root, networks)
        except OSError:
            raise ConfigError(
                f"host={config.host} port={config.port}: this address cannot be served, or another program does; give "
                "another, or port=0 for any that is free."
            ) from None
        stack.callback(page.close, verbose=False)
        end = threading.Event()
        stack.callback(end.set)
        threading.Thread(target=_tidy, args=(desks, end), daemon=True).start()
        yield address


def _page(handlers: Handlers, keep: float) -> gr.Blocks:
    """The page; Gradio deletes uploads after the time after which an idle desk is deleted, at least a minute."""
    with gr.Blocks(title="refine", analytics_enabled=False, delete_cache=(60, max(60, int(keep)))) as page:
        handlers.connect(page, lay_out(handlers.networks, handlers.config.upload))
    return page.queue(max_size=None, api_open=False, default_concurrency_limit=None)


def _launch(page: gr.Blocks, root: Path, networks: Networks) -> str:
    config = networks.config
    most = int(config.upload * 2**20)
    hosts = LOCAL if config.host in LOCAL else None
    _, address, _ = page.launch(
        server_name=config.host,
        server_port=config.port or _free_port(config.host),
        inbrowser=config.open,
        share=False,
        prevent_thread_lock=True,
        show_error=False,
        quiet=True,
        max_file_size=most,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        strict_cors=True,
        theme=gr.themes.Base(font=FONTS, font_mono=MONO),
        css=CSS,
        head=HEAD,
        app_kwargs={
            "middleware": [Middleware(Gate, root=root, most=most + FORM, hosts=hosts)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )
    return str(address)


def _free_port(host: str) -> int:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def _tidy(desks: Desks, end: threading.Event) -> None:
    while not end.wait(60):
        desks.tidy()


@contextlib.contextmanager
def _environment(root: Path, host: str) -> Iterator[None]:
    """Gradio is told some things in no other way. It asks itself whether it is there, for which no proxy is wanted."""
    variables = {"GRADIO_TEMP_DIR": str(root), "GRADIO_EXAMPLES_CACHE": str(root / "examples")}
    for name in ("no_proxy", "NO_PROXY"):
        variables[name] = ",".join(filter(None, [os.environ.get(name), *sorted(LOCAL), host]))
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
