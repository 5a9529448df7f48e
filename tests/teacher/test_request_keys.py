"""The keys of requests, as literals: a ledger finds an answer again by its key alone.

A key is the digest of whom the request goes to and of every word in it. If a test here fails, a
prompt, a schema or the canonical form has changed, and every answer that users have paid for would
be requested again.
"""

from __future__ import annotations

import pytest

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.strategies.labelling import Labelling
from tutelage.strategies.lookup import BUILT_IN, Strategy, get_strategy
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.registry import open_teacher

EXAMPLE = Example(
    "1",
    {"premise": " Ada Łom opened a mill in 1871. ", "hypothesis": 'The "mill" is new.'},
    "neutral",
    reason="It may be.",
)
SHOT = Example("2", {"premise": "It rains.", "hypothesis": "It is wet."}, "entailment")
SENTIMENT = Task("sentiment", ("text",), ("bad", "good"))
REVIEW = Example("3", {"text": "The soup was cold."}, "bad")
TEMPLATE = "Why is “{{ hypothesis }}” {{ label }} of {{ labels|join(', ') }}? {{ reason }}"

RENDERED: dict[str, tuple[Strategy, Task, Example]] = {
    "information_extraction": (get_strategy("information_extraction"), NLI, EXAMPLE),
    "informed_reasoning": (get_strategy("informed_reasoning"), NLI, EXAMPLE),
    "template": (get_strategy("template", template=TEMPLATE), NLI, EXAMPLE),
    "label": (Labelling(NLI), NLI, EXAMPLE),
    "label, one shot": (Labelling(NLI, [SHOT]), NLI, EXAMPLE),
    "a row's label": (get_strategy("label", task=NLI), NLI, EXAMPLE),
    "a row's label, one shot": (get_strategy("label", task=NLI, shots=[SHOT]), NLI, EXAMPLE),
    "chain_of_thought": (get_strategy("chain_of_thought", task=NLI), NLI, EXAMPLE),
    "another task": (get_strategy("informed_reasoning"), SENTIMENT, REVIEW),
    "another task without a context": (get_strategy("information_extraction"), SENTIMENT, REVIEW),
}

_MODEL = "openai:gpt-4.1-mini"
SETTINGS = {
    "no parameters": TeacherSettings(model=_MODEL, provider="someone"),
    "the paper's": TeacherSettings(
        model=_MODEL, provider="someone", temperature=0.2, seed=123, max_tokens=400
    ),
    "structured": TeacherSettings(
        model=_MODEL,
        provider="someone",
        temperature=0.2,
        seed=123,
        max_tokens=400,
        structured=True,
    ),
    "whole floats": TeacherSettings(model=_MODEL, temperature=0.0, top_p=1.0),
    "an address": TeacherSettings(
        model=_MODEL, base_url="http://user:secret@Host.example:80/v1/?api-version=1"
    ),
}

