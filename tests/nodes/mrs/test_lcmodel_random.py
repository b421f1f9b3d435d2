"""Tables nobody wrote by hand: random ones come back as they were, spoilt ones never pass."""

import time

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.result import LCModelError
from alsflow.nodes.simulate.lcmodel_text import Printed, conc_text, ratio_text, table_text

N_MUTATED = 8000
N_TRUNCATED = 2000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def written(rows, misc, diagnostics, inputs, title, ending="\n", strip=False, announced=0):
    """A .table as LCModel 6.3 writes it, perhaps with the line ends of another system."""
    lines = table_text(Printed(rows, misc, diagnostics, inputs, title, announced)).split("\n")
    return ending.join(line.rstrip() if strip else line for line in lines)


names = st.builds(
    lambda sign, parts: (sign + "+".join(parts))[:27],
    st.sampled_from(["", "", "-"]),
    st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=5),
).filter(lambda name: not name.endswith("+"))
positive = st.one_of(
    st.just(0.0), st.floats(0.0995, 999.9), st.floats(1e-12, 0.09), st.floats(1e3, 1e12)
)
rows_of_tables = st.lists(
    st.tuples(positive, st.integers(0, 999), positive, st.sampled_from(["", "+", "-"]), names),
    min_size=1,
    max_size=120,
    unique_by=lambda row: row[4],
)
diagnostic = st.tuples(
    st.sampled_from(["info", "warning", "ERROR"]),
    st.text("ABCDEFGHIJ", min_size=4, max_size=6),
    st.integers(1, 99),
    st.integers(1, 999),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rows=rows_of_tables,
    misc=st.tuples(
        st.integers(0, 500).map(lambda n: n / 1000),
        st.integers(1, 12000),
        st.integers(-300, 300).map(lambda n: n / 1000),
        st.integers(-180, 180),
        st.integers(-500, 500).map(lambda n: n / 10),
    ),
    diagnostics=st.lists(diagnostic, max_size=20),
    dows=st.booleans(),
    title=st.lists(st.text("abcÄ 0.%:/", max_size=60), max_size=2),
    ending=st.sampled_from(["\n", "\r\n"]),
    strip=st.booleans(),
    announced=st.integers(0, 30),
)
def test_any_table_comes_back(rows, misc, diagnostics, dows, title, ending, strip, announced):
    assume(len({row[4] for row in rows}) == len(rows))
    inputs = [f"dows= {'T' if dows else 'F'}", "filraw= 'data.RAW'"]
    inputs += ["onlyco= T"] if announced else []
    text = written(rows, misc, diagnostics, inputs, title, ending, strip, announced)
    found = read_table(text, "random.table")
    assert found.status == "ok"
    assert not found.tolerant
    for row, (conc, sd, ratio, flag, name) in zip(found.rows, rows, strict=True):
        assert (row.metabolite, row.prior_outlier, row.sd_percent) == (name, flag, sd)
        assert row.conc == float(conc_text(conc))
        assert row.ratio == float(ratio_text(ratio))
        assert abs(row.conc - conc) <= 1.001 * row.conc_rounding
        assert abs(row.ratio - ratio) <= 1.001 * row.ratio_rounding
    fwhm, snr, shift, ph0, ph1 = misc
    got = found.misc
    assert (got.fwhm_ppm, got.data_shift_ppm, got.ph0_deg, got.ph1_deg_per_ppm) == (
        fwhm,
        shift,
        ph0,
        ph1,
    )
    assert got.snr_overflow if snr > 9999 else got.snr == snr
    assert [(d.level, d.routine, d.number, d.count) for d in found.diagnostics] == diagnostics
    assert found.n_rows_declared == len(rows) + announced


def a_table(rng):
    """A table of 5 to 40 rows with everything in it."""
    rows = [("GPC+PCh", ""), ("NAA+NAAG", "+"), ("Cr+PCr", ""), ("-CrCH2", "-")]
    rows += [(f"Met{n}", "") for n in range(rng.integers(1, 36))]
    table = [
        (10 ** rng.uniform(-4, 4), int(rng.integers(0, 120)), rng.uniform(0, 3), flag, name)
        for name, flag in rows
    ]
    inputs = ["dows= T", "echot= 160.0", "chomit= 'Ala','Asp','Gl", "  n'", "filraw= 'data.RAW'"]
    diagnostics = [("info", "RFALSI", 11, 3), ("warning", "FINOUT", 8, 1)]
    return written(table, (0.032, 120, -0.02, -158, -16.0), diagnostics, inputs, ["title"])


def mutated(text, rng):
    """One to four changes: of a character, of a line, or a piece taken out or doubled."""
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(text)))
        end = at + int(rng.integers(1, 40))
        lines = text.split("\n")
        one, other = rng.integers(0, len(lines), 2)
        match rng.integers(0, 6):
            case 0:
                text = text[:at] + chr(rng.integers(0, 0x250)) + text[at + 1 :]
            case 1:
                text = text[:at] + text[end:]
            case 2:
                text = text[:at] + rng.choice(list("*%$+-. \t\n\x00NaE9")) + text[at:]
            case 3:
                text = text[:end] + text[at:]
            case 4:
                lines[one], lines[other] = lines[other], lines[one]
                text = "\n".join(lines)
            case _:
                del lines[one]
                text = "\n".join(lines)
        text = text or " "
    return text


def read_or_refusal(text):
    try:
        return read_table(text, "spoilt.table")
    except LCModelError as problem:
        return problem


def test_a_spoilt_table_is_read_or_refused_and_nothing_else():
    rng = np.random.default_rng(20)
    tables = [a_table(rng) for _ in range(40)]
    seconds = []
    refused = 0
    for n in range(N_MUTATED):
        text = mutated(tables[n % len(tables)], rng)
        start = time.thread_time()
        result = read_or_refusal(text)
        seconds.append(time.thread_time() - start)
        if isinstance(result, LCModelError):
            refused += 1
            assert result.file == "spoilt.table"
            assert 0 <= result.line <= text.count("\n") + text.count("\r") + 1
            assert result.reason
        else:
            assert result.status != "ok" or result.rows
            assert all(not row.conc < 0 for row in result.rows)
    assert 0.3 * N_MUTATED < refused < 0.9 * N_MUTATED
    assert np.median(seconds) < 1e-3


def test_a_table_cut_anywhere_gives_only_rows_that_were_whole():
    """A file that ends early never passes as whole, and a name cut short is no other name."""
    rng = np.random.default_rng(21)
    tables = [a_table(rng) for _ in range(40)]
    wholes = [read_table(table, "whole.table") for table in tables]
    seconds = []
    for n in range(N_TRUNCATED):
        table, whole = tables[n % len(tables)], wholes[n % len(tables)]
        cut = table[: rng.integers(0, len(table) - 80)]  # within the last line: only blanks lost
        start = time.thread_time()
        try:
            result = read_table(cut, "cut.table")
        except LCModelError:
            assert cut.lstrip(" ").count("(Version") == 0 or "6.3-1N)" not in cut
            continue
        finally:
            seconds.append(time.thread_time() - start)
        plain = [(r.metabolite, r.conc, r.sd_percent, r.prior_outlier) for r in result.rows]
        assert plain == [
            (r.metabolite, r.conc, r.sd_percent, r.prior_outlier) for r in whole.rows[: len(plain)]
        ]
        if result.status == "ok":
            assert len(plain) == whole.n_rows
            assert result.diagnostics == whole.diagnostics
            assert result.water_scaled is None
    assert np.median(seconds) < 1e-3
