"""A run as it is now, for all users of the page: it is followed while the page is open, and can be added to.

A thread looks for newer files, prepares the next `State` and only then puts it in place, so a request that began with
one state ends with it. Only `add_document` changes the workdir, as `realm update` does; but a fine-tuning without an
index gets one, as before its evaluation.
"""

import json
import logging
import threading

from realm_jax import background
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import sha256
from realm_jax.inference import change
from realm_jax.inference.answered import Answered
from realm_jax.inference.filled import Filled
from realm_jax.inference.results import Changed, Refused
from realm_jax.inference.state import Key, Loader, State, heldout_sentences
from realm_jax.training.finetuning import how_to_finetune
from realm_jax.workdir import Workdir

log = logging.getLogger(__name__)

POLL_S, RETRY_S = 2.0, 20.0
MOST_CHARACTERS = 100_000  # in a document that is added
MOST_ASKED = 20_000  # in a sentence or question, of which a few dozen wordpieces are read
NUM_EXAMPLES = 4
KNOWN = "This very document is in the corpus already."


class LiveRun:
    """The run of a workdir.

    Args:
        finetuning: name of the fine-tuning that answers questions; the newest by default.

    Raises:
        ConfigError: the run has nothing to answer with yet, or no such fine-tuning.
    """

    def __init__(self, workdir: Workdir, finetuning: str = ""):
        self.workdir = workdir
        self._loader = Loader(workdir, finetuning)
        self._loading, self._adding, self._closed = threading.Lock(), threading.Lock(), threading.Event()
        self.state = self._ready(self._loader.key())
        self.problem = ""
        """Why what is newer cannot be loaded; empty if all is well."""
        self.examples = heldout_sentences(self.state.data, workdir.config, NUM_EXAMPLES)
        """Held-out sentences with a blank."""
        self._thread = threading.Thread(target=self._follow, name="what is newer", daemon=True)
        self._thread.start()

    def _ready(self, key: Key, before: State | None = None) -> State:
        state = self._loader.load(key)
        try:
            state.warm_up()
        except Exception:
            state.unpin(but=before)
            raise
        return state

    @property
    def how_to_ask(self) -> str:
        """The command that makes the run answer questions; empty if it does."""
        return "" if self.state.answerer else how_to_finetune(self.workdir, "cloze").removeprefix("run ")

    def fill(self, text: str) -> Filled:
        """Fills every [MASK]. Raises Refused if the run cannot do so yet, or the text is too long."""
        return self.state.fill(_asked(text))

    def ask(self, text: str) -> Answered:
        """Answers a question. Raises Refused if the run is not fine-tuned yet, or the text is too long."""
        return self.state.ask(_asked(text))

    def add_document(self, title: str, text: str) -> Changed:
        """Adds a document to the corpus and the indexes on disk, for good, and answers with it from now on.

        Raises:
            Refused: it is empty, too long or there already, or the run cannot be updated now.
        """
        title, text = _clean(title).strip() or "(no title)", _clean(text).strip()
        if not text:
            raise Refused("Write the text of the document.")
        if len(text) + len(title) > MOST_CHARACTERS:
            raise Refused(
                f"The document has {len(text):,} characters and at most {MOST_CHARACTERS:,} are taken here: "
                f"run realm update --workdir={self.workdir.path} --add=FILE"
            )
        record = {"id": f"demo/{sha256(json.dumps([title, text]))[:16]}", "title": title, "text": text}
        with self._adding:
            is_known = record["id"] in Corpus.open(self.workdir.knowledge_folder).blocks_of([record["id"]])
            before = change.newest(self.workdir)
            try:
                changed = change.add(self.workdir, [record])
            except ConfigError as error:
                raise Refused(KNOWN if is_known else str(error).removeprefix("record 1: ")) from error
            if changed.version == before:
                raise Refused(KNOWN)
            self.refresh()
        return changed

    def refresh(self) -> None:
        """Puts the newest state in place, unless it is there already."""
        with self._loading:
            key = self._loader.key()
            if key != self.state.key:
                before, self.state = self.state, self._ready(key, self.state)
                before.unpin(but=self.state)

    def _follow(self) -> None:
        while not self._closed.wait(RETRY_S if self.problem else POLL_S):
            try:
                with self._loading:
                    self.state.pin()  # a pin lasts a day, and `update_knowledge` gives up this process's pins
                self.refresh()
                self.problem = ""
            except Exception as error:  # whatever it is, the page goes on with what it has, and says so
                if str(error) != self.problem:
                    log.exception("cannot load what is newer")
                self.problem = str(error) or repr(error)

    def close(self) -> None:
        """Stops following and gives up the pins."""
        self._closed.set()
        background.join(self._thread, background.CLOSE_S)
        self.state.unpin()
        self._loader.close()


def _asked(text: str) -> str:
    text = _clean(text)
    if len(text) > MOST_ASKED:
        raise Refused(f"The text has {len(text):,} characters and at most {MOST_ASKED:,} are taken: shorten it.")
    return text


def _clean(text: str) -> str:
    """Text that tokenizers take: JSON may bring half a surrogate pair, or no text."""
    if not isinstance(text, str):
        raise Refused(f"A text is wanted, and {type(text).__name__} came.")
    return text.encode("utf-8", "replace").decode()
