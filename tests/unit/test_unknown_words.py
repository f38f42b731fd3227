"""A word that a base never learnt is named, of a base that lists those it learnt."""

import dataclasses
import warnings

import pytest

import maquette as mq
from maquette.errors import MaquetteWarning
from maquette.text.clip import read_words, words_of


def test_words_are_small_and_once() -> None:
    assert words_of("A red House, a RED ball; x2 Bäume") == ["red", "house", "ball", "bäume"]


def test_unknown_words_are_said(tmp_path) -> None:
    (tmp_path / "words.txt").write_text("red\nhouse\n")
    base = mq.load_base("diorama")
    base.text_encoder.text_encoders = (dataclasses.replace(base.text.text_encoders[0], words=read_words(tmp_path)),)
    with pytest.warns(MaquetteWarning, match="^unknown here: giraffe, hat$"):
        base.encode_text(["a red giraffe, a red hat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base.encode_text(["A Red HOUSE"])


def test_a_base_without_a_list_says_nothing(tmp_path) -> None:
    assert read_words(tmp_path) is None
    base = mq.load_base("diorama")
    base.text_encoder.text_encoders = (dataclasses.replace(base.text.text_encoders[0], words=None),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base.encode_text(["a giraffe"])
