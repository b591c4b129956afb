"""Counterfactual augmentation: training documents come a second time, with words such as he and she swapped.

Zhao et al. (2018), arXiv 1804.06876; Lu et al. (2018), arXiv 1807.11714.
"""

from collections.abc import Iterator

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter

from jaxgpt.data.word_swaps import WordSwaps
from jaxgpt.prepare.tokenize import is_validation


class Mirror(PipelineStep):
    """Passes each document on, and behind it its mirror image, if that differs and both are for training.

    The split of a document is decided by a hash of its text. So a validation document has no mirror image, and an image
    that is the text of one is left out: no text of the validation split is ever trained on. Nor is an image that has a
    leak, which the document itself has not.

    Args:
      swaps: the words.
      val: the share of the documents that are for validation.
      leaks: of decontaminate.decontaminate; None: nothing is a leak.
    """

    type, name = "MIRROR", "counterfactual"

    def __init__(self, swaps: WordSwaps, val: float, leaks: BaseFilter | None = None):
        super().__init__()
        self.swaps, self.val, self.leaks = swaps, val, leaks

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in data:
            yield document
            text, swapped = self.swaps.swap(document.text)
            mirror = Document(text, "", metadata=dict(document.metadata))
            if text == document.text:
                self.stat_update("same")
            elif is_validation(document.text.encode(), self.val) or is_validation(text.encode(), self.val):
                self.stat_update("validation")
            elif self.leaks and self.leaks.filter(mirror) is not True:
                self.stat_update("leaks")
            else:
                self.stat_update("mirrored")
                self.stat_update("words", value=swapped)
                yield mirror
