"""Published numbers: what they imply, and where they contradict each other."""

import pandas as pd
import pytest
from reference_cohorts import analyses, calsnic, taiwan

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.analyses import run_analyses
from alsflow.nodes.stats.printed_numbers import need_printed, read_printed
from alsflow.nodes.stats.published import find_table, parse_paper, verdict
from alsflow.nodes.stats.recheck import (
    checks_page,
    consistent_df,
    consistent_n,
    pooled_moments,
    recheck,
)
from alsflow.nodes.stats.replication import replication_tables
from alsflow.workflows.measures import MEASURES_FILE, catalogue

PUBLISHED = MEASURES_FILE.parent / "published"


@pytest.fixture(scope="module")
def papers():
    return {
        path.stem: parse_paper(path.read_text(encoding="utf-8"), path.name)
        for path in sorted(PUBLISHED.glob("*.toml"))
    }


@pytest.fixture(scope="module")
def checks(papers):
    return {name: recheck(paper) for name, paper in papers.items()}


def one(table, *words):
    found = table[table["what"].map(lambda what: all(word in what for word in words))]
    assert len(found) == 1, found["what"].tolist()
    return found.iloc[0]


def printed(*texts):
    return [need_printed(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("2.68", 2.675, 2.685), ("-3.15", -3.155, -3.145), ("\u22123.1", -3.15, -3.05),
     ("39", 38.5, 39.5), ("<0.001", 0.0, 0.001), ("NS", 0.05, 1.0)],
)  # fmt: skip
def test_a_printed_number_is_an_interval(text, low, high):
    found = read_printed(text)
    assert (found.low, found.high) == (low, high)


def test_nothing_printed_is_no_number():
    assert read_printed("") is None
    with pytest.raises(BadInputError, match="is no printed number"):
        read_printed("about 3")


def test_t_p_and_r2_of_a_slope_give_its_degrees_of_freedom():
    assert consistent_df(*printed("3.83", "<0.001", "0.114")) == [114]
    assert consistent_df(*printed("2.22", "0.012", "0.054")) == []
    assert 114 in consistent_df(*printed("0.39", "0.696", "0.001"))


def test_r_and_p_give_the_number_of_people():
    assert consistent_n(*printed("0.347", "0.023")) == [43]
    assert 52 in consistent_n(*printed("0.537", "<0.001"))


def test_pooled_moments_are_those_of_all_people():
    first, second = [1.0, 2.0, 4.0, 9.0], [3.0, 3.5, 8.0]
    groups = [(pd.Series(g).mean(), pd.Series(g).std(), len(g)) for g in (first, second)]
    both = pd.Series([*first, *second])
    assert pooled_moments(groups) == pytest.approx((both.mean(), both.std()))


@pytest.mark.parametrize(
    ("words", "recomputed", "verdict_", "comment"),
    [
        (("onset age of all", "SD"), "11.58", "differs", ""),
        (("onset age of all", "mean"), "56.44", "agrees", ""),
        (("duration against",), "30.8 months", "differs", "within a year"),
        (("King's stage by onset",), "Pearson p = 0.817", "differs", "no test gives it"),
        (("FA corticospinal tract", "patients against"), "Welch p = 0.00254", "agrees", "Welch"),
        (("Precentral gyrus", "patients against"), "Student p = 0.0171", "differs", "no test"),
        (("AD corticospinal tract", "patients"), "± as SE", "agrees", "15 SD apart"),
        (("FA corticothalamic tract on Striatum",), "t = 2.55, p = 0.012", "differs", "no df"),
        (("CMAP", "two sides"), "Student p = 0.0152", "agrees", ""),
        (("CMAP", "people as rows"), "Student p = 0.0877", "differs", "no test"),
        (("beside age", "MRC"), "df 67 to 78, n = 72 to 83", "implies", "(both sides)"),
        (("beside age", "FVC"), "df 29 to 30, n = 34 to 35", "implies", "fewer than the 39"),
        (("beside age", "ALSFRS-R"), "df 19 to 20, n = 24 to 25", "implies", "fewer than"),
        (("alone", "CMAP", "FA corticothalamic"), "0.088", "differs", "give 0.254"),
        (("alone", "CMAP", "Medial superior"), "0.006", "differs", "give 0.272"),
        (("positive correlation",), "FA corticospinal tract on Superior", "differs", ""),
    ],
)  # fmt: skip
def test_what_the_taipei_paper_implies(checks, words, recomputed, verdict_, comment):
    found = one(checks["taiwan"], *words)
    assert recomputed in found["recomputed"]
    assert found["verdict"] == verdict_
    assert comment in found["comment"]


def test_table_2_has_two_rows_per_person(checks):
    table = checks["taiwan"]
    found = table[table["what"] == "R2, t and p of one slope"].iloc[0]
    assert found["recomputed"] == "df 114 fits all other cells"
    assert found["comment"] == "n = 116 rows"


