"""Labels and the questions that are asked about them."""

from __future__ import annotations

import re

import pytest

from model.labels import LabelPrompt, Taxonomy

TURNTABLE = LabelPrompt(label="turntable", prompts=("a photo of a turntable",))
VINYL = LabelPrompt(label="vinyl", prompts=("a vinyl record",), against=("a compact disc",))


def test_the_names_are_in_the_order_given() -> None:
    assert Taxonomy(labels=(VINYL, TURNTABLE)).names == ("vinyl", "turntable")


def test_the_id_is_the_same_for_the_same_questions() -> None:
    again = LabelPrompt(label="turntable", prompts=("a photo of a turntable",))
    assert Taxonomy(labels=(TURNTABLE, VINYL)).id == Taxonomy(labels=(again, VINYL)).id


def test_the_id_is_twelve_hex_digits() -> None:
    assert re.fullmatch("[0-9a-f]{12}", Taxonomy(labels=(TURNTABLE,)).id)


@pytest.mark.parametrize(
    "changed",
    [
        LabelPrompt(label="deck", prompts=VINYL.prompts, against=VINYL.against),
        LabelPrompt(label="vinyl", prompts=("a record",), against=VINYL.against),
        LabelPrompt(label="vinyl", prompts=VINYL.prompts, against=("a plate",)),
        LabelPrompt(label="vinyl", prompts=(*VINYL.prompts, *VINYL.against)),
    ],
    ids=["name", "prompt", "contrast", "contrast moved to the prompts"],
)
def test_the_id_changes_with_everything_that_is_asked(changed: LabelPrompt) -> None:
    assert Taxonomy(labels=(changed,)).id != Taxonomy(labels=(VINYL,)).id


def test_the_id_changes_with_the_order_of_labels() -> None:
    """Scores are columns in label order, so another order is another taxonomy."""
    assert Taxonomy(labels=(TURNTABLE, VINYL)).id != Taxonomy(labels=(VINYL, TURNTABLE)).id


def test_two_labels_of_one_name_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="given twice: vinyl"):
        Taxonomy(labels=(VINYL, TURNTABLE, VINYL))


def test_a_taxonomy_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one label"):
        Taxonomy(labels=())


def test_a_label_without_prompts_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'vinyl' has no prompt"):
        LabelPrompt(label="vinyl", prompts=())


def test_a_blank_prompt_is_refused_by_its_label() -> None:
    with pytest.raises(ValueError, match="'vinyl' has an empty prompt"):
        LabelPrompt(label="vinyl", prompts=("a record",), against=(" ",))


def test_a_blank_name_is_refused() -> None:
    with pytest.raises(ValueError, match="empty name"):
        LabelPrompt(label=" ", prompts=("a record",))
