"""A study: a grid of runs, and the paper's tables, figures and claims from what came out.

``config`` reads what is asked for, ``grid`` makes runs of it, ``engine`` hands them to Snakemake, which starts one
``job`` for each, ``results`` collects what they leave. ``tables``, ``figures`` and ``claims`` say what it amounts to,
and ``report`` puts them on a page. Nothing that trains imports this package.
"""
