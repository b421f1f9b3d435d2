"""The registry of the profiles equals R on the reference cohorts."""

import json

import pandas as pd
import pytest
from reference_cohorts import (
    CALSNIC,
    analyses,
    calsnic,
    side_name,
    taiwan,
    taiwan_name,
)

from alsflow.nodes.stats.analyses import run_analyses
from alsflow.nodes.stats.plan import parse_analyses
from alsflow.nodes.stats.sample import Sample
from alsflow.workflows.measures import catalogue

EXACT, MIXED, EFFECT = 1e-6, 1e-5, 1e-4  # relative tolerances of the reference's README
FLOOR = 1e-9
SLOPE = {"estimate": "estimate", "se": "se", "t": "t", "p": "p", "ci_low": "ci_low",
         "ci_high": "ci_high", "std_beta": "beta"}  # fmt: skip
MODEL = {"r2": "r2", "p": "p_model", "n": "n", "df2": "df", "sigma": "residual_sd"}
GROUPS = [
    {
        "name": "welch", "kind": "groups", "test": "welch", "site": "none",
        "outcomes": ["family:motor", "family:tract_fa", "family:tract_diffusivity"],
    },
]  # fmt: skip
CALSNIC_MORE = [
    {
        "name": "full", "kind": "groups", "site": "interaction", "covariates": [],
        "outcomes": list(CALSNIC.values()),
    },
    {
        "name": "additive", "kind": "groups", "covariates": [], "outcomes": list(CALSNIC.values()),
    },
    {
        "name": "ancova", "kind": "groups", "covariates": ["age", "sex", "education"],
        "outcomes": list(CALSNIC.values()),
    },
    {
        "name": "pearson", "kind": "correlation", "people": "patients",
        "covariates": ["age", "sex"],
        "outcomes": ["alsfrs_r", "decline_rate", "foot_tapping", "disease_duration"],
        "predictors": list(CALSNIC.values()),
    },
    {"name": "roc", "kind": "roc", "outcomes": list(CALSNIC.values())},
]  # fmt: skip
GROUP_TERM = [
    {
        "name": "with_group", "kind": "regression", "unit": "side", "mode": "paper",
        "outcomes": ["family:tract_side_fa"], "predictors": ["family:motor_side"],
        "covariates": ["group"], "site": "none",
    },
]  # fmt: skip
MEASURES = [CALSNIC[name] for name in ("fa", "md", "rd", "ad", "tnaa_cr", "tnaa_cho", "fc_roi")]


@pytest.fixture(scope="module")
def reference(shared_data):
    folder = shared_data / "stats_reference"
    table = pd.read_csv(folder / "r_reference_long.csv")
    return table.assign(value=pd.to_numeric(table["value"], errors="coerce"))


@pytest.fixture(scope="module")
def taipei(shared_data):
    more = parse_analyses([*GROUPS, *GROUP_TERM], "test")
    sample = taiwan(shared_data / "stats_reference")
    return run_analyses(sample, [*analyses("taiwan"), *more], catalogue())


@pytest.fixture(scope="module")
def canada(shared_data):
    tables = [{**table} for table in CALSNIC_MORE]
    for table in tables:
        if "outcomes" in table and table["name"] != "pearson":
            table["outcomes"] = MEASURES
        if "predictors" in table:
            table["predictors"] = MEASURES
    sample = calsnic(shared_data / "stats_reference")
    more = parse_analyses(tables, "test")
    return run_analyses(sample, [*analyses("calsnic"), *more], catalogue())


def close(ours, theirs, tolerance):
    return abs(ours - theirs) <= max(tolerance * abs(theirs), FLOOR)


def compare(rows, values, columns, tolerance=EXACT):
    """Number of values of R compared; `rows` maps an outcome of R to a row of the registry."""
    count, faults = 0, []
    for value in values.itertuples(index=False):
        if value.stat not in columns or pd.isna(value.value):
            continue
        ours = float(rows(value)[columns[value.stat]])
        count += 1
        if not close(ours, value.value, tolerance):
            faults.append((value.outcome, value.term, value.stat, ours, value.value))
    assert not faults, faults[:5]
    return count


