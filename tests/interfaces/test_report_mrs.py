"""The pictures of spectroscopy as files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nipype.interfaces.base import isdefined
from PIL import Image

from alsflow.interfaces.group_mrs import DescribeOverlap, find_voxels
from alsflow.interfaces.images import save
from alsflow.interfaces.report_mrs import (
    DrawFit,
    DrawOverlap,
    DrawTissue,
    DrawVoxel,
    read_metabolites,
    read_quality,
)
from alsflow.interfaces.template import SPACE
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points
from alsflow.nodes.mrs.lcmodel_coord import read_coord
from alsflow.nodes.mrs.quality import judge_spectrum, tidy_rows

SHAPE = (40, 46, 38)
AFFINE = np.diag([-4.0, 4.2, 4.1, 1.0])  # left-handed
AFFINE[:3, 3] = -AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Paths by file name, as every interface takes them."""
    monkeypatch.chdir(tmp_path)
    x, y, z = grid_points(SHAPE, AFFINE)
    brain = (x / 65) ** 2 + (y / 82) ** 2 + (z / 60) ** 2 < 1
    mask = (np.abs(x + 20) < 13) & (np.abs(y) < 13) & (np.abs(z - 20) < 15)
    volumes = {"t1w": brain * (100 + x), "brain": brain, "mask": mask, "none": 0 * mask,
               "overlap": 0.75 * mask}  # fmt: skip
    for name, data in volumes.items():
        save(np.float32(data), AFFINE, tmp_path / f"{name}.nii")
    save(np.float32(mask), np.diag([4.0, 4, 4, 1]), tmp_path / "elsewhere.nii")
    ppm = np.linspace(4, 0.2, 200)
    table = pd.DataFrame({"ppm": ppm, "data": np.sin(ppm), "fit": np.sin(ppm), "residual": 0.01})
    table.assign(baseline=np.nan).to_csv("spectra.tsv", sep="\t", na_rep="n/a", index=False)
    table.drop(columns="fit").to_csv("unfit.tsv", sep="\t", index=False)
    rows = pd.DataFrame({"metabolite": ["NAA+NAAG", "Own"], "metabolite_std": ["tNAA", None],
                         "conc": [6.5, np.nan], "conc_units": "i.u.", "sd_percent": [3, 40],
                         "included": [True, False]})  # fmt: skip
    rows.to_csv("metabolites.tsv", sep="\t", na_rep="n/a", index=False)
    texts = {
        "info": {"snr": 21.0, "fwhm_ppm": 0.05, "included": True, "reasons": []},
        "nested": {"misc": {"snr": 2.0, "fwhm_ppm": None}, "included": False, "reasons": ["x"]},
        "place": {"fractions": {"gm": 0.3, "wm": 0.5, "csf": 0.2}, "warnings": []},
        "unplaced": {"done": False, "reason": "not localised"},
    }
    for name, content in texts.items():
        Path(f"{name}.json").write_text(json.dumps(content))
    Path("text.json").write_text("no JSON")
    return {path.name: str(path) for path in tmp_path.iterdir()}


def drawings(files):
    return [
        DrawFit(spectra_file=files["spectra.tsv"], info_file=files["info.json"],
                metabolites_file=files["metabolites.tsv"]),
        DrawVoxel(t1w_file=files["t1w.nii"], mask_file=files["mask.nii"],
                  brain_file=files["brain.nii"]),
        DrawTissue(fractions_file=files["place.json"]),
        DrawOverlap(overlap_file=files["overlap.nii"], template_file=files["t1w.nii"], count=4),
    ]  # fmt: skip


def test_small_pictures_with_the_same_bytes_each_time(files):
    runs = []
    for _ in range(2):
        found = {}
        for drawing in drawings(files):
            [path] = drawing.run().outputs.get().values()
            picture = Image.open(path)
            assert picture.format == "PNG"
            assert not picture.text
            assert 650 <= picture.size[0] <= 1500
            found[Path(path).name] = Path(path).read_bytes()
        runs.append(found)
    assert runs[0] == runs[1]
    assert set(runs[0]) == {"fit.png", "voxel.png", "tissue.png", "overlap.png"}
    sizes = {name: len(data) for name, data in runs[0].items()}
    assert all(2_000 < size < 100_000 for size in sizes.values()), sizes


def test_what_is_not_there_has_no_picture_and_is_no_failure(files):
    t1w = files["t1w.nii"]
    for drawing in (
        DrawFit(), DrawFit(info_file=files["info.json"]), DrawTissue(), DrawVoxel(t1w_file=t1w),
        DrawTissue(fractions_file=files["unplaced.json"]),
        DrawVoxel(t1w_file=t1w, mask_file=files["none.nii"]),
        DrawOverlap(overlap_file=files["none.nii"], template_file=t1w, count=1),
    ):  # fmt: skip
        [path] = drawing.run().outputs.get().values()
        assert not isdefined(path)


def test_a_spectrum_alone_is_drawn_wider(files):
    def panel(**more):
        [figure] = DrawFit(spectra_file=files["spectra.tsv"], **more)._figures().values()
        return figure.axes[0].get_position().width

    assert panel() > 1.3 * panel(metabolites_file=files["metabolites.tsv"])


def test_quality_is_found_wherever_it_stands(files):
    assert read_quality(files["info.json"])["snr"] == 21
    found = read_quality(files["nested.json"])
    assert found == {"snr": 2.0, "fwhm_ppm": None, "included": False, "reasons": ["x"]}
    table = read_metabolites(files["metabolites.tsv"])
    assert list(table["name"]) == ["tNAA", "Own"]
    assert set(table["unit"]) == {"i.u."}


