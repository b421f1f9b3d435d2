"""Command `alsflow-atlas`: list, fetch, add and check atlases."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from alsflow.interfaces.atlas import (
    KINDS,
    SPACES,
    add_atlas,
    atlas_files,
    atlas_folder,
    check_atlas,
    fetch_atlas,
    registry,
)
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.workflows.signals import ending_politely

DONE, FAILED, USAGE = 0, 1, 64  # exit codes


class _Parser(argparse.ArgumentParser):
    """A parser that ends with the exit code of a wrong call."""

    def error(self, message: str):
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = _Parser(prog="alsflow-atlas", description="List, fetch, add and check atlases.")
    parser.add_argument(
        "--folder",
        help="atlas folder (default: ALSFLOW_ATLAS_DIR, else alsflow/atlases in the user's cache)",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    commands.add_parser("list", help="show every atlas and whether it is here")
    fetch = commands.add_parser("fetch", help="bring an atlas into the atlas folder")
    fetch.add_argument("name", nargs="+", help="atlas, as `list` shows it")
    fetch.add_argument(
        "--from", dest="copies", nargs="+", default=[], metavar="FILE",
        help="local copies of its files, or a folder that holds them; nothing is downloaded",
    )  # fmt: skip
    add = commands.add_parser("add", help="register an atlas of your own")
    add.add_argument("name", help="letters and digits only")
    add.add_argument("image", help="NIfTI image in MNI space")
    add.add_argument("labels", help="table with columns index, name and, optional, side, region")
    add.add_argument("--space", required=True, choices=SPACES, help="variant of MNI space")
    add.add_argument("--kind", choices=KINDS, default="labels", help="what the values mean")
    add.add_argument("--title", default="", help="what the atlas is called in texts")
    add.add_argument("--licence", default="not stated", help="under which it may be used")
    add.add_argument("--citation", default="not stated", help="what to cite when it is used")
    check = commands.add_parser("check", help="compare checksums, read every label")
    check.add_argument("name", nargs="*", help="atlases (default: all that are here)")
    return parser


def _list(arguments: argparse.Namespace) -> int:
    print(f"atlas folder: {atlas_folder(arguments.folder)}")
    print(f"{'name':20} {'kind':12} {'space':20} {'state':12} title")
    for name, entry in registry(arguments.folder).items():
        here = all(path.is_file() for path in atlas_files(name, arguments.folder).values())
        state = "here" if here else "not fetched" if entry["source"] == "fetch" else "missing"
        print(f"{name:20} {entry['kind']:12} {entry['space']:20} {state:12} {entry['title']}")
    return DONE


def _fetch(arguments: argparse.Namespace) -> int:
    if arguments.copies and len(arguments.name) > 1:
        print("--from takes the files of one atlas; name one.", file=sys.stderr)
        return USAGE
    for name in arguments.name:
        entry = registry(arguments.folder).get(name, {})
        for path in fetch_atlas(name, arguments.folder, arguments.copies):
            print(path)
        print(f"licence: {entry['licence']}\nplease cite: {entry['citation']}")
    return DONE


def _add(arguments: argparse.Namespace) -> int:
    target = add_atlas(
        arguments.name,
        arguments.image,
        arguments.labels,
        space=arguments.space,
        kind=arguments.kind,
        title=arguments.title,
        licence=arguments.licence,
        citation=arguments.citation,
        folder=arguments.folder,
    )
    print(target)
    return DONE


def _check(arguments: argparse.Namespace) -> int:
    code = DONE
    for name in arguments.name or registry(arguments.folder):
        try:
            problems = check_atlas(name, arguments.folder)
        except MissingProgramError as error:
            if not arguments.name:
                print(f"{name}: not fetched")
                continue
            problems = [str(error)]
        print(f"{name}: {'; '.join(problems) or 'ok'}")
        code = FAILED if problems else code
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (it could not be done) or 64 (wrong call)."""
    arguments = build_parser().parse_args(argv)
    commands = {"list": _list, "fetch": _fetch, "add": _add, "check": _check}
    try:
        with ending_politely():
            return commands[arguments.command](arguments)
    except (BadInputError, MissingProgramError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; what was being fetched or added is not there.", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