def pick(tests, analysis, outcome, predictor=None):
    names = [analysis] if isinstance(analysis, str) else list(analysis)
    rows = tests[tests["analysis"].isin(names) & (tests["outcome"] == outcome)]
    if predictor is not None:
        rows = rows[rows["predictor"] == predictor]
    assert len(rows) >= 1, (analysis, outcome, predictor)
    return rows.iloc[0]


def sides_row(tests, analysis):
    def row(value):
        outcome, _, predictor = value.outcome.partition("~")
        return pick(tests, analysis, side_name(outcome), side_name(predictor))

    return row


def person_name(name):
    return {"mrc": "mrc_sum", "cmapz": "cmap_z_sum", "penn": "penn_total"}.get(
        name, taiwan_name(name)
    )


def people_row(tests, analysis):
    def row(value):
        outcome, _, predictor = value.outcome.partition("~")
        return pick(tests, analysis, person_name(outcome), person_name(predictor))

    return row


def slopes(values):
    """Rows of R that belong to the slope of the predictor, and those of the model."""
    predictor = values["outcome"].str.partition("~")[2]
    return values[values["term"] == predictor], values[values["term"] == "model"]


@pytest.mark.parametrize(
    ("source", "analysis", "level", "count"),
    [
        ("A3_T2_side_simple", "t2", sides_row, 198),
        ("A3_T2_side_group", "with_group", sides_row, 198),
        ("A4_T3_side", "t3_sides", sides_row, 432),
        ("A4_T3_subject", ["t3_people", "t3_people_sound"], people_row, 720),
        ("A6_GM_side", "s1_sides", sides_row, 198),
        ("A6_GM_subject", "s1_people", people_row, 132),
    ],
)
def test_slopes(reference, taipei, source, analysis, level, count):
    slope, model = slopes(reference[reference["analysis"] == source])
    rows = level(taipei.tests, analysis)
    assert compare(rows, slope, SLOPE) + compare(rows, model, MODEL) == count


def test_sides_with_people_as_a_random_effect(reference, taipei):
    slope, _ = slopes(reference[reference["analysis"] == "A4_T3_lmer"])
    columns = {"estimate": "estimate", "se": "se", "t": "t", "p": "p", "df_satt": "df"}
    assert compare(sides_row(taipei.tests, "t3_sides_sound"), slope, columns, MIXED) == 45


def test_group_differences(reference, taipei):
    def row(value):
        return pick(taipei.tests, "welch", taiwan_name(value.outcome))

    values = reference[reference["outcome"] != "age"]
    welch = {"diff": "estimate", "t": "t", "df": "df", "p": "p", "ci_low": "ci_low",
             "ci_high": "ci_high"}  # fmt: skip
    own = values["analysis"]
    assert compare(row, values[own == "A2_groupdiff_welch"], welch) == 108
    assert compare(row, values[own == "A2_groupdiff_student"], {"p": "student_p"}) == 18
    assert compare(row, values[own == "A2_padj_BH"], {"q": "q"}) == 18
    effects = {"g": "g", "ci_low": "g_low", "ci_high": "g_high"}
    assert compare(row, values[own == "A2_groupdiff_hedges"], effects, EFFECT) == 54
    described = values[(own == "A2_groupdiff") & (values["term"] == "ALS")]
    columns = {"mean": "case_mean", "sd": "case_sd", "se": "case_se", "n": "n_case"}
    assert compare(row, described, columns) == 72


