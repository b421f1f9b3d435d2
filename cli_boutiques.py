"""Prints the Boutiques descriptor of the BIDS-App, made from the parser of the command line.

    python -m alsflow.cli_boutiques > docker/alsflow.boutiques.json

Names, helps, defaults and choices stand in the parser only; here stands what Boutiques calls them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from alsflow import __version__
from alsflow.cli import parser
from alsflow.workflows import exits

IMAGE = f"alsflow:{__version__}"
LEVELS = ["participant", "group"]
FOLDERS = {"bids_dir", "work_dir"}
FILES = {"bids_filter_file", "config_file"}
NOT_OFFERED = {"help", "version"}  # they end the program before it has done anything
FIRST = ["bids_dir", "output_dir", "analysis_level", "participant_label", "session_label"]
CODES = {
    exits.FAILED: "a step failed, a result was judged unusable, or the run was interrupted",
    exits.INVALID_DATASET: "the input is not a valid BIDS dataset",
    exits.UNKNOWN_LEVEL: "unknown analysis level",
    exits.NOTHING_SELECTED: "the labels or filters fit nothing",
    exits.USAGE: "usage: unknown option, setting, query or value",
    exits.DATA: "data of a visit were refused; status.tsv says why",
    exits.INPUT_MISSING: "a visit lacks an image that was asked for",
    exits.CANNOT_CREATE: "the output or working directory cannot be written",
    exits.TRY_AGAIN: "it could not be done now; try again later",
}


def descriptor() -> dict[str, Any]:
    """Describe the BIDS-App as Boutiques does, schema 0.5."""
    made = parser()
    actions = [action for action in made._actions if action.dest not in NOT_OFFERED]
    by_name = {action.dest: action for action in actions}
    order = FIRST + [name for name in by_name if name not in FIRST]
    keys = " ".join(_key(name) for name in order)
    return {
        "name": "alsflow",
        "tool-version": __version__,
        "schema-version": "0.5",
        "description": made.description,
        "command-line": f"mkdir -p [OUTPUT_DIR]; alsflow {keys}",
        "container-image": {"type": "docker", "image": IMAGE},
        "inputs": [entry for name in order for entry in _inputs(by_name[name])],
        "groups": [
            {
                "id": "output_folder",
                "name": "Output folder",
                "description": "A new folder (participant level), or one that is there already.",
                "members": ["output_dir", "results_dir"],
                "mutually-exclusive": True,
                "one-is-required": True,
            }
        ],
        "output-files": [
            {
                "id": "results",
                "name": "Results",
                "description": "BIDS derivatives, status.tsv, manifest.json and report pages.",
                "path-template": "[OUTPUT_DIR]",
                "optional": False,
            }
        ],
        "error-codes": [
            {"code": code, "description": text} for code, text in sorted(CODES.items())
        ],
        "tags": {"domain": ["neuroinformatics", "mri", "bids-app"]},
    }


def _key(name: str) -> str:
    return f"[{name.upper()}]"


def _inputs(action: argparse.Action) -> list[dict[str, Any]]:
    """One input; two for the output folder, which a participant level makes and a group reads."""
    entry = {
        "id": action.dest,
        "name": action.dest.replace("_", " ").capitalize(),
        "description": _sentence(action),
        "value-key": _key(action.dest),
        "optional": bool(action.option_strings),
        **_type(action),
    }
    if action.option_strings:
        entry["command-line-flag"] = max(action.option_strings, key=len)
    if action.dest == "analysis_level":
        entry["value-choices"] = LEVELS
    if action.dest != "output_dir":
        return [entry]
    there = {"id": "results_dir", "name": "Results dir", "type": "File"}
    there["description"] = "the same folder where it is there already, as for the group level"
    return [entry | {"optional": True}, entry | there | {"optional": True}]


def _type(action: argparse.Action) -> dict[str, Any]:
    if action.nargs == 0:
        return {"type": "Flag"}
    found: dict[str, Any] = {"type": "String"}
    if action.dest in FOLDERS | FILES:
        found = {"type": "File"}
    elif action.type is int:
        found = {"type": "Number", "integer": True}
    if action.choices:
        found["value-choices"] = list(action.choices)
    if action.nargs in ("+", "*"):
        found |= {"list": True, "list-separator": " "}
    return found


def _sentence(action: argparse.Action) -> str:
    """Help of an option as it is printed."""
    text = str(action.help or "") % {**vars(action), "prog": "alsflow"}
    return re.sub(r"\s+", " ", text)


def main() -> int:
    """Print the descriptor."""
    print(json.dumps(descriptor(), indent=2, ensure_ascii=False))
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
