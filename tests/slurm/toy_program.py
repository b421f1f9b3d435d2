"""What a task runs in the tests: the toy for a person, and a group level that only counts."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if "group" in sys.argv:
        output_dir = Path(sys.argv[2])
        rows = [row.split("\t") for row in (output_dir / "status.tsv").read_text().splitlines()]
        done = sorted(row[0] for row in rows if row[3] == "done")
        (output_dir / "group.txt").write_text(" ".join(done))
        sys.exit(0)
    helpers = Path(__file__).parents[1] / "workflows" / "helpers"
    sys.path.insert(0, str(helpers))
    import runpy

    sys.argv[0] = str(helpers / "run_toy.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