def test_the_limit_of_the_study_decides_what_is_grey(files):
    def grey(limit):
        drawing = DrawFit(spectra_file=files["spectra.tsv"], sd_percent=limit,
                          metabolites_file=files["metabolites.tsv"])  # fmt: skip
        return {text.get_text() for text in drawing._figures()["fit"].texts} & {
            "grey: beyond 2 %", "grey: beyond 15 %"
        }  # fmt: skip

    assert grey(2) == {"grey: beyond 2 %"}
    assert grey(15) == {"grey: beyond 15 %"}
    assert not grey(40)


def test_what_does_not_belong_together_is_refused(files):
    with pytest.raises(BadInputError, match=r"unfit.tsv has no column fit"):
        DrawFit(spectra_file=files["unfit.tsv"]).run()
    with pytest.raises(BadInputError, match=r"spectra.tsv has no column conc"):
        DrawFit(spectra_file=files["spectra.tsv"], metabolites_file=files["spectra.tsv"]).run()
    with pytest.raises(BadInputError, match="do not lie on the same grid"):
        DrawVoxel(t1w_file=files["t1w.nii"], mask_file=files["elsewhere.nii"]).run()
    with pytest.raises(BadInputError, match=r"text.json is not JSON"):
        DrawTissue(fractions_file=files["text.json"]).run()


@pytest.mark.parametrize("case", ["sim_steam160_snr_low", "nobase", "real_osprey_press30_01"])
def test_real_fits(shared_data, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    path = shared_data / "lcmodel" / case / "out.coord"
    result, spectra = read_coord(path.read_text(), path.name)
    table = pd.DataFrame({"ppm": spectra.ppm, "data": spectra.data, "fit": spectra.fit})
    table["baseline"] = spectra.baseline if spectra.baseline is not None else np.nan
    table["residual"] = table["data"] - table["fit"]
    table.to_csv("spectra.tsv", sep="\t", na_rep="n/a", index=False)
    pd.DataFrame(tidy_rows(result)).to_csv("rows.tsv", sep="\t", na_rep="n/a", index=False)
    quality = {"snr": result.misc.snr, "included": judge_spectrum(result).included}
    Path("info.json").write_text(json.dumps(quality))
    drawing = DrawFit(spectra_file=str(tmp_path / "spectra.tsv"),
                      info_file=str(tmp_path / "info.json"),
                      metabolites_file=str(tmp_path / "rows.tsv"))  # fmt: skip
    figure = drawing._figures()["fit"]
    curves = {line.get_label() for line in figure.axes[1].lines}
    assert ("baseline" in curves) == (case != "nobase")
    assert figure.texts[0].get_text().startswith(f"S/N {result.misc.snr:g}; line width n/a; used")
    drawn = [text.get_text() for text in figure.texts]
    assert drawn.index("tNAA") < drawn.index("tCr") < drawn.index("NAA")
    assert Path(drawing.run().outputs.fit_file).stat().st_size < 100_000


# ---------------------------------------------------------------------------- overlap


def voxel_path(folder, person, session="", entities="", space=SPACE):
    parts = [person, *([session] if session else [])]
    stem = "_".join([*parts, *([entities] if entities else [])])
    path = folder.joinpath(*parts, "mrs", f"{stem}_space-{space}_desc-voxel_probseg.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_one_voxel_of_each_person_whose_result_counts(tmp_path):
    first = voxel_path(tmp_path, "sub-01", "ses-2", "acq-press")
    voxel_path(tmp_path, "sub-01", "ses-10")
    second = voxel_path(tmp_path, "sub-02")
    voxel_path(tmp_path, "sub-02", space="T1w_label-GM")
    voxel_path(tmp_path, "sub-02", space=f"{SPACE}_label-GM")
    voxel_path(tmp_path, "sub-03", space="T1w")
    voxel_path(tmp_path, "sub-04").rename(tmp_path / "sub-04" / f"sub-04_{SPACE}.nii.gz")
    third = voxel_path(tmp_path, "sub-05")
    assert find_voxels(tmp_path) == [first, second, third]
    unusable = {"sub-05 n/a mrs": "failed", "sub-02 n/a anat": "failed"}
    assert find_voxels(tmp_path, unusable=unusable) == [first, second]
    later = find_voxels(tmp_path, unusable={"sub-01 ses-2 mrs": "failed"})
    assert later[0].name.startswith("sub-01_ses-10")
    assert find_voxels(tmp_path, people=("02",)) == [second]
    assert [path.parts[-3] for path in find_voxels(tmp_path, ("01",), ("10",))] == ["ses-10"]


def test_the_sidecar_says_of_whom_and_where(files):
    sources = ["bids::sub-01/mrs/a.nii.gz"]
    out = DescribeOverlap(overlap_file=files["overlap.nii"], count=4, sources=sources).run()
    content = json.loads(Path(out.outputs.info_file).read_text())
    assert content["NumberOfPeople"] == 4
    assert content["LargestOverlap"] == 0.75
    np.testing.assert_allclose(content["LargestOverlapAt"], [-20, 0, 20], atol=4.2)
    assert content["Sources"] == sources
    nowhere = DescribeOverlap(overlap_file=files["none.nii"], count=1, sources=sources).run()
    content = json.loads(Path(nowhere.outputs.info_file).read_text())
    assert (content["LargestOverlap"], content["LargestOverlapAt"]) == (0, [])
