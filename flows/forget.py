"""Forget pictures: by their ids, by the address of picture or page, or by host; everywhere, for good.

First the tombstones, by which what is being forgotten is known again and does not come back; then
everything that they name is taken out of the bucket. The second step looks at nothing but the
tombstones and the bucket: killed at any instant, it is carried to the same end by any later call.

A trained model cannot unlearn. Models, fine-tuned encoders and snapshots that name a forgotten
picture are reported, and left: train anew, and delete `models/<name>/<version>/`,
`snapshots/<id>.json`, `encoders/<id>/` and `tunings/` if need be. Of a picture that none was trained
on nothing is left, its id included.

Answers of `cratedig label --out` lose it, too: wherever in buckets they went, which the project
remembers, and in the folders that are named. A place that cannot be reached is told of. The archives
themselves are their owner's: nothing is taken out of them, and the next run over one gives no row to
what was forgotten.

What lies outside of these is not ours to reach: object versions that the store keeps, backups,
exports, Prefect's own database.

Forget while nothing else writes to the project. A collector that runs meanwhile asks for the
tombstones before each commit; what it had begun to write before is found by the next call. Ledgers
of unfinished crawls, on the workers' own disks, keep addresses until those crawls end.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from crawler.addresses import web_address
from flows.archive.leftovers import remembered
from flows.archive.places import Output, output_at
from flows.archive.purge import purge_answers
from flows.collect import drop_duplicates
from flows.errors import BucketMissing, Permanent, StoreRefused
from flows.leases import drop_leases
from flows.objects import ObjectStore
from flows.progress import Watch, unwatched
from flows.purge import (
    purge_advice,
    purge_predictions,
    purge_rows,
    purge_runs,
    purge_shards,
)
from flows.tables import Table, table_names
from flows.tombstones import Forgotten, Tombstones
from flows.workspace import Workspace

IN_FLIGHT_S = 900.0
"""A file that no table needs yet and that is younger may belong to a writer that is at work."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForgetPlan:
    """What would be forgotten, and what would remember it all the same."""

    sha256s: tuple[str, ...]
    """Pictures that the catalogue has, in the order of their ids."""
    urls: tuple[str, ...]
    """Addresses that will not be fetched again: those given, and the pictures' own."""
    hosts: tuple[str, ...]
    links: int
    copies: tuple[str, ...]
    """Perceptual copies of the pictures that are not among them, and would stay."""
    snapshots: tuple[str, ...]
    """Ids of training snapshots that name one of the pictures."""
    models: tuple[str, ...]
    """`name/version` of models that were trained on one of them."""

    def __str__(self) -> str:
        """Return what would go, in one line."""
        return (
            f"pictures {len(self.sha256s)} addresses {len(self.urls)} hosts {len(self.hosts)} "
            f"links {self.links} copies that stay {len(self.copies)} "
            f"models trained on them {', '.join(self.models) or 'none'}"
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForgetResult:
    """What was taken out of where."""

    pictures: int
    copies: tuple[str, ...]
    """Perceptual copies that are still there."""
    rows: dict[str, int]
    """Rows deleted, by table."""
    shards: int
    """Shards, parts of predictions and records (of runs, drift, spot checks and queues) written anew."""
    parts: int
    records: int
    archive_files: int
    """Files of archives' answers written anew: parts, vectors and plans."""
    unreached: tuple[str, ...]
    """Places of archives' answers that the store's keys do not open."""
    snapshots: tuple[str, ...]
    models: tuple[str, ...]
    unfinished: tuple[str, ...]
    """Files without an owner that were too young to be deleted: forget again later."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        said = (
            f"forgot {self.pictures} rows {sum(self.rows.values())} shards rewritten {self.shards} "
            f"in {self.seconds:.0f} s"
        )
        if self.archive_files:
            said += f"; files of archives' answers rewritten {self.archive_files}"
        if self.unreached:
            said += (
                f"; answers that the project's keys do not open: {', '.join(self.unreached)}: "
                "let the keys write there and forget again, or delete those answers"
            )
        if self.copies:
            said += f"; copies that stay: {', '.join(self.copies)}"
        if self.models:
            said += f"; models that learned from them, train anew: {', '.join(self.models)}"
        if self.unfinished:
            said += (
                f"; {len(self.unfinished)} files of unfinished writes are too young to delete: "
                "forget again in a quarter of an hour"
            )
        return said


def forgotten(workspace: Workspace) -> Forgotten:
    """Return what must not come back (`Forgotten.covers` says whether a link is of it)."""
    return Tombstones(workspace.store).load()


def plan_forget(
    workspace: Workspace,
    *,
    sha256s: Iterable[str] = (),
    urls: Iterable[str] = (),
    hosts: Iterable[str] = (),
    and_duplicates: bool = False,
) -> ForgetPlan:
    """Find what is meant, and what was begun to be forgotten and is still there; change nothing.

    A picture is meant by its id, by its address or that of a page that it was found on, as recorded,
    or by the host of either, names below it included; with `and_duplicates` by a copy, too. Raises
    Permanent for an id that cannot be one, or a host that is none.
    """
    given = [_checked_id(each) for each in sha256s]
    addresses = {spelling for url in urls for spelling in (url, web_address(url) or url)}
    names = [_host_name(each) for each in hosts]
    meant = forgotten(workspace) | Forgotten.of(sha256s=given, urls=addresses, hosts=names)
    catalog = workspace.catalog
    places_of = {
        image.sha256: [(place.url, place.page_url) for place in image.provenance]
        for image in catalog.images()
        if meant.has(image.sha256)
        or any(meant.covers(place.url, place.page_url) for place in image.provenance)
    }
    found = set(places_of)
    copies = _copies(catalog.duplicates(), found)
    if and_duplicates and copies:
        for image in catalog.images():
            if image.sha256 in copies:
                places_of[image.sha256] = [(place.url, "") for place in image.provenance]
        found |= copies
        copies = set()
    addresses.update(url for places in places_of.values() for url, _ in places)
    # An address at which a picture was found once, too.
    links = 0
    for row in catalog.links():
        if row.sha256 in found or meant.covers(row.url, row.page_url, sha256=row.sha256):
            links += 1
            addresses.add(row.url)
    snapshots = _snapshots(workspace.store, found | set(given))
    return ForgetPlan(
        sha256s=tuple(sorted(found)),
        urls=tuple(sorted(addresses)),
        hosts=tuple(sorted(names)),
        links=links,
        copies=tuple(sorted(copies)),
        snapshots=snapshots,
        models=_models(workspace.store, snapshots, found | set(given)),
    )


def forget(
    workspace: Workspace,
    *,
    sha256s: Iterable[str] = (),
    urls: Iterable[str] = (),
    hosts: Iterable[str] = (),
    and_duplicates: bool = False,
    archives: Iterable[str] = (),
    in_flight_s: float = IN_FLIGHT_S,
    watch: Watch = unwatched,
) -> ForgetResult:
    """Remove pictures from everything that the bucket holds, and see to it that they stay away.

    What is meant is as for `plan_forget`. Without any, what was begun before is finished. `archives`
    are folders that `cratedig label --out` wrote answers to; Permanent is raised for one that holds
    none. All
    shards are read, and all tables packed and cut off from their past: a matter of minutes for a
    hundred gigabytes, not of seconds.
    """
    started = time.monotonic()
    store, given = workspace.store, [_checked_id(each) for each in sha256s]
    outputs = [_answers_at(workspace, each) for each in archives]
    plan = plan_forget(
        workspace, sha256s=given, urls=urls, hosts=hosts, and_duplicates=and_duplicates
    )
    tombstones = Tombstones(store)
    tombstones.add(Forgotten.of(sha256s={*plan.sha256s, *given}, urls=plan.urls, hosts=plan.hosts))
    tombstones.hide_ids()
    all_of_it = tombstones.load()
    with watch("shards") as progress:
        shards = purge_shards(store, all_of_it, lambda done: progress(done, None))
    rows = purge_rows(store, all_of_it)
    marked = workspace.catalog.duplicates()
    if any(map(all_of_it.has, marked.values())):
        drop_duplicates(workspace.catalog)  # what was a copy of something forgotten is one no more
    parts = purge_predictions(store, all_of_it)
    records = purge_runs(store, all_of_it) + purge_advice(store, all_of_it)
    drop_leases(store, idle_s=float("inf"), also=all_of_it.names_host)
    with watch("answers of archives") as progress:
        archive_files, unreached = 0, []
        for number, output in enumerate([*outputs, *_remembered(workspace)], 1):
            try:
                output.clock()
                archive_files += purge_answers(output, all_of_it)
            except BucketMissing:
                pass  # its owner has done away with it
            except StoreRefused:
                unreached.append(output.uri(""))
            progress(number, None)
    return ForgetResult(
        pictures=len(plan.sha256s),
        copies=plan.copies,
        rows=rows,
        shards=shards,
        parts=parts,
        records=records,
        archive_files=archive_files,
        unreached=tuple(unreached),
        snapshots=plan.snapshots,
        models=plan.models,
        unfinished=_cut_off_the_past(store, timedelta(seconds=in_flight_s)),
        seconds=round(time.monotonic() - started, 2),
    )


def _answers_at(workspace: Workspace, location: str) -> Output:
    output = output_at(workspace, location)
    if next(output.keys("labels/"), None) is None:
        raise Permanent(f"there are no answers of `cratedig label --out` in {location}")
    return output


def _remembered(workspace: Workspace) -> Iterator[Output]:
    return (output_at(workspace, place) for place in remembered(workspace.store))


def _cut_off_the_past(store: ObjectStore, in_flight: timedelta) -> tuple[str, ...]:
    """Let every table have one version, and no files but that version's; return what had to stay."""
    young: list[str] = []
    for name in table_names(store):
        table = Table(store, name, None)
        table.vacuum(timedelta(0))
        young += table.drop_strays(in_flight)
    return tuple(young)


def _copies(kept_of: dict[str, str], found: set[str]) -> set[str]:
    """Return what is of one duplicate group with something in `found`, and not in it."""
    groups: dict[str, set[str]] = defaultdict(set)
    for sha256, kept in kept_of.items():
        groups[kept] |= {kept, sha256}
    return {each for group in groups.values() if group & found for each in group - found}


def _snapshots(store: ObjectStore, sha256s: set[str]) -> tuple[str, ...]:
    return tuple(
        info.key.removeprefix("snapshots/").removesuffix(".json")
        for info in store.list("snapshots/")
        if _names_one(store.get(info.key), sha256s)
    )


def _models(store: ObjectStore, snapshots: tuple[str, ...], sha256s: set[str]) -> tuple[str, ...]:
    """Return the models of those snapshots, and those with a file that names one of the pictures.

    Fine-tuned encoders, too, as `encoders/<id>`.
    """
    trained = set()
    for info in store.list("models/"):
        name, _, rest = info.key.removeprefix("models/").partition("/")
        version, _, file = rest.partition("/")
        if not file.endswith(".json"):
            continue
        text = store.get(info.key)
        if _names_one(text, sha256s) or any(each.encode() in text for each in snapshots):
            trained.add(f"{name}/{version}")
    for info in store.list("encoders/"):
        if info.key.endswith("/tuned.json") and _names_one(store.get(info.key), sha256s):
            trained.add(info.key.removesuffix("/tuned.json"))
    return tuple(sorted(trained))


def _names_one(text: bytes, sha256s: set[str]) -> bool:
    return not sha256s.isdisjoint(re.findall(r"[0-9a-f]{64}", text.decode()))


def _checked_id(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256.lower()):
        raise Permanent(f"{sha256!r} is not the id of a picture: that is 64 hexadecimal digits")
    return sha256.lower()


def _host_name(host: str) -> str:
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if not name or "/" in host:
        raise Permanent(f"{host!r} is not a host: give a name such as img.example.org")
    return name