KEYS = {
    "information_extraction": {
        "no parameters": "bb8003ce56d0b24baeb12ad332151c064953c2f4c860c7bb55bdc600c1c18a49",
        "the paper's": "3ddf036f69daf4f46f5ebc0b631aa1cba7f5313cef178be48e40af2fd36c7e42",
        "structured": "85816cf5aac399938683fccb78e5da80cad13ad164c3f1effdda3d6995df3612",
        "whole floats": "2c6b1de9950b4eb5da4dea8cf5310cbc988e8e37329ec5be66e8e511f881ee92",
        "an address": "44053079954ec13253cdfa5aa67656335fa7cf322b4214ed3c44c1cee518c184",
    },
    "informed_reasoning": {
        "no parameters": "38dba79188333bda9b982684689c224efa6f4d541533f751f4de62f1307102d0",
        "the paper's": "78c7fb0882d2b3a952d9319c58c2c0d3160d24c32c6b07cdeaec4c7849f732aa",
        "structured": "78c7fb0882d2b3a952d9319c58c2c0d3160d24c32c6b07cdeaec4c7849f732aa",
        "whole floats": "478722df6f30104a72e8f959abbdcc287733fc058dcb827c4cd36ebea56bfc30",
        "an address": "277aaa6cc141773d3587e8c304391de2ef22d767026540c89095f256f7a2be6e",
    },
    "template": {
        "no parameters": "548b9720dabc9c88864a499afd2511f4054ba55ef627ea40767ddbfb70339766",
        "the paper's": "602d4a10baa7e9dba2a3b99ee21bab87d1b500e885a4c1ad4d24b09a241d55f2",
        "structured": "602d4a10baa7e9dba2a3b99ee21bab87d1b500e885a4c1ad4d24b09a241d55f2",
        "whole floats": "f5aedb299e1cf8e91ac3a947548ee0c3bbc231e303aee63a8e075c37881017b8",
        "an address": "a1730e1c52da3aa89019d9ab6991cfed206ec595c2d734b46ef2627ef0b09441",
    },
    "label": {
        "no parameters": "e4fbf639bd874281e0d3c81f0fc07f38334ab94f2cec644eb3dcb5e9e2af19c3",
        "the paper's": "a4e0b96ec40298763276fb3ba0baaccdd35439e315ca12ae3da89b07209a6e53",
        "structured": "b742f0ec4bef187faceac8fd077882271f0b88a89ed52475e7ec93aad25fd512",
        "whole floats": "fc1a76c6a3558ef1f1deb7b237a674391e3a65a3c908a595cc3ad43fb776cd86",
        "an address": "fcd4b8cdb0de30301cd23f14e752af8fee81e0e05557cde378fad43fc58c3dbe",
    },
    "label, one shot": {
        "no parameters": "09e993e5947b4606babe1449bb5da824e7013b34ca24386fe028693dedd09153",
        "the paper's": "5b4ba7a406fb38546fe9011a77591c8f5961a25f0be2a2f89c6c28759f1dead3",
        "structured": "c6caebb7524c61c4cb253a32511f547138cd372a945af11d2ad5db4bedbd70ff",
        "whole floats": "5b6ac2d6662d84f5df158012ddb55c5114fb78bab2357367ca903b4e8eef659e",
        "an address": "41c3bc4368856e54e957b07e5d6984d7cf3a20954c5faf11d5efcb48dac4d2eb",
    },
    "a row's label": {
        "no parameters": "ab9528f47293027563fa235c85a3c5fa7b074789e01381565c2004c1e037a87f",
        "the paper's": "e0f2d0678e3224cebb28cb7d8130bcfca5e05a38c687cbd51b6ea7a3a675e21e",
        "structured": "ec79e219f82e3bfebf48bce15fa32660cbe67aa867deebd60854038a807676cd",
        "whole floats": "640a3fc0b19405a1c23fe9546dd925d3cb1d00e133c6f01e9b9378a23762b23f",
        "an address": "f897d7ef68a241711f5bab8a3c1b746771e0941ded6e6a6d9b9eff1cf18795f3",
    },
    "a row's label, one shot": {
        "no parameters": "4741ca6a072f0410cb07be6e0a9f3999fffb4b1b79cc5657ebfa6ac1a32e46d3",
        "the paper's": "ce1cb3078f04fb0db9de8a1b010c6856b5351d367d0a4845004780b253dfd783",
        "structured": "cb9e4eb3efa00a06ff9943c3b54ea8198f24d9e64a1d9e8af61d7ff467633ade",
        "whole floats": "41d41d9d282c991e26d49767a0067c13da75d74c60d2b4e14f41145d89f38767",
        "an address": "970dfcb36c0a79a10af5fa9950b7f897d5a17e8b0022a57a8410ef9a19a9f4e9",
    },
    "chain_of_thought": {
        "no parameters": "e809043c0ca42b26286f6315a04d7d3df750b61c7b5c32168d7e5bcaf91053e9",
        "the paper's": "0f9742657cb6841f367c9f1e1523a5863068cd50ded62bccafd1aafc39de95a8",
        "structured": "7ec820fe0d58f99f9f24e48a47b4499844843c61561af6a8adc6ff47773dd85c",
        "whole floats": "cfb9adee92cd65ac02e8f70c760a91b6fced7c44a5b1e0f555d8d115340d0b4b",
        "an address": "87a100e24208f43d315ed8efbc67bac265f9af035c517381e61bc15edb7b57dc",
    },
    "another task": {
        "no parameters": "daaf010a862022355d2383ae6609016ce55c4fe50a480364baa88270df474f7c",
        "the paper's": "424d3889e4fd6db989a674b925f1de220f11f55daa88bab43ee816093d0de777",
        "structured": "424d3889e4fd6db989a674b925f1de220f11f55daa88bab43ee816093d0de777",
        "whole floats": "dd51e7fbd03759cabe68389bd5fde0dfa35bc9205fcf784a5698a52808a7c4e3",
        "an address": "f460624611174932b5489bc02569ef18bc49643555ebd113ca1586266e33ed32",
    },
    "another task without a context": {
        "no parameters": "8121565a80822d84c5e0bd5a43a708bece70a107adf102a6aa79d63c23e613c0",
        "the paper's": "345a5f70875264414f21bc90076e5c1aaeac410e5577e3eb0bb75aadf7172d27",
        "structured": "dadea89ad9ee7981931dd1a5f8fcc9b5d6cb429c9e9e5e4585a4b12fb7070c2e",
        "whole floats": "f7ae2ad66e482472a2d032f404e528aa85c4a28fde025cc4063d7ae25094da4d",
        "an address": "3f1d05f85b5217cb5d84a490dca943c828192368935db26a39785586048988b7",
    },
}


@pytest.mark.parametrize("name", RENDERED)
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_key_of_a_request_stays(name: str, settings: str) -> None:
    strategy, task, example = RENDERED[name]
    builder = RequestBuilder(strategy, task, open_teacher(SETTINGS[settings]))
    key, request = builder.pending(example)
    assert key == KEYS[name][settings]
    assert request.messages == strategy.render(example, task)


def test_every_strategy_with_a_prompt_is_here() -> None:
    without_a_prompt = {"human", "recorded"}
    assert {*BUILT_IN, "label"} - without_a_prompt <= {*RENDERED}


def test_what_the_key_depends_on() -> None:
    """Only a schema of the strategy's own tells `structured` from plain text."""
    for name, (strategy, _, _) in RENDERED.items():
        keys = KEYS[name]
        assert (keys["structured"] == keys["the paper's"]) == (strategy.schema is None)
        assert len({*keys.values()}) == (4 if strategy.schema is None else 5)
