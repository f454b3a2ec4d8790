"""What the model in production says of pictures that are not in the dataset, and why.

Shapes: N training pictures, D embedding, L labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from flows.errors import NotFound, Permanent
from flows.studio.encoders import EncoderShelf
from flows.studio.production import Production
from flows.studio.reader import Reader
from flows.studio.tray import Tray, Tried

if TYPE_CHECKING:  # the rooms are imported when a picture comes, not when the studio starts
    from numpy.typing import NDArray

    from crawler.candidates import Outcome
    from crawler.decode import Candidate
    from crawler.rejections import Rejected
    from flows.workspace import Workspace
    from model.checkpoint import TrainedModel
    from model.occlusion import Occlusion
    from model.preprocess import Preprocessing

SOURCE = "studio"
"""The source under which pictures that were tried join the dataset."""

_WORKERS = 2
_NAME_CHARACTERS = 120


class NoModelYet(Permanent):
    """Nothing can be predicted: no model is in production, or it is another encoder's."""


class PictureForgotten(Permanent):
    """A picture that was forgotten does not come back into the dataset."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A training picture like the one that was tried, and what people said of it."""

    sha256: str
    cosine: float
    answers: Mapping[str, bool]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the model says of one picture: a score in [0, 1] a label, against its threshold."""

    scores: Mapping[str, float]
    answers: Mapping[str, bool]
    near: tuple[Near, ...]


@dataclasses.dataclass
class Trial:
    """Scores pictures with the model in production, one request at a time."""

    reader: Reader
    production: Production
    encoders: EncoderShelf
    tray: Tray = dataclasses.field(default_factory=Tray)

    def model(self) -> TrainedModel:
        """Return the model in production. Raises NoModelYet, one sentence, when it cannot be used."""
        workspace = self.reader.workspace()
        trained = self.production.in_production(workspace)
        if trained is None:
            raise NoModelYet("no model is in production yet: train one first")
        if (own := self.encoders.id()) != trained.head.encoder_id:
            raise NoModelYet(
                f"model {trained.card.version} reads embeddings of {trained.head.encoder_id}, but "
                f"project.toml names an encoder whose id is {own}: pre-label and train again"
            )
        return trained

    def opinions(
        self, model: TrainedModel, candidates: Sequence[Candidate], *, near: int
    ) -> list[Opinion]:
        """Return what `model` says of each picture, and its `near` nearest training pictures."""
        from model.predict import predict

        if not candidates:
            return []
        preprocessing = self.encoders.get().preprocessing
        workspace = self.reader.workspace()
        seen = [_seen(each, preprocessing, workspace) for each in candidates]
        vectors_BD = self.encoders.encode_pixels(np.stack(seen))
        for each, pixels_HWC, vector_D in zip(candidates, seen, vectors_BD, strict=True):
            self.tray.put(
                Tried(
                    candidate=each,
                    pixels_HWC=pixels_HWC,
                    vector_D=vector_D,
                    encoder_id=model.head.encoder_id,
                )
            )
        training = self.production.training_pictures(workspace, model)
        ids = [each.fingerprint.sha256 for each in candidates]
        found = predict(model.head, model.card.version, ids, vectors_BD)
        return [
            Opinion(
                scores=each.scores,
                answers=each.answers,
                near=tuple(
                    Near(sha256=sha256, cosine=cosine, answers=training.answers[sha256])
                    for sha256, cosine in training.nearest(vector_D, near)
                ),
            )
            for each, vector_D in zip(found, vectors_BD, strict=True)
        ]

    def heat(self, model: TrainedModel, tried: Tried, label: str) -> Occlusion:
        """Return where the score of `label` comes from. Raises NotFound for another's label."""
        from model.occlusion import occlusion

        if label not in model.head.labels:
            raise NotFound(f"model {model.card.version} has no label {label!r}")
        return occlusion(tried.pixels_HWC, self.encoders.encode_pixels, model.head, label)

    def add(self, tried: Tried) -> str:
        """Take a picture into the dataset; return the id of the picture that stands for it.

        Raises PictureForgotten when it may not come in.
        """
        from flows.imports import add_candidates

        workspace, sha256 = self.reader.workspace(), tried.candidate.fingerprint.sha256
        if workspace.catalog.image(sha256) is None:
            add_candidates(workspace, SOURCE, [tried.candidate])
            if workspace.catalog.image(sha256) is None:
                raise PictureForgotten(f"picture {sha256} was forgotten, and is not taken in again")
            workspace.catalog.add_embeddings(tried.encoder_id, [sha256], tried.vector_D[None])
            self.reader.changed()
        return self.reader.view().subject(sha256)


