"""Countersign under fire: a load, faults planned from a seed, and an oracle that shares no code with what it judges.

The exit code is 0 when everything held, 1 when anything did not, 2 when the run could not be made. The directory of a run that did
not hold is kept; its name has profile and seed in it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from . import plan, report
from .run import Run


class Stopped(Exception):
    """The run was ended from outside."""


def stop(*_):
    """The first signal ends the run in good order; the clean-up is not disturbed by a second."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parsed():
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=["local", "cluster"], required=True)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long it is loaded and struck [2]")
    parser.add_argument("--seed", type=int, default=1, help="of the plan of faults and of what is sent [1]")
    parser.add_argument("--rate", type=float, help="exchanges a second [60 local, 30 cluster]")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="faults of these kinds alone; may be repeated")
    parser.add_argument("--recover-within", type=float, metavar="S", help="a recovery that takes longer does not hold")
    parser.add_argument("--plan", action="store_true", help="print the plan of faults and do nothing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report there as JSON too")
    parser.add_argument("--keep", action="store_true", help="keep the directory of the run also when everything held")
    parser.add_argument("--binary", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 0.5 <= options.minutes <= 24 * 60:
        parser.error("--minutes wants 0.5 to 1440")
    for kind in set(options.only) - set(plan.kinds_of(options.profile)):
        parser.error(f"--only {kind}: the kinds are {', '.join(plan.kinds_of(options.profile))}")
    return options


def main():
    options = parsed()
    faults = plan.plan(options.profile, options.minutes, options.seed, options.only)
    print(f"plan: {options.profile}, {options.minutes:g} min, seed {options.seed}: {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    sys.stdout.flush()
    if options.plan:
        return 0

    folder = Path(tempfile.mkdtemp(prefix=f"countersign-chaos-{options.profile}-seed-{options.seed}-", dir=os.environ.get("TMPDIR") or "/tmp"))
    folder.chmod(0o755)  # The database's user has to get through.
    run, made, status = Run(options, folder), None, 2
    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        made = run.through(faults)
        status = 0 if made["holds"] else 1
    except Stopped:
        print("chaos: ended from outside", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        run.close()
    if made is not None:
        text = report.told(made)
        print("\n" + text)
        (folder / "report.txt").write_text(text + "\n")
        (folder / "report.json").write_text(json.dumps(made, indent=1))
        if options.json:
            options.json.write_text(json.dumps(made, indent=1))
    if status == 0 and not options.keep:
        shutil.rmtree(folder)
    else:
        (folder / "countersign").unlink()
        print(f"chaos: kept in {folder}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
