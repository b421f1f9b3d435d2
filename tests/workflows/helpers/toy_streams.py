"""A stream of three small steps whose input says what is to go wrong."""

import os
import signal
import time
from pathlib import Path

from nipype.interfaces.base import File, TraitedSpec, traits
from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.programs import call
from alsflow.interfaces.whole import whole
from alsflow.nodes.errors import BadInputError
from alsflow.workflows.ports import port


def work_dir_of(runtime):
    names = ("alsflow_wf", "group_wf")
    return next(p.parent for p in Path(runtime.cwd).parents if p.name in names)


def note(runtime, name):
    """Remember in the working directory that a step was computed."""
    visit = Path(runtime.cwd).parents[1].name.removesuffix("_wf")
    with (work_dir_of(runtime) / "calls.txt").open("a") as calls:
        calls.write(f"{visit}:{name}\n")


def hold_memory(folder, megabytes):
    """Hold memory until another step holds some too, and a little longer."""
    held = bytearray(megabytes * 1_000_000)
    held[::4096] = bytes(len(held[::4096])).replace(b"\0", b"x")
    (folder / f"holds_{os.getpid()}").touch()
    end = time.monotonic() + 10
    while len(list(folder.glob("holds_*"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)


class _LoadInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="image")


class _OutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="result")
    extra = traits.Any(desc="anything")


class Load(CodedInterface):
    """Do what the content of the input file orders."""

    input_spec = _LoadInputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime):
        note(runtime, "load")
        text = Path(self.inputs.t1w_file).read_text()
        if "refuse" in text:
            raise BadInputError("sub-XX_T1w.nii.gz is 2-D;\nexport it again as a 3-D image.")
        if "crash" in text:
            raise RuntimeError("division by zebra")
        if "full" in text:
            raise OSError(28, "No space left on device", "/scratch/out.nii.gz")
        once = work_dir_of(runtime) / "died"
        if "dieonce" in text and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "kill" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "memory" in text and not ("once" in text and once.exists()):
            once.touch()
            raise MemoryError
        if "threads" in text:
            names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                     "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")  # fmt: skip
            found = [len(os.sched_getaffinity(0)), *(os.environ[name] for name in names)]
            (work_dir_of(runtime) / "threads.txt").write_text(" ".join(map(str, found)))
        if "program" in text:
            call(["sh", "-c", "kill -9 $$"], 10)
        if "hog" in text:
            hold_memory(work_dir_of(runtime), int(text.split()[1]))
        if "unpicklable" in text:
            self._results["extra"] = lambda: None
        if "exit" in text:
            raise SystemExit(3)
        while "wait" in text and not (work_dir_of(runtime) / "go").exists():
            time.sleep(0.02)
        if "hog" in text:
            sum(range(300_000_000))  # keeps the interpreter's lock for seconds
            (work_dir_of(runtime) / "outlived").touch()
        if "slow" in text:
            time.sleep(1.0)
        out_file = Path(runtime.cwd) / "loaded.txt"
        out_file.write_text(text)
        self._results["out_file"] = str(out_file)
        return runtime


class _ScaleInputSpec(CodedInputSpec):
    in_file = File(exists=True, mandatory=True, desc="text")
    factor = traits.Float(1.0, usedefault=True, desc="how often")
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")
    word = traits.Str(desc="no file")


class Scale(CodedInterface):
    """Repeat the text."""

    input_spec = _ScaleInputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime):
        note(runtime, "scale")
        out_file = Path(runtime.cwd) / "scaled.txt"
        out_file.write_text(Path(self.inputs.in_file).read_text() * int(self.inputs.factor))
        self._results["out_file"] = str(out_file)
        return runtime


class _SinkInputSpec(CodedInputSpec):
    in_file = File(exists=True, mandatory=True, desc="text")
    target = traits.Str(mandatory=True, nohash=False, hash_files=False, desc="where it goes")


class Sink(CodedInterface):
    """Copy the text to the derivatives."""

    input_spec = _SinkInputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime):
        note(runtime, "sink")
        target = Path(self.inputs.target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            partial.write_text(Path(self.inputs.in_file).read_text())
        self._results["out_file"] = str(target)
        return runtime


class Once(CodedInterface):
    """Copy the text, and remember that it was copied."""

    input_spec = _LoadInputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime):
        text = Path(self.inputs.t1w_file).read_text()
        with (work_dir_of(runtime) / "once.txt").open("a") as calls:
            calls.write(text)
        out_file = Path(runtime.cwd) / "once_out.txt"
        out_file.write_text(text)
        self._results["out_file"] = str(out_file)
        return runtime


def target(visit, settings):
    return settings.output_dir / visit.folder / "anat" / f"{visit.prefix}_desc-toy_T1w.txt"


def init_toy_wf(visit, settings):
    """load -> scale -> sink."""
    workflow = Workflow(name="anat_wf")
    load = Node(Load(t1w_file=str(visit.files["t1w"][0])), name="load")
    scale = Node(Scale(factor=settings.anat.smoothing), name="scale", n_procs=1)
    sink = Node(Sink(target=str(target(visit, settings))), name="sink")
    workflow.connect([
        (load, scale, [("out_file", "in_file")]),
        (scale, sink, [("out_file", "in_file")]),
        (scale, port("outputnode", "scaled_file"), [("out_file", "scaled_file")]),
    ])  # fmt: skip
    return workflow


def target_of_second(visit, settings):
    return settings.output_dir / visit.folder / "dwi" / f"{visit.prefix}_desc-toy_dwi.txt"


def init_second_wf(visit, settings):
    """A stream that takes what the first has made: scale -> sink."""
    workflow = Workflow(name="dwi_wf")
    scale = Node(Scale(factor=2), name="scale")
    sink = Node(Sink(target=str(target_of_second(visit, settings))), name="sink")
    workflow.connect([
        (port("inputnode", "scaled_file"), scale, [("scaled_file", "in_file")]),
        (scale, sink, [("out_file", "in_file")]),
    ])  # fmt: skip
    return workflow


def requested(visit, stream, settings):
    found = {"anat": target, "dwi": target_of_second}[stream]
    return {"toy": found(visit, settings)}


def withdraw(visit, stream, settings):
    for path in requested(visit, stream, settings).values():
        path.unlink(missing_ok=True)
