from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate import phenotype
from alsflow.nodes.simulate.anatomy import Traits, grow_anatomy
from alsflow.nodes.simulate.cohort import (
    CONTROL,
    DEFAULT_NETWORK_EFFECTS,
    DEFAULT_TRACT_EFFECTS,
    PATIENT,
    Design,
    DiffusionDesign,
    FunctionalDesign,
    draw_diffusion_site,
    draw_functional_site,
    draw_people,
    draw_site,
    effect_table,
    is_difference,
    motor_change,
    person_motor_z,
    person_scores,
    region_thinning,
    scan_person,
    scan_person_diffusion,
    scan_person_functional,
    site_of,
    tract_changes,
    true_measures,
)

REGIONS = {
    "precentral": {"left": (1,), "right": (2,)},
    "striatum": {"left": (3, 5), "right": (4, 6)},
}


def design(**changes):
    return replace(Design(9, 8, 3, seed=4), **changes)


def test_nobody_changes_when_others_join():
    few = {p.label: p for p in draw_people(design(n_patients=3, n_controls=2), REGIONS)}
    many = {p.label: p for p in draw_people(design(n_patients=40, n_controls=60), REGIONS)}
    assert list(few) == ["01", "02", "03", "04", "05"]
    assert all(many[label] == person for label, person in few.items())
    assert len(many) == 100
    assert "119" not in few


def test_another_seed_makes_other_people_and_sites():
    first, other = draw_people(design(), REGIONS), draw_people(design(seed=5), REGIONS)
    assert [p.row["age"] for p in first] != [p.row["age"] for p in other]
    assert draw_site(design(), 0) != draw_site(design(seed=5), 0)
    assert draw_site(design(), 0) == draw_site(design(n_patients=1), 0) != draw_site(design(), 1)


@pytest.mark.parametrize("sites", [1, 2, 3, 5])
def test_every_site_has_both_groups_and_no_site_dominates(sites):
    for patient in (True, False):
        counts = Counter(site_of(index, patient, sites) for index in range(4 * sites))
        assert set(counts) == set(range(sites))
        first = Counter(site_of(index, patient, sites) for index in range(sites))
        assert set(first.values()) == {1}
    cells = [Counter(site_of(i, p, 3) for i in range(9)) for p in (True, False)]
    assert cells[0] != cells[1]


def test_only_people_with_als_carry_the_effect_and_its_mean_is_right():
    people = draw_people(design(n_patients=400, n_controls=10), REGIONS)
    for person in people:
        patient = person.row["group"] == PATIENT
        assert bool(person.traits.thinning) == patient
        assert (person.row["disease_duration"] is not None) == patient
    shares = [p.traits.thinning[1] for p in people if p.row["group"] == PATIENT]
    assert np.mean(shares) == pytest.approx(0.12, abs=0.005)
    assert np.std(shares) == pytest.approx(0.03, abs=0.004)
    assert {p.traits.thinning[1] == p.traits.thinning[2] for p in people if p.clinic.patient} == {
        True
    }


def test_heads_vary_as_adults_do():
    people = draw_people(design(n_patients=300, n_controls=300), REGIONS)
    tiv = np.array([p.traits.tiv for p in people])
    assert tiv.std() / tiv.mean() == pytest.approx(0.10, abs=0.015)
    men = np.array([p.row["sex"] == "M" for p in people])
    assert tiv[men].mean() > tiv[~men].mean() + 120
    ages = np.array([p.row["age"] for p in people])
    loss = np.array([p.traits.cortical_loss for p in people])
    assert np.polyfit(ages, loss, 1)[0] == pytest.approx(0.0022, abs=0.0003)


