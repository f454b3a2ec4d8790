"""Make a page in the browser show all that it has: scroll it, press its "load more", read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crawler.traffic import Traffic

if TYPE_CHECKING:
    from playwright.async_api import Frame, JSHandle, Page

# Nothing new after so many scrolls is the end: on a busy machine one may come too early.
_UNCHANGED_ROUNDS = 2
# Frames beyond these are advertising.
_MAX_FRAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealLimits:
    """How long a page is asked for more."""

    seconds: float = 120.0
    """For one page, from its first byte."""
    rounds: int = 300
    """Scrolls to an end that moves away, and presses of a button."""
    presses: int = 100
    pictures: int = 5000


# Every root that scripts can reach: the document and all open shadow roots. Closed ones are closed.
_ROOTS = """const roots = [document];
    for (let i = 0; i < roots.length && i < 1000; i += 1)
        for (const each of roots[i].querySelectorAll("*"))
            if (each.shadowRoot) roots.push(each.shadowRoot);
    const elements = roots.flatMap(root => [...root.querySelectorAll("*")]);"""
_CONTAINERS = """const scrolls = (each, axis) =>
        /auto|scroll/.test(getComputedStyle(each)["overflow" + axis]);
    const containers = elements.filter(each => each !== document.documentElement
        && each !== document.body && each.clientHeight > 80 && each.clientWidth > 80
        && ((each.scrollHeight > each.clientHeight + 40 && scrolls(each, "Y"))
         || (each.scrollWidth > each.clientWidth + 40 && scrolls(each, "X")))).slice(0, 20);"""
_SCROLL = f"""async () => {{
    {_ROOTS} {_CONTAINERS}
    const pause = () => new Promise(done => setTimeout(done, 20));
    const step = Math.max(200, innerHeight * 0.9);
    const end = () => document.documentElement.scrollHeight;
    // A little back first: a page that did not grow is told of the scrolling all the same.
    for (let y = Math.max(0, scrollY - innerHeight), i = 0; y < end() && i < 200; y += step, i += 1) {{
        scrollTo(0, y);
        await pause();
    }}
    scrollTo(0, end());
    for (const each of containers) {{
        each.scrollTop = Math.max(0, each.scrollTop - each.clientHeight);
        for (let i = 0; i < 50; i += 1) {{
            const before = [each.scrollTop, each.scrollLeft];
            each.scrollTop += each.clientHeight * 0.9;
            each.scrollLeft += each.clientWidth * 0.9;
            await pause();
            if (each.scrollTop === before[0] && each.scrollLeft === before[1]) break;
        }}
    }}
}}"""
# Two frames later, what arrived before has been laid out.
_EXTENT = f"""async () => {{
    while (document.readyState === "loading") await new Promise(done => setTimeout(done, 20));
    for (let i = 0; i < 2; i += 1) await new Promise(done => requestAnimationFrame(done));
    {_ROOTS} {_CONTAINERS}
    return [document.documentElement.scrollHeight, elements.length,
        containers.map(each => each.scrollHeight + each.scrollWidth)];
}}"""

# "Load more" as sites write it. Not "read more", which leads to an article; and whole labels only,
# so that "Show more cookies settings" is none.
_MORE = (
    r"(?:load|show|view|see|display)(?: \d+)? more(?: (?:\S+ ){0,2}\S+)?",
    r"more (?:results|pictures|photos|images|items|products|posts|records|works)",
    r"(?:mehr|weitere)(?: \S+){0,2} (?:laden|anzeigen|zeigen|ansehen)",
    r"mehr|mehr (?:bilder|fotos|ergebnisse|artikel|produkte)",
    r"(?:charger|afficher|voir|montrer)(?: \S+){0,2} plus(?: (?:de|d.) ?\S+)?|plus de \S+",
    r"(?:cargar|mostrar|ver) m[aá]s(?: \S+)?",
    r"(?:carregar|mostrar|ver) mais(?: \S+)?",
    r"(?:carica|mostra|vedi) (?:altr[oiae]|di pi[uù])(?: \S+)?",
    r"(?:meer|toon meer|laad meer)(?: \S+)?(?: (?:laden|tonen))?",
    r"(?:visa|ladda|vis|last|hent|indlæs) (?:inn )?(?:fler|mer|flere|mere)(?: \S+)?",
    r"(?:n[aä]yt[aä]|lataa) lis[aä][aä](?: \S+)?",
    r"(?:pokaż|załaduj|zobacz|wczytaj) więcej(?: \S+)?",
    r"(?:načíst|zobrazit) (?:další|více)(?: \S+)?",
    r"tov[aá]bbiak(?: \S+)?|t[oö]bb (?:bet[oö]lt[eé]se|megjelen[ií]t[eé]se)",
    r"daha fazla(?: \S+){0,2}",
    r"(?:показать|загрузить|смотреть) (?:ещё|еще|больше)(?: \S+)?",
    r"(?:показати|завантажити) (?:ще|більше)(?: \S+)?",
    r"(?:もっと|さらに)(?:見る|みる|読み込む|表示(?:する)?)",
    r"(?:加载|載入|查看|显示|顯示)?更多(?:图片|圖片)?",
    r"더\s?(?:보기|불러오기)",
    r"(?:عرض|تحميل) المزيد",
)
# What a crawler has no business with, by the names that dialogs and banners give themselves.
_NOT_FOR_US = (
    r"cookie|consent|gdpr|privacy|onetrust|didomi|usercentrics|truste|cmp-|newsletter|subscri"
    r"|paywall|log-?in|sign-?(?:in|up)|share|comment"
)
# A control is pressed again only if the page has changed since it was pressed last.
_PRESS_MORE = f"""(pressed) => {{
    {_ROOTS}
    const more = new RegExp({json.dumps(f"^(?:{chr(124).join(_MORE)})[ .…↓▼+»>]*$")}, "iu");
    const notForUs = new RegExp({json.dumps(_NOT_FOR_US)}, "i");
    const label = each => (each.innerText || each.value || each.getAttribute("aria-label") || "")
        .replace(/\\s+/g, " ").trim();
    const around = function* (each) {{
        for (; each; each = each.parentElement || each.getRootNode().host) yield each;
    }};
    const stays = each => !each.matches("a[href], area[href]")
        || /^(#|javascript:|$)/i.test(each.getAttribute("href").trim());
    const forUs = each => {{
        for (const one of around(each)) {{
            if (one.matches("form, dialog, [role=dialog], [role=alertdialog], [aria-modal=true]"))
                return false;
            if (one !== document.body && one !== document.documentElement
                && notForUs.test(`${{one.id}} ${{one.getAttribute("class")}} ${{one.getAttribute("aria-label")}}`))
                return false;
        }}
        return true;
    }};
    for (const each of elements) {{
        if (!each.matches("button, a, [role=button], input[type=button]")) continue;
        const text = label(each);
        if (!text || text.length > 40 || !more.test(text)) continue;
        if (each.disabled || each.getAttribute("aria-disabled") === "true") continue;
        if (each.form || !stays(each) || !forUs(each) || !each.getClientRects().length) continue;
        if (pressed.get(each) === elements.length) continue;
        pressed.set(each, elements.length);
        each.scrollIntoView();
        each.click();
        return true;
    }}
    return false;
}}"""

# With open shadow roots written out as declarative ones; `shown` is what images chose to show, and
# `specks` what they show at a pixel's size: counters, not pictures.
_READ = f"""() => {{
    {_ROOTS}
    const images = elements.filter(each => each.tagName === "IMG" && each.currentSrc);
    const speck = each => each.width <= 2 && each.height <= 2 && each.getClientRects().length > 0;
    const inside = document.documentElement.getHTML({{shadowRoots: roots.slice(1)}});
    return {{
        html: `<!DOCTYPE html><html>${{inside}}</html>`,
        shown: images.filter(each => each.naturalWidth > 2 && !speck(each)).map(each => each.currentSrc),
        specks: images.filter(speck).map(each => each.currentSrc),
    }};
}}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One document as it stands."""

    html: str
    """Open shadow roots written out as `<template shadowrootmode>`."""
    shown: tuple[str, ...]
    """What its img elements chose to show."""
    specks: tuple[str, ...]
    """What they show no larger than 2 x 2 pixels."""


async def reveal(page: Page, traffic: Traffic, limits: RevealLimits) -> bool:
    """Scroll and press "load more" until nothing new comes; return False if a limit came first.

    The time is the caller's to limit.
    """
    pressed = await page.evaluate_handle("() => new WeakMap()")
    presses = unchanged = 0
    before: object = None
    pressing = False
    for _ in range(limits.rounds):
        await traffic.come_to_rest()
        now = [await _in_each_frame(page, _EXTENT), len(traffic.pictures)]
        unchanged = unchanged + 1 if now == before else 0
        if len(traffic.pictures) >= limits.pictures:
            return False
        # What a press has brought is not scrolled through before the next one.
        if unchanged >= _UNCHANGED_ROUNDS or (pressing and now != before):
            pressing = presses < limits.presses and await _press_more(page, pressed)
            if pressing:
                presses += 1
                unchanged = 0
                before = now
                continue
            if unchanged >= _UNCHANGED_ROUNDS:
                return True
        before = now
        await _in_each_frame(page, _SCROLL)
    return False


async def read(frame: Frame) -> Reading:
    """Return a frame's document as it stands."""
    said = await frame.evaluate(_READ)
    return Reading(html=said["html"], shown=tuple(said["shown"]), specks=tuple(said["specks"]))


def frames_within(page: Page) -> list[Frame]:
    """Return the frames within a page that show something, the first few."""
    within = [each for each in page.frames if each is not page.main_frame]
    return [each for each in within if not each.is_detached()][:_MAX_FRAMES]


async def _press_more(page: Page, pressed: JSHandle) -> bool:
    return bool(await page.evaluate(_PRESS_MORE, pressed))


async def _in_each_frame(page: Page, script: str) -> list[Any]:
    """Return what `script` gives in the page, and in the frames within it that are still there."""
    from playwright.async_api import Error as PlaywrightError

    said = [await page.evaluate(script)]
    for frame in frames_within(page):
        try:
            said.append(await frame.evaluate(script))
        except PlaywrightError:
            continue  # a page may take its frames away at any time
    return said
