"""A headless Chromium, steered through its DevTools pipe: no driver, no package, no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """One page. ``script`` runs JavaScript in it, ``go`` and ``press`` wait for the page that they lead to."""

    def __init__(self, width: int = 1200, height: int = 900, *, dark: bool = False) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        ours_out, ours_in = self._launch(f"--user-data-dir={self._profile.name}")
        self._to = os.fdopen(ours_out, "wb", buffering=0)
        self._from = os.fdopen(ours_in, "rb")
        self._number = 0
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.show(width, height, dark=dark)

    def _launch(self, *flags: str) -> tuple[int, int]:
        """Chromium reads commands on its descriptor 3 and answers on 4."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (theirs_in, theirs_out)]

        def rename() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS, *flags],
            preexec_fn=rename,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        return ours_out, ours_in

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Chromium has ended")
            data += byte
        message: dict[str, Any] = json.loads(data)
        return message

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def script(self, expression: str) -> Any:
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def go(self, url: str) -> None:
        self._leave()
        self.ask("Page.navigate", url=url)
        self._arrive()

    def press(self, selector: str) -> None:
        self._leave()
        self.script(f"document.querySelector({json.dumps(selector)}).click()")
        self._arrive()

    def reload(self) -> None:
        """Sends the form again that led to this page, if one did."""
        self._leave()
        self.ask("Page.reload")
        self._arrive()

    def back(self) -> None:
        """To the page before, as it was left; it must have another address."""
        here = self.script("location.href")
        self.script("history.back()")
        self._until(f"location.href !== {json.dumps(here)} && document.readyState === 'complete'")

    def fill(self, selector: str, text: str) -> None:
        """Types it, as a keyboard would."""
        self.script(f"document.querySelector({json.dumps(selector)}).focus()")
        self.ask("Input.insertText", text=text)

    def text(self, selector: str) -> str:
        return str(self.script(f"document.querySelector({json.dumps(selector)}).innerText"))

    def _leave(self) -> None:
        self.script("window.isOld = true")

    def _arrive(self) -> None:
        self._until("!window.isOld && document.readyState === 'complete'")

    def _until(self, true: str, patience: float = 20.0) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                if self.script(true):
                    return
            except RuntimeError:  # between two pages there is nowhere to run a script
                pass
            time.sleep(0.05)
        raise TimeoutError("no new page came")

    def screenshot(self, path: Path) -> None:
        """Of the whole page, however long."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self._to.close()
        self._process.terminate()
        self._process.wait(10)
        self._from.close()
        self._profile.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