def test_effects_name_regions_and_sides():
    assert region_thinning({"gmv_striatum_left": -0.1}, REGIONS) == {3: 0.1, 5: 0.1}
    assert region_thinning({"gmv_precentral_both": 0.0}, REGIONS) == {}
    both = {"gmv_precentral_left": -0.1, "gmv_precentral_right": -0.2}
    assert region_thinning(both, REGIONS) == {1: 0.1, 2: 0.2}


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ({"gmv_precentral": -0.1}, "precentral, striatum"),
        ({"gmv_cuneus_both": -0.1}, "precentral, striatum"),
        ({"precentral_both": -0.1}, "gmv_REGION"),
        ({"gmv_precentral_both": 0.1}, "not added"),
        ({"gmv_precentral_both": -0.91}, "-0.9"),
        ({"gmv_precentral_both": float("nan")}, "-0.9"),
        ({"gmv_precentral_both": -0.1, "gmv_precentral_left": -0.1}, "another effect"),
    ],
)
def test_effects_that_cannot_be_made_are_refused(effects, words):
    with pytest.raises(BadInputError, match=words):
        region_thinning(effects, REGIONS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_patients": 0, "n_controls": 0}, "at least one person"),
        ({"n_patients": -1}, "at least one person"),
        ({"n_sites": 0}, "one site"),
        ({"seed": -1}, "negative"),
        ({"voxels": ((1.0, 1.0, 4.1),)}, "0.5 to 4"),
        ({"dwi": DiffusionDesign(5)}, "at least 6"),
        ({"dwi": DiffusionDesign(n_b0=0)}, "at least 6 and 1"),
        ({"dwi": DiffusionDesign(voxels=((2.0, 2.0, 5.1),))}, "1 to 5"),
        ({"effects": DEFAULT_TRACT_EFFECTS}, "--modalities anat dwi"),
    ],
)
def test_designs_that_cannot_be_drawn_are_refused(changes, words):
    with pytest.raises(BadInputError, match=words):
        draw_people(design(**changes), REGIONS)


def test_true_measures_are_the_arithmetic_of_the_volumes():
    volumes = {"tiv": 1500.0, "gm": 690.0, "wm": 500.0, "csf": 310.0}
    regional = np.zeros(256)
    regional[1:7] = [9.0, 11.0, 3.0, 4.0, 1.0, 2.0]
    found = true_measures(volumes, regional, REGIONS)
    assert found["gm_tiv"] == (46.0, "%")
    assert found["gmv_precentral_both"] == (20.0, "mL")
    assert found["gmv_precentral_left_tiv"][0] == pytest.approx(0.6)
    assert found["gmv_precentral_asymmetry"] == (pytest.approx(-0.2), "1")
    assert found["gmv_striatum_left"][0] == 4.0
    assert found["gmv_striatum_right"][0] == 6.0


def test_effect_table_says_what_was_aimed_at_and_what_came_of_it():
    changes = pd.DataFrame(
        {
            "gm": [-0.002, -0.004],
            "gmv_precentral_both": [-0.1, -0.16],
            "gmv_precentral_left_tiv": [-0.1, -0.16],
            "gmv_striatum_both": [0.0, 0.0],
        }
    )
    table = effect_table({"gmv_precentral_both": -0.12}, changes).set_index("measure")
    assert table.loc["gmv_precentral_both", "relative_effect"] == -0.12
    assert table.loc["gmv_precentral_left_tiv", "relative_effect"] == -0.12
    assert table.loc["gmv_precentral_both", "mean_change"] == pytest.approx(-0.13)
    assert table.loc["gmv_striatum_both", "relative_effect"] == 0
    assert table.loc["gm", "relative_effect"] == pytest.approx(-0.003)


def test_effect_table_without_patients_has_no_mean_change():
    table = effect_table({"gmv_precentral_both": -0.12}, pd.DataFrame(columns=["gm"], dtype=float))
    assert table.loc[0, "relative_effect"] == 0
    assert np.isnan(table.loc[0, "mean_change"])


