"""What a model refuses or ignores in a request, and what no model takes in a batch job.

Each rule names a place in the request and a test of the value there. The same rules are applied to lines of
files here, and to rows of tables by ``in_bigquery/rule_conditions.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.models import LAST_TURN, find_model
from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import Problem, child
from airflow_gemini_batch.requests.checking.value_tests import (
    DoesNotMatch,
    HasBoth,
    IsGiven,
    IsNotOneOf,
    IsOutside,
    Lacks,
    LastHas,
    ValueTest,
    spellings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from airflow_gemini_batch.models import Model

FILE_URI_PATTERN = r"gs://[^/\s]+/.+|(?i:https?://(?:(?:www|m)\.)?(?:youtube\.com|youtu\.be)/.+)"
"""What a ``fileUri`` may be: an object in Cloud Storage or a video on YouTube."""
FUNCTION_NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}"
"""What the name of a function may be, by the description of ``FunctionDeclaration.name``."""

REFUSED_BY_MODEL = Rule("refused-by-model", Level.ROW, "Remove the field, or use a model that takes it.")
THINKING_LEVEL = Rule("thinking-level", Level.ROW, "Use a `thinkingLevel` that the model has.")
LEVEL_AND_BUDGET = Rule("level-and-budget", Level.ROW, "Remove `thinkingBudget`; it is for older models.")
MAX_OUTPUT_TOKENS = Rule(
    "max-output-tokens", Level.ROW, "Give a `maxOutputTokens` in that range, or leave it out."
)
CACHED_CONTENT = Rule(
    "cached-content",
    Level.ROW,
    "Write what is cached into the request. Batch jobs have implicit caching, without a setting.",
)
RAG_STORE = Rule("rag-store", Level.ROW, "Retrieve the text before the job, and write it into the prompt.")
IMAGE_SIZE = Rule("image-size", Level.ROW, "Ask for `1K`, or leave the size out.")
FUNCTION_NAME = Rule("function-name", Level.ROW, "Rename the function, for example to `get_weather`.")
FILE_URI = Rule(
    "file-uri",
    Level.ROW,
    "Copy the file to Cloud Storage and give its gs:// URI, or embed it as `inlineData`.",
)
IGNORED_BY_MODEL = Rule("ignored-by-model", Level.ADVICE, "Remove the field; it has no effect.")

_LEVEL, _BUDGET = "thinkingLevel", "thinkingBudget"
_UNSPECIFIED = "THINKING_LEVEL_UNSPECIFIED"
_NAME_MESSAGE = (
    "[FIELD_INVALID] Invalid function name. Must start with a letter or an underscore. Must be a-z, A-Z, "
    "0-9, or contain underscores, dots, colons and dashes, with a maximum length of 128."
)
_URI_MESSAGE = "A fileUri must be a gs:// URI or the URL of a public YouTube video."
_SIZE_MESSAGE = "Batch inference makes images of 1K only."


@dataclass(frozen=True)
class PlaceRule:
    """A rule for one place in a request.

    :param place: names in camelCase, ``[]`` after a repeated one: ``tools[].functionDeclarations[].name``
    :param test: holds for values that break the rule
    """

    rule: Rule
    place: str
    test: ValueTest
    message: str

    @property
    def steps(self) -> tuple[tuple[str, bool], ...]:
        """The names on the way, each with whether it is repeated."""
        return tuple((step.removesuffix("[]"), step.endswith("[]")) for step in self.place.split("."))

    @property
    def title(self) -> str:
        """The rule and the name of the field, for messages."""
        return f"{self.rule.name} {self.steps[-1][0]}"


def _for_every_model() -> Iterator[PlaceRule]:
    yield PlaceRule(
        CACHED_CONTENT, "cachedContent", IsGiven(), "Batch inference does not support explicit caching."
    )
    message = "Batch inference does not support RAG stores."
    yield PlaceRule(RAG_STORE, "tools[].retrieval.vertexRagStore", IsGiven(), message)
    for place, sizes in (
        ("generationConfig.imageConfig.imageSize", ("1K",)),
        (
            "generationConfig.responseFormat[].image.imageSize",
            ("IMAGE_SIZE_ONE_K", "IMAGE_SIZE_UNSPECIFIED"),
        ),
    ):
        yield PlaceRule(IMAGE_SIZE, place, IsNotOneOf(sizes), _SIZE_MESSAGE)
    function = "tools[].functionDeclarations[]"
    yield PlaceRule(FUNCTION_NAME, f"{function}.name", DoesNotMatch(FUNCTION_NAME_PATTERN), _NAME_MESSAGE)
    yield PlaceRule(FUNCTION_NAME, function, Lacks("name"), _NAME_MESSAGE)
    for parts in ("contents[].parts[]", "systemInstruction.parts[]"):
        file = f"{parts}.fileData"
        yield PlaceRule(FILE_URI, f"{file}.fileUri", DoesNotMatch(FILE_URI_PATTERN), _URI_MESSAGE)
        yield PlaceRule(FILE_URI, file, Lacks("fileUri"), _URI_MESSAGE)


def _output_tokens(limit: int | None) -> PlaceRule:
    end = f"to {limit + 1} (exclusive)" if limit else "up"
    message = (
        "Unable to submit request because its maxOutputTokens value is not in the supported range from 1 "
        f"(inclusive) {end}."
    )
    return PlaceRule(MAX_OUTPUT_TOKENS, "generationConfig.maxOutputTokens", IsOutside(1, limit), message)


def _by_model(model: Model) -> Iterator[PlaceRule]:
    for name in model.refuses:
        if name == LAST_TURN:
            message = "The model refuses contents whose last turn has the role `model`."
            yield PlaceRule(REFUSED_BY_MODEL, "contents", LastHas("role", "model"), message)
        else:
            message = f"The model refuses {name}."
            yield PlaceRule(REFUSED_BY_MODEL, f"generationConfig.{name}", IsGiven(), message)
    thinking = "generationConfig.thinkingConfig"
    if levels := model.thinking_levels:
        message = f"The model has only these thinking levels: {', '.join(levels)}."
        test = IsNotOneOf((*levels, _UNSPECIFIED))
        yield PlaceRule(THINKING_LEVEL, f"{thinking}.{_LEVEL}", test, message)
        both = HasBoth(((_LEVEL, IsNotOneOf((_UNSPECIFIED,))), (_BUDGET, IsGiven())))
        message = "You can only set only one of thinking budget and thinking level."
        yield PlaceRule(LEVEL_AND_BUDGET, thinking, both, message)
    for name in model.ignores:
        message = f"The model ignores {name}."
        yield PlaceRule(IGNORED_BY_MODEL, f"generationConfig.{name}", IsGiven(), message)


def place_rules(model: str | None) -> tuple[PlaceRule, ...]:
    """Return the rules for requests to a model, given any form of its name.

    Of a model that is not given or not known, those that hold for every model. A tuned model is not known:
    its name does not say which model it was made from.
    """
    return _rules_of(find_model(model) if model else None)


@lru_cache(maxsize=32)
def _rules_of(model: Model | None) -> tuple[PlaceRule, ...]:
    # Embedding models take another kind of request, which has rules of its own.
    generates = None if model and model.is_embedding else model
    limit = generates.max_output_tokens if generates else None
    return (*_for_every_model(), _output_tokens(limit), *(_by_model(generates) if generates else ()))


def problems(request: Any, rules: Iterable[PlaceRule]) -> Iterator[Problem]:
    """Yield where a request breaks rules."""
    for each in rules:
        for value, path in _values(request, each.steps, "$.request"):
            if each.test.holds(value):
                yield Problem(each.rule, path + each.test.within(value), each.message)


def value_classes(rules: Iterable[PlaceRule]) -> dict[str, Callable[[Any], Hashable]]:
    """Return functions that tell apart the values of a field that a rule treats differently, by its name."""
    tests: dict[str, tuple[ValueTest, ...]] = {}
    for each in rules:
        if isinstance(each.test, (IsNotOneOf, IsOutside, DoesNotMatch)):
            for spelling in spellings(each.steps[-1][0]):
                tests[spelling] = (*tests.get(spelling, ()), each.test)
    return {name: partial(_outcomes, found) for name, found in tests.items()}


def _outcomes(tests: tuple[ValueTest, ...], value: Any) -> tuple[bool, ...]:
    return tuple(test.holds(value) for test in tests)


def _values(value: Any, steps: tuple[tuple[str, bool], ...], path: str) -> Iterator[tuple[Any, str]]:
    """Yield the values at a place, and their JSON paths."""
    if not steps:
        yield value, path
        return
    if not isinstance(value, dict):
        return
    (name, is_repeated), *left = steps
    for spelling in spellings(name):
        if (item := value.get(spelling)) is None:
            continue
        at = child(path, spelling)
        # A single element may stand for an array of one.
        if is_repeated and isinstance(item, list):
            for index, each in enumerate(item):
                yield from _values(each, tuple(left), f"{at}[{index}]")
        else:
            yield from _values(item, tuple(left), at)