@pytest.mark.parametrize(
    ("source", "analysis", "count"),
    [
        ("B2_full_type3", "full", 105),
        ("B2_additive_type3", "additive", 70),
        ("B2_ancova_type3", "ancova", 175),
        ("B3_partial_eta2_ci90", "full", 63),
    ],
)
def test_terms(reference, canada, source, analysis, count):
    def row(value):
        terms = canada.terms
        own = terms[(terms["analysis"] == analysis) & (terms["outcome"] == CALSNIC[value.outcome])]
        return own[own["term"] == value.term].iloc[0]

    values = reference[reference["analysis"] == source]
    values = values[~values["term"].isin(["(Intercept)", "Residuals"])]
    columns = {"F": "f", "df": "df", "p": "p", "ss": "ss", "partial_eta2": "partial_eta2",
               "eta2p": "partial_eta2", "ci_low": "eta2_low", "ci_high": "eta2_high"}  # fmt: skip
    tolerance = 2 * EFFECT if "ci90" in source else EXACT  # R's own search ends 1.01e-4 away
    assert compare(row, values, columns, tolerance) == count


@pytest.mark.parametrize("analysis", ["full", "additive", "ancova"])
@pytest.mark.parametrize("weights", ["equal", "proportional"])
def test_adjusted_means(reference, canada, analysis, weights):
    def mean(value):
        means = canada.means
        own = means[(means["analysis"] == analysis) & (means["weights"] == weights)]
        own = own[own["outcome"] == CALSNIC[value.outcome]]
        return own[own["level"] == value.term].iloc[0]

    def difference(value):
        return pick(canada.tests, analysis, CALSNIC[value.outcome])

    values = reference[reference["analysis"] == f"B3_emm_{analysis}_{weights}"]
    columns = {"emmean": "mean", "se": "se", "df": "df", "ci_low": "ci_low", "ci_high": "ci_high"}
    assert compare(mean, values[values["term"].isin(["ALS", "HC"])], columns) == 70
    if weights == "equal":
        names = ("estimate", "se", "df", "t", "p", "ci_low", "ci_high")
        contrast = values[values["term"] == "ALS-HC"]
        assert compare(difference, contrast, dict(zip(names, names, strict=True))) == 49


def test_q_of_the_full_factorial(reference, canada):
    def row(value):
        return pick(canada.tests, "full", CALSNIC[value.outcome])

    values = reference[reference["analysis"] == "B2_padj_BH"]
    assert compare(row, values, {"q": "q"}) == 7


@pytest.mark.parametrize(
    ("source", "columns", "count"),
    [
        ("B6_pearson", {"r": "estimate", "t": "t", "df": "df", "p": "p", "ci_low": "ci_low",
                        "ci_high": "ci_high"}, 168),
        ("B6_spearman", {"rho": "spearman_rho", "p": "spearman_p"}, 56),
        ("B7_partial_pearson_age_sex_site", {"r": "partial_r", "p": "partial_p",
                                             "df": "partial_df", "ci_low": "partial_low",
                                             "ci_high": "partial_high"}, 140),
    ],
)  # fmt: skip
def test_correlations(reference, canada, source, columns, count):
    def row(value):
        measure, _, score = value.outcome.partition("~")
        return pick(canada.tests, "pearson", CALSNIC.get(score, score), CALSNIC[measure])

    values = reference[reference["analysis"] == source]
    assert compare(row, values, columns) == count


def test_roc(reference, canada):
    def row(value):
        return pick(canada.tests, "roc", CALSNIC[value.outcome])

    values = reference[reference["analysis"] == "B8_roc"]
    values = values[values["outcome"] != "ad"]  # no direction is declared for it
    columns = {"auc": "estimate", "ci_low": "ci_low", "ci_high": "ci_high"}
    assert compare(row, values, columns) == 18


def test_published_table_2_counts_sides_as_people(taipei):
    paper = taipei.tests[taipei.tests["analysis"] == "t2"]
    sound = taipei.tests[taipei.tests["analysis"] == "t2_sound"]
    assert (paper["n"] == 142).all()
    assert (paper["n_people"] == 71).all()
    assert paper["pseudoreplicated"].all()
    assert paper["notes"].str.contains("including its pseudoreplication").all()
    assert not sound["pseudoreplicated"].any()
    assert (sound["df"] < paper["df"].max()).all()
    assert sound["model"].str.endswith("(1 | person)").all()
    assert (sound["robust"] == "CR2").all()
    assert sound["q"].notna().all()
    assert paper["q"].isna().all()