def test_scores_stay_in_their_ranges_and_add_up():
    plan = design(n_patients=150, n_controls=20)
    meaning = phenotype.score_columns()
    for person in draw_people(plan, REGIONS):
        scores = person_scores(plan, person)
        assert ("alsfrsr" in scores) == (person.row["group"] != CONTROL)
        for table, row in scores.items():
            assert set(row) == set(meaning[table])
            for name, value in row.items():
                low, high = (meaning[table][name].get(k) for k in ("Minimum", "Maximum"))
                assert low is None or low <= value <= high
        for table, total in (("alsfrsr", "total"), ("mrc", "mrc_sum"), ("penn_umn", "penn_total")):
            if row := scores.get(table):
                points = {k: v for k, v in row.items() if k not in (total, "gastrostomy")}
                assert sum(points.values()) == row[total]


def test_more_atrophy_goes_with_worse_scores():
    plan = design(n_patients=400, n_controls=0)
    people = draw_people(plan, REGIONS)
    lost = [person.traits.thinning[1] for person in people]
    scores = [person_scores(plan, person) for person in people]
    totals = [row["alsfrsr"]["total"] for row in scores]
    assert np.corrcoef(lost, totals)[0, 1] == pytest.approx(-0.52, abs=0.1)
    assert np.corrcoef(lost, [row["penn_umn"]["penn_total"] for row in scores])[0, 1] > 0.2
    assert np.corrcoef(lost, [row["tapping"]["foot_left"] for row in scores])[0, 1] < -0.2
    bulbar = np.array([person.clinic.bulbar for person in people])
    speech = np.array([row["alsfrsr"]["speech"] for row in scores])
    assert speech[bulbar].mean() < speech[~bulbar].mean() - 0.5


def test_scanning_a_person_twice_gives_the_same_voxels(ball_blueprint):
    plan = design(voxels=((3.0, 3.0, 4.0), (3.5, 3.5, 3.5)))
    person = draw_people(plan, REGIONS)[0]
    first, again = (scan_person(plan, person, ball_blueprint) for _ in range(2))
    np.testing.assert_array_equal(first.scan.image, again.scan.image)
    np.testing.assert_allclose(np.diag(first.scan.affine)[:3], plan.voxel(person.site))


# ---------------------------------------------------------------------------- diffusion


def test_effects_name_tracts_and_sides():
    both = {"fa_corticospinal_tract_both": -0.1, "gmv_striatum_left": -0.2}
    assert tract_changes(both) == {
        ("corticospinal_tract", "left"): -0.1,
        ("corticospinal_tract", "right"): -0.1,
    }
    assert region_thinning(both, REGIONS) == {3: 0.2, 5: 0.2}
    assert tract_changes({"fa_corticothalamic_tract_right": 0.05}) == {
        ("corticothalamic_tract", "right"): 0.05
    }
    assert tract_changes({"fa_corticospinal_tract_both": 0.0}) == {}


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ({"fa_corticospinal_tract": -0.1}, "corticospinal_tract, corticostriatal_tract"),
        ({"fa_corpus_callosum_both": -0.1}, "corticospinal_tract, corticostriatal_tract"),
        ({"fa_corticospinal_tract_left": 0.31}, "0.3"),
        ({"fa_corticospinal_tract_left": float("nan")}, "0.3"),
        (
            {"fa_corticospinal_tract_left": -0.1, "fa_corticospinal_tract_both": -0.1},
            "another effect",
        ),
    ],
)
def test_tract_effects_that_cannot_be_made_are_refused(effects, words):
    with pytest.raises(BadInputError, match=words):
        tract_changes(effects)


def test_people_and_their_other_images_are_the_same_with_and_without_diffusion():
    effects = {"gmv_precentral_both": -0.12}
    plain = design(effects=effects)
    more = design(effects=effects | DEFAULT_TRACT_EFFECTS, dwi=DiffusionDesign())
    people = (draw_people(plan, REGIONS) for plan in (plain, more))
    for without, person in zip(*people, strict=True):
        assert replace(person, tract_changes={}) == without
        assert bool(person.tract_changes) == (person.row["group"] == PATIENT)
    assert draw_site(plain, 1) == draw_site(more, 1)


