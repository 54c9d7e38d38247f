"""Where a key is spelled, and nowhere else.

    aicache:<site>:<tenant digest>:{<lineage>}:e:<key>             an entry
                                                      :w:<key>:<flight>    the lease of who works on it, and who waits
                                                      :v:<key>:<flight>    what there is of its stream
                                                      :f:<key>             how the last call failed, for a moment
                                                      :m:<key>             the mark under which it is worked on
                                                      :l                   the lineage: what was last stored
    aicache:{<site>}:s:<tag digest>     the stamp of a tag
                            :dead               the tags that died and whose answers still take up memory
                            :names              the tags in use, by when that is forgotten
    aicache:<site>:{<tag digest>}:on    the answers that hang on a tag, by when they die
    aicache:<site>:{<beginning of a prompt>}:p:<prefix>   what is known of a prefix of the provider's prompt cache
                                            :g:<prefix>   the lease of who writes it, and who waits
    aicache:<site>:{<lag>}:lag                  how long what was written cannot be read yet
    aicache:{<site>}:switch                     "off" while the fleet is switched off
    aicache:<site>:ear:<id>                     the channel on which one process hears

All keys of a question share one hash tag, and all stamps of a site another: on a cluster, two slots decide about a hit.
Prefixes that may begin each other begin alike, and share one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aicache.core.prefix import Prompt
from aicache.core.records import Ask, Stamps
from aicache.core.tags import Tag


def ear_channel(site: str, process: str) -> str:
    return f"aicache:{site}:ear:{process}"


@dataclass(frozen=True, slots=True)
class Keys:
    """``site`` keeps sites, and generations of one site, apart that share a server.

    ``epoch`` is no part of any key, but of each stamp: two clients that do not agree on it see each other's stamps all
    the same, and trust none of them.
    """

    site: str
    epoch: str

    def entry(self, ask: Ask) -> str:
        return self.entry_of(ask.tenant, ask.lineage, ask.key)

    def entry_of(self, tenant: str, lineage: str, key: str) -> str:
        return f"aicache:{self.site}:{tenant}:{{{lineage}}}:e:{key}"

    def lease(self, ask: Ask, stamps: Stamps) -> str:
        return f"{self._question(ask)}:w:{ask.key}:{stamps.flight}"

    def live(self, ask: Ask, stamps: Stamps) -> str:
        return f"{self._question(ask)}:v:{ask.key}:{stamps.flight}"

    def mark(self, ask: Ask) -> str:
        return self.mark_of(ask.tenant, ask.lineage, ask.key)

    def mark_of(self, tenant: str, lineage: str, key: str) -> str:
        return f"aicache:{self.site}:{tenant}:{{{lineage}}}:m:{key}"

    def failed(self, ask: Ask) -> str:
        return f"{self._question(ask)}:f:{ask.key}"

    def lineage(self, ask: Ask) -> str:
        return f"{self._question(ask)}:l"

    def _question(self, ask: Ask) -> str:
        return f"aicache:{self.site}:{ask.tenant}:{{{ask.lineage}}}"

    def stamps(self, tags: Iterable[Tag]) -> list[str]:
        prefix = self.stamp("")
        return [prefix + tag.digest for tag in tags]

    def stamp(self, tag: str) -> str:
        """Of a tag's digest."""
        return f"aicache:{{{self.site}}}:s:{tag}"

    @property
    def dead(self) -> str:
        return f"aicache:{{{self.site}}}:dead"

    @property
    def names(self) -> str:
        return f"aicache:{{{self.site}}}:names"

    def hanging(self, tag: str) -> str:
        """Of a tag's digest."""
        return f"aicache:{self.site}:{{{tag}}}:on"

    def prefixes(self, prompt: Prompt) -> list[str]:
        """The shortest first."""
        return [self._prefix(prompt, "p", found.digest) for found in prompt.prefixes]

    def gates(self, prompt: Prompt) -> list[str]:
        """Of those that are worth waiting for."""
        return [self._prefix(prompt, "g", prompt.prefixes[at].digest) for at in prompt.worth_waiting]

    def _prefix(self, prompt: Prompt, kind: str, digest: str) -> str:
        return f"aicache:{self.site}:{{{prompt.root}}}:{kind}:{digest}"

    def lag(self, prompt: Prompt) -> str:
        return f"aicache:{self.site}:{{{prompt.lag_of}}}:lag"

    @property
    def switch(self) -> str:
        return switch_key(self.site)


def switch_key(site: str) -> str:
    return f"aicache:{{{site}}}:switch"
