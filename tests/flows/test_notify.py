"""People are told by a real mail server and a real web server; and a run never fails for it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from flows.errors import SettingsInvalid
from flows.notify import Notice, NotifySettings, failed_notice, send, trained_notice
from flows.train import TrainResult, Verdict
from model.train import TooFewExamples, TrainConfig, train
from tests.certificates import SELF_SIGNED, self_signed
from tests.flows.mail_server import USER, Letters, mail_server
from tests.model.synthetic import draw_pictures, snapshot_of

NOTICE = Notice(
    subject="records: model 12 is\nin production",
    summary="trained <12>",
    rows=[{"label": "vinyl & co", "F1": "0.90 [0.80, 0.95]"}, {"label": "macro F1", "F1": "0.90"}],
    next_steps=["review 3 answers that look wrong"],
)


def part(letter: EmailMessage, kind: str) -> str:
    body = letter.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def test_a_letter_has_the_table_and_the_next_steps_in_both_forms() -> None:
    with mail_server() as (letters, settings):
        assert send(NOTICE, settings) == []
    (letter,) = letters.received
    assert letter["To"] == "ann@example.org, bob@example.org"
    assert letter["Subject"] == "records: model 12 is in production"
    for kind in ("plain", "html"):
        assert "0.90 [0.80, 0.95]" in part(letter, kind)
        assert "review 3 answers that look wrong" in part(letter, kind)
    assert "<td>vinyl &amp; co</td>" in part(letter, "html")
    assert "trained &lt;12&gt;" in part(letter, "html")


def test_failure_is_mailed_with_its_reason() -> None:
    error = TooFewExamples("too few examples to train on: vinyl has 2 positives and 9 negatives")
    with mail_server() as (letters, settings):
        send(failed_notice(error, project="records"), settings)
    (letter,) = letters.received
    assert letter["Subject"] == "records: training failed"
    assert "vinyl has 2 positives and 9 negatives" in part(letter, "plain")


def test_a_trained_model_is_told_with_its_measures_and_what_to_do() -> None:
    drawn = draw_pictures(60)
    card = train(
        snapshot_of(drawn.targets), drawn.embeddings, config=TrainConfig(repeats=1, resamples=100)
    ).card
    verdict = Verdict(promoted=False, champion="old", difference=None, reason="no better")
    result = TrainResult(
        version=card.version,
        snapshot_id=card.snapshot_id,
        trained=True,
        card=card,
        verdict=verdict,
        seconds=1.0,
    )
    notice = trained_notice(result, project="records", studio_url="http://studio.example")
    assert notice.subject == f"records: model {card.version} is not promoted"
    assert str(card.evaluation.labels[0].f1) in notice.html()
    assert any(f"models compare {card.version}" in step for step in notice.next_steps)
    assert any("http://studio.example" in step for step in notice.next_steps)


def test_a_mail_server_that_is_down_is_a_sentence_and_no_error() -> None:
    with mail_server() as (_, settings):
        pass
    (trouble,) = send(NOTICE, settings)
    assert trouble.startswith("no e-mail was sent by 127.0.0.1")


@pytest.fixture
def locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Letters, NotifySettings]]:
    """A mail server that takes letters over STARTTLS from who signs in, its certificate trusted."""
    tls = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / SELF_SIGNED))
    with mail_server(tls) as (letters, settings):
        yield letters, settings


def test_a_letter_goes_over_starttls_from_who_signs_in(
    locked: tuple[Letters, NotifySettings],
) -> None:
    letters, settings = locked
    assert send(NOTICE, settings) == []
    assert letters.encrypted == [True]
    assert letters.signed_in == [USER]


def test_a_wrong_password_is_one_sentence_that_says_which_settings(
    locked: tuple[Letters, NotifySettings],
) -> None:
    letters, settings = locked
    wrong = settings.model_copy(update={"smtp_password": SecretStr("hunter2")})
    (trouble,) = send(NOTICE, wrong)
    assert trouble == (
        "no e-mail was sent by 127.0.0.1: it refused the user or the password (535 5.7.8 "
        "Authentication credentials invalid): check CRATEDIG_SMTP_USER and CRATEDIG_SMTP_PASSWORD"
    )
    assert letters.received == []


def test_a_password_does_not_go_to_a_server_that_nobody_vouches_for(tmp_path: Path) -> None:
    """The certificate is not trusted: the connection ends before anything is said."""
    with mail_server(self_signed(tmp_path)) as (letters, settings):
        (trouble,) = send(NOTICE, settings)
    assert "its certificate is not to be trusted (self-signed certificate)" in trouble
    assert (letters.signed_in, letters.received) == ([], [])


def test_a_server_without_starttls_is_not_written_to_in_the_clear() -> None:
    with mail_server() as (letters, settings):
        (trouble,) = send(NOTICE, settings.model_copy(update={"smtp_security": "starttls"}))
    assert "check CRATEDIG_SMTP_SECURITY" in trouble.replace("Check", "check")
    assert letters.received == []


def test_a_webhook_gets_the_notice_as_json() -> None:
    told: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = SecretStr(f"http://127.0.0.1:{server.server_port}/hook?key=secret")
        assert send(NOTICE, NotifySettings(webhook_url=address)) == []
        thread.join()
    assert told[0]["rows"] == list(NOTICE.rows)
    assert "review 3 answers" in told[0]["text"]


def test_a_webhook_that_is_down_does_not_give_its_key_away() -> None:
    address = SecretStr("http://127.0.0.1:9/hook?key=secret")
    (trouble,) = send(NOTICE, NotifySettings(webhook_url=address))
    assert "127.0.0.1" in trouble
    assert "secret" not in trouble


def test_nobody_set_up_is_nobody_told() -> None:
    assert send(NOTICE, NotifySettings()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("CRATEDIG_SMTP_HOST=mail.example", "needs CRATEDIG_MAIL_FROM"),
        ("CRATEDIG_SMTP_USER=ann", "given together"),
        (
            "CRATEDIG_SMTP_USER=a\nCRATEDIG_SMTP_PASSWORD=hunter2\nCRATEDIG_SMTP_SECURITY=none",
            "not sent in the clear",
        ),
        ("CRATEDIG_WEBHOOK_URL=ftp://x", "starts with http"),
    ],
)
def test_contradictions_are_refused_at_start_without_their_values(
    tmp_path: Path, given: str, said: str
) -> None:
    (tmp_path / ".env").write_text(given)
    with pytest.raises(SettingsInvalid, match=said) as refused:
        NotifySettings.load(tmp_path)
    assert "hunter2" not in str(refused.value)
