"""A headless Chromium that tests and benchmarks ask what a page shows, over a pipe of the DevTools protocol."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Page", "browser", "find_chromium"]

_FLAGS = (
    "--headless", "--no-sandbox", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1", "--remote-debugging-pipe",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--host-resolver-rules=MAP * ~NOTFOUND",  # without a network
)  # fmt: skip


def find_chromium() -> str | None:
    """Where Chromium is, or Chrome; None where there is neither."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Page:
    """A tab.

    Args:
        to_browser: Where to write commands.
        from_browser: Where answers come.
        patience: Seconds to wait for any of them.
    """

    def __init__(self, to_browser: int, from_browser: int, patience: float = 120.0) -> None:
        self._to, self._from, self._patience = to_browser, from_browser, patience
        self._sent, self._received, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command of the DevTools protocol and wait for its answer; events meanwhile are kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def close_browser(self) -> None:
        """End Chromium with everything that belongs to it."""
        self._session = ""
        self.command("Browser.close")

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + self._patience
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self._from, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("Chromium does not answer")
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it becomes."""
        result = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, path: Path, width: int = 900, height: int = 600) -> float:
        """Open a view; returns after how many milliseconds everything was drawn, as the page measured it."""
        self.events.clear()
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        self.command("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + self._patience
        while (drawn := self.evaluate("document.documentElement?.dataset.drawn ?? null")) is None:
            assert time.monotonic() < until, self.complaints()
            time.sleep(0.02)
        return float(drawn)

    def choose(self, selector: str, value: float | str | bool) -> None:
        """Set what a reader sets with the mouse, and wait until it is drawn."""
        key, kind = ("checked", "change") if isinstance(value, bool) else ("value", "input")
        self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.{key} = {json.dumps(value)};"
            f" one.dispatchEvent(new Event('{kind}', {{ bubbles: true }})); }})()"
        )
        self.wait()

    def wait(self) -> None:
        """Until the next pictures are on the screen."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector: str) -> str:
        """What is written somewhere; nothing where it is hidden."""
        return str(
            self.evaluate(
                f"(one => one.checkVisibility() ? one.innerText : '')(document.querySelector({json.dumps(selector)}))"
            )
        )

    def move_mouse(self, x: float, y: float) -> None:
        """Point somewhere, pixels from the top left corner."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.wait()

    def screenshot(self) -> NDArray[np.uint8]:
        """(height, width, 3), what is seen."""
        return np.asarray(Image.open(io.BytesIO(self.png())).convert("RGB"))

    def png(self) -> bytes:
        """The same as a file."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])

    def requests(self) -> list[str]:
        """What the page has asked for since it was opened, itself and what it has made itself left out."""
        asked = [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]
        return [url for url in asked[1:] if not url.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """Errors and warnings since it was opened."""
        found = []
        for one in self.events:
            what = one.get("params", {})
            if one["method"] == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
                found.append(what["entry"]["text"])
            elif one["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(what["exceptionDetails"]))
        return found


@contextmanager
def browser(chromium: str) -> Iterator[Page]:
    """Start Chromium with a profile of its own; it ends with the block."""
    command_end, to_browser = os.pipe()
    from_browser, answer_end = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads commands from file descriptor 3 and answers on 4
        script = f'exec "$0" "$@" 3<&{command_end} 4>&{answer_end}'
        process = subprocess.Popen(
            ["bash", "-c", script, chromium, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(command_end, answer_end), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(command_end)
        os.close(answer_end)
        try:
            page = Page(to_browser, from_browser)
            yield page
            with suppress(OSError, TimeoutError):
                page.close_browser()
        finally:
            os.close(to_browser)
            os.close(from_browser)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
