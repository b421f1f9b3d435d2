"""Spectroscopy: one good person, and one for each thing that goes wrong."""

import shutil
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from clinic import GOOD, Clinic, change_sidecar, simulate_good_person
from func_clinic import place_template

from alsflow.nodes.simulate.cohort import Design, FunctionalDesign
from alsflow.nodes.simulate.functional import FunctionalScanner
from alsflow.nodes.simulate.spectroscopy import MrsDesign, MrsScanner

__all__ = ["GOOD", "MrsClinic", "make_clinic"]

SCANNER = MrsScanner(snr=60.0)  # no gain of its own, and little noise: the truth comes out
MRS = MrsDesign(failures=0.0, size=(30.0, 24.0, 20.0), scanner=SCANNER)
DESIGN = Design(1, 0, 1, 5, {}, ((3.0, 3.0, 3.0),), mrs=MRS)
FUNC_SCANNER = FunctionalScanner(tsnr=100, motion=0.25, distortion=0, ringing=0, storage="LAS")
FUNC = FunctionalDesign(40, 3.0, ((4.0, 4.0, 4.0),), FUNC_SCANNER)
WITH_FUNC = replace(DESIGN, func=FUNC)
ENDS = (".table", ".coord", ".csv", ".print")
NAME = "Given Q. Surname 1961-02-03"  # of nobody
PERSONAL = ("Given Q", "Surname 1961", "1961-02-03", "Owner Name", "/home/owner")
BASIS = " $SEQPAR\n $END\n $BASIS1\n $END\n"
FATAL = """ LCModel (Version 6.3-1N)

$$DIAG  1 lines in following diagnostic table:
   1 FATAL     FTDATA  1

$$INPU  0 lines in following table of input changes:
"""


@dataclass
class MrsClinic(Clinic):
    """A clinic whose results of LCModel lie in a folder of their own."""

    @property
    def results(self) -> Path:
        return self.root / "lcmodel"

    def result(self, person: str, end: str = ".table") -> Path:
        return self.results / f"sub-{person}" / f"sub-{person}{end}"

    def scan(self, person: str, end: str = ".nii.gz") -> Path:
        """Spectrum of a person, or the sidecar beside it."""
        return self.bids / f"sub-{person}" / "mrs" / f"sub-{person}_svs{end}"

    def admit(self, person, harm=None, like=GOOD):
        """Copy a person's fit too."""
        (self.results / f"sub-{person}").mkdir()
        for end in ENDS:
            shutil.copyfile(self.result(like, end), self.result(person, end))
        super().admit(person, harm, like)

    def run_fitted(self, *options, **more):
        """Exit code of a run that is given the folder of results."""
        return self.run("--derivatives", f"lcmodel={self.results}", *options, **more)

    def true_affine(self) -> np.ndarray:
        return nib.load(self.scan(GOOD)).affine


def make_clinic(root: Path, design: Design = DESIGN, stream: str = "mrs") -> MrsClinic:
    """Simulate the good person; nobody else is there yet."""
    clinic = MrsClinic(root, stream, "svs" if stream == "mrs" else "task-rest_bold")
    clinic.atlases.mkdir(parents=True)
    head = simulate_good_person(clinic, design)
    shutil.move(clinic.bids / "derivatives" / "lcmodel", clinic.results)
    shutil.rmtree(clinic.bids / "derivatives")
    place_template(head.anatomy, root / "ready")
    return clinic


# ---------------------------------------------------------------------------- fits


def change_text(*pairs, ends=ENDS):
    """Replace text in the files of a fit; each must be in one of them."""

    def harm(clinic, person):
        left = {old for old, _ in pairs}
        for end in ends:
            path = clinic.result(person, end)
            text = path.read_text()
            left -= {old for old in left if old in text}
            for old, new in pairs:
                text = text.replace(old, new)
            path.write_text(text)
        assert not left, left

    return harm


def table_line(clinic, start: str, end: str = ".table") -> str:
    """First line that holds a word."""
    lines = clinic.result(GOOD, end).read_text().splitlines()
    return next(line for line in lines if start in line)


def no_fit(clinic, person):
    shutil.rmtree(clinic.results / f"sub-{person}")


def fatal(clinic, person):
    no_fit(clinic, person)
    clinic.result(person).parent.mkdir()
    clinic.result(person).write_text(FATAL)


def cut_table(clinic, person):
    """As a full disk leaves it."""
    for end in (".coord", ".csv", ".print"):
        clinic.result(person, end).unlink()
    path = clinic.result(person)
    path.write_text(path.read_text()[:700])


def other_csv(clinic, person):
    """Table and .csv are of two fits."""
    path = clinic.result(person, ".csv")
    head, values = path.read_text().splitlines()
    cells = values.split(",")
    cells[2] = f"{float(cells[2]) + 1:10.3f}"
    path.write_text(f"{head}\n{','.join(cells)}\n")


def low_snr(clinic, person):
    line = table_line(clinic, "S/N")
    number = line.split("S/N =")[1].split()[0]
    change_text((f"S/N = {number:>3}", "S/N =   2"))(clinic, person)


def choline_16(clinic, person):
    """The CRLB of choline alone breaks the rule."""
    for end in (".table", ".coord"):
        path = clinic.result(person, end)
        line = table_line(clinic, " GPC+PCh", end)
        at = line.index("%")
        changed = f"{line[: at - 3]} 16{line[at:]}"
        path.write_text(path.read_text().replace(line, changed))
    clinic.result(person, ".csv").unlink()


