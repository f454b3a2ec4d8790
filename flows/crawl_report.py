"""What a run did, for people: `runs/<run>/report.md` in the bucket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crawler.rejections import Reason
from flows.errors import NotFound
from flows.live import HostTimes
from flows.objects import ObjectStore
from flows.tally import Tally

_MOST_HOSTS = 20
_SLOWEST_HOSTS = 5
_PART = "collect-"

_ADVICE: dict[str, str] = {
    Reason.TOO_SMALL: "`limits.min_side` in project.toml decides what is too small; "
    "after a change, `cratedig crawl --retry-all` tries them again",
    Reason.TOO_LARGE: "`limits.max_bytes` in project.toml decides what is too large; "
    "after a change, `cratedig crawl --retry-all` tries them again",
    Reason.TOO_MANY_PIXELS: "`limits.max_pixels` in project.toml decides; "
    "after a change, `cratedig crawl --retry-all` tries them again",
    Reason.ADDRESS_FORBIDDEN: "addresses that are not public are refused; if they are your own "
    "servers, set `allow_private = true` in the source",
}


def report_key(run_id: str) -> str:
    """Return where the report of a run lies, below the project's bucket and prefix."""
    return f"runs/{run_id}/report.md"


def write_report(store: ObjectStore, run_id: str, source: str, text: str) -> str:
    """Write the part of one source, and the report of the run out of all parts; return its key."""
    store.put(f"runs/{run_id}/{_PART}{source}.md", text.encode())
    parts = [
        store.get(each.key).decode()
        for each in store.list(f"runs/{run_id}/{_PART}")
        if each.key.endswith(".md")
    ]
    store.put(report_key(run_id), "\n".join(parts).encode())
    return report_key(run_id)


def read_report(store: ObjectStore, run_id: str | None = None) -> str:
    """Return the report of that run, or the one that was written last; NotFound if there is none."""
    if run_id is not None:
        key = report_key(run_id)
        if store.head(key) is None:
            raise NotFound(f"there is no {key} in the bucket: the run has not ended, or never was")
        return store.get(key).decode()
    found = [each for each in store.list("runs/") if each.key.endswith("/report.md")]
    if not found:
        raise NotFound("no run has left a report yet: `cratedig crawl` writes one")
    return store.get(max(found, key=lambda each: each.last_modified).key).decode()


def report_text(
    *,
    source: str,
    run_id: str,
    line: str,
    pages: int,
    tally: Tally,
    hosts: Mapping[str, HostTimes],
    bodies: int,
    size: int,
) -> str:
    """Return the report of one source as Markdown.

    `line` is the line with which the stage ended, `pages` those that were read; `hosts`, `bodies`
    and `size` (bytes) are of the process that ended the run: one that was cut off before it left
    the links it had committed, and no times.
    """
    parts = [
        f"# {source}, run {run_id}\n\n{line}\n",
        _table(
            "What became of the links",
            ("outcome", "links"),
            [
                ("kept", tally.kept),
                ("duplicate", tally.duplicates),
                *((reason, each.count) for reason, each in sorted(tally.rejected.items())),
            ],
        ),
        f"{pages} pages read, {bodies} bodies fetched; {size / 1e6:.1f} MB of pictures.\n",
        _table(
            "Rejected, by reason",
            ("reason", "links", "tried again next time", "for example", "what was said"),
            [
                (reason, each.count, each.transient, each.example, each.detail)
                for reason, each in sorted(tally.rejected.items(), key=lambda item: -item[1].count)
            ],
        ),
        _table(
            "Pictures, by how they were found", ("found by", "links"), tally.found_by.most_common()
        ),
        _table(
            f"The {_MOST_HOSTS} hosts with the most links, of {len(tally.hosts)}",
            ("host", "kept", "rejected"),
            [
                (host, counts.kept, counts.rejected)
                for host, counts in sorted(
                    tally.hosts.items(), key=lambda item: -(item[1].kept + item[1].rejected)
                )[:_MOST_HOSTS]
            ],
        ),
        _table(
            "The hosts that took longest",
            ("host", "seconds", "links a second", "MB", "failures that may pass"),
            [
                (
                    host,
                    f"{each.seconds:.1f}",
                    f"{each.outcomes / max(each.seconds, 1e-3):.1f}",
                    f"{each.bytes / 1e6:.1f}",
                    each.transient,
                )
                for host, each in sorted(hosts.items(), key=lambda item: -item[1].seconds)[
                    :_SLOWEST_HOSTS
                ]
            ],
        ),
        "## What to do next\n\n" + "".join(f"- {each}\n" for each in _next(tally)),
    ]
    return "\n".join(filter(None, parts))


def _next(tally: Tally) -> list[str]:
    """Return what somebody who has just crawled may want to do, most likely first."""
    advice = []
    if tally.found_by:
        advice.append(
            "`cratedig label` gives what is new its first labels, `cratedig review` shows it"
        )
    elif not tally.links:
        advice.append(
            'no picture was found: check `start`, `allow` and `deny`, or set `browser = "auto"` for '
            "a site that shows its pictures by script"
        )
    if transient := sum(each.transient for each in tally.rejected.values()):
        advice.append(f"failures that may pass: {transient}; the next crawl tries them again")
    advice += [
        f"{each.count} x {reason}: {_ADVICE[reason]}"
        for reason, each in sorted(tally.rejected.items())
        if reason in _ADVICE
    ]
    return advice or ["nothing"]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a section with a table, or nothing when it would have no rows."""
    lines = [" | ".join(_cell(each) for each in row) for row in rows]
    if not lines:
        return ""
    rule = " | ".join("---" for _ in head)
    return f"## {title}\n\n" + "".join(f"| {line} |\n" for line in (" | ".join(head), rule, *lines))


def _cell(value: object) -> str:
    """Return a value that cannot break out of its cell; addresses and servers' words are not ours."""
    text = " ".join(str(value).split())
    shown = text if len(text) <= 120 else f"{text[:117]}..."
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
