"""Every value that R gave for mixed and clustered models."""

from fnmatch import fnmatchcase

import agreement
import agreement_mixed
import pytest

pytestmark = pytest.mark.realdata
COMPARED = 1075  # values of R that mixed and clustered models are held against


@pytest.fixture(scope="module")
def reference(shared_data):
    return agreement_mixed.reference_of(shared_data / "stats_reference")


def assert_all_agree(rows):
    assert rows
    wrong = [str(row) for row in rows if not row.agrees]
    assert not wrong, f"{len(wrong)} of {len(rows)}: " + "\n".join(wrong[:10])


@pytest.mark.parametrize("pattern", agreement_mixed.ANALYSES)
def test_every_value_of_r(reference, pattern):
    names = [name for name in reference.values if fnmatchcase(name, pattern)]
    assert_all_agree([row for name in names for row in agreement.compare(reference, name)])


@pytest.mark.parametrize("name", [agreement_mixed.CR2_FILE, agreement_mixed.SLOPES_FILE])
def test_every_value_in_a_file_of_its_own(reference, name):
    assert_all_agree(agreement_mixed.rows_of_files(reference)[name])


def test_nothing_drops_out_of_the_comparison(reference):
    table = agreement_mixed.compare(reference.folder)
    assert sum(row.n for row in table) == COMPARED
    assert not any(row.skipped or row.failed for row in table)


def test_fixed_effects_agree_better_than_the_optimiser_of_lme4(reference):
    """Estimates, errors and degrees of freedom to 3e-6; a covariance near 0 is further off."""
    names = [n for n in reference.values if n[:3] in ("C1_", "C2_") or n.endswith("_lmer")]
    rows = [row for name in names for row in agreement.compare(reference, name)]
    assert max(row.error for row in rows if row.stat in ("estimate", "se", "df_satt")) < 3e-6


def test_a_singular_fit_is_one_in_r_too(reference):
    rows = [row for name in ("A4_T3_lmer", "B5_lmer_site_random")
            for row in agreement.compare(reference, name) if row.stat == "singular"]  # fmt: skip
    assert [row.found for row in rows] == [row.expected for row in rows]
    assert sum(row.found for row in rows) == 4
