"""The app as a server: on this computer alone, without anybody else's, and without a trace when it ends."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from smp_feedback.app.served import ServedModel
from smp_feedback.app.uploads import Limits
from smp_feedback.errors import InvalidValue, require

HOST = "127.0.0.1"
OURS = "smp-feedback-app-"  # begins the name of the folder for what is uploaded
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may fetch for the page: nothing from anywhere else."""


def serve(
    found: ServedModel,
    limits: Limits,
    *,
    tell: Callable[[str], None],
    host: str = HOST,
    port: int | None = None,
    browser: bool = False,
) -> None:
    """Serve the page of *found* until Ctrl-C, or until the process is told to stop.

    Args:
        found: The model.
        limits: What may be uploaded.
        tell: Called with each line to say.
        host: Where to listen; 127.0.0.1 is this computer alone.
        port: Where; None is the first free one from 7860.
        browser: Whether to open the page in the browser of this computer.

    Raises:
        MissingExtra: If gradio is not installed.
        InvalidValue: If nobody can listen there.
    """
    require("gradio", extra="app")
    check_address(host, port)
    with own_folder() as folder, until_stopped() as stopped:
        closed_environment(folder, host)
        page = launched(found, limits, folder, host, port)
        try:
            if not is_loopback(host):
                tell(f"warning: listens on {host}: whoever reaches it can use the model, without a password")
            tell(f"open {page.local_url} in a browser; Ctrl-C ends it")
            if browser:
                _open(page.local_url)
            stopped.wait()
        finally:
            found.stop()
            page.close(verbose=False)
    tell("stopped; what was uploaded is deleted")


def launched(found: ServedModel, limits: Limits, folder: Path, host: str, port: int | None) -> Any:
    """The page of *found*, served on *host*; its ``local_url`` is where, and ``close()`` ends it.

    All files go to *folder*, one of :func:`own_folder`, which :func:`closed_environment` was told before.
    """
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from smp_feedback.app.page import STYLE, THEME, build_page

    downloads = folder / "downloads"
    downloads.mkdir(exist_ok=True)
    page = build_page(found, limits, downloads)
    known = [HOST, "localhost", "[::1]"] if is_loopback(host) else ["*"]
    closed: list[Any] = [Middleware(OurselvesAlone), Middleware(TrustedHostMiddleware, allowed_hosts=known)]
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=limits.nbytes,
            theme=gr.themes.Default(**THEME),
            css=STYLE,
            app_kwargs={"middleware": closed, "openapi_url": None},
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            state_session_capacity=32,
        )
    except OSError as error:
        raise InvalidValue(_nobody(host, port, error)) from None
    return page


def check_address(host: str, port: int | None) -> None:
    """Somebody can listen on *host*, and on its *port* if one is named: gradio would wait for a host that is not ours.

    Raises:
        InvalidValue: If nobody can.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # free a moment after another app ended
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        raise InvalidValue(_nobody(host, port, error)) from None


def _nobody(host: str, port: int | None, error: Exception) -> str:
    where = host if port is None else f"{host} port {port}"
    return f"Nobody can listen on {where}: {error}. Give another --host or --port, or none."


class OurselvesAlone:
    """Tells browsers with every answer that the page fetches nothing from elsewhere (an ASGI middleware)."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self.app(scope, receive, told)


@contextmanager
def own_folder() -> Iterator[Path]:
    """Context: a folder for all that is uploaded and made; nobody else can read it, and it goes with the context.

    >>> with own_folder() as folder:
    ...     written = (folder / "a").write_text("a")
    >>> folder.exists()
    False
    """
    with tempfile.TemporaryDirectory(prefix=OURS, ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


def closed_environment(folder: Path, host: str) -> None:
    """Let gradio keep its files in *folder*, tell nobody, and ask no proxy for *host*; forget what else it was told."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_TEMP_DIR": str(folder / "cache"), "GRADIO_ANALYTICS_ENABLED": "False"}
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host, HOST, "localhost")))


def is_loopback(host: str) -> bool:
    """Whether who listens on *host* is reached from this computer alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("a.example")
    (True, True, False, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def until_stopped() -> Iterator[threading.Event]:
    """Context: what is set by Ctrl-C, or by SIGTERM, so that what is begun is ended."""
    stopped = threading.Event()
    before = {one: signal.signal(one, lambda *_: stopped.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open(url: str) -> None:
    import webbrowser

    webbrowser.open(url)