def test_tract_changes_follow_the_atrophy_of_the_person():
    more = design(
        n_patients=300,
        effects={"gmv_precentral_both": -0.12} | DEFAULT_TRACT_EFFECTS,
        dwi=DiffusionDesign(),
    )
    people = [p for p in draw_people(more, REGIONS) if p.row["group"] == PATIENT]
    changes = np.array([p.tract_changes["corticospinal_tract", "left"] for p in people])
    lost = np.array([p.traits.thinning[1] for p in people])
    assert changes.mean() == pytest.approx(-0.1, abs=0.005)
    np.testing.assert_allclose(changes / -0.1, lost / 0.12)


def test_sites_measure_diffusion_differently():
    sites = [draw_diffusion_site(design(n_sites=40), site) for site in range(40)]
    assert np.std([site.fa for site in sites]) == pytest.approx(0.03, abs=0.01)
    assert np.std([site.diffusivity for site in sites]) == pytest.approx(0.02, abs=0.007)
    assert len({site.storage for site in sites}) == 3
    assert draw_diffusion_site(design(n_patients=1), 2) == draw_diffusion_site(design(), 2)


def test_a_series_is_that_of_the_person_whoever_else_is_there(ball_blueprint, bundles):
    dwi = DiffusionDesign(6, 1, voxels=((5.0, 5.0, 4.0),))
    few, many = (design(n_patients=n, n_controls=n, dwi=dwi) for n in (2, 50))
    anatomy = grow_anatomy(ball_blueprint, Traits(tiv=500.0), np.random.default_rng(0))
    found = [
        scan_person_diffusion(plan, draw_people(plan, REGIONS)[2], anatomy, bundles)
        for plan in (few, many)
    ]
    np.testing.assert_array_equal(found[0].series, found[1].series)
    np.testing.assert_array_equal(found[0].reverse, found[1].reverse)
    assert len(found[0].gradients) == 7
    with pytest.raises(ValueError, match="no diffusion"):
        scan_person_diffusion(design(), draw_people(design(), REGIONS)[0], anatomy, bundles)


# ---------------------------------------------------------------------------- resting state

RESTING = {"effects": dict(DEFAULT_NETWORK_EFFECTS), "func": FunctionalDesign()}


def test_the_effect_on_motor_connectivity_is_the_mean_over_people():
    """400 people with ALS and 400 controls drawn, nobody scanned."""
    asked = design(n_patients=400, n_controls=400, **RESTING)
    people = draw_people(asked, REGIONS)
    drawn = {p.label: person_motor_z(asked, p) for p in people}
    groups = [
        np.array([drawn[p.label] for p in people if (p.row["group"] == PATIENT) == patient])
        for patient in (True, False)
    ]
    ill, healthy = groups
    np.testing.assert_array_equal(healthy[:, 0], healthy[:, 1])
    changes = ill[:, 0] / ill[:, 1] - 1
    assert changes.mean() == pytest.approx(-0.3, abs=0.012)
    assert changes.std() == pytest.approx(0.075, abs=0.01)
    error = np.hypot(ill[:, 0].std(), healthy[:, 0].std()) / np.sqrt(400)
    difference = ill[:, 0].mean() - healthy[:, 0].mean()
    assert abs(difference + 0.3 * healthy[:, 0].mean()) < 3 * error
    assert 0.2 < -difference / np.hypot(0.12, 0.12) < 2.5  # of a size that a small group shows


def test_who_is_ill_in_the_brain_is_ill_in_the_network():
    asked = design(n_patients=30, effects={"gmv_precentral_both": -0.1} | DEFAULT_NETWORK_EFFECTS)
    asked = replace(asked, func=FunctionalDesign())
    people = [p for p in draw_people(asked, REGIONS) if p.row["group"] == PATIENT]
    thin = [p.traits.thinning[1] for p in people]
    assert np.corrcoef(thin, [p.motor_change for p in people])[0, 1] < -0.999


