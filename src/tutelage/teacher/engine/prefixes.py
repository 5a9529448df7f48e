"""The beginning of a prompt that rows share, and that a server's prefix cache can use again."""

from __future__ import annotations

from tutelage.core.types import Request


def prefix_of(request: Request) -> int | None:
    """What a server's prefix cache can share between rows: a hash of the prompt up to the end of
    the first text of the row in it, such as the premise. None where a row has one text alone.
    """
    texts = [text for text in request.example.fields.values() if text]
    if len(texts) < 2:
        return None
    before: list[str] = []
    for message in request.messages:
        found = [(at, text) for text in texts if (at := message.content.find(text)) >= 0]
        if found:
            at, text = min(found, key=lambda place: (place[0], -len(place[1])))
            return hash((*before, message.content[: at + len(text)]))
        before.append(message.content)
    return None
