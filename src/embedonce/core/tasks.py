"""The 8 task types and the text prefixes that Gemini Embedding 2 documents for them (WIRE §4).

The model ignores the `task_type` parameter at Google: the task goes into the text. A task travels either
as prefix or as parameter, never both; which one is the upstream's recipe. Content with media gets no prefix.
"""

from __future__ import annotations

from enum import StrEnum

from embedonce.core.content import Content, TextPart


class TaskType(StrEnum):
    RETRIEVAL_QUERY = "RETRIEVAL_QUERY"
    RETRIEVAL_DOCUMENT = "RETRIEVAL_DOCUMENT"
    QUESTION_ANSWERING = "QUESTION_ANSWERING"
    FACT_VERIFICATION = "FACT_VERIFICATION"
    CODE_RETRIEVAL_QUERY = "CODE_RETRIEVAL_QUERY"
    CLASSIFICATION = "CLASSIFICATION"
    CLUSTERING = "CLUSTERING"
    SEMANTIC_SIMILARITY = "SEMANTIC_SIMILARITY"


PREFIX_RECIPE = "prefix-1"
"""Name and version of the recipe below; it is part of the lineage, so changing a prefix changes every key."""

_QUERY_PREFIXES = {
    TaskType.RETRIEVAL_QUERY: "task: search result | query: ",
    TaskType.QUESTION_ANSWERING: "task: question answering | query: ",
    TaskType.FACT_VERIFICATION: "task: fact checking | query: ",
    TaskType.CODE_RETRIEVAL_QUERY: "task: code retrieval | query: ",
    TaskType.CLASSIFICATION: "task: classification | query: ",
    TaskType.CLUSTERING: "task: clustering | query: ",
    TaskType.SEMANTIC_SIMILARITY: "task: sentence similarity | query: ",
}


def prefix_for(task: TaskType, title: str | None) -> str:
    if task is TaskType.RETRIEVAL_DOCUMENT:
        return f"title: {title or 'none'} | text: "
    return _QUERY_PREFIXES[task]


def with_prefix(content: Content, task: TaskType | None, title: str | None) -> Content:
    """The content as a prefix-recipe upstream receives it: the first text part carries the task."""
    if task is None or not content.is_text:
        return content
    first, *rest = content.parts
    assert isinstance(first, TextPart)
    return Content((TextPart(prefix_for(task, title) + first.text), *rest))
