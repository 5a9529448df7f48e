"""A server as a process: `python tests/teacher/openai_server [stub] [OPTIONS AS JSON]`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openai_server import stub


def main(arguments: list[str]) -> None:
    plain = arguments[:1] == ["stub"]
    given = arguments[1:] if plain else arguments
    values = json.loads(given[0]) if given else {}
    if plain:
        stub.serve(values)
        return
    from openai_server.options import Options
    from openai_server.server import Server

    with Server(options=Options.from_json(values)) as server:
        print(server.base_url, flush=True)
        sys.stdin.buffer.read()
        print(json.dumps(server.counts.as_json()), flush=True)


main(sys.argv[1:])
