"""SPM12 and CAT12, if they are here: where they are, how they are called, which release.

Two ways are known. Stand-alone SPM12 (with or without CAT12) runs on the free MATLAB runtime; the
variable ``SPMMCRCMD`` holds the command that takes a script, such as
``/opt/spm12/run_spm12.sh /opt/mcr/v93 script``. Otherwise MATLAB is called by its name, or by
what ``MATLABCMD`` holds, with ``SPM_PATH`` as the folder of SPM12 if MATLAB does not find it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from nipype.interfaces.base import Undefined
from nipype.interfaces.matlab import MatlabCommand

from alsflow.interfaces.programs import NOTHING, last_line
from alsflow.nodes.errors import MissingProgramError

STANDALONE_VARIABLE = "SPMMCRCMD"
MATLAB_VARIABLE = "MATLABCMD"
SPM_VARIABLE = "SPM_PATH"
MATLAB = "matlab"
SCRIPT = "alsflow_release.m"
QUERY = """
if isempty(which('spm')), error('SPM is not on the path of MATLAB'); end
[name, release] = spm('ver');
cat = 'none';
if ~isempty(which('cat_version')), [cat_name, cat_release] = cat_version; cat = [cat_name ' r' \
num2str(cat_release)]; end
fprintf(1, 'ALSFLOW|%s|%s|%s|%s|\\n', name, num2str(release), cat, spm('dir'));
"""
ADVICE = (
    "Or leave the engine at its default, which needs neither MATLAB nor SPM: --anat-engine cat."
)


@dataclass(frozen=True)
class SpmProgram:
    """How SPM12 is called here."""

    command: str
    standalone: bool
    folders: tuple[str, ...] = ()  # to add to the path of MATLAB


@dataclass(frozen=True)
class SpmRelease:
    """What answered."""

    spm: str  # such as "SPM12 r7771"
    cat: str  # such as "CAT12.9 r2577", or "none"
    folder: str


def find_spm(environment: Mapping[str, str] | None = None) -> SpmProgram:
    """Find the command of SPM12, without running it.

    Raises
    ------
    MissingProgramError
        There is none; the message says what to set.
    """
    environment = os.environ if environment is None else environment
    path = environment.get("PATH")
    standalone = environment.get(STANDALONE_VARIABLE, "")
    if standalone:
        _require_command(standalone, STANDALONE_VARIABLE, path)
        return SpmProgram(standalone, standalone=True)
    command = environment.get(MATLAB_VARIABLE) or MATLAB
    if environment.get(MATLAB_VARIABLE):
        _require_command(command, MATLAB_VARIABLE, path)
    elif shutil.which(MATLAB, path=path) is None:
        raise MissingProgramError(
            "SPM12 is not here: MATLAB is not installed, and the variable "
            f"{STANDALONE_VARIABLE} does not name a stand-alone SPM12. Set it, for instance to "
            f"'/opt/spm12/run_spm12.sh /opt/mcr/v93 script'. {ADVICE}"
        )
    folder = environment.get(SPM_VARIABLE, "")
    if folder and not os.path.isfile(os.path.join(folder, "spm.m")):
        raise MissingProgramError(f"{SPM_VARIABLE} is {folder}, where there is no spm.m. {ADVICE}")
    return SpmProgram(command, standalone=False, folders=(folder,) if folder else ())


def _require_command(command: str, variable: str, path: str | None) -> None:
    program = shlex.split(command)[0]
    if shutil.which(program, path=path) is None:
        raise MissingProgramError(
            f"{variable} is {command!r}, and {program} is not a program that can be run. {ADVICE}"
        )


def matlab_command(program: SpmProgram, script: str, script_file: str) -> MatlabCommand:
    """Nipype's call of a script with the way of `program`."""
    call = MatlabCommand(matlab_cmd=program.command, mfile=True, resource_monitor=False)
    if program.standalone:
        call.inputs.nodesktop = Undefined
        call.inputs.nosplash = Undefined
        call.inputs.single_comp_thread = Undefined
        call.inputs.uses_mcr = True
    if program.folders:
        call.inputs.paths = list(program.folders)
    call.inputs.script = script
    call.inputs.script_file = script_file
    return call


def spm_release(program: SpmProgram) -> SpmRelease:
    """Ask SPM12 for its release, and for that of CAT12; starts MATLAB once.

    Raises
    ------
    MissingProgramError
        Nothing answered, or what answered is not SPM12.
    """
    try:
        result = matlab_command(program, QUERY, SCRIPT).run()
        output = result.runtime.stdout
    except (OSError, RuntimeError) as error:
        raise MissingProgramError(
            f"{program.command!r} does not start SPM12 ({last_line(str(error)) or NOTHING}). "
            f"{ADVICE}"
        ) from error
    found = re.search(r"ALSFLOW\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|", output or "")
    if found is None:
        raise MissingProgramError(
            f"{program.command!r} does not answer as SPM12 does "
            f"({last_line(output or '') or NOTHING}). {ADVICE}"
        )
    name, release, cat, folder = found.groups()
    if name != "SPM12":
        raise MissingProgramError(
            f"{program.command!r} is {name} r{release}; this program works with SPM12. {ADVICE}"
        )
    return SpmRelease(f"{name} r{release}", cat, folder)


def require_cat12(release: SpmRelease) -> None:
    """Refuse an SPM12 without CAT12."""
    if release.cat == "none":
        raise MissingProgramError(
            f"{release.spm} in {release.folder} has no CAT12: put CAT12 into its folder toolbox, "
            f"or use a stand-alone version that includes it. {ADVICE}"
        )