@pytest.mark.parametrize(
    ("words", "recomputed", "verdict_"),
    [
        (("El Escorial",), "11 + 19 + 9 + 12 = 51", "differs"),
        (("tNAA/Cr", "r and p"), "n = 43", "implies"),
        (("increased",), "0.38 against 0.41: lower", "differs"),
        (("age, patients",), "Student p = 0.0744", "agrees"),
        (("AD", "full factorial"), "p = 1", "agrees"),
        (("MD", "(AD + 2 RD) / 3, controls"), "0.7733", "agrees"),
        (("premotor",), "4.60", "differs"),
    ],
)
def test_what_the_canadian_paper_implies(checks, words, recomputed, verdict_):
    found = one(checks["calsnic"], *words)
    assert recomputed in found["recomputed"]
    assert found["verdict"] == verdict_


def test_every_name_of_a_published_table_is_a_measure_or_a_score(papers):
    known = set(catalogue().measures)
    for paper in papers.values():
        for short in paper.names:
            for name in paper.columns(short)[:1]:
                assert {name.format(side=side) for side in ("left", "right")} <= known, name
        for table in paper.tables.values():
            for key in ("outcome", "predictor"):
                if key in table.cells:
                    assert set(table.cells[key]) <= set(paper.names)


def test_the_page_of_checks_is_up_to_date(papers):
    """If not: python -m alsflow.workflows.published > docs/published-checks.md."""
    page = MEASURES_FILE.parents[2] / "docs" / "published-checks.md"
    assert page.read_text(encoding="utf-8") == checks_page(papers)


def test_a_reference_to_no_table_is_refused(papers):
    with pytest.raises(BadInputError, match="taiwan has no table 't9'"):
        find_table(papers, "taiwan.t9")
    with pytest.raises(BadInputError, match="no paper 'taiwn' .did you mean 'taiwan'"):
        find_table(papers, "taiwn.t2")


@pytest.mark.parametrize(
    ("cells", "estimate", "p", "said"),
    [
        ({"b": "2.0", "p": "0.01"}, 1.0, 0.02, "agrees"),
        ({"b": "2.0", "p": "0.01"}, -1.0, 0.2, "opposite direction"),
        ({"b": "2.0", "p": "0.01"}, 1.0, 0.2, "same direction, other side of p = .05"),
        ({"b": "-2.0", "p": "0.31"}, 1.0, 0.2, "agrees"),
        ({"b": "", "p": ""}, 1.0, 0.2, "nothing printed"),
    ],
)
def test_verdicts(cells, estimate, p, said):
    found = pd.Series({"estimate": estimate, "p": p})
    assert verdict(cells, found, "regression") == said
    assert verdict(cells, None, "regression") == "not tested here"


def test_the_tables_of_taipei_are_printed_in_their_shape(papers, shared_data):
    wanted = ("g1", "g1_sound", "t3_people", "t3_people_sound", "t1")
    chosen = [one for one in analyses("taiwan") if one.name in wanted]
    sample = taiwan(shared_data / "stats_reference", 1e-3)
    tables = replication_tables(run_analyses(sample, chosen, catalogue()), chosen, papers)
    shape = tables["taiwan_t3_published"]
    assert list(shape.columns) == ["outcome", "FA", "RD", "AD", "MD"]
    row = shape.set_index("outcome").loc["CMAP Z sum score: Corticospinal tract"]
    assert list(row) == ["62.675, 2.23, 0.029", "-33.570, -3.82, <0.001",
                         "-28.116, -3.31, 0.001", "-33.559, -3.76, <0.001"]  # fmt: skip
    obtained = tables["taiwan_t3_obtained"].set_index("outcome")
    assert obtained.at["CMAP Z sum score: Corticospinal tract", "FA"] == ""
    assert obtained.at["FVC (%): Corticospinal tract", "RD"] == "-184.1, -1.69, 0.102"
    groups = tables["taiwan_g1_obtained"].set_index("Measure")
    assert groups.at["AD corticospinal tract", "ALS"] == "1.345 ± 0.007"
    assert groups.at["FA corticospinal tract", "Controls"] == "0.435 ± 0.068"
    people = tables["taiwan_t1_beside"].set_index("row")
    assert people.at["Gender (male)", "obtained_bulbar"] == "6 of 7"
    assert people.at["FVC (%)", "obtained_patients"].endswith("(n = 35)")


def test_the_correlations_of_calsnic_stand_beside_the_published(papers, shared_data):
    chosen = [one for one in analyses("calsnic") if one.name.startswith(("c3", "c1"))]
    sample = calsnic(shared_data / "stats_reference", 1e-3)
    tables = replication_tables(run_analyses(sample, chosen, catalogue(), strict=False), chosen,
                                papers)  # fmt: skip
    row = tables["calsnic_c3_beside"].set_index("predictor").loc["tNAA/Cr"]
    assert row["obtained_n"] == 43
    assert row["obtained_r"] == pytest.approx(0.347, abs=5e-4)
    assert row["verdict"] == "agrees"
    people = tables["calsnic_c1_beside"].set_index("row")
    assert people.at["Sex: male/female", "obtained_controls"] == "25 of 52"
