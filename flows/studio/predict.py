"""Predict: try the model in production on pictures of one's own, as a page and as an interface."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

from fastapi import APIRouter, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from flows.studio import trial as trying
from flows.studio.desk import NewDecision
from flows.studio.pages import render
from flows.studio.tray import Pace, Tried
from flows.studio.trial import NoModelYet, Opinion, PictureForgotten, Trial

if TYPE_CHECKING:
    from crawler.decode import Candidate
    from crawler.rejections import Rejected
    from model.checkpoint import TrainedModel

MAX_ADDRESS_CHARACTERS = 4000
MAX_NEAR = 20

Sha256Text = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(min_length=1, max_length=MAX_ADDRESS_CHARACTERS)]


class LabelVerdict(BaseModel):
    """What the model says of one label: yes where the score reaches the threshold."""

    label: str
    score: float = Field(ge=0, le=1)
    threshold: float
    answer: bool


class NearPicture(BaseModel):
    """A picture that the model was trained on, and what people said of it."""

    sha256: str
    cosine: float
    answers: dict[str, bool]


class PictureVerdict(BaseModel):
    """One picture: `labels`, or the `reason` why it was not taken and the `detail` for people."""

    name: str
    sha256: str | None = None
    width: int = 0
    height: int = 0
    format: str = ""
    in_dataset: bool = False
    labels: list[LabelVerdict] = []
    near: list[NearPicture] = []
    thumbnail: str | None = Field(default=None, description="JPEG without metadata, base64")
    reason: str | None = None
    detail: str | None = None


class Predicted(BaseModel):
    """What one version says of pictures, in the order: uploads, then addresses."""

    version: str
    encoder_id: str
    pictures: list[PictureVerdict]


class HeatRequest(BaseModel):
    """A picture that was predicted not long ago, and a label."""

    model_config = ConfigDict(extra="forbid")

    sha256: Sha256Text
    label: str = Field(min_length=1, max_length=200)


class Heat(BaseModel):
    """How much a label's log odds fall where a part of what the encoder saw is covered."""

    method: Literal["occlusion"] = "occlusion"
    version: str
    grid: list[list[float]] = Field(description="rows from the top; negative: they rise")
    seen: str = Field(description="what the encoder saw, JPEG, base64")


class NewPicture(BaseModel):
    """A picture that was predicted not long ago, and its right answers."""

    model_config = ConfigDict(extra="forbid")

    sha256: Sha256Text
    answers: dict[Annotated[str, Field(max_length=200)], Literal["yes", "no", "unsure"]] = Field(
        max_length=200
    )


class Added(BaseModel):
    """Where the picture is now: `kept_as` is another id when it is a duplicate."""

    sha256: str
    kept_as: str
    decisions: int


router = APIRouter(tags=["predict"])
pace = Pace()


def _trial(request: Request) -> Trial:
    trial: Trial = request.app.state.trial
    return trial


@router.get("/predict", include_in_schema=False)
def predict_page(request: Request) -> Response:
    """Show where pictures are dropped."""
    reader = request.app.state.reader
    workspace = reader.workspace()
    studio, policy = workspace.project.studio, workspace.project.policy()
    model = request.app.state.production.in_production(workspace)
    context = {
        "version": model.card.version if model else None,
        "labels": list(model.head.labels) if model else [],
        "most": studio.pictures_at_once,
        "max_bytes": policy.max_bytes,
    }
    return render(request, "predict.html", context)


@router.post("/api/predict")
async def predict(
    request: Request,
    pictures: Annotated[list[UploadFile], File(description="files")] = [],  # noqa: B006 - FastAPI copies it
    urls: Annotated[list[Address], Form(description="addresses of pictures")] = [],  # noqa: B006 - as above
    near: Annotated[int, Query(ge=0, le=MAX_NEAR)] = 6,
    thumbnails: bool = False,
) -> Predicted:
    """Say what the model in production makes of pictures; nothing of them is stored.

    Send multipart/form-data: `pictures` are files, `urls` are fetched as a crawl would (public
    addresses, robots.txt and all other refusals obeyed). A picture that cannot be used has a
    `reason` in its place. 409 while there is no model, 413, 422 and 429 beyond the limits.
    """
    trial = _trial(request)
    workspace = await run_in_threadpool(trial.reader.workspace)
    limits, policy = workspace.project.studio, workspace.project.policy()
    brought = len(pictures) + len(urls)
    if not brought:
        raise HTTPException(422, "bring one picture or address at least")
    if brought > limits.pictures_at_once:
        raise HTTPException(422, f"{limits.pictures_at_once} pictures at once, not {brought}")
    client = request.client.host if request.client else ""
    if wait_s := pace.wait_s(client, brought, a_minute=limits.pictures_a_minute):
        raise HTTPException(
            429,
            f"{limits.pictures_a_minute} pictures a minute: wait {math.ceil(wait_s)} s",
            headers={"retry-after": str(math.ceil(wait_s))},
        )
    model = await _used(trial)
    uploads: list[tuple[str, bytes]] = []
    found: dict[int, Candidate | Rejected] = {}
    names = [each.filename or "picture" for each in pictures]
    for index, each in enumerate(pictures):
        if (each.size or 0) > policy.max_bytes:
            found[index] = _too_large(names[index], policy.max_bytes)
        else:
            uploads.append((names[index], await each.read()))
    read = [index for index in range(len(pictures)) if index not in found]
    examined = await trying.examine_uploads(uploads, workspace)
    found |= dict(zip(read, examined, strict=True))
    fetched = await trying.fetch_addresses(urls, workspace) if urls else []
    outcomes = [*(found[index] for index in range(len(pictures))), *fetched]
    return await run_in_threadpool(
        _predicted, trial, model, [*names, *urls], outcomes, near, thumbnails
    )