def _seen(
    candidate: Candidate, preprocessing: Preprocessing, workspace: Workspace
) -> NDArray[np.uint8]:
    """Return what the encoder sees of a picture that a decoding process has found to be sound."""
    from crawler.decode import decode

    image = decode(
        candidate.fetched.data,
        max_pixels=workspace.project.policy().max_pixels,
        reduce_to=preprocessing.draft_size,
    )
    return preprocessing.pixels(image)


async def examine_uploads(
    uploads: Sequence[tuple[str, bytes]], workspace: Workspace
) -> list[Candidate | Rejected]:
    """Return what each upload (name, bytes) is: a picture, or why it is none; in their order."""
    from crawler.candidates import examine_members

    names = [member_name(name, data) for name, data in uploads]
    members = dict(zip(names, (data for _, data in uploads), strict=True))
    outcomes = examine_members(
        iter(members.items()), SOURCE, policy=workspace.project.policy(), workers=_WORKERS
    )
    found = await _by_address(outcomes)
    return [found[f"archive:{SOURCE}/{name}"] for name in names]


async def fetch_addresses(
    addresses: Sequence[str], workspace: Workspace
) -> list[Candidate | Rejected]:
    """Fetch pictures as a crawl would: politely, guarded, and only where it is permitted."""
    from crawler.candidates import candidates
    from crawler.pages import ImageLink
    from crawler.rejections import Reason, Rejected
    from crawler.settings import require_contact
    from crawler.sources import Source, SourceInvalid

    policy, allow_private = workspace.project.policy(), workspace.project.studio.allow_private
    refused: dict[str, Candidate | Rejected] = {}
    links: list[ImageLink] = []
    for url in dict.fromkeys(addresses):
        try:
            if not url.lower().startswith(("http://", "https://")):
                raise SourceInvalid(f"{url[:100]!r} is no http(s) address")
            require_contact(Source(name=SOURCE, kind="urls", start=(url,)), policy)
        except SourceInvalid as error:
            refused[url] = Rejected(
                url=url, page_url="", reason=Reason.ADDRESS_FORBIDDEN, detail=str(error)
            )
        else:
            links.append(ImageLink(url=url, page_url="", found_by=SOURCE))
    outcomes = candidates(links, policy=policy, allow_private=allow_private, workers=_WORKERS)
    found = refused | await _by_address(outcomes)
    return [found[url] for url in addresses]


async def _by_address(
    outcomes: AsyncGenerator[Outcome, None],
) -> dict[str, Candidate | Rejected]:
    from crawler.decode import Candidate
    from crawler.rejections import Rejected

    found: dict[str, Candidate | Rejected] = {}
    async with aclosing(outcomes):
        async for each in outcomes:
            if isinstance(each, Rejected):
                found[each.url] = each
            elif isinstance(each, Candidate):  # nothing is asked for by a condition
                found[each.fetched.link.url] = each
    return found


def member_name(name: str, data: bytes) -> str:
    """Return a name for an upload that is no other picture's, without the sender's folders."""
    last = PurePosixPath(PureWindowsPath(name).as_posix()).name
    plain = "".join(each if each.isprintable() else "_" for each in last)
    return f"{hashlib.sha256(data).hexdigest()[:12]}-{plain[-_NAME_CHARACTERS:] or 'picture'}"
