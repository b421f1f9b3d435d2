"""Tables for people: nothing rounded to zero, nothing unescaped, refusals and remarks in place."""

import csv
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from small_study import GROUPS, PRE, study

from alsflow.nodes.stats.plan import Analysis
from alsflow.nodes.stats.printed import (
    CHECKS,
    COLUMNS,
    FORMS,
    PSEUDO,
    Column,
    analysis_table,
    beside_table,
    cell_text,
    demographics_table,
    escape_tex,
    is_found,
    print_rows,
    to_csv,
    to_html,
    to_latex,
)
from alsflow.nodes.stats.registry import ORDER
from alsflow.nodes.stats.results import (
    Results,
    paper_tables,
    paragraphs_of,
    parts_of,
    results_tables,
)
from alsflow.workflows.measures import catalogue


def table(name):
    analyses, registry = study()
    analysis = next(one for one in analyses if one.name == name)
    return analysis_table(registry.tests, analysis, GROUPS)


def first_row(name):
    """Row of the precentral gyrus."""
    tests = study()[1].tests
    return tests[(tests["analysis"] == name) & (tests["outcome"] == PRE)].iloc[0]


def read_csv(printed):
    return list(csv.DictReader(io.StringIO(to_csv(printed))))


class Cells(HTMLParser):
    """Rows of an HTML table as text; complains about tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open, self.inside = [], [], False
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th") or (self.inside and tag == "sup")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


@pytest.mark.parametrize(
    ("form", "values", "text"),
    [
        ("p", {"k": 0.0}, "< 0.001"), ("p", {"k": 1e-300}, "< 0.001"),
        ("p", {"k": 0.99999}, "> 0.999"), ("p", {"k": 1.0}, "1.000"),
        ("p", {"k": 0.0123}, "0.012"),
        ("p", {"k": math.nan}, "n/a"), ("df", {"k": 94.0}, "94"), ("df", {"k": 45.82}, "45.8"),
        ("interval", {"k": -0.0925, "b": 1.5}, "-0.0925 to 1.50"),
        ("interval", {"k": math.nan, "b": 1.5}, "n/a"),
        ("limits", {"k": 0.5, "b": 0.25, "c": 0.75}, "0.500 (0.250 to 0.750)"),
        ("limits", {"k": 0.5, "b": math.nan, "c": 0.75}, "0.500"),
        ("fixed", {"k": -0.00004}, "0.000"), ("number", {"k": -0.000012}, "-1.20e-05"),
        ("n", {"k": 78, "b": 39}, "78 of 39 people"), ("n", {"k": 39, "b": 39}, "39"),
        ("mean", {"k": 0.697, "b": 0.074, "c": 0.0118}, "0.697 ± 0.0740"),
        ("mean", {"k": 0.697, "b": 0.074, "c": 0.0118, "coding": "sum"}, "0.697 (SE 0.0118)"),
        ("label", {"k": "FA", "b": "1"}, "FA"), ("label", {"k": "TIV", "b": "mL"}, "TIV (mL)"),
    ],
)  # fmt: skip
def test_forms(form, values, text):
    assert cell_text(values, Column("k", "", form, ("b", "c"))) == text


def test_numbers_of_both_groups():
    assert cell_text({"a": 20, "b": 19}, Column("a", "", "pair", ("b",))) == "20 + 19"


def test_statistics_keep_their_names():
    column = Column("value", "", "statistic", ("statistic",))
    assert cell_text({"value": 558.5, "statistic": "U"}, column) == "U = 558.5"
    assert cell_text({"value": 2.0437, "statistic": "t"}, column) == "t = 2.04"


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_are_those_of_the_registry(kind):
    for column in (*COLUMNS[kind], *CHECKS):
        assert column.form in FORMS
        known = [key for key in (column.key, *column.also) if key]
        assert set(known) <= set(ORDER), column


def test_every_number_of_a_group_row():
    row = first_row("groups")
    printed = read_csv(table("groups"))[0]
    assert printed["measure"] == "precentral gyrus (%)"
    assert printed["n (ALS + control)"] == f"{row.n_case} + {row.n_control}"
    assert float(printed["difference"]) == pytest.approx(row.estimate, rel=0.005)
    low, high = map(float, printed["95 % limits"].split(" to "))
    assert (low, high) == pytest.approx((row.ci_low, row.ci_high), rel=0.005)
    assert printed["statistic"] == f"t = {row.t:.2f}"
    assert printed["df"] == f"{row.df:.0f}"
    assert printed["p"] == printed["q"] == "< 0.001"
    assert printed["effect size (95 % limits)"].startswith(
        f"Hedges g {row.g:.2f} ({row.g_low:.2f}"
    )


def test_refused_rows_say_why_and_print_no_number():
    rows = read_csv(table("groups"))
    assert [row["remark"] for row in rows] == [
        "", "", "not tested: nobody of the group control has this measure", "",
    ]  # fmt: skip
    assert rows[2]["difference"] == rows[2]["p"] == rows[2]["effect size (95 % limits)"] == ""
    cells = Cells(to_html(table("groups"))).rows
    assert cells[3][-1] == "not tested: nobody of the group control has this measure"
    assert "colspan" in to_html(table("groups"))
    assert r"\multicolumn" in to_latex(table("groups")).splitlines()[-6]


def test_paper_rows_are_marked_in_all_formats():
    printed = table("sides")
    assert printed.remarks == ("reproduces the paper's model, including its pseudoreplication",)
    assert read_csv(printed)[0]["remark"] == PSEUDO
    assert "<sup>†</sup>" in to_html(printed)
    assert "† reproduces the paper&#x27;s model, including its pseudoreplication" in to_html(
        printed
    )
    assert r"\textsuperscript{\dag} &" in to_latex(printed)
    assert not table("slopes").remarks


def test_uncorrected_results_are_not_highlighted():
    assert [row.found for row in table("groups").rows] == [True, False, False, False]
    assert [row.found for row in table("ranks").rows] == [False]
    assert is_found({"correction": "none", "p": 0.01, "status": "tested"})
    assert not is_found({"correction": "fdr", "p": 0.01, "q": 0.06, "status": "tested"})
    assert not is_found({"correction": "none", "p": 0.01, "status": "n/a"})


def test_html_is_whole_and_escaped():
    text = to_html(table("groups"))
    assert "Groups &amp; &lt;sites&gt;" in text
    assert "<sites>" not in text
    head, *body = Cells(text).rows
    assert len(head) == len(body[0]) == 12
    assert body[0][0] == "precentral gyrus (%)"
    assert body[0][4].startswith("\u2212")  # a minus sign, no hyphen
    evil = print_rows([{"a": '"><script>&', "b": "x"}], [Column("a", "<a>"), Column("b", "b")],
                      "x", "<t>")  # fmt: skip
    assert "<script" not in to_html(evil)
    assert Cells(to_html(evil)).rows[1] == ['"><script>&', "x"]


def test_latex_is_escaped_and_even():
    assert escape_tex("50 % of a_b & {c} < -0.5 ± 2²\\") == (
        r"50 \% of a\_b \& \{c\} $<$ $-$0.5 $\pm$ 2$^2$\textbackslash{}"
    )
    for name in ("groups", "sides", "slopes", "together", "area", "course"):
        text = to_latex(table(name))
        assert text.count("\\toprule") == 2
        head = next(line for line in text.splitlines() if line.startswith("measure"))
        columns = re.search(r"\\begin\{longtable\}\{([lr]+)\}", text)[1]
        assert len(columns) == head.count(" & ") + 1
        for line in text.splitlines():
            if line.endswith(r"\\") and "\\caption" not in line and "multicolumn" not in line:
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
        assert not re.search(r"(?<!\\)[%_#]", text.partition("\n")[2].replace("\\label{tab:", ""))


def test_columns_with_nothing_in_them_are_left_out():
    assert "q" not in table("ranks").head
    assert "difference" not in table("ranks").head
    assert "q" in table("groups").head
    assert table("together").head[3] == "partial r (95 % limits)"
    assert "p of partial r" not in table("together").head


def test_names_of_groups_may_hold_braces():
    analysis = Analysis("x", "groups", title="x", by="onset", levels=("{case}", "b"))
    _, registry = study()
    tests = registry.tests.query("analysis == 'groups'").assign(analysis="x")
    assert analysis_table(tests, analysis, GROUPS).head[1] == "n ({case} + b)"


def test_demographics():
    analyses, registry = study()
    rows = registry.tables["people_demographics"]
    printed = demographics_table(rows, analyses[0], GROUPS, {"age": "age (years)"})
    cells = {row["variable"]: row for row in read_csv(printed)}
    age = rows[rows["variable"] == "age"].iloc[0]
    assert cells["age (years)"]["ALS, n = 24"] == f"{age.mean_ALS:.1f} ± {age.sd_ALS:.2f}"
    assert cells["age (years)"]["test"] == "Welch's t"
    female = rows[(rows["variable"] == "sex") & (rows["level"] == "female")].iloc[0]
    share = f"{int(female.count_ALS)} ({female.percent_ALS:.0f} %)"
    assert cells["sex: female"]["ALS, n = 24"] == share
    assert cells["sex: female"]["statistic"] == ""  # chi-squared is not that of Fisher's p
    assert "Pearson's chi² (1)" in cells["sex: female"]["beside it"]
    assert cells["sex: male"]["p"] == ""
    assert any("does not show that groups are alike" in note for note in printed.notes)
    assert "matched" not in to_html(printed)


def test_published_beside_obtained():
    joined = pd.DataFrame([
        {"outcome": "FA", "published_p": "<0.001", "published_b": "67.1", "obtained_b": 66.98,
         "obtained_p": 2e-9, "obtained_n": 78, "sound_p": 0.0814, "verdict": "agrees"},
        {"outcome": "MD", "published_p": "NS", "published_b": "", "obtained_b": math.nan,
         "obtained_p": math.nan, "obtained_n": pd.NA, "sound_p": math.nan, "verdict": "no"},
    ])  # fmt: skip
    first, second = read_csv(beside_table(joined, "t", "t"))
    assert first == {
        "outcome": "FA", "slope, published": "67.1", "slope, obtained": "67.0",
        "p, published": "<0.001", "p, obtained": "< 0.001", "p, sound model": "0.081",
        "n, obtained": "78", "verdict": "agrees", "remark": "",
    }  # fmt: skip
    assert second["slope, obtained"] == second["n, obtained"] == ""


def test_a_row_knows_its_reason_even_if_every_cell_is_filled():
    printed = table("groups")
    [row] = [row for row in printed.rows if row.reason]
    full = replace(printed, rows=(replace(row, cells=("a",) * len(row.cells)),))
    assert "not tested" in to_html(full)
    assert "not tested" in to_latex(full)


def test_a_table_of_refusals_keeps_its_n():
    analyses, registry = study()
    tests = registry.tests[registry.tests["analysis"] == "slopes"]
    refused = tests.assign(status="n/a", reason="too few people")
    slopes = next(one for one in analyses if one.name == "slopes")
    printed = analysis_table(refused, slopes, GROUPS)
    assert printed.head == ("measure", "predictor", "n", "result")
    assert Cells(to_html(printed)).rows[1][2:] == ["24", "not tested: too few people"]
    assert r"24 & \multicolumn{1}{l}{not tested: too few people}" in to_latex(printed)


def test_tables_of_a_paper_say_what_their_model_is_worth():
    analyses, registry = study()
    sides = next(one for one in analyses if one.name == "sides")
    joined = pd.DataFrame([{"outcome": "FA", "published_p": "0.01", "obtained_p": 0.002}])
    shaped = pd.DataFrame([{"outcome": "FA", "GM": ".17 (<0.001)"}])
    tables = {
        "x_t_published": shaped, "x_t_obtained": shaped, "x_t_sound": shaped, "x_t_beside": joined,
        "x_checks": pd.DataFrame([{"what": "a", "where": "b", "printed": ".1", "recomputed": ".2",
                                   "verdict": "differs", "comment": ""}]),
        "other": shaped,
    }  # fmt: skip
    results = Results(
        tests=registry.tests, terms=registry.terms, means=registry.means, tables=tables,
        analyses=(replace(sides, published="x.t"),), groups=GROUPS, catalogue=catalogue(),
    )  # fmt: skip
    found = {table.name: table for table in paper_tables(results)}
    assert list(found) == ["x_t-published", "x_t-obtained", "x_t-sound", "x_t-beside",
                           "x-recomputed"]  # fmt: skip
    marked = [name for name, table in found.items() if any(PSEUDO in n for n in table.notes)]
    assert marked == ["x_t-obtained", "x_t-beside"]
    assert found["x-recomputed"].rows[0].cells == ("a", "b", ".1", ".2", "differs")


def test_a_primary_family_comes_first():
    analyses, registry = study()
    groups = next(one for one in analyses if one.name == "groups")
    tests = registry.tests.copy()
    mine = tests["analysis"] == "groups"
    tests.loc[mine, "family"] = ["motor", "motor", "motor", "whole_brain"]
    results = Results(
        tests=tests[::-1], terms=registry.terms, means=registry.means, tables={},
        analyses=(groups,), groups=GROUPS, catalogue=catalogue(),
    )  # fmt: skip
    assert [name for name, _ in parts_of(results, groups)] == ["motor", "whole_brain"]
    first, second = results_tables(results, groups)
    assert (len(first.rows), len(second.rows)) == (3, 1)
    assert first.title.endswith(catalogue().families["motor"].title)
    told = paragraphs_of(results, groups)
    assert ["variable" in one.text for one in told] == [True, True]
    assert "3 variables" not in told[1].text