def test_cluster_robust_errors_beside_the_mixed_model(taipei, shared_data):
    text = (shared_data / "stats_reference" / "r_clubsandwich_cr2.json").read_text()
    found = json.loads(text)
    assert len(found) == 3
    columns = {"se_CR2": "robust_se", "df": "robust_df", "p": "robust_p"}
    for name, values in found.items():
        outcome, _, predictor = name.partition("~")
        row = pick(taipei.tests, "t3_sides_sound", side_name(outcome), side_name(predictor))
        for stat, column in columns.items():
            assert close(float(row[column]), values[stat], EXACT), (name, stat)


@pytest.fixture(scope="module")
def visits(shared_data):
    table = pd.read_csv(shared_data / "stats_reference" / "longitudinal.csv")
    table["fa100"] = 100 * table["fa"]  # as in R
    table["session_id"] = table.groupby("participant_id").cumcount().astype(str)
    sample = Sample(table, reference="HC", site="site", factors=("sex",))
    declared = parse_analyses(
        [
            {"name": "slopes", "kind": "longitudinal", "outcomes": ["fa100"], "test": "slope",
             "covariates": ["age", "sex"]},
            {"name": "levels", "kind": "longitudinal", "outcomes": ["fa100"],
             "test": "intercept", "covariates": ["age", "sex"]},
            {"name": "decline", "kind": "longitudinal", "outcomes": ["alsfrs_r"],
             "people": "patients", "site": "none", "covariates": [], "test": "intercept"},
        ]
    )  # fmt: skip
    return run_analyses(sample, declared, catalogue())


@pytest.mark.parametrize(
    ("source", "analysis", "term"),
    [
        ("C1_fa_ranslope_REML", "slopes", "months:groupALS"),
        ("C1_fa_ranint_REML", "levels", "months:groupALS"),
        ("C2_alsfrs_ranint_REML", "decline", "months"),
    ],
)
def test_slopes_over_visits(reference, visits, source, analysis, term):
    values = reference[(reference["analysis"] == source) & (reference["term"] == term)]
    columns = {"estimate": "estimate", "se": "se", "t": "t", "p": "p", "df_satt": "df"}
    row = visits.tests.set_index("analysis").loc[analysis]
    assert compare(lambda value: row, values, columns, MIXED) == 5


def test_classification_names_the_sites_that_were_left_out(shared_data, reference):
    sample = calsnic(shared_data / "stats_reference")
    declared = parse_analyses(
        [
            {
                "name": "sites",
                "kind": "classify",
                "outcomes": ["fa_mrs_voxel", "md_mrs_voxel", "age"],
            }
        ]
    )  # fmt: skip
    found = run_analyses(sample, declared, catalogue())
    row = found.tests.iloc[0]
    values = reference[
        (reference["analysis"] == "B9_leave_site_out") & (reference["outcome"] == "p_logit")
    ].set_index("stat")["value"]
    assert close(row["estimate"], values["auc"], EXACT)
    assert close(row["sensitivity"], values["sens_at_.5"], EXACT)
    assert close(row["specificity"], values["spec_at_.5"], EXACT)
    assert list(found.tables["sites_sites"]["site"]) == sorted(sample.table["site"].unique())
    assert len(found.tables["sites_predictions"]) == row["n"]


def test_a_measure_of_sides_between_groups_has_a_variance_for_people(shared_data):
    sample = taiwan(shared_data / "stats_reference")
    declared = parse_analyses(
        [
            {
                "name": "sides",
                "kind": "groups",
                "unit": "side",
                "outcomes": ["family:tract_side_fa"],
            }
        ],
    )
    rows = run_analyses(sample, declared, catalogue()).tests
    assert list(rows["n"]) == [142] * 3
    assert (rows["df"] < 140).all()
    assert not rows["pseudoreplicated"].any()
    assert rows["model"].str.endswith("(1 | person)").all()
