"""One process of `annotate.py`: the same requests made by bespokelabs-curator.

python annotate_curator.py DATA BASE_URL CONCURRENCY FOLDER REPORT

Runs in Curator's own environment, with the variables that `annotate.py` sets (telemetry, viewer
and network off; caches in FOLDER). Everything that can be done before its clock starts is done.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from pathlib import Path

import tiktoken
from annotate_measure import measure_and_report


class ByteCount:
    """Replaces a token encoding, which would be downloaded: one token for four bytes.

    It is cheaper than the real one, so that the comparison errs in Curator's favour.
    """

    def encode(self, text: str, **_: object) -> range:
        return range(len(text.encode()) // 4)


def _stand_in(_name: str) -> ByteCount:
    return ByteCount()


_NO_LIMIT_PER_MINUTE = 10**10


def main(data: Path, base_url: str, concurrency: int, folder: Path, report: Path) -> None:
    tiktoken.get_encoding = tiktoken.encoding_for_model = _stand_in
    from bespokelabs import curator
    from bespokelabs.curator.log import logger
    from datasets import Dataset

    class Annotator(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, str]) -> str:
            return row["prompt"]

        def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
            return {"uid": row["uid"], "text": response}

    annotator = Annotator(
        model_name="m",
        backend="openai",
        backend_params={
            "base_url": base_url,
            "api_key": "none",
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": _NO_LIMIT_PER_MINUTE,
            "max_tokens_per_minute": _NO_LIMIT_PER_MINUTE,
        },
    )
    first = Dataset.from_list([{"uid": "first", "prompt": "A first one."}])
    annotator(first, working_dir=str(folder / "first"))
    # Its log file of that call would otherwise stay open and be written along with the next one.
    for handler in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
    rows = Dataset.from_json(str(data), cache_dir=str(folder / "rows"))

    def work() -> int:
        answered = annotator(rows, working_dir=str(folder / "work")).dataset
        return sum(1 for text in answered["text"] if text)

    measure_and_report(report, work, version("bespokelabs-curator"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