def other_basis(clinic, person):
    """LCModel says that the basis set has another echo time."""
    harm = change_text(
        ("$$DIAG  0 lines in following diagnostic table:\n",
         "$$DIAG  1 lines in following diagnostic table:\n   1 warning   MYBASI 10\n"),
        ends=(".table",),
    )  # fmt: skip
    harm(clinic, person)


def named(clinic, person):
    """A name, a birthday, an owner and a path wherever LCModel would write them."""
    for end in (".table", ".coord"):
        path = clinic.result(person, end)
        first, rest = path.read_text().split("\n", 1)
        first += f"\n {NAME}\n"
        rest = rest.replace(" dows= T", f" title= '{NAME}'\n filraw= '/home/owner/{person}.RAW'\n"
                            " owner= 'Owner Name'\n dows= T")  # fmt: skip
        rest = rest.replace("$$INPU  9 lines", "$$INPU 12 lines")
        rest = rest.replace(" 9 lines in following table of input", "12 lines in following "
                            "table of input")  # fmt: skip
        path.write_text(first + rest)
    path = clinic.result(person, ".print")
    path.write_text(f" {NAME}\n{path.read_text()}")
    words = {"PatientName": NAME, "InstitutionAddress": "Owner Name, /home/owner"}
    change_sidecar(clinic.scan(person, ".json"), **words)


# ---------------------------------------------------------------------------- voxels


def moved(*shift):
    """The voxel lies elsewhere, by mm to the right, to the front and upwards."""

    def harm(clinic, person):
        path = clinic.scan(person)
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += shift
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        nib.save(image, path)

    return harm


def unlocalised(clinic, person):
    image = nib.load(clinic.scan(person))
    image.set_sform(np.diag([10000.0, 10000.0, 10000.0, 1.0]), 1)
    image.set_qform(image.get_sform(), 1)
    nib.save(image, clinic.scan(person))


def no_forms(clinic, person):
    image = nib.load(clinic.scan(person))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, clinic.scan(person))


def damaged(clinic, person):
    clinic.scan(person).write_text("<html>404 Not Found</html>")


def broken_sidecar(clinic, person):
    path = clinic.scan(person, ".json")
    path.write_text(path.read_text()[:-10])


def two_spectra(clinic, person):
    """Two regions, of which the fit's name says nothing."""
    folder = clinic.scan(person).parent
    for end in (".nii.gz", ".json"):
        for voi in ("foot", "hand"):
            name = f"sub-{person}_voi-{voi}_svs{end}"
            shutil.copyfile(clinic.scan(person, end), folder / name)
        clinic.scan(person, end).unlink()


def no_spectrum(clinic, person):
    shutil.rmtree(clinic.bids / f"sub-{person}" / "mrs")


def nothing(clinic, person):
    no_spectrum(clinic, person)
    no_fit(clinic, person)


# ---------------------------------------------------------------------------- scanners


def box_of(affine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, unit edges and sizes in LPS+ mm."""
    lps = np.diag([-1.0, -1.0, 1.0])
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return lps @ affine[:3, 3], lps @ affine[:3, :3] / sizes, sizes


def write_rda(clinic, path: Path) -> None:
    """The good person's voxel as Siemens writes it."""
    centre, axes, sizes = box_of(clinic.true_affine())
    fields = {"PatientName": NAME, "SequenceName": "*svs_se", "TR": 3000.0, "TE": 30.0}
    fields |= {f"CSIMatrixSize[{axis}]": 1 for axis in range(3)}
    for name, edge in (("RowVector", axes[:, 0]), ("ColumnVector", axes[:, 1])):
        fields |= {f"{name}[{axis}]": edge[axis] for axis in range(3)}
    normal = np.cross(axes[:, 0], axes[:, 1])
    for axis, side in enumerate(("Sag", "Cor", "Tra")):
        fields |= {f"VOIPosition{side}": centre[axis], f"VOINormal{side}": normal[axis]}
    fields |= dict(zip(("VOIReadoutFOV", "VOIPhaseFOV", "VOIThickness"), sizes, strict=True))
    lines = [f"{key}: {value}" for key, value in fields.items()]
    text = "\r\n".join([">>> Begin of header <<<", *lines, ">>> End of header <<<", ""])
    path.write_bytes(text.encode() + b"\0\1")


def write_spar(clinic, path: Path, sizes=None) -> None:
    """The good person's voxel as Philips writes it, not turned."""
    centre, _, own = box_of(clinic.true_affine())
    fields = {"patient_name": NAME, "scan_id": "PRESS 30", "echo_time": 30,
              "repetition_time": 3000, "volume_selection_enable": '"yes"',
              "phase_encoding_enable": '"no"'}  # fmt: skip
    for axis, name in enumerate(("lr", "ap", "cc")):
        fields |= {f"{name}_size": (sizes or own)[axis], f"{name}_off_center": centre[axis],
                   f"{name}_angulation": 0}  # fmt: skip
    path.write_text("".join(f"{key} : {value}\n" for key, value in fields.items()))


def write_mapping(clinic, rows, name="mapping.tsv") -> Path:
    """A mapping beside the results; rows of person, result and voxel."""
    lines = ["participant_id\tresult\tvoxel", *("\t".join((f"sub-{p}", *r)) for p, *r in rows)]
    path = clinic.results / name
    path.write_text("\n".join(lines) + "\n")
    return path


# ---------------------------------------------------------------------------- LCModel


def install_lcmodel(folder: Path, table: Path) -> None:
    """A program called lcmodel that finds what is in a table, whatever it is given."""
    folder.mkdir()
    program = folder / "lcmodel"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, shutil, sys\nassert '$LCMODL' in sys.stdin.read()\n"
        "assert pathlib.Path('data.RAW').is_file()\n"
        f"shutil.copyfile({str(table)!r}, 'out.table')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