async def _used(trial: Trial) -> TrainedModel:
    try:
        return await run_in_threadpool(trial.model)
    except NoModelYet as error:
        raise HTTPException(409, str(error)) from error


def _too_large(name: str, max_bytes: int) -> Rejected:
    from crawler.rejections import Reason, Rejected

    return Rejected(
        url=name, page_url="", reason=Reason.TOO_LARGE, detail=f"more than {max_bytes} bytes"
    )


def _predicted(
    trial: Trial,
    model: TrainedModel,
    names: Sequence[str],
    outcomes: Sequence[Candidate | Rejected],
    near: int,
    thumbnails: bool,
) -> Predicted:
    from crawler.rejections import Rejected

    candidates = [each for each in outcomes if not isinstance(each, Rejected)]
    opinions = iter(trial.opinions(model, candidates, near=near))
    thresholds = dict(zip(model.head.labels, map(float, model.head.thresholds_L), strict=True))
    known = trial.reader.view().pictures
    verdicts = []
    for name, each in zip(names, outcomes, strict=True):
        if isinstance(each, Rejected):
            verdicts.append(
                PictureVerdict(
                    name=name, sha256=each.sha256, reason=each.reason.value, detail=each.detail
                )
            )
            continue
        opinion = next(opinions)
        seen = each.fingerprint
        verdicts.append(
            PictureVerdict(
                name=name,
                sha256=seen.sha256,
                width=seen.width,
                height=seen.height,
                format=each.format,
                in_dataset=seen.sha256 in known,
                labels=_labels(opinion, thresholds),
                near=[
                    NearPicture(
                        sha256=near_to.sha256,
                        cosine=near_to.cosine,
                        answers=dict(near_to.answers),
                    )
                    for near_to in opinion.near
                    if near_to.sha256 in known
                ],
                thumbnail=base64.b64encode(each.thumbnail).decode() if thumbnails else None,
            )
        )
    return Predicted(
        version=model.card.version, encoder_id=model.head.encoder_id, pictures=verdicts
    )


def _labels(opinion: Opinion, thresholds: Mapping[str, float]) -> list[LabelVerdict]:
    return [
        LabelVerdict(
            label=label,
            score=score,
            threshold=thresholds[label],
            answer=opinion.answers[label],
        )
        for label, score in opinion.scores.items()
    ]


def _tried(trial: Trial, sha256: str) -> Tried:
    found = trial.tray.get(sha256)
    if found is None:
        raise HTTPException(
            404,
            f"picture {sha256[:12]} is no longer held: what is tried is not stored; try it again",
        )
    return found


@router.post("/api/predict/heat")
def heat(request: Request, asked: HeatRequest) -> Heat:
    """Say where in a picture the score of a label comes from, by covering parts of it."""
    trial = _trial(request)
    tried = _tried(trial, asked.sha256)
    try:
        model = trial.model()
    except NoModelYet as error:
        raise HTTPException(409, str(error)) from error
    if tried.encoder_id != model.head.encoder_id:
        raise HTTPException(409, "the project's encoder has changed: try the picture again")
    found = trial.heat(model, tried, asked.label)
    buffer = io.BytesIO()
    Image.fromarray(tried.pixels_HWC).save(buffer, "JPEG", quality=90)
    return Heat(
        version=model.card.version,
        grid=found.fall_GG.tolist(),
        seen=base64.b64encode(buffer.getvalue()).decode(),
    )


@router.post("/api/predict/add")
def add(request: Request, new: NewPicture) -> Added:
    """Take a picture into the dataset, as an import would, and decide about it at the desk."""
    trial = _trial(request)
    tried = _tried(trial, new.sha256)
    labels = trial.reader.workspace().project.taxonomy().names
    if unknown := new.answers.keys() - set(labels):
        raise HTTPException(422, f"project.toml has no label {', '.join(sorted(unknown))}")
    try:
        kept_as = trial.add(tried)
    except PictureForgotten as error:
        raise HTTPException(409, str(error)) from error
    decisions = [
        NewDecision(id=uuid4().hex, sha256=new.sha256, label=label, answer=answer)
        for label, answer in new.answers.items()
    ]
    if decisions:
        request.app.state.desk.hand_in(decisions)
    return Added(sha256=new.sha256, kept_as=kept_as, decisions=len(decisions))
