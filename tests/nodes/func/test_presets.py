"""Presets: what is accepted, and in which words the rest is refused."""

import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.presets import check_band, load_preset, preset_content

TEXT = """
description = "a few"
source = "doi:10.1/1"
motion = 12
compcor = {wm = 3, csf = 2}
global_signal = 1
wm_csf = 2
trend = 2
band = [0.01, 0.1]
"""


def test_every_key_arrives():
    preset = load_preset(TEXT, "own")
    assert (preset.name, preset.motion, preset.wm, preset.csf) == ("own", 12, 3, 2)
    assert (preset.global_signal, preset.wm_csf, preset.trend) == (1, 2, 2)
    assert preset.band == (0.01, 0.1)


def test_content_comes_back_as_it_went():
    preset = load_preset(TEXT, "own")
    assert load_preset(preset_content(preset), "own") == preset
    bare = load_preset("", "bare")
    assert bare.band is None
    assert load_preset(preset_content(bare), "bare") == bare


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("motions = 6", "unknown key motions; did you mean motion"),
        ("xyz = 6", "known are"),
        ("motion = 7", "motion = 7; give one of 0, 6, 12, 24"),
        ("motion = true", "motion = True"),
        ('motion = "24"', "motion = '24'"),
        ("compcor = 5", "write compcor = {wm = 5, csf = 5}"),
        ("compcor = {grey = 5}", "unknown key compcor.grey"),
        ("compcor = {wm = 11}", "wm = 11; give a whole number from 0 to 10"),
        ("compcor = {csf = -1}", "csf = -1"),
        ("trend = 6", "trend = 6; give a whole number from 0 to 5"),
        ("trend = 1.0", "trend = 1.0"),
        ("global_signal = 3", "one of 0, 1, 2, 4"),
        ("description = 4", "put it in quotes"),
        ("band = 0.1", "give two frequencies"),
        ("band = [0.1]", "give two frequencies"),
        ("band = [0.01, true]", "give two frequencies"),
        ("band = [0.1, 0.1]", "lets nothing pass"),
        ("band = [-0.1, 0.1]", "not below 0 Hz"),
        ("band = [0.1, inf]", "lets nothing pass"),
        ("band = [nan, 0.1]", "lets nothing pass"),
        ("motion = ", "not valid TOML"),
    ],
)
def test_what_is_no_preset_is_refused(text, words):
    with pytest.raises(BadInputError) as error:
        load_preset(text, "own")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_band_above_what_the_volumes_show():
    preset = load_preset("band = [0.01, 0.25]", "own")
    check_band(preset, 2.0)  # the highest frequency itself
    with pytest.raises(BadInputError, match=r"every 2.1 s show none above 0.238 Hz"):
        check_band(preset, 2.1)
    check_band(load_preset("", "bare"), 100.0)
