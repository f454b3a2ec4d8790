"""Pages as Chromium shows them, and that it reaches nothing by itself."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from crawler.browser import (
    EXECUTABLE_VARIABLE,
    Answer,
    Browser,
    BrowserMissing,
    PageBroken,
    Question,
    Rendered,
    chromium_executable,
)
from crawler.reveal import RevealLimits
from tests.crawler.site import JPEG
from tests.waiting import until

URL = "http://shop.example/list"


def _html(body: str) -> Answer:
    return Answer(status=200, headers=(("Content-Type", "text/html"),), body=body.encode())


def _answering(
    answers: Mapping[str, Answer], asked: list[str]
) -> Callable[[Question], Awaitable[Answer | None]]:
    """Answer by address; note what was asked for, and refuse the rest."""

    async def answer(question: Question) -> Answer | None:
        asked.append(question.url)
        return answers.get(question.url)

    return answer


def _render(body: str, answers: Mapping[str, Answer] | None = None) -> tuple[Rendered, list[str]]:
    """Return the page that `body` becomes, and what it asked for."""
    asked: list[str] = []

    async def run() -> Rendered:
        async with Browser(_answering(answers or {}, asked), user_agent="cratedig/test") as browser:
            return await browser.render(URL, _html(body))

    return asyncio.run(run()), asked


PICTURE = Answer(status=200, headers=(("Content-Type", "image/jpeg"),), body=JPEG)


def test_an_endless_page_is_scrolled_to_its_end() -> None:
    """Each batch comes when the last one has been scrolled into view; all five are there."""
    body = """<div id="list" style="min-height:3000px"></div><script>
      let batch = 0, busy = false;
      addEventListener("scroll", async () => {
        if (busy || batch >= 5 || scrollY + innerHeight < document.body.scrollHeight - 300) return;
        busy = true;
        const text = await (await fetch(`/more?batch=${batch++}`)).text();
        document.getElementById("list").insertAdjacentHTML("beforeend", text);
        busy = false;
      });</script>"""
    answers = {
        f"http://shop.example/more?batch={n}": _html(f'<p style="height:2000px">batch {n}</p>')
        for n in range(5)
    }
    rendered, _ = _render(body, answers)
    assert [n for n in range(9) if f"batch {n}</p>" in rendered.html] == [0, 1, 2, 3, 4]
    assert rendered.complete


def test_pictures_that_were_really_loaded_are_named() -> None:
    """A script's picture that never enters the page counts; refused and tiny ones do not."""
    body = """<img src="/shown.jpg"><img src="/refused.jpg"><img src="/pixel.gif">
      <script>new Image().src = "/unseen.jpg"</script>"""
    pixel = Answer(status=200, headers=(("Content-Type", "image/gif"),), body=b"GIF89a" + bytes(37))
    rendered, asked = _render(
        body,
        {
            "http://shop.example/shown.jpg": PICTURE,
            "http://shop.example/unseen.jpg": PICTURE,
            "http://shop.example/pixel.gif": pixel,
        },
    )
    assert sorted(rendered.pictures) == [
        "http://shop.example/shown.jpg",
        "http://shop.example/unseen.jpg",
    ]
    assert "http://shop.example/refused.jpg" in asked


def test_a_script_cannot_lead_elsewhere() -> None:
    """The page that was asked for is the page that is read."""
    rendered, asked = _render('<p>here</p><script>location = "http://other.example/"</script>')
    assert "<p>here</p>" in rendered.html
    assert asked == []


@contextmanager
def _listening() -> Iterator[tuple[int, list[str]]]:
    """Yield a port of this machine, and who has connected to it."""
    connected: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:  # closed: the test is over
                    return
                connected.append(peer[0])
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], connected
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_browser_opens_no_connection_itself() -> None:
    """Whatever a page tries, only what the caller answers is reached: a listener sees nobody."""
    with _listening() as (port, connected):
        here = f"127.0.0.1:{port}"
        body = f"""<link rel="preconnect" href="http://{here}"><link rel="prefetch" href="http://{here}/p">
          <img src="http://{here}/a.jpg"><iframe src="http://{here}/f"></iframe><p id="said"></p>
          <script>
            const tries = [fetch("http://{here}/x"), fetch("http://localhost:{port}/y")];
            tries.push(new Promise((good, bad) => {{
              const socket = new WebSocket("ws://{here}/w");
              socket.onopen = good; socket.onerror = bad; }}));
            navigator.sendBeacon("http://{here}/b", "x");
            Promise.allSettled(tries).then(ends => {{
              document.getElementById("said").textContent = ends.map(end => end.status).join(" "); }});
          </script>"""
        rendered, _ = _render(body)
        assert '<p id="said">rejected rejected rejected</p>' in rendered.html
        assert connected == []


def test_a_page_that_never_pauses_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is bounded, and the next page is shown all the same."""
    monkeypatch.setattr("crawler.browser._READ_S", 1.0)
    limits = RevealLimits(seconds=3.0)

    async def run() -> Rendered:
        async with Browser(_answering({}, []), user_agent="x", limits=limits) as browser:
            with pytest.raises(PageBroken, match="never pauses"):
                await browser.render(
                    URL, _html("<script>addEventListener('load', () => {for(;;);})</script>")
                )
            return await browser.render(URL, _html("<p>next</p>"))

    assert "<p>next</p>" in asyncio.run(run()).html


def test_the_browser_ends_with_its_process(tmp_path: Path) -> None:
    """A process that is killed with a browser open leaves none behind."""
    program = """
import asyncio
from crawler.browser import Answer, Browser

async def refuse(question):
    return None

async def main():
    async with Browser(refuse, user_agent="x") as browser:
        await browser.render("http://shop.example/", Answer(status=200, headers=(), body=b"<p>"))
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("chrom" in each.name() for each in family)
        process.kill()
    until(lambda: not any(_runs(each) for each in family))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_which_chromium_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named one before Playwright's own, and that before the system's."""
    named = _program(tmp_path / "named")
    own = _program(tmp_path / "own/chromium-1234/chrome-linux/chrome")
    system = _program(tmp_path / "bin/chromium")
    monkeypatch.setenv(EXECUTABLE_VARIABLE, str(named))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "own"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert chromium_executable() == named
    monkeypatch.delenv(EXECUTABLE_VARIABLE)
    assert chromium_executable() == own
    own.unlink()
    assert chromium_executable() == system


def test_no_chromium_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXECUTABLE_VARIABLE, raising=False)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrowserMissing, match="install the chromium package"):
        chromium_executable()
    monkeypatch.setenv(EXECUTABLE_VARIABLE, "/nowhere/chrome")
    with pytest.raises(BrowserMissing, match="/nowhere/chrome"):
        chromium_executable()
