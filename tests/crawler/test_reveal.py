"""What a page in the browser is made to show, and what is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import psutil
import pytest

from crawler.browser import Answer, Browser, Question, Rendered
from crawler.reveal import RevealLimits
from crawler.traffic import is_advertiser
from tests.crawler.site import JPEG
from tests.waiting import until

URL = "http://shop.example/list"
PICTURE = Answer(status=200, headers=(("Content-Type", "image/jpeg"),), body=JPEG)


def _html(body: str) -> Answer:
    return Answer(
        status=200, headers=(("Content-Type", "text/html; charset=utf-8"),), body=body.encode()
    )


def _render(
    body: str, answers: Mapping[str, Answer] | None = None, limits: RevealLimits | None = None
) -> tuple[Rendered, list[str]]:
    """Return what becomes of the page, and the paths it asked for; every `.jpg` is a picture."""
    asked: list[str] = []

    async def answer(question: Question) -> Answer | None:
        path = question.url.removeprefix("http://shop.example")
        asked.append(path)
        return (answers or {}).get(path) or (PICTURE if path.endswith(".jpg") else None)

    async def run() -> Rendered:
        async with Browser(answer, user_agent="cratedig/test", limits=limits) as browser:
            return await browser.render(URL, _html(body))

    return asyncio.run(run()), asked


def test_a_list_that_scrolls_within_the_page_is_scrolled_to_its_end() -> None:
    body = """<div id="list" style="height:400px;overflow-y:auto"><p style="height:900px">0</p></div>
      <script>
        const list = document.getElementById("list");
        let batch = 1;
        list.addEventListener("scroll", () => {
          if (batch < 5 && list.scrollTop + list.clientHeight > list.scrollHeight - 50)
            list.insertAdjacentHTML("beforeend", `<p style="height:900px">batch ${batch++}</p>`);
        });
      </script>"""
    rendered, _ = _render(body)
    assert [n for n in range(1, 9) if f"batch {n}</p>" in rendered.html] == [1, 2, 3, 4]
    assert rendered.complete


def test_frames_and_shadow_roots_are_read() -> None:
    """A frame by its own address, a shadow root as part of its page, nested ones too."""
    body = """<iframe src="/frame"></iframe><iframe srcdoc="<p>written</p>"></iframe>
      <div id="host"></div><script>
        const root = document.getElementById("host").attachShadow({mode: "open"});
        root.innerHTML = "<p>outer</p><div></div>";
        root.querySelector("div").attachShadow({mode: "open"}).innerHTML = "<p>inner</p>";
      </script>"""
    rendered, _ = _render(body, {"/frame": _html("<p>framed</p>")})
    assert "<p>outer</p>" in rendered.html
    assert "<p>inner</p>" in rendered.html
    by_text = {
        word: address
        for word in ("framed", "written")
        for address, html in rendered.frames
        if f"<p>{word}</p>" in html
    }
    assert by_text == {"framed": "http://shop.example/frame", "written": URL}


def test_a_picture_shown_as_a_speck_is_a_counter() -> None:
    rendered, asked = _render('<img src="/a.jpg"><img src="/count.jpg" width="1" height="1">')
    assert "/count.jpg" in asked
    assert [each.rsplit("/", 1)[-1] for each in rendered.pictures] == ["a.jpg"]


def test_a_window_that_a_script_opens_is_closed_unanswered() -> None:
    rendered, asked = _render('<p>here</p><script>open("/elsewhere")</script>')
    assert "<p>here</p>" in rendered.html
    assert asked == []


LABELS = [
    "Load more",
    "SHOW 20 MORE",
    "View more photos ↓",
    "Mehr anzeigen",
    "Weitere Künstler laden",
    "Afficher plus",
    "Cargar más",
    "Carregar mais fotos",
    "Mostra altri",
    "Meer laden",
    "Visa fler",
    "Pokaż więcej",
    "Zobrazit další",
    "Daha fazla göster",
    "Показать ещё",
    "もっと見る",
    "加载更多",
    "더 보기",
    "عرض المزيد",
]
NOT_LABELS = [
    "Read more",
    "More",
    "Accept all cookies",
    "Show more cookie settings about us",
    "Login",
    "Show menu",
    "Delete",
    "Mehr über uns",
]


def _pressed(controls: str) -> set[str]:
    """Return the texts of those of `controls` that were pressed."""
    body = f"""{controls}<output id="said"></output><script>
      addEventListener("click", event => {{
        document.getElementById("said").insertAdjacentHTML("beforeend",
          `<b>${{event.target.textContent || event.target.value}}</b>`);
        event.preventDefault();
        event.target.remove();
      }}, true);
    </script>"""
    rendered, _ = _render(body)
    said = rendered.html.split('<output id="said">')[1].split("</output>")[0]
    return {each.removesuffix("</b>") for each in said.split("<b>") if each}


def test_load_more_is_known_in_many_languages() -> None:
    """By the whole of its text, and nothing else is pressed."""
    controls = "".join(f"<button>{label}</button>" for label in (*LABELS, *NOT_LABELS))
    assert _pressed(controls) == set(LABELS)


def test_load_more_is_pressed_whatever_it_is_made_of() -> None:
    assert _pressed(
        """<a href="#">Load more</a><div role="button">Show more</div><a>View more</a>
        <input type="button" value="See more"><a href="javascript:void(0)">Display more</a>"""
    ) == {"Load more", "Show more", "View more", "See more", "Display more"}


def test_load_more_is_not_pressed_where_it_might_do_harm() -> None:
    """In a form, in a dialog or banner, where it leads away, and what nobody sees or may press."""
    assert (
        _pressed(
            """<form><button>Load more 1</button></form>
        <form id="f"></form><button form="f">Load more 2</button>
        <div id="cookie-banner"><p><button>Show more</button></p></div>
        <div role="dialog"><button>Show more</button></div>
        <dialog open><button>Show more</button></dialog>
        <section class="newsletter"><button>Show more</button></section>
        <a href="/elsewhere">Load more</a><a href="http://other.example/">Load more</a>
        <button style="display:none">Load more</button><button disabled>Load more</button>
        <div>Load more</div>"""
        )
        == set()
    )


def test_a_button_that_never_ends_is_let_go() -> None:
    """What it brought counts, and that there was more is known."""
    body = """<button onclick="this.insertAdjacentHTML('beforebegin', '<p>one</p>')">Load more</button>"""
    rendered, _ = _render(body, limits=RevealLimits(rounds=12))
    assert 3 < rendered.html.count("<p>one</p>") <= 12
    assert not rendered.complete


def test_enough_pictures_are_enough() -> None:
    body = (
        "<script>let n = 0; addEventListener('scroll', () => { new Image().src = `/${n++}.jpg`; });"
    )
    filler = '</script><p style="height:9000px">'
    rendered, _ = _render(body + filler, limits=RevealLimits(pictures=10))
    assert len(rendered.pictures) >= 10
    assert not rendered.complete


@pytest.mark.parametrize(
    ("url", "advertiser"),
    [
        ("https://securepubads.g.doubleclick.net/tag.js", True),
        ("https://www.google-analytics.com/collect", True),
        ("https://notdoubleclick.net/a.jpg", False),
        ("https://shop.example/doubleclick.net/a.jpg", False),
    ],
)
def test_only_known_advertisers_are_refused(url: str, advertiser: bool) -> None:
    assert is_advertiser(url) is advertiser


# That it ends


def _browsers() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    return [each for each in family if _runs(each) and _is_browser(each)]


def _is_browser(process: psutil.Process) -> bool:
    try:
        return _is_chromium(process) or "playwright" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _is_chromium(process: psutil.Process) -> bool:
    try:
        return "chrom" in process.name()
    except psutil.NoSuchProcess:  # it ends with the one that was killed before it
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _refuse(_: Question) -> Answer | None:
    return None


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.4, 1.0, 2.0])
def test_cancelled_at_any_moment_it_leaves_no_process(after_s: float) -> None:
    """While Playwright starts, while Chromium does, and while a page is shown."""

    async def scenario() -> None:
        async with Browser(_refuse, user_agent="x") as browser:
            spinning = "<script>setInterval(() => fetch('/x'), 50)</script>"
            showing = asyncio.ensure_future(browser.render(URL, _html(spinning)))
            await asyncio.wait([showing], timeout=after_s)
            showing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await showing

    asyncio.run(scenario())
    until(lambda: not _browsers())


def test_an_exception_around_it_leaves_no_process() -> None:
    async def scenario() -> None:
        async with Browser(_refuse, user_agent="x") as browser:
            await browser.render(URL, _html("<p>shown</p>"))
            assert _browsers()
            raise OSError("somewhere else")

    with pytest.raises(OSError, match="somewhere else"):
        asyncio.run(scenario())
    until(lambda: not _browsers())


def test_a_browser_that_died_is_started_anew() -> None:
    async def scenario() -> Rendered:
        async with Browser(_refuse, user_agent="x") as browser:
            await browser.render(URL, _html("<p>first</p>"))
            for process in _browsers():
                if _is_chromium(process):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            await asyncio.to_thread(until, lambda: not any(map(_is_chromium, _browsers())))
            return await browser.render(URL, _html("<p>second</p>"))

    assert "<p>second</p>" in asyncio.run(scenario()).html
