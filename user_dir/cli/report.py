"""Make tables, figures and verdicts of a study: what the paper claims, and what came out here.

  sparse-adapter report studies/table1 report
  sparse-adapter report studies/table1 report --margin 1
  sparse-adapter report studies/table1 colleague/report report     # of both; of a run in both, the first

OUT/report.html is all of it on one page, which needs no other file; OUT/README.md is the same for a repository. A
study that is not finished yet gives a report of what there is.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import UsageError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "studies", type=Path, nargs="+", metavar="STUDY", help="folder of sparse-adapter study, or of an earlier report"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to; replaces an earlier report there")
    parser.add_argument("--margin", type=float, default=0.5, metavar="M", help="points within which scores match (0.5)")
    parser.add_argument("--level", type=float, default=0.95, metavar="P", help="confidence of the intervals (0.95)")


def run(args: Namespace) -> None:
    if args.margin < 0 or not 0 < args.level < 1:
        raise UsageError("--margin is at least 0, and --level lies between 0 and 1")
    try:
        from ..study.report import write_report
    except ImportError as error:
        raise UsageError(
            f"sparse-adapter report needs {error.name}: pip install pandas matplotlib jinja2, which the extra study has"
        ) from error
    names = write_report(args.studies, args.out, args.margin, args.level)
    print(f"{args.out / 'report.html'}, and {len(names) - 1} files beside it")