def test_resting_state_changes_nothing_else_about_people_and_sites():
    plain, more = design(effects={}), design(effects={}, func=FunctionalDesign())
    assert draw_people(plain, REGIONS) == draw_people(more, REGIONS)
    assert draw_site(plain, 1) == draw_site(more, 1)
    assert draw_diffusion_site(plain, 1) == draw_diffusion_site(more, 1)
    first = person_motor_z(more, draw_people(more, REGIONS)[3])
    assert first == person_motor_z(plain, draw_people(plain, REGIONS)[3])


def test_sites_take_resting_state_series_in_their_own_ways():
    sites = [draw_functional_site(design(**RESTING), site) for site in range(12)]
    assert {site.polarity for site in sites} == {-1, 1}
    assert len({site.multiband for site in sites}) > 1
    assert len({site.storage for site in sites}) > 1
    assert len({site.tsnr for site in sites}) == 12
    for site in sites:  # the shift of the same field grows with the readout
        hertz = site.distortion / 3.5 / site.readout
        assert 40 < hertz < 70
    fixed = FunctionalDesign(scanner=sites[0])
    assert draw_functional_site(design(func=fixed), 3) == sites[0]


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        ({"fc_precentral_thalamus_both": -0.1}, "name fc_motor_interhemispheric"),
        ({"fc_motor_interhemispheric": 0.31}, "between -0.9 and 0.3"),
        ({"fc_motor_interhemispheric": -0.91}, "between -0.9 and 0.3"),
        ({"fcd_motor": -0.1}, "with func, fc_motor_interhemispheric"),
    ],
)
def test_effects_on_connectivity_that_cannot_be_are_refused(effects, message):
    with pytest.raises(BadInputError, match=message):
        draw_people(design(effects=effects, func=FunctionalDesign()), REGIONS)


def test_an_effect_on_connectivity_needs_a_series():
    with pytest.raises(BadInputError, match="--modalities anat func"):
        draw_people(design(effects={"fc_motor_interhemispheric": -0.1}), REGIONS)
    assert motor_change({"fc_motor_interhemispheric": -0.9}) == -0.9
    draw_people(design(effects={"fc_motor_interhemispheric": 0.0}), REGIONS)


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (FunctionalDesign(volumes=9), "show no networks"),
        (FunctionalDesign(repetition=0.4), "0.5 to 5"),
        (FunctionalDesign(repetition=5.1), "0.5 to 5"),
        (FunctionalDesign(voxels=((3.0, 3.0, 6.1),)), "2 to 6"),
    ],
)
def test_series_that_cannot_be_drawn_are_refused(func, message):
    with pytest.raises(BadInputError, match=message):
        draw_people(design(func=func), REGIONS)
    draw_people(design(func=FunctionalDesign(10, 0.5, ((2.0, 6.0, 2.0),))), REGIONS)


def test_a_design_without_resting_state_scans_none():
    person = draw_people(design(), REGIONS)[0]
    with pytest.raises(ValueError, match="no resting-state series"):
        scan_person_functional(design(), person, None, None)


def test_changes_near_zero_are_differences():
    assert is_difference("gmv_precentral_asymmetry")
    assert is_difference("fc_precentral_thalamus_both")
    assert not is_difference("fc_motor_interhemispheric")
    assert not is_difference("gmv_precentral_both")
    changes = pd.DataFrame({"fc_motor_interhemispheric": [-0.2, -0.4]})
    table = effect_table({"fc_motor_interhemispheric": -0.3}, changes)
    assert table.iloc[0].tolist() == ["fc_motor_interhemispheric", -0.3, pytest.approx(-0.3),
                                      "relative"]  # fmt: skip
