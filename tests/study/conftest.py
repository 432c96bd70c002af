import pytest

pytest.importorskip("pandas", reason="the extra 'study' is not installed")
pytest.importorskip("snakemake", reason="the extra 'study' is not installed")
