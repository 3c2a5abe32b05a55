"""Who is calling, as far as the domain cares. Authentication (in `identity`) makes one."""

from dataclasses import dataclass
from uuid import UUID

from core.permissions import Permission, role_allows, scope_allows


@dataclass(frozen=True, slots=True)
class Principal:
    tenant_id: UUID
    # "key:<id>" or "user:<id>": what audit rows and logs name.
    actor_id: str
    # Of `read`, `write`, `admin`; admin implies the others.
    scopes: frozenset[str]
    # A person's role; None: a key, which stands for the tenant itself.
    role: str | None = None
    # The customer whose accounts alone are in reach; None: all of the tenant's.
    owner_id: UUID | None = None

    @property
    def is_authenticated(self) -> bool:
        """True: DRF asks; an anonymous caller has no Principal."""
        return True

    def may(self, permission: Permission) -> bool:
        if self.role is not None:
            return role_allows(self.role, permission)
        return scope_allows(self.scopes, permission)
