"""Who is calling, as far as the domain cares. Authentication (in `identity`) makes one."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    tenant_id: UUID
    # "key:<id>" or "user:<id>": what audit rows and logs name.
    actor_id: str
    # Of `read`, `write`, `admin`; admin implies the others.
    scopes: frozenset[str]

    @property
    def is_authenticated(self) -> bool:
        """True: DRF asks; an anonymous caller has no Principal."""
        return True

    def has_scope(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes
